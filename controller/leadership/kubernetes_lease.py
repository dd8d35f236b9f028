"""Leases: who leads a run on a cluster, and the owner of all its Jobs.

Touches: Kubernetes (through ``kube``), a small thread that renews. A Lease is taken by an update with its
``resourceVersion``, never by deleting it: whatever it owns would go with it. One that vanishes is a cancel. The thread
ends with the process alone: what it cannot do it leaves to the next time, and a Lease that is not renewed lapses.
"""

from __future__ import annotations

import contextlib
import http
import os
import secrets
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from controller.domain.interfaces import LeaseState
from controller.errors import ClusterUnavailable, EnvironmentProblem
from controller.leadership import clock
from controller.runners.kubernetes.api import Api, Reply
from controller.runners.kubernetes.labels import lease_name, run_labels
from controller.runners.kubernetes.manifest import Owner

DURATION_S = 15
RENEW_S = 5
_TRIES = 3


@dataclass(kw_only=True)
class _Held:
    """A Lease we hold. The renewing thread only ever assigns single fields."""

    document: dict[str, Any]
    renewed_s: float
    state: Literal["held", "lost", "gone"] = "held"
    error: Exception | None = None
    """What nobody foresaw a renewal to meet, until it is raised where the loop meets it."""


@dataclass(kw_only=True)
class _Seen:
    """Somebody else's Lease: what it said, and since when it has said just that, by our own clock."""

    document: dict[str, Any]
    said: tuple[str, str]
    since_s: float


class KubernetesLeases:
    """The Leases of the runs that this process leads, renewed until they are released."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._held: dict[str, _Held] = {}
        self._seen: dict[str, _Seen] = {}
        self._reported = ""
        """The last such error that was raised: one that comes back at every renewal is reported once."""
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> list[str]:
        """The runs that are led."""
        return list(self._held)

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """*leading* where this process holds the run's Lease, which it takes where it is free or its holder silent.

        Raises :class:`ClusterUnavailable`, and :class:`EnvironmentProblem` where a right is missing.
        """
        del now_ms
        held = self._held.get(run)
        if held is None:
            try:
                return "leading" if self._take(run) else "following"
            except Reply as reply:
                if reply.status != http.HTTPStatus.NOT_FOUND:
                    raise
                space = self._api.namespace
                raise EnvironmentProblem(
                    f"the cluster has no namespace {space}", "create it, or name another: --namespace"
                ) from reply
        if held.state == "held" and self._lapsed(held):
            self._renew(held)
        if held.state == "lost":
            del self._held[run]
        return "leading" if run in self._held else "following"

    def owner(self, run: str) -> Owner:
        """What a Job of the run names as its owner. Whoever changes anything asks first.

        Raises :class:`ClusterUnavailable` where the Lease has lapsed: somebody else may hold it by now. It raises it
        also, once, where a renewal has met an error that nobody foresaw: the thread itself cannot report one.
        """
        held = self._held[run]
        error, held.error = held.error, None
        why = f": {type(error).__name__}: {error}" if error else ""
        if held.state == "lost" or (held.state == "held" and self._lapsed(held)):
            raise ClusterUnavailable(f"the Lease of run {run} could not be renewed in time{why}") from error
        if error and why != self._reported:
            self._reported = why
            raise ClusterUnavailable(
                f"the Lease of run {run} could not be renewed{why}",
                "it is tried again: please report this error",
                answered=True,  # the cluster is not away
            ) from error
        return Owner(name=held.document["metadata"]["name"], uid=held.document["metadata"]["uid"])

    def check(self, run: str) -> None:
        """Raises as :meth:`owner` does."""
        self.owner(run)

    def domain(self, run: str) -> str:
        """The uid of the Lease: who held it before us has lost it."""
        return str(self._held[run].document["metadata"]["uid"])

    def cancelled(self, run: str) -> bool:
        """Whether somebody deleted the Lease, and with it all of its Jobs."""
        held = self._held.get(run)
        return held is not None and held.state == "gone"

    def recheck(self, run: str) -> None:
        """Renew it now rather than in a while: there is reason to think that it was deleted or taken."""
        held = self._held.get(run)
        if held is not None and held.state == "held":
            self._renew(held)

    def release(self, run: str, *, ended: bool) -> None:
        """Hold it no more. *ended*: nothing will be done for the run any more, and the Lease goes."""
        self._seen.pop(run, None)
        held = self._held.pop(run, None)
        if held is None or held.state != "held":
            return
        with contextlib.suppress(EnvironmentProblem):  # it lapses by itself
            for _ in range(_TRIES):
                found = self._api.get("leases", lease_name(run))
                if found is None or found["spec"].get("holderIdentity") != self._identity:
                    return
                # Only as it was just read: somebody may take it over at this moment, and with it all Jobs.
                if not ended:
                    self._api.replace("leases", self._renewed(found, holder=""))
                    return
                meta = found["metadata"]
                if self._api.delete("leases", meta["name"], uid=meta["uid"], version=meta["resourceVersion"]):
                    return

    def close(self) -> None:
        """Release all, leaving their Jobs, and stop renewing."""
        self._over.set()
        if self._thread is not None:
            self._thread.join(timeout=2 * RENEW_S)
        for run in self.runs:
            self.release(run, ended=False)

    def _take(self, run: str) -> bool:
        name = lease_name(run)
        found = self._api.get("leases", name)
        if found is None:
            if run in self._seen:
                # Whoever stops without an end leaves it there. So the run has ended, or somebody has cancelled it.
                document = self._seen.pop(run).document
                self._held[run] = _Held(document=document, renewed_s=clock.now_s(), state="gone")
                return True
            return self._hold(run, lambda: self._api.create("leases", self._fresh(run)))
        spec = found["spec"]
        said = (str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or ""))
        seen = self._seen.get(run)
        if seen is None or seen.said != said:
            seen = self._seen[run] = _Seen(document=found, said=said, since_s=clock.now_s())
        # By our own clock: the other one's may be set to anything.
        silent = clock.now_s() - seen.since_s > (spec.get("leaseDurationSeconds") or DURATION_S)
        if said[0] and said[0] != self._identity and not silent:
            return False
        return self._hold(run, lambda: self._api.replace("leases", self._renewed(found, holder=self._identity)))

    def _hold(self, run: str, write: Any) -> bool:
        begun_s = clock.now_s()
        try:
            document = write()
        except Reply as reply:
            if reply.status != http.HTTPStatus.CONFLICT:
                raise
            return False
        self._held[run] = _Held(document=document, renewed_s=begun_s)
        self._seen.pop(run, None)
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="leases", daemon=True)
            self._thread.start()
        return True

    def _keep(self) -> None:
        while not self._over.wait(RENEW_S):
            self._renew_all()

    def _renew_all(self) -> None:
        for held in list(self._held.values()):
            if held.state == "held" and not self._over.is_set():
                try:
                    self._renew(held)
                except EnvironmentProblem:
                    # Not in time: whoever would act on it sees that it has lapsed.
                    continue
                except Exception as error:  # noqa: BLE001 - kept for `owner`; without this thread every Lease lapses
                    held.error = error

    def _renew(self, held: _Held) -> None:
        begun_s = clock.now_s()
        try:
            held.document = self._api.replace("leases", self._renewed(held.document, holder=self._identity))
        except Reply as reply:
            if reply.status not in (http.HTTPStatus.CONFLICT, http.HTTPStatus.NOT_FOUND):
                raise
            found = self._api.get("leases", held.document["metadata"]["name"])
            if found is None:
                held.state = "gone"
            elif found["spec"].get("holderIdentity") != self._identity:
                held.state = "lost"
            else:
                # Changed by a hand that labels things; ours all the same.
                held.document = found
            return
        held.renewed_s = begun_s

    def _lapsed(self, held: _Held) -> bool:
        return clock.now_s() - held.renewed_s > DURATION_S

    def _fresh(self, run: str) -> dict[str, Any]:
        empty = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": lease_name(run),
                "namespace": self._api.namespace,
                "labels": run_labels(run),
            },
            "spec": {},
        }
        return self._renewed(empty, holder=self._identity)

    def _renewed(self, document: dict[str, Any], *, holder: str) -> dict[str, Any]:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = document["spec"]
        taken = holder != (spec.get("holderIdentity") or "")
        changes: dict[str, Any] = {"holderIdentity": holder, "leaseDurationSeconds": DURATION_S, "renewTime": now}
        if taken:
            changes |= {"acquireTime": now, "leaseTransitions": (spec.get("leaseTransitions") or 0) + 1}
        return {**document, "spec": spec | changes}
