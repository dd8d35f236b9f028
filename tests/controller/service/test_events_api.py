"""``/v1/runs/{id}/events``: every event once, also for a client that was cut off."""

import json
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller.domain.documents import Status
from controller.domain.jobs import Job
from controller.domain.service_keys import RequestKey, RequestKeys
from controller.service import events_api
from controller.service.request_reader import entry_of
from controller.service.views import progress_view
from tests.controller.service.running import Running, running
from tests.fakes import JobBehaviour, fails_with
from tests.pipeline import PATIENCE_S

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """A twentieth of the real ones."""
    for name in ("POLL_S", "STATUS_S", "WAITING_POLL_S"):
        monkeypatch.setattr(events_api, name, getattr(events_api, name) / 20)


def events(service: Running, run_id: str, after: str = "", **query: Any) -> list[dict[str, Any]]:
    """The events of the stream until it ends, each with its id and type."""
    headers = {"Last-Event-ID": after} if after else {}
    reply = service.client.get(f"/v1/runs/{run_id}/events", headers=headers, params=query)
    assert reply.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in reply.text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        if "data" in fields:
            found.append(json.loads(fields["data"]) | {"event": fields["event"], "event_id": fields.get("id", "")})
    return found


def numbered(service: Running, run_id: str, after: str = "", **query: Any) -> list[dict[str, Any]]:
    """The events with an id."""
    return [one for one in events(service, run_id, after, **query) if one["event_id"]]


def flaky(job: Job) -> JobBehaviour:
    if (job.span, job.attempt) == (0, 1):
        return fails_with(ExitCode.BUG, "it crashed", "report it")
    return JobBehaviour(leaves="result", takes_ms=20)


def test_the_stream_has_everything_that_happened_and_ends_with_the_run(store: FileStore) -> None:
    with running(store, script=flaky) as service:
        run_id = service.submit()["id"]
        kept = [one for one in events(service, run_id) if one["event_id"]]
        types = [one["event"] for one in kept]
        assert types[:2] == ["accepted", "started"]
        assert types[-1] == "ended"
        assert (kept[0]["status"], kept[1]["status"], kept[-1]["status"]) == ("queued", "running", "complete")
        messages = [one["text"] for one in kept if one["event"] == "message"]
        assert "chunk 0, attempt 1 failed (UNKNOWN): it crashed" in messages
        assert [one["event_id"] for one in kept] == sorted(one["event_id"] for one in kept)


def test_a_client_that_was_cut_off_anywhere_gets_exactly_the_rest(store: FileStore) -> None:
    with running(store, script=flaky) as service:
        run_id = service.submit()["id"]
        whole = [one for one in events(service, run_id) if one["event_id"]]
        for number, one in enumerate(whole):
            rest = [later for later in events(service, run_id, one["event_id"]) if later["event_id"]]
            assert rest == whole[number + 1 :]
        assert events(service, run_id, follow=False) == whole


def test_of_many_events_few_are_in_memory_at_the_same_time(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(store) as service:
        run_id = service.submit()["id"]
        service.wait_for(run_id)
        key = RequestKey("default", run_id)
        end = RequestKeys(key).event(int(numbered(service, run_id)[-1]["event_id"]))
        last, place = int(end[-11:-5]), store.get(end)
        store.delete(end)
        for number in range(20):
            service.server.queue._requests.events.add(key, "message", str(number), retries=0, now_ms=1)
        store.put(RequestKeys(key).event(last + 20), place)
        sizes: list[int] = []
        news = events_api._Watch.news

        def counted(watch: events_api._Watch) -> Sequence[str]:
            found = news(watch)
            sizes.append(len(found))
            return found

        monkeypatch.setattr(events_api._Watch, "news", counted)
        monkeypatch.setattr(events_api, "MOST_AT_ONCE", 7)
        for follow in (True, False):
            shown = numbered(service, run_id, follow=follow)
            assert [int(one["event_id"]) for one in shown] == list(range(1, last + 21))
        assert max(sizes) <= 8


def test_a_client_that_resumes_while_the_end_is_recorded_gets_the_end(store: FileStore) -> None:
    with running(store) as service:
        run_id = service.submit()["id"]
        service.wait_for(run_id)
        service.wait_until_gone("queue/")
        whole = numbered(service, run_id)
        # As it was just after the end was stored.
        key = RequestKey("default", run_id)
        at = RequestKeys(key).event(int(whole[-1]["event_id"]))
        ended, requests = store.get(at), service.server.queue._requests
        found = requests.find(key)
        assert found
        looks = threading.Event()
        service.server.queue._look = looks.set  # type: ignore[method-assign]
        service.server.queue.wake()
        assert looks.wait(PATIENCE_S), "the last real look has ended"
        store.put(entry_of(found.request, 0), b"")
        store.delete(at)

        def record() -> None:
            store.put(at, ended)
            store.delete(entry_of(found.request, 0))

        later = threading.Timer(0.3, record)
        later.start()
        assert numbered(service, run_id, whole[-2]["event_id"]) == whole[-1:]
        later.join()


def test_progress_has_no_id_and_is_of_this_run(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with running(store, takes_ms=10**7) as service:

        def sent(status: Status) -> Any:
            service.end_jobs()
            return progress_view(status)

        monkeypatch.setattr(events_api, "progress_view", sent)
        run_id = service.submit()["id"]
        shown = [one for one in events(service, run_id) if one["event"] == "progress"]
        assert shown
        assert all(not one["event_id"] and 0 <= one["percent"] <= 100 for one in shown)


def test_a_run_that_is_tried_again_has_all_its_events(store: FileStore) -> None:
    broken = {"on": True}

    def script(job: Job) -> JobBehaviour:
        if broken["on"]:
            return fails_with(ExitCode.BAD_INPUT, "is not media", "")
        return JobBehaviour(leaves="result", takes_ms=20)

    with running(store, script=script) as service:
        run_id = service.submit()["id"]
        service.wait_for(run_id, "failed")
        before = [one["event"] for one in events(service, run_id) if one["event"] != "message"]
        assert before == ["accepted", "started", "ended"]
        broken["on"] = False
        service.client.post(f"/v1/runs/{run_id}:retry")
        service.wait_for(run_id, "complete")
        kept = [one for one in events(service, run_id) if one["event"] not in ("message", "progress")]
        assert [one["event"] for one in kept] == ["accepted", "started", "ended", "retried", "started", "ended"]
        assert [one.get("status") for one in kept][2:] == ["failed", "queued", "running", "complete"]


def test_an_id_that_is_none_is_refused(store: FileStore) -> None:
    with running(store) as service:
        run_id = service.submit()["id"]
        for text in ("x", "1", "000001-zzzz", "../../x"):
            reply = service.client.get(f"/v1/runs/{run_id}/events", headers={"Last-Event-ID": text})
            assert (reply.status_code, reply.headers["content-type"]) == (422, "application/problem+json")
        service.wait_for(run_id)
