"""Reads the state of a Job and its pod from their raw documents.

Touches: nothing. ``startup_diagnosis`` finds why a Job does not start, ``exit_diagnosis`` why it ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controller.domain.jobs import Phase
from controller.runners.kubernetes.labels import CONTAINER

Document = Mapping[str, Any]
"""A Kubernetes object as parsed from JSON."""

ENDED = ("FailureTarget", "SuccessCriteriaMet", "Failed", "Complete")
"""The first two are set while the pod is still ending, and are final. On a lost node the others are never set."""


def phase(job: Document, pod: Document | None) -> Phase:
    """The phase of the Job. *pod*: the last known state of its only pod; None if it has none."""
    if any(is_true(job, kind) for kind in ENDED):
        return "ended"
    if suspended(job) or pod is None:
        return "queued"
    if is_over(pod):
        return "ended"
    if not pod.get("spec", {}).get("nodeName"):
        return "queued"
    return "running" if started_at(pod) else "starting"


def suspended(job: Document) -> bool:
    """Whether a queue has suspended the Job. If the queue stops a running pod, that is no failure."""
    return bool(job.get("spec", {}).get("suspend")) or is_true(job, "Suspended")


def taken_back(job: Document, pod: Document) -> bool:
    """Whether a queue stopped this pod by suspending its Job. The Job has not ended: it gets another pod later."""
    if suspended(job):
        return True
    begun = job.get("status", {}).get("startTime")  # set again when it is resumed
    created = pod.get("metadata", {}).get("creationTimestamp")
    # Two clocks wrote these times, so they are compared only if the Job was suspended before.
    was_suspended = condition(job, "Suspended") and pod["metadata"].get("deletionTimestamp")
    return bool(was_suspended and begun and created and created < begun)


def newest(pod: Document, known: Document | None) -> Document:
    """The later of two pods of one Job. A resumed Job has two pods while the first is still ending."""
    if known is None or pod["metadata"].get("uid") == known["metadata"].get("uid"):
        return pod
    return max(known, pod, key=lambda one: str(one["metadata"].get("creationTimestamp")))


def node(pod: Document | None) -> str:
    """Name of the pod's node; empty if it has none."""
    return str((pod or {}).get("spec", {}).get("nodeName") or "")


def looks_lost(job: Document, pod: Document | None) -> bool:
    """Whether the node of a running pod seems to be lost.

    Until the pod is evicted half a minute later, this is the only sign. It is reversed if the node returns. A second
    attempt is safe: every attempt has its own result.
    """
    if pod is None or phase(job, pod) != "running" or job.get("status", {}).get("ready"):
        return False
    if not container_state(pod, "running"):
        return False
    ready = condition(pod, "Ready")
    return ready.get("status") == "False" and not ready.get("reason")


def condition(document: Document | None, kind: str) -> Document:
    """The condition of type *kind* in a Job or pod; empty if there is none."""
    found = (document or {}).get("status", {}).get("conditions") or ()
    return next((item for item in found if item.get("type") == kind), {})


def is_true(document: Document | None, kind: str) -> bool:
    """Whether the condition of type *kind* is true."""
    return condition(document, kind).get("status") == "True"


def container_state(pod: Document | None, state: str) -> Document:
    """``waiting``, ``running`` or ``terminated`` of our container; empty if it is in another state."""
    found = (pod or {}).get("status", {}).get("containerStatuses") or ()
    return next((item.get("state", {}).get(state) or {} for item in found if item.get("name") == CONTAINER), {})


def why_not_running(pod: Document) -> str:
    """A short reason why a pod's container is not running."""
    waiting, ended = container_state(pod, "waiting"), container_state(pod, "terminated")
    if ended:
        return one_line(f"ended with exit code {ended.get('exitCode')}")
    unscheduled = condition(pod, "PodScheduled")
    if unscheduled.get("status") == "False":
        waiting = unscheduled
    parts = [waiting.get("reason") or pod.get("status", {}).get("phase") or "Pending", waiting.get("message")]
    return one_line(": ".join(filter(None, parts)))


def one_line(text: Any) -> str:
    """A message as one line of at most 500 characters."""
    return " ".join(str(text or "").split())[:500]


def to_ms(timestamp: str) -> int:
    """Convert a Kubernetes time (RFC 3339) to milliseconds since the epoch."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def pull_ms(pod: Document | None) -> int | None:
    """How long the node needed from taking the pod until it started our container; None if it does not say so.

    Both times are those of the node: the clocks of others may differ.
    """
    taken, started = (pod or {}).get("status", {}).get("startTime"), started_at(pod)
    return max(0, to_ms(started) - to_ms(taken)) if taken and started else None


def ran_ms(pod: Document | None) -> int | None:
    """How long our container ran, by the clock of its node; None if it has not ended, or the node does not say so."""
    ended, started = container_state(pod, "terminated").get("finishedAt"), started_at(pod)
    return max(0, to_ms(str(ended)) - to_ms(started)) if ended and started else None


def has_gpu(job: Document) -> bool | None:
    """Whether the Job reserves a device; None if it is not known, because the Job was deleted."""
    containers = job.get("spec", {}).get("template", {}).get("spec", {}).get("containers") or ()
    limits = [one.get("resources", {}).get("limits") or {} for one in containers]
    # Kubernetes' own resources have no domain in their names, those of device plugins do.
    return any("/" in name for of_one in limits for name in of_one) if containers else None


def is_over(pod: Document) -> bool:
    """Whether all containers of the pod have ended."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def started_at(pod: Document | None) -> str | None:
    """When our container started; None if it never did."""
    for state in ("running", "terminated"):
        ended = container_state(pod, state)
        if ended.get("startedAt") and ended.get("reason") != "ContainerStatusUnknown":
            return str(ended["startedAt"])
    return None
