"""A Kubernetes API server in memory, below the real client: only ``Api._send`` is replaced.

It holds the objects of one namespace with their versions and a log of all changes, and answers as the real one does:
``test_api.py`` tests both alike. Its collector removes objects without owners. It runs no Jobs: ``kubelet.py`` does.
Time passes only in ``sleep``. A test disturbs it by the hooks ``before``, ``after`` and ``delay_s``.
"""

import http
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, Literal, NamedTuple, Protocol, cast

from kubernetes.client import ApiClient
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from controller.runners.kubernetes import api
from controller.runners.kubernetes.api import Api
from tests.kube import wire
from tests.kube.wire import NAMESPACE, Object, Refusal, Request, response

START = datetime(2026, 1, 1, tzinfo=UTC)
_STEP_S = 0.5
"""Seconds between two checks of a watch for events."""

Change = Literal["ADDED", "MODIFIED", "DELETED"]


class Clock(Protocol):
    """Seconds that pass only by sleeping."""

    s: float

    def sleep(self, seconds: float) -> None:
        """Let the time pass."""


class Stopwatch:
    """The clock of a test with one thread."""

    def __init__(self) -> None:
        self.s = 0.0

    def sleep(self, seconds: float) -> None:
        self.s += seconds


class Event(NamedTuple):
    """One change of one object."""

    version: int
    change: Change
    kind: str
    object: Object


class Server:
    """The objects of one namespace."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Stopwatch()
        self.requests: Counter[tuple[str, str]] = Counter()
        """The number of requests, by verb and kind; reading a log counts as ``log``."""
        self.before: Callable[[Request], None] = lambda request: None
        """Called with every request, without a lock; may raise a :class:`Refusal` or an HTTPError."""
        self.after: Callable[[Request], None] = lambda request: None
        """Called when a request is done, before it is answered: an HTTPError loses the answer."""
        self.delay_s: Callable[[Event], float] = lambda event: 0.0
        """The delay of a watch event in seconds; ``inf`` loses it."""
        self.logs: dict[str, list[str]] = {}
        """Log lines by pod."""
        self.quota: int | None = None
        """The maximum number of Jobs in the namespace."""
        self.ahead = timedelta()
        """Seconds by which the clock of the cluster is ahead."""
        self.lost_nodes: set[str] = set()
        """Pods on these nodes are not removed when they are deleted: no kubelet confirms their end."""
        self.history: list[Event] = []
        """All changes, in order; a watch may begin behind :meth:`compact` only."""
        self._objects: dict[tuple[str, str], Object] = {}
        self._cached: tuple[int, dict[tuple[str, str], Object]] | None = None
        self._compacted = 0
        self._version = 1
        self._uids = 0
        self._lock = threading.RLock()

    # ---------------------------------------------------------------- operations of a test

    def now(self) -> str:
        """The cluster's time."""
        return (START + timedelta(seconds=self.clock.s) + self.ahead).strftime("%Y-%m-%dT%H:%M:%SZ")

    def put(self, kind: str, document: Mapping[str, Any]) -> Object:
        """Create the object, or replace what has its name, its status included."""
        with self._lock:
            found = self._objects.get((kind, document["metadata"]["name"]))
            return self._write(kind, document, found)

    def remove(self, kind: str, name: str) -> None:
        """Delete the object as another client would; the objects that it owns follow."""
        with self._lock:
            document = self._objects[kind, name]
            if kind == "pods" and document.get("spec", {}).get("nodeName") in self.lost_nodes:
                if "deletionTimestamp" not in document["metadata"]:
                    meta = document["metadata"] | {"deletionTimestamp": self.now()}
                    self._write(kind, document | {"metadata": meta}, document)
                return
            self._version += 1
            deleted = self._objects.pop((kind, name))
            deleted = deleted | {"metadata": deleted["metadata"] | {"resourceVersion": str(self._version)}}
            self.history.append(Event(self._version, "DELETED", kind, deleted))

    def objects(self, kind: str) -> list[Object]:
        """All objects of a kind, as they are: copies two levels deep, to be changed no deeper."""
        with self._lock:
            self._collect()
            return [_copy(document) for (of, _), document in self._objects.items() if of == kind]

    def lag(self, *, behind: bool) -> None:
        """Whether lists from the cache show the state of this moment from now on."""
        with self._lock:
            self._cached = (self._version, dict(self._objects)) if behind else None

    def compact(self) -> None:
        """Drop all changes so far: no watch can start before this moment."""
        self._compacted = self._version

    # ---------------------------------------------------------------- answers

    def answer(self, request: Request) -> HTTPResponse:
        """The answer. Raises what the hooks raise."""
        with self._lock:
            self.requests[request.part or request.verb, request.kind] += 1
        try:
            self.before(request)
            with self._lock:
                self._collect()
                answer = self._answer(request)
            self.after(request)
        except Refusal as refusal:
            return response(refusal.status, refusal.body, refusal.headers)
        return answer

    def _answer(self, request: Request) -> HTTPResponse:
        if request.kind == "version":
            return response(http.HTTPStatus.OK, {"gitVersion": "v1.35.0"})
        if request.kind == wire.REVIEWS:
            return response(http.HTTPStatus.CREATED, request.body | {"status": {"allowed": True}})
        match request.verb:
            case "watch":
                return wire.Stream(self._stream(request))
            case "list":
                return response(http.HTTPStatus.OK, self._list(request))
            case "create":
                return response(http.HTTPStatus.CREATED, self._create(request))
        found = self._found(request)
        match request.verb:
            case "update":
                return response(http.HTTPStatus.OK, self._update(request, found))
            case "delete":
                return response(http.HTTPStatus.OK, self._delete(request, found))
            case _ if request.part == "log":
                return response(http.HTTPStatus.OK, "\n".join(self.logs.get(request.name, [])))
            case _:
                return response(http.HTTPStatus.OK, found)

    def _found(self, request: Request) -> Object:
        found = self._objects.get((request.kind, request.name))
        if found is None:
            if request.verb == "update" and request.kind == "leases" and request.body["metadata"].get("uid"):
                # An update may create a Lease, but not one with a given uid.
                raise Refusal(http.HTTPStatus.CONFLICT, f'Operation cannot be fulfilled on leases "{request.name}"')
            raise Refusal(http.HTTPStatus.NOT_FOUND, f'{request.kind} "{request.name}" not found')
        return found

    def _create(self, request: Request) -> Object:
        name = request.body["metadata"]["name"]
        used = sum(kind == "jobs" for kind, _ in self._objects)
        if request.kind == "jobs" and self.quota is not None and used >= self.quota:
            counts = (
                f"requested: count/jobs.batch=1, used: count/jobs.batch={used}, limited: count/jobs.batch={self.quota}"
            )
            raise Refusal(
                http.HTTPStatus.FORBIDDEN, f'jobs.batch "{name}" is forbidden: exceeded quota: quota, {counts}'
            )
        if (request.kind, name) in self._objects:
            raise Refusal(http.HTTPStatus.CONFLICT, f'{request.kind} "{name}" already exists', reason="AlreadyExists")
        if "dryRun" in request.query:
            return cast("Object", request.body)
        # Only a controller writes the status.
        return self._write(request.kind, {key: it for key, it in request.body.items() if key != "status"}, None)

    def _update(self, request: Request, found: Object) -> Object:
        for field in ("uid", "resourceVersion"):
            _check_same(request.body["metadata"], found, field)
        return self._write(request.kind, request.body, found)

    def _delete(self, request: Request, found: Object) -> Object:
        options = request.body or {}
        for field in ("uid", "resourceVersion"):
            _check_same(options.get("preconditions") or {}, found, field)
        # Deleting a Job orphans its pods by default, for compatibility with the time before the garbage collector.
        policy = options.get("propagationPolicy", "Orphan" if request.kind == "jobs" else "Background")
        if policy == "Orphan":
            self._orphan(found["metadata"]["uid"])
        elif policy != "Background":
            raise Refusal(http.HTTPStatus.BAD_REQUEST, f"this server knows no propagation policy {policy}")
        self.remove(request.kind, request.name)
        return {"kind": "Status", "status": "Success"}

    def _orphan(self, uid: str) -> None:
        for (kind, _), document in list(self._objects.items()):
            owners = document["metadata"].get("ownerReferences") or []
            left = [owner for owner in owners if owner["uid"] != uid]
            if left != owners:
                self._write(kind, document | {"metadata": document["metadata"] | {"ownerReferences": left}}, document)

    def _list(self, request: Request) -> Object:
        version, objects = self._version, self._objects
        if request.query.get("resourceVersion") == "0" and self._cached is not None:
            version, objects = self._cached
        items = [
            it for (kind, _), it in objects.items() if kind == request.kind and wire.is_selected(it, request.query)
        ]
        return {"kind": "List", "metadata": {"resourceVersion": str(version)}, "items": items}

    def _stream(self, request: Request) -> Iterator[bytes]:
        """Lines of events, until the watch times out."""
        seen, end_s = int(request.query["resourceVersion"]), self.clock.s + float(request.query["timeoutSeconds"])
        if seen < self._compacted:
            message = f"too old resource version: {seen} ({self._compacted})"
            yield wire.line("ERROR", Refusal(http.HTTPStatus.GONE, message, reason="Expired").body)
            return
        since_s = self.clock.s
        while True:
            with self._lock:
                self._collect()
                news = [event for event in self.history if event.version > seen]
            for event in news:
                delay_s = self.delay_s(event)
                if not math.isinf(delay_s) and self.clock.s - since_s < delay_s:
                    break  # and later events wait too
                seen, since_s = event.version, self.clock.s
                wanted = event.kind == request.kind and wire.is_selected(event.object, request.query)
                if wanted and not math.isinf(delay_s):
                    yield wire.line(event.change, event.object)
            if self.clock.s >= end_s:
                return
            self.clock.sleep(min(_STEP_S, end_s - self.clock.s))

    def _write(self, kind: str, document: Mapping[str, Any], before: Object | None) -> Object:
        if document == before:
            return _copy(before)
        kept: Object = json.loads(json.dumps(document))
        meta = (before or {}).get("metadata", {})
        if not before:
            self._uids += 1
        kept["metadata"] |= {
            "namespace": NAMESPACE,
            "uid": meta.get("uid", f"uid-{self._uids}"),
            "creationTimestamp": meta.get("creationTimestamp", self.now()),
            "resourceVersion": meta.get("resourceVersion", ""),
        }
        if kept != before:
            self._version += 1
            kept["metadata"]["resourceVersion"] = str(self._version)
            self._objects[kind, kept["metadata"]["name"]] = kept
            self.history.append(Event(self._version, "MODIFIED" if before else "ADDED", kind, kept))
        return _copy(kept)

    def _collect(self) -> None:
        """Remove objects whose owners are all missing, also those created after the owner was deleted."""
        there = {document["metadata"]["uid"] for document in self._objects.values()}
        for (kind, name), document in list(self._objects.items()):
            owners = document["metadata"].get("ownerReferences")
            if owners and not any(owner["uid"] in there for owner in owners):
                self.remove(kind, name)
                there.discard(document["metadata"]["uid"])


class FakeApi(Api):
    """The real client, connected to this server."""

    def __init__(self, server: Server, *, sender: str = "") -> None:
        host = SimpleNamespace(configuration=SimpleNamespace(host="https://fake"))
        super().__init__(cast("ApiClient", host), NAMESPACE)
        self._fake, self._sender = server, sender

    def _send(self, method: str, path: str, query: Mapping[str, str], body: Any, *, read_s: float = 0) -> HTTPResponse:
        # Through JSON, so that no test shares a document with the server.
        request = Request(method, *wire.parsed(path), dict(query), json.loads(json.dumps(body)), self._sender)
        try:
            return self._fake.answer(request)
        except HTTPError as error:
            raise api._unreachable(self.server, error) from error


def _check_same(wanted: Mapping[str, Any], found: Object, field: str) -> None:
    if wanted.get(field) and wanted[field] != found["metadata"][field]:
        raise Refusal(http.HTTPStatus.CONFLICT, f"the {field} is another one: the object has been modified")


def _copy(document: Object) -> Object:
    return {key: dict(value) if isinstance(value, dict) else value for key, value in document.items()}
