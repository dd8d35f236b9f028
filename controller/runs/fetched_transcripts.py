"""What is known of transcripts that were fetched from a service and written here, so that none is fetched again.

Touches: the state folder of this user, output files and objects (reads them). A run that is tried again has another
end, and its transcript is fetched again; so it is for another form, or if a file is missing or changed.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from chunk_job.document import MAX_SPANS, Count, Document, Sha256
from chunk_job.errors import JobError
from chunk_job.store.files import FileStore
from controller.domain.documents import Measure
from controller.domain.keys import fetched_key
from controller.domain.output import Format, Output
from controller.runs.opened_files import digest_of
from controller.runs.outputs import existing_output, file_of
from controller.transcript.model import TranscriptSummary

_VERSION = importlib.metadata.version("stenofleet")
"""Another version may write another form."""


class RunEnd(Document):
    """One end of a run of a service: with it, its transcript does not change any more."""

    id: str = Field(pattern="^[0-9a-z]{26}$")
    ended_at: str = Field(max_length=40)


class WordCounts(Document):
    """What reports and gates need of the words of a transcript."""

    words: Annotated[tuple[Count, ...], Field(max_length=MAX_SPANS)]
    """By chunk; empty if there are none at all."""
    unsure: Annotated[tuple[Count, ...], Field(max_length=MAX_SPANS)]
    judged: Count
    """Words that have a probability."""
    probability: Measure
    """The sum of these."""


class FetchedTranscript(Document):
    """A transcript of a service, as it was written to an output on this machine."""

    max_bytes: ClassVar[int] = TranscriptSummary.max_bytes + (16 << 20)
    schema_: Literal["stenofleet.fetched/1"] = Field(default="stenofleet.fetched/1", alias="schema")
    run: RunEnd
    version: str = Field(max_length=100)
    """Of the program that has written it."""
    output: Output
    sha256: dict[Format, Sha256]
    """Format → digest of the file."""
    summary: TranscriptSummary
    words: WordCounts | None = None
    """None: they were not counted."""


class FetchedTranscripts:
    """What was fetched and written: a document for each output, of the last time."""

    def __init__(self, home: Path | None) -> None:
        """*home* is the state folder of this user. None: there is none, and nothing is stored."""
        self._store = FileStore(home / ".local") if home else None

    def find(self, run: RunEnd, output: Output, *, counted: bool) -> FetchedTranscript | None:
        """What was written to *output* with this end of a run, if all its files are there as they were written.

        *counted*: only with the counts of its words. An object is read from its bucket. Raises
        :class:`StoreUnavailable`.
        """
        if self._store is None:
            return None
        try:
            data = self._store.get(fetched_key(output.base), max_bytes=FetchedTranscript.max_bytes)
            found = FetchedTranscript.decode(data)
        except JobError:
            return None
        same = (found.run, found.output, found.version) == (run, output, _VERSION)
        if not same or (counted and found.words is None):
            return None
        return found if all(_is_there(found, extension) for extension in output.formats) else None

    def keep(
        self,
        run: RunEnd,
        output: Output,
        sha256: Mapping[Format, str],
        summary: TranscriptSummary,
        words: WordCounts | None,
    ) -> None:
        """Note that all files of *output* were written, with these digests.

        If that cannot be stored, the transcript is fetched again next time.
        """
        if self._store is None:
            return
        document = FetchedTranscript(
            run=run, version=_VERSION, output=output, sha256=dict(sha256), summary=summary, words=words
        )
        with contextlib.suppress(JobError):
            self._store.put(fetched_key(output.base), document.encode())


def _is_there(found: FetchedTranscript, extension: Format) -> bool:
    """Whether a file has the content that was written."""
    with existing_output(file_of(found.output, extension, found.summary.language)) as file:
        return file is not None and digest_of(file) == found.sha256.get(extension)
