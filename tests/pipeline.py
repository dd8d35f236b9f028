"""The command line as users start it: a process with its own store and output folder.

A *workplace* is the folder of one test. Every process that a test starts has the folder's path in its command line or
its environment, so that remaining processes can be counted, and stopped at the end, without knowing which process
started them.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chunk_job import crashpoint
from chunk_job.store.files import FileStore
from controller import demo
from controller.domain.keys import RunKeys
from controller.transcript.formats import FORMATS

PATIENCE_S = 60.0
"""Seconds. No step of any test takes a tenth of this, even with three other test runs on the machine."""

SMALL = ("--model", str(demo.MODEL), "--max-parallel", "2", "--threads", "1", "--language", "en")
"""Options for a short recording that is not cut."""

CUT = (
    *("--model", str(demo.MODEL), "--max-parallel", "2", "--threads", "1"),
    *("--chunk-duration", "20", "--chunking-threshold", "0"),
)
"""Options that cut the reference recording in three."""


def until(condition: Callable[[], object], what: str, *, patience_s: float = PATIENCE_S, pause_s: float = 0.02) -> None:
    """Wait for *condition*; fails with *what* when it does not become true."""
    end_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end_s, f"waited {patience_s:.0f} s in vain: {what}"
        time.sleep(pause_s)


@dataclass(frozen=True, kw_only=True)
class Ended:
    """The end of a command: its exit code and output."""

    code: int
    out: str
    err: str

    @property
    def paths(self) -> list[Path]:
        """The files that it reports as written."""
        return [Path(line) for line in self.out.splitlines()]


class Started:
    """A running command."""

    def __init__(self, process: subprocess.Popen[bytes], files: Path) -> None:
        self.process = process
        self._words = files

    @property
    def err(self) -> str:
        """Its messages so far."""
        return self._words.with_suffix(".err").read_bytes().decode("utf-8", "surrogateescape")

    @property
    def out(self) -> str:
        """Its stdout so far."""
        return self._words.with_suffix(".out").read_bytes().decode("utf-8", "surrogateescape")

    def wait_for_output(self, part: str, *, patience_s: float = PATIENCE_S) -> None:
        """Wait until its messages contain *part*."""
        until(lambda: part in self.err or self.process.poll() is not None, f"{part!r}", patience_s=patience_s)
        assert part in self.err, self.err

    def kill(self) -> None:
        """``kill -9`` this process alone."""
        self.process.kill()
        self.process.wait()

    def ended(self, *, patience_s: float = PATIENCE_S) -> Ended:
        """Wait for its end."""
        try:
            code = self.process.wait(timeout=patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"a command that does not end: {self.err}") from None
        return Ended(code=code, out=self.out, err=self.err)


class Workplace:
    """A folder with a store, an output folder and the commands that use them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.out = folder / "out"
        self.store = FileStore(folder / "store")
        self._started: list[Started] = []
        folder.mkdir(exist_ok=True)

    def media(self, file: Path, name: str | None = None) -> Path:
        """*file* in this folder, under the same or another name."""
        location = self.folder / (name or file.name)
        os.link(file, location)
        return location

    def start(
        self,
        *arguments: str | bytes | Path,
        crash: str = "",
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        before: tuple[str, ...] = (),
        keep: tuple[int, ...] = (),
    ) -> Started:
        """Start ``stenofleet`` with these arguments; *crash* is a crash point, *before* a program that runs it.

        The command inherits the descriptors in *keep*.
        """
        files = self.folder / f"command{len(self._started) + 1}"
        files.with_suffix(".in").write_bytes(stdin)
        with (
            files.with_suffix(".in").open("rb") as given,
            files.with_suffix(".out").open("wb") as out,
            files.with_suffix(".err").open("wb") as err,
        ):
            process = subprocess.Popen(
                [*before, sys.executable, "-P", "-m", "controller", *arguments],
                stdin=given,
                stdout=out,
                stderr=err,
                cwd=self.folder,
                env=self.environment(crash) | dict(env or {}),
                start_new_session=True,
                pass_fds=keep,
            )
        self._started.append(Started(process, files))
        return self._started[-1]

    def run(self, *arguments: str | bytes | Path, **how: Any) -> Ended:
        """Run ``stenofleet`` to its end."""
        return self.start(*arguments, **how).ended()

    def transcribe(self, *arguments: str | bytes | Path, **how: Any) -> Ended:
        """Run ``stenofleet transcribe`` into this workplace's output folder."""
        return self.run("transcribe", "-o", self.out, *arguments, **how)

    def held(self, point: str, media: Path, *arguments: str) -> Started:
        """Start ``transcribe`` of *media*, and wait until a crash point holds one of its jobs."""
        here = self.meeting()
        started = self.start("transcribe", "-o", self.out, media, *arguments, crash=f"{point}=hold:{here}")
        until(here.exists, f"{point} is held")
        return started

    def environment(self, crash: str = "") -> dict[str, str]:
        """This process' environment without our own variables; the store is named there."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STENOFLEET", "PYTHON"))}
        kept |= {"STENOFLEET_STORE": self.store.url, "XDG_STATE_HOME": str(self.folder / "state"), "LC_ALL": "C.UTF-8"}
        return kept | ({crashpoint.VARIABLE: crash} if crash else {})

    def meeting(self) -> Path:
        """The file that a held crash point creates."""
        return self.folder / f"here{len(self._started)}"

    @property
    def outputs(self) -> dict[str, bytes]:
        """Every file of the output folder, by name."""
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())} if self.out.exists() else {}

    def document(self, stem: str) -> dict[str, Any]:
        """A transcript's JSON."""
        found: dict[str, Any] = json.loads((self.out / f"{stem}.json").read_bytes())
        return found

    def keys(self) -> RunKeys:
        """The keys of the only run of the store."""
        (run,) = (path.name for path in (self.store.root / "runs").iterdir())
        return RunKeys(run)

    def results(self) -> dict[str, tuple[int, int]]:
        """Results by key, with values that change when a result is written again."""
        found = {}
        for path in sorted(self.store.root.glob("work/*/results/*/*.json")):
            status = path.stat()
            found[str(path.relative_to(self.store.root))] = (status.st_ino, status.st_mtime_ns)
        return found

    def processes(self, part: str = "") -> list[int]:
        """Processes that run here, those with *part* in their command line.

        With a store elsewhere, only the environment of some of them names this folder: that of the state.
        """
        found, state = [], os.fsencode(f"XDG_STATE_HOME={self.folder}/")
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                here = os.fsencode(f"{self.folder}/") in line or state in (entry / "environ").read_bytes()
                if here and part.encode() in line:
                    found.append(int(entry.name))
        return found

    def quiet(self) -> None:
        """Wait until no process runs here."""
        until(lambda: not self.processes(), f"nothing runs in {self.folder}", patience_s=15)

    def kill_all(self, part: str = "") -> None:
        """``kill -9`` everything that runs here, at once."""
        for pid in self.processes(part):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def clear(self) -> None:
        """Stop every process that still runs here."""
        self.kill_all()
        for started in self._started:
            started.process.wait()
        self.quiet()

    def leftovers(self) -> list[str]:
        """Incomplete or left-over files: hidden files, temporary files, scratch folders."""
        places = [self.out, self.store.root]
        found = [path for location in places for path in location.rglob("*") if path.name.startswith(".")]
        found += list((self.store.root / ".local" / "scratch").rglob("*"))
        return [str(path.relative_to(self.folder)) for path in found if path != self.store.root / ".local"]


@dataclass(frozen=True, kw_only=True)
class Undisturbed:
    """A run without disturbances: every disturbed run must give the same outputs."""

    workplace: Workplace
    media: Path
    outputs: Mapping[str, bytes]

    def lay(self, workplace: Workplace, *answered: int) -> Path:
        """Copy this run to *workplace* with only the spans *answered* done; returns the recording's path."""
        for part in ("runs", "work"):
            shutil.copytree(self.workplace.store.root / part, workplace.store.root / part)
        keys = workplace.keys()
        ended = [keys.marker("complete"), keys.final, keys.report, keys.report_page, keys.status, keys.attempts]
        ended += map(keys.transcript, FORMATS)
        for key in ended:
            workplace.store.delete(key)
        for folder in sorted((workplace.store.root / keys.results).iterdir()):
            if int(folder.name) in answered:
                workplace.store.delete(keys.audio(int(folder.name)))
            else:
                shutil.rmtree(folder)
        return workplace.media(self.media)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[bool]:
    """Whether this process must fill *folder*; the other workers wait until it has."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    done = folder.with_name(f"{folder.name}.done")
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()
