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

    def sha256(self, name: str) -> str:
        """The hash that the hub tells."""
        return self.told.get(name) or hashlib.sha256(self.files()[name].read_bytes()).hexdigest()


@contextlib.contextmanager
def served(hub: Hub) -> Iterator[str]:
    """A context with the address of *hub* (``HF_ENDPOINT``)."""

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 (the library's name)
            pass

        def do_HEAD(self) -> None:  # noqa: N802 (the library's name)
            self.do_GET()

        def do_GET(self) -> None:  # noqa: N802 (the library's name)
            hub.requests.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            api = f"/api/models/{hub.repository}/"
            if path.startswith(f"{api}revision/"):
                siblings = [{"rfilename": name} for name in hub.files()]
                document: Any = {"id": hub.repository, "modelId": hub.repository, "sha": COMMIT, "siblings": siblings}
                self.answer(json.dumps(document | {"private": False, "tags": [], "downloads": 0}).encode())
            elif path.startswith(f"{api}tree/"):
                self.answer(json.dumps([self.entry(name) for name in hub.files()]).encode())
            elif path.startswith(f"/{hub.repository}/resolve/") and (name := path.rpartition("/")[2]) in hub.files():
                self.answer(hub.files()[name].read_bytes(), name)
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def entry(self, name: str) -> dict[str, Any]:
            size = hub.files()[name].stat().st_size
            found: dict[str, Any] = {"type": "file", "path": name, "size": size, "oid": hashlib.sha1(name.encode()).hexdigest()}
            if size > _LARGE:
                found["lfs"] = {"oid": hub.sha256(name), "size": size, "pointerSize": 134}
            return found

        def answer(self, data: bytes, name: str = "") -> None:
            self.send_response(200)
            if name:
                large = len(data) > _LARGE
                etag = hub.sha256(name) if large else hashlib.sha1(name.encode()).hexdigest()
                self.send_header("ETag", f'"{etag}"')
                self.send_header("X-Repo-Commit", COMMIT)
                if large:
                    self.send_header("X-Linked-Etag", f'"{etag}"')
                    self.send_header("X-Linked-Size", str(len(data)))
            self.send_header("Content-Type", "application/json" if not name else "application/octet-stream")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
