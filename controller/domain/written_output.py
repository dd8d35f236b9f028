"""What commands wrote to an output: the digests of its files, so that a file that a person changed is recognized.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal, Protocol, get_args

from pydantic import Field

from chunk_job.document import Document, Sha256
from controller.domain.output import Format, Uri

MOST_VERSIONS = 8
"""Of one file: a command that was killed may have recorded a version that it did not write any more."""


class WrittenOutput(Document):
    """The digests of what was last written to an output, kept on this machine and in a store of several machines."""

    max_bytes: ClassVar[int] = 64 << 10
    schema_: Literal["stenofleet.written/1"] = Field(default="stenofleet.written/1", alias="schema")
    base: Uri
    """URI of the output files without their extension."""
    sha256: dict[Format, Annotated[tuple[Sha256, ...], Field(max_length=MOST_VERSIONS)]]
    """Format → digests of the file, the latest first."""
    recordings: dict[Sha256, Sha256] = Field(default_factory=dict, max_length=len(get_args(Format)) * MOST_VERSIONS)
    """Digest of a file → identity of the recording that was transcribed. Earlier versions did not note it."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """What is known of an output."""

    sha256: Mapping[Format, tuple[str, ...]] = field(default_factory=dict)
    """Format → digests of the file."""
    recordings: Mapping[str, str] = field(default_factory=dict)
    """Digest of a file → identity of the recording that was transcribed, where it is known."""


class WrittenRecord(Protocol):
    """Remembers what was written to outputs."""

    def find(self, base: str) -> Written:
        """Return what is known of this output."""

    def add(self, base: str, sha256: Mapping[Format, str], *, recording: str | None) -> None:
        """Add digests that are about to be written, of a transcript of *recording* (its identity; None: not known).

        Called before the files change.
        """
