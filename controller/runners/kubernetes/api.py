"""The Kubernetes API client: plain documents in and out, every request with a time limit.

Touches: the network, kubeconfig or the pod's ServiceAccount. The client library finds the server, the identity and the
certificates. Its model classes are not used, because they refuse bodies that the server accepts. It retries nothing:
the callers decide what to try again.
"""

from __future__ import annotations

import contextlib
import http
import json
import os
import re
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
"""Most connections that are kept open: for the loop, its watch, the Leases, and the threads that read exit causes."""

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
"""All permissions of the controller in its namespace. The Role in ``k8s/`` is equal to this table."""


_DENIAL = re.compile('User ".*" cannot ')


class Reply(EnvironmentProblem):
    """A refusal by the API server, with its status and message."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(
            f"the cluster refuses: {message or f'HTTP {status}'}",
            "stenofleet doctor --runner kubernetes lists the rights that are missing, and how to grant them",
        )
        self.status = status
        self.reason = reason
        self.message = message


class Api:
    """A client for one namespace of one cluster. All threads may use it."""

    def __init__(self, client: ApiClient, namespace: str) -> None:
        self._client = client
        self._preparing = threading.Lock()
        self._granted: set[tuple[str, ...]] = set()
        """Methods and kinds of which a request succeeded."""
        self.namespace = namespace

    @property
    def server(self) -> str:
        """Address of the API server, for messages."""
        return str(self._client.configuration.host)

    def create(self, kind: Kind, document: Mapping[str, Any]) -> dict[str, Any]:
        """Create an object and return it. Raises :class:`Reply`, with status 409 if the name is in use."""
        return self._request("POST", self._path(kind), body=document)

    def get(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """The object, or None."""
        try:
            return self._request("GET", self._path(kind, name))
        except Reply as reply:
            if reply.status != http.HTTPStatus.NOT_FOUND:
                raise
            return None

    def find(self, kind: Kind, *, exact: bool = False, **query: str) -> dict[str, Any]:
        """The list of the objects that *query* selects. Not *exact*: from the server's cache, perhaps a bit old."""
        return self._request("GET", self._path(kind), query=query if exact else {"resourceVersion": "0", **query})

    def replace(self, kind: Kind, document: Mapping[str, Any]) -> dict[str, Any]:
        """Replace an object and return it. Raises :class:`Reply`, with status 409 if it changed since it was read."""
        return self._request("PUT", self._path(kind, document["metadata"]["name"]), body=document)

    def delete(self, kind: Kind, name: str, *, uid: str, version: str = "") -> bool:
        """Delete the object with this *uid* and, in the background, the objects that it owns.

        *version*: delete it only if it still has this version. Returns False if it does not exist, or if its uid or
        version differs; that is no error.
        """
        only = {"uid": uid} | ({"resourceVersion": version} if version else {})
        try:
            self._request(
                "DELETE", self._path(kind, name), body={"propagationPolicy": "Background", "preconditions": only}
            )
        except Reply as reply:
            if reply.status not in (http.HTTPStatus.NOT_FOUND, http.HTTPStatus.CONFLICT):
                raise
            return False
        return True

    def log(self, pod: str, container: str, *, lines: int) -> list[str] | None:
        """The last lines of a container's log; empty if it was deleted; None if there was no reply in time."""
        path = f"{self._path('pods', pod)}/log"
        query = {"container": container, "tailLines": str(lines), "limitBytes": str(64 << 10)}
        try:
            # The server reads it from the node: for a dead node the reply is late, or an error of the server.
            with contextlib.closing(self._send("GET", path, query, None, read_s=_CONNECT_S)) as response:
                return _checked(response, _read(response)).decode(errors="replace").splitlines()
        except ClusterUnavailable:
            return None
        except EnvironmentProblem:
            return []

    def watch(self, kind: Kind, *, seconds: int, **query: str) -> Generator[dict[str, Any], None, None]:
        """Watch events for at most *seconds*. A broken or refused watch just ends: the caller lists again."""
        parameters = {"watch": "1", "timeoutSeconds": str(seconds), "allowWatchBookmarks": "false", **query}
        with (
            contextlib.suppress(HTTPError, ValueError, EnvironmentProblem),
            contextlib.closing(
                self._send("GET", self._path(kind), parameters, None, read_s=seconds + _CONNECT_S)
            ) as body,
        ):
            for line in _lines(body):
                yield json.loads(line)

    def allowed(self, group: str, resource: str, verb: str) -> bool:
        """Whether this identity may do that in this namespace."""
        name, _, part = resource.partition("/")
        attributes = {"namespace": self.namespace, "group": group, "resource": name, "subresource": part, "verb": verb}
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes},
        }
        path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
        return bool(self._request("POST", path, body=review)["status"].get("allowed"))

    def version(self) -> str:
        """The server's version. Needs no permission."""
        return str(self._request("GET", "/version")["gitVersion"])

    def try_create(self, kind: Kind, document: Mapping[str, Any]) -> list[str]:
        """Let the server check *document* without storing it. Returns its warnings. Raises :class:`Reply`."""
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

    def _request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None
    ) -> dict[str, Any]:
        right = (method, *path.split("/")[:7])
        with contextlib.closing(self._send(method, path, query or {}, body)) as response:
            try:
                data = _checked(response, _read(response))
            except Reply as reply:
                # An API server that has just started may not know the roles yet.
                if right in self._granted and _is_denial(reply):
                    raise ClusterUnavailable(
                        f"the cluster refuses what it allowed before: {reply.message}", reply.advice, answered=True
                    ) from reply
                raise
        self._granted.add(right)
        try:
            document: dict[str, Any] = json.loads(data)
        except ValueError as error:
            raise ClusterUnavailable(f"{self.server} sent a reply that is not JSON") from error
        return document

    def _send(
        self, method: str, path: str, query: Mapping[str, str], body: Any, *, read_s: float = _READ_S
    ) -> HTTPResponse:
        """Send a request and return the open response. Raises :class:`ClusterUnavailable` if there is none."""
        # The library renews a token here, perhaps with a program from the kubeconfig. This is not thread-safe.
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
            response: HTTPResponse = self._client.call_api(*prepared, _request_timeout=(_CONNECT_S, read_s)).response
        except HTTPError as error:
            raise _unreachable(self.server, error) from None
        except ApiException as error:
            # Of the errors of urllib3, the library wraps only those of TLS in its own exception, without a status.
            raise _not_trusted(self.server, error) from None
        return response


def connect(*, context: str = "", namespace: str = "") -> Api:
    """Connect to the cluster of ``KUBECONFIG`` (or of the default file), or to the one in which this process runs.

    *namespace*: empty for that of the context or of the pod. Raises :class:`EnvironmentProblem`.
    """
    settings = Configuration()
    # Read now: the library reads the variable when it is imported.
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
    except Exception as error:  # the library does not wrap the errors of its parsers
        raise EnvironmentProblem(
            f"no cluster: {file or _KUBECONFIG} cannot be used: {error}",
            "set KUBECONFIG to another file, or choose another context: --context",
        ) from error
    # By default urllib3 retries reads and deletes three times: every time limit would be four times as long.
    settings.retries = False
    settings.connection_pool_maxsize = _CONNECTIONS
    return Api(ApiClient(settings), namespace or found or "stenofleet")


def _check_there(file: str | None) -> None:
    for one in (file or _KUBECONFIG).split(os.pathsep):
        # Without a home folder "~" is not replaced.
        if one and Path(os.path.expanduser(one)).exists():  # noqa: PTH111
            return
    raise EnvironmentProblem(
        f"no cluster: KUBECONFIG is {file}, but this file does not exist"
        if file
        else f"no cluster: KUBECONFIG is not set, and {_KUBECONFIG} does not exist",
        "set KUBECONFIG to the file that kubectl uses for the cluster",
    )


def _namespace_of(file: str | None, context: str) -> str:
    """The namespace of a context of the kubeconfig. *context* empty: of the current one."""
    known, active = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    chosen = next((item for item in known if item["name"] == context), active)
    return str(chosen["context"].get("namespace") or "")


def _read(response: HTTPResponse) -> bytes:
    try:
        return bytes(response.read())
    except HTTPError as error:
        raise ClusterUnavailable("the connection to the API server broke in the middle of a reply") from error


def _checked(response: HTTPResponse, data: bytes) -> bytes:
    """*data*, if the request succeeded. Raises :class:`Reply`, and :class:`ClusterUnavailable` for a busy server."""
    if response.status < http.HTTPStatus.BAD_REQUEST:
        return data
    try:
        status = json.loads(data)
        reason, message = str(status.get("reason", "")), str(status.get("message", ""))
    except ValueError:
        reason, message = "", data[:200].decode(errors="replace")
    # 401 is temporary: the library reads a renewed ServiceAccount token again within a minute.
    if response.status in (401, 429) or response.status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
        wait_s = response.headers.get("Retry-After", "")
        unknown = response.status == http.HTTPStatus.UNAUTHORIZED
        raise ClusterUnavailable(
            f"the API server {'does not know this identity' if unknown else 'cannot serve requests now'}: "
            f"HTTP {response.status} {reason} {message}".rstrip(),
            "log in to the cluster again: the kubeconfig's token or certificate is invalid or has expired"
            if unknown
            else "",
            retry_after_s=int(wait_s) if wait_s.isdecimal() else 0,
            answered=not unknown,
        )
    raise Reply(response.status, reason, message)


def _is_denial(reply: Reply) -> bool:
    """Whether the reply says that a permission is missing. A quota has the same status."""
    return reply.status == http.HTTPStatus.FORBIDDEN and _DENIAL.search(reply.message) is not None


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
    # The handshake was interrupted: this happens when a load balancer has no running server.
    return ClusterUnavailable(f"the API server {server} does not answer: {cause}")


def _lines(response: HTTPResponse) -> Iterator[bytes]:
    """Complete lines as they arrive. Each event is one line."""
    rest = b""
    _checked(response, b"")
    for piece in response.stream(1 << 16):
        *lines, rest = (rest + piece).split(b"\n")
        yield from filter(None, lines)
