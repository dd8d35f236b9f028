"""The manifest of a model folder: its files with their hashes, and where they come from.

Touches: nothing. ``chunk_job.models`` writes manifests and compares folders with them, and
docs/how-to/models.md explains both.
"""

from __future__ import annotations

import hashlib
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from chunk_job.document import Count, Document, Sha256

MANIFEST = "stenofleet-model.json"
"""The manifest's file in the model's folder, or its object beside those of the model. It is written last."""
MARKER = ".stenofleet-verified.json"
"""File in the model's folder: which files were compared with the manifest. Hidden, so it is no file of the model."""

CACHE = "STENOFLEET_MODEL_CACHE"
"""Variable: the folder for copies of models in S3. Default: in the user's cache folder."""

URL_PREFIX = "s3://"
"""How the address of a model in S3 begins. Its files are the objects under it."""

FILE_NAME = r"^[0-9A-Za-z_][0-9A-Za-z_.-]{0,127}$"
FileName = Annotated[str, Field(pattern=FILE_NAME)]
"""A file of a model: never hidden, never in another folder."""


class ModelFile(Document):
    """One file of a model."""

    sha256: Sha256
    size_bytes: Count


class ModelManifest(Document):
    """The files of a model, and what they were made from."""

    schema_: Literal["stenofleet.model/1"] = Field(default="stenofleet.model/1", alias="schema")
    source: str = Field(max_length=4_096)
    """A repository of the hub, or the name of the folder that it was made from."""
    revision: str = Field(default="", max_length=200)
    """The commit of the repository; empty for a folder."""
    converter: str = Field(default="", max_length=200)
    """The libraries that converted it; empty: its files are those of the source."""
    quantization: str = Field(max_length=32)
    """The type of its weights, as CTranslate2's converter names it; empty if unknown."""
    files: dict[FileName, ModelFile] = Field(min_length=1, max_length=100)

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files.values())

    @property
    def digest(self) -> str:
        """The digest of the manifest: models with the same one have the same files."""
        return hashlib.sha256(self.encode()).hexdigest()


class FileState(Document):
    """What the file system says of a file. A file that is written or replaced gets another one."""

    size_bytes: Count
    modified_ns: Annotated[int, Field(ge=-(1 << 63), lt=1 << 63)]
    inode: Annotated[int, Field(ge=0, lt=1 << 64)]


class Verified(Document):
    """The state of each file when it had the hash of the manifest."""

    max_bytes: ClassVar[int] = 64 << 10
    schema_: Literal["stenofleet.verified/1"] = Field(default="stenofleet.verified/1", alias="schema")
    manifest: Sha256
    """Digest of the manifest."""
    files: dict[FileName, FileState] = Field(max_length=100)


def is_url(reference: str) -> bool:
    """Whether *reference* is a model in S3."""
    return reference.startswith(URL_PREFIX)
