"""Requests to a service: what is repeated, what is not, and who gets the token. The server is a real one."""

import contextlib
import io
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from controller.client import http
from controller.client.bodies import FilePart, FormWithFile
from controller.client.http import Connection, Refused, checked_url
from controller.errors import EnvironmentProblem, MediaProblem, UsageProblem

pytestmark = pytest.mark.process


class Server:
    """A server that answers as the test says, and keeps what it gets."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                server.asked.append((self.command, self.path, dict(self.headers), data))
                status, headers, body = server.answers.pop(0) if server.answers else (200, {}, b"{}")
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body) + int(headers.get("X-Missing", 0))))
                self.end_headers()
                self.wfile.write(body)
                self.close_connection = "X-Missing" in headers

            do_GET = do_PUT = do_POST = _answer  # noqa: N815 (names of the library)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    @property
    def port(self) -> int:
        return self.server.server_address[1]

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as found:
        yield found


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(http, "_FIRST_S", 0.01)
    for name in ("SSL_CERT_FILE", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    return []


def connected(server: Server, said: list[str], *, patience_s: float = 5) -> Connection:
    return Connection(f"http://127.0.0.1:{server.port}", "t0ken", patience_s=patience_s, say=said.append)


def test_a_busy_service_is_asked_again(server: Server, said: list[str]) -> None:
    busy = (503, {"Retry-After": "0"}, b'{"type": "urn:x:store", "detail": "the store is away"}')
    server.answers = [busy, (429, {"Retry-After": "0"}, b""), (500, {}, b"<html>"), (200, {}, b'{"a": 1}')]
    assert connected(server, said).send("POST", "/v1/runs", document={"b": 2}).json() == {"a": 1}
    assert [(method, data) for method, _, _, data in server.asked] == [("POST", b'{"b": 2}')] * 4
    assert len(said) == 1
    assert "waiting for up to 5 s" in said[0]


def test_the_patience_ends(server: Server, said: list[str]) -> None:
    server.answers = [(503, {"Retry-After": "60"}, b'{"detail": "the store is away", "advice": "wait"}')]
    with pytest.raises(Refused, match="HTTP 503: the store is away") as raised:
        connected(server, said).send("GET", "/v1/runs")
    assert (raised.value.exit_code, raised.value.advice, len(server.asked)) == (3, "wait", 1)


def test_an_answer_that_ends_early_is_asked_for_again(server: Server, said: list[str]) -> None:
    server.answers = [(200, {"X-Missing": "5"}, b"first"), (200, {}, b"whole")]
    file = io.BytesIO()
    connected(server, said).send("GET", "/v1/x", into=file)
    assert file.getvalue() == b"whole"


def test_no_redirect_is_followed(server: Server, said: list[str]) -> None:
    with contextlib.closing(Server()) as other:
        server.answers = [(307, {"Location": f"http://127.0.0.1:{other.port}/v1/runs"}, b"")]
        with pytest.raises(Refused, match="redirect") as raised:
            connected(server, said).send("GET", "/v1/runs")
        assert "--server" in raised.value.advice
        assert other.asked == []


def test_only_the_service_gets_the_token(server: Server, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"0123456789")
    with contextlib.closing(Server()) as store, path.open("rb") as file:
        connection = connected(server, said)
        connection.send("PUT", "/v1/uploads/1/parts/1", body=lambda: FilePart(file, 2, 5))
        connection.send(
            "POST",
            f"http://127.0.0.1:{store.port}/bucket",
            body=lambda: FormWithFile({"key": "a/b", "policy": "p"}, FilePart(file, 0, 10)),
        )
        (_, _, own, part), (_, _, other, form) = server.asked[0], store.asked[0]
    assert (own["Authorization"], part) == ("Bearer t0ken", b"23456")
    assert "Authorization" not in other
    boundary = other["Content-Type"].partition("boundary=")[2].encode()
    pieces = form.split(b"--" + boundary)
    assert [piece.partition(b"\r\n\r\n")[2] for piece in pieces[1:-1]] == [b"a/b\r\n", b"p\r\n", b"0123456789\r\n"]


def test_a_file_that_becomes_shorter_is_not_sent(server: Server, said: list[str], tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_bytes(b"0123")
    with path.open("rb") as file, pytest.raises(MediaProblem, match="has become shorter"):
        connected(server, said).send("PUT", "/v1/x", body=lambda: FilePart(file, 0, 10))


def test_a_proxy_of_the_environment_is_used(server: Server, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://me:pass@127.0.0.1:{server.port}")
    connection = Connection("http://service.example", "t0ken", patience_s=0, say=said.append)
    connection.send("GET", "/v1/runs")
    assert server.asked[0][1] == "http://service.example/v1/runs"
    assert server.asked[0][2]["proxy-authorization"].startswith("Basic ")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    connected(server, said).send("GET", "/v1/runs")
    assert server.asked[1][1] == "/v1/runs"


def test_certificates_are_checked(
    server: Server, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
    url = f"https://127.0.0.1:{server.port}"
    with pytest.raises(EnvironmentProblem, match="its certificate is not valid") as raised:
        Connection(url, "t0ken", patience_s=30, say=said.append).send("GET", "/v1/runs")
    assert "SSL_CERT_FILE" in raised.value.advice
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    Connection(url, "t0ken", patience_s=0, say=said.append).send("GET", "/v1/runs")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(EnvironmentProblem, match="no file"):
        Connection(url, "t0ken", patience_s=0, say=said.append)


@pytest.mark.parametrize("typed", ["x", "ftp://x", "http://", "http://a@x", "http://x?y", "http://x:y", "http://x y"])
def test_what_is_no_address_is_refused(typed: str) -> None:
    with pytest.raises(UsageProblem, match="--server"):
        checked_url(typed)


def test_an_address_may_end_as_in_the_examples() -> None:
    assert checked_url("https://x.example/stt/v1/") == "https://x.example/stt"
