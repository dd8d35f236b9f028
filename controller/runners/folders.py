"""The folders of the local runner: a private one for locks, and scratch folders with names that cannot be guessed.

Touches: files. The private folder may be in a store, and the scratch folder may be shared (``/tmp``). Other users who
can write there can create a link or a named pipe where this module expects its own file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from chunk_job import safe_files
from controller.errors import EnvironmentProblem, RunProblem

_DOMAIN = re.compile(r"[0-9a-f]{16}")
_DOMAIN_FILE = "place"


class Home:
    """A runner's private folder, and the scratch folders of its runs."""

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        """*scratch*: where scratch folders are created; it may be shared with other users. None: in *path*."""
        self.path = path
        self._shared = scratch
        self._scratch: dict[str, Path] = {}

    def lock(self, run: str) -> int | None:
        """A file descriptor that holds the run's lock, or None if another process holds it.

        Raises :class:`RunProblem` if the lock file is not a plain file, and :class:`EnvironmentProblem`.
        """
        name = f"{run}.lock"
        with self._opened("locks") as folder:
            while True:
                try:
                    descriptor = safe_files.open_plain(name, folder, flags=os.O_RDWR | os.O_CREAT)
                except safe_files.WrongKind as error:
                    raise RunProblem(*_in_the_way(self.path / "locks" / name, error)) from error
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    os.close(descriptor)
                    return None
                if safe_files.is_named(descriptor, name, folder):
                    return descriptor
                # The process that had the lock has deleted the file meanwhile.
                os.close(descriptor)

    def unlock(self, run: str, descriptor: int) -> None:
        """Release the run's lock, which this process holds, and delete its file."""
        name = f"{run}.lock"
        with contextlib.suppress(EnvironmentProblem), self._opened("locks") as folder:
            # Somebody may have removed the folder, and another process has the lock in the new one.
            if safe_files.is_named(descriptor, name, folder):
                os.unlink(name, dir_fd=folder)
        os.close(descriptor)

    def lock_domain(self) -> str:
        """The random name of this folder, created once: locks exclude processes with the same lock domain.

        Raises :class:`EnvironmentProblem` if it cannot be read.
        """
        with self._opened() as home:
            try:
                descriptor = safe_files.open_plain(_DOMAIN_FILE, home)
            except FileNotFoundError:
                _create_random(_DOMAIN_FILE, home)
                descriptor = safe_files.open_plain(_DOMAIN_FILE, home)
            with os.fdopen(descriptor, "rb") as file:
                found = file.read(64).decode("ascii", "replace")
        # It becomes a part of paths.
        if not _DOMAIN.fullmatch(found):
            raise EnvironmentProblem(
                f"{self.path / _DOMAIN_FILE} does not contain what stenofleet wrote there",
                "remove it while no command uses this store; it is created again",
            )
        return found

    def job_folder(self, run: str, name: str) -> Path:
        """Create a folder for a job of the run. Raises :class:`EnvironmentProblem` and :class:`OSError`."""
        scratch = self._scratch_of(run)
        with safe_files.folder(scratch.parent, (scratch.name,)) as above:
            safe_files.make_folder(name, above)
        return scratch / name

    def remove_scratch(self, run: str) -> None:
        """Remove the run's scratch folder, with the folders of its jobs."""
        if made := self._scratch.pop(run, None):
            remove(made.parent, made.name)

    def remove_all_scratch(self) -> None:
        """Remove the scratch folders of all runs."""
        for run in list(self._scratch):
            self.remove_scratch(run)

    def remove_leftovers(self, run: str) -> None:
        """Remove scratch folders of killed processes that held the run's lock. The caller must hold the lock."""
        prefix = self._prefix(run)
        with contextlib.suppress(FileNotFoundError), self._above_scratch() as above:
            for name in os.listdir(above):
                if name.startswith(prefix) and safe_files.is_own_folder(name, above):
                    shutil.rmtree(name, ignore_errors=True, dir_fd=above)

    def _scratch_of(self, run: str) -> Path:
        """The run's scratch folder, created if missing. Its name is random, so other users cannot create it first."""
        made = self._scratch.get(run)
        # A program that cleans /tmp may have removed it, and another user may have created one with its name since.
        if made and safe_files.is_own_folder(str(made)):
            return made
        name = self._prefix(run) + secrets.token_hex(8)
        with self._above_scratch(make=True) as above:
            safe_files.make_folder(name, above)
            made = (self._shared or self.path / "scratch") / name
            if not safe_files.is_own_folder(name, above):
                raise EnvironmentProblem(
                    f"{made} was just created and does not belong to this user",
                    "choose another folder: --scratch-dir",
                )
        self._scratch[run] = made
        return made

    def _prefix(self, run: str) -> str:
        """The common prefix of the run's scratch folders, also those of other processes.

        It contains the lock domain: a shared folder may have scratch folders of the same run in another store.
        """
        return f"stenofleet-{run}-{self.lock_domain()}-"

    def _above_scratch(self, *, make: bool = False) -> contextlib.AbstractContextManager[int]:
        """A context with a descriptor of the folder that contains the scratch folders."""
        return safe_files.folder(self._shared, make=make) if self._shared else self._opened("scratch")

    @contextlib.contextmanager
    def _opened(self, *parts: str) -> Iterator[int]:
        """A context with a descriptor of this folder or a subfolder, created if missing.

        It may be in a store, so no link below it is followed. Raises :class:`EnvironmentProblem` for every
        :class:`OSError` in the block, with the path.
        """
        try:
            with safe_files.folder(self.path.parent, (self.path.name, *parts), make=True) as folder:
                yield folder
        except OSError as error:
            path = self.path.joinpath(*parts, os.fspath(error.filename or ""))
            if isinstance(error, safe_files.WrongKind):
                raise EnvironmentProblem(*_in_the_way(path, error)) from error
            raise EnvironmentProblem(f"{path}: {error.strerror or error}") from error


def _in_the_way(path: Path, error: safe_files.WrongKind) -> tuple[str, str]:
    return (
        f"{path} is {error.kind}, but stenofleet needs a file or folder of its own there",
        "find out who created it, then remove it; stenofleet creates what it needs again",
    )


def remove(top: Path, *parts: str) -> None:
    """Remove the folder *parts* below *top* with its content, as far as possible. Links are not followed."""
    *above, name = parts
    with contextlib.suppress(OSError), safe_files.folder(top, above) as folder:
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def read_end(path: Path, max_bytes: int) -> bytes:
    """The last *max_bytes* of a file that a job writes; empty if it is not a plain file or cannot be read."""
    try:
        with os.fdopen(safe_files.open_plain(str(path)), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - max_bytes))
            return file.read(max_bytes)
    except OSError:
        return b""


def _create_random(name: str, folder: int) -> None:
    """Create the file *name* with 16 random hexadecimal digits. An existing file of another process is kept."""
    temporary = safe_files.temporary_name()
    with safe_files.create(temporary, folder, private=True) as file:
        file.write(secrets.token_hex(8).encode("ascii"))
    with contextlib.suppress(FileExistsError):
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(temporary, dir_fd=folder)
