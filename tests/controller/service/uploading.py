"""A client of ``/v1/uploads`` for tests: it sends parts to wherever the service says."""

from typing import Any

import urllib3
from starlette.testclient import TestClient

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
