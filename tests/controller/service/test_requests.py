"""Requests in the store: a crash between any two writes leaves a state that the next call completes."""

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from chunk_job.contract import TranscribeOptions
from chunk_job.store.base import StoredObject
from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunOutcome
from controller.domain.plan import PlanOptions
from controller.domain.service_documents import ServiceRequest
from controller.domain.service_keys import RequestKey, RequestKeys, idempotent_id, parse_entry
from controller.service import requests as requests_module
from controller.service import turns
from controller.service.limits import LimitExceeded
from controller.service.requests import AnotherBody, RequestStore, TriedAgain
from controller.service.turns import Turns

NOW_MS = 1_700_000_000_000
ID = idempotent_id("news", "a key")
KEY = RequestKey("news", ID)


def request(**changes: Any) -> ServiceRequest:
    whole = ServiceRequest(
        id=ID,
        tenant="news",
        created_ms=NOW_MS,
        body_sha256="a" * 64,
        name="talk.mp4",
        source="s3://media/talk.mp4",
        upload=None,
        audio_track=None,
        plan=PlanOptions(),
        options=TranscribeOptions(),
        speaker_names=(),
        on_chunk_failure="fail",
        keep_chunks=False,
        output=None,
        callback_url="",
        labels={},
        priority=5,
    )
    return whole.model_copy(update=changes)


OUTCOME = RunOutcome(run="0123456789abcdef", name="talk.mp4", verdict="complete", summary="transcribed")


class Killed(BaseException):
    """The process has ended here."""


class Mortal(FileStore):
    """A store whose process is killed before its *left*-th next change."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.left = 10**9

    def put(self, key: str, data: bytes) -> None:
        self._count()
        super().put(key, data)

    def put_new(self, key: str, data: bytes) -> bool:
        self._count()
        return super().put_new(key, data)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


class Suspended(Mortal):
    """A store whose process is suspended before its *left*-th next change; *meanwhile* is what others do then."""

    def __init__(self, root: Path, left: int, meanwhile: Callable[[RequestStore], object]) -> None:
        super().__init__(root)
        self.left, self.was_suspended = left, False
        self._meanwhile = meanwhile

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0 and not self.was_suspended:
            self.was_suspended = True
            # Of another process, which has turns of its own.
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(requests_module, "_TURNS", Turns())
                self._meanwhile(RequestStore(FileStore(self.root)))


@pytest.fixture
def store(tmp_path: Path) -> Mortal:
    return Mortal(tmp_path)


def objects(store: FileStore) -> list[str]:
    """The keys."""
    return sorted(entry.key for entry in store.list(""))


def settle(requests: RequestStore, end: RunOutcome = OUTCOME, retries: int = 0) -> None:
    """All that follows the end of a run."""
    ended = requests.end(request(), retries, end, now_ms=NOW_MS + 9)
    requests.announce(request(), ended)
    requests.leave_queue(request(), ended)


def retried(requests: RequestStore) -> None:
    found = requests.find(KEY)
    assert found
    requests.retry(found, now_ms=NOW_MS + 20)


STEPS: list[tuple[str, list[Callable[[RequestStore], object]], str]] = [
    ("accept", [lambda requests: requests.accept(request())], "queued"),
    ("end", [lambda requests: requests.accept(request()), settle], "complete"),
    (
        "retry",
        [
            lambda requests: requests.accept(request()),
            lambda requests: settle(requests, RunOutcome(run="", name="x", verdict="failed", summary="no")),
            retried,
        ],
        "queued",
    ),
]


@pytest.mark.parametrize("steps, status", [row[1:] for row in STEPS], ids=[row[0] for row in STEPS])
def test_a_process_that_is_killed_anywhere_in_the_last_step_is_completed_by_the_same_call(
    tmp_path: Path, steps: list[Callable[[RequestStore], object]], status: str
) -> None:
    whole = Mortal(tmp_path / "whole")
    for step in steps:
        step(RequestStore(whole))
    wanted, killed_at = objects(whole), 0
    for left in range(20):
        store = Mortal(tmp_path / str(left))
        for step in steps[:-1]:
            step(RequestStore(store))
        store.left = left
        try:
            steps[-1](RequestStore(store))
        except Killed:
            killed_at += 1
            store.left = 10**9
            steps[-1](RequestStore(store))
        found = RequestStore(store).find(KEY)
        assert found
        assert (objects(store), found.status) == (wanted, status)
        if killed_at <= left:
            break
    assert killed_at > 2


@pytest.mark.parametrize("steps", [STEPS[0][1], STEPS[2][1]], ids=[STEPS[0][0], STEPS[2][0]])
def test_what_was_not_put_into_the_queue_because_a_process_was_killed_can_be_cancelled(
    tmp_path: Path, steps: list[Callable[[RequestStore], object]]
) -> None:
    for left in range(2, 6):
        store = Mortal(tmp_path / str(left))
        for step in steps[:-1]:
            step(RequestStore(store))
        store.left = left
        with contextlib.suppress(Killed):
            steps[-1](RequestStore(store))
        store.left = 10**9
        RequestStore(store).cancel(KEY)
        assert [len(list(store.list(prefix))) for prefix in ("queue/", "cancels/")] == [1, 1]


def test_what_was_accepted_is_accepted_again_and_another_body_is_not(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    again = requests.accept(request(created_ms=NOW_MS + 5))
    assert again.created_ms == NOW_MS
    with pytest.raises(AnotherBody):
        requests.accept(request(body_sha256="b" * 64))


def test_a_request_that_has_ended_is_not_queued_again_by_its_key(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    settle(requests)
    requests.accept(request())
    assert list(store.list("queue/")) == []


def test_the_first_end_counts(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    settle(requests)
    later = RunOutcome(run="", name="x", verdict="failed", summary="late")
    assert requests.end(request(), 0, later, now_ms=NOW_MS + 99).status == "complete"


def test_a_late_state_of_a_suspended_process_does_not_change_the_end(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    settle(requests)
    requests.put_state(request(), "running", retries=0, run=OUTCOME.run, now_ms=NOW_MS + 50)
    found = requests.find(KEY)
    assert found
    assert found.status == "complete"


def test_keys_of_others_are_not_found(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    assert requests.find(RequestKey("other", ID)) is None
    # Somebody has copied the object: it is still that of its tenant.
    copied = RequestKeys(RequestKey("other", ID)).request
    store.put(copied, store.get(RequestKeys(KEY).request))
    assert requests.find(RequestKey("other", ID)) is None


def test_the_queue_has_higher_priorities_first_and_then_the_older(store: Mortal) -> None:
    keys = RequestKeys(KEY)
    entries = [(1, 10), (9, 30), (9, 20), (5, 10)]
    for priority, created_ms in entries:
        store.put(keys.entry(priority=priority, created_ms=created_ms, retries=0), b"")
    found = [entry for item in store.list("queue/") if (entry := parse_entry(item.key))]
    assert [(one.priority, one.created_ms) for one in found] == [(9, 20), (9, 30), (5, 10), (1, 10)]


def test_a_page_costs_the_same_with_many_requests(store: Mortal) -> None:
    requests = RequestStore(store)
    read: list[str] = []
    for number in range(300):
        one = request(id=idempotent_id("news", str(number)), created_ms=NOW_MS + number)
        requests.accept(one)
    get = store.get

    def counted(key: str, *, max_bytes: int = 1 << 30) -> bytes:
        read.append(key)
        return get(key, max_bytes=max_bytes)

    store.get = counted  # type: ignore[method-assign]
    page, cursor = requests.page("news", after="", most=5)
    assert [state.created_ms for state in page] == [NOW_MS + number for number in (299, 298, 297, 296, 295)]
    following, _ = requests.page("news", after=cursor, most=5)
    assert following[0].created_ms == NOW_MS + 294
    assert len(read) == 10


def test_whoever_records_an_end_late_takes_nothing_from_the_next_round(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    failed = RunOutcome(run="", name="x", verdict="failed", summary="no")
    settle(requests, failed)
    retried(requests)
    before = objects(store)
    # Another process began to record the same end, and goes on only now.
    settle(requests, failed)
    assert objects(store) == before
    assert list(store.list("queue/"))


def test_a_late_cancel_ends_no_later_round_and_goes_with_the_request(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    settle(requests, RunOutcome(run="", name="x", verdict="failed", summary="no"))
    store.put(RequestKeys(KEY).cancel(0), b"")
    retried(requests)
    requests.drop_old_cancel(KEY, 0)
    assert list(store.list("cancels/")) == []
    settle(requests, retries=1)
    requests.cancel(KEY)
    found = requests.find(KEY)
    assert found
    requests.remove(found)
    assert objects(store) == []


def test_a_round_that_was_cancelled_before_it_began_has_the_run_of_the_round_before(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    requests.put_state(request(), "running", retries=0, run=OUTCOME.run, now_ms=NOW_MS)
    settle(requests, RunOutcome(run=OUTCOME.run, name="x", verdict="partial", summary="with gaps"))
    retried(requests)
    settle(requests, RunOutcome(run="", name="x", verdict="cancelled", summary="cancelled"), retries=1)
    found = requests.find(KEY)
    assert found
    assert found.end
    assert found.end.run_id == OUTCOME.run
    store.put(f"runs/{OUTCOME.run}/transcript.json", b"{}")
    requests.remove(found)
    assert list(store.list("")) == []


def test_an_event_costs_the_same_after_many(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    for number in range(30):
        requests.events.add(KEY, "message", str(number), retries=0, now_ms=NOW_MS)
    read: list[str] = []
    get = store.get

    def counted(key: str, *, max_bytes: int = 1 << 30) -> bytes:
        read.append(key)
        return get(key, max_bytes=max_bytes)

    store.get = counted  # type: ignore[method-assign]
    requests.events.add(KEY, "started", "started", retries=0, now_ms=NOW_MS)
    requests.events.add(KEY, "started", "again", retries=0, now_ms=NOW_MS)
    assert len(read) == 2
    assert [event.text for _, event in requests.events.after(KEY, "000030")] == ["29", "started"]


def test_of_many_rounds_few_are_looked_at(store: Mortal) -> None:
    requests = RequestStore(store)
    for retries in range(1, 1000):
        store.put_new(RequestKeys(KEY).round(retries), b"")
        if retries in (1, 2, 3, 4, 7, 8, 500, 999):
            assert requests.retries(KEY) == retries
    asked: list[str] = []
    stat = store.stat

    def counted(key: str) -> StoredObject | None:
        asked.append(key)
        return stat(key)

    store.stat = counted  # type: ignore[method-assign]
    assert requests.retries(KEY) == 999
    assert len(asked) < 25


FAILED = RunOutcome(run="", name="x", verdict="failed", summary="no")
LATE = RunOutcome(run="", name="x", verdict="cancelled", summary="late")


def started(requests: RequestStore, retries: int = 0) -> None:
    requests.put_state(request(), "running", retries=retries, run=OUTCOME.run, now_ms=NOW_MS + 1)
    requests.events.add(KEY, "started", "started", retries=retries, now_ms=NOW_MS + 1, status="running")


def completed_in_the_second_try(requests: RequestStore) -> None:
    """What others do while one is suspended: the request ends, is tried again, and is complete then."""
    requests.accept(request())
    started(requests)
    settle(requests, FAILED)
    retried(requests)
    started(requests, 1)
    settle(requests, retries=1)


def retried_late(requests: RequestStore) -> None:
    found = requests.find(KEY)
    assert found
    if found.end and found.end.status != "complete":
        requests.retry(found, now_ms=NOW_MS + 30)


LATE_STEPS: list[tuple[str, list[Callable[[RequestStore], object]], Callable[[RequestStore], object]]] = [
    ("accept", [], lambda requests: requests.accept(request())),
    ("begin", [lambda requests: requests.accept(request())], started),
    ("end", [lambda requests: requests.accept(request()), started], lambda requests: settle(requests, LATE)),
    ("cancel", [lambda requests: requests.accept(request())], lambda requests: requests.cancel(KEY)),
]


@pytest.mark.parametrize("before, late", [row[1:] for row in LATE_STEPS], ids=[row[0] for row in LATE_STEPS])
def test_a_process_that_was_suspended_anywhere_changes_nothing_that_others_have_done(
    tmp_path: Path, before: list[Callable[[RequestStore], object]], late: Callable[[RequestStore], object]
) -> None:
    suspended = 0
    for left in range(20):
        store = Suspended(tmp_path / str(left), 10**9, completed_in_the_second_try)
        for step in before:
            step(RequestStore(store))
        store.left = left
        late(RequestStore(store))
        if not store.was_suspended:
            break
        suspended += 1
        requests = RequestStore(FileStore(store.root))
        found = requests.find(KEY)
        assert found
        assert (found.status, found.retries) == ("complete", 1)
        assert found.state.status == "complete"
        # What it wrote into the queue late goes with the next look into it: its round has ended.
        queued = [entry.retries for item in store.list("queue/") if (entry := parse_entry(item.key))]
        assert queued in ([], [0])
        if queued:
            requests.leave_queue(request(), requests.ended(KEY, 0) or pytest.fail("no end"))
        types = [event.type for _, event in requests.events.after(KEY, "")]
        assert [kind for kind in types if kind != "retried"] == ["accepted", "started", "ended", "started", "ended"]
        assert types[3] == "retried"
        assert list(store.list("cancels/")) == []
        requests.remove(found)
        assert objects(store) == []
    assert suspended


def test_a_retry_that_was_suspended_begins_no_round_again(tmp_path: Path) -> None:
    def others(requests: RequestStore) -> None:
        retried_late(requests)
        settle(requests, FAILED, retries=1)
        retried_late(requests)

    for left in range(5):
        store = Suspended(tmp_path / str(left), 10**9, others)
        requests = RequestStore(store)
        requests.accept(request())
        settle(requests, FAILED)
        store.left = left
        retried(requests)
        found = requests.find(KEY)
        assert found
        expected = 2 if store.was_suspended else 1
        assert (found.status, found.retries) == ("queued", expected)
        entries = [entry.retries for item in store.list("queue/") if (entry := parse_entry(item.key))]
        assert expected in entries


def test_a_process_that_was_suspended_leaves_nothing_of_a_request_that_was_deleted(tmp_path: Path) -> None:
    def deleted(requests: RequestStore) -> None:
        settle(requests, FAILED)
        found = requests.find(KEY)
        assert found
        requests.remove(found)

    for left in range(10):
        store = Suspended(tmp_path / str(left), 10**9, deleted)
        requests = RequestStore(store)
        requests.accept(request())
        store.left = left
        settle(requests, LATE)
        if not store.was_suspended:
            break
        assert objects(store) == []


def test_two_that_accept_the_same_key_at_once_agree(tmp_path: Path) -> None:
    for left in range(5):
        store = Suspended(
            tmp_path / str(left), left, lambda requests: requests.accept(request(created_ms=NOW_MS + 5, labels={}))
        )
        accepted = RequestStore(store).accept(request())
        assert RequestStore(store).request(KEY) == accepted
        assert len(list(store.list("queue/"))) == 1
        assert len(list(store.list("index/"))) == 1


def test_of_two_different_requests_with_the_same_key_at_once_one_is_refused(tmp_path: Path) -> None:
    def accepts(requests: RequestStore, digit: str) -> None:
        try:
            requests.accept(request(body_sha256=digit * 64))
        except AnotherBody:
            refused.append(digit)

    for left in range(5):
        refused: list[str] = []
        store = Suspended(tmp_path / str(left), left, lambda requests: accepts(requests, "b"))
        accepts(RequestStore(store), "a")
        stored = RequestStore(store).request(KEY)
        assert stored
        assert stored.body_sha256[0] not in refused
        assert len(refused) == store.was_suspended
        assert len(list(store.list("queue/"))) == 1


def test_a_request_is_accepted_under_the_id_of_one_of_which_something_was_left(store: Mortal) -> None:
    requests = RequestStore(store)
    store.put_new(RequestKeys(KEY).round(1), b"")
    requests.events.add(KEY, "message", "of a suspended process", retries=1, now_ms=NOW_MS)
    requests.accept(request())
    assert list(store.list("queue/"))
    assert [event.type for _, event in requests.events.after(KEY, "")] == ["accepted"]


def test_a_deletion_that_was_suspended_leaves_the_next_request_with_the_same_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests_module, "_TRUSTED_S", -1.0)

    def others(requests: RequestStore) -> None:
        found = requests.find(KEY)
        assert found
        requests.remove(found)
        requests.accept(request(created_ms=NOW_MS + 500))

    for left in range(2):
        store = Suspended(tmp_path / str(left), 10**9, others)
        requests = RequestStore(store)
        requests.accept(request())
        settle(requests, FAILED)
        found = requests.find(KEY)
        assert found
        store.left = left
        requests.remove(found)
        again = requests.find(KEY)
        assert store.was_suspended
        assert again
        assert (again.request.created_ms, again.status) == (NOW_MS + 500, "queued")
        assert [event.type for _, event in requests.events.after(KEY, "")] == ["accepted"]


def test_a_deletion_that_was_killed_anywhere_can_be_repeated(tmp_path: Path) -> None:
    for left in range(20):
        store = Mortal(tmp_path / str(left))
        requests = RequestStore(store)
        requests.accept(request())
        settle(requests, FAILED)
        retried(requests)
        settle(requests, FAILED, retries=1)
        found = requests.find(KEY)
        assert found
        store.left = left
        try:
            requests.remove(found)
        except Killed:
            store.left = 10**9
            again = requests.find(KEY)
            assert again
            assert again.end or requests.events.is_empty(KEY)
            requests.remove(again)
            assert objects(store) == []
        else:
            break


def test_an_end_that_others_have_seen_is_not_replaced(tmp_path: Path) -> None:
    for left in range(6):
        store = Suspended(tmp_path / str(left), 10**9, lambda requests: settle(requests, FAILED))
        requests = RequestStore(store)
        requests.accept(request())
        store.left = left
        settle(requests, LATE)
        found = requests.find(KEY)
        assert found
        # Suspended before it could store its own end: the other one counts.
        expected = "failed" if left == 0 else "cancelled"
        assert (found.status, found.state.status) == (expected, expected)
        ends = [event.status for _, event in requests.events.after(KEY, "") if event.type == "ended"]
        assert ends == [expected]


def test_events_of_many_processes_are_read_once_each_and_in_order(tmp_path: Path) -> None:
    requests = RequestStore(FileStore(tmp_path))
    requests.accept(request())
    written = {f"{writer} {number}" for writer in range(4) for number in range(15)}
    read: list[tuple[str, str]] = []

    def write(writer: int) -> None:
        for number in range(15):
            RequestStore(FileStore(tmp_path)).events.add(KEY, "message", f"{writer} {number}", retries=0, now_ms=NOW_MS)

    with ThreadPoolExecutor(4) as pool:
        futures = [pool.submit(write, writer) for writer in range(4)]
        while not all(future.done() for future in futures):
            # A client that is cut off again and again.
            read += [(name, event.text) for name, event in requests.events.after(KEY, read[-1][0] if read else "")]
    for future in futures:
        future.result()
    read += [(name, event.text) for name, event in requests.events.after(KEY, read[-1][0] if read else "")]
    assert sorted(text for _, text in read[1:]) == sorted(written)
    assert read == [(name, event.text) for name, event in requests.events.after(KEY, "")]


def test_a_deletion_takes_the_runs_of_all_rounds(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    settle(requests, RunOutcome(run="1" * 16, name="x", verdict="failed", summary="no"))
    retried(requests)
    # The recording was replaced meanwhile: it is another run.
    started(requests, 1)
    settle(requests, retries=1)
    for run in ("1" * 16, OUTCOME.run):
        store.put(f"runs/{run}/run.json", b"{}")
        store.put(f"work/{run}/tasks/00000.json", b"{}")
    found = requests.find(KEY)
    assert found
    requests.remove(found)
    assert objects(store) == []


def test_what_is_tried_again_at_that_moment_is_not_deleted(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    settle(requests, FAILED)
    before = requests.find(KEY)
    assert before
    retried(requests)
    with pytest.raises(TriedAgain):
        requests.remove(before)
    after = requests.find(KEY)
    assert after
    assert (after.status, after.retries) == ("queued", 1)


def test_a_run_that_ends_after_its_request_was_deleted_goes_too(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    for key in RequestKeys(KEY).request, RequestKeys(KEY).indexed(NOW_MS):
        store.delete(key)
    store.put(f"runs/{OUTCOME.run}/transcript.json", b"{}")
    settle(requests)
    assert objects(store) == []


def test_who_repeats_a_call_that_takes_long_is_refused_soon(store: Mortal, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAIT_S", 0.05)
    requests = RequestStore(store)
    with requests_module._TURNS.of(KEY), pytest.raises(LimitExceeded):
        requests.accept(request())
    requests.accept(request())


def test_a_tenant_that_deletes_many_at_once_leaves_threads_to_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "WAIT_S", 0.05)
    some = Turns()
    with some.of(RequestKey("news", "1"), most=2), some.of(RequestKey("news", "2"), most=2):
        with pytest.raises(LimitExceeded, match="2 runs"), some.of(RequestKey("news", "3"), most=2):
            pass
        with some.of(RequestKey("radio", "3"), most=2), some.of(RequestKey("news", "4")):
            pass
    with some.of(RequestKey("news", "3"), most=2):
        pass
