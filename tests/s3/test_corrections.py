"""Corrections with a real server: two replicas of the service give each its own number, and none is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from chunk_job.store.base import Store
from controller.domain.keys import RunKeys
from tests.controller.service.running import Running, running


@pytest.fixture
def replicas(store: Store) -> Iterator[tuple[Running, Running]]:
    with running(store, chunks_ms=(10_000, 10_000)) as one, running(store) as other:
        yield one, other


def test_replicas_take_corrections_at_the_same_time_and_lose_none(
    replicas: tuple[Running, Running], store: Store
) -> None:
    run = replicas[0].wait_for(replicas[0].submit()["id"])
    path = f"/v1/runs/{run['id']}"

    for one in replicas:
        # The framework prepares its routes at the first request, and hides warnings then: not in two threads at once.
        assert one.client.get(f"{path}/corrections").status_code == 200

    def save(at: int) -> int:
        body = {"segment": at % 2, "text": f"text {at}"}
        return replicas[at % 2].client.post(f"{path}/corrections", json=body).status_code

    with ThreadPoolExecutor(6) as pool:
        assert set(pool.map(save, range(18))) == {201}
    for one in replicas:
        found = one.client.get(f"{path}/corrections").json()
        assert [made["number"] for made in found["corrections"]] == list(range(1, 19))
        assert {made["text"] for made in found["corrections"]} == {f"text {at}" for at in range(18)}
        assert found["conflicts"] == [0, 1]
        text = one.client.get(f"{path}/result", params={"format": "txt", "version": "latest"}).text
        assert text == "".join(f"{line['text']}\n" for line in sorted(found["lines"], key=lambda line: line["segment"]))
    assert replicas[1].client.delete(path).status_code == 204
    assert list(store.list(RunKeys(run["run"]).home)) == []
    assert replicas[0].client.get(f"{path}/corrections").status_code == 404
