"""A correction: what a person wrote in place of the text of one segment.

Touches: nothing.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from chunk_job.document import Count, Document, Milliseconds, RunId
from chunk_job.segment import Channel

MOST_CORRECTIONS = 10_000
"""Most corrections of a run."""
MOST_CHARACTERS = 5_000
"""Most characters of a corrected text."""
MOST_MACHINE_CHARACTERS = 20_000
"""Most characters of a text that can be corrected."""
MOST_HEADS = 100
"""Most corrections that one can replace."""
CORRECTION_ID_PATTERN = r"^[0-9A-Za-z_-]{8,64}$"

CorrectionId = Annotated[str, Field(pattern=CORRECTION_ID_PATTERN)]
CorrectionNumber = Annotated[int, Field(ge=1, le=MOST_CORRECTIONS)]


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("the name contains control characters")
    return text


Author = Annotated[str, Field(max_length=100), AfterValidator(_printable)]
"""As the person calls themselves. Nothing proves it."""


class Correction(Document):
    """A change of the text of one segment by a person. Immutable."""

    max_bytes: ClassVar[int] = 1 << 20
    schema_: Literal["stenofleet.correction/1"] = Field(default="stenofleet.correction/1", alias="schema")
    run: RunId
    number: CorrectionNumber
    """Its place among all corrections of the run, and the version of the transcript that it makes."""
    id: CorrectionId
    """Drawn by the client: the same correction sent twice is one."""
    segment: Count
    """The id of the segment in the transcript that the person saw."""
    start_ms: Milliseconds
    end_ms: Milliseconds
    channel: Channel | None
    machine_text: str = Field(max_length=MOST_MACHINE_CHARACTERS)
    """The text of the segment as the model wrote it. With times and channel, it says which segment was meant."""
    text: str = Field(max_length=MOST_CHARACTERS)
    """The new text: one line, without spaces at both ends. Empty: nothing is said there."""
    based_on: tuple[CorrectionNumber, ...] = Field(max_length=MOST_HEADS)
    """The corrections of this segment that the person saw and this one replaces; empty: the text of the model."""
    author: Author
    created_ms: Count
