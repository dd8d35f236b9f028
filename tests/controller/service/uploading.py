"""A client of ``/v1/uploads`` for tests: it sends parts to wherever the service says."""

import json
import subprocess
from pathlib import Path
from typing import Any

import urllib3
from starlette.testclient import TestClient

from tests.documented import blocks

_POOL = urllib3.PoolManager(retries=False)


def send(client: TestClient, part: dict[str, Any], data: bytes, headers: dict[str, str] | None = None) -> int:
    """Send *data* as this part, by real HTTP if the store takes it. Returns the status of the reply."""
    if part["method"] == "PUT":
        return client.put(part["url"], content=data, headers=headers or {}).status_code
    fields = {**part["fields"], "file": ("part", data)}
    return _POOL.request("POST", part["url"], fields=fields).status


def send_missing(
    client: TestClient, upload: dict[str, Any], data: bytes, headers: dict[str, str] | None = None
) -> None:
    """Send all parts that *upload* says are missing, of the recording *data*."""
    for part in upload["parts"]:
        piece = data[part["offset"] : part["offset"] + part["size_bytes"]]
        assert len(piece) == part["size_bytes"]
        assert send(client, part, piece, headers) == 204


def begin(
    client: TestClient, size_bytes: int, name: str = "talk.wav", headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """A new upload."""
    reply = client.post("/v1/uploads", json={"name": name, "size_bytes": size_bytes}, headers=headers or {})
    assert reply.status_code == 201, reply.text
    found: dict[str, Any] = reply.json()
    assert reply.headers["location"] == f"/v1/uploads/{found['id']}"
    return found


def look(client: TestClient, upload: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    """The upload as it is now."""
    reply = client.get(f"/v1/uploads/{upload['id']}", headers=headers or {})
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def follow_the_docs(folder: Path, address: str, data: bytes) -> dict[str, Any]:
    """Do in *folder* what docs/how-to/service.md says about uploads, with a recording *data*. Returns the run."""
    (commands,) = [one.commands for one in blocks("docs/how-to/service.md") if "$A/uploads" in one.commands[0]]
    (folder / "talk.mkv").write_bytes(data)
    script = "\n".join(["set -eu", f'A={address}/v1 H="X-None: 0"', *commands])
    done = subprocess.run(["sh", "-c", script], cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout[done.stdout.rindex('{"id"') :])
    return found
