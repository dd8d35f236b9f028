"""A model hub for tests: an HTTP server with the part of the hub's API that its client uses to download a repository.

Touches: a port of this machine. It has one repository, whose files are those of a folder. Large files have their sha256
as ETag, as on the hub; small ones another hash.
"""

import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
_LARGE = 1 << 20


class Hub:
    """The server, and what was asked of it."""

    def __init__(self, repository: str, folder: Path) -> None:
        self.repository = repository
        self.folder = folder
        self.requests: list[str] = []
        self.told: dict[str, str] = {}
        """Hashes that the hub tells instead of the right ones, by file."""

    def files(self) -> dict[str, Path]:
        """The files of the repository."""
        return {path.name: path for path in sorted(self.folder.iterdir())}

    def entry(self, name: str) -> dict[str, Any]:
        """A file in the listing."""
        size = self.files()[name].stat().st_size
        found: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": _small_hash(name)}
        return (
            {**found, "lfs": {"oid": self._sha256(name), "size": size, "pointerSize": 134}} if size > _LARGE else found
        )

    def headers(self, name: str) -> dict[str, str]:
        """What is told with a file."""
        size = self.files()[name].stat().st_size
        etag = self._sha256(name) if size > _LARGE else _small_hash(name)
        linked = {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(size)} if size > _LARGE else {}
        return {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT, **linked}

    def _sha256(self, name: str) -> str:
        return self.told.get(name) or hashlib.sha256(self.files()[name].read_bytes()).hexdigest()


def _small_hash(name: str) -> str:
    return hashlib.sha1(name.encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers for one hub: its subclasses have one."""

    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the library's name)
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.hub
        hub.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0]
        api = f"/api/models/{hub.repository}/"
        if path.startswith(f"{api}revision/"):
            siblings = [{"rfilename": name} for name in hub.files()]
            about: dict[str, Any] = {"id": hub.repository, "modelId": hub.repository, "sha": COMMIT}
            self.answer(json.dumps({**about, "siblings": siblings, "private": False, "tags": []}).encode())
        elif path.startswith(f"{api}tree/"):
            self.answer(json.dumps([hub.entry(name) for name in hub.files()]).encode())
        elif path.startswith(f"/{hub.repository}/resolve/") and (name := path.rpartition("/")[2]) in hub.files():
            self.answer(hub.files()[name].read_bytes(), hub.headers(name))
        else:
            self.answer(b"", {"X-Error-Code": "RepoNotFound"}, status=404)

    def answer(self, data: bytes, headers: dict[str, str] | None = None, *, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[str]:
    """A context with the address of *hub* (``HF_ENDPOINT``)."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
