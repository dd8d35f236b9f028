"""Requests to and answers of the API server in memory, as they would go over the network."""

import http
import io
import json
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, ReadTimeoutError

NAMESPACE = "stenofleet"
REVIEWS = "selfsubjectaccessreviews"
_PLURALS = {"batch": ("jobs",), "coordination.k8s.io": ("leases",), "": ("pods", "events")}

Object = dict[str, Any]


class Request(NamedTuple):
    """A request. *part* is a subresource, *sender* the client."""

    method: str
    kind: str
    name: str
    part: str
    query: Mapping[str, str]
    body: Any
    sender: str

    @property
    def verb(self) -> str:
        """As a Role names it."""
        if self.method == "GET":
            return "watch" if "watch" in self.query else "get" if self.name else "list"
        return {"POST": "create", "PUT": "update", "DELETE": "delete"}[self.method]


class Refusal(Exception):
    """An answer with an error status."""

    def __init__(
        self, status: http.HTTPStatus, message: str, *, reason: str = "", retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
        self.status = status
        self.body = {
            "kind": "Status",
            "status": "Failure",
            "code": status.value,
            "reason": reason or status.phrase.replace(" ", ""),
            "message": message,
        }


def no_answer() -> HTTPError:
    """The error that a hook raises for a lost request or answer."""
    return ReadTimeoutError(None, "", "Read timed out.")  # type: ignore[arg-type]


class Stream(HTTPResponse):
    """An answer that is streamed line by line."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        super().__init__(io.BytesIO(), status=http.HTTPStatus.OK, preload_content=False)
        self._coming = lines

    def stream(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:  # type: ignore[override]
        yield from self._coming


def response(status: http.HTTPStatus, body: Any, headers: Mapping[str, str] | None = None) -> HTTPResponse:
    data = body if isinstance(body, str) else json.dumps(body)
    return HTTPResponse(io.BytesIO(data.encode()), status=status, headers=headers, preload_content=False)


def line(kind: str, document: Mapping[str, Any]) -> bytes:
    return json.dumps({"type": kind, "object": document}).encode() + b"\n"


def parsed(path: str) -> tuple[str, str, str]:
    """Kind, name and subresource of a path."""
    root, _, rest = urlsplit(path).path.partition(f"/namespaces/{NAMESPACE}/")
    if not rest and root.rpartition("/")[2] in (REVIEWS, "version"):
        return root.rpartition("/")[2], "", ""
    kind, name, part, *_ = [*rest.split("/"), "", ""]
    group = root.removeprefix("/apis/").removesuffix("/v1") if root.startswith("/apis/") else ""
    assert kind in _PLURALS[group], f"{path}: no resource of this server"
    return kind, name, part


def is_selected(document: Object, query: Mapping[str, str]) -> bool:
    """By labels (``key in (a,b)``, ``key=value``) and fields (``some.field=value``)."""
    labels = document["metadata"].get("labels") or {}
    selector = query.get("labelSelector", "")
    if " in (" in selector:
        key, _, values = selector.partition(" in (")
        chosen = labels.get(key) in values.rstrip(")").split(",")
    else:
        chosen = all(labels.get(key) == value for key, value in _pairs(selector))
    return chosen and all(_field(document, key) == value for key, value in _pairs(query.get("fieldSelector", "")))


def _pairs(selector: str) -> list[tuple[str, str]]:
    return [(key, value) for key, _, value in (part.partition("=") for part in selector.split(",") if part)]


def _field(document: Object, path: str) -> Any:
    found: Any = document
    for key in path.split("."):
        found = (found or {}).get(key)
    return found
