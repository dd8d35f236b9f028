"""The one raw door to the Kubernetes API: plain documents in, plain documents out, every wait bounded.

Touches: the network, kubeconfig or the pod's ServiceAccount. The client library finds the server, the identity and the
trust; its models are not used, because they refuse bodies that the server takes, and it repeats nothing: what to try
again is decided by who asks.
"""

from __future__ import annotations

import contextlib
import http
import json
import os
import ssl
import threading
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kubernetes import config
from kubernetes.client import ApiClient, Configuration
from kubernetes.client.exceptions import ApiException
from urllib3 import HTTPResponse
from urllib3.exceptions import HTTPError

from controller.errors import ClusterUnavailable, EnvironmentProblem

_CONNECT_S = 5.0
_READ_S = 30.0
_CONNECTIONS = 32
"""Kept open: for the loop, its watch, the Leases, and the threads that read why Jobs ended."""

_KUBECONFIG = "~/.kube/config"
_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Kind = Literal["jobs", "leases", "pods", "events", "selfsubjectaccessreviews"]
Verb = Literal["create", "get", "list", "watch", "update", "delete"]

_GROUPS: Mapping[Kind, str] = {
    "jobs": "batch",
    "leases": "coordination.k8s.io",
    "pods": "",
    "events": "",
    "selfsubjectaccessreviews": "authorization.k8s.io",
}


@dataclass(frozen=True, kw_only=True)
class Permission:
    """Verbs on one resource of one namespace."""

    group: str
    resource: str
    verbs: tuple[Verb, ...]


PERMISSIONS: tuple[Permission, ...] = (
    Permission(group="batch", resource="jobs", verbs=("create", "get", "list", "delete")),
    Permission(group="coordination.k8s.io", resource="leases", verbs=("create", "get", "update", "delete")),
    Permission(group="", resource="pods", verbs=("list", "watch")),
    Permission(group="", resource="pods/log", verbs=("get",)),
    Permission(group="", resource="events", verbs=("list",)),
)
"""All that the controller may do in its namespace; the Role in ``k8s/`` is this table."""


class Reply(EnvironmentProblem):
    """An answer that is no success: the server's own words."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(
            f"the cluster refuses: {message or f'HTTP {status}'}",
            "stenofleet doctor --runner kubernetes lists the rights that are missing, and how to grant them",
        )
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """One namespace of one cluster. Any thread may ask: connections are the pool's, answers their reader's."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client = client
        self._preparing = threading.Lock()
        self.namespace = namespace

    @property
    def server(self) -> str:
        """Its address, for messages."""
        return str(self._client.configuration.host)

    def create(self, kind: Kind, document: Mapping[str, Any]) -> dict[str, Any]:
        """The created object. Raises :class:`Reply`, 409 where its name is taken."""
        return self._ask("POST", self._path(kind), body=document)

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """The object, or None."""
        try:
            return self._ask("GET", self._path(kind, name))
        except Reply as reply:
            if reply.status != http.HTTPStatus.NOT_FOUND:
                raise
            return None

    def find(self, kind: Kind, *, exact: bool = False, **query: str) -> dict[str, Any]:
        """The list of those that *query* selects. Not *exact*: as the server remembers it, perhaps a moment old."""
        return self._ask("GET", self._path(kind), query=query if exact else {"resourceVersion": "0", **query})

    def replace(self, kind: Kind, document: Mapping[str, Any]) -> dict[str, Any]:
        """The replaced object. Raises :class:`Reply`, 409 where somebody changed it since it was read."""
        return self._ask("PUT", self._path(kind, document["metadata"]["name"]), body=document)

    def delete(self, kind: Kind, name: str, *, uid: str, version: str = "") -> bool:
        """Delete this very object and, in the background, what it owns; one that is gone or another is no error.

        *version*: and only as it was read. Whether it was so.
        """
        only = {"uid": uid} | ({"resourceVersion": version} if version else {})
        try:
            self._ask("DELETE", self._path(kind, name), body={"propagationPolicy": "Background", "preconditions": only})
        except Reply as reply:
            if reply.status not in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT):
                raise
            return False
        return True

    def log(self, pod: str, container: str, *, lines: int) -> list[str] | None:
        """The end of a container's log; empty where there is none any more; None where nobody answered in time."""
        path = f"{self._path('pods', pod)}/log"
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(64 << 10)}
        try:
            # Asked of the node through the server: a dead one answers late or with an error of the server's.
            with contextlib.closing(self._send("GET", path, query, None, read_s=_CONNECT_S)) as answer:
                return _checked(answer, _read(answer)).decode(errors="replace").splitlines()
        except ClusterUnavailable:
            return None
        except EnvironmentProblem:
            return []

    def watch(self, kind: Kind, *, seconds: int, **query: str) -> Generator[dict[str, Any], None, None]:
        """Events of at most *seconds*; one that breaks off or is refused just ends: whoever watches lists again."""
        asked = {"watch": "1", "timeoutSeconds": str(seconds), "allowWatchBookmarks": "false", **query}
        with (
            contextlib.suppress(HTTPError, ValueError, EnvironmentProblem),
            contextlib.closing(self._send("GET", self._path(kind), asked, None, read_s=seconds + _CONNECT_S)) as body,
        ):
            for line in _lines(body):
                yield json.loads(line)

    def allowed(self, group: str, resource: str, verb: str) -> bool:
        """Whether this identity may do that in this namespace."""
        name, _, part = resource.partition("/")
        asked = {"namespace": self.namespace, "group": group, "resource": name, "subresource": part, "verb": verb}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": asked},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self._ask("POST", path, body=review)["status"].get("allowed"))

    def version(self) -> str:
        """The server's version. Needs no right."""
        return str(self._ask("GET", "/version")["gitVersion"])

    def try_create(self, kind: Kind, document: Mapping[str, Any]) -> list[str]:
        """Have the server check *document* without keeping it: its warnings. Raises :class:`Reply`."""
        path = self._path(kind)
        with contextlib.closing(
            self._send("POST", path, {"dryRun": "All", "fieldValidation": "Strict"}, document)
        ) as body:
            _checked(body, body.read())
            return [warning.partition('"')[2].rstrip('"') for warning in body.headers.getlist("Warning")]

    def _path(self, kind: Kind, name: str = "") -> str:
        group = _GROUPS[kind]
        root = f"/apis/{group}/v1" if group else "/api/v1"
        return f"{root}/namespaces/{self.namespace}/{kind}{f'/{name}' if name else ''}"

    def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> dict[str, Any]:
        with contextlib.closing(self._send(method, path, query or {}, body)) as answer:
            data = _checked(answer, _read(answer))
        try:
            document: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise ClusterUnavailable(f"{self.server} answers what is no API server's answer") from error
        return document

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any, *, read_s: float = _READ_S
    ) -> HTTPResponse:
        """The open answer. Raises :class:`ClusterUnavailable` where none comes."""
        # The library renews a token here, by a program where the kubeconfig names one, and knows no threads.
        with self._preparing:
            prepared = self._client.param_serialize(
                method,
                path,
                query_params=list(query.items()),
                header_params={"Accept": "application/json", "Content-Type": "application/json"},
                body=body,
                auth_settings=["BearerToken"],
            )
        try:
            answer: HTTPResponse = self._client.call_api(*prepared, _request_timeout=(_CONNECT_S, read_s)).response
        except HTTPError as error:
            raise _unreachable(self.server, error) from None
        except ApiException as error:
            # Of all that urllib3 meets, the library raises only what is wrong with TLS as its own, without a status.
            raise _not_trusted(self.server, error) from None
        return answer


def connect(*, context: str = "", namespace: str = "") -> Api:
    """The cluster that ``KUBECONFIG`` (or the file in its usual place) names, or the one this process runs in.

    *namespace*: empty for the context's, or the pod's own. Raises :class:`EnvironmentProblem`.
    """
    settings = Configuration()
    # Asked now: the library would have looked when it was loaded.
    file = os.environ.get("KUBECONFIG") or None
    inside = not context and not file and (_SERVICE_ACCOUNT / "token").is_file()
    if not inside:
        _check_there(file)
    try:
        if inside:
            config.load_incluster_config(client_configuration=settings)  # type: ignore[no-untyped-call]
            found = (_SERVICE_ACCOUNT / "namespace").read_text(encoding="ascii")
        else:
            config.load_kube_config(file, context or None, settings)  # type: ignore[no-untyped-call]
            found = _namespace_of(file, context)
    except Exception as error:  # what its parser meets, the library raises as it comes
        raise EnvironmentProblem(
            f"no cluster: {file or _KUBECONFIG} cannot be used: {error}",
            "name another file in KUBECONFIG, or another of its contexts: --context",
        ) from error
    # urllib3 repeats reads and deletes three times in silence: every bound would be four times what it says.
    settings.retries = False
    settings.connection_pool_maxsize = _CONNECTIONS
    return Api(ApiClient(settings), namespace or found or "stenofleet")


def _check_there(file: str | None) -> None:
    for one in (file or _KUBECONFIG).split(os.pathsep):
        # Without a home "~" stays as it is.
        if one and Path(os.path.expanduser(one)).exists():  # noqa: PTH111
            return
    raise EnvironmentProblem(
        f"no cluster: KUBECONFIG is {file}, and there is no such file"
        if file
        else f"no cluster: KUBECONFIG is not set, and there is no {_KUBECONFIG}",
        "set KUBECONFIG to the file that kubectl uses for the cluster",
    )


def _namespace_of(file: str | None, context: str) -> str:
    """The namespace of that context of the kubeconfig; empty: of its current one."""
    known, active = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    chosen = next((item for item in known if item["name"] == context), active)
    return str(chosen["context"].get("namespace") or "")


def _read(answer: HTTPResponse) -> bytes:
    try:
        return bytes(answer.read())
    except HTTPError as error:
        raise ClusterUnavailable("the API server broke off in the middle of an answer") from error


def _checked(answer: HTTPResponse, data: bytes) -> bytes:
    """*data*, if the answer is a success. Raises :class:`Reply`, and :class:`ClusterUnavailable` for a busy server."""
    if answer.status < http.HTTPStatus.BAD_REQUEST:
        return data
    try:
        told = json.loads(data)
        reason, message = str(told.get("reason", "")), str(told.get("message", ""))
    except ValueError:
        reason, message = "", data[:200].decode(errors="replace")
    # 401: a ServiceAccount's token that has just been renewed is read again within a minute.
    if answer.status in (401, 429) or answer.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        wait_s = answer.headers.get("Retry-After", "")
        unknown = answer.status == http.HTTPStatus.UNAUTHORIZED
        raise ClusterUnavailable(
            f"the API server {'does not know this identity' if unknown else 'does not serve now'}: "
            f"HTTP {answer.status} {reason} {message}".rstrip(),
            "log in to the cluster again: the kubeconfig's token or certificate is not valid (any more)"
            if unknown
            else "",
            retry_after_s=int(wait_s) if wait_s.isdecimal() else 0,
            answered=not unknown,
        )
    raise Reply(answer.status, reason, message)


def _unreachable(server: str, error: HTTPError) -> ClusterUnavailable:
    cause = error.__cause__ or error.__context__ or error
    return ClusterUnavailable(
        f"the API server {server} does not answer: {getattr(cause, 'strerror', None) or type(error).__name__}"
    )


def _not_trusted(server: str, error: ApiException) -> EnvironmentProblem:
    cause = error.__context__.args[0] if error.__context__ and error.__context__.args else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return EnvironmentProblem(
            f"the certificate of the API server {server} is not trusted: {cause.verify_message}",
            "correct the certificate-authority of its cluster in the kubeconfig",
        )
    # A handshake that broke off: behind a load balancer, a server that is away looks like this.
    return ClusterUnavailable(f"the API server {server} does not answer: {cause}")


def _lines(answer: HTTPResponse) -> Iterator[bytes]:
    """Whole lines as they come: an event is one."""
    rest = b""
    _checked(answer, b"")
    for piece in answer.stream(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)
