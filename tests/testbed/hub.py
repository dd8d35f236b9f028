"""A local model hub for a test: it serves one folder under any repository name, in the protocol of the hub's client.

Touches: a port of the address it is given.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Iterator
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

_REVISION = "a" * 40


class Hub:
    """A running hub."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.sent: list[str] = []
        """Names of the files that were downloaded."""


@contextlib.contextmanager
def serving(address: str, folder: Path) -> Iterator[Hub]:
    """A hub that holds the model in *folder*, until the end of the block."""
    hub = Hub("")
    with ThreadingHTTPServer((address, 0), partial(_Handler, folder, hub)) as server:
        hub.url = f"http://{address}:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            server.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, hub: Hub, *arguments: Any) -> None:
        self._folder = folder
        self._hub = hub
        super().__init__(*arguments)

    def do_HEAD(self) -> None:
        self._answer(whole=False)

    def do_GET(self) -> None:
        self._answer(whole=True)

    def log_message(self, *_: object) -> None:
        """Nothing: pytest shows what a test prints."""

    def _answer(self, *, whole: bool) -> None:
        path = self.path.partition("?")[0]
        file = self._folder / path.rpartition("/")[2]
        if "/resolve/" in path and file.is_file():
            data = file.read_bytes()
            self._send(data, {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": _REVISION}, whole=whole)
            if whole:
                self._hub.sent.append(file.name)
        elif "/tree/" in path:
            self._send(json.dumps([_entry(file) for file in self._files()]).encode(), {}, whole=whole)
        elif "/revision/" in path:
            siblings = [{"rfilename": file.name} for file in self._files()]
            self._send(json.dumps({"id": "model", "sha": _REVISION, "siblings": siblings}).encode(), {}, whole=whole)
        else:
            self._send(b"", {}, whole=whole, status=HTTPStatus.NOT_FOUND)

    def _files(self) -> list[Path]:
        return sorted(path for path in self._folder.iterdir() if path.is_file())

    def _send(self, data: bytes, headers: dict[str, str], *, whole: bool, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if whole:
            self.wfile.write(data)


def _entry(file: Path) -> dict[str, Any]:
    digest = hashlib.sha1(file.read_bytes(), usedforsecurity=False).hexdigest()
    return {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": digest}
