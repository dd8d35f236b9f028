"""Hundreds of runs in one command: nothing is kept of those that have ended, and each costs the same."""

import cProfile
import gc
import weakref
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller.cli import identification, terminal
from controller.cli.identification import Identification
from controller.cli.terminal import Heartbeat
from controller.domain import progress
from controller.domain.documents import Source
from controller.domain.interfaces import Reporter, RunOutcome, RunRequest
from controller.domain.jobs import JobView
from controller.domain.policy import RetryPolicy
from controller.intake.known_files import KnownFiles
from controller.intake.source import Found
from controller.orchestrator import command_runs, loop
from controller.orchestrator.loop import run_loop
from controller.orchestrator.reconciler import RunReconciler
from controller.orchestrator.slots import InOrder
from controller.runs.repository import RunRepository
from controller.runs.result_index import ResultIndex
from controller.runs.transcript_files import TranscriptFiles
from tests import fakes
from tests.fakes import FakeClock, FakeRunner, JobBehaviour, Recorder
from tests.pipeline import until

PARALLEL = 2
FOR_ALL = {str(module.__file__) for module in (loop, command_runs, identification, terminal, progress)}
BAD = JobBehaviour(status=ExitCode.BAD_INPUT)
"""An intake job of a file that is no media: one in twenty."""


class Archive:
    """A command with many recordings, each with one chunk."""

    def __init__(self, folder: Path, count: int) -> None:
        self.folder = folder
        self.recorder = Recorder()
        self.reporter: Reporter = self.recorder
        self.reported: list[RunOutcome] = []
        self.found = {f"{number:04}.mp4": Found(size_bytes=1000, source=source(number)) for number in range(count)}
        clock, store = FakeClock(), FileStore(folder / "store")
        self.runner = FakeRunner(store, clock, behaviour, chunks_ms=[10_000])
        self.arguments: dict[str, Any] = {"store": store, "runner": self.runner, "clock": clock}

    def request(self, name: str, src: Source) -> RunRequest:
        record = fakes.record(f"{int(name[:4]):016x}", name=name)
        request = fakes.request(record, self.folder / "out" / name, formats=("txt",))
        return RunRequest(record=record, request=request.model_copy(update={"source": src}))

    def transcribe(self) -> list[RunOutcome]:
        requests = Identification(self.found, self.request, known=KnownFiles(None), keep=lambda _: False)
        until(lambda: requests._ready, "the first is identified")
        return run_loop(
            requests,
            policy=RetryPolicy(backoff_ms=0),
            slots=InOrder(PARALLEL),
            reporter=self.reporter,
            on_end=self.reported.append,
            **self.arguments,
        )


def source(number: int) -> Source:
    return Source(uri=f"file:///{number:04}.mp4", size_bytes=1000, mtime_ns=1, identity="ab" * 32)


def behaviour(job: Any) -> JobBehaviour:
    return BAD if job.span is None and int(job.run, 16) % 20 == 7 else fakes.DONE


KINDS = [RunReconciler, RunRepository, ResultIndex, TranscriptFiles, RunRequest]


def test_nothing_is_kept_of_a_run_that_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = Archive(tmp_path, 40)
    made: dict[str, list[weakref.ref[Any]]] = {kind.__name__: [] for kind in KINDS}
    most = Counter[str]()

    def remember(kind: type[Any]) -> None:
        begin = kind.__init__

        def begun(self: Any, *arguments: Any, **named: Any) -> None:
            begin(self, *arguments, **named)
            made[kind.__name__].append(weakref.ref(self))

        monkeypatch.setattr(kind, "__init__", begun)

    for kind in KINDS:
        remember(kind)

    def count(waits: int) -> None:
        if waits % 20 == 0:
            gc.collect()
            alive = {name: sum(one() is not None for one in references) for name, references in made.items()}
            most.update({name: max(0, number - most[name]) for name, number in alive.items()})

    archive.runner.on_wait = count
    ended = archive.transcribe()
    assert [one.verdict for one in ended].count("failed") == 2
    assert min(map(len, made.values())) >= 38
    assert max(most.values()) < 20, "those that are worked on, and a few that are identified"


def test_a_run_costs_the_same_however_many_there_are(tmp_path: Path) -> None:
    few, some, many = (calls(Archive(tmp_path / f"{count}", count)) for count in (6, 12, 60))
    assert few > 6 * 50
    assert (many - some) / 48 < 1.1 * (some - few) / 6


def calls(archive: Archive) -> int:
    """The number of calls in what works on all runs, with each step of a generator."""
    archive.reporter = Heartbeat(quiet=True)
    profile = cProfile.Profile(builtins=False)
    profile.runcall(archive.transcribe)
    # The code of a function written in C is its name.
    found = [entry for entry in profile.getstats() if getattr(entry.code, "co_filename", "") in FOR_ALL]
    return sum(entry.callcount for entry in found)


def test_each_outcome_is_reported_once_when_it_is_known_and_progress_counts_all(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 30)
    reported: list[int] = []
    archive.runner.on_wait = lambda _: reported.append(len(archive.reported))
    ended = archive.transcribe()
    assert sorted(archive.reported, key=lambda one: one.run) == ended
    assert reported[0] == 0
    assert len(set(reported)) > 20, "one after the other"
    shown = list(zip(archive.recorder.shown, archive.recorder.others, strict=True))
    assert {len(runs) + others.recordings for runs, others in shown} == {30}
    assert max(len(runs) for runs, _ in shown) < 10
    assert shown[-1][1].ended + sum(run.state in ("complete", "failed") for run in shown[-1][0]) == 30


def test_runs_that_wait_for_the_same_cause_report_it_once(tmp_path: Path) -> None:
    archive = Archive(tmp_path, 12)
    clock, begun_ms = archive.arguments["clock"], dict[tuple[str, str], int]()
    observe = FakeRunner.observe

    def waiting(runner: FakeRunner) -> list[JobView]:
        """Each job waits until it has ended."""
        return [
            replace(view, waits_for=f"{view.since_ms} GPUs are used", phase="queued", diagnosis=None)
            if clock.at_ms - begun_ms.setdefault((view.run, view.name), clock.at_ms) < 5_000
            else view
            for view in observe(runner)
        ]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRunner, "observe", waiting)
        archive.transcribe()
    assert len(begun_ms) > 20, "jobs that have waited"
    assert [text.partition(":")[0] for _, text in archive.recorder.events if "wait" in text] == ["cutting waits"]
