"""A runner with one operating-system process per job, for one machine: laptop, CI, demo.

Touches: processes, and a folder for their logs and scratch files. It has the methods of every runner; only ``wait``
blocks. Each child process has the reading end of a pipe, and this process has the writing end. When this process ends
for any reason, the pipe is closed and the children exit. So no job outlives a killed controller.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from chunk_job import kernels
from controller.domain import failures
from controller.domain.interfaces import Leadership
from controller.domain.jobs import Job, JobView
from controller.domain.keys import is_run
from controller.errors import EnvironmentProblem
from controller.runners import folders

_PROGRESS = re.compile(rb"progress (\d+) of \d+ ms")
_LOG_TAIL_BYTES = 16 << 10
_READ_BYTES = 64 << 10


@dataclass(kw_only=True)
class _Child:
    """A started job: its process, our end of the pipe (its lifeline), and its folder."""

    job: Job
    process: subprocess.Popen[bytes]
    lifeline: int
    folder: Path
    began_s: float
    """Start time by the monotonic clock, which stops while the machine sleeps."""
    oom_kills: int | None
    ran_ms: int | None = None
    """How long it had run when its end was noticed."""


class LocalRunner:
    """Jobs as processes of this machine."""

    kind = "local"
    jobs_stay = False
    tick_s = 0.1
    burst = 1 << 20

    def __init__(self, store_url: str, home: folders.Home, leadership: Leadership) -> None:
        """*leadership* ensures that only one of the processes that share *home* works on a run."""
        self.leadership = leadership
        self._store_url = store_url
        self._home = home
        self._children: dict[str, _Child] = {}

    def submit(self, job: Job) -> None:
        """Start the job's process."""
        _check(job.run)
        name = job.name
        folder = self._home.job_folder(job.run, name)
        reading, writing = os.pipe()
        try:
            with (folder / "log").open("xb") as log:
                process = subprocess.Popen(
                    [
                        *self._command(job),
                        "--lifeline",
                        str(reading),
                        "--termination-log",
                        str(folder / "termination-message"),
                    ],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(reading,),
                    # A new process group: Ctrl-C reaches only the controller, which then stops the children.
                    start_new_session=True,
                    env=os.environ
                    | {"TMPDIR": str(folder), "HF_HUB_OFFLINE": "1", kernels.PLACE: str(self._kernel_cache())},
                )
        except OSError:
            os.close(writing)
            raise
        finally:
            os.close(reading)
        self._children[name] = _Child(
            job=job,
            process=process,
            lifeline=writing,
            folder=folder,
            began_s=time.monotonic(),
            oom_kills=_oom_kills(),
        )

    def observe(self) -> list[JobView]:
        """All jobs that were submitted and not deleted yet."""
        return [self._view(name, child) for name, child in self._children.items()]

    def wait(self, seconds: float) -> None:
        """Sleep between two polls."""
        time.sleep(seconds)

    def delete(self, view: JobView) -> None:
        """Stop the job if it is still running, and remove its folder. Its result stays in the store."""
        child = self._children.pop(view.name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        os.close(child.lifeline)
        folders.remove(child.folder.parent.parent, child.folder.parent.name, child.folder.name)

    def abandon(self, run: str) -> None:
        """Stop the jobs of *run*: no other process can take them over."""
        _check(run)
        for view in self.observe():
            if view.run == run:
                self.delete(view)

    def release(self, run: str) -> None:
        """Remove the run's scratch folder."""
        _check(run)
        self._home.remove_scratch(run)

    def close(self, *, leave: bool) -> None:
        """Stop all jobs. *leave* has no effect: local jobs always end with their controller."""
        del leave
        for view in self.observe():
            self.delete(view)
        self._home.remove_all_scratch()

    def _kernel_cache(self) -> Path:
        """The folder for compiled GPU kernels, the same for all jobs of this user: ``TMPDIR`` ends with the job."""
        home = Path(os.path.expanduser("~"))  # noqa: PTH111 (without a home folder "~" is not replaced)
        usable = home.is_absolute() and os.access(home, os.W_OK | os.X_OK)
        return (kernels.place(os.environ, home if usable else None) or self._home.path / "kernels").absolute()

    def _command(self, job: Job) -> list[str]:
        # -P: import nothing from the current folder, which may contain another `controller` or `torch`.
        module = ["controller.intake"] if job.span is None else ["chunk_job", "--attempt", str(job.attempt)]
        return [
            *(sys.executable, "-P", "-m", *module),
            *("--store", self._store_url, "--task", job.task_key, "--task-sha256", job.task_sha256),
        ]

    def _view(self, name: str, child: _Child) -> JobView:
        status = child.process.poll()
        tail = folders.read_end(child.folder / "log", _LOG_TAIL_BYTES)
        diagnosis = None
        if status is not None:
            diagnosis = failures.from_process(
                status,
                termination_message=folders.read_end(child.folder / "termination-message", _READ_BYTES),
                log=tail.decode(errors="replace").splitlines(),
                oom_kills=None if child.oom_kills is None else (_oom_kills() or 0) - child.oom_kills,
            )
        positions = _PROGRESS.findall(tail)
        now_ms = round(1000 * (time.monotonic() - child.began_s))
        if status is not None and child.ran_ms is None:
            child.ran_ms = now_ms
        return JobView(
            run=child.job.run,
            span=child.job.span,
            attempt=child.job.attempt,
            name=name,
            uid=str(child.process.pid),
            phase="running" if status is None else "ended",
            since_ms=time.time_ns() // 1_000_000 - now_ms,
            diagnosis=diagnosis,
            progress_ms=int(positions[-1]) if positions else 0,
            pull_ms=0,
            ran_ms=now_ms if child.ran_ms is None else child.ran_ms,
            gpu=False if child.job.span is None else None,
            here=True,
        )


def resolve_model(reference: str, *, download: bool, revision: str = "") -> Path:
    """Find the folder of a model in a chunk job's process; download it from the hub if *download*.

    A model in S3 is copied to this machine. The controller itself never loads model libraries. Raises
    :class:`EnvironmentProblem` if the model is missing.
    """
    asked = ["--resolve-model", reference, *(["--download"] if download else []), "--revision", revision]
    return Path(_answer(asked).rstrip("\n").rpartition("\n")[2])


def convert_model(
    source: str, folder: Path, *, quantization: str, device: str, download: bool, revision: str = ""
) -> None:
    """Write a model to the new *folder* in a chunk job's process. Raises :class:`EnvironmentProblem`."""
    asked = ["--convert-model", source, str(folder), "--quantization", quantization, "--device", device]
    _answer([*asked, *(["--download"] if download else []), "--revision", revision])


def _answer(arguments: Sequence[str]) -> str:
    """What a chunk job's process prints for *arguments*. Raises :class:`EnvironmentProblem` if it fails."""
    with tempfile.TemporaryDirectory(prefix="stenofleet-model-") as folder:
        termination_message = Path(folder) / "termination-message"
        command = [sys.executable, "-P", "-m", "chunk_job", *arguments, "--termination-log", str(termination_message)]
        reading, writing = os.pipe()
        try:
            command += ["--lifeline", str(reading)]
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=(reading,), check=False
            )
        finally:
            os.close(reading)
            os.close(writing)
        if done.returncode == 0:
            return done.stdout.decode()
        why = failures.from_process(
            done.returncode,
            termination_message=folders.read_end(termination_message, _READ_BYTES),
            log=done.stderr.decode(errors="replace").splitlines(),
            oom_kills=None,
        )
    raise EnvironmentProblem(why.summary, why.advice or "\n".join(why.details[-5:]))


def _check(run: str) -> None:
    """Raise :class:`ValueError` if *run* is not a run id: it becomes a part of paths."""
    if not is_run(run):
        raise ValueError(f"not a run id: {run!r}")


def _oom_kills() -> int | None:
    """How many processes the kernel has killed for lack of memory; None if it does not count them (macOS)."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
