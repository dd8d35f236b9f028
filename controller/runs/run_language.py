"""The language of a run: frozen once for all chunks. Until then, the candidates that were detected in some chunks.

Touches: the store.
"""

from __future__ import annotations

from chunk_job.contract import Language
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.keys import RunKeys, parse_language_candidate


class RunLanguage:
    """The stored language and language candidates of one run."""

    def __init__(self, store: Store, keys: RunKeys, *, is_given: bool) -> None:
        """*is_given*: the run's options name a language, so none is detected."""
        self._store = store
        self._keys = keys
        self._frozen: Language | None = None
        self.is_open = not is_given
        """Whether no language was given and none is frozen yet."""
        self.candidates: dict[int, Language] = {}
        """By span: the languages detected in chunks with too little speech to decide for the run."""

    def freeze(self, language: Language) -> None:
        """Set the language of all chunks."""
        self._store.put(self._keys.language, language.encode())
        self._frozen, self.is_open = language, False

    def read(self, transcribed_in: Language | None) -> None:
        """Read the language and new candidates, until a language is frozen.

        *transcribed_in*: the language in which the existing results were transcribed.
        """
        if not self.is_open:
            return
        try:
            self._frozen = stored_documents.find(self._store, Language, self._keys.language)
        except DocumentInvalid:
            # If it stayed, every job would fail on it.
            self._store.delete(self._keys.language)
        self.is_open = self._frozen is None
        if self.is_open and transcribed_in:
            # A language was frozen before: the finished chunks were transcribed in it.
            self.freeze(transcribed_in)
        for entry in self._store.list(self._keys.language_candidates):
            span = parse_language_candidate(entry.key)
            if span is not None and span not in self.candidates:
                candidate = stored_documents.valid(self._store, Language, entry.key)
                if candidate and candidate.span == span:
                    self.candidates[span] = candidate

    def restore(self) -> None:
        """Write the language again if its object was deleted or changed: else the next job would detect it again."""
        if self._frozen and stored_documents.valid(self._store, Language, self._keys.language) != self._frozen:
            self._store.put(self._keys.language, self._frozen.encode())
