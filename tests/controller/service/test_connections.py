"""Clients that say nothing, or too slowly, or too much, over real sockets: others are served all the same."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import Response
from fastapi.responses import StreamingResponse

from chunk_job.store.files import FileStore
from controller.service import body_limit, connections, forms, serving
from controller.service.connections import Silent
from tests.controller.service.running import Running, running, tenants_file
from tests.pipeline import until

pytestmark = pytest.mark.process
HEAD = "POST /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
PART = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'


@contextlib.contextmanager
def connected(up: Running, sent: bytes = b"") -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", up.server.port), timeout=30) as opened:
        opened.sendall(sent)
        yield opened


def is_closed(opened: socket.socket) -> bool:
    """Whether the server has closed the connection."""
    opened.setblocking(False)
    try:
        return not opened.recv(65_536)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


def trickle(opened: socket.socket, piece: bytes) -> None:
    """Send *piece* again and again until the server has closed the connection."""

    def closed() -> bool:
        with contextlib.suppress(BlockingIOError, ConnectionError):
            opened.send(piece)
        return is_closed(opened)

    until(closed, "the connection is closed")


def reply(opened: socket.socket) -> tuple[int, dict[str, str], dict[str, Any]]:
    """The status, the header fields and the problem of the response."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += opened.recv(65_536) or pytest.fail(f"closed after {received!r}")
    head, _, body = received.partition(b"\r\n\r\n")
    first, *lines = head.decode().splitlines()
    fields = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
    while len(body) < int(fields["content-length"]):
        body += opened.recv(65_536) or pytest.fail(f"closed after {received!r}")
    return int(first.split()[1]), fields, json.loads(body)


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients have a third of a second."""
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.3)
    monkeypatch.setattr(body_limit, "SILENT_S", 0.3)
    monkeypatch.setattr(body_limit, "LINGER_S", 0.3)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nX: "], ids=["nothing", "head"])
def test_a_client_that_never_ends_the_head_of_its_request_is_cut_off(store: FileStore, sent: bytes) -> None:
    with running(store) as up, connected(up, sent) as silent, connected(up, sent or b"GET") as slow:
        trickle(slow, b"x")
        until(lambda: is_closed(silent), "the silent one is closed")


@pytest.mark.usefixtures("hasty")
def test_a_client_that_goes_on_sending_after_its_answer_is_cut_off(store: FileStore, tmp_path: Path) -> None:
    path, _ = tenants_file(tmp_path, news="")
    with running(store, tenants=path) as up, connected(up, f"{HEAD}Content-Length: 100000\r\n\r\n".encode()) as slow:
        assert reply(slow)[0] == 401
        trickle(slow, b"x")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("each", [b"", b"x"], ids=["silent", "slow"])
def test_a_body_that_comes_too_slowly_is_refused(store: FileStore, each: bytes) -> None:
    with running(store) as up, connected(up, f"{HEAD}Content-Length: 100000\r\n\r\n".encode() + PART) as slow:
        slow.setblocking(False)
        received = b""

        def answered() -> bool:
            nonlocal received
            with contextlib.suppress(BlockingIOError, ConnectionError):
                slow.send(each)
            with contextlib.suppress(BlockingIOError):
                received += slow.recv(65_536)
            return b"too-slow" in received

        until(answered, "it is refused")
        assert received.startswith(b"HTTP/1.1 408 ")


def test_a_short_pause_within_a_body_is_no_harm(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "SILENT_S", 5.0)
    body = PART + b"sound\r\n--x--\r\n"
    with running(store) as up, connected(up, f"{HEAD}Content-Length: {len(body)}\r\n\r\n".encode()) as slow:
        for byte in body:
            slow.send(bytes([byte]))
            time.sleep(0.002)
        assert reply(slow)[0] == 202


def test_silent_clients_do_not_keep_others_out(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "Silent", lambda: Silent(5))
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 8)
    with running(store) as up, contextlib.ExitStack() as opened:
        silent = [opened.enter_context(connected(up, b"GET / HT" if number % 2 else b"")) for number in range(30)]
        # The one that has been silent for longest goes first.
        until(lambda: all(is_closed(one) for one in silent[:20]), "they are closed")
        with connected(up, b"GET /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as other:
            assert reply(other)[0] == 200


def test_more_clients_than_a_process_can_have_are_told_so(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 3)
    begun = f"{HEAD}Content-Length: 1000\r\n\r\n".encode()
    with running(store) as up, contextlib.ExitStack() as opened:
        for _ in range(3):
            opened.enter_context(connected(up, begun))
        with connected(up, b"GET /v1/runs HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n") as other:
            status, fields, problem = reply(other)
    assert (status, fields["retry-after"], problem["type"]) == (503, "5", "urn:stenofleet:problem:busy")


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked", "declared"])
def test_a_client_that_sends_too_much_before_it_reads_gets_the_reason(store: FileStore, *, chunked: bool) -> None:
    data = PART + bytes(20 << 20)
    length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(data)}"
    with running(store, most_form_bytes=1 << 20) as up, connected(up, f"{HEAD}{length}\r\n\r\n".encode()) as other:
        other.sendall(b"%x\r\n%s\r\n0\r\n\r\n" % (len(data), data) if chunked else data)
        status, fields, problem = reply(other)
        assert (status, fields["content-type"]) == (413, "application/problem+json")
        assert (problem["type"], fields["connection"]) == ("urn:stenofleet:problem:too-large", "close")


def test_the_limit_is_that_of_the_recording(store: FileStore) -> None:
    with running(store, most_form_bytes=1000) as up:
        assert up.client.post("/v1/runs", files={"file": ("a.wav", bytes(1000))}).status_code == 202
        for path in ("/v1/runs", "/v1/audio/transcriptions"):
            refused = up.client.post(path, files={"file": ("a.wav", bytes(1001))})
            assert (refused.status_code, refused.json()["detail"]) == (413, "the recording has more than 1000 bytes")


def test_recordings_that_are_received_at_once_are_bounded(
    store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forms, "MOST_OF_TENANT", 2)
    monkeypatch.setattr(forms, "MOST_AT_ONCE", 3)
    path, headers = tenants_file(tmp_path, news="", radio="", video="")
    recording = {"file": ("a.wav", b"sound")}

    def begun(tenant: str) -> bytes:
        token = headers[tenant]["Authorization"]
        return f"{HEAD}Authorization: {token}\r\nContent-Length: 1000\r\n\r\n".encode() + PART

    with running(store, tenants=path) as up, contextlib.ExitStack() as opened:
        service = up.server.app.state.service
        for number, tenant in enumerate(("news", "news", "radio"), 1):
            opened.enter_context(connected(up, begun(tenant)))
            until(lambda number=number: service.receiving.now == number, "it is received")  # type: ignore[misc]
        for tenant, status, kind in (("news", 429, "limit-exceeded"), ("video", 503, "busy")):
            refused = up.client.post("/v1/runs", files=recording, headers=headers[tenant])
            assert (refused.status_code, refused.json()["type"].rpartition(":")[2]) == (status, kind)
            assert refused.headers["retry-after"] == "5"
        opened.close()
        until(lambda: service.receiving.now == 0, "the others are gone")
        assert up.client.post("/v1/runs", files=recording, headers=headers["video"]).status_code == 202


def test_a_client_that_goes_away_while_it_sends_is_no_bug(store: FileStore, caplog: pytest.LogCaptureFixture) -> None:
    with running(store) as up:
        with connected(up, f"{HEAD}Content-Length: 100000\r\n\r\n".encode() + PART):
            until(lambda: up.server.app.state.service.receiving.now == 1, "it is received")
        until(lambda: up.server.app.state.service.receiving.now == 0, "it is gone")
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.parametrize("piece", [1 << 18, 16 << 20], ids=["in pieces", "at once"])
def test_a_client_that_reads_nothing_is_cut_off_and_one_that_reads_slowly_is_not(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(connections, "READ_WITHIN_S", 0.5)
    monkeypatch.setattr(connections, "HEAD_WITHIN_S", 0.5)
    size = 16 << 20
    request = b"GET /large HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"

    def large() -> Response:
        if piece == size:
            return Response(bytes(size))
        pieces = (bytes(piece) for _ in range(size // piece))
        return StreamingResponse(pieces, headers={"Content-Length": str(size)})

    with running(store) as up:
        up.server.app.add_api_route("/large", large)
        http = up.server._http
        assert http
        with connected(up, request) as opened:
            assert opened.recv(4) == b"HTTP"
            until(lambda: not http.server_state.connections, "the connection is closed")
        with connected(up, request) as opened:
            received = 0
            while received < size:
                received += len(opened.recv(1 << 17) or pytest.fail(f"closed after {received} bytes"))
                time.sleep(0.01)
