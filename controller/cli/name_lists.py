"""Reads what is on stdin for the name ``-``: a list of file names, or a recording itself.

Touches: stdin, a temporary file for a recording.
"""

from __future__ import annotations

import codecs
import contextlib
import os
import re
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from controller.errors import EnvironmentProblem, UsageProblem

_HEAD_BYTES = 64 << 10
_PIECE_BYTES = 1 << 20
_MOST_LIST_BYTES = 1 << 30
_LISTS = "write one file name per line in UTF-8, for instance with: find FOLDER -name '*.wav' | stenofleet transcribe -"
_STDIN = "the list on stdin"
_BOMS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_MAGICS = (
    b"RIFF", b"RF64", b"FORM", b"fLaC", b"OggS", b"ID3", b".snd", b"caff", b"MAC ", b"wvpk", b"ADIF", b"#!AMR",
    b"\x1aE\xdf\xa3", b"0&\xb2u", b"\x00\x00\x01\xba", b"FLV\x01",
)  # fmt: skip
"""The first bytes of media: WAV, AIFF, FLAC, Ogg, MP3 with tags, AU, CAF, …, Matroska and WebM, ASF, MPEG, FLV."""
_TS_PACKET = 188
_MOST_TRIED = 32
_SHORT_NAMES = re.compile(rb"\0(?:[^\0]\0){3}")
"""What Latin letters, dots and slashes are in UTF-16, and names of one letter between NULs."""


class OnStdin(NamedTuple):
    """What was on stdin: names, or a recording."""

    names: tuple[str, ...]
    recording: bool
    """Whether the only name is that of the recording's copy."""


def read_stdin(folder: Path, name: str) -> OnStdin:
    """Read stdin. A recording is copied to a file called *name* in the temporary *folder*, which is made if needed.

    Raises :class:`UsageProblem` if it is neither a list nor a recording, and :class:`EnvironmentProblem` if the copy
    cannot be written.
    """
    data = sys.stdin.buffer
    head = data.read(_HEAD_BYTES)
    if not is_media(head):
        return OnStdin(tuple(names_in(head + data.read(_MOST_LIST_BYTES))), recording=False)
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = folder / name
        with path.open("wb") as file:
            file.write(head)
            shutil.copyfileobj(data, file, _PIECE_BYTES)
    except OSError as error:
        raise EnvironmentProblem(
            f"the recording on stdin cannot be copied to {folder}: {error.strerror}",
            "free space there, or choose another folder: --scratch-dir",
        ) from error
    return OnStdin((str(path),), recording=True)


def is_media(head: bytes) -> bool:
    """Whether data that begins with *head* is media with a known format."""
    if any(head.startswith(mark) for mark, _ in _BOMS):
        return False
    # The first frame of MP3 or AAC has eleven or twelve bits set, which no name in UTF-8 begins with.
    framed = len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0
    packets = len(head) > _TS_PACKET and head[0] == head[_TS_PACKET] == ord("G") and _is_binary(head)
    known = any(head.startswith(magic) for magic in _MAGICS) and _is_binary(head)
    return framed or packets or known or (head[4:8] == b"ftyp" and b"\0" in head)


def names_in(data: bytes, which: str = _STDIN) -> list[str]:
    """Return the names in a list: one per line, or each followed by a NUL. UTF-16 and UTF-32 are decoded.

    *which*: the list, for messages.

    Raises :class:`UsageProblem` if it is empty, or is no list.
    """
    return [name for _, name in numbered_names(data, which)]


def numbered_names(data: bytes, which: str) -> list[tuple[int, str]]:
    """As :func:`names_in`, each name with the number of its line."""
    data = _decoded(data, which)
    separator = b"\0" if b"\0" in data else b"\n"
    if _is_binary(data[:_HEAD_BYTES]):
        if which != _STDIN:
            raise UsageProblem(f"{which}: is not a list of file names", "write one file name per line, in UTF-8")
        raise UsageProblem(
            "stdin is neither a list of file names nor a recording in a known format",
            f"{_LISTS}; for raw samples give ffmpeg an output format with a header: ffmpeg … -f wav - | …",
        )
    # Lines of lists made on Windows end with two characters; between NULs, every byte is part of the name.
    parts = [part.rstrip(b"\r") if separator == b"\n" else part for part in data.split(separator)]
    names = [(number, os.fsdecode(part)) for number, part in enumerate(parts, 1) if part.strip()]
    if not names:
        raise UsageProblem(f"{which} is empty", "write one file name per line")
    return names


def _decoded(data: bytes, which: str) -> bytes:
    """Return the list in UTF-8 and without a mark. Names in an unknown encoding stay as they are."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return data[len(mark) :] if encoding == "utf-8" else _utf8(data[len(mark) :], encoding, which)
    wide = _wide(data[:_HEAD_BYTES], which)
    return _utf8(data, wide, which) if wide else data


def _utf8(data: bytes, encoding: str, which: str) -> bytes:
    try:
        return data.decode(encoding).encode()
    except UnicodeError as error:
        raise UsageProblem(f"{which} is not valid {encoding[:6].upper()}", _LISTS) from error


def _wide(head: bytes, which: str) -> str:
    """The encoding of text of two or four bytes per character without a mark. Empty: it is not that.

    Raises :class:`UsageProblem` if it may be, and may also be names in UTF-8 that are separated by NULs.
    """
    if b"\0" not in head or len(head) < 8:
        return ""
    first, second, third, fourth = (head[place::4] for place in range(4))
    # No character is above U+10FFFF. A name in UTF-8 neither begins with a NUL nor is empty.
    if any(first) and not any(fourth) and max(third) <= 0x10:
        return "utf-32-le"
    if any(fourth) and not any(first) and max(second) <= 0x10:
        return "utf-32-be"
    if _are_files(head):
        return ""
    even, odd = head[0::2], head[1::2]
    low, high = even.count(0) / len(even), odd.count(0) / len(odd)
    # Western names have a few other characters, such as dashes; short names between NULs have many zeros.
    if min(low, high) < 1 and (max(low, high) == 1 or (min(low, high) <= 0.1 and max(low, high) >= 0.9)):
        return "utf-16-le" if high > low else "utf-16-be"
    alike = b"\0\n" in head or b"\n\0" in head or _SHORT_NAMES.search(head)
    if alike and (not _is_binary(head) or _is_utf_16(head)):
        raise UsageProblem(
            f"the encoding of {which} is not certain: it seems to be UTF-16 without a byte order mark",
            "convert it: iconv -f UTF-16LE -t UTF-8 LIST | stenofleet transcribe - (or -f UTF-16BE)",
        )
    return ""


def _is_utf_16(head: bytes) -> bool:
    """Whether *head* is printable text in UTF-16."""
    for encoding in ("utf-16-le", "utf-16-be"):
        with contextlib.suppress(UnicodeError):
            # A decoder that expects more: a pair may be cut.
            text = codecs.getincrementaldecoder(encoding)().decode(head)
            if all(character.isprintable() or character in "\n\r\t" for character in text):
                return True
    return False


def _are_files(head: bytes) -> bool:
    """Whether the first names between NULs exist: then names of one letter are not text in UTF-16."""
    names = [name for name in head.split(b"\0")[:_MOST_TRIED] if name.strip()]
    # These two exist always, and are in nearly every list.
    return not any(name in (b".", b"/") for name in names) and all(map(os.path.lexists, names))


def _is_binary(head: bytes) -> bool:
    """Whether *head* cannot be the beginning of a list: more than one byte of ten is a control character."""
    control = sum(head.count(byte) for byte in range(1, 32) if byte not in b"\t\n\r\x1b")
    return b"\0\0\0" in head or control * 10 > len(head)
