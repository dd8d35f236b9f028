"""Bodies of requests that are read from a file while they are sent, so that a part of 64 MiB takes no memory.

Touches: the file that is sent.
"""

from __future__ import annotations

import io
import secrets
from collections.abc import Mapping
from typing import BinaryIO, Protocol

from controller.errors import MediaProblem


class Body(Protocol):
    """What is sent: read once."""

    size_bytes: int

    def read(self, most: int = -1, /) -> bytes:
        """Return the next bytes; empty at the end."""


class FilePart:
    """A part of an open file."""

    def __init__(self, file: BinaryIO, offset: int, size_bytes: int) -> None:
        self._file, self.size_bytes = file, size_bytes
        self._left = size_bytes
        file.seek(offset)

    def read(self, most: int = -1, /) -> bytes:
        """Return the next bytes. Raises :class:`MediaProblem` if the file cannot be read or has become shorter."""
        wanted = self._left if most < 0 else min(most, self._left)
        try:
            data = self._file.read(wanted)
        except OSError as error:
            # An OSError would look like one of the connection, which is repeated.
            raise MediaProblem(f"{self._file.name}: {error.strerror}", "check the disk") from error
        if len(data) < wanted:
            raise MediaProblem(
                f"{self._file.name}: has become shorter while it was sent", "submit it when it is complete"
            )
        self._left -= len(data)
        return data


class FormWithFile:
    """A form of ``multipart/form-data`` whose last field, ``file``, is *part*."""

    def __init__(self, fields: Mapping[str, str], part: FilePart) -> None:
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        head = "".join(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
            for name, value in fields.items()
        )
        head += f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="part"\r\n\r\n'
        begin, end = head.encode(), f"\r\n--{boundary}--\r\n".encode()
        self.size_bytes = len(begin) + part.size_bytes + len(end)
        self._left: list[io.BytesIO | FilePart] = [io.BytesIO(begin), part, io.BytesIO(end)]

    def read(self, most: int = -1, /) -> bytes:
        """Return the next bytes. Raises the errors of the part."""
        while self._left:
            if data := self._left[0].read(most):
                return data
            del self._left[0]
        return b""
