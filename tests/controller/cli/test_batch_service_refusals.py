"""``batch`` with ``--server``: signals, tokens, a service that is away, and what is refused."""

import os
import signal
import threading
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller import cli
from controller.cli.batch_service_wait import Waiting
from controller.client.http import Connection
from tests.controller.cli.test_batch_service import handlers, recordings, runs, service, submitted, wait
from tests.controller.service.running import Running, running, tenants_file
from tests.pipeline import PATIENCE_S
from tests.ports import free_port

__all__ = ["handlers", "service"]

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("working_folder")]


def test_a_signal_ends_the_wait(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings(1)
    with running(store, takes_ms=10**6) as service:
        monkeypatch.setenv("STENOFLEET_SERVER", service.address)
        batch = submitted(capsys, "archive")
        look, signals = Waiting._look, [signal.SIGTERM]

        def interrupted(waiting: Waiting) -> bool:
            goes_on = look(waiting)
            if signals:
                os.kill(os.getpid(), signals.pop())
            return goes_on

        monkeypatch.setattr(Waiting, "_look", interrupted)
        assert wait(batch) == 143
        assert "the same command continues" in capsys.readouterr().err


def test_tokens(
    store: FileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings(1)
    path, headers = tenants_file(tmp_path, news="", sport="")
    token = headers["news"]["Authorization"].removeprefix("Bearer ")
    with running(store, tenants=path) as service:
        monkeypatch.setenv("STENOFLEET_SERVER", service.address)
        assert cli.run(["batch", "submit", "archive"]) == 3
        assert "wants a token (HTTP 401)" in (said := capsys.readouterr().err)
        assert "--token-file" in said
        monkeypatch.setenv("STENOFLEET_TOKEN", "stf_wrong")
        assert cli.run(["batch", "submit", "archive"]) == 3
        assert "does not accept the token" in (said := capsys.readouterr().err)
        assert "stf_wrong" not in said
        assert "no such option" not in said
        Path("token").write_text(f"{token}\n")
        batch = submitted(capsys, "archive", "--token-file", "token")
        # Another tenant does not see it.
        monkeypatch.setenv("STENOFLEET_TOKEN", headers["sport"]["Authorization"].removeprefix("Bearer "))
        assert wait(batch) == 2
        assert f"has no runs of batch {batch}" in capsys.readouterr().err
        Path("token").write_text("two words\n")
        assert wait(batch, "--token-file", "token") == 2
        assert "two words" not in capsys.readouterr().err


def test_a_service_that_is_away_is_waited_for(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings(2)
    port = free_port()
    monkeypatch.setenv("STENOFLEET_SERVER", f"http://127.0.0.1:{port}")
    assert cli.run(["batch", "submit", "archive", "--store-patience", "0"]) == 3
    assert "does not answer" in capsys.readouterr().err
    waits, over = threading.Event(), threading.Event()
    pause = Connection.pause

    def seen(connection: Connection, seconds: float) -> None:
        waits.set()
        pause(connection, seconds)

    monkeypatch.setattr(Connection, "pause", seen)

    def serve_later() -> None:
        waits.wait(PATIENCE_S)
        with running(store, port=port):
            over.wait(PATIENCE_S)

    later = threading.Thread(target=serve_later)
    later.start()
    try:
        batch = submitted(capsys, "archive", "--store-patience", "30")
        assert wait(batch, "-o", "out") == 0
    finally:
        over.set()
        later.join()


@pytest.mark.parametrize(
    "arguments,why",
    [
        (("--device", "cuda"), "--device: not possible with --server"),
        (("--shard", "1/2"), "--shard: not possible with --server"),
        (("--min-coverage", "0.5"), "--min-coverage: not possible with --server"),
        (("--store", "file:///tmp/x", "--server", "http://localhost:1"), "--server and --store contradict"),
        (("-o", "source"), "-o source: not possible with --server"),
        (("--server", "ftp://x"), "--server: is not the address of a service"),
        (("--server", "http://me:secret@x"), "--server: is not the address of a service"),
    ],
)
def test_what_a_service_cannot_take_is_refused(
    arguments: tuple[str, ...], why: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings(1)
    monkeypatch.setenv("STENOFLEET_SERVER", "http://127.0.0.1:1")
    assert cli.run(["batch", "submit", "archive", "--store-patience", "0", *arguments]) == 2
    assert why in (said := capsys.readouterr().err)
    assert "secret" not in said


def test_options_that_the_service_refuses_end_the_submission(
    service: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings(30)
    assert cli.run(["batch", "submit", "archive", "--model", "huge"]) == 2
    assert "no model called 'huge'" in capsys.readouterr().err
    assert runs(service) == []


def test_options_of_a_service_need_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["batch", "wait", "0" * 16, "-o", "out"]) == 2
    assert "--output-dir: only for a batch of a service" in capsys.readouterr().err
