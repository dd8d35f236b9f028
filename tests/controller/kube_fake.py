"""An API server in memory, behind the real ``kube.Api``: only what would go over the network is played.

It keeps documents, versions and preconditions as the real one does, may answer lists out of a memory that is older than
what it keeps, and answers late or with an error where a test wants that. It runs no controllers but the collector of
what has lost its owner: a test that needs a pod puts one.
"""

import copy
import http
import io
import itertools
import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError, ReadTimeoutError

from controller.errors import ClusterUnavailable
from controller.runners.kubernetes.api import Api

NAMESPACE = "stenofleet"
_GROUPS = {"batch": ("jobs",), "coordination.k8s.io": ("leases",), "": ("pods", "events")}


class Asked(NamedTuple):
    """One request."""

    method: str
    kind: str
    name: str
    part: str
    query: Mapping[str, str]
    body: Any


class Answer(Exception):
    """What a request ends with, where that is no success."""

    def __init__(self, status: http.HTTPStatus, message: str, reason: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason or status.phrase.replace(" ", "")
        self.message = message


def timed_out() -> HTTPError:
    """What a test raises in place of an answer that does not come."""
    return ReadTimeoutError(None, "", "Read timed out.")  # type: ignore[arg-type]


class FakeServer:
    """The documents of one namespace."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, str]] = Counter()
        """By method and kind; the reading of a log counts as ``LOG``."""
        self.before: Callable[[Asked], None] = lambda asked: None
        """Called with every request and outside of any lock: it may wait, raise an :class:`Answer` or an HTTPError."""
        self.logs: dict[str, list[str]] = {}
        """By pod."""
        self.ahead = timedelta()
        """How far the clock of the cluster is ahead of this process's."""
        self._kept: dict[tuple[str, str], dict[str, Any]] = {}
        self._remembered: dict[tuple[str, str], dict[str, Any]] | None = None
        self._changes: list[tuple[int, str, str, dict[str, Any]]] = []
        self._versions = itertools.count(1)
        self._uids = itertools.count(1)
        self._version = 0
        self._lock = threading.RLock()

    # ---------------------------------------------------------------- what a test does

    def put(self, kind: str, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create the object, or replace what has its name, as somebody else would."""
        with self._lock:
            found = self._kept.get((kind, document["metadata"]["name"]))
            return self._write("MODIFIED" if found else "ADDED", kind, document, found)

    def remove(self, kind: str, name: str) -> None:
        """Delete the object and what it owns, as somebody else would."""
        with self._lock:
            gone = self._kept.pop((kind, name))
            self._version = next(self._versions)
            gone["metadata"]["resourceVersion"] = str(self._version)
            self._changes.append((self._version, "DELETED", kind, gone))
            for owned, document in list(self._kept.items()):
                owners = document["metadata"].get("ownerReferences") or ()
                if owned in self._kept and any(it["uid"] == gone["metadata"]["uid"] for it in owners):
                    self.remove(*owned)

    def found(self, kind: str) -> list[dict[str, Any]]:
        """All objects of a kind, as they are."""
        with self._lock:
            return [copy.deepcopy(document) for (of, _), document in self._kept.items() if of == kind]

    def lag(self, *, behind: bool) -> None:
        """Whether lists out of its memory show from now on what was there at this moment."""
        with self._lock:
            self._remembered = copy.deepcopy(self._kept) if behind else None

    def now(self) -> str:
        """Its time."""
        return (datetime.now(UTC) + self.ahead).strftime("%Y-%m-%dT%H:%M:%SZ")

    # ---------------------------------------------------------------- what it answers

    def answer(self, asked: Asked) -> tuple[int, bytes]:
        """Status and body."""
        with self._lock:
            self.asked["LOG" if asked.part == "log" else asked.method, asked.kind] += 1
        try:
            self.before(asked)
            with self._lock:
                return http.HTTPStatus.OK, self._answer(asked)
        except Answer as answer:
            status = {"kind": "Status", "code": answer.status, "reason": answer.reason, "message": answer.message}
            return answer.status, json.dumps(status).encode()

    def _answer(self, asked: Asked) -> bytes:
        if asked.part == "log":
            self._get(asked.kind, asked.name)
            return "\n".join(self.logs.get(asked.name, [])).encode()
        if "watch" in asked.query:
            # The real one waits for more; but it may end a watch at any time, as this one does.
            return b"".join(json.dumps(event).encode() + b"\n" for event in self._events(asked))
        return json.dumps(self._document(asked)).encode()

    def _document(self, asked: Asked) -> Mapping[str, Any]:
        match asked.method:
            case "POST":
                name = asked.body["metadata"]["name"]
                if (asked.kind, name) in self._kept:
                    raise Answer(http.HTTPStatus.CONFLICT, f'{asked.kind} "{name}" already exists', "AlreadyExists")
                return self._write("ADDED", asked.kind, asked.body, None)
            case "PUT":
                found = self._get(asked.kind, asked.name)
                _same(asked.body["metadata"], found, "resourceVersion")
                return self._write("MODIFIED", asked.kind, asked.body, found)
            case "DELETE":
                found = self._get(asked.kind, asked.name)
                for field in ("uid", "resourceVersion"):
                    _same((asked.body or {}).get("preconditions") or {}, found, field)
                self.remove(asked.kind, asked.name)
                return {"kind": "Status", "status": "Success"}
            case _ if asked.name:
                return self._get(asked.kind, asked.name)
            case _:
                return self._list(asked)

    def _list(self, asked: Asked) -> Mapping[str, Any]:
        memory = self._remembered if asked.query.get("resourceVersion") == "0" else None
        items = [
            document
            for (kind, _), document in (self._kept if memory is None else memory).items()
            if kind == asked.kind and _selected(document, asked.query)
        ]
        return {"kind": "List", "metadata": {"resourceVersion": str(self._version)}, "items": items}

    def _events(self, asked: Asked) -> Iterator[Mapping[str, Any]]:
        for version, what, kind, document in self._changes:
            if (
                version > int(asked.query["resourceVersion"])
                and kind == asked.kind
                and _selected(document, asked.query)
            ):
                yield {"type": what, "object": document}

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        if (kind, name) not in self._kept:
            raise Answer(http.HTTPStatus.NOT_FOUND, f'{kind} "{name}" not found')
        return self._kept[kind, name]

    def _write(
        self, what: str, kind: str, document: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        self._version = next(self._versions)
        kept: dict[str, Any] = copy.deepcopy(dict(document))
        old = (before or {}).get("metadata", {})
        kept["metadata"] |= {
            "namespace": NAMESPACE,
            "uid": old.get("uid") or f"uid-{next(self._uids)}",
            "creationTimestamp": old.get("creationTimestamp") or self.now(),
            "resourceVersion": str(self._version),
        }
        self._kept[kind, kept["metadata"]["name"]] = kept
        self._changes.append((self._version, what, kind, copy.deepcopy(kept)))
        return copy.deepcopy(kept)


class FakeApi(Api):
    """The real client of a played server: paths, errors and what they mean are its own."""

    def __init__(self, server: FakeServer) -> None:
        self._server = server
        self.namespace = NAMESPACE

    @property
    def server(self) -> str:
        return "https://played"

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Any, *, read_s: float = 0) -> HTTPResponse:
        # Through JSON, so that no test shares a document with the server.
        asked = Asked(method, *_parsed(path), query, json.loads(json.dumps(body)))
        try:
            status, data = self._server.answer(asked)
        except HTTPError as error:
            raise ClusterUnavailable(f"the API server {self.server} does not answer: {error}") from error
        return HTTPResponse(io.BytesIO(data), status=status, preload_content=False)


def _parsed(path: str) -> tuple[str, str, str]:
    """Kind, name and part of a path, of the kinds that are known."""
    root, _, rest = urlsplit(path).path.partition(f"/namespaces/{NAMESPACE}/")
    kind, name, part, *_ = [*rest.split("/"), "", ""]
    group = root.removeprefix("/apis/").removesuffix("/v1") if root.startswith("/apis/") else ""
    if kind not in _GROUPS.get(group, ()):
        raise Answer(http.HTTPStatus.NOT_FOUND, "the server could not find the requested resource")
    return kind, name, part


def _same(wanted: Mapping[str, Any], found: Mapping[str, Any], field: str) -> None:
    if wanted.get(field) and wanted[field] != found["metadata"][field]:
        raise Answer(http.HTTPStatus.CONFLICT, f"the {field} is another one: the object has been modified")


def _selected(document: Mapping[str, Any], query: Mapping[str, str]) -> bool:
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


def _field(document: Mapping[str, Any], path: str) -> Any:
    found: Any = document
    for key in path.split("."):
        found = (found or {}).get(key)
    return found
