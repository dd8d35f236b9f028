"""What the API server says of a Job and its pod, as raw documents: how far it is.

Touches: nothing. Why it does not start is read in ``pending``, why it ended in ``ended``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from controller.domain.jobs import Phase
from controller.runners.kubernetes.labels import CONTAINER

Document = Mapping[str, Any]
"""A Kubernetes object as JSON gives it."""

ENDED = ("FailureTarget", "SuccessCriteriaMet", "Failed", "Complete")
"""The first two come while the pod still ends, and are final: behind a lost node the others never come."""


def phase(job: Document, pod: Document | None) -> Phase:
    """How far the Job is. *pod* is its only one, as last seen; None: there is none (yet, or any more)."""
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
    """Whether a queue holds the Job back. What it does to a running pod then is no failure."""
    return bool(job.get("spec", {}).get("suspend")) or is_true(job, "Suspended")


def taken_back(job: Document, pod: Document) -> bool:
    """Whether a queue stopped this pod by suspending its Job: its end is not the Job's, which has another pod next."""
    if suspended(job):
        return True
    begun = job.get("status", {}).get("startTime")  # anew when it is resumed
    created = pod.get("metadata", {}).get("creationTimestamp")
    # Two clocks wrote these, so they tell only where there is reason to ask.
    asked = condition(job, "Suspended") and pod["metadata"].get("deletionTimestamp")
    return bool(asked and begun and created and created < begun)


def newest(pod: Document, known: Document | None) -> Document:
    """Which of two pods of one Job is the later one: while the first still ends, a resumed Job has two."""
    if known is None or pod["metadata"].get("uid") == known["metadata"].get("uid"):
        return pod
    return max(known, pod, key=lambda one: str(one["metadata"].get("creationTimestamp")))


def node(pod: Document | None) -> str:
    """Name of the pod's node; empty where it has none."""
    return str((pod or {}).get("spec", {}).get("nodeName") or "")


def looks_lost(job: Document, pod: Document | None) -> bool:
    """Whether the node of a running pod has gone silent.

    Nothing else says so for the half minute until the pod is evicted, and all of it goes back if the node returns. A
    second attempt is safe: every attempt has its own result.
    """
    if pod is None or phase(job, pod) != "running" or job.get("status", {}).get("ready"):
        return False
    if not container_state(pod, "running"):
        return False
    ready = condition(pod, "Ready")
    return ready.get("status") == "False" and not ready.get("reason")


def condition(document: Document | None, kind: str) -> Document:
    """The condition of that type in a Job or pod; empty where there is none."""
    found = (document or {}).get("status", {}).get("conditions") or ()
    return next((item for item in found if item.get("type") == kind), {})


def is_true(document: Document | None, kind: str) -> bool:
    """Whether that condition holds."""
    return condition(document, kind).get("status") == "True"


def container_state(pod: Document | None, state: str) -> Document:
    """``waiting``, ``running`` or ``terminated`` of our container; empty where that is not its state."""
    found = (pod or {}).get("status", {}).get("containerStatuses") or ()
    return next((item.get("state", {}).get(state) or {} for item in found if item.get("name") == CONTAINER), {})


def why_not_running(pod: Document) -> str:
    """What the server says of a pod whose container does not run, in few words."""
    waiting, ended = container_state(pod, "waiting"), container_state(pod, "terminated")
    if ended:
        return one_line(f"ended with exit code {ended.get('exitCode')}")
    unscheduled = condition(pod, "PodScheduled")
    if unscheduled.get("status") == "False":
        waiting = unscheduled
    said = [waiting.get("reason") or pod.get("status", {}).get("phase") or "Pending", waiting.get("message")]
    return one_line(": ".join(filter(None, said)))


def one_line(text: Any) -> str:
    """A message as one line of bearable length."""
    return " ".join(str(text or "").split())[:500]


def to_ms(timestamp: str) -> int:
    """Milliseconds since the epoch of a Kubernetes time (RFC 3339)."""
    return round(datetime.fromisoformat(timestamp).timestamp() * 1000)


def is_over(pod: Document) -> bool:
    """Whether nothing in the pod runs any more."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def started_at(pod: Document | None) -> str | None:
    """When our container began; None where it never did."""
    for state in ("running", "terminated"):
        ended = container_state(pod, state)
        if ended.get("startedAt") and ended.get("reason") != "ContainerStatusUnknown":
            return str(ended["startedAt"])
    return None
