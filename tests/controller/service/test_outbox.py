"""The webhooks in the store: no event is lost, whenever a process is killed."""

import pytest

from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.webhook_documents import Delivery, RunEnded, run_ended
from controller.service import outbox as outbox_module
from controller.service.addresses import CallbackRefused
from controller.service.outbox import KEEP_DEAD_MS, NoDeadLetter, Outbox, Pending, delivered, failed
from tests import fakes
from tests.fakes import JournalStore

REQUEST = "01hzy6w9f3kq8x2v4t7m5n0abc"
ENDED_MS = 1_800_000_000_123
URL = "https://receiver.example/hook?x=1"
DATA = RunEnded(id=REQUEST, status="complete", summary="done", labels={"show": "morning"})
SECOND_MS = 1000
HOUR_MS = 3_600_000


@pytest.fixture
def outbox(store: FileStore) -> Outbox:
    return Outbox(store)


def retried(times: int) -> RunEnded:
    return DATA.model_copy(update={"retries": times})


def keys(store: FileStore) -> list[str]:
    """The deliveries."""
    return [entry.key for entry in store.list("webhooks/") if entry.key.endswith(".json")]


def only(outbox: Outbox) -> Delivery:
    (pending,) = outbox.pending("news")
    found = outbox.read(pending)
    assert found
    return found


def fail(outbox: Outbox, now_ms: int, *, final: bool = False) -> str:
    move, outcome = failed(only(outbox), "HTTP 500", now_ms, final=final)
    outbox.apply(move)
    return outcome


def test_the_event_of_a_run_that_ended(outbox: Outbox, store: FileStore) -> None:
    delivery_id = outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    assert keys(store) == [f"webhooks/news/pending/1800000000123-{delivery_id}.json"]
    assert list(outbox.prefixes()) == ["news"]
    delivery = only(outbox)
    assert (delivery.url, delivery.attempts, delivery.created_ms) == (URL, 0, ENDED_MS)
    assert delivery.event.model_dump(mode="json") == {
        "specversion": "1.0",
        "id": delivery_id,
        "source": f"/v1/runs/{REQUEST}",
        "type": "io.stenofleet.run.completed",
        "time": "2027-01-15T08:00:00.123Z",
        "datacontenttype": "application/json",
        "data": {
            "id": REQUEST,
            "status": "complete",
            "retries": 0,
            "run": None,
            "failure": "",
            "summary": "done",
            "advice": "",
            "labels": {"show": "morning"},
        },
    }


def test_the_event_says_how_the_request_ended(outbox: Outbox) -> None:
    request = fakes.service_request()
    end = fakes.service_end(request, retries=2)
    outbox.add(request.tenant, request.callback_url, run_ended(request, end), ended_ms=end.ended_ms)
    event = only(outbox).event
    assert event.type == "io.stenofleet.run.failed"
    assert event.data == RunEnded(
        id=request.id,
        status="failed",
        retries=2,
        run=end.run_id,
        failure=end.failure,
        summary=end.summary,
        advice=end.advice,
        labels=request.labels,
    )


def test_an_event_is_added_once(outbox: Outbox, store: FileStore) -> None:
    first = outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    assert outbox.add("news", URL, DATA, ended_ms=ENDED_MS + 5) == first
    assert fail(outbox, ENDED_MS) == "retried"
    assert outbox.add("news", URL, DATA, ended_ms=ENDED_MS) == first
    assert only(outbox).attempts == 1
    assert fail(outbox, ENDED_MS, final=True) == "dead"
    assert outbox.add("news", URL, DATA, ended_ms=ENDED_MS) == first
    assert keys(store) == [f"webhooks/news/dead/{first}.json"]


def test_other_events_have_other_ids(outbox: Outbox) -> None:
    added = [
        outbox.add("news", URL, DATA, ended_ms=ENDED_MS),
        outbox.add("news", URL, retried(1), ended_ms=ENDED_MS),
        outbox.add("news", URL, DATA.model_copy(update={"status": "failed"}), ended_ms=ENDED_MS),
        outbox.add("news", URL, DATA.model_copy(update={"id": f"{REQUEST[:-1]}d"}), ended_ms=ENDED_MS),
        outbox.add("radio", URL, DATA, ended_ms=ENDED_MS),
    ]
    assert len(set(added)) == 5
    assert len(list(outbox.pending("news"))) == 4


def test_an_id_begins_with_the_host_and_port(outbox: Outbox) -> None:
    urls = ("https://a.example/x", "https://A.example:443/y", "https://a.example:444/x", "https://b.example/x")
    added = [outbox.add("news", url, retried(index), ended_ms=ENDED_MS) for index, url in enumerate(urls)]
    assert [each[:8] == added[0][:8] for each in added] == [True, True, False, False]


def test_a_url_that_is_not_valid_is_not_added(outbox: Outbox, store: FileStore) -> None:
    with pytest.raises(CallbackRefused):
        outbox.add("news", "https://a@b/", DATA, ended_ms=ENDED_MS)
    assert keys(store) == []


def test_the_pauses_between_attempts_and_the_last_one(outbox: Outbox) -> None:
    outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    now_ms, pauses_s = ENDED_MS, []
    while fail(outbox, now_ms) == "retried":
        pauses_s.append((only(outbox).next_ms - now_ms) // SECOND_MS)
        now_ms = only(outbox).next_ms
    assert pauses_s == [10, 60, 300, 1800, 7200, 21600, *[43200] * 5]
    assert now_ms < ENDED_MS + 72 * HOUR_MS < now_ms + 12 * HOUR_MS
    (dead,) = outbox.dead("news")
    assert (dead.attempts, dead.last_error, dead.next_ms) == (12, "HTTP 500", now_ms)
    assert not list(outbox.pending("news"))


def test_a_dead_delivery_is_sent_again_with_all_attempts(outbox: Outbox, store: FileStore) -> None:
    delivery_id = outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    fail(outbox, ENDED_MS, final=True)
    later_ms = ENDED_MS + 1000 * HOUR_MS
    again = outbox.repeat("news", delivery_id, later_ms)
    assert keys(store) == [f"webhooks/news/pending/{later_ms}-{delivery_id}.json"]
    assert again == only(outbox)
    assert (again.attempts, again.created_ms, again.event.id) == (0, ENDED_MS, delivery_id)
    assert fail(outbox, later_ms) == "retried"


def test_only_a_dead_delivery_of_the_tenant_is_sent_again(outbox: Outbox, store: FileStore) -> None:
    delivery_id = outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    fail(outbox, ENDED_MS, final=True)
    for prefix, each in (("radio", delivery_id), ("news", "0" * 32), ("news", f"../../news/dead/{delivery_id}")):
        with pytest.raises(NoDeadLetter):
            outbox.repeat(prefix, each, ENDED_MS)
    assert list(outbox.dead("radio")) == []
    assert keys(store) == [f"webhooks/news/dead/{delivery_id}.json"]


def test_the_new_object_is_written_before_the_old_one_is_deleted(store: FileStore) -> None:
    journal = JournalStore(store.root)
    outbox = Outbox(journal)
    delivery_id = outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    first = Pending.of(only(outbox)).key
    fail(outbox, ENDED_MS)
    second = Pending.of(only(outbox)).key
    fail(outbox, ENDED_MS, final=True)
    dead = f"webhooks/news/dead/{delivery_id}.json"
    third = Pending.of(outbox.repeat("news", delivery_id, ENDED_MS + 1)).key
    expires = f"webhooks/news/expires/{ENDED_MS + KEEP_DEAD_MS}-{delivery_id}"
    assert journal.journal == [
        *(f"put {first}", f"put webhooks/news/known/{delivery_id}"),
        *(f"put {second}", f"delete {first}"),
        *(f"put {expires}", f"put {dead}", f"delete {second}"),
        *(f"put {third}", f"delete {dead}"),
    ]


def test_a_process_killed_between_put_and_delete_loses_nothing(outbox: Outbox, store: FileStore) -> None:
    class Full(FileStore):
        def delete(self, key: str) -> None:
            raise StoreUnavailable("down", "")

    outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    with pytest.raises(StoreUnavailable):
        Outbox(Full(store.root)).apply(failed(only(outbox), "no", ENDED_MS, final=False)[0])
    assert [each.due_ms - ENDED_MS for each in outbox.pending("news")] == [0, 10_000]


def test_a_delivered_event_leaves_nothing_not_even_a_dead_letter(outbox: Outbox, store: FileStore) -> None:
    outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    delivery = only(outbox)
    move, _ = failed(delivery, "no", ENDED_MS, final=True)
    assert move.put
    for key, data in move.put:
        store.put(key, data)  # and killed before the delete
    outbox.apply(delivered(delivery))
    assert keys(store) == []


def test_objects_that_are_no_deliveries(outbox: Outbox, store: FileStore) -> None:
    delivery_id = outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    data = only(outbox).encode()
    store.put("webhooks/news/pending/readme.txt", b"x")
    store.put("webhooks/news/dead/x.json", b"x")
    assert [each.id for each in outbox.pending("news")] == [delivery_id]
    assert list(outbox.dead("news")) == []
    moved = Pending("radio", ENDED_MS, delivery_id)
    store.put(moved.key, data)
    with pytest.raises(DocumentInvalid, match="another delivery"):
        outbox.read(moved)
    assert outbox.read(Pending("news", 5, delivery_id)) is None


def test_dead_deliveries_are_listed_in_pages(outbox: Outbox) -> None:
    for times in range(3):
        outbox.add("news", URL, retried(times), ended_ms=ENDED_MS)
        fail(outbox, ENDED_MS, final=True)
    dead = list(outbox.dead("news"))
    assert sorted(each.event.data.retries for each in dead) == [0, 1, 2]
    assert list(outbox.dead("news", after=dead[0].id)) == dead[1:]
    assert list(outbox.dead("news", after=dead[2].id)) == []


def test_pending_deliveries_are_listed_by_time(outbox: Outbox) -> None:
    for index, ended_ms in enumerate((ENDED_MS, 5, ENDED_MS + 1, 1_000)):
        outbox.add("news", URL, retried(index), ended_ms=ended_ms)
    assert [each.due_ms for each in outbox.pending("news")] == [5, 1_000, ENDED_MS, ENDED_MS + 1]


def test_a_page_costs_the_same_with_many_dead_deliveries(store: FileStore) -> None:
    outbox = Outbox(store)
    added = sorted(outbox.add("news", URL, retried(times), ended_ms=ENDED_MS) for times in range(7))
    for pending in list(outbox.pending("news")):
        delivery = outbox.read(pending)
        assert delivery
        outbox.apply(failed(delivery, "no", ENDED_MS, final=True)[0])
    read: list[str] = []
    get = store.get

    def counted(key: str, *, max_bytes: int = 1 << 30) -> bytes:
        read.append(key)
        return get(key, max_bytes=max_bytes)

    store.get = counted  # type: ignore[method-assign]
    found, after = outbox.dead_page("news", after="", most=3)
    assert ([each.id for each in found], after) == (added[:3], added[2])
    found, after = outbox.dead_page("news", after=added[3], most=3)
    assert ([each.id for each in found], after) == (added[4:], "")
    assert len(read) == 6


def test_dead_deliveries_are_kept_for_thirty_days(outbox: Outbox, store: FileStore) -> None:
    outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    fail(outbox, ENDED_MS, final=True)
    outbox.remove_expired("news", ENDED_MS + 30 * 24 * HOUR_MS - 1)
    assert len(list(outbox.dead("news"))) == 1
    # It was sent again, in vain: it is kept from then on.
    outbox.repeat("news", next(outbox.dead("news")).id, ENDED_MS + HOUR_MS)
    fail(outbox, ENDED_MS + HOUR_MS, final=True)
    outbox.remove_expired("news", ENDED_MS + 30 * 24 * HOUR_MS)
    assert len(list(outbox.dead("news"))) == 1
    outbox.remove_expired("news", ENDED_MS + 30 * 24 * HOUR_MS + HOUR_MS)
    assert list(outbox.dead("news")) == []
    assert list(store.list("webhooks/news/expires/")) == []


def test_many_that_wait_or_are_dead_cost_nothing_when_a_run_ends_or_is_deleted(store: FileStore) -> None:
    outbox = Outbox(store)
    for number in range(50):
        outbox.add("news", URL, retried(number), ended_ms=ENDED_MS)
        if number < 30:
            fail(outbox, ENDED_MS, final=True)
    listed: list[str] = []
    read: list[str] = []
    request = fakes.service_request()
    end = fakes.service_end(request)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "get", lambda key, **_: read.append(key))
        patch.setattr(store, "list", lambda prefix, **_: listed.append(prefix))
        outbox.add("news", request.callback_url, run_ended(request, end), ended_ms=end.ended_ms)
        outbox.remove_of(request, [end])
    assert (listed, read) == ([], [])
    get = store.get

    def counted(key: str, *, max_bytes: int = 1 << 30) -> bytes:
        read.append(key)
        return get(key, max_bytes=max_bytes)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "get", counted)
        assert outbox.remove_expired("news", ENDED_MS)
        assert read == []
        patch.setattr(outbox_module, "_MOST_EXPIRED", 20)
        assert not outbox.remove_expired("news", ENDED_MS + KEEP_DEAD_MS)
        assert len(read) == 20
        assert outbox.remove_expired("news", ENDED_MS + KEEP_DEAD_MS)
    assert list(outbox.dead("news")) == []


def test_a_delivery_that_waits_is_dropped_when_its_run_was_deleted(store: FileStore) -> None:
    outbox = Outbox(store)
    request = fakes.service_request()
    end = fakes.service_end(request)
    outbox.add("news", request.callback_url, run_ended(request, end), ended_ms=end.ended_ms)
    fail(outbox, end.ended_ms)
    (waiting,) = outbox.pending("news")
    assert outbox.read(waiting)
    outbox.remove_of(request, [end])
    assert outbox.read(waiting) is None
    assert list(store.list("webhooks/")) == []


def test_the_deliveries_of_one_request_are_removed(outbox: Outbox, store: FileStore) -> None:
    request = fakes.service_request()
    ends = [fakes.service_end(request, retries=retries) for retries in range(2)]
    other = outbox.add("news", URL, DATA.model_copy(update={"id": f"{REQUEST[:-1]}d"}), ended_ms=ENDED_MS)
    dead = outbox.add("news", request.callback_url, run_ended(request, ends[0]), ended_ms=ends[0].ended_ms)
    delivery = outbox.read(next(outbox.pending("news")))
    assert delivery
    assert delivery.id == dead
    outbox.apply(failed(delivery, "no", ENDED_MS, final=True)[0])
    outbox.add("news", request.callback_url, run_ended(request, ends[1]), ended_ms=ends[1].ended_ms)
    assert len(keys(store)) == 3
    outbox.remove_of(request, ends)
    assert keys(store) == [f"webhooks/news/pending/{ENDED_MS}-{other}.json"]


def test_a_delivery_that_was_deleted_during_its_attempt_is_not_written_again(outbox: Outbox, store: FileStore) -> None:
    outbox.add("news", URL, DATA, ended_ms=ENDED_MS)
    delivery = only(outbox)
    store.delete(Pending.of(delivery).key)
    for final in (False, True):
        outbox.apply(failed(delivery, "no", ENDED_MS, final=final)[0])
        assert keys(store) == []
