"""Samples of a file that is too large to be read completely, for a digest.

Touches: the file that the caller gives.
"""

from __future__ import annotations

from typing import BinaryIO, Protocol

_SAMPLES = 64


class Digest(Protocol):
    """The interface of a :mod:`hashlib` object."""

    def update(self, data: bytes, /) -> None:
        """Add *data* to the digest."""


def add_samples(digest: Digest, file: BinaryIO, *, size_bytes: int, sample_bytes: int) -> None:
    """Add 64 samples of *sample_bytes* each to *digest*, at equal distances from the beginning to the end."""
    for number in range(_SAMPLES):
        file.seek((size_bytes - sample_bytes) * number // (_SAMPLES - 1))
        digest.update(file.read(sample_bytes))
