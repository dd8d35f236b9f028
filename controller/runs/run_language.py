"""The language of a run: frozen once for all its chunks, and until then what was detected in some of them.

Touches: the store.
"""

from __future__ import annotations

from chunk_job.contract import Language
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.keys import RunKeys, parse_language_candidate


class RunLanguage:
    """What the store holds of one run's language."""

    def __init__(self, store: Store, keys: RunKeys, *, is_given: bool) -> None:
        """*is_given*: in the run's options, so that nothing is to be detected."""
        self._store = store
        self._keys = keys
        self._frozen: Language | None = None
        self.is_open = not is_given
        """Whether no language was given and none is frozen yet."""
        self.candidates: dict[int, Language] = {}
        """By span, what was detected where too little is spoken to decide by."""

    def freeze(self, language: Language) -> None:
        """Decide it for all chunks."""
        self._store.put(self._keys.language, language.encode())
        self._frozen, self.is_open = language, False

    def read(self, transcribed_in: Language | None) -> None:
        """Read what is new of it, while it is open. *transcribed_in*: what the run's results were transcribed in."""
        if not self.is_open:
            return
        try:
            self._frozen = stored_documents.find(self._store, Language, self._keys.language)
        except DocumentInvalid:
            # Left there, every job would stumble over it.
            self._store.delete(self._keys.language)
        self.is_open = self._frozen is None
        if self.is_open and transcribed_in:
            # It was frozen once: the chunks that are done were transcribed in it.
            self.freeze(transcribed_in)
        for entry in self._store.list(self._keys.language_candidates):
            span = parse_language_candidate(entry.key)
            if span is not None and span not in self.candidates:
                candidate = stored_documents.valid(self._store, Language, entry.key)
                if candidate and candidate.span == span:
                    self.candidates[span] = candidate

    def restore(self) -> None:
        """Put it again where its object is gone or another: the next job would decide it once more."""
        if self._frozen and stored_documents.valid(self._store, Language, self._keys.language) != self._frozen:
            self._store.put(self._keys.language, self._frozen.encode())
