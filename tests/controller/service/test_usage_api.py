"""``/v1/usage``: the sums of a tenant's own runs, by the time of their submission."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from chunk_job.store.files import FileStore
from controller.service import usage_api
from tests.controller.service.running import Running, running, tenants_file

pytestmark = pytest.mark.process


@pytest.fixture
def service(store: FileStore, tmp_path: Path) -> Iterator[Running]:
    tenants, headers = tenants_file(tmp_path, news="sources = []", other="sources = []")
    with running(store, tenants=tenants) as up:
        up.client.headers.update(headers["news"])
        yield up


def test_a_tenant_sees_the_sum_of_its_own_runs(service: Running) -> None:
    runs = [service.wait_for(service.submit(f"{number}.wav")["id"]) for number in range(2)]
    answer = service.client.get("/v1/usage")
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert (found["from"], found["submitted"]) == (None, 2)
    usage = found["usage"]
    assert (usage["runs"], usage["attempts"], usage["failed_attempts"], usage["audio_s"]) == (2, 4, 0, 20)
    assert usage["cost"] is None
    others = service.client.get("/v1/usage", headers={"Authorization": "Bearer stf_other_token"}).json()
    assert (others["submitted"], others["usage"]["runs"], others["usage"]["paid_s"]) == (0, 0, 0)
    for count, run in enumerate(runs, 1):
        assert service.client.delete(f"/v1/runs/{run['id']}").status_code == 204
        assert service.client.get("/v1/usage").json() == found | {"to": ANY}, f"after {count} were deleted"
    others = service.client.get("/v1/usage", headers={"Authorization": "Bearer stf_other_token"}).json()
    assert (others["submitted"], others["usage"]["runs"]) == (0, 0)


def test_a_period_has_its_begin_and_not_its_end(service: Running) -> None:
    service.wait_for(service.submit("talk.wav")["id"])
    (run,) = service.client.get("/v1/runs").json()["runs"]
    at = datetime.fromisoformat(run["created_at"])

    def submitted(**period: datetime) -> int:
        answer = service.client.get("/v1/usage", params={name: one.isoformat() for name, one in period.items()})
        assert answer.status_code == 200, answer.text
        found: int = answer.json()["submitted"]
        return found

    moment = timedelta(milliseconds=1)
    assert submitted(**{"from": at}) == 1
    assert submitted(**{"from": at + moment}) == 0
    assert submitted(to=at) == 0
    assert submitted(to=at + moment) == 1
    assert submitted(**{"from": datetime(1, 1, 2, tzinfo=UTC)}, to=datetime(9999, 1, 1, tzinfo=UTC)) == 1


@pytest.mark.parametrize("period", ["from=yesterday", "to=2026-11-01T00:00:00", "to=0.5", "since=2026-11-01T00:00:00Z"])
def test_what_is_no_period(service: Running, period: str) -> None:
    answer = service.client.get(f"/v1/usage?{period}")
    assert (answer.status_code, answer.json()["type"]) == (422, "urn:stenofleet:problem:invalid-request")


def test_too_many_runs_are_refused(service: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_api, "MOST_RUNS", 1)
    for _ in range(2):
        service.submit("talk.wav")
    answer: Any = service.client.get("/v1/usage")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "more than 1 runs were submitted in this period"
    assert "shorter periods" in answer.json()["advice"]
