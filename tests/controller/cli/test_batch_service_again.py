"""``batch wait --server`` again: transcripts that are written and unchanged are not fetched again."""

from pathlib import Path
from typing import Any

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller import cli
from controller.client.http import Connection
from controller.domain.jobs import Job
from tests.controller.cli.test_batch_service import handlers, machine, recordings, service, submitted, wait
from tests.controller.service.running import Running, running
from tests.fakes import DONE, JobBehaviour, fails_with

__all__ = ["handlers", "machine", "service"]

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("working_folder")]

COUNT = 6


class Asked:
    """The requests to the service since the last look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._sent: list[str] = []
        ordinary = Connection.send

        def send(connection: Connection, method: str, address: str, **more: Any) -> Any:
            self._sent.append(address)
            return ordinary(connection, method, address, **more)

        monkeypatch.setattr(Connection, "send", send)

    def taken(self) -> dict[str, int]:
        """How many there were of each kind."""
        last = [address.partition("?")[0].rpartition("/")[2] for address in self._sent]
        self._sent.clear()
        found = {kind: last.count(kind) for kind in ("runs", "result", "report")}
        return found | {"run": len(last) - sum(found.values())}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(monkeypatch)


def files() -> dict[str, tuple[bytes, int]]:
    """The files of the output folder, with what changes when one is written again."""
    return {str(path): (path.read_bytes(), path.stat().st_ino) for path in Path("out").rglob("*.*")}


def test_nothing_is_fetched_again_and_all_is_said_again(
    service: Running, machine: Any, capsys: pytest.CaptureFixture[str], asked: Asked
) -> None:
    recordings(COUNT, 2)
    batch = submitted(capsys, "archive", "-o", "out", "-f", "txt,srt")
    checks = ("--min-confidence", "0.5", "--max-rtf", "100", "--junit")
    assert wait(batch, *checks, "first.xml", "--json") == 4
    first, written = capsys.readouterr().out, files()
    asked.taken()
    for name in ("second.xml", "third.xml"):
        assert wait(batch, *checks, name, "--json") == 4
        assert asked.taken() == {"runs": 1, "run": COUNT, "result": 0, "report": COUNT - 1}
        assert sorted(capsys.readouterr().out.splitlines()) == sorted(first.splitlines())
        assert Path(name).read_bytes() == Path("first.xml").read_bytes()
    assert files() == written
    # A gate that reads the words needs them.
    assert wait(batch, "--captions-profile", "netflix") in (4, 7)
    assert asked.taken()["result"] == COUNT - 1
    # Another machine knows nothing of these files, and writes to its own ones.
    machine("b")
    assert wait(batch, "-o", "elsewhere") == 4
    assert asked.taken()["result"] == COUNT - 1
    assert wait(batch, "-o", "elsewhere", "--junit", "counted.xml") == 4
    assert asked.taken()["result"] == COUNT - 1, "the words were not counted before"
    assert wait(batch, "-o", "elsewhere", "--junit", "counted.xml") == 4
    assert asked.taken()["result"] == 0


def test_what_is_missing_or_changed_is_fetched(
    service: Running, capsys: pytest.CaptureFixture[str], asked: Asked
) -> None:
    recordings(COUNT)
    batch = submitted(capsys, "archive", "-o", "out", "-f", "txt")
    assert wait(batch) == 0
    missing, changed = Path("out/show 0/talk-00.txt"), Path("out/show 1/talk-01.txt")
    text = missing.read_bytes()
    missing.unlink()
    changed.write_bytes(b"corrected by hand")
    asked.taken()
    capsys.readouterr()
    assert wait(batch) == 0
    assert asked.taken()["result"] == 2
    assert (missing.read_bytes(), changed.read_bytes()) == (text, b"corrected by hand")
    assert f"{changed.absolute()} is kept" in capsys.readouterr().err
    assert wait(batch) == 0
    assert asked.taken()["result"] == 1
    assert "is kept" in capsys.readouterr().err, "each time"
    assert wait(batch, "--overwrite") == 0
    assert (asked.taken()["result"], changed.read_bytes()) == (1, text)
    for _ in range(2):
        # Another form is another transcript.
        assert wait(batch, "-f", "json,txt") == 0
    assert asked.taken()["result"] == COUNT


def test_a_run_that_was_tried_again_is_fetched(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, asked: Asked
) -> None:
    healed = Path("healed")

    def script(job: Job) -> JobBehaviour:
        return DONE if job.span != 1 or healed.exists() else fails_with(ExitCode.DECODE)

    recordings(1)
    with running(store, script=script, chunks_ms=(10_000, 10_000)) as up:
        monkeypatch.setenv("STENOFLEET_SERVER", up.address)
        batch = submitted(capsys, "archive", "-o", "out", "-f", "txt", "--on-chunk-failure", "gap")
        assert [wait(batch), wait(batch)] == [4, 4]
        assert asked.taken()["result"] == 1
        path = Path("out/show 0/talk-00.txt")
        partial = path.read_bytes()
        healed.touch()
        assert cli.run(["batch", "retry", batch]) == 0
        assert [wait(batch), wait(batch)] == [0, 0]
        assert asked.taken()["result"] == 1
        assert path.read_bytes() != partial
