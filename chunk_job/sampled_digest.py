"""What stands for the content of a file that is too large to be read whole: samples at equal distances.

Touches: the file it is given.
"""

from __future__ import annotations

from typing import BinaryIO, Protocol

_SAMPLES = 64


class Digest(Protocol):
    """What :mod:`hashlib` makes."""

    def update(self, data: bytes, /) -> None:
        """Add *data* to what is digested."""


def add_samples(digest: Digest, file: BinaryIO, *, size_bytes: int, sample_bytes: int) -> None:
    """Add 64 samples of *sample_bytes* each to *digest*: the beginning, the end, and equal distances between them."""
    for place in range(_SAMPLES):
        file.seek((size_bytes - sample_bytes) * place // (_SAMPLES - 1))
        digest.update(file.read(sample_bytes))
