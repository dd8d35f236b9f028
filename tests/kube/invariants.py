"""Invariants of a run on a cluster: checked at every change that a controller makes."""

from controller.runners.kubernetes.labels import Identity, identity
from controller.runners.kubernetes.runner import TICK_S
from tests.kube.kubelet import EVICTED_S
from tests.kube.server import Server
from tests.kube.wire import Object, Request

GRACE_S = 2 * TICK_S
"""Seconds after which every controller must know a new result: a tick and its duration."""

_DOUBT_S = EVICTED_S + GRACE_S
"""Seconds after a node was silent during which another attempt may start although the first still runs."""


class Invariants:
    """The invariants of one run; violations are kept in ``broken``.

    No Job is created for a span whose valid result has been in the store for longer than the grace. No Job is created
    for a span while another one is starting or running and its node is not in doubt. No Job is created or deleted by a
    controller that does not hold the Lease.
    """

    def __init__(self, server: Server) -> None:
        self.broken: list[str] = []
        self.created: list[Identity] = []
        self.committed: dict[int, float] = {}
        """When a span had its first valid result."""
        self._server = server
        self._silent_s: dict[str, float] = {}

    def commit(self, span: int) -> None:
        """A valid result is in the store."""
        self.committed.setdefault(span, self._server.clock.s)

    def doubt_nodes(self) -> None:
        """Record which nodes are silent now."""
        for node in self._server.lost_nodes:
            self._silent_s[node] = self._server.clock.s

    def check_lease(self, request: Request, lease: str, holder: str) -> None:
        """Check a request that *holder* is about to make."""
        if request.kind == "jobs" and request.verb in ("create", "delete"):
            found = [it for it in self._server.objects("leases") if it["metadata"]["name"] == lease]
            # A deleted Lease is a cancel that the controller may not know yet; its Jobs are deleted all the same.
            if any(it["spec"].get("holderIdentity") != holder for it in found):
                self._break(f"{request.verb} of {request.name or 'a Job'} by {holder} without the Lease")

    def check_created(self, document: Object) -> None:
        """Check a Job that was just created."""
        who = identity(document)
        assert who
        self.created.append(who)
        if who.span is None:
            return
        since_s = self.committed.get(who.span)
        if since_s is not None and self._server.clock.s - since_s > GRACE_S:
            self._break(f"{who} is created, and its result is there since {since_s}")
        for other in self._server.objects("jobs"):
            same = identity(other)
            if same and same != who and same.span == who.span and self._works(other):
                self._break(f"{who} is created, and {same} works on the same")

    def _works(self, job: Object) -> bool:
        """Whether a Job is starting or running, and its node is not in doubt."""
        if any(it["status"] == "True" for it in job.get("status", {}).get("conditions") or ()):
            return False
        uid, now_s = job["metadata"]["uid"], self._server.clock.s
        for pod in self._server.objects("pods"):
            if pod["metadata"]["labels"]["batch.kubernetes.io/controller-uid"] == uid:
                silent_s = self._silent_s.get(pod["spec"].get("nodeName", ""), -_DOUBT_S)
                return now_s - silent_s >= _DOUBT_S and pod["status"]["phase"] not in ("Succeeded", "Failed")
        return False

    def _break(self, what: str) -> None:
        self.broken.append(f"{self._server.clock.s:.1f} s: {what}")
