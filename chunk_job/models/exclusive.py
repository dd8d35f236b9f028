"""One process at a time writes a model's folder; what a killed one has left is removed by the next.

Touches: the folder above the model's. A lock file is there while a process works, and a hidden folder for what is not
finished. The system releases the lock when the process ends for any reason.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import logging
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from chunk_job.safe_files import is_named
from chunk_job.text import composed

log = logging.getLogger("stenofleet.chunk_job")

_LOCK = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@contextlib.contextmanager
def alone(folder: Path, waits: Callable[[], object]) -> Iterator[Path]:
    """A context in which this process alone writes *folder*. Its value: a path beside it, for what is not finished.

    What is created at that path is removed at the end. *waits* is called once if another process has to be waited for.
    Where no lock can be made (a folder that is read-only, a file system without locks), there is none: what is written
    then has its own errors.
    """
    # Not with_name: the root folder has none.
    start = folder.parent / f".stenofleet-{_key(folder.name)}"
    work = start.with_name(f"{start.name}-{secrets.token_hex(8)}")
    lock = start.with_name(f"{start.name}.lock")
    descriptor = _locked(lock, waits)
    try:
        if descriptor is not None:
            for left in folder.parent.glob(f"{start.name}-*"):
                shutil.rmtree(left, ignore_errors=True)
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        if descriptor is not None:
            # Removed while it is held: who waits for it sees that its file has no name any more, and makes another.
            with contextlib.suppress(OSError):
                lock.unlink()
            os.close(descriptor)


def _key(name: str) -> str:
    """The same for names that are one folder where letter case or Unicode normalisation make no difference."""
    return hashlib.sha256(os.fsencode(composed(name).casefold())).hexdigest()[:16]


def _locked(path: Path, waits: Callable[[], object]) -> int | None:
    """A descriptor that holds the lock at *path*; None if there can be none."""
    while True:
        with contextlib.ExitStack() as closing:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                descriptor = _opened(path)
                closing.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    waits()
                    waits = _silent
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                if is_named(descriptor, str(path)):
                    closing.pop_all()
                    return descriptor
            except OSError as error:
                log.info("no lock %s: %s", path, error.strerror or error)
                return None


def _opened(path: Path) -> int:
    """A descriptor of the lock file, which is created if it is missing. Raises :class:`OSError`."""
    try:
        return os.open(path, _LOCK | os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        # That of another user can still be locked, except on some network file systems.
        return os.open(path, _LOCK | os.O_RDONLY)


def _silent() -> None:
    pass
