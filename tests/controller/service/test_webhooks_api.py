"""``/v1/webhooks/dead`` with a running service: what a receiver has refused is visible, repeatable, and deletable."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller.service import webhooks
from tests.controller.service.receiving import Receiver, serving
from tests.controller.service.running import Running, running, tenants_file
from tests.pipeline import until

pytestmark = pytest.mark.process

DEAD = "/v1/webhooks/dead"
GONE = 410


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    """A receiver that accepts no event."""
    monkeypatch.setattr(webhooks.WebhookThread.__init__, "__defaults__", (0.02,))
    with serving() as server:
        server.status(GONE)
        yield server


class Two:
    """A service with two tenants whose callbacks may go to this machine."""

    def __init__(self, service: Running, headers: dict[str, dict[str, str]], receiver: Receiver) -> None:
        self.service, self.headers, self.receiver = service, headers, receiver

    def ended(self, tenant: str = "news") -> str:
        """A run that ended, and whose callback was tried."""
        before = len(self.receiver.received)
        run: str = self.service.submit(headers=self.headers[tenant], callback_url=self.receiver.url)["id"]
        until(lambda: len(self.receiver.received) > before, "it is sent")
        return run

    def get(self, path: str, tenant: str = "news") -> Any:
        reply = self.service.client.get(path, headers=self.headers[tenant])
        assert reply.status_code == 200, reply.text
        return reply.json()

    def dead(self, number: int, tenant: str = "news") -> list[dict[str, Any]]:
        """The dead deliveries, as soon as there are *number* of them."""
        until(lambda: len(self.get(DEAD, tenant)["deliveries"]) == number, f"{number} are dead")
        found: list[dict[str, Any]] = self.get(DEAD, tenant)["deliveries"]
        return found

    def send(self, method: str, path: str, tenant: str = "news") -> Any:
        return self.service.client.request(method, path, headers=self.headers[tenant])

    def stored(self) -> list[str]:
        """The keys of the deliveries."""
        return [entry.key for entry in self.service.store.list("webhooks/") if entry.key.endswith(".json")]


@pytest.fixture
def two(store: FileStore, receiver: Receiver, tmp_path: Path) -> Iterator[Two]:
    keys = tmp_path / "keys.toml"
    keys.write_text('current = "k"\n[keys]\nk = "a secret of 32 bytes, or longer."\n')
    allowed = 'webhook_hosts = ["127.0.0.0/8"]'
    tenants, headers = tenants_file(tmp_path, news=allowed, radio=allowed)
    with running(store, tenants=tenants, webhook_keys=keys) as service:
        yield Two(service, headers, receiver)


def test_a_dead_delivery_is_listed_and_sent_again_with_its_id(two: Two) -> None:
    run = two.ended()
    (dead,) = two.dead(1)
    assert (dead["run_id"], dead["type"], dead["url"]) == (run, "io.stenofleet.run.completed", two.receiver.url)
    assert (dead["state"], dead["attempts"]) == ("dead", 1)
    assert dead["last_error"] == "the receiver responded with HTTP 410"
    assert dead["created_at"] <= dead["last_attempt_at"]
    two.receiver.status(204)
    reply = two.send("POST", f"{DEAD}/{dead['id']}:repeat")
    assert (reply.status_code, reply.json()["state"], reply.json()["attempts"]) == (202, "pending", 0)
    until(lambda: len(two.receiver.received) == 2, "it is sent again")
    assert {headers["Stenofleet-Delivery"] for _, headers, _ in two.receiver.received} == {dead["id"]}
    assert two.dead(0) == []
    assert two.send("POST", f"{DEAD}/{dead['id']}:repeat").status_code == 404


def test_a_dead_delivery_is_deleted(two: Two) -> None:
    two.ended()
    (dead,) = two.dead(1)
    assert two.send("DELETE", f"{DEAD}/{dead['id']}").status_code == 204
    assert two.send("DELETE", f"{DEAD}/{dead['id']}").status_code == 404
    assert two.stored() == []


def test_a_tenant_sees_nothing_of_another(two: Two) -> None:
    two.ended("radio")
    (dead,) = two.dead(1, "radio")
    assert two.dead(0) == []
    for unknown in ("0" * 32, "x", "..%2F..%2Fradio%2Fdead%2Fx"):
        for method, path in (("POST", ":repeat"), ("DELETE", "")):
            others = two.send(method, f"{DEAD}/{dead['id']}{path}")
            nobodys = two.send(method, f"{DEAD}/{unknown}{path}")
            assert (others.status_code, others.headers["content-type"]) == (404, "application/problem+json")
            assert others.json()["type"] == "urn:stenofleet:problem:not-found"
            assert unknown.startswith(".") or others.content == nobodys.content
            assert nobodys.status_code == 404
    assert two.dead(1, "radio") == [dead]
    assert two.service.client.get(DEAD).status_code == 401


def test_pages_have_every_dead_delivery_once(two: Two) -> None:
    runs = {two.ended() for _ in range(3)}
    two.dead(3)
    first = two.get(f"{DEAD}?limit=2")
    second = two.get(f"{DEAD}?limit=2&cursor={first['next_cursor']}")
    assert [len(page["deliveries"]) for page in (first, second)] == [2, 1]
    assert {each["run_id"] for page in (first, second) for each in page["deliveries"]} == runs
    assert second["next_cursor"] is None
    for query in ("limit=0", "cursor=../x", "cursor=" + "0" * 33):
        assert two.send("GET", f"{DEAD}?{query}").status_code == 422


def test_a_run_is_deleted_with_its_callbacks(two: Two) -> None:
    two.receiver.status(GONE)
    run, other = two.ended(), two.ended()
    until(lambda: len([key for key in two.stored() if "/dead/" in key]) == 2, "both are dead")
    until(lambda: two.send("DELETE", f"/v1/runs/{run}").status_code == 204, "it is deleted")
    (left,) = two.stored()
    assert two.service.store.get(left).decode().count(other)
    assert two.get(f"/v1/runs/{other}")["status"] == "complete"
