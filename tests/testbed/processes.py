"""Background processes of the testbed, all in one control group, by which they are found and ended.

The kernel keeps that list: it names containers, their shims and what a killed session left behind, and it cannot
mistake a process id that is used again for one of ours. Touches: processes, ``/sys/fs/cgroup``. Needs Linux, root.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

GROUP = "stenofleet-testbed"
_CGROUPS = Path("/sys/fs/cgroup")
_END_S = 20
_WEIGHTS = {"cpu.shares": 4 * 1024, "cpu.weight": 4 * 100}
"""Of our group, in versions 1 and 2: that of four processes, because four pods with a GPU run at once. Without it, all
pods together get the CPU time of one process of this machine.
"""
# Joins the control group, then becomes the program: nothing it starts can be outside.
_JOIN = 'echo $$ >"$1" && shift && exec "$@"'


@dataclass(kw_only=True)
class Part:
    """One component: may be killed at any time, and started again with the same command and state.

    It ends with the thread that starts it, and so with the test session.
    """

    name: str
    command: Sequence[str | Path]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    network: str | None = None
    """The network namespace it lives in; None for the machine's own."""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it if it is down. Does not wait until it serves."""
        if self.alive:
            return
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *("sh", "-c", _JOIN, "sh", _processes_file()),
                    *(["nsenter", f"--net=/run/netns/{self.network}"] if self.network else []),
                    *("setpriv", "--pdeathsig", "KILL"),
                    *self.command,
                ],
                env={"PATH": os.environ["PATH"], "HOME": str(self.log.parent), **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has ended."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None

    def termination_message(self) -> str:
        """The end of its log."""
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text(errors="replace")[-2000:]
        return ""


def hierarchies() -> list[Path]:
    """The roots of the control groups: the single one of version 2, or one for each controller of version 1."""
    if (_CGROUPS / "cgroup.procs").is_file():
        return [_CGROUPS]
    return [root for root in sorted(_CGROUPS.iterdir()) if (root / "cgroup.procs").is_file()]


def group_folders(name: str) -> list[Path]:
    """Make the group *name* below ours in every hierarchy, so that kubelet can work in it."""
    folders = [root / GROUP / name for root in hierarchies()]
    for folder in folders:
        for one in (folder.parent, folder):
            one.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new group of version 1: no process may join
                if (one / "tasks").is_file() and (one / setting).is_file():
                    (one / setting).write_text((one.parent / setting).read_text())
        for setting, weight in _WEIGHTS.items():
            if (folder.parent / setting).is_file():
                (folder.parent / setting).write_text(str(weight))
    return folders


def end_all() -> None:
    """Kill every process in our group, containers included, and remove the group. Does nothing when there is no group.

    Raises RuntimeError when processes outlive their SIGKILL by 20 s.
    """
    trees = [root / GROUP for root in hierarchies()]
    _kill_members(trees)
    for tree in trees:
        for folder in sorted(_folders(tree), reverse=True):
            with contextlib.suppress(FileNotFoundError):
                folder.rmdir()


def end_group(name: str) -> None:
    """Kill every process in the group *name* below ours, which stays. Raises RuntimeError as :func:`end_all` does."""
    _kill_members([root / GROUP / name for root in hierarchies()])


def _kill_members(trees: Sequence[Path]) -> None:
    until_s = time.monotonic() + _END_S
    while members := {process for tree in trees for process in _members(tree)}:
        if time.monotonic() > until_s:
            raise RuntimeError(f"testbed: processes {sorted(members)} do not end (see ps -o stat,wchan)")
        for process in members:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)


def missing_programs(*names: str) -> list[str]:
    """Those of *names* that this machine does not have."""
    return [name for name in names if not shutil.which(name)]


def _processes_file() -> Path:
    root = _CGROUPS / "pids" if (_CGROUPS / "pids").is_dir() else _CGROUPS
    folder = root / GROUP / "components"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "cgroup.procs"


def _folders(tree: Path) -> Iterator[Path]:
    return (Path(path) for path, _, _ in os.walk(tree))


def _members(tree: Path) -> Iterator[int]:
    for folder in _folders(tree):
        with contextlib.suppress(OSError):  # the group may go while we read
            yield from map(int, (folder / "cgroup.procs").read_text().split())
