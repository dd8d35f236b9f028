"""How long a file claims to be, in bytes and in ms, where ffmpeg does not say it.

Touches: the media file, of which it reads some bytes; it decodes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_MOST_CHUNKS = 64
"""Most parts of a header that are read."""
_FIRST_BYTES = 64 << 10
_STREAMED = frozenset({0, 0xFFFFFFFF})
"""Sizes that programs write if they do not know the size: into a pipe they cannot write it later."""
_STREAMED_2_GIB = range(0x7FFFF000, 0x80001000)
"""The same: the largest sizes with 31 bits."""
_W64 = bytes.fromhex("726966662e91cf11a5d628db04c10000")
_ASF = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_ASF_FILE = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MP3_LENGTH = re.compile(rb"Xing|Info|VBRI")
_ID3 = re.compile(rb"ID3[\x02-\x04][\x00-\x0f][\x00-\xff][\x00-\x7f]{4}", re.DOTALL)
_TAG_SKIPPED = re.compile(
    r"(Header missing|Error (while decoding stream|submitting packet to decoder).*|\[dec:.*Invalid data found.*)"
)
_TAG_BYTES = 10
_PIECE_BYTES = 1 << 20
_ESTIMATED = frozenset({"aac", "ac3", "dts", "eac3", "mlp", "truehd"})
"""Containers without any length: ffmpeg estimates it from the first bit rate."""


def claimed_bytes(path: Path) -> int | None:
    """The size of the file by its own header; 0 if its writer did not know it, None if the header has no size.

    For formats whose length ffmpeg takes from the size of the file: WAV, AVI, Wave64, CAF, ASF. For others ffmpeg's
    length is already that of the header.
    """
    with path.open("rb") as file:
        begin = file.read(16)
        if begin[:4] == b"RIFF":
            return _riff(file, int.from_bytes(begin[4:8], "little"), begin[8:12])
        if begin == _W64:
            return _known(int.from_bytes(file.read(8), "little"))
        if begin[:4] == b"caff":
            return _caf(file)
        if begin == _ASF:
            return _asf(file)
    return None


def _riff(file: BinaryIO, size: int, kind: bytes) -> int | None:
    """The end of the samples of a WAV file, else the size of the whole."""
    whole = 0 if _is_streamed(size) else size + 8
    if kind != b"WAVE":
        return whole
    at = 12
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        header = file.read(8)
        if len(header) < 8:
            break
        length = int.from_bytes(header[4:], "little")
        if header[:4] == b"data":
            return 0 if _is_streamed(length) else at + 8 + length
        at += 8 + length + length % 2
    return whole


def _caf(file: BinaryIO) -> int | None:
    at = 8
    for _ in range(_MOST_CHUNKS):
        file.seek(at)
        header = file.read(12)
        if len(header) < 12:
            break
        length = int.from_bytes(header[4:], "big", signed=True)
        if header[:4] == b"data":
            return 0 if length <= 0 else _known(at + 12 + length)
        at += 12 + max(0, length)
        if at >= 1 << 62:
            break
    return None


def _asf(file: BinaryIO) -> int | None:
    """The size in the file properties, unless the file is a broadcast."""
    file.seek(0)
    header = file.read(_FIRST_BYTES)
    at = header.find(_ASF_FILE)
    if at < 0 or len(header) < at + 92:
        return None
    is_broadcast = header[at + 88] & 1
    return 0 if is_broadcast else _known(int.from_bytes(header[at + 40 : at + 48], "little"))


def _is_streamed(size: int) -> bool:
    return size in _STREAMED or size in _STREAMED_2_GIB


def _known(size: int) -> int | None:
    return size if 0 < size < 1 << 62 else None


def is_estimate(path: Path, container: str) -> bool:
    """Whether ffmpeg only estimates the length, because the file has none: such a length promises nothing."""
    if container in _ESTIMATED or claimed_bytes(path) == 0:
        return True
    if container != "mp3":
        return False
    with path.open("rb") as file:
        begin = file.read(_FIRST_BYTES)
    # A long tag (a picture) may be before the first frame; then its length is not looked for.
    return not _MP3_LENGTH.search(begin) or any(True for _ in inner_tags(path))


def is_joined_without_loss(path: Path, container: str, messages: str) -> bool:
    """Whether all *messages* of ffmpeg are about tags between joined MP3 files, which are no sound."""
    lines = [line for line in messages.splitlines() if line.strip()]
    if container != "mp3" or not all(_TAG_SKIPPED.search(line) for line in lines):
        return False
    skipped = sum("Header missing" in line for line in lines)
    return 0 < skipped <= sum(1 for _ in inner_tags(path))


def inner_tags(path: Path) -> Iterator[int]:
    """The positions of ID3 tags that are not at the beginning of the file."""
    with path.open("rb") as file:
        at, data = 0, b""
        while piece := file.read(_PIECE_BYTES):
            # A tag may begin in the last bytes of the piece before.
            data = data[1 - _TAG_BYTES :] + piece
            yield from (at + found.start() for found in _ID3.finditer(data) if at + found.start() > 0)
            at += len(data) - (_TAG_BYTES - 1)
