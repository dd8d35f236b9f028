"""What commands wrote to an output: the digests of its files, so that a file that a person changed is recognized.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Protocol

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


class WrittenRecord(Protocol):
    """Remembers what was written to outputs."""

    def find(self, base: str) -> Mapping[Format, tuple[str, ...]]:
        """Return the digests of each file of this output; empty if none is known."""

    def add(self, base: str, sha256: Mapping[Format, str]) -> None:
        """Add digests that are about to be written. Called before the files change."""
