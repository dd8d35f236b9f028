"""Where a command writes a transcript, and in which formats.

Touches: nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from chunk_job.document import Document
from controller.domain.captions import CaptionStyle

Format = Literal["txt", "srt", "vtt", "tsv", "json", "ass", "lrc"]
"""Every output format; files with other extensions are never written. ``all`` has neither ``ass`` nor ``lrc``."""


def _without_nul(uri: str) -> str:
    # In an object's key, a percent sign has no special meaning.
    if "\0" in uri or (uri.startswith("file:") and "%00" in uri):
        raise ValueError("the name contains a NUL")
    return uri


Uri = Annotated[str, Field(max_length=16_384, pattern=r"^(file:///|s3://[^/]+/).*$"), AfterValidator(_without_nul)]
"""``file:///…`` with an absolute path, percent-encoded (names need not be UTF-8), or ``s3://bucket/key`` as it is."""


class Output(Document):
    """Where a command writes the transcript, and in which formats."""

    base: Uri
    """URI of the output files without their extension; the last part is the stem of the media file."""
    formats: tuple[Format, ...] = Field(min_length=1, max_length=100)
    captions: CaptionStyle | None = None
    """How captions are divided; None: one cue for each segment of the model."""
