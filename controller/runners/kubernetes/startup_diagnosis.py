"""Why a Job that was created does not start, and how long to wait until the problem counts as a failure.

Touches: nothing. Kubernetes never fails a Job for these problems: a pod without an image, a Secret or a node waits
forever, and its deadline is not counted while it has no node.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from controller.domain.failures import Diagnosis, FailureClass
from controller.runners.kubernetes.pod_status import (
    Document,
    condition,
    container_state,
    one_line,
    phase,
    suspended,
    to_ms,
)
from controller.runners.kubernetes.startup_rules import (
    NOT_MADE,
    NOT_PULLED,
    REFUSED,
    REPAIRS_MS,
    UNSCHEDULABLE,
    Rule,
)


@dataclass(frozen=True, kw_only=True)
class StartupProblem:
    """The problem of a Job that does not start."""

    diagnosis: Diagnosis
    since_ms: int
    """When it was first seen, by the controller's clock."""
    patience_ms: int | None
    """How long it may be fixed from outside. 0: it cannot be fixed. None: it waits for a resource that is in use."""

    def over(self, now_ms: int) -> bool:
        """Whether the patience is over."""
        return self.patience_ms is not None and now_ms - self.since_ms >= self.patience_ms


_PULLS = re.compile(
    r"ErrImage(Never)?Pull|ImagePullBackOff|ImageInspectError|InvalidImageName|.*(Registry|Signature).*"
)

_TROUBLES = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox")
_NEVER = "1970-01-01T00:00:00Z"
_BUSY = "No preemption victims found"
"""The best sign that a node has the requested resources, and that pods of the same or higher priority use them."""

# Schedulers before 1.35 name the taint; later ones only count it.
_REPAIR = re.compile(r"node\.kubernetes\.io/(not-ready|unreachable|unschedulable)|were unschedulable")


def startup_problem(
    job: Document, pod: Document | None, events: Sequence[Document], *, before: StartupProblem | None, now_ms: int
) -> StartupProblem | None:
    """Why a Job that has not ended does not start; None if it runs, waits in a queue, or is starting normally.

    *events*: those of the Job and of its pod. *before*: the last result of this function for the same Job.
    """
    if phase(job, pod) in ("running", "ended") or suspended(job):
        return None
    found = _not_created(job, events) if pod is None else _not_scheduled(pod) or _not_started(pod, events)
    return None if found is None else _as_before(found, before, now_ms)


def refused(message: str, *, before: StartupProblem | None, now_ms: int) -> StartupProblem:
    """The problem of a Job that the API server refused to create with this *message*."""
    return _as_before(_found(REFUSED, message), before, now_ms)


def _as_before(found: StartupProblem, before: StartupProblem | None, now_ms: int) -> StartupProblem:
    """*found* with the start time of the same problem before. Time spent waiting for a used resource does not count."""
    same = before and before.diagnosis.failure is found.diagnosis.failure and before.patience_ms is not None
    return replace(found, since_ms=before.since_ms if before and same else now_ms)


def _not_created(job: Document, events: Sequence[Document]) -> StartupProblem | None:
    # If the Job counts a pod, the list of pods is only older than the Job.
    last = None if job.get("status", {}).get("active") else _last(events, ("FailedCreate",))
    return None if last is None else _found(REFUSED, str(last.get("message")))


def _not_scheduled(pod: Document) -> StartupProblem | None:
    scheduled = condition(pod, "PodScheduled")
    if (scheduled.get("status"), scheduled.get("reason")) != ("False", "Unschedulable"):
        return None
    message = str(scheduled.get("message"))
    found = _naming_claims(_found(UNSCHEDULABLE, message), pod)
    if found.diagnosis.failure is FailureClass.UNSCHEDULABLE_RESOURCES and _BUSY in message:
        return replace(found, patience_ms=None)
    return replace(found, patience_ms=REPAIRS_MS) if _REPAIR.search(message) else found


def _naming_claims(found: StartupProblem, pod: Document) -> StartupProblem:
    """Add the names of the pod's claims to an advice about claims."""
    volumes = pod.get("spec", {}).get("volumes") or ()
    names = [str(one["persistentVolumeClaim"].get("claimName")) for one in volumes if "persistentVolumeClaim" in one]
    advice = found.diagnosis.advice.replace("describe pvc", " ".join(["describe pvc", *names]))
    return replace(found, diagnosis=replace(found.diagnosis, advice=advice))


def _not_started(pod: Document, events: Sequence[Document]) -> StartupProblem | None:
    waiting = container_state(pod, "waiting")
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        return _found(NOT_PULLED if _PULLS.fullmatch(reason) else NOT_MADE, f"{reason}: {message}")
    trouble = _last(events, _TROUBLES)
    return None if trouble is None else _found(NOT_MADE, f"{trouble['reason']}: {trouble.get('message')}")


def _found(rules: Sequence[Rule], message: str) -> StartupProblem:
    rule = next(rule for rule in rules if re.search(rule.pattern, message))
    # Remove the parts that differ between repetitions of the same problem: the pod's name, and the back-off.
    text = re.sub(r'^Error creating: (pods "\S+" is forbidden: )?', "", message)
    text = one_line(re.sub(r'^ImagePullBackOff: Back-off pulling image "[^"]*": ', "", text))
    diagnosis = Diagnosis(
        failure=rule.failure, summary=f"{rule.summary}: {text}", advice=rule.advice, details=(one_line(message),)
    )
    return StartupProblem(diagnosis=diagnosis, since_ms=0, patience_ms=rule.patience_ms)


def _last(events: Sequence[Document], reasons: Sequence[str]) -> Document | None:
    found = [event for event in events if event.get("reason") in reasons]
    # The newer kind of event has its time in another field.
    return max(
        found, key=lambda event: to_ms(event.get("lastTimestamp") or event.get("eventTime") or _NEVER), default=None
    )
