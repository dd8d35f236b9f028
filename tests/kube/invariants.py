"""What must never be on a cluster, whatever happens: checked at every change that a controller makes."""

from controller.runners.kubernetes.labels import Identity, identity
from controller.runners.kubernetes.runner import TICK_S
from tests.kube.kubelet import EVICTED_S
from tests.kube.server import Server
from tests.kube.wire import Object, Request

GRACE_S = 2 * TICK_S
"""So long a result may be in the store before every controller has to know of it: a tick and what it takes."""

_DOUBT_S = EVICTED_S + GRACE_S
"""So long after a node was silent another attempt may begin although the first goes on."""


class Invariants:
    """Of one run; what breaks them is kept in ``broken``.

    No Job is created for a span whose valid result has been in the store for longer than the grace. No Job is created
    for a span while another one is on its way or works, and its node is not in doubt. No Job is created or deleted by
    who does not hold the Lease.
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
        """Remember which nodes are silent now."""
        for node in self._server.lost_nodes:
            self._silent_s[node] = self._server.clock.s

    def check_lease(self, request: Request, lease: str, holder: str) -> None:
        """*holder* is about to do this."""
        if request.kind == "jobs" and request.verb in ("create", "delete"):
            found = [it for it in self._server.objects("leases") if it["metadata"]["name"] == lease]
            # Where there is none, it may not have been heard yet: that is a cancel, and takes its Jobs all the same.
            if any(it["spec"].get("holderIdentity") != holder for it in found):
                self._break(f"{request.verb} of {request.name or 'a Job'} by {holder} without the Lease")

    def check_created(self, document: Object) -> None:
        """This Job was just created."""
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
        """Whether a Job is on its way or works, and there is no reason to doubt it."""
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
