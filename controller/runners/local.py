"""A runner with one operating-system process per job: the laptop, CI, the demo.

Touches: processes, and a folder for their logs and scratch files. Same verbs as every runner: submit, observe,
wait, delete, close; only ``wait`` blocks. A child holds the reading end of a pipe whose writing end is ours:
however this process ends, the pipe ends with it and the child leaves, so nothing survives a killed controller.
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
from dataclasses import dataclass
from pathlib import Path

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
    """A started job: its process, our end of its lifeline, and where it writes."""

    job: Job
    process: subprocess.Popen[bytes]
    lifeline: int
    folder: Path
    began_s: float
    """By a clock that stands still while the machine sleeps."""
    oom_kills: int | None


class LocalRunner:
    """Jobs as processes of this machine."""

    kind = "local"
    tick_s = 0.1
    burst = 1 << 20

    def __init__(self, store_url: str, home: folders.Home, leadership: Leadership) -> None:
        """*leadership* keeps apart the processes that share *home*."""
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
                    # Not our terminal's process group: Ctrl-C is ours to hear, and we stop the children.
                    start_new_session=True,
                    env=os.environ | {"TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"},
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
        """All jobs that were submitted and not deleted."""
        return [self._view(name, child) for name, child in self._children.items()]

    def wait(self, seconds: float) -> None:
        """Rest between two looks."""
        time.sleep(seconds)

    def delete(self, view: JobView) -> None:
        """Stop the job if it still runs, and forget it. Its result, if there is one, stays."""
        child = self._children.pop(view.name)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()
        os.close(child.lifeline)
        folders.remove(child.folder.parent.parent, child.folder.parent.name, child.folder.name)

    def abandon(self, run: str) -> None:
        """Stop the jobs of *run*: nobody else looks after them."""
        _check(run)
        for view in self.observe():
            if view.run == run:
                self.delete(view)

    def release(self, run: str) -> None:
        """Remove the run's scratch folder."""
        _check(run)
        self._home.remove_scratch(run)

    def close(self, *, leave: bool) -> None:
        """Stop all jobs. *leave* asks for nothing here: local jobs end with their controller."""
        del leave
        for view in self.observe():
            self.delete(view)
        self._home.remove_all_scratch()

    def _command(self, job: Job) -> list[str]:
        # -P: the current folder may hold anybody's `controller` or `torch`.
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
        return JobView(
            run=child.job.run,
            span=child.job.span,
            attempt=child.job.attempt,
            name=name,
            uid=str(child.process.pid),
            phase="running" if status is None else "ended",
            since_ms=time.time_ns() // 1_000_000 - round(1000 * (time.monotonic() - child.began_s)),
            diagnosis=diagnosis,
            progress_ms=int(positions[-1]) if positions else 0,
        )


def resolve_model(reference: str, *, download: bool) -> None:
    """Ask a chunk job's process whether it finds the model, or to fetch it: only it may load a model's library.

    Raises :class:`EnvironmentProblem` where the model is not here.
    """
    with tempfile.TemporaryDirectory(prefix="stenofleet-model-") as folder:
        termination_message = Path(folder) / "termination-message"
        command = [sys.executable, "-P", "-m", "chunk_job", "--resolve-model", reference]
        command += ["--termination-log", str(termination_message), *(["--download"] if download else [])]
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
            return
        why = failures.from_process(
            done.returncode,
            termination_message=folders.read_end(termination_message, _READ_BYTES),
            log=done.stderr.decode(errors="replace").splitlines(),
            oom_kills=None,
        )
    raise EnvironmentProblem(why.summary, why.advice or "\n".join(why.details[-5:]))


def _check(run: str) -> None:
    """Raises :class:`ValueError` for what is no run id: it becomes a part of paths."""
    if not is_run(run):
        raise ValueError(f"not a run id: {run!r}")


def _oom_kills() -> int | None:
    """How often this machine's kernel has killed for memory; None where it does not tell (macOS)."""
    try:
        found = re.search(r"^oom_kill (\d+)$", Path("/proc/vmstat").read_text(encoding="ascii"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) if found else None
