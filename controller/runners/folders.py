"""The folders of a machine's own runner: a private one for locks, and scratch folders that nobody else can have made.

Touches: files. The private one may be in a store, and the scratch folder may be shared (``/tmp``): whoever may write
there can put a link or a named pipe where we expect a file of ours.
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

_PLACE = re.compile(r"[0-9a-f]{16}")


class Home:
    """A runner's private folder, and the scratch folders of its runs."""

    def __init__(self, path: Path, scratch: Path | None = None) -> None:
        """Scratch folders are made in *scratch*, which others may use too; None: in this one."""
        self.path = path
        self._shared = scratch
        self._scratch: dict[str, Path] = {}

    def lock(self, run: str) -> int | None:
        """A descriptor that holds the run's lock, or None where another process does.

        Raises :class:`RunProblem` where something else lies in its place, and :class:`EnvironmentProblem`.
        """
        with self._opened("locks") as folder:
            try:
                descriptor = safe_files.open_plain(f"{run}.lock", folder, flags=os.O_RDWR | os.O_CREAT)
            except safe_files.WrongKind as error:
                raise RunProblem(*_in_the_way(self.path / "locks" / f"{run}.lock", error)) from error
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return None
            return descriptor

    def place(self) -> str:
        """A name for this folder, drawn once. Raises :class:`EnvironmentProblem` where it cannot be read."""
        with self._opened() as home:
            try:
                descriptor = safe_files.open_plain("place", home)
            except FileNotFoundError:
                _draw("place", home)
                descriptor = safe_files.open_plain("place", home)
            with os.fdopen(descriptor, "rb") as file:
                found = file.read(64).decode("ascii", "replace")
        # It becomes a part of paths.
        if not _PLACE.fullmatch(found):
            raise EnvironmentProblem(
                f"{self.path / 'place'} does not hold what stenofleet wrote there",
                "remove it while no command uses this store; it is made again",
            )
        return found

    def job_folder(self, run: str, name: str) -> Path:
        """A new folder for a job of the run. Raises :class:`EnvironmentProblem` and :class:`OSError`."""
        scratch = self._scratch_of(run)
        with safe_files.folder(scratch.parent, (scratch.name,)) as above:
            safe_files.make_folder(name, above)
        return scratch / name

    def remove_scratch(self, run: str) -> None:
        """Remove the folder that the run's jobs had theirs in."""
        if made := self._scratch.pop(run, None):
            remove(made.parent, made.name)

    def remove_all_scratch(self) -> None:
        """Remove the scratch folders of all runs."""
        for run in list(self._scratch):
            self.remove_scratch(run)

    def remove_leftovers(self, run: str) -> None:
        """Remove what processes have left that held the run's lock and were killed. Only for who holds it."""
        prefix = self._prefix(run)
        with contextlib.suppress(FileNotFoundError), self._above_scratch() as above:
            for name in os.listdir(above):
                if name.startswith(prefix) and safe_files.is_own_folder(name, above):
                    shutil.rmtree(name, ignore_errors=True, dir_fd=above)

    def _scratch_of(self, run: str) -> Path:
        """The run's scratch folder, made where there is none. Nobody can guess its name and make it before us."""
        made = self._scratch.get(run)
        # Programs that clean up /tmp may have removed it, and another user may have taken its name since.
        if made and safe_files.is_own_folder(str(made)):
            return made
        name = self._prefix(run) + secrets.token_hex(8)
        with self._above_scratch(make=True) as above:
            safe_files.make_folder(name, above)
            made = (self._shared or self.path / "scratch") / name
            if not safe_files.is_own_folder(name, above):
                raise EnvironmentProblem(
                    f"{made} was made just now and does not belong to this user",
                    "name another folder: --scratch-dir",
                )
        self._scratch[run] = made
        return made

    def _prefix(self, run: str) -> str:
        """How the names of the run's scratch folders begin, those of other processes too.

        With the place: in a shared folder there may be some for the same run in another store.
        """
        return f"stenofleet-{run}-{self.place()}-"

    def _above_scratch(self, *, make: bool = False) -> contextlib.AbstractContextManager[int]:
        """A descriptor of the folder that scratch folders are in, for the block."""
        return safe_files.folder(self._shared, make=make) if self._shared else self._opened("scratch")

    @contextlib.contextmanager
    def _opened(self, *parts: str) -> Iterator[int]:
        """A descriptor of this folder or one in it, made where it is missing; for the block, whose errors get a name.

        It may be in a store, so no link is followed from here on. Raises :class:`EnvironmentProblem`.
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
        f"{path} is {error.kind}, where stenofleet keeps a file or folder of its own",
        "find out who made it, then remove it; what belongs there is made again",
    )


def remove(top: Path, *parts: str) -> None:
    """Remove the folder *parts* below *top* and what is in it, as far as possible, and nothing behind a link."""
    *above, name = parts
    with contextlib.suppress(OSError), safe_files.folder(top, above) as folder:
        shutil.rmtree(name, ignore_errors=True, dir_fd=folder)


def read_end(path: Path, max_bytes: int) -> bytes:
    """The last bytes of a file that a job writes; nothing where it is no plain file."""
    try:
        with os.fdopen(safe_files.open_plain(str(path)), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - max_bytes))
            return file.read(max_bytes)
    except OSError:
        return b""


def _draw(name: str, folder: int) -> None:
    """Write 16 random digits to the new file *name*, whole; where another process was faster, its file is kept."""
    temporary = safe_files.temporary_name()
    with safe_files.create(temporary, folder, private=True) as file:
        file.write(secrets.token_hex(8).encode("ascii"))
    with contextlib.suppress(FileExistsError):
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    os.unlink(temporary, dir_fd=folder)
