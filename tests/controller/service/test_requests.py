"""Requests in the store: a crash between any two writes leaves a state that the next call completes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chunk_job.contract import TranscribeOptions
from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunOutcome
from controller.domain.plan import PlanOptions
from controller.domain.service_documents import ServiceRequest
from controller.domain.service_keys import RequestKey, RequestKeys, idempotent_id, parse_entry
from controller.service.requests import AnotherBody, RequestStore

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


class Killed(Exception):
    """The process has ended here."""


class Mortal(FileStore):
    """A store whose process is killed before its *left*-th next change."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.left = 10**9

    def put(self, key: str, data: bytes) -> None:
        self._count()
        super().put(key, data)

    def delete(self, key: str) -> None:
        self._count()
        super().delete(key)

    def _count(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed


@pytest.fixture
def store(tmp_path: Path) -> Mortal:
    return Mortal(tmp_path)


def objects(store: FileStore) -> list[str]:
    """The keys, without what differs between two tries: the random part of an event."""
    return sorted(entry.key.rpartition("-")[0] if "/events/" in entry.key else entry.key for entry in store.list(""))


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
        store.put(keys.entry(priority=priority, created_ms=created_ms), b"")
    found = [entry for item in store.list("queue/") if (entry := parse_entry(item.key))]
    assert [(one.priority, one.created_ms) for one in found] == [(9, 20), (9, 30), (5, 10), (1, 10)]


def test_a_page_costs_the_same_with_many_requests(store: Mortal) -> None:
    requests = RequestStore(store)
    read: list[str] = []
    for number in range(300):
        one = request(id=idempotent_id("news", str(number)), created_ms=NOW_MS + number)
        requests.put_state(one, "complete", retries=0, run=None, now_ms=NOW_MS)
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
    requests.cancel(KEY)
    retried(requests)
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


def test_an_end_is_found_among_many_events_without_reading_them(store: Mortal) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    for number in range(30):
        requests.events.message(KEY, str(number), now_ms=NOW_MS)
    store.get = None  # type: ignore[assignment]
    assert requests.events.has(KEY, "accepted")
    assert not requests.events.has(KEY, "ended")
