"""The copy of a recording on stdin: it may be the only one, because a stream cannot be read a second time.

Touches: a private folder, a lock on it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path

from chunk_job.safe_files import is_own_folder
from chunk_job.text import printable
from controller.cli.execute import indented
from controller.cli.terminal import print_message
from controller.errors import EnvironmentProblem

_PREFIX = "stenofleet-stdin-"


class StdinCopy:
    """A private folder for the copy. It outlives the command if the recording was not transcribed completely."""

    def __init__(self, parent: Path) -> None:
        """Make it in *parent*. Raises :class:`EnvironmentProblem`."""
        try:
            parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent))
            self._lock = _locked(self.folder)
        except OSError as error:
            raise EnvironmentProblem(
                f"{parent}: cannot be written to: {error.strerror}", "choose another folder: --scratch-dir"
            ) from error
        self.transcribed = False
        """Whether it is not needed any more."""

    def close(self) -> None:
        """Remove it, or say where it is."""
        kept = [] if self.transcribed else list(self.folder.glob("*"))
        if kept:
            print_message(printable(f"the recording from stdin is kept, because it is not transcribed: {kept[0]}"))
            print_message(indented("transcribe this file; stenofleet clean --all removes it"))
        else:
            shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)


def remove_kept(parent: Path) -> int:
    """Remove the copies in *parent* that no command uses. Returns how many there were."""
    return sum(map(_remove, parent.glob(f"{_PREFIX}*")))


def _remove(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        if is_own_folder(str(folder)):
            lock = _locked(folder)
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)
            return True
    return False


def _locked(folder: Path) -> int:
    """A descriptor that holds the lock of *folder*. Raises :class:`OSError` if another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
