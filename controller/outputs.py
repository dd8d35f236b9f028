"""The transcript where the command wants it: files, each whole or absent.

Touches: output folders.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from pathlib import Path

from controller.records import Request
from controller.source import local_path


def write_outputs(request: Request, read: Callable[[str], bytes]) -> list[str]:
    """The wanted formats as files, each whole or absent. Raises :class:`OSError` with the file's name."""
    written = []
    for output in request.outputs:
        base = local_path(output.base)
        for extension in output.formats:
            path = base.with_name(f"{base.name}.{extension}")
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                _replace(path, read(extension))
            except OSError as error:
                raise OSError(error.errno, error.strerror, str(path)) from error
            written.append(str(path))
    return written


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name[:200]}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
