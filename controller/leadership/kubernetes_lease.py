"""Kubernetes Leases: which process leads a run on a cluster. The Lease is also the owner of all Jobs of the run.

Touches: Kubernetes (through ``runners.kubernetes.api``), a thread that renews. A Lease is taken by an update with its
``resourceVersion``, never by deleting it: its Jobs would be deleted too. If a person deletes a Lease, that is a cancel.
The thread ends only with the process: after an error it tries again at the next renewal. A Lease that is not renewed in
time expires.
"""

from __future__ import annotations

import contextlib
import http
import os
import secrets
import socket
import threading
from collections.abc import Collection
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
    """A Lease that this process holds. The renewing thread only assigns single fields."""

    document: dict[str, Any]
    renewed_s: float
    state: Literal["held", "lost", "deleted"] = "held"
    error: Exception | None = None
    """An unexpected error of a renewal, kept until it is raised in the loop."""


@dataclass(kw_only=True)
class _Seen:
    """A Lease of another process: its last content, and since when it is unchanged, by the clock of this process."""

    document: dict[str, Any]
    renewal: tuple[str, str]
    """Its holder and its renew time."""
    since_s: float


def _seen(document: dict[str, Any]) -> _Seen:
    """A Lease of another process that was read now."""
    spec = document["spec"]
    renewal = (str(spec.get("holderIdentity") or ""), str(spec.get("renewTime") or ""))
    return _Seen(document=document, renewal=renewal, since_s=clock.now_s())


class KubernetesLeases:
    """The Leases of the runs that this process leads, renewed until they are released."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._identity = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
        self._held: dict[str, _Held] = {}
        self._seen: dict[str, _Seen] = {}
        self._observed: dict[str, _Seen] = {}
        """Leases of other processes that this one does not want yet. Only for their expiry: that one of them is missing
        later does not mean that it was deleted by a person."""
        self._reported = ""
        """The last unexpected error that was raised: one that repeats at every renewal is reported once."""
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def runs(self) -> list[str]:
        """The runs that this process leads."""
        return list(self._held)

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        """Take the run's Lease if it is free or expired, or renew it. *leading* if this process holds it.

        Raises :class:`ClusterUnavailable`, and :class:`EnvironmentProblem` if a permission is missing.
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
        """Return the owner for the Jobs of the run. Must be called before each change.

        Raises :class:`ClusterUnavailable` if the Lease has expired: another process may hold it by now. Also raises it,
        once, after an unexpected error of a renewal: the thread itself cannot report one.
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
                answered=True,  # the cluster itself is available
            ) from error
        return Owner(name=held.document["metadata"]["name"], uid=held.document["metadata"]["uid"])

    def check(self, run: str) -> None:
        """Raises as :meth:`owner` does."""
        self.owner(run)

    def domain(self, run: str) -> str:
        """Return the uid of the Lease: earlier holders of it have lost it."""
        return str(self._held[run].document["metadata"]["uid"])

    def cancelled(self, run: str) -> bool:
        """Whether the Lease was deleted, and with it all Jobs of the run."""
        held = self._held.get(run)
        return held is not None and held.state == "deleted"

    def recheck(self, run: str) -> None:
        """Renew the Lease immediately: it may have been deleted or taken by another process."""
        held = self._held.get(run)
        if held is not None and held.state == "held":
            self._renew(held)

    def observe(self, runs: Collection[str]) -> None:
        """Note since when the Leases of *runs* are unchanged."""
        found = {}
        for run in runs:
            document = None if run in self._held else self._api.get("leases", lease_name(run))
            if document is not None:
                before, seen = self._observed.get(run), _seen(document)
                found[run] = before if before and before.renewal == seen.renewal else seen
        self._observed = found

    def release(self, run: str, *, ended: bool) -> None:
        """Release the Lease. *ended*: the run has ended, and the Lease is deleted."""
        self._seen.pop(run, None)
        held = self._held.pop(run, None)
        if held is None or held.state != "held":
            return
        with contextlib.suppress(EnvironmentProblem):  # it expires by itself
            for _ in range(_TRIES):
                found = self._api.get("leases", lease_name(run))
                if found is None or found["spec"].get("holderIdentity") != self._identity:
                    return
                # Only the version that was just read: another process may take it at this moment, with all Jobs.
                if not ended:
                    self._api.replace("leases", self._renewed(found, holder=""))
                    return
                meta = found["metadata"]
                if self._api.delete("leases", meta["name"], uid=meta["uid"], version=meta["resourceVersion"]):
                    return

    def close(self) -> None:
        """Release all Leases without changing their Jobs, and stop renewing."""
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
                # A process that stops before the run has ended keeps the Lease. So the run has ended or was cancelled.
                document = self._seen.pop(run).document
                self._held[run] = _Held(document=document, renewed_s=clock.now_s(), state="deleted")
                return True
            return self._hold(run, lambda: self._api.create("leases", self._fresh(run)))
        spec = found["spec"]
        holder = str(spec.get("holderIdentity") or "")
        now = _seen(found)
        seen = self._seen.get(run) or self._observed.get(run)
        if seen is None or seen.renewal != now.renewal:
            seen = now
        self._seen[run] = seen
        # By the clock of this process: the other process's clock may be wrong.
        expired = clock.now_s() - seen.since_s > (spec.get("leaseDurationSeconds") or DURATION_S)
        if holder and holder != self._identity and not expired:
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
                    # If this continues, `owner` finds that the Lease has expired.
                    continue
                except Exception as error:  # noqa: BLE001 - kept for `owner`; without this thread every Lease expires
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
                held.state = "deleted"
            elif found["spec"].get("holderIdentity") != self._identity:
                held.state = "lost"
            else:
                # A person or a tool changed it, for example its labels; this process still holds it.
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
