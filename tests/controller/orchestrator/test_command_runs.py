"""Runs that become known while the loop works: it starts with the first, and loses none."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.base import StoreDenied, StoredObject, StoreUnavailable
from controller.domain.documents import Request, RunRecord
from controller.domain.interfaces import RunOutcome, RunRequest, RunRequests
from controller.domain.policy import RetryPolicy
from controller.domain.progress import NO_TOTALS, Progress, Totals, progress, totals
from controller.errors import EnvironmentProblem
from controller.orchestrator import delivery
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import InOrder
from controller.runs import finalize, outputs
from tests import fakes
from tests.fakes import FakeClock, FakeRunner, JournalStore, Recorder, Script, scripted

OTHER = "f" * 16


class Later:
    """Requests that become known one after the other: the next one when the loop has waited for it, or after ticks."""

    def __init__(self, *run_requests: RunRequest, known_at_once: int = 0) -> None:
        self._requests = list(run_requests)
        self._known = known_at_once
        self.waited = 0
        self.taken: dict[str, RunRequest] = {}

    def know_one_more(self) -> None:
        self._known += 1

    def take(self, most: int) -> Sequence[RunRequest]:
        count = min(most, self._known, len(self._requests))
        taken, self._requests = self._requests[:count], self._requests[count:]
        self._known -= count
        self.taken |= {run_request.record.run: run_request for run_request in taken}
        return taken

    def wait(self, seconds: float) -> None:
        self.waited += 1
        self.know_one_more()

    def unknown(self) -> Sequence[Progress]:
        return [
            progress(None, name=run_request.record.name, run="", size_bytes=1, seen="waiting", floor=0.0)
            for run_request in self._requests
        ]

    def progress(self) -> tuple[Sequence[Progress], Totals]:
        return self.unknown()[:1], sum((totals(one) for one in self.unknown()[1:]), NO_TOTALS)

    @property
    def exhausted(self) -> bool:
        return not self._requests


class AwayStore(JournalStore):
    """A store with outages."""

    away = False
    refuse: Callable[[str], None] = staticmethod(lambda _: None)
    """Raises for keys that cannot be reached; the jobs of the scene have a store of their own."""

    def put(self, key: str, data: bytes) -> None:
        self.refuse(key)
        super().put(key, data)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        self.refuse(prefix)
        return super().list(prefix, after=after)

    def stat(self, key: str) -> StoredObject | None:
        if self.away:
            raise StoreUnavailable("the store is away", "wait")
        self.refuse(key)
        return super().stat(key)

    def open(self, key: str, *, max_bytes: int = 1 << 40) -> BinaryIO:
        if self.away:
            raise StoreUnavailable("the store is away", "wait")
        self.refuse(key)
        return super().open(key, max_bytes=max_bytes)


class Scene:
    """A store, a scripted runner, and a clock that a test moves."""

    def __init__(self, folder: Path, script: Script | None = None) -> None:
        self.store = AwayStore(folder / "store")
        self.clock = FakeClock()
        self.reporter = Recorder()
        self.folder = folder
        self.runner = FakeRunner(JournalStore(folder / "store"), self.clock, script)

    def run_request(self, run: str, name: str) -> RunRequest:
        record: RunRecord = fakes.record(run, name=f"{name}.mp4")
        return RunRequest(record=record, request=fakes.request(record, self.folder / "out" / name))

    def run_loop(
        self,
        requests: RunRequests,
        policy: RetryPolicy | None = None,
        *,
        max_parallel: int = 2,
        on_end: Callable[[RunOutcome], None] = lambda _: None,
    ) -> list[RunOutcome]:
        return run_loop(
            requests,
            store=self.store,
            runner=self.runner,
            policy=policy or RetryPolicy(backoff_ms=0),
            slots=InOrder(max_parallel),
            reporter=self.reporter,
            clock=self.clock,
            on_end=on_end,
        )


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_the_first_run_ends_before_the_second_is_known(scene: Scene) -> None:
    requests = Later(scene.run_request(fakes.RUN, "talk"), scene.run_request(OTHER, "film"), known_at_once=1)
    ended = scene.run_loop(requests)
    assert [(item.run, item.verdict) for item in ended] == [(fakes.RUN, "complete"), (OTHER, "complete")]
    assert requests.waited == 1, "only when there was no other work"
    first = scene.store.when(f"put runs/{fakes.RUN}/_SUCCESS")
    assert first < scene.store.when(f"put runs/{OTHER}/run.json")


def test_progress_counts_those_that_are_not_known(scene: Scene) -> None:
    scene.run_loop(Later(scene.run_request(fakes.RUN, "talk"), scene.run_request(OTHER, "film"), known_at_once=1))
    assert [one.name for one in scene.reporter.shown[0]] == ["talk.mp4", "film.mp4"]
    shown = zip(scene.reporter.shown, scene.reporter.others, strict=True)
    assert {len(runs) + others.recordings for runs, others in shown} == {2}


@pytest.mark.parametrize("known", ["at once", "while it works", "when it has ended"])
def test_equal_content_is_one_run_that_is_written_for_each(scene: Scene, known: str) -> None:
    requests = Later(
        scene.run_request(fakes.RUN, "talk"),
        scene.run_request(fakes.RUN, "copy"),
        known_at_once=2 if known == "at once" else 1,
    )
    if known == "while it works":
        scene.runner.on_wait = lambda ticks: requests.know_one_more() if ticks == 1 else None
    (ended,) = scene.run_loop(requests)
    assert ended.verdict == "complete"
    assert {Path(file).name for file in ended.files} == {"talk.txt", "talk.json", "copy.txt", "copy.json"}
    assert (scene.folder / "out" / "copy.json").read_bytes() == (scene.folder / "out" / "talk.json").read_bytes()
    assert [(job.span, job.attempt) for job in scene.runner.submitted] == [(None, 1), (0, 1), (1, 1), (2, 1)]


def test_a_recording_that_comes_after_its_run_has_ended_is_reported_with_its_own_place(scene: Scene) -> None:
    first, late = scene.run_request(fakes.RUN, "talk"), scene.run_request(fakes.RUN, "copy")
    source = late.request.source.model_copy(update={"uri": "file:///media/copy.mp4"})
    late = replace(late, request=late.request.model_copy(update={"source": source}))
    told: list[RunOutcome] = []
    scene.run_loop(Later(first, late, known_at_once=1), on_end=told.append)
    assert [(one.name, one.source) for one in told][1] == ("copy.mp4", "/media/copy.mp4")
    assert {Path(file).name for file in told[1].files} == {"copy.txt", "copy.json"}


def test_several_names_of_a_run_that_has_ended_are_all_written(scene: Scene) -> None:
    names = ("talk", "copy", "other")
    requests = [scene.run_request(fakes.RUN, name) for name in names]
    scene.run_loop(KnownRequests(requests[:1]))
    (ended,) = scene.run_loop(KnownRequests(requests))
    assert {Path(file).name for file in ended.files} == {f"{name}.{end}" for name in names for end in ("txt", "json")}


@pytest.mark.parametrize("known", ["at once", "when it has ended"])
def test_equal_content_of_a_run_that_has_failed_fails_alike_is_named_and_not_tried_again(
    tmp_path: Path, known: str
) -> None:
    failing = fakes.fails_with(ExitCode.BAD_INPUT, "/media/talk.mp4: is no media")
    scene = Scene(tmp_path, scripted({(None, 1): failing}))
    requests = []
    for name in ("talk", "copy", "other"):
        made = scene.run_request(fakes.RUN, name)
        source = made.request.source.model_copy(update={"uri": f"file:///media/{name}.mp4"})
        requests.append(replace(made, request=made.request.model_copy(update={"source": source})))
    ended = scene.run_loop(Later(*requests, known_at_once=3 if known == "at once" else 1))
    assert [(one.verdict, one.name, one.source) for one in ended] == [
        ("failed", f"{name}.mp4", f"/media/{name}.mp4") for name in ("talk", "copy", "other")
    ]
    assert "/media/copy.mp4: is no media" in ended[1].summary
    assert len(scene.runner.submitted) == 1


def test_outputs_requested_later_that_cannot_be_written_are_reported(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = outputs.write_outputs

    def refuse(request: Request, *others: Any) -> Any:
        if any("copy" in output.base for output in request.outputs):
            return outputs.WrittenOutputs((), (), EnvironmentProblem("out/copy.txt: no free space", "free space"))
        return write(request, *others)

    monkeypatch.setattr(delivery, "write_outputs", refuse)
    (ended,) = scene.run_loop(
        Later(scene.run_request(fakes.RUN, "talk"), scene.run_request(fakes.RUN, "copy"), known_at_once=1)
    )
    assert (ended.verdict, ended.summary, ended.environment) == ("failed", "out/copy.txt: no free space", True)
    assert (scene.folder / "out" / "talk.json").exists()


def test_a_store_that_never_answers_ends_a_command_that_knows_no_run_yet(scene: Scene) -> None:
    scene.store.away = True
    with pytest.raises(EnvironmentProblem):
        scene.run_loop(
            Later(scene.run_request(fakes.RUN, "talk")), RetryPolicy(backoff_ms=0, store_patience_ms=600_000)
        )
    assert scene.runner.waits == 0, "at once: only a store that has answered before is waited for"


def test_runs_not_known_when_the_store_fails_for_good_are_reported_as_failed(scene: Scene) -> None:
    class Leaving(Later):
        def wait(self, seconds: float) -> None:
            super().wait(seconds)
            scene.store.away = True

    run_requests = [
        scene.run_request(fakes.RUN, "talk"),
        scene.run_request(OTHER, "film"),
        scene.run_request("e" * 16, "third"),
    ]
    ended = scene.run_loop(Leaving(*run_requests, known_at_once=1))
    assert [(item.name, item.verdict, item.environment) for item in ended] == [
        ("talk.mp4", "complete", False),
        ("film.mp4", "failed", True),
        ("third.mp4", "failed", True),
    ]


@pytest.mark.parametrize("bad", [5, 19])
def test_runs_that_cannot_be_opened_wait_while_the_others_are_done(scene: Scene, bad: int) -> None:
    names = [f"{number:016x}" for number in range(20)]

    def refuse(key: str) -> None:
        if any(run in key for run in names[:bad]):
            raise StoreUnavailable(f"{key} cannot be read", "wait")

    scene.store.refuse = refuse
    policy = RetryPolicy(backoff_ms=0, store_patience_ms=5_000)
    ended = scene.run_loop(KnownRequests([scene.run_request(run, run[-2:]) for run in names]), policy)
    assert [one.verdict for one in ended] == ["failed"] * bad + ["complete"] * (20 - bad)


@pytest.mark.parametrize("job", [None, 0], ids=["its intake", "its chunk"])
def test_a_run_that_is_given_up_takes_no_slot_and_no_lock_from_the_others(scene: Scene, job: int | None) -> None:
    names = [f"{number:016x}" for number in range(3)]
    hanging = scripted({(job, 1): fakes.HANG})
    scene.runner.script = lambda one: hanging(one) if one.run == names[0] else fakes.DONE

    def refuse(key: str) -> None:
        if names[0] in key and scene.runner.waits >= 4:
            raise StoreDenied(f"no access to {key}", "ask for it")

    scene.store.refuse = refuse
    led: list[set[str]] = []
    scene.runner.on_wait = lambda _: led.append(set(scene.runner.led))
    requests = KnownRequests([scene.run_request(run, run[-2:]) for run in names])
    ended = scene.run_loop(requests, max_parallel=1)
    assert [one.verdict for one in ended] == ["failed", "complete", "complete"]
    assert names[0] not in led[-1], "another command may continue it"


class Lapsing(fakes.FakeLeadership):
    """The lease of the run may be lost from a moment on that a test chooses."""

    lapsed = False

    def check(self, run: str) -> None:
        if self.lapsed:
            raise StoreUnavailable("the lease could not be renewed in time", "wait")


@pytest.mark.parametrize("moment", ["in the merge", "between two tries to write outputs", "while outputs are written"])
def test_nothing_is_written_under_a_lease_that_may_be_lost(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    leadership = Lapsing()
    scene.runner.leadership, scene.runner.led = leadership, leadership.led
    lapsed_at: list[int] = []

    def lapse() -> None:
        leadership.lapsed = True
        lapsed_at.append(len(scene.store.journal))

    if moment == "in the merge":
        merge = finalize.Finalizer._merge

        def slow(self: finalize.Finalizer, *arguments: Any) -> Any:
            merged = merge(self, *arguments)
            lapse()
            return merged

        monkeypatch.setattr(finalize.Finalizer, "_merge", slow)
    elif moment == "while outputs are written":
        write = outputs.write_outputs

        def slow_write(*arguments: Any) -> outputs.WrittenOutputs:
            written_outputs = write(*arguments)
            lapse()
            return written_outputs

        monkeypatch.setattr(delivery, "write_outputs", slow_write)
    else:

        def away(*_: object) -> Any:
            lapse()
            raise StoreUnavailable("the output bucket is away", "wait")

        monkeypatch.setattr(delivery, "write_outputs", away)
    policy = RetryPolicy(backoff_ms=0, store_patience_ms=5_000)
    (ended,) = scene.run_loop(KnownRequests([scene.run_request(fakes.RUN, "talk")]), policy)
    assert (ended.verdict, ended.environment) == ("failed", True)
    written = [entry for entry in scene.store.journal[lapsed_at[0] :] if entry.startswith("put ")]
    assert [entry for entry in written if "status.json" not in entry] == []


def test_an_output_that_cannot_be_written_does_not_stop_the_others(scene: Scene) -> None:
    (scene.folder / "out" / "talk.txt").mkdir(parents=True)
    requests = KnownRequests([scene.run_request(fakes.RUN, "talk"), scene.run_request(fakes.RUN, "copy")])
    (ended,) = scene.run_loop(requests)
    assert (ended.verdict, ended.environment) == ("failed", True)
    assert "talk.txt" in ended.summary
    assert {Path(file).name for file in ended.files} == {"talk.json", "copy.txt", "copy.json"}


def test_runs_that_have_ended_already_need_few_ticks(scene: Scene) -> None:
    requests = [scene.run_request(f"{number:016x}", f"{number}") for number in range(40)]
    scene.run_loop(KnownRequests(requests))
    scene.runner.waits = 0
    assert {one.verdict for one in scene.run_loop(KnownRequests(requests))} == {"complete"}
    assert scene.runner.waits < 10
