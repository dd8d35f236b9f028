"""Receivers of webhooks on loopback."""

import contextlib
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Receiver(ThreadingHTTPServer):
    """A receiver that records the requests, and responds as *behave* does."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.received: list[tuple[str, dict[str, str], bytes]] = []
        self.behave: Callable[[Handler], None] = lambda handler: handler.status(204)
        self.running = 0
        self.lock = threading.Lock()
        if tls:
            self.socket = tls.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.server_port}/hook"

    def status(self, code: int) -> None:
        self.behave = lambda handler: handler.status(code)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that breaks off is no event for the output of the tests."""


class Handler(BaseHTTPRequestHandler):
    """One request to a receiver."""

    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        with self.server.lock:
            self.server.received.append((self.path, dict(self.headers.items()), body))
            self.server.running += 1
        try:
            self.server.behave(self)
        finally:
            with self.server.lock:
                self.server.running -= 1

    def status(self, code: int, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[Receiver]:
    with Receiver(tls) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
