"""Answers with a part of a file that the client asks for (RFC 9110, section 14).

Touches: the files that it is given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from fastapi.responses import StreamingResponse

from controller.domain.waveform import Place
from controller.service.problem_types import problem_response
from controller.service.problems import Problem

_RANGE = re.compile(r"bytes=([0-9]{0,30})-([0-9]{0,30})", re.ASCII | re.IGNORECASE)
_PIECE_BYTES = 1 << 18

PARTIAL: dict[int | str, dict[str, Any]] = {
    416: problem_response(
        "There is no such part.",
        {"Content-Range": {"description": "The length of all of it.", "schema": {"type": "string"}}},
    ),
}


def part_of(asked: str, size_bytes: int) -> tuple[int, int] | None:
    """Return the part that a header ``Range`` asks for, half-open; None: all of it.

    A header with several parts, in another unit or with errors is ignored, as the standard allows: what is one range
    for a player may be a million for an attacker. Raises :class:`Problem` if there is no such part.
    """
    found = _RANGE.fullmatch(asked)
    if found is None or not (found[1] or found[2]) or (found[1] and found[2] and int(found[1]) > int(found[2])):
        return None
    if found[1]:
        begin, end = int(found[1]), min(int(found[2]) + 1, size_bytes) if found[2] else size_bytes
    else:
        begin, end = max(0, size_bytes - int(found[2])), size_bytes
    if begin >= end:
        raise Problem(
            416,
            "no-such-part",
            f"Range: it has {size_bytes} bytes",
            "ask for a part of it",
            headers={"Content-Range": f"bytes */{size_bytes}"},
        )
    return begin, end


def answer(
    file: BinaryIO, place: Place, media_type: str, *, asked: str, if_range: str = "", etag: str = ""
) -> StreamingResponse:
    """Return the response with what is at *place* in *file*, or the part of it that is *asked* for. *file* is closed.

    *if_range*: the version that the client has a part of; of another one than *etag* it gets all.
    """
    try:
        part = None if if_range and if_range != etag else part_of(asked, place.size_bytes)
    except Problem:
        file.close()
        raise
    begin, end = part or (0, place.size_bytes)
    headers = {
        "Accept-Ranges": "bytes",
        "Cache-Control": "no-store",
        "Content-Length": str(end - begin),
        "X-Content-Type-Options": "nosniff",
    }
    if etag:
        headers["ETag"] = etag
    if part:
        headers["Content-Range"] = f"bytes {begin}-{end - 1}/{place.size_bytes}"
    pieces = _pieces(file, place.begin + begin, end - begin)
    return StreamingResponse(pieces, 206 if part else 200, headers=headers, media_type=media_type)


def _pieces(file: BinaryIO, begin: int, count: int) -> Iterator[bytes]:
    with file:
        file.seek(begin)
        while count and (piece := file.read(min(count, _PIECE_BYTES))):
            count -= len(piece)
            yield piece
