"""Commands about runs, with the ids that the service's API gives."""

import pytest

from chunk_job.store.files import FileStore
from controller import cli
from controller.domain.ledger_keys import used_of
from tests.controller.service.running import running

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def here(store: FileStore, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))


def left(store: FileStore) -> set[str]:
    """The folders of the store that have objects, besides those of the process that serves."""
    return {entry.key.partition("/")[0] for entry in store.list("")} - {"replicas"}


def test_commands_take_the_id_of_the_api(store: FileStore, capsys: pytest.CaptureFixture[str]) -> None:
    with running(store) as service:
        ended = service.wait_for(service.submit("talk.wav")["id"])
        run_id, run = ended["id"], ended["run"]
        assert cli.run(["status", run_id]) == 0
        said = capsys.readouterr().out
        assert run in said
        assert f"request      {run_id}\ntenant       default" in said
        assert cli.run(["render", run_id.upper(), "-f", "txt", "-o", "."]) == 0
        assert cli.run(["logs", run_id]) == 0
        capsys.readouterr()
        assert cli.run(["resume", run_id]) == 2
        assert f"POST /v1/runs/{run_id}:retry" in capsys.readouterr().err
        assert cli.run(["status", "0" * 26]) == 2
        assert f"no run {'0' * 26}" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["the id of the API", "the run", "--all"])
def test_clean_removes_a_run_of_the_service_with_everything_of_it(store: FileStore, by: str) -> None:
    with running(store) as service:
        other, ended = (service.wait_for(service.submit()["id"]) for _ in range(2))
        service.wait_until_gone("queue/")
        named = {"the id of the API": ended["id"], "the run": ended["run"]}.get(by, by)
        assert cli.run(["clean", named, "--yes"]) == 0
        assert service.client.get(f"/v1/runs/{ended['id']}").status_code == 404
        runs = service.client.get("/v1/runs").json()["runs"]
        assert [run["id"] for run in runs] == ([] if by == "--all" else [other["id"]])
        assert by != "--all" or left(store) == {"ledger"}
        # The id of the API is not kept.
        assert cli.run(["clean", "--all" if by == "--all" else ended["run"], "--usage", "--yes"]) == 0
        assert by != "--all" or left(store) == set()
        assert not list(store.list(used_of(ended["run"])))
        assert [entry for entry in store.list("ledger/tenants/") if ended["run"] in entry.key] == []


def test_clean_leaves_a_run_of_the_service_that_has_not_ended(
    store: FileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(store, takes_ms=10**6) as service:
        run_id = service.submit()["id"]
        service.wait_for(run_id, "running")
        assert cli.run(["clean", run_id, "--yes"]) == 4
        assert f"POST /v1/runs/{run_id}:cancel" in capsys.readouterr().err
        assert service.client.get(f"/v1/runs/{run_id}").json()["status"] == "running"


def test_a_request_without_a_run_is_explained_and_cleaned(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    with running(store) as service:
        run_id = service.client.post("/v1/runs", json={"source": "s3://no-such/talk.wav"}).json()["id"]
        service.wait_for(run_id, "failed")
        service.wait_until_gone("queue/")
        assert cli.run(["status", run_id]) == 2
        said = capsys.readouterr().err
        assert f"request {run_id} of the service (failed) has no run" in said
        assert f"GET /v1/runs/{run_id}" in said
        assert cli.run(["clean", "--all", "--yes"]) == 0
        assert left(store) == set()
