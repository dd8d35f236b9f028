"""One run's objects: rounds, which objects are accepted, and which are written."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from chunk_job.contract import ChunkTask, JobFailure, Language, TranscribeOptions, sha256_hex
from chunk_job.store.base import StoredObject
from controller.domain import failures
from controller.domain.actions import Delete, Finish, Submit
from controller.domain.documents import Evidence, Outcome, Report, Request, Round, RunRecord
from controller.domain.failures import Diagnosis, FailureClass
from controller.domain.jobs import JobView
from controller.domain.keys import MARKERS, RunKeys
from controller.domain.plan import Clip, PlanOptions
from controller.errors import PlanMismatch
from controller.runs import result_index
from controller.runs.repository import RunRepository
from tests import fakes
from tests.fakes import JournalStore

KEYS = RunKeys(fakes.RUN)
RECORD = fakes.record()
NOW = fakes.START_MS
CRASHED = Diagnosis(failure=FailureClass.NATIVE_CRASH, summary="it crashed", advice="look", details=("last line",))


@pytest.fixture
def store(tmp_path: object, request: pytest.FixtureRequest) -> JournalStore:
    return JournalStore(request.getfixturevalue("tmp_path") / "store")


def opened(store: JournalStore, record: RunRecord = RECORD, **wishes: bool) -> RunRepository:
    repository = RunRepository(store, record, fakes.request(record, **wishes))  # type: ignore[arg-type]
    assert repository.open() is None
    return repository


def put_tasks(store: JournalStore, *spans: int, record: RunRecord = RECORD, planned: bool = True) -> None:
    for span in spans:
        store.put(KEYS.audio(span), b"flac")
        store.put(KEYS.task(span), fakes.task(record, span).encode())
    if planned:
        store.put(KEYS.plan, fakes.plan(*(10_000 * (span + 1) for span in range(len(spans)))).encode())


def put_result(store: JournalStore, span: int, attempt: int = 1, *, uid: str = "u", text: str = " said") -> str:
    answered = fakes.result(fakes.task(RECORD, span), fakes.segment((text, 0, 100)), attempt=attempt, uid=uid)
    key = f"{KEYS.results_of(span)}a{attempt}-{uid}.json"
    store.put(key, answered.encode())
    return key


def view(span: int | None, attempt: int = 1) -> JobView:
    return JobView(
        run=fakes.RUN,
        span=span,
        attempt=attempt,
        name="n",
        uid="u",
        phase="ended",
        since_ms=fakes.START_MS,
        diagnosis=CRASHED,
    )


def round_of(store: JournalStore) -> str:
    return Round.decode(store.get(KEYS.round)).id


def concluded(store: JournalStore, *, lost: tuple[int, ...] = ()) -> Outcome:
    """A run of three chunks that has ended, without results of those that are *lost*."""
    put_tasks(store, 0, 1, 2)
    for span in {0, 1, 2} - set(lost):
        put_result(store, span)
    repository = opened(store)
    ended = repository.conclude(
        Finish(verdict="partial" if lost else "complete", lost=lost), elapsed_s=1, check=lambda: None
    )
    repository.mark(ended)
    return ended


def outcome(verdict: str) -> Outcome:
    return Outcome.model_validate(
        {"run": fakes.RUN, "verdict": verdict, "round": "0000cafe", "summary": "s", "advice": "a"}
    )


# ---------------------------------------------------------------- rounds


def test_a_new_run_gets_its_record_its_request_and_a_round(store: JournalStore) -> None:
    opened(store)
    assert RunRecord.decode(store.get(KEYS.record)) == RECORD
    request = Request.decode(store.get(KEYS.request))
    assert request.record_sha256 == sha256_hex(store.get(KEYS.record))
    assert round_of(store)


def test_a_record_is_immutable_and_the_stored_one_counts(store: JournalStore) -> None:
    opened(store)
    renamed = fakes.record(name="renamed.mp4", cpu_threads=8)
    again = opened(store, renamed)
    assert again.record == RECORD == RunRecord.decode(store.get(KEYS.record))
    assert Request.decode(store.get(KEYS.request)).record_sha256 == sha256_hex(RECORD.encode())


def test_the_same_command_again_is_the_same_round(store: JournalStore) -> None:
    opened(store)
    first = round_of(store)
    opened(store)
    assert round_of(store) == first


@pytest.mark.parametrize("verdict", ["failed", "partial"])
def test_after_a_failure_or_a_gap_there_is_a_new_round(store: JournalStore, verdict: str) -> None:
    opened(store).mark(outcome(verdict))
    first = round_of(store)
    assert opened(store).outcome() is None
    assert round_of(store) != first


def test_after_a_cancel_there_is_a_new_round_that_is_not_cancelled(store: JournalStore) -> None:
    opened(store)
    first = round_of(store)
    store.put(KEYS.cancel, b"")
    assert not opened(store).cancelled()
    assert round_of(store) != first


def commanded(store: JournalStore, name: str) -> RunRepository:
    """Opened by a command that is started again after a crash."""
    repository = RunRepository(store, RECORD, fakes.request(RECORD), round_id=name)
    repository.open()
    return repository


@pytest.mark.parametrize("first", ["", "another"])
def test_a_command_that_takes_over_a_round_owns_its_verdict(store: JournalStore, first: str) -> None:
    commanded(store, first)
    begun = round_of(store)
    repository = commanded(store, "mine")
    assert round_of(store) == begun, "it has the budgets of the resumed round"
    failed = outcome("failed").model_copy(update={"round": begun})
    repository.mark(failed)
    assert RunRepository(store, RECORD, fakes.request(RECORD), round_id="mine").open() == failed
    commanded(store, first)
    assert round_of(store) != begun


def test_a_cancel_of_a_round_applies_to_the_command_that_took_it_over(store: JournalStore) -> None:
    commanded(store, "")
    begun = round_of(store)
    commanded(store, "mine").cancel()
    assert commanded(store, "mine").cancelled()
    assert round_of(store) == begun
    assert not commanded(store, "").cancelled()
    assert round_of(store) != begun


def test_a_cancel_of_an_earlier_round_is_removed_before_the_next_round_starts(store: JournalStore) -> None:
    commanded(store, "first").cancel()
    store.journal.clear()
    commanded(store, "mine")
    assert store.when(f"delete {KEYS.cancel}") < store.when(f"put {KEYS.round}")


def test_a_complete_run_is_left_as_it_is(store: JournalStore) -> None:
    ended = concluded(store)
    before = len(store.journal)
    assert RunRepository(store, RECORD, fakes.request(RECORD)).open() == ended
    assert len(store.journal) == before


@pytest.mark.parametrize("verdict", MARKERS)
def test_the_last_object_of_a_run_contains_its_outcome(store: JournalStore, verdict: str) -> None:
    repository = opened(store)
    assert repository.outcome() is None
    repository.mark(outcome(verdict))
    assert repository.outcome() == outcome(verdict)


def test_a_run_that_ends_removes_files_of_killed_writers(store: JournalStore) -> None:
    repository = opened(store)
    left = [store.root / home / ".0011.tmp" for home in (KEYS.home, KEYS.work)]
    for path in left:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("half")
    repository.mark(outcome("complete"))
    assert not [path for path in left if path.exists()]


def test_only_failures_of_this_round_count_but_no_number_is_used_again(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    repository = opened(store)
    repository.keep_evidence(Delete(view=view(0, 2), failure=CRASHED), now_ms=5)
    repository.keep_evidence(Delete(view=view(None, 3), failure=CRASHED), now_ms=6)
    assert len(repository.state(()).evidence) == 2
    again = opened(store).state(())
    assert [(item.span, item.attempt) for item in again.evidence] == [(0, 2), (None, 3)]
    repository.mark(outcome("failed"))
    fresh = opened(store).state(())
    assert fresh.evidence == ()
    assert fresh.used_attempts == {0: 2, None: 3}


# ---------------------------------------------------------------- what is believed


def test_the_state_of_a_run_follows_from_its_objects(store: JournalStore) -> None:
    put_tasks(store, 0, 1, 2)
    put_result(store, 1)
    state = opened(store).state(())
    assert (state.tasks, state.planned, state.answered) == ({0: 10_000, 1: 10_000, 2: 10_000}, True, frozenset({1}))
    assert (state.cancelled, state.gaps_allowed, state.language_open) == (False, False, False)


def test_without_a_plan_the_tasks_are_not_all(store: JournalStore) -> None:
    put_tasks(store, 0, planned=False)
    repository = opened(store)
    assert not repository.state(()).planned
    put_tasks(store, 0, 1)
    state = repository.refresh([view(None)], now_ms=NOW)
    assert (state.planned, sorted(state.tasks)) == (True, [0, 1])


def test_a_plan_is_ignored_when_audio_of_open_spans_is_missing(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    put_result(store, 0)
    store.delete(KEYS.audio(0))
    assert opened(store).state(()).planned
    store.delete(KEYS.audio(1))
    state = opened(store).state(())
    assert (state.planned, sorted(state.tasks)) == (False, [0])
    assert store.stat(KEYS.plan) is None


def test_a_missing_task_has_no_options(store: JournalStore) -> None:
    put_tasks(store, 0)
    store.put(KEYS.task(7, 1), fakes.task(RECORD, 7).encode())
    assert sorted(opened(store).state(()).tasks) == [0]


def test_the_number_of_a_job_that_left_nothing_is_used_up(store: JournalStore) -> None:
    put_tasks(store, 0)
    repository = opened(store)
    repository.keep_evidence(Delete(view=view(0, attempt=1)), now_ms=0)
    assert repository.state(()).used_attempts == {0: 1}


@pytest.mark.parametrize("first,second", [(1, 2), (2, 1)])
def test_the_lowest_attempt_wins_whichever_came_first(store: JournalStore, first: int, second: int) -> None:
    put_tasks(store, 0)
    repository = opened(store)
    put_result(store, 0, first, text=f" {first}")
    repository.refresh([view(0, first)], now_ms=NOW)
    put_result(store, 0, second, text=f" {second}")
    repository.conclude(Finish(verdict="complete"), elapsed_s=1, check=lambda: None)
    assert store.get(KEYS.transcript("txt")) == b"1\n"
    assert b"/a1-u.json" in store.get(KEYS.final)


def test_the_report_counts_the_terms_of_the_glossary_in_winning_results(store: JournalStore) -> None:
    record = fakes.record(glossary=("Ada = aider", "etcd"))
    put_tasks(store, 0, 1, record=record)
    for span, attempt, text in ((0, 1, " Ada, ada."), (0, 2, " Ada, Ada, Ada."), (1, 1, " ADA")):
        answered = fakes.result(fakes.task(record, span), fakes.segment((text, 0, 100)), attempt=attempt)
        store.put(f"{KEYS.results_of(span)}a{attempt}-{answered.uid}.json", answered.encode())
    repository = opened(store, record)
    repository.conclude(Finish(verdict="complete"), elapsed_s=1, check=lambda: None)
    found = Report.decode(store.get(KEYS.report)).glossary
    assert [(one.term, one.hits) for one in found] == [("Ada", 3), ("etcd", 0)]


def test_the_first_key_of_an_attempt_wins(store: JournalStore) -> None:
    put_tasks(store, 0)
    put_result(store, 0, uid="b", text=" b")
    put_result(store, 0, uid="a", text=" a")
    repository = opened(store)
    repository.conclude(Finish(verdict="complete"), elapsed_s=1, check=lambda: None)
    assert store.get(KEYS.transcript("txt")) == b"a\n"


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"",
        fakes.result(fakes.task(RECORD, 1)).encode(),
        fakes.result(fakes.task(fakes.record("e" * 16), 0)).encode(),
        fakes.result(fakes.task(RECORD, 0), task_sha256="e" * 64).encode(),
        fakes.result(fakes.task(RECORD, 0), fakes.segment((" late", 0, 10_001))).encode(),
    ],
    ids=["half", "nothing", "of another span", "of another run", "of another task", "beyond its audio"],
)
def test_an_invalid_result_is_a_failure_of_its_job(store: JournalStore, data: bytes) -> None:
    put_tasks(store, 0)
    repository = opened(store)
    store.put(f"{KEYS.results_of(0)}a1-u.json", data)
    state = repository.refresh([view(0, 1), view(0, 2)], now_ms=NOW)
    assert state.answered == frozenset()
    assert [job.diagnosis and job.diagnosis.failure for job in state.jobs] == [
        FailureClass.RESULT_INVALID,
        FailureClass.NATIVE_CRASH,
    ]
    assert store.stat(KEYS.audio(0)) is not None
    put_result(store, 0, 2)
    assert repository.refresh([view(0, 2)], now_ms=NOW).answered == {0}


def test_a_result_too_large_is_not_read_into_memory(store: JournalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    put_tasks(store, 0)
    put_result(store, 0)
    monkeypatch.setattr(result_index, "longest_result_bytes", lambda _: 100)
    assert opened(store).state(()).answered == frozenset()


@pytest.mark.parametrize(
    "key", ["results/00000/notes.txt", "results/00000/a1.json", "results/00009/a1-u.json", "tasks/readme.md"]
)
def test_foreign_objects_are_ignored(store: JournalStore, key: str) -> None:
    put_tasks(store, 0)
    store.put(f"{KEYS.work}{key}", b"what is this?")
    state = opened(store).state(())
    assert (state.tasks, state.answered) == ({0: 10_000}, frozenset())


def test_the_result_of_a_running_job_is_not_requested(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    repository = opened(store)
    put_result(store, 0)
    assert repository.refresh([view(1)], now_ms=NOW).answered == frozenset()
    assert repository.refresh([view(0)], now_ms=NOW).answered == {0}


def test_unexpected_results_are_searched_once_a_minute(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    repository = opened(store)
    repository.refresh([view(1)], now_ms=NOW)
    put_result(store, 0)
    assert repository.refresh([view(1)], now_ms=NOW + 59_999).answered == frozenset()
    assert repository.refresh([view(1)], now_ms=NOW + 60_000).answered == {0}
    put_result(store, 1)
    assert repository.refresh([], now_ms=NOW + 119_999).answered == {0}
    assert repository.refresh([], now_ms=NOW + 120_000).answered == {0, 1}


def test_a_language_is_open_until_it_is_frozen(store: JournalStore) -> None:
    record = fakes.record(language=None)
    put_tasks(store, 0, 1, record=record)
    repository = opened(store, record)
    assert repository.state(()).language_open
    candidate = Language(language="pt", probability=0.5, speech_ms=900, span=1)
    store.put(KEYS.language_candidate(1), candidate.encode())
    state = repository.refresh([view(1)], now_ms=NOW)
    assert (state.language_open, state.language_candidates) == (True, {1: candidate})
    repository.freeze_language(candidate)
    assert not repository.state(()).language_open
    assert Language.decode(store.get(KEYS.language)) == candidate
    assert not opened(store, record).state(()).language_open


# ---------------------------------------------------------------- how often the store is asked


class Counting(JournalStore):
    """A store that counts its requests, by operation."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.asked: Counter[str] = Counter()

    def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
        self.asked["get"] += 1
        return super().get(key, max_bytes=max_bytes)

    def stat(self, key: str) -> StoredObject | None:
        self.asked["stat"] += 1
        return super().stat(key)

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        self.asked["list"] += 1
        return super().list(prefix, after=after)


def test_while_a_file_is_cut_a_tick_requests_only_the_next_task(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    put_tasks(store, *range(50), planned=False)
    repository = opened(store)
    cutting = replace(view(None), phase="running")
    store.asked.clear()
    assert len(repository.refresh([cutting], now_ms=NOW).tasks) == 50
    assert (store.asked["list"], store.asked["get"]) == (0, 1)
    put_tasks(store, 50, 51, planned=False)
    store.asked.clear()
    assert len(repository.refresh([cutting], now_ms=NOW).tasks) == 52
    assert (store.asked["list"], store.asked["get"]) == (0, 3)


def test_a_server_is_asked_for_new_tasks_once_a_second(tmp_path: Path) -> None:
    store = Counting(tmp_path)
    store.remote = True
    repository = opened(store)
    cutting = replace(view(None), phase="running")
    for tick in range(20):
        repository.refresh([cutting], now_ms=NOW + 100 * tick)
    store.asked.clear()
    for tick in range(20, 40):
        repository.refresh([cutting], now_ms=NOW + 100 * tick)
    assert store.asked["get"] == 2
    put_tasks(store, 0)
    assert repository.refresh([replace(cutting, phase="ended")], now_ms=NOW + 4_001).planned


@pytest.mark.parametrize("chunks", [3, 60])
def test_a_run_is_opened_with_one_request_a_document(tmp_path: Path, chunks: int) -> None:
    store = Counting(tmp_path)
    put_tasks(store, *range(chunks), planned=False)
    opened(store)
    store.asked.clear()
    opened(store)
    assert store.asked["stat"] <= 3
    assert store.asked["list"] <= 5
    assert store.asked["get"] <= chunks + 8


# ---------------------------------------------------------------- jobs


def test_a_job_gets_the_key_and_digest_of_its_task(store: JournalStore) -> None:
    put_tasks(store, 0)
    job = opened(store).job(Submit(span=0, attempt=2))
    assert (job.run, job.span, job.attempt, job.task_key) == (fakes.RUN, 0, 2, KEYS.task(0))
    assert job.task_sha256 == sha256_hex(store.get(KEYS.task(0)))


def test_an_intakes_task_does_not_depend_on_other_options_of_the_command(store: JournalStore, tmp_path: Path) -> None:
    job = opened(store).job(Submit(span=None, attempt=1))
    assert (job.span, job.task_sha256) == (None, sha256_hex(store.get(job.task_key)))
    record = fakes.record()
    other = RunRepository(
        store, record, fakes.request(record, tmp_path / "x", on_chunk_failure="gap", keep_chunks=True)
    )
    assert other.open() is None
    assert other.job(Submit(span=None, attempt=1)) == job
    moved = fakes.request(record).model_copy(update={"source": other.request.source.model_copy(update={"mtime_ns": 7})})
    again = RunRepository(store, record, moved)
    assert again.open() is None
    assert again.job(Submit(span=None, attempt=1)).task_key != job.task_key


def test_a_failure_that_is_kept_twice_counts_once(store: JournalStore) -> None:
    put_tasks(store, 0)
    repository = opened(store)
    late = Delete(view=view(0), failure=failures.deadline(7))
    for _ in range(3):
        repository.keep_evidence(late, now_ms=1)
    assert [item.attempt for item in repository.state(()).evidence] == [1]


def test_a_job_that_left_a_result_just_before_it_was_stopped_has_not_failed(store: JournalStore) -> None:
    put_tasks(store, 0)
    repository = opened(store)
    store.put(f"{KEYS.results_of(0)}a1-u.json", fakes.result(fakes.task(RECORD, 0)).encode())
    running = replace(view(0), phase="running")
    repository.keep_evidence(Delete(view=running, failure=failures.deadline(7)), now_ms=1)
    state = repository.state(())
    assert (state.answered, state.evidence) == (frozenset({0}), ())


def test_a_job_on_a_silent_node_may_have_left_a_result(store: JournalStore) -> None:
    put_tasks(store, 0)
    repository = opened(store)
    store.put(f"{KEYS.results_of(0)}a1-u.json", fakes.result(fakes.task(RECORD, 0)).encode())
    silent = replace(view(0), phase="running", lost=True)
    assert repository.refresh([replace(silent, lost=False)], now_ms=NOW).answered == frozenset()
    assert repository.refresh([silent], now_ms=NOW).answered == frozenset({0})


def test_a_job_whose_end_is_still_being_read_may_have_left_a_result(store: JournalStore) -> None:
    put_tasks(store, 0)
    repository = opened(store)
    put_result(store, 0)
    ending = replace(view(0), phase="ending", diagnosis=None)
    assert repository.refresh([ending], now_ms=NOW).answered == frozenset({0})


def test_a_degraded_task_differs_only_in_its_options_and_may_have_a_result(store: JournalStore) -> None:
    record = fakes.record(batch_size=8)
    put_tasks(store, 0, record=record)
    repository = opened(store, record)
    job = repository.job(Submit(span=0, attempt=2, degradation_level=1))
    assert job.task_key == KEYS.task(0, 1)
    whole, less = ChunkTask.decode(store.get(KEYS.task(0))), ChunkTask.decode(store.get(job.task_key))
    assert less == whole.model_copy(update={"options": whole.options.model_copy(update={"batch_size": 1})})
    answered = fakes.result(less, attempt=2)
    store.put(f"{KEYS.results_of(0)}a2-u.json", answered.encode())
    assert repository.refresh([view(0, 2)], now_ms=NOW).answered == {0}
    assert opened(store, record).state(()).answered == {0}


def test_a_degraded_task_is_written_once(store: JournalStore) -> None:
    record = fakes.record(batch_size=8)
    put_tasks(store, 0, record=record)
    repository = opened(store, record)
    repository.job(Submit(span=0, attempt=2, degradation_level=1))
    repository.job(Submit(span=0, attempt=3, degradation_level=1))
    assert store.journal.count(f"put {KEYS.task(0, 1)}") == 1


def test_evidence_holds_what_was_seen(store: JournalStore) -> None:
    repository = opened(store)
    repository.keep_evidence(Delete(view=view(3, 2), failure=CRASHED), now_ms=77)
    key = KEYS.failure(3, 2, round_of(store))
    assert Evidence.decode(store.get(key)) == Evidence(
        run=fakes.RUN,
        round=round_of(store),
        span=3,
        attempt=2,
        failure="NATIVE_CRASH",
        summary="it crashed",
        advice="look",
        details=("last line",),
        ended_ms=77,
    )


def test_a_job_that_did_not_fail_leaves_no_evidence(store: JournalStore) -> None:
    repository = opened(store)
    repository.keep_evidence(Delete(view=view(0)), now_ms=1)
    assert list(store.list(KEYS.failures)) == []


def test_the_next_intake_knows_the_removed_tasks(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    repository = opened(store)
    damaged = Diagnosis(failure=FailureClass.CHUNK_DAMAGED, summary="gone")
    repository.keep_evidence(Delete(view=view(1), failure=damaged), now_ms=1)
    state = repository.state(())
    assert (state.removed, sorted(state.tasks), state.planned) == (frozenset({1}), [0], False)
    repository.job(Submit(span=None, attempt=1))
    assert repository.state(()).removed == frozenset()


# ---------------------------------------------------------------- what is written


def test_a_result_that_came_late_is_merged_all_the_same(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    put_result(store, 0)
    repository = opened(store)
    put_result(store, 1, text=" late")
    repository.conclude(Finish(verdict="partial", lost=(1,)), elapsed_s=1, check=lambda: None)
    assert store.get(KEYS.transcript("txt")) == b"said\nlate\n"


def test_without_a_plan_nothing_is_merged(store: JournalStore) -> None:
    put_tasks(store, 0, planned=False)
    put_result(store, 0)
    repository = opened(store)
    with pytest.raises(PlanMismatch, match="has no plan to merge by"):
        repository.conclude(Finish(verdict="complete"), elapsed_s=1, check=lambda: None)
    assert repository.outcome() is None


def test_a_failed_run_has_a_report_and_no_transcript(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    put_result(store, 0)
    outcome = opened(store).conclude(
        Finish(verdict="failed", summary="why", advice="what"), elapsed_s=1, check=lambda: None
    )
    assert (outcome.verdict, outcome.summary, outcome.advice) == ("failed", "why", "what")
    assert store.stat(KEYS.report) is not None
    assert store.stat(KEYS.final) is store.stat(KEYS.transcript("json")) is None


@pytest.mark.parametrize(
    "finish,summary",
    [
        (Finish(verdict="complete"), "transcribed"),
        (Finish(verdict="partial", lost=(1,)), "1 chunk without a result: marked as gaps"),
        (Finish(verdict="partial", lost=(1, 2)), "2 chunks without a result: marked as gaps"),
    ],
)
def test_an_outcome_has_a_summary(store: JournalStore, finish: Finish, summary: str) -> None:
    put_tasks(store, 0, 1, 2)
    for span in {0, 1, 2} - set(finish.lost):
        put_result(store, span)
    repository = opened(store)
    outcome = repository.conclude(finish, elapsed_s=1, check=lambda: None)
    assert (outcome.verdict, outcome.summary) == (finish.verdict, summary)
    assert repository.outcome() is None, "only mark puts the marker, after the outputs"


def test_the_same_results_give_the_same_bytes_in_every_process(store: JournalStore) -> None:
    put_tasks(store, 0, 1)
    put_result(store, 0)
    put_result(store, 1)
    written = []
    for elapsed_s in (1.0, 99.0):
        repository = opened(store)
        repository.conclude(Finish(verdict="complete"), elapsed_s=elapsed_s, check=lambda: None)
        written.append({entry.key: store.get(entry.key) for entry in store.list(KEYS.home)})
    changed = {key for key in written[0] if written[0][key] != written[1][key]}
    assert changed == {KEYS.report}


@pytest.mark.parametrize("key", [KEYS.plan, KEYS.task(0), KEYS.round, KEYS.record, KEYS.failure(0, 1, "0000cafe")])
def test_a_damaged_document_is_as_if_it_were_not_there(store: JournalStore, key: str) -> None:
    put_tasks(store, 0, 1)
    put_result(store, 0)
    put_result(store, 1)
    opened(store)
    store.put(key, JobFailure(code=1, summary="", advice="").encode())
    repository = opened(store)
    state = repository.state(())
    assert state.evidence == ()
    assert state.planned is (key not in (KEYS.plan, KEYS.task(0)))
    assert state.answered == ({1} if key == KEYS.task(0) else {0, 1})
    assert repository.record == RECORD == RunRecord.decode(store.get(KEYS.record))


def test_options_that_a_degradation_level_does_not_change_are_the_tasks_own(store: JournalStore) -> None:
    record = fakes.record(compute_type="int8", batch_size=1)
    put_tasks(store, 0, record=record)
    repository = opened(store, record)
    job = repository.job(Submit(span=0, attempt=4, degradation_level=3))
    options: TranscribeOptions = ChunkTask.decode(store.get(job.task_key)).options
    assert options == record.options


def test_a_plan_for_other_clips_than_those_of_the_run_is_removed(store: JournalStore) -> None:
    put_tasks(store, 0, planned=False)
    clips = (Clip(start_ms=0, end_ms=10_000),)
    plan = fakes.plan(10_000)
    for right, wrong in (((), clips), (clips, ())):
        record = RECORD.model_copy(update={"plan": PlanOptions(clips=right)})
        repository = RunRepository(store, record, fakes.request(record))
        store.put(KEYS.plan, plan.model_copy(update={"clips": wrong}).encode())
        store.delete(KEYS.record)
        repository.open()
        assert (repository.state(()).planned, store.stat(KEYS.plan)) == (False, None)
        store.put(KEYS.plan, plan.model_copy(update={"clips": right}).encode())
        repository = RunRepository(store, record, fakes.request(record))
        repository.open()
        assert repository.state(()).planned
