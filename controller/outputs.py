"""The transcript where the command wants it: files, each whole or absent.

Touches: output folders.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from chunk_job.store import write_whole
from controller.records import Request
from controller.source import local_path


def write_outputs(request: Request, read: Callable[[str], bytes]) -> list[str]:
    """The wanted formats as files, each whole or absent. Raises :class:`OSError` with the file's name."""
    written = []
    for output in request.outputs:
        base = local_path(output.base)
        for extension in output.formats:
            path = base.with_name(f"{base.name}.{extension}")
            write_output(path, read(extension))
            written.append(str(path))
    return written


def write_output(path: Path, data: bytes) -> None:
    """One file, whole or as it was before. Raises :class:`OSError` with its name."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(data))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
