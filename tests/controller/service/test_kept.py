"""What is kept in memory of requests: bounded, and never shown after it was deleted or replaced."""

from pathlib import Path

import pytest

from chunk_job.store.base import StoredObject
from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunOutcome
from controller.domain.service_documents import ServiceRequest
from controller.domain.service_keys import RequestKey, RequestKeys, idempotent_id
from controller.service.kept import LIVES_S, Kept
from controller.service.requests import RequestStore
from tests.controller.service.test_requests import ID, KEY, NOW_MS, request, retried, settle
from tests.fakes import ManualClock

FAILED = RunOutcome(run="", name="x", verdict="failed", summary="no")


class Reads(FileStore):
    """A store that notes what is read."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.keys: list[str] = []

    def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
        self.keys.append(key.rpartition("/")[2] if key.startswith("requests/") else key.partition("/")[0])
        return super().get(key, max_bytes=max_bytes)

    def stat(self, key: str) -> StoredObject | None:
        self.keys.append("/".join(key.split("/")[3:]))
        return super().stat(key)


@pytest.fixture
def store(tmp_path: Path) -> Reads:
    return Reads(tmp_path)


def reads(store: Reads, requests: RequestStore) -> list[str]:
    """What finding the request again reads."""
    requests.find(KEY)
    store.keys.clear()
    assert requests.find(KEY)
    return store.keys.copy()


def test_a_request_that_was_found_before_costs_three_requests_and_two_after_its_end(store: Reads) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    assert reads(store, requests) == ["index", "rounds/001", "end-000.json"]
    settle(requests, FAILED)
    assert reads(store, requests) == ["index", "rounds/001"]
    retried(requests)
    assert reads(store, requests) == ["index", "rounds/002", "end-001.json"]


def test_what_another_replica_deletes_is_gone_at_once(store: Reads) -> None:
    one, other = RequestStore(store), RequestStore(store)
    one.accept(request())
    settle(one)
    found = other.find(KEY)
    assert found
    assert one.find(KEY)
    other.remove(found)
    assert one.find(KEY) is None
    assert other.find(KEY) is None


def test_a_request_that_is_accepted_again_after_it_was_deleted_has_nothing_of_the_first_one(store: Reads) -> None:
    one, other = RequestStore(store), RequestStore(store)
    one.accept(request(labels={"try": "first"}))
    settle(one, FAILED)
    found = one.find(KEY)
    assert found
    assert found.status == "failed"
    other.remove(found)
    other.accept(request(labels={"try": "second"}, created_ms=NOW_MS + 100))
    found = one.find(KEY)
    assert found
    assert (found.status, found.request.labels) == ("queued", {"try": "second"})
    again = request(labels={"try": "second"}, created_ms=NOW_MS + 100)
    end = other.end(again, 0, RunOutcome(run="", name="x", verdict="cancelled", summary=""), now_ms=NOW_MS + 200)
    other.announce(again, end)
    found = one.find(KEY)
    assert found
    assert found.status == "cancelled"


def test_an_end_of_which_the_state_does_not_know_yet_counts(store: Reads) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    assert requests.find(KEY)
    requests.end(request(), 0, FAILED, now_ms=NOW_MS + 9)
    found = requests.find(KEY)
    assert found
    assert found.status == "failed"


def test_kept_documents_are_bounded_in_bytes_and_the_one_used_longest_ago_goes_first(store: Reads) -> None:
    keys = []
    for number in range(30):
        one = request(id=idempotent_id("news", str(number)), labels={"a": "x" * 200})
        keys.append(RequestKeys(RequestKey("news", one.id)).request)
        store.put(keys[-1], one.encode())
    size_bytes = len(store.get(keys[0]))
    kept = Kept(store, most_bytes=10 * size_bytes + 1)
    for key in keys:
        kept.find(ServiceRequest, key)
        kept.find(ServiceRequest, keys[0])
        assert kept.size_bytes <= 10 * size_bytes + 1
    assert kept.size_bytes == 10 * size_bytes
    store.keys.clear()
    for key in (keys[0], keys[-1], keys[-9]):
        kept.find(ServiceRequest, key)
    assert store.keys == []
    kept.find(ServiceRequest, keys[1])
    assert len(store.keys) == 1
    kept.forget(keys[1])
    assert kept.size_bytes == 9 * size_bytes


def test_a_document_that_takes_much_of_the_bound_is_found_and_not_kept(store: Reads) -> None:
    store.put(RequestKeys(KEY).request, request().encode())
    size_bytes = len(request().encode())
    kept = Kept(store, most_bytes=2 * size_bytes)
    assert kept.find(ServiceRequest, RequestKeys(KEY).request)
    assert kept.size_bytes == 0


def test_a_kept_document_is_read_again_after_a_while(store: Reads) -> None:
    clock, key = ManualClock(), RequestKeys(KEY).request
    kept = Kept(store, now_s=clock)
    store.put(key, request().encode())
    assert kept.find(ServiceRequest, key)
    store.delete(key)
    clock.now_s += LIVES_S - 1
    assert kept.find(ServiceRequest, key)
    clock.now_s += 1
    assert kept.find(ServiceRequest, key) is None
    assert kept.size_bytes == 0


def test_what_nobody_asks_for_any_more_takes_no_memory(store: Reads) -> None:
    clock, kinds = ManualClock(), [RequestKeys(RequestKey(name, ID)).request for name in ("news", "radio")]
    kept = Kept(store, now_s=clock)
    for key in kinds:
        store.put(key, request().encode())
        assert kept.find(ServiceRequest, key)
        clock.now_s += LIVES_S
    assert kept.size_bytes == len(request().encode())


def test_only_the_tenant_of_a_request_gets_what_is_kept(store: Reads) -> None:
    requests = RequestStore(store)
    requests.accept(request())
    assert requests.find(KEY)
    store.keys.clear()
    assert requests.find(RequestKey("radio", ID)) is None
    unknown = store.keys.copy()
    store.keys.clear()
    assert requests.find(RequestKey("radio", idempotent_id("radio", "none"))) is None
    assert store.keys == unknown == ["request.json"]


def test_two_replicas_that_announce_the_same_end_write_one_event(store: Reads) -> None:
    one, other = RequestStore(store), RequestStore(store)
    one.accept(request())
    end = one.end(request(), 0, FAILED, now_ms=NOW_MS + 9)
    put_new = store.put_new

    def late(key: str, data: bytes) -> bool:
        """The other replica does the same between this one's listing and its event."""
        if key.endswith("/000002.json"):
            store.put_new = put_new  # type: ignore[method-assign]
            other.announce(request(), end)
        return put_new(key, data)

    store.put_new = late  # type: ignore[method-assign]
    one.announce(request(), end)
    assert [event.type for _, event in one.events.after(KEY, "")] == ["accepted", "ended"]
