"""A machine with recordings and the command line of batches; jobs leave at once what they would: tests.quick_jobs."""

import json
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from controller import cli, demo
from controller.cli import options
from controller.domain.jobs import Job
from tests import quick_jobs, speech


@dataclass(frozen=True, kw_only=True)
class Result:
    """The end of a command."""

    code: int
    out: str
    err: str


class Machine:
    """A folder with recordings, and the command line in it."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._capfd = folder, capfd
        self.jobs: list[Job] = []
        self.on_job: Callable[[Job], None] = lambda _: None
        ordinary = quick_jobs.QuickRunner.submit

        def submit(runner: quick_jobs.QuickRunner, job: Job) -> None:
            ordinary(runner, job)
            self.jobs.append(job)
            self.on_job(job)

        monkeypatch.setattr(quick_jobs.QuickRunner, "submit", submit)
        monkeypatch.setattr(options, "runner_for", quick_jobs.runner_for(options.runner_for, folder))

    def run(self, *arguments: str | Path) -> Result:
        self._capfd.readouterr()
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
        try:
            code = cli.run(["batch", *map(str, arguments), "--store", str(self.folder / "store")])
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
        return Result(code=code, **self._capfd.readouterr()._asdict())

    def submit(self, *arguments: str | Path) -> Result:
        return self.run("submit", *MODEL, *arguments)

    @property
    def batch(self) -> str:
        """The id of the only batch."""
        (one,) = json.loads(self.run("list", "--json").out)["batches"]
        return str(one["batch"])

    def counts(self, batch: str = "") -> dict[str, int]:
        found = json.loads(self.run("status", batch or self.batch, "--json").out)
        return {name: found[name] for name in ("complete", "partial", "failed", "cancelled", "left") if found[name]}

    def interrupt_after(self, jobs: int) -> None:
        """The process receives SIGINT when so many further jobs were done."""
        last = len(self.jobs) + jobs

        def interrupt(_: Job) -> None:
            if len(self.jobs) == last:
                signal.raise_signal(signal.SIGINT)

        self.on_job = interrupt


MODEL = ("--model", str(demo.MODEL), "--language", "en", "--max-parallel", "2", "-f", "txt", "-o", "out")


def lay(folder: Path, count: int, broken: int = 0) -> None:
    """Write recordings of different content; each *broken*-th is no media."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number:03}.wav"
        if broken and number % broken == broken - 1:
            path.write_bytes(quick_jobs.NOT_MEDIA + f" {number}".encode())
        else:
            speech.write_wav(path, speech.silence(0.2 + number / 10_000, noise_db=-60))


def written(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*.txt")}
