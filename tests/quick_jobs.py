"""A local runner whose jobs leave at once what a job would: for tests and measurements of the controller alone.

The command line, the loop, the locks, the store and the outputs are the real ones.
"""

import time
from collections.abc import Callable
from pathlib import Path

from chunk_job.contract import JobFailure
from chunk_job.errors import ExitCode
from chunk_job.store.base import Store
from controller.domain import failures
from controller.domain.jobs import Job, JobView
from controller.intake.source import local_path
from controller.runners.folders import Home
from controller.runners.local import LocalRunner
from tests import fakes

NOT_MEDIA = b"not media"
"""How a file begins that no job can read."""


class QuickRunner(LocalRunner):
    """The local runner with its locks and folders. Jobs leave their objects at once, in this process."""

    tick_s = 0.01

    def __init__(self, store: Store, runner: LocalRunner, home: Home) -> None:
        super().__init__(store.url, home, runner.leadership)
        self._objects = store
        self._views: dict[str, JobView] = {}

    def submit(self, job: Job) -> None:
        """Do the job."""
        message = self._do(job)
        status = ExitCode.BAD_INPUT if message else 0
        self._views[job.name] = JobView(
            run=job.run,
            span=job.span,
            attempt=job.attempt,
            name=job.name,
            uid=job.name,
            phase="ended",
            since_ms=time.time_ns() // 1_000_000,
            diagnosis=failures.from_process(status, termination_message=message, log=[], oom_kills=None),
            progress_ms=0,
        )

    def _do(self, job: Job) -> bytes:
        """Returns the termination message of a job that failed."""
        if job.span is not None:
            fakes.answer(self._objects, job, fakes.DONE, self._objects.get(job.task_key))
            return b""
        with local_path(job.media_uri).open("rb") as file:
            if file.read(len(NOT_MEDIA)) == NOT_MEDIA:
                why = f"{local_path(job.media_uri)}: is not media"
                return JobFailure(code=ExitCode.BAD_INPUT, summary=why, advice="check it").encode()
        fakes.cut(self._objects, job, [10_000])
        return b""

    def observe(self) -> list[JobView]:
        """All jobs that were not deleted yet."""
        return list(self._views.values())

    def delete(self, view: JobView) -> None:
        """Remove the job."""
        del self._views[view.name]


def runner_for(ordinary: Callable[[Store], LocalRunner], folder: Path) -> Callable[..., LocalRunner]:
    """What takes the place of the command line's function that makes the local runner."""

    def made(store: Store, scratch: Path | None = None) -> LocalRunner:
        del scratch
        return QuickRunner(store, ordinary(store), Home(folder / "home"))

    return made
