"""The loop with a real store, scripted jobs and simulated time: the outcomes of runs."""

import errno
import itertools
import json
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chunk_job.contract import ChunkTask, Language, Usage
from chunk_job.errors import ExitCode
from chunk_job.segment import DecodedWindow, Try
from chunk_job.store.base import StoredObject, StoreUnavailable
from controller.domain.documents import Evidence, Final, LeaseRecord, Outcome, Report, Request, Round, RunRecord, Status
from controller.domain.interfaces import LeaseState, RunOutcome, RunRequest
from controller.domain.jobs import Job, JobView
from controller.domain.keys import MARKERS, RunKeys
from controller.domain.plan import AutoLength, ChosenLength, PlanOptions
from controller.domain.policy import RetryPolicy
from controller.errors import ClusterUnavailable, EnvironmentProblem, Interrupted
from controller.leadership.store_lease import StoreLease
from controller.orchestrator import delivery
from controller.orchestrator import loop as run_module
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import InOrder
from controller.runs import outputs
from controller.runs.protection import OutputRules
from controller.runs.transcript_files import TranscriptFiles
from controller.transcript.model import Transcript
from tests import fakes
from tests.fakes import FakeClock, FakeLeadership, FakeRunner, JournalStore, Recorder, Script, scripted

RUN = fakes.RUN
KEYS = RunKeys(RUN)
OTHER = "f" * 16
POLICY = RetryPolicy(backoff_ms=0)


class Scene:
    """A store, and for each command a runner, a reporter and a clock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = JournalStore(folder / "store")
        self.clock = FakeClock()
        self.reporter = Recorder()
        self.chunks_ms: tuple[int, ...] = (10_000, 10_000, 10_000)
        self.runner = FakeRunner(self.store, self.clock)

    def command(
        self,
        *run_requests: RunRequest,
        script: Script | None = None,
        max_parallel: int = 2,
        policy: RetryPolicy = POLICY,
        meanwhile: Callable[[int], None] = lambda _: None,
        led_by_others: frozenset[str] = frozenset(),
    ) -> list[RunOutcome]:
        """One command, from its start to its end; *meanwhile* is called with the number of ticks so far."""
        self.reporter = Recorder()
        self.runner = FakeRunner(self.store, self.clock, script, on_wait=meanwhile, chunks_ms=self.chunks_ms)
        self.runner.led_by_others |= led_by_others
        self.clock.asked_to_stop = None
        return run_loop(
            KnownRequests(run_requests or [run_request()]),
            store=self.store,
            runner=self.runner,
            policy=policy,
            slots=InOrder(max_parallel),
            reporter=self.reporter,
            clock=self.clock,
        )

    def attempts(self) -> list[tuple[int | None, int]]:
        return [(job.span, job.attempt) for job in self.runner.submitted]

    def evidence(self) -> list[tuple[int | None, int, str]]:
        found = [Evidence.decode(self.store.get(entry.key)) for entry in self.store.list(KEYS.failures)]
        return [(item.span, item.attempt, item.failure) for item in found]

    def status(self) -> Status:
        return Status.decode(self.store.get(KEYS.status))

    def transcript(self, extension: str = "json") -> bytes:
        return self.store.get(KEYS.transcript(extension))

    def marker(self) -> str | None:
        there = [verdict for verdict in MARKERS if self.store.stat(KEYS.marker(verdict))]
        assert len(there) <= 1
        return there[0] if there else None

    def interrupt_at(self, tick: int) -> Callable[[int], None]:
        def meanwhile(ticks: int) -> None:
            if ticks == tick:
                self.clock.asked_to_stop = signal.SIGTERM

        return meanwhile


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def run_request(record: RunRecord | None = None, *outputs: Path, **wishes: str | bool) -> RunRequest:
    record = record or fakes.record()
    return RunRequest(record=record, request=fakes.request(record, *outputs, **wishes))  # type: ignore[arg-type]


# ---------------------------------------------------------------- to the end


def test_a_run_is_cut_transcribed_merged_and_written(scene: Scene) -> None:
    base = scene.folder / "out" / "talk"
    [ended] = scene.command(run_request(None, base))
    assert scene.attempts() == [(None, 1), (0, 1), (1, 1), (2, 1)]
    assert (ended.verdict, ended.summary, ended.environment) == ("complete", "transcribed", False)
    assert ended.files == (f"{base}.txt", f"{base}.json")
    assert (scene.folder / "out" / "talk.txt").read_text() == "w0a w0b\nw1a w1b\nw2a w2b\n"
    assert (scene.folder / "out" / "talk.json").read_bytes() == scene.transcript()
    assert scene.marker() == "complete"
    assert sorted(entry.name for entry in (scene.folder / "out").iterdir()) == ["talk.json", "talk.txt"]


def test_the_runs_last_object_comes_after_all_others_and_after_the_files(scene: Scene) -> None:
    scene.command()
    placed = scene.store.when(f"put {KEYS.marker('complete')}")
    later = [entry for entry in scene.store.journal[placed + 1 :] if entry.startswith("put ")]
    assert later == [f"put {KEYS.status}"]  # it is only shown; no decision depends on it
    for key in (KEYS.plan, KEYS.final, KEYS.report, *map(KEYS.transcript, ("txt", "srt", "vtt", "tsv", "json"))):
        assert scene.store.when(f"put {key}") < placed


def test_final_contains_the_chosen_results_and_the_outcome(scene: Scene) -> None:
    scene.command(script=scripted({(1, 1): fakes.CRASH}))
    final = Final.decode(scene.store.get(KEYS.final))
    assert [(winner.span, winner.key.split("/")[-1]) for winner in final.winners] == [
        (0, "a1-u.json"),
        (1, "a2-u.json"),
        (2, "a1-u.json"),
    ]
    assert final.outputs.keys() == {"txt", "srt", "vtt", "tsv", "json"}
    assert (final.verdict, final.lost) == ("complete", ())


def test_the_report_counts_what_it_took(scene: Scene) -> None:
    scene.command(script=scripted({(1, 1): fakes.CRASH}))
    report = Report.decode(scene.store.get(KEYS.report))
    assert [(span.attempts, span.failures) for span in report.spans] == [(1, ()), (2, ("NATIVE_CRASH",)), (1, ())]
    assert (report.audio_s, report.speech_s, report.compute_s) == (30.0, 15.0, 3.63)
    assert report.realtime_factor == round(30 / 3.63, 2)
    assert 0.5 < report.elapsed_s < 5


def test_the_useful_share_is_known_while_results_come_and_where_time_went_is_reported_at_the_end(scene: Scene) -> None:
    usage = Usage(fetch_ms=10, load_ms=30_000, transcribe_ms=20_000, cpu_threads=1, decode_ms=10_000, total_ms=40_000)
    engine = fakes.ENGINE.model_copy(update={"stored_type": "float16"})
    behaviour = fakes.JobBehaviour(leaves="result", result={"usage": usage, "engine": engine})
    scene.command(script=lambda _: behaviour)
    shares = [runs[0].useful_share for runs in scene.reporter.shown]
    assert (shares[0], shares[-1]) == (None, 0.25)
    assert any(runs[0].useful_share == 0.25 and runs[0].state == "running" for runs in scene.reporter.shown)
    assert scene.status().useful_share == Report.decode(scene.store.get(KEYS.report)).useful_share == 0.25
    assert scene.reporter.reported("time of its jobs: 120.0 s, of which 25% useful")
    assert scene.reporter.reported("the model is stored as float16 and used as int8: each load converts it (90.0 s")
    scene.command()
    assert not scene.reporter.reported("time of its jobs")


def test_the_chosen_length_is_reported_once_the_plan_is_known(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    chosen, real = ChosenLength(chunk_ms=10_000, reason="3 chunks of 10 s, 2 at once"), fakes.plan
    monkeypatch.setattr(fakes, "plan", lambda *ends, **rest: real(*ends, **rest).model_copy(update={"chosen": chosen}))
    scene.command()
    assert [text for _, text in scene.reporter.events].count("3 chunks of 10 s, 2 at once") == 1
    assert Report.decode(scene.store.get(KEYS.report)).chunk_length == "3 chunks of 10 s, 2 at once"


def test_the_run_keeps_what_its_first_command_chose_the_length_from(scene: Scene) -> None:
    def with_jobs(jobs: int) -> RunRequest:
        auto = AutoLength(parallel_jobs=jobs, speed=400, overhead_ms=10_000)
        record = fakes.record().model_copy(update={"plan": PlanOptions(auto=auto)})
        return run_request(record)

    with pytest.raises(Interrupted):
        scene.command(with_jobs(4), meanwhile=scene.interrupt_at(2))
    [ended] = scene.command(with_jobs(9))
    assert ended.verdict == "complete"
    kept = RunRecord.decode(scene.store.get(KEYS.record)).plan.auto
    assert kept is not None
    assert kept.parallel_jobs == 4


def test_doubtful_windows_are_a_warning_of_the_run_and_of_its_transcript(scene: Scene) -> None:
    tried = Try(temperature=0, avg_logprob=-1.5, compression_ratio=1, no_speech_prob=0, failed="improbable")
    windows = (DecodedWindow(start_ms=1000, end_ms=2000, outcome="doubtful", tries=(tried,)),)
    behaviour = fakes.JobBehaviour(leaves="result", result={"windows": windows})
    [ended] = scene.command(run_request(None, scene.folder / "out" / "talk"), script=lambda _: behaviour)
    assert ended.warnings == ("3 parts of up to 30 s may be wrong (the decoder was unsure): 0:01, 0:11, 0:21",)
    assert Transcript.decode(scene.transcript()).warnings == ended.warnings


def test_the_percentage_only_grows_and_ends_at_a_hundred(scene: Scene) -> None:
    scene.command(script=scripted({(1, 1): fakes.CRASH}))
    seen = [runs[0].percent for runs in scene.reporter.shown]
    assert all(before <= after for before, after in itertools.pairwise(seen))
    assert (seen[0], seen[-1]) == (5.0, 100.0)
    assert [runs[0].state for runs in scene.reporter.shown][-1] == "complete"
    assert scene.status().state == "complete"
    assert scene.status().percent == 100.0


# ---------------------------------------------------------------- failures


def test_a_chunk_that_crashed_is_tried_again(scene: Scene) -> None:
    [ended] = scene.command(script=scripted({(1, 1): fakes.CRASH}))
    assert ended.verdict == "complete"
    assert (1, 2) in scene.attempts()
    assert scene.evidence() == [(1, 1, "NATIVE_CRASH")]
    assert scene.reporter.reported("chunk 1, attempt 1 failed (NATIVE_CRASH): native code crashed (SIGSEGV)")
    assert scene.reporter.reported("chunk 1: attempt 2 begins")


def test_a_chunk_that_crashed_after_its_commit_costs_nothing(scene: Scene) -> None:
    scene.command(script=scripted({(1, 1): fakes.CRASH_AFTER_COMMIT}))
    assert scene.attempts() == [(None, 1), (0, 1), (1, 1), (2, 1)]
    assert scene.evidence() == []
    assert not scene.reporter.reported("failed")


def test_failures_on_the_way_leave_the_bytes_as_they_are(tmp_path: Path) -> None:
    calm, wild = Scene(tmp_path / "calm"), Scene(tmp_path / "wild")
    calm.command()
    behaviours = {(None, 1): fakes.CRASH, (0, 1): fakes.KILLED, (1, 1): fakes.NOTHING, (2, 1): fakes.CRASH_AFTER_COMMIT}
    wild.command(script=scripted(behaviours), max_parallel=1)
    for extension in ("txt", "srt", "vtt", "tsv", "json"):
        assert calm.transcript(extension) == wild.transcript(extension)


@pytest.mark.parametrize("behaviour", [fakes.FOREIGN, fakes.GARBAGE], ids=["of another task", "garbage"])
def test_an_invalid_result_is_a_failure_and_never_chosen(scene: Scene, behaviour: fakes.JobBehaviour) -> None:
    [ended] = scene.command(script=scripted({(0, 1): behaviour}))
    assert ended.verdict == "complete"
    assert scene.evidence() == [(0, 1, "RESULT_INVALID")]
    final = Final.decode(scene.store.get(KEYS.final))
    assert final.winners[0].key == f"{KEYS.results_of(0)}a2-u.json"


def test_evidence_is_put_before_the_job_is_deleted(scene: Scene) -> None:
    scene.command(script=scripted({(1, 1): fakes.CRASH}))
    assert scene.store.when(f"put {KEYS.failures}00001/a1-") < scene.store.when(f"remove {fakes.RUN} chunk 1 a1")


def test_a_job_that_stands_still_is_stopped_at_its_deadline(scene: Scene) -> None:
    policy = RetryPolicy(backoff_ms=0, deadline_base_ms=1000, deadline_factor=0)
    [ended] = scene.command(script=scripted({(0, 1): fakes.HANG}), policy=policy)
    assert ended.verdict == "complete"
    assert scene.evidence() == [(0, 1, "DEADLINE")]


def test_a_lost_node_leaves_evidence_although_a_second_attempt_has_done_its_work(scene: Scene) -> None:
    observe = FakeRunner.observe

    def silent(runner: FakeRunner) -> list[JobView]:
        views = observe(runner)
        return [replace(view, lost=(view.span, view.attempt) == (1, 1), node="node-2") for view in views]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRunner, "observe", silent)
        [ended] = scene.command(script=scripted({(1, 1): fakes.HANG}), max_parallel=1)
    assert ended.verdict == "complete"
    assert scene.evidence() == [(1, 1, "DISRUPTED.node_lost")]
    report = Report.decode(scene.store.get(KEYS.report))
    assert (report.spans[1].attempts, report.spans[1].failures) == (2, ("DISRUPTED.node_lost",))
    assert scene.status().failures == 1
    assert scene.reporter.reported("chunk 1, attempt 1 failed (DISRUPTED.node_lost): its node stopped responding")
    assert not scene.reporter.reported("it is tried again for a while"), "no user action is needed"


def test_a_chunk_lost_for_good_fails_the_run_and_keeps_what_is_done(scene: Scene) -> None:
    [ended] = scene.command(script=lambda job: fakes.NOTHING if job.span == 2 else fakes.DONE)
    assert ended.verdict == "failed"
    assert ended.summary.startswith("chunk 2 failed 3 times, last NO_RESULT: ")
    assert (ended.files, scene.marker()) == ((), "failed")
    assert scene.store.stat(KEYS.final) is None
    assert Outcome.decode(scene.store.get(KEYS.marker("failed"))).summary == ended.summary
    assert len(list(scene.store.list(KEYS.results))) == 2


def test_the_rest_is_written_when_gaps_are_allowed(scene: Scene) -> None:
    base = scene.folder / "talk"
    asked = run_request(None, base, on_chunk_failure="gap")
    [ended] = scene.command(asked, script=lambda job: fakes.NOTHING if job.span == 1 else fakes.DONE)
    assert (ended.verdict, ended.summary) == ("partial", "1 chunk without a result: marked as gaps")
    assert scene.marker() == "partial"
    assert "[no transcript from 00:00:10 to 00:00:20]" in (scene.folder / "talk.txt").read_text()
    assert json.loads(scene.transcript())["gaps"] == [{"start": 10.0, "end": 20.0}]
    assert Final.decode(scene.store.get(KEYS.final)).lost == (1,)


def test_a_full_gpu_is_tried_again_with_less(scene: Scene) -> None:
    record = fakes.record(batch_size=8, compute_type="float16")
    full = fakes.fails_with(ExitCode.CUDA_OOM)
    [ended] = scene.command(run_request(record), script=scripted({(0, 1): full, (0, 2): full}))
    assert ended.verdict == "complete"
    tried = [job.task_key for job in scene.runner.submitted if job.span == 0]
    assert tried == [KEYS.task(0), KEYS.task(0, 1), KEYS.task(0, 2)]
    options = [ChunkTask.decode(scene.store.get(key)).options for key in tried]
    assert [(one.batch_size, one.compute_type) for one in options] == [(8, "float16"), (1, "float16"), (1, "int8")]


def test_results_of_two_models_do_not_become_one_transcript(scene: Scene) -> None:
    def swap(_: int) -> None:
        for entry in scene.store.list(KEYS.results_of(1)):
            scene.store.put(entry.key, scene.store.get(entry.key).replace(b"d" * 64, b"e" * 64))

    [ended] = scene.command(meanwhile=swap)
    assert ended.verdict == "failed"
    assert "2 different models" in ended.summary
    assert scene.marker() == "failed"


# ---------------------------------------------------------------- the language


def little_speech(speech_ms: dict[int, int]) -> Script:
    """Chunks with too little speech to decide: each leaves a language candidate, and works once a language is set."""

    def script(job: Job) -> fakes.JobBehaviour:
        if job.span is None or job.span not in speech_ms:
            return fakes.DONE
        return fakes.JobBehaviour(leaves="note", speech_ms=speech_ms.pop(job.span))

    return script


def test_the_first_chunk_with_enough_speech_decides_for_all(scene: Scene) -> None:
    [ended] = scene.command(run_request(fakes.record(language=None)), script=little_speech({0: 800}), max_parallel=3)
    assert ended.verdict == "complete"
    assert [span for span, _ in scene.attempts()] == [None, 0, 1, 0, 2]
    assert Language.decode(scene.store.get(KEYS.language)).span == 1
    assert scene.evidence() == []
    decided = scene.store.when(f"put {KEYS.language}")
    assert scene.store.when(f"submit {fakes.RUN} chunk 2") > decided


def test_when_no_chunk_has_enough_speech_the_best_candidate_is_pinned(scene: Scene) -> None:
    script = little_speech({0: 100, 1: 900, 2: 500})
    [ended] = scene.command(run_request(fakes.record(language=None)), script=script)
    assert ended.verdict == "complete"
    assert [span for span, _ in scene.attempts()] == [None, 0, 1, 2, 0, 1, 2]
    pinned = Language.decode(scene.store.get(KEYS.language))
    assert (pinned.span, pinned.language, pinned.speech_ms) == (1, "pt", 900)
    assert scene.evidence() == []


# ---------------------------------------------------------------- several runs


def test_several_runs_share_the_slots_and_the_first_fills_them(scene: Scene) -> None:
    run_requests = [run_request(fakes.record(run, name=run)) for run in (RUN, OTHER)]
    ended = scene.command(*run_requests, max_parallel=3)
    assert [one.verdict for one in ended] == ["complete", "complete"]
    assert scene.runner.most_at_once == 3
    chunks = [job.run for job in scene.runner.submitted if job.span is not None]
    assert chunks[:3] == [RUN] * 3


@pytest.mark.parametrize("max_parallel", [1, 2, 5])
def test_there_are_never_more_jobs_than_slots(scene: Scene, max_parallel: int) -> None:
    run_requests = [run_request(fakes.record(f"{number:016x}")) for number in range(4)]
    ended = scene.command(
        *run_requests, max_parallel=max_parallel, script=scripted({(1, 1): fakes.CRASH, (0, 1): fakes.KILLED})
    )
    assert [one.verdict for one in ended] == ["complete"] * 4
    assert scene.runner.most_at_once == max_parallel


def test_a_list_of_files_is_not_a_list_of_locks(scene: Scene) -> None:
    led: list[int] = []
    run_requests = [run_request(fakes.record(f"{number:016x}")) for number in range(20)]
    ended = scene.command(*run_requests, max_parallel=2, meanwhile=lambda _: led.append(len(scene.runner.led)))
    assert [one.run for one in ended] == [f"{number:016x}" for number in range(20)]
    assert max(led) <= 5, "two that are transcribed, two that are cut, and the next one"
    assert sorted(scene.runner.released) == [one.run for one in ended]


def test_the_first_job_starts_when_the_first_run_is_open_for_any_number_of_slots(scene: Scene) -> None:
    run_requests = [run_request(fakes.record(f"{number:04x}{0:012x}")) for number in range(600)]

    def opened() -> int:
        return sum(1 for entry in scene.store.journal if entry.startswith("put") and entry.endswith("/run.json"))

    begun: list[tuple[int, int]] = []
    hang: dict[tuple[int | None, int], fakes.JobBehaviour] = {(None, 1): fakes.HANG}
    stop = scene.interrupt_at(12)

    def meanwhile(ticks: int) -> None:
        begun.append((opened(), len(scene.runner.submitted)))
        stop(ticks)

    with pytest.raises(Interrupted):
        scene.command(*run_requests, max_parallel=500, script=scripted(hang), meanwhile=meanwhile)
    before = scene.store.journal[: scene.store.when("submit ")]
    assert sum(1 for entry in before if entry.endswith("/run.json")) == 1
    assert begun[0] == (1, 1)
    assert begun[-1] == (64, 62), (
        "an eighth of the max_parallel are intakes, and two more runs are ready for the next ones"
    )


def test_a_first_run_with_a_missing_object_does_not_end_the_command(scene: Scene) -> None:
    bad = [f"{number:04x}{0:012x}" for number in range(3)]

    class Blocked(JournalStore):
        def put(self, key: str, data: bytes) -> None:
            if any(key.startswith(RunKeys(run).work) for run in bad):
                raise StoreUnavailable(f"{key} is in the way", "remove it")
            super().put(key, data)

    scene.store = Blocked(scene.folder / "store")
    ended = scene.command(*(run_request(fakes.record(run)) for run in bad), run_request(), max_parallel=8)
    assert [one.verdict for one in ended] == ["failed"] * 3 + ["complete"]


def test_runs_that_need_no_intake_fill_the_slots(scene: Scene) -> None:
    scene.chunks_ms = (10_000,)
    run_requests = [run_request(fakes.record(f"{number:04x}{0:012x}")) for number in range(20)]
    crash: dict[tuple[int | None, int], fakes.JobBehaviour] = {(0, attempt): fakes.CRASH for attempt in (1, 2, 3)}
    assert {one.verdict for one in scene.command(*run_requests, max_parallel=16, script=scripted(crash))} == {"failed"}
    running: list[int] = []

    def meanwhile(ticks: int) -> None:
        running.append(sum(1 for view in scene.runner.observe() if view.span is not None))
        scene.interrupt_at(20)(ticks)

    stuck: dict[tuple[int | None, int], fakes.JobBehaviour] = {(0, attempt): fakes.HANG for attempt in range(1, 9)}
    with pytest.raises(Interrupted):
        scene.command(*run_requests, max_parallel=16, script=scripted(stuck), meanwhile=meanwhile)
    assert max(running) == 16
    assert all(job.span is not None for job in scene.runner.submitted)


def test_one_bad_file_does_not_end_the_others(scene: Scene) -> None:
    run_requests = [run_request(fakes.record(OTHER)), run_request()]
    bad = fakes.fails_with(ExitCode.BAD_INPUT, "no audio")
    ended = scene.command(*run_requests, script=lambda job: bad if job.run == OTHER else fakes.DONE)
    assert [(one.verdict, one.summary) for one in ended] == [("failed", "no audio"), ("complete", "transcribed")]


def test_a_run_whose_objects_are_damaged_is_lost_and_the_others_are_not(scene: Scene) -> None:
    class Spoiled(JournalStore):
        def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
            return b"{" if key == RunKeys(OTHER).record else super().get(key, max_bytes=max_bytes)

    scene.store = Spoiled(scene.folder / "store")
    ended = scene.command(run_request(fakes.record(OTHER)), run_request())
    assert [(one.verdict, one.environment) for one in ended] == [("failed", True), ("complete", False)]
    assert "damaged: RunRecord: " in ended[0].summary
    assert not scene.runner.led


def test_a_damaged_chunk_is_cut_again_before_its_next_attempt(scene: Scene) -> None:
    damaged = fakes.fails_with(ExitCode.CHUNK_DAMAGED, "other samples")
    [ended] = scene.command(script=scripted({(1, 1): damaged}), max_parallel=1)
    assert ended.verdict == "complete"
    assert scene.attempts() == [(None, 1), (0, 1), (1, 1), (2, 1), (None, 2), (1, 2)]
    assert scene.evidence() == [(1, 1, "CHUNK_DAMAGED")]
    assert scene.store.when(f"delete {KEYS.audio(1)}") < scene.store.when(f"delete {KEYS.task(1)}")


def test_a_folder_that_is_full_fails_the_run_after_a_few_attempts_and_reports_once_what_helps(scene: Scene) -> None:
    full = fakes.fails_with(ExitCode.STORE_FULL, "no room for results", "free space there")
    [ended] = scene.command(script=lambda job: fakes.DONE if job.span is None else full, policy=RetryPolicy())
    assert (ended.verdict, ended.environment, ended.advice) == ("failed", True, "free space there")
    assert "no room for results" in ended.summary
    assert len([job for job in scene.runner.submitted if job.span is not None]) <= 3 * 3
    helps = [
        text
        for _, text in scene.reporter.events
        if text.startswith("it is tried again for a while, until the cause of")
    ]
    assert helps == ["it is tried again for a while, until the cause of STORE_FULL is fixed: free space there"]
    assert scene.clock.now_ms() - fakes.START_MS < 60_000


def test_a_server_that_is_away_keeps_its_many_attempts_and_what_it_waits_for_is_reported_once(scene: Scene) -> None:
    away = fakes.fails_with(ExitCode.STORE_UNAVAILABLE, "no answer in time", "see whether it is up")
    script: dict[tuple[int | None, int], fakes.JobBehaviour] = {(0, attempt): away for attempt in range(1, 8)}
    [ended] = scene.command(script=scripted(script))
    assert ended.verdict == "complete"
    helps = [text for _, text in scene.reporter.events if "see whether it is up" in text]
    assert helps == [
        "it is tried again for a while, until the cause of STORE_UNAVAILABLE is fixed: see whether it is up"
    ]


def test_a_chunk_that_is_damaged_again_and_again_fails_the_run(scene: Scene) -> None:
    damaged = fakes.fails_with(ExitCode.CHUNK_DAMAGED, "other samples")
    [ended] = scene.command(script=lambda job: damaged if job.span == 1 else fakes.DONE)
    assert (ended.verdict, ended.environment) == ("failed", True)
    assert ended.summary == "chunk 1 failed 3 times, last CHUNK_DAMAGED: other samples"


def test_chunks_whose_audio_was_deleted_together_are_cut_again_together(scene: Scene) -> None:
    damaged = fakes.fails_with(ExitCode.CHUNK_DAMAGED, "gone")
    many: dict[tuple[int | None, int], fakes.JobBehaviour] = {(span, 1): damaged for span in range(6)}
    scene.chunks_ms = (10_000,) * 6
    [ended] = scene.command(script=scripted(many), max_parallel=6)
    assert ended.verdict == "complete"
    assert len([job for job in scene.runner.submitted if job.span is None]) == 2


def test_a_result_deleted_before_the_merge_is_transcribed_again(scene: Scene) -> None:
    def meanwhile(_: int) -> None:
        results = [entry.key for entry in scene.store.list(KEYS.results)]
        if len(results) == 2 and not scene.store.journal.count("spoiled"):
            scene.store.journal.append("spoiled")
            scene.store.put(results[0], b"{")

    [ended] = scene.command(max_parallel=1, meanwhile=meanwhile)
    assert ended.verdict == "complete"
    assert scene.reporter.reported("chunk 0: its result is not valid any more")
    assert (0, 2) in scene.attempts()
    assert scene.evidence() == [(0, 1, "RESULT_INVALID")]


# ---------------------------------------------------------------- again


def test_a_complete_run_is_returned_as_it_is(scene: Scene) -> None:
    scene.command()
    before = scene.transcript()
    base = scene.folder / "again"
    [ended] = scene.command(run_request(None, base))
    assert (scene.runner.submitted, ended.verdict) == ([], "complete")
    assert scene.reporter.reported(f"run {RUN} is already complete")
    assert (scene.folder / "again.json").read_bytes() == before == scene.transcript()


def test_a_run_resumes_where_a_signal_stopped_it(scene: Scene) -> None:
    with pytest.raises(Interrupted) as caught:
        scene.command(meanwhile=scene.interrupt_at(7), max_parallel=1)
    assert caught.value.exit_code == 128 + signal.SIGTERM
    assert scene.runner.closed is True
    assert scene.status().state == "interrupted"
    done = [entry.key for entry in scene.store.list(KEYS.results)]
    assert 0 < len(done) < 3
    round_id = Round.decode(scene.store.get(KEYS.round)).id
    [ended] = scene.command(max_parallel=1)
    assert ended.verdict == "complete"
    assert scene.reporter.reported(f"resuming run {RUN}, chunks done so far: {len(done)}")
    assert [span for span, _ in scene.attempts()] == list(range(len(done), 3))
    assert Round.decode(scene.store.get(KEYS.round)).id == round_id
    assert scene.runner.closed is False


def test_a_run_interrupted_anywhere_gives_the_same_bytes(tmp_path: Path) -> None:
    calm = Scene(tmp_path / "calm")
    calm.command()
    ticks = len(calm.reporter.shown)
    for tick in range(1, ticks):
        scene = Scene(tmp_path / str(tick))
        with pytest.raises(Interrupted):
            scene.command(meanwhile=scene.interrupt_at(tick))
        committed = {entry.key: scene.store.get(entry.key) for entry in scene.store.list(KEYS.results)}
        scene.command()
        assert scene.transcript() == calm.transcript()
        assert all(scene.store.get(key) == data for key, data in committed.items())


def test_after_a_failure_the_next_command_has_fresh_budgets_and_fresh_numbers(scene: Scene) -> None:
    scene.command(script=lambda job: fakes.NOTHING if job.span == 2 else fakes.DONE)
    first = Round.decode(scene.store.get(KEYS.round)).id
    scene.command(script=scripted({(2, 4): fakes.NOTHING, (2, 5): fakes.NOTHING}))
    assert scene.attempts() == [(2, 4), (2, 5), (2, 6)]
    assert Round.decode(scene.store.get(KEYS.round)).id != first
    assert scene.marker() == "complete"
    assert len(scene.evidence()) == 5


def test_after_a_gap_the_next_command_tries_to_fill_it(scene: Scene) -> None:
    asked = run_request(on_chunk_failure="gap")
    scene.command(asked, script=lambda job: fakes.NOTHING if job.span == 1 else fakes.DONE)
    [ended] = scene.command(asked)
    assert (ended.verdict, scene.marker()) == ("complete", "complete")
    assert scene.attempts() == [(1, 4)]
    assert json.loads(scene.transcript())["gaps"] == []


def test_a_cancel_ends_the_run_and_keeps_what_is_done(scene: Scene) -> None:
    def cancel(ticks: int) -> None:
        if ticks == 6:
            scene.store.put(KEYS.cancel, b"")

    [ended] = scene.command(max_parallel=1, meanwhile=cancel)
    assert (ended.verdict, scene.marker(), scene.status().state) == ("cancelled", None, "cancelled")
    first = Round.decode(scene.store.get(KEYS.round)).id
    done = len(list(scene.store.list(KEYS.results)))
    assert 0 < done < 3
    [ended] = scene.command(max_parallel=1)
    assert ended.verdict == "complete"
    assert len(scene.attempts()) == 3 - done
    assert Round.decode(scene.store.get(KEYS.round)).id != first
    assert scene.store.stat(KEYS.cancel) is None


def test_deleted_audio_is_cut_again(scene: Scene) -> None:
    with pytest.raises(Interrupted):
        scene.command(meanwhile=scene.interrupt_at(7), max_parallel=1)
    left = [entry.key for entry in scene.store.list(f"{KEYS.work}audio/")]
    for key in left:
        scene.store.delete(key)
    [ended] = scene.command(max_parallel=1)
    assert ended.verdict == "complete"
    assert scene.attempts()[0][0] is None


# ---------------------------------------------------------------- followers


def test_a_follower_gives_the_leaders_verdict_and_writes_its_own_files(scene: Scene) -> None:
    leader = Scene(scene.folder)

    def lead(ticks: int) -> None:
        if ticks == 3:
            leader.command()
            scene.runner.led_by_others.clear()

    base = scene.folder / "mine"
    [ended] = scene.command(run_request(None, base), led_by_others=frozenset({RUN}), meanwhile=lead)
    assert (ended.verdict, scene.runner.submitted) == ("complete", [])
    assert scene.reporter.reported(f"run {RUN} is worked on by another process: following it")
    assert len([text for _, text in scene.reporter.events if "following it" in text]) == 1
    assert (scene.folder / "mine.json").read_bytes() == scene.transcript()
    assert scene.reporter.shown[1][0].state == "following"


def test_a_follower_shows_the_progress_of_the_leader(scene: Scene) -> None:
    leader = Scene(scene.folder)

    def lead(ticks: int) -> None:
        if ticks == 3:
            with pytest.raises(Interrupted):
                leader.command(meanwhile=leader.interrupt_at(7), max_parallel=1)
        if ticks == 40:
            scene.runner.led_by_others.clear()

    scene.command(led_by_others=frozenset({RUN}), meanwhile=lead)
    seen = [runs[0] for runs in scene.reporter.shown if runs[0].state == "following"]
    shown = leader.reporter.shown[-1][0]
    assert (seen[0].percent, seen[0].total_ms) == (0.0, 0)
    assert (seen[-1].spans_done, seen[-1].spans_known) == (shown.spans_done, 3)
    assert (seen[-1].done_ms, seen[-1].total_ms) == (shown.done_ms, 30_000)
    assert seen[-1].percent == round(shown.percent, 1) > 10


def test_the_end_of_a_wait_is_reported_and_a_long_wait_that_returns_is_reported_again(scene: Scene) -> None:
    observe = FakeRunner.observe
    begun_ms = scene.clock.at_ms

    def waiting(runner: FakeRunner) -> list[JobView]:
        s = (scene.clock.at_ms - begun_ms) / 1000
        views = observe(runner)
        if 2 <= s < 40 or 50 <= s < 60:
            return [replace(view, waits_for="no Secret", phase="queued", diagnosis=None) for view in views]
        return views

    slow = replace(fakes.DONE, takes_ms=70_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRunner, "observe", waiting)
        scene.command(script=lambda job: slow if job.span == 0 else fakes.DONE)
    messages = [text for _, text in scene.reporter.events if "wait" in text]
    assert [text.partition(":")[0] for text in messages] == ["chunk 0 waits", "no job waits any more"] * 2
    assert messages[1] == "no job waits any more: chunk 0 starts after 38 s"


def test_jobs_that_were_just_started_run_and_those_that_wait_do_not(scene: Scene) -> None:
    scene.command(max_parallel=1)
    at_work = [runs[0] for runs in scene.reporter.shown if runs[0].state == "running" and runs[0].spans_known]
    assert {run.running for run in at_work if run.spans_done < 3} == {1}
    assert all(run.queued == 0 for run in at_work)


def test_in_an_outage_runs_are_shown_as_held(scene: Scene) -> None:
    observe, ticks = FakeRunner.observe, itertools.count()

    def away(runner: FakeRunner) -> list[JobView]:
        if 5 <= next(ticks) < 8:
            raise ClusterUnavailable("the API server does not answer")
        return observe(runner)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRunner, "observe", away)
        scene.command(policy=replace(POLICY, store_patience_ms=60_000))
    assert sum(runs[0].held for runs in scene.reporter.shown) == 3
    assert not scene.reporter.shown[-1][0].held


def test_a_reason_to_wait_is_reported_once_for_all_jobs_however_often_it_returns(scene: Scene) -> None:
    reasons = itertools.cycle(["no image", "0/3 nodes have room", "0/4 nodes have room"])
    observe = FakeRunner.observe

    def waiting(runner: FakeRunner) -> list[JobView]:
        reason = next(reasons)
        return [replace(view, waits_for=reason) for view in observe(runner)]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRunner, "observe", waiting)
        scene.command()
    messages = [text.partition(" waits: ")[2] for _, text in scene.reporter.events if " waits: " in text]
    assert sorted(messages) == ["0/3 nodes have room", "no image"] or sorted(messages) == [
        "0/4 nodes have room",
        "no image",
    ]


@pytest.mark.parametrize("verdict", ["failed", "cancelled"])
def test_a_follower_gives_the_failure_or_cancel_of_its_leader(scene: Scene, verdict: str) -> None:
    leader = Scene(scene.folder)

    def lead(ticks: int) -> None:
        if ticks == 3:
            cancel = (lambda _: scene.store.put(KEYS.cancel, b"")) if verdict == "cancelled" else lambda _: None
            leader.command(script=lambda job: fakes.NOTHING if job.span == 0 else fakes.DONE, meanwhile=cancel)
            scene.runner.led_by_others.clear()

    [ended] = scene.command(led_by_others=frozenset({RUN}), meanwhile=lead)
    assert ended.verdict == verdict
    assert scene.runner.submitted == []


@pytest.mark.parametrize("verdict", ["complete", "failed"])
def test_a_follower_stopped_after_the_leader_has_ended_gives_its_verdict(scene: Scene, verdict: str) -> None:
    leader = Scene(scene.folder)
    base = scene.folder / "mine"
    script = (lambda job: fakes.NOTHING if job.span == 0 else fakes.DONE) if verdict == "failed" else None

    def lead(ticks: int) -> None:
        if ticks == 3:
            leader.command(script=script)
            scene.clock.asked_to_stop = signal.SIGTERM

    [ended] = scene.command(run_request(None, base), led_by_others=frozenset({RUN}), meanwhile=lead)
    assert (ended.verdict, scene.runner.submitted) == (verdict, [])
    assert (scene.folder / "mine.txt").exists() is (verdict == "complete")
    assert scene.runner.released == [], "this process never held its lock"


def test_a_follower_stopped_while_the_leader_works_is_interrupted(scene: Scene) -> None:
    leader = Scene(scene.folder)

    def lead(ticks: int) -> None:
        if ticks == 3:
            with pytest.raises(Interrupted):
                leader.command(meanwhile=leader.interrupt_at(7), max_parallel=1)
            scene.clock.asked_to_stop = signal.SIGTERM

    with pytest.raises(Interrupted):
        scene.command(led_by_others=frozenset({RUN}), meanwhile=lead)


def test_a_leader_killed_early_does_not_give_the_verdict_of_an_earlier_round(scene: Scene) -> None:
    scene.command(script=lambda job: fakes.NOTHING if job.span == 0 else fakes.DONE)
    assert scene.marker() == "failed"

    def die(ticks: int) -> None:
        if ticks == 3:
            scene.runner.led_by_others.clear()

    [ended] = scene.command(led_by_others=frozenset({RUN}), meanwhile=die)
    assert ended.verdict == "complete"


def test_a_standby_leads_no_other_run_while_the_leader_of_the_same_command_works(scene: Scene) -> None:
    seen: list[set[str]] = []

    def meanwhile(ticks: int) -> None:
        seen.append(set(scene.runner.led))
        if ticks == 10:
            scene.runner.led_by_others.clear()

    run_requests = [replace(run_request(), round="job-1"), replace(run_request(fakes.record(OTHER)), round="job-1")]
    ended = scene.command(*run_requests, led_by_others=frozenset({RUN}), meanwhile=meanwhile)
    assert seen[:10] == [set()] * 10
    assert [one.verdict for one in ended] == ["complete", "complete"]


def test_two_commands_that_share_a_run_continue_with_their_other_runs(scene: Scene) -> None:
    seen: list[set[str]] = []

    def meanwhile(ticks: int) -> None:
        seen.append(set(scene.runner.led))
        if ticks == 10:
            scene.runner.led_by_others.clear()

    scene.command(run_request(), run_request(fakes.record(OTHER)), led_by_others=frozenset({RUN}), meanwhile=meanwhile)
    assert {OTHER} in seen[:10]


def test_a_follower_takes_over_from_a_killed_leader(scene: Scene) -> None:
    leader = Scene(scene.folder)

    def die(ticks: int) -> None:
        if ticks == 3:
            with pytest.raises(Interrupted):
                leader.command(meanwhile=leader.interrupt_at(7), max_parallel=1)
            scene.runner.led_by_others.clear()

    [ended] = scene.command(led_by_others=frozenset({RUN}), meanwhile=die)
    assert ended.verdict == "complete"
    assert 0 < len(scene.runner.submitted) < 3
    assert scene.reporter.reported("resuming run")


def test_a_command_started_again_in_its_round_gives_the_same_verdict(scene: Scene) -> None:
    first = replace(run_request(), round="job-1")
    [failed] = scene.command(first, script=lambda job: fakes.NOTHING if job.span == 1 else fakes.DONE)
    assert failed.verdict == "failed"
    spent = len(scene.runner.submitted)
    [again] = scene.command(first)
    assert (again.verdict, again.summary, scene.runner.submitted) == ("failed", failed.summary, [])
    [later] = scene.command(replace(first, round="job-2"))
    assert later.verdict == "complete"
    assert [job.attempt for job in scene.runner.submitted] == [4]
    assert spent == 1 + 2 + 3


def test_a_command_started_again_in_its_round_retries_environment_failures(scene: Scene) -> None:
    mine = replace(run_request(), round="job-1")
    lacking = scripted({(0, 1): fakes.fails_with(ExitCode.CONFIG), (0, 2): fakes.fails_with(ExitCode.CONFIG)})
    for round_number in (1, 2):
        [failed] = scene.command(mine, script=lacking)
        assert (failed.verdict, failed.environment) == ("failed", True)
        assert len(scene.evidence()) == round_number
    [ended] = scene.command(mine, script=lacking)
    assert ended.verdict == "complete"
    assert scene.marker() == "complete"


def test_a_run_that_is_cancelled_after_such_a_failure_stays_cancelled(scene: Scene) -> None:
    mine = replace(run_request(), round="job-1")
    [failed] = scene.command(mine, script=scripted({(0, 1): fakes.fails_with(ExitCode.CONFIG)}))
    assert failed.environment
    scene.store.put(KEYS.cancel, b"")
    assert [one.verdict for one in scene.command(mine)] == ["cancelled"]


def test_a_crashed_command_resumes_its_round_with_the_rest_of_its_budget(scene: Scene) -> None:
    mine = replace(run_request(), round="job-1")
    twice = scripted({(1, 1): fakes.CRASH, (1, 2): fakes.HANG})
    with pytest.raises(Interrupted):
        scene.command(mine, script=twice, meanwhile=scene.interrupt_at(40))
    [failed] = scene.command(mine, script=lambda job: fakes.CRASH if job.span == 1 else fakes.DONE)
    assert failed.verdict == "failed"
    assert "failed 3 times" in failed.summary
    assert len(scene.evidence()) == 3


def test_a_cancelled_round_stays_cancelled_and_another_round_starts(scene: Scene) -> None:
    mine = replace(run_request(), round="job-1")

    def cancel(ticks: int) -> None:
        if ticks == 5:
            scene.store.put(KEYS.cancel, b"")

    assert [one.verdict for one in scene.command(mine, meanwhile=cancel)] == ["cancelled"]
    assert [one.verdict for one in scene.command(mine)] == ["cancelled"]
    assert [one.verdict for one in scene.command(replace(mine, round="job-2"))] == ["complete"]


def test_an_outage_of_the_cluster_is_waited_for_without_requests_for_as_long_as_it_asks(scene: Scene) -> None:
    busy = [ClusterUnavailable("busy", retry_after_s=7)]
    times = []

    def meanwhile(ticks: int) -> None:
        times.append(scene.clock.at_ms)
        if ticks == 3:
            observe = scene.runner.observe

            def refuse() -> list[JobView]:
                if busy:
                    raise busy.pop()
                return observe()

            scene.runner.observe = refuse  # type: ignore[method-assign]

    policy = RetryPolicy(backoff_ms=0, store_patience_ms=60_000)
    [ended] = scene.command(policy=policy, meanwhile=meanwhile)
    assert ended.verdict == "complete"
    assert scene.reporter.reported("busy: waiting up to 60 s for it to come back")
    assert scene.reporter.reported("back after 7 s")
    assert max(later - earlier for earlier, later in itertools.pairwise(times)) == 7_000


@pytest.mark.parametrize("answered", [False, True])
def test_a_busy_server_is_not_reported_as_a_wrong_address(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, answered: bool
) -> None:
    polls = iter(range(3))
    acquire = FakeLeadership.try_acquire_or_renew

    def busy(leadership: FakeLeadership, run: str, now_ms: int) -> LeaseState:
        if next(polls, None) is not None:
            raise ClusterUnavailable("busy", answered=answered)
        return acquire(leadership, run, now_ms)

    monkeypatch.setattr(FakeLeadership, "try_acquire_or_renew", busy)
    policy = RetryPolicy(backoff_ms=0, store_patience_ms=60_000)
    if answered:
        assert [one.verdict for one in scene.command(policy=policy)] == ["complete"]
    else:
        with pytest.raises(EnvironmentProblem, match="busy"):
            scene.command(policy=policy)


def test_the_status_is_kept_current_during_an_outage_of_the_cluster(scene: Scene) -> None:
    seen = []

    def meanwhile(ticks: int) -> None:
        if ticks == 3:
            scene.runner.observe = away  # type: ignore[method-assign]
        if ticks > 3:
            seen.append(scene.clock.at_ms - scene.status().updated_ms)

    def away() -> list[JobView]:
        raise ClusterUnavailable("away")

    policy = RetryPolicy(backoff_ms=0, store_patience_ms=60_000)
    with pytest.raises(EnvironmentProblem, match="away"):
        scene.command(policy=policy, meanwhile=meanwhile)
    assert len(seen) > 500
    assert max(seen) < 10_000


class SharedStore(JournalStore):
    """A store that machines share, as S3 is."""

    remote = True


class Elsewhere:
    """A command on another machine, as seen from this one: it leads, and then ends or is killed."""

    def __init__(self, scene: Scene) -> None:
        scene.store = SharedStore(scene.folder / "store")
        self.scene = scene
        self.lease = StoreLease(scene.store, RUN, "there")

    def leads(self) -> None:
        while self.lease.try_acquire_or_renew(self.scene.clock.at_ms) != "leading":
            self.scene.clock.at_ms += 500

    def renews(self, ticks: int) -> None:
        self.lease.try_acquire_or_renew(self.scene.clock.at_ms)

    def finishes(self) -> None:
        there = Scene(self.scene.folder)
        there.command()
        self.lease.release()


def test_a_run_led_on_another_machine_is_followed_to_its_verdict(scene: Scene) -> None:
    other = Elsewhere(scene)
    other.leads()

    def meanwhile(ticks: int) -> None:
        if ticks < 100:
            other.renews(ticks)
        if ticks == 100:
            other.finishes()

    [ended] = scene.command(meanwhile=meanwhile)
    assert (ended.verdict, scene.runner.submitted) == ("complete", [])
    assert scene.reporter.reported(f"run {RUN} is worked on by another process: following it")
    assert scene.store.stat(KEYS.lease) is None


def test_a_dead_leader_of_another_machine_is_given_up_and_its_run_continues(scene: Scene) -> None:
    other = Elsewhere(scene)
    other.leads()
    [ended] = scene.command(meanwhile=lambda ticks: other.renews(ticks) if ticks < 100 else None)
    assert ended.verdict == "complete"
    assert scene.reporter.reported("following it")
    assert len(scene.runner.submitted) == 4


def test_a_suspended_leader_that_lost_its_run_stops_its_jobs_and_follows(scene: Scene) -> None:
    other = Elsewhere(scene)
    submitted = {}

    def meanwhile(ticks: int) -> None:
        if ticks == 15:
            assert scene.runner.observe(), "it works on it"
            scene.store.put(
                KEYS.lease, LeaseRecord(owner=b"another0".hex(), lock_domain="there", renew_count=1).encode()
            )
        if ticks == 60:
            assert scene.runner.observe() == []
            submitted["while following"] = len(scene.runner.submitted)
        if ticks == 100:
            submitted["at its end"] = len(scene.runner.submitted)
            other.finishes()
            scene.store.delete(KEYS.lease)

    [ended] = scene.command(
        script=lambda job: fakes.DONE if job.span is None else replace(fakes.DONE, takes_ms=3_000), meanwhile=meanwhile
    )
    assert ended.verdict == "complete"
    assert scene.reporter.reported("following it")
    assert submitted["while following"] == submitted["at its end"] == len(scene.runner.submitted)


def test_no_more_runs_are_claimed_than_are_worked_on(scene: Scene) -> None:
    Elsewhere(scene)
    runs = [f"{number:016x}" for number in range(20)]
    leads = set()

    def meanwhile(ticks: int) -> None:
        held = sum(1 for run in runs if scene.store.stat(RunKeys(run).lease))
        leads.add(held)

    ended = scene.command(*(run_request(fakes.record(run)) for run in runs), max_parallel=2, meanwhile=meanwhile)
    assert [one.verdict for one in ended] == ["complete"] * 20
    assert max(leads) <= 5
    assert all(scene.store.stat(RunKeys(run).lease) is None for run in runs)


# ---------------------------------------------------------------- objects that have served


def test_audio_is_deleted_when_its_result_exists(scene: Scene) -> None:
    scene.command()
    assert list(scene.store.list(f"{KEYS.work}audio/")) == []
    assert scene.store.when(f"put {KEYS.results_of(1)}") < scene.store.when(f"delete {KEYS.audio(1)}")


def test_audio_stays_when_it_is_to_be_kept(scene: Scene) -> None:
    scene.command(run_request(keep_chunks=True))
    assert len(list(scene.store.list(f"{KEYS.work}audio/"))) == 3


def test_audio_of_an_invalid_result_stays_for_the_next_attempt(scene: Scene) -> None:
    scene.command(script=lambda job: fakes.GARBAGE if job.span == 1 else fakes.DONE)
    assert [entry.key for entry in scene.store.list(f"{KEYS.work}audio/")] == [KEYS.audio(1)]


# ---------------------------------------------------------------- outputs and outages


def test_an_unwritable_output_is_an_environment_problem_and_written_by_the_next_command(scene: Scene) -> None:
    (scene.folder / "out").write_text("a file where a folder should be")
    asked = run_request(None, scene.folder / "out" / "talk")
    [ended] = scene.command(asked)
    assert (ended.verdict, ended.environment, ended.files) == ("failed", True, ())
    assert f"{scene.folder / 'out'}" in ended.summary
    assert scene.marker() is None
    assert scene.runner.released == [], "a follower would take the release of the lock for the end of the run"
    (scene.folder / "out").unlink()
    [ended] = scene.command(asked)
    assert (ended.verdict, scene.runner.submitted, scene.marker()) == ("complete", [], "complete")
    assert (scene.folder / "out" / "talk.json").read_bytes() == scene.transcript()


def test_an_output_replaces_what_was_there_whole(scene: Scene) -> None:
    (scene.folder / "talk.txt").write_text("old")
    scene.command(replace(run_request(None, scene.folder / "talk"), overwrite=True))
    assert (scene.folder / "talk.txt").read_text().startswith("w0a")
    assert not [entry for entry in scene.folder.iterdir() if entry.name.endswith(".tmp")]


class FlakyStore(JournalStore):
    """A store that is away for some polls."""

    away = False

    def put(self, key: str, data: bytes) -> None:
        self._answer()
        super().put(key, data)

    def stat(self, key: str) -> StoredObject | None:
        self._answer()
        return super().stat(key)

    def _answer(self) -> None:
        if self.away:
            raise StoreUnavailable("the store is away", "wait for it")


@pytest.mark.parametrize("patience_ms,survives", [(0, False), (500, False), (60_000, True)])
def test_an_outage_of_the_store_is_waited_for_as_long_as_the_policy_allows(
    scene: Scene, patience_ms: int, survives: bool
) -> None:
    flaky = scene.store = FlakyStore(scene.folder / "store")

    def outage(ticks: int) -> None:
        flaky.away = 4 <= ticks < 24

    policy = RetryPolicy(backoff_ms=0, store_patience_ms=patience_ms)
    if survives:
        [ended] = scene.command(meanwhile=outage, policy=policy)
        assert ended.verdict == "complete"
        assert scene.reporter.reported("the store is away: waiting up to 60 s for it to come back")
        assert scene.reporter.reported("back after 2 s")
    else:
        with pytest.raises(EnvironmentProblem, match="the store is away"):
            scene.command(meanwhile=outage, policy=policy)
        assert scene.runner.closed is True


def test_a_store_that_never_answered_is_a_wrong_address(scene: Scene) -> None:
    flaky = scene.store = FlakyStore(scene.folder / "store")
    flaky.away = True
    with pytest.raises(EnvironmentProblem, match="the store is away"):
        scene.command(policy=RetryPolicy(store_patience_ms=60_000))
    assert scene.clock.at_ms == fakes.START_MS, "no time passed"


def test_an_os_error_is_reported_with_its_path(scene: Scene) -> None:
    def no_more_processes(job: Job) -> fakes.JobBehaviour:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable", "/usr/bin/python")

    with pytest.raises(EnvironmentProblem, match="/usr/bin/python: Resource temporarily unavailable"):
        scene.command(script=no_more_processes)
    assert scene.runner.closed is True


# ---------------------------------------------------------------- what one run alone cannot reach


NAMES = ("a", "b", "c", "d")
PATIENT = RetryPolicy(backoff_ms=0, store_patience_ms=60_000)


def four(scene: Scene) -> list[RunRequest]:
    """Four runs, each with an output of its own."""
    return [run_request(fakes.record(name * 16, name=f"{name}.mp4"), scene.folder / "out" / name) for name in NAMES]


@pytest.fixture
def closed_output(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Runs whose outputs cannot be written, as in an outage of a bucket."""
    closed: set[str] = set()
    write = outputs.write_outputs

    def refuse(request: Request, transcript: TranscriptFiles, rules: OutputRules) -> outputs.WrittenOutputs:
        if request.run in closed:
            raise StoreUnavailable("the output bucket is away", "wait for it")
        return write(request, transcript, rules)

    monkeypatch.setattr(delivery, "write_outputs", refuse)
    return closed


def merges(scene: Scene, run: str) -> int:
    return scene.store.journal.count(f"put {RunKeys(run).transcript('json')}")


def test_a_run_whose_outputs_cannot_be_written_costs_the_others_nothing(scene: Scene, closed_output: set[str]) -> None:
    closed_output.add("a" * 16)
    ended = scene.command(*four(scene), policy=PATIENT)
    assert [(one.verdict, one.environment) for one in ended] == [("failed", True), *[("complete", False)] * 3]
    assert ended[0].summary == "the output bucket is away"
    assert "stenofleet render aaaaaaaaaaaaaaaa -o FOLDER" in ended[0].advice
    assert merges(scene, "a" * 16) == 1, "a merged run is not merged again when its outputs cannot be written"
    assert scene.reporter.reported("the output bucket is away: tried again for up to 60 s, others continue")
    assert sorted(path.stem for path in (scene.folder / "out").iterdir()) == sorted([*NAMES[1:], *NAMES[1:]])
    closed_output.clear()
    assert [one.verdict for one in scene.command(*four(scene))] == ["complete"] * 4


def test_outputs_that_can_be_written_again_are_written_at_once_and_not_merged_again(
    scene: Scene, closed_output: set[str]
) -> None:
    closed_output.add("a" * 16)

    def meanwhile(_: int) -> None:
        if scene.reporter.reported("others continue") and scene.clock.at_ms - fakes.START_MS > 20_000:
            closed_output.clear()

    ended = scene.command(*four(scene), policy=PATIENT, meanwhile=meanwhile)
    assert [one.verdict for one in ended] == ["complete"] * 4
    assert merges(scene, "a" * 16) == 1
    assert scene.reporter.reported("back after ")


def test_a_job_that_a_webhook_refuses_for_a_while_costs_the_other_runs_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    submit = FakeRunner.submit
    refused = []

    def refuse(runner: FakeRunner, job: Job) -> None:
        if (job.run, job.span) == ("a" * 16, 1) and scene.clock.at_ms - fakes.START_MS < 30_000:
            refused.append(scene.clock.at_ms)
            raise ClusterUnavailable("the admission webhook does not answer", answered=True)
        submit(runner, job)

    monkeypatch.setattr(FakeRunner, "submit", refuse)
    ended_ms: dict[str, int] = {}

    def meanwhile(_: int) -> None:
        for run in scene.reporter.shown[-1]:
            if run.state == "complete":
                ended_ms.setdefault(run.run, scene.clock.at_ms)

    ended = scene.command(*four(scene), policy=PATIENT, meanwhile=meanwhile)
    assert [one.verdict for one in ended] == ["complete"] * 4
    assert max(ended_ms[name * 16] for name in NAMES[1:]) - fakes.START_MS < 10_000, "the others did not wait for it"
    assert len(refused) < 15, "the pauses between requests grow"


def test_ended_runs_are_reported_although_the_store_fails_for_the_rest(scene: Scene) -> None:
    flaky = scene.store = FlakyStore(scene.folder / "store")

    def meanwhile(_: int) -> None:
        flaky.away = flaky.away or any(run.state == "complete" for run in scene.reporter.shown[-1])

    ended = scene.command(*four(scene), policy=RetryPolicy(backoff_ms=0, store_patience_ms=5_000), meanwhile=meanwhile)
    verdicts = [one.verdict for one in ended]
    assert len(verdicts) == 4
    assert set(verdicts) == {"complete", "failed"}
    assert {one.summary for one in ended if one.verdict == "failed"} == {"the store is away"}
    assert scene.runner.closed is True, "running jobs are left for the next command"


def test_a_status_is_written_before_the_lock_is_released(scene: Scene) -> None:
    released = []
    release = FakeRunner.release

    def note(runner: FakeRunner, run: str) -> None:
        released.append(len(scene.store.journal))
        release(runner, run)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FakeRunner, "release", note)
        scene.command()
    assert not [entry for entry in scene.store.journal[released[0] :] if entry.startswith("put")]
    assert scene.status().state == "complete"


def test_in_an_outage_of_the_store_no_request_is_made_at_the_end(scene: Scene) -> None:
    flaky = scene.store = FlakyStore(scene.folder / "store")
    asked = []

    def meanwhile(ticks: int) -> None:
        flaky.away = ticks >= 4
        if ticks == 8:
            scene.clock.asked_to_stop = signal.SIGTERM
            answer = flaky._answer

            def count() -> None:
                asked.append(1)
                answer()

            flaky._answer = count  # type: ignore[method-assign]

    with pytest.raises(Interrupted):
        scene.command(*four(scene), policy=PATIENT, meanwhile=meanwhile)
    assert asked == []


def test_a_final_request_that_hangs_is_abandoned(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_module, "_STATUS_S", 0.05)
    monkeypatch.setattr(run_module, "_CLOSE_S", 0.05)
    over = threading.Event()
    put = JournalStore.put

    def hang(store: JournalStore, key: str, data: bytes) -> None:
        if b"interrupted" in data:
            over.wait(20)
        put(store, key, data)

    monkeypatch.setattr(JournalStore, "put", hang)
    monkeypatch.setattr(FakeRunner, "close", lambda *_, **__: over.wait(20))
    try:
        with pytest.raises(Interrupted):
            scene.command(meanwhile=scene.interrupt_at(7), max_parallel=1)
        assert not over.is_set()
    finally:
        over.set()


# ---------------------------------------------------------------- another version in the middle of a run


def begun(scene: Scene) -> RunRecord:
    """Interrupt a run when its first chunk is done; the same run, requested by another version of the program."""
    with pytest.raises(Interrupted):
        scene.command(meanwhile=scene.interrupt_at(6), max_parallel=1)
    assert len(list(scene.store.list(KEYS.results))) == 1
    return fakes.record().model_copy(update={"versions": {"stenofleet": "9.9"}})


def test_another_version_resumes_a_run_and_transcribes_no_chunk_again(scene: Scene) -> None:
    newer = begun(scene)
    [ended] = scene.command(run_request(newer))
    assert ended.verdict == "complete"
    assert {job.span for job in scene.runner.submitted} == {1, 2}
    assert RunRecord.decode(scene.store.get(KEYS.record)).versions == {"stenofleet": "0"}, (
        "the version that began it is kept"
    )


def test_tasks_that_this_version_does_not_know_are_cut_again(scene: Scene) -> None:
    newer = begun(scene)
    for span in (1, 2):
        raw = scene.store.get(KEYS.task(span))
        scene.store.put(KEYS.task(span), raw.replace(b"stenofleet.task/1", b"stenofleet.task/2"))
    [ended] = scene.command(run_request(newer))
    assert ended.verdict == "complete"
    assert [job.span for job in scene.runner.submitted].count(None) == 1
    assert {job.span for job in scene.runner.submitted} == {None, 1, 2}
    assert scene.reporter.reported("is invalid and was removed")
