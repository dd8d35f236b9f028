"""A batch that outlives its clients and its service: real processes, tenants, jobs and transcripts, a store in S3.

``STENOFLEET_TEST_BATCH`` sets how many recordings there are.
"""

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.open_store import open_store
from controller.service.tokens import new_token, written_digest
from tests import many
from tests.e2e.test_serve import Replica
from tests.pipeline import Started, Workplace, until

pytestmark = [pytest.mark.process, pytest.mark.timeout(2 * many.PATIENCE_S)]


@pytest.fixture
def places(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[tuple[Workplace, Workplace, Workplace]]:
    """Two machines of the tenant, and that of the service."""
    all_of = (Workplace(tmp_path / "one"), Workplace(tmp_path / "two"), Workplace(tmp_path / "service"))
    yield all_of
    for one in all_of:
        one.clear()


def test_clients_and_the_service_are_killed_and_each_recording_is_submitted_once(
    places: tuple[Workplace, Workplace, Workplace], bucket: str
) -> None:
    one, two, site = places
    token = new_token()
    tenants = site.folder / "tenants.toml"
    tenants.write_text(f'[tenants.news]\ntokens = ["{written_digest(token)}"]\n')
    store = open_store(f"s3://{bucket}/service")

    def serve(port: int = 0) -> Replica:
        replica = Replica(site, "--tenants", str(tenants), token=token, store=store.url, port=port)
        replica.client.close()
        return replica

    replica = serve()
    for machine in (one, two):
        many.lay(machine.folder / "talks")
        (machine.folder / "token").write_text(token)
    server = ("--server", replica.url, "--token-file", "token")

    def submit(machine: Workplace) -> Started:
        return machine.start("batch", "submit", "talks", "-o", "text", "-f", "txt", *server)

    def submitted(share: float) -> None:
        def are() -> bool:
            return sum(key.key.endswith("/request.json") for key in store.list("requests/")) >= share * many.COUNT

        until(are, f"{share:.0%} are submitted", patience_s=many.PATIENCE_S)

    for share in (0.2, 0.5):
        started = submit(one)
        submitted(share)
        started.kill()
    started = submit(two)
    submitted(0.75)
    replica.started.kill()
    serve(replica.port)
    sent = started.ended(patience_s=many.PATIENCE_S)
    assert sent.code == 0, sent.err
    batch = sent.out.strip()

    def written() -> dict[str, str]:
        return {path.name: path.read_text() for path in (two.folder / "text").glob("*.txt")}

    wait = ("batch", "wait", batch, *server, "--json", "--junit", "junit.xml", "--dotenv", "batch.env")
    waiting = two.start(*wait)
    until(lambda: len(written()) >= many.GOOD // 3, "a third is written", patience_s=many.PATIENCE_S)
    waiting.process.send_signal(signal.SIGINT)
    assert waiting.ended().code == 130
    ended = two.start(*wait).ended(patience_s=many.PATIENCE_S)
    assert ended.code == 4, ended.err
    *_, last = map(json.loads, ended.out.splitlines())
    assert (last["complete"], last["failed"], last["left"]) == (many.GOOD, len(many.BROKEN), 0)
    assert {one["source"] for one in last["failures"]} == {
        f"talks/{many.name_of(number)}.wav" for number in many.BROKEN
    }
    many.check_transcripts(written())
    many.check_junit(two.folder / "junit.xml")
    many.check_dotenv(two.folder / "batch.env")

    reported = one.run("batch", "report", batch, "-o", "reports", *server)
    assert reported.code == 0, reported.err
    many.check_report(one.folder / "reports")
    requests = [key.key for key in store.list("requests/") if key.key.endswith("/request.json")]
    assert (len(requests), len(list(store.folders("runs/")))) == (many.COUNT, many.COUNT), "nothing is there twice"
    assert token not in "".join(Path(file).read_text(errors="replace") for file in site.folder.glob("command*.err"))
