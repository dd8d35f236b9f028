"""The queue of a replica: what it takes, in which order, and what it does when the store is away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.base import StoreDenied, StoredObject, StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.service_documents import RequestEnd, ServiceRequest
from controller.domain.service_keys import QUEUE, RequestKey, RequestKeys, idempotent_id, parse_entry
from controller.domain.shares import Share
from controller.errors import EnvironmentProblem, MediaProblem
from controller.orchestrator.held_slots import HeldSlots
from controller.service import choosing
from controller.service import queue as queue_module
from controller.service.queue import ServiceQueue
from controller.service.replicas import Replicas
from controller.service.requests import RequestStore
from tests import fakes
from tests.controller.service.test_requests import NOW_MS, request
from tests.pipeline import until


class Away(FileStore):
    """A store that can be away."""

    away = False

    def put(self, key: str, data: bytes) -> None:
        if self.away and not key.startswith("replicas/"):
            raise StoreUnavailable("the store is away", "wait")
        super().put(key, data)


class Scene:
    """A queue whose polls are made by the test."""

    def __init__(self, folder: Path) -> None:
        self.store = Away(folder)
        self.requests = RequestStore(self.store)
        self.replicas = Replicas(self.store, HeldSlots(2, now_s=fakes.ManualClock()))
        self.ends: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.queue = self.replica(self.replicas)

    def replica(self, replicas: Replicas, *, max_parallel: int = 1) -> ServiceQueue:
        return ServiceQueue(
            self.store,
            replicas=replicas,
            make=self.make,
            share_of=lambda one: Share(group=one.tenant, priority=one.priority),
            on_end=self.on_end,
            max_parallel=max_parallel,
            now_ms=lambda: NOW_MS,
        )

    def make(self, one: ServiceRequest, retries: int, share: Share) -> RunRequest:
        if self.error:
            raise self.error
        record = fakes.record(f"{abs(hash(one.id)) % 16**16:016x}")
        return RunRequest(record=record, request=fakes.request(record), share=share, round=f"{one.id}.{retries}")

    def on_end(self, one: ServiceRequest, end: RequestEnd) -> None:
        self.ends.append((one.id, end.status))

    def accept(self, tenant: str, number: int, priority: int = 5) -> str:
        one = request(
            id=idempotent_id(tenant, str(number)), tenant=tenant, created_ms=NOW_MS + number, priority=priority
        )
        self.requests.accept(one)
        return one.id

    def taken(self, queue: ServiceQueue | None = None) -> list[RunRequest]:
        """What the loop gets after a poll."""
        queue = queue or self.queue
        before = len(queue._claimed)
        queue.poll()
        until(lambda: not [one for one in queue._claimed.values() if not one.run] or self.error, "identified")
        del before
        return list(queue.take(100))

    def status(self, tenant: str, request_id: str) -> str:
        found = self.requests.find(RequestKey(tenant, request_id))
        assert found
        return found.status


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    made.queue._pool.shutdown()


def ids(run_requests: list[RunRequest]) -> list[str]:
    return [one.round.partition(".")[0] for one in run_requests]


def ended(scene: Scene, one: RunRequest, verdict: str = "complete") -> None:
    scene.queue.ended(RunOutcome(run=one.record.run, name="x", verdict=verdict, summary="done"))  # type: ignore[arg-type]


def test_a_tenant_with_many_requests_does_not_keep_others_waiting(scene: Scene) -> None:
    many = [scene.accept("many", number) for number in range(20)]
    one = scene.accept("few", 99)
    first = ids(scene.taken())
    assert one in first
    # One that is transcribed, one that is cut, and two runs that are ready for the next ones.
    assert sorted(found for found in first if found != one) == sorted(many[:4])


def test_higher_priorities_come_first_then_older_requests(scene: Scene) -> None:
    low, high, older = scene.accept("a", 1, 1), scene.accept("a", 9, 9), scene.accept("a", 5, 9)
    assert sorted(ids(scene.taken())) == sorted([low, high, older])
    waiting = [scene.accept("b", number, priority) for number, priority in ((1, 1), (2, 5), (3, 9), (4, 5), (5, 9))]
    assert waiting[0] not in ids(scene.taken())


def test_a_request_is_taken_once_until_its_end_is_recorded(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    (one,) = scene.taken()
    assert scene.taken() == []
    assert scene.status("a", request_id) == "running"
    ended(scene, one)
    scene.queue.poll()
    assert scene.status("a", request_id) == "complete"
    assert (scene.ends, list(scene.store.list("queue/"))) == ([(request_id, "complete")], [])
    assert scene.queue._claimed == {}


def test_an_end_that_cannot_be_recorded_is_recorded_later(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    (one,) = scene.taken()
    ended(scene, one)
    scene.store.away = True
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            scene.queue.poll()
    scene.store.away = False
    scene.queue.poll()
    assert scene.status("a", request_id) == "complete"


def test_what_another_replica_works_on_is_left_and_taken_when_that_one_has_ended(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    other = Replicas(scene.store, HeldSlots(2, now_s=fakes.ManualClock()))
    other.claim([request_id])
    other.renew()
    scene.replicas.renew()
    assert scene.taken() == []
    other.close()
    scene.replicas.renew()
    assert ids(scene.taken()) == [request_id]


def test_a_request_that_is_left_by_the_replica_whose_turn_it_is_is_taken(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    request_id = scene.accept("a", 1)
    monkeypatch.setattr(scene.queue._chooser, "_is_mine", lambda _: False)
    assert scene.taken() == []
    monkeypatch.setattr(choosing, "LEFT_FOR_S", 0.0)
    assert ids(scene.taken()) == [request_id]


def test_the_next_replica_finishes_what_a_killed_one_began_to_record(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    outcome = RunOutcome(run="0" * 16, name="x", verdict="failed", summary="no")
    found = scene.requests.find(RequestKey("a", request_id))
    assert found
    scene.requests.end(found.request, 0, outcome, now_ms=NOW_MS)
    assert scene.taken() == []
    assert scene.ends == [(request_id, "failed")]
    assert list(scene.store.list("queue/")) == []


def test_a_recording_that_is_none_fails_its_request(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    scene.error = MediaProblem("x: no such object", "check it")
    scene.queue.poll()
    until(lambda: scene.queue._recorder._outcomes, "refused")
    scene.queue.poll()
    assert scene.status("a", request_id) == "failed"


def test_a_store_of_media_that_is_away_costs_only_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "AGAIN_S", 0.0)
    request_id = scene.accept("a", 1)
    scene.error = EnvironmentProblem("S3 is away", "wait")
    scene.queue.poll()
    until(lambda: not scene.queue._claimed, "released")
    assert scene.status("a", request_id) == "queued"
    scene.error = None
    assert ids(scene.taken()) == [request_id]


def test_what_the_store_refuses_of_one_request_delays_no_other_end(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = scene.accept("a", 1), scene.accept("b", 2)
    by_id = {one.round.partition(".")[0]: one for one in scene.taken()}
    put_new = scene.store.put_new

    def refuse(key: str, data: bytes) -> bool:
        if first in key:
            raise StoreDenied("not allowed", "ask")
        return put_new(key, data)

    monkeypatch.setattr(scene.store, "put_new", refuse)
    scene.queue.message(by_id[first].record.run, "something")
    ended(scene, by_id[first])
    ended(scene, by_id[second])
    with pytest.raises(StoreDenied):
        scene.queue.poll()
    assert (scene.status("a", first), scene.status("b", second)) == ("running", "complete")
    monkeypatch.undo()
    scene.queue.poll()
    assert scene.status("a", first) == "complete"
    events = [event.type for _, event in scene.requests.events.after(RequestKey("a", first), "")]
    assert events == ["accepted", "started", "message", "ended"], "the message comes before the end"


def test_a_bug_that_one_request_meets_ends_only_that_one(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    scene.error = ZeroDivisionError()
    scene.queue.poll()
    until(lambda: scene.queue._recorder._outcomes, "refused")
    scene.error = None
    other = scene.accept("a", 2)
    assert ids(scene.taken()) == [other]
    assert scene.status("a", request_id) == "failed"


def test_a_request_that_waits_is_cancelled_without_a_run(scene: Scene) -> None:
    taken = [scene.accept("a", number) for number in range(4)]
    waiting = scene.accept("a", 9)
    assert len(scene.taken()) == len(taken)
    scene.requests.cancel(RequestKey("a", waiting))
    scene.queue.poll()
    assert scene.status("a", waiting) == "cancelled"
    assert list(scene.store.list("cancels/")) == []


def test_a_cancel_of_a_run_is_repeated_until_it_has_ended(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    (one,) = scene.taken()
    scene.requests.cancel(RequestKey("a", request_id))
    scene.queue.poll()
    cancel = f"runs/{one.record.run}/cancel"
    # A run that is opened just now drops the cancel of its last round.
    scene.store.delete(cancel)
    scene.queue.poll()
    assert scene.store.stat(cancel)


def test_cancels_that_nobody_needs_are_removed_and_cancel_no_other_try(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    key = RequestKey("a", request_id)
    (one,) = scene.taken()
    ended(scene, one, "failed")
    scene.queue.poll()
    # Written late, by processes that were suspended: for the round that has ended, and for a deleted request.
    scene.store.put(RequestKeys(key).cancel(0), b"")
    scene.store.put(RequestKeys(RequestKey("a", idempotent_id("a", "deleted"))).cancel(0), b"")
    found = scene.requests.find(key)
    assert found
    scene.requests.retry(found, now_ms=NOW_MS)
    (again,) = scene.taken()
    scene.queue.poll()
    assert again.round == f"{request_id}.1"
    assert list(scene.store.list("cancels/")) == []
    assert scene.store.stat(f"runs/{again.record.run}/cancel") is None


def test_an_entry_of_an_earlier_try_is_removed_and_the_later_one_is_taken(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    (one,) = scene.taken()
    ended(scene, one, "failed")
    scene.queue.poll()
    found = scene.requests.find(RequestKey("a", request_id))
    assert found
    scene.requests.retry(found, now_ms=NOW_MS)
    scene.requests._enqueue(found.request, 0)
    assert [one.round for one in scene.taken()] == [f"{request_id}.1"]
    assert [entry.retries for item in scene.store.list("queue/") if (entry := parse_entry(item.key))] == [1]


def test_another_try_to_accept_the_same_request_at_the_same_moment_leaves_nothing(scene: Scene) -> None:
    request_id = scene.accept("a", 1)
    # A process that was suspended has accepted one with this id, which was deleted since.
    double = request(id=request_id, tenant="a", created_ms=NOW_MS + 2)
    scene.requests._enqueue(double, 0)
    scene.requests.put_state(double, "queued", retries=0, run=None, now_ms=NOW_MS)
    assert ids(scene.taken()) == [request_id]
    assert [state.id for state in scene.requests.page("a", after="", most=9)[0]] == [request_id]
    assert len(list(scene.store.list("queue/"))) == 1


def test_depths_and_the_longest_wait_are_known(scene: Scene) -> None:
    for number in range(6):
        scene.accept("a", number - 60_000)
    scene.taken()
    assert scene.queue.counts.by_tenant == {"a": 6}
    scene.queue.poll()
    assert scene.queue.counts.oldest_wait_s(NOW_MS) == pytest.approx(60, abs=0.01)


def test_what_cannot_be_reached_for_an_hour_fails_and_blocks_nothing_meanwhile(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = [scene.accept("a", number) for number in range(4)]
    scene.error = EnvironmentProblem("S3 has no key", "set one")
    for _ in range(2):
        scene.queue.poll()
        until(lambda: not scene.queue._claimed, "released")
    scene.error = None
    other = scene.accept("a", 9)
    assert ids(scene.taken()) == [other]
    monkeypatch.setattr(choosing, "AGAIN_S", -1.0)
    monkeypatch.setattr(choosing, "PATIENCE_S", -1.0)
    scene.queue._chooser._postponed = dict.fromkeys(lost, (0.0, 0.0))
    scene.error = EnvironmentProblem("S3 has no key", "set one")
    for _ in range(2):
        scene.queue.poll()
        until(lambda: len(scene.queue._recorder._outcomes) or len(scene.queue._claimed) <= 1, "refused")
    scene.queue.poll()
    assert {scene.status("a", one) for one in lost} <= {"failed", "queued"}
    assert scene.status("a", lost[0]) == "failed"


def test_a_request_that_cannot_be_read_does_not_stop_the_others(scene: Scene) -> None:
    broken, other = scene.accept("a", 1), scene.accept("b", 2)
    scene.store.put(f"requests/a/{broken}/request.json", b'{"schema": "stenofleet.service-request/9"}')
    assert ids(scene.taken()) == [other]
    scene.queue.poll()
    assert [entry.key for entry in scene.store.list("queue/a/")]


def test_a_request_that_is_accepted_while_the_queue_is_listed_counts_for_the_limit(scene: Scene) -> None:
    scene.accept("a", 1)
    listed = scene.store.list

    def accepted_meanwhile(prefix: str) -> Iterator[StoredObject]:
        yield from listed(prefix)
        if prefix == QUEUE:
            scene.accept("a", 2)
            scene.queue.accepted("a")

    scene.store.list = accepted_meanwhile  # type: ignore[method-assign, assignment]
    scene.queue.poll()
    assert scene.queue.counts.of("a") == 2
    scene.store.list = listed  # type: ignore[method-assign]
    scene.queue.poll()
    assert scene.queue.counts.of("a") == 2


def test_many_that_are_cancelled_at_once_keep_no_other_end_waiting(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_ENDING_S", 0.0)
    other = scene.accept("radio", 0)
    (run,) = scene.taken()
    many = [scene.accept("news", number) for number in range(1, 13)]
    for one in many:
        scene.requests.cancel(RequestKey("news", one))
    scene.queue._look()
    assert len(scene.ends) == 1
    ended(scene, run)
    scene.queue.start()
    until(lambda: not list(scene.store.list(QUEUE)), "all have ended")
    scene.queue.close()
    assert scene.ends[1] == (other, "complete")
    assert sorted(scene.ends) == sorted([(other, "complete"), *((one, "cancelled") for one in many)])
