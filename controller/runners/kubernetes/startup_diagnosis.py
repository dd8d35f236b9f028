"""Why a Job that was created does not start, and how long that may still mend itself.

Touches: nothing. None of this ever fails a Job by itself: a pod without an image, a Secret or a node waits for ever,
and its deadline counts nothing while no node has it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

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

_SOON_MS = 60_000
"""What people and tools apply in the wrong order is there after this."""

_LATER_MS = 300_000
"""A registry or a disk that is away for a moment is back after this."""

_NODES_MS = 900_000
"""An autoscaler has brought the node after this, from nothing."""

_REPAIRS_MS = 3_600_000
"""Nodes that are being replaced are back after this."""


@dataclass(frozen=True, kw_only=True)
class Stuck:
    """A Job that waits for more than its turn."""

    diagnosis: Diagnosis
    since_ms: int
    """When it was first seen so, by the controller's clock."""
    patience_ms: int | None
    """How long it may yet mend itself: 0, it cannot; None, others are using what it waits for."""

    def over(self, now_ms: int) -> bool:
        """Whether it has been waited for long enough."""
        return self.patience_ms is not None and now_ms - self.since_ms >= self.patience_ms


class _Rule(NamedTuple):
    """A message that holds *pattern* means *failure*."""

    pattern: str
    failure: FailureClass
    summary: str
    advice: str
    patience_ms: int | None


_REFUSED: tuple[_Rule, ...] = (
    _Rule(
        r"exceeded quota",
        FailureClass.CREATE_DENIED_QUOTA,
        "the namespace's quota is used up",
        "it goes on when others end; see `kubectl describe resourcequota`, or lower --max-parallel",
        None,
    ),
    _Rule(
        r"failed quota",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the namespace's quota asks for requests or limits that jobs do not set",
        "a LimitRange with defaults gives them to every pod",
        0,
    ),
    _Rule(
        r"violates PodSecurity",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the namespace's Pod Security level forbids the pod",
        "the jobs meet the level `restricted`: take back the option that breaks it",
        0,
    ),
    _Rule(
        r"error looking up service account",
        FailureClass.CONFIG,
        "the ServiceAccount does not exist",
        "create it, or correct --service-account",
        _SOON_MS,
    ),
    _Rule(
        r"no PriorityClass with name",
        FailureClass.CONFIG,
        "the PriorityClass does not exist",
        "see `kubectl get priorityclass`, and correct --priority-class",
        _SOON_MS,
    ),
    _Rule(
        r"RuntimeClass .*not found",
        FailureClass.CONFIG,
        "the RuntimeClass does not exist",
        "see `kubectl get runtimeclass`, and correct --runtime-class",
        _SOON_MS,
    ),
    _Rule(
        r"(maximum|minimum) \S+ usage per|limit to request ratio",
        FailureClass.CREATE_DENIED_ADMISSION,
        "a LimitRange of the namespace forbids the pod",
        "see `kubectl describe limitrange`; adapt it, --threads or --job-memory",
        0,
    ),
    _Rule(
        r"cannot (create|get|list|watch|delete|update|patch) resource|finalizers on",
        FailureClass.CREATE_DENIED_RBAC,
        "the controller lacks a right",
        "grant it (the Role in k8s/ holds all that are needed); `stenofleet doctor` lists what is missing",
        0,
    ),
    _Rule(
        r"namespaces \S+ not found",
        FailureClass.CONFIG,
        "the namespace does not exist",
        "create it, or correct --namespace",
        0,
    ),
    _Rule(
        r"admission webhook|ValidatingAdmissionPolicy",
        FailureClass.CREATE_DENIED_ADMISSION,
        "a policy of the cluster refuses it",
        "its words name the policy: ask who runs the cluster",
        0,
    ),
    _Rule(
        r"(?i)internal error|failed calling webhook|timed? ?out|time allotted|connection refused|too many requests"
        r"|etcdserver|status unknown for quota|object has been modified",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the cluster cannot judge it now",
        "its words name what is down: ask who runs the cluster",
        _LATER_MS,
    ),
    _Rule(
        r"is invalid",
        FailureClass.CONFIG,
        "the API server finds the Job invalid",
        "correct the option behind the field that it names",
        0,
    ),
    _Rule(
        "",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the cluster refuses it",
        "its words say why: ask who runs the cluster",
        _SOON_MS,
    ),
)

_UNSCHEDULABLE: tuple[_Rule, ...] = (
    _Rule(
        r"persistentvolumeclaim \S+ not found",
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the PersistentVolumeClaim with the models does not exist",
        "create it, or correct --model-claim",
        _SOON_MS,
    ),
    _Rule(
        r"PersistentVolume|volume",
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the volume with the models cannot be where a free node is",
        "see `kubectl describe pvc`: many nodes need ReadOnlyMany or ReadWriteMany",
        _LATER_MS,
    ),
    _Rule(
        r"Insufficient|Too many pods",
        FailureClass.UNSCHEDULABLE_RESOURCES,
        "no node has room for it",
        "see `kubectl describe nodes`; adapt --job-memory, --threads, --gpus or --gpu-resource",
        _NODES_MS,
    ),
    _Rule(
        r"affinity|selector",
        FailureClass.UNSCHEDULABLE_AFFINITY,
        "no node is left that it may run on",
        "see `kubectl get nodes --show-labels`, and correct --node-selector; nodes where its GPU failed are left out",
        _NODES_MS,
    ),
    _Rule(
        r"taint|were unschedulable",
        FailureClass.UNSCHEDULABLE_TAINT,
        "every node that could take it is tainted or cordoned",
        "`kubectl describe nodes | grep -A3 Taints` shows them; add a --toleration",
        _NODES_MS,
    ),
    _Rule(
        "",
        FailureClass.UNSCHEDULABLE_RESOURCES,
        "the scheduler finds no node for it",
        "see `kubectl describe nodes`",
        _NODES_MS,
    ),
)

_PULLS = re.compile(
    r"ErrImage(Never)?Pull|ImagePullBackOff|ImageInspectError|InvalidImageName|.*(Registry|Signature).*"
)

_NOT_PULLED: tuple[_Rule, ...] = (
    _Rule(
        r"ErrImageNeverPull",
        FailureClass.IMAGE_PULL,
        "the image is not on the node, and may not be pulled",
        "load it on every node, or change --image-pull-policy",
        _SOON_MS,
    ),
    _Rule(
        r"InvalidImageName",
        FailureClass.IMAGE_PULL,
        "the image's name is not valid",
        "correct --chunk-image or --intake-image",
        0,
    ),
    _Rule(
        r"(?i)unauthorized|denied|forbidden|authorization failed",
        FailureClass.IMAGE_PULL,
        "the registry refuses the image",
        "give a Secret for it (--image-pull-secret)",
        _SOON_MS,
    ),
    _Rule(
        r"(?i)not found|manifest unknown",
        FailureClass.IMAGE_PULL,
        "the registry does not have the image",
        "push it, or correct --chunk-image or --intake-image",
        _SOON_MS,
    ),
    _Rule(
        "",
        FailureClass.IMAGE_PULL,
        "the image cannot be pulled",
        "see its name (--chunk-image, --intake-image) and the node's way to the registry",
        _LATER_MS,
    ),
)

_NOT_MADE: tuple[_Rule, ...] = (
    _Rule(
        r"(?i)secret|configmap",
        FailureClass.CONFIG,
        "a Secret or ConfigMap of the job does not exist, or lacks a key",
        "create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or correct --s3-secret or --s3-ca",
        _SOON_MS,
    ),
    _Rule(
        r"runAsNonRoot",
        FailureClass.CONFIG,
        "the image would run as root",
        "use an image of this project (--chunk-image, --intake-image)",
        0,
    ),
    _Rule(
        r"FailedMount|FailedAttachVolume|FailedMapVolume",
        FailureClass.UNSCHEDULABLE_VOLUME,
        "its node cannot mount a volume",
        "see `kubectl describe pvc` and the storage driver's log",
        _LATER_MS,
    ),
    _Rule(
        r"runtime .*(is configured|handler)",
        FailureClass.CONFIG,
        "its node does not have the runtime that the RuntimeClass names",
        "correct --runtime-class, or install the runtime on that node",
        _LATER_MS,
    ),
    _Rule(
        "",
        # One node's trouble, as far as it is known: other nodes may do better.
        FailureClass.UNKNOWN,
        "its node cannot make the container",
        "see `kubectl describe` of the pod and of its node",
        _LATER_MS,
    ),
)

_TROUBLES = ("FailedMount", "FailedAttachVolume", "FailedMapVolume", "FailedCreatePodSandBox")
_NEVER = "1970-01-01T00:00:00Z"
_BUSY = "No preemption victims found"
"""The best sign that some node has what the pod asks for: its pods could be put out, were they less important."""

# Schedulers before 1.35 name the taint; later ones only count it.
_REPAIR = re.compile(r"node\.kubernetes\.io/(not-ready|unreachable|unschedulable)|were unschedulable")


def pending(
    job: Document, pod: Document | None, events: Sequence[Document], *, before: Stuck | None, now_ms: int
) -> Stuck | None:
    """Why a Job that has not ended does not start; None where it runs, waits in a queue, or is on its way.

    *events* are those of the Job and of its pod; without a pod only they tell. *before* is the last answer for it.
    """
    if phase(job, pod) in ("running", "ended") or suspended(job):
        return None
    found = _not_created(job, events) if pod is None else _not_scheduled(pod) or _not_started(pod, events)
    return None if found is None else _as_before(found, before, now_ms)


def refused(message: str, *, before: Stuck | None, now_ms: int) -> Stuck:
    """What an API server means that refuses to create an object with this *message*."""
    return _as_before(_found(_REFUSED, message), before, now_ms)


def _as_before(found: Stuck, before: Stuck | None, now_ms: int) -> Stuck:
    """The same wait goes on, a wait for one's turn counts for nothing."""
    same = before and before.diagnosis.failure is found.diagnosis.failure and before.patience_ms is not None
    return replace(found, since_ms=before.since_ms if before and same else now_ms)


def _not_created(job: Document, events: Sequence[Document]) -> Stuck | None:
    # With a pod counted, this is only a list that lags behind.
    last = None if job.get("status", {}).get("active") else _last(events, ("FailedCreate",))
    return None if last is None else _found(_REFUSED, str(last.get("message")))


def _not_scheduled(pod: Document) -> Stuck | None:
    scheduled = condition(pod, "PodScheduled")
    if (scheduled.get("status"), scheduled.get("reason")) != ("False", "Unschedulable"):
        return None
    message = str(scheduled.get("message"))
    found = _found(_UNSCHEDULABLE, message)
    if found.diagnosis.failure is FailureClass.UNSCHEDULABLE_RESOURCES and _BUSY in message:
        return replace(found, patience_ms=None)
    return replace(found, patience_ms=_REPAIRS_MS) if _REPAIR.search(message) else found


def _not_started(pod: Document, events: Sequence[Document]) -> Stuck | None:
    waiting = container_state(pod, "waiting")
    reason, message = str(waiting.get("reason") or ""), str(waiting.get("message") or "")
    if reason not in ("", "ContainerCreating", "PodInitializing"):
        return _found(_NOT_PULLED if _PULLS.fullmatch(reason) else _NOT_MADE, f"{reason}: {message}")
    trouble = _last(events, _TROUBLES)
    return None if trouble is None else _found(_NOT_MADE, f"{trouble['reason']}: {trouble.get('message')}")


def _found(rules: Sequence[_Rule], message: str) -> Stuck:
    rule = next(rule for rule in rules if re.search(rule.pattern, message))
    # A pod's name, or a kubelet between two tries, would make the same trouble look different.
    said = re.sub(r'^Error creating: (pods "\S+" is forbidden: )?', "", message)
    said = one_line(re.sub(r'^ImagePullBackOff: Back-off pulling image "[^"]*": ', "", said))
    diagnosis = Diagnosis(
        failure=rule.failure, summary=f"{rule.summary}: {said}", advice=rule.advice, details=(one_line(message),)
    )
    return Stuck(diagnosis=diagnosis, since_ms=0, patience_ms=rule.patience_ms)


def _last(events: Sequence[Document], reasons: Sequence[str]) -> Document | None:
    found = [event for event in events if event.get("reason") in reasons]
    # The newer kind of event has its time elsewhere.
    return max(
        found, key=lambda event: to_ms(event.get("lastTimestamp") or event.get("eventTime") or _NEVER), default=None
    )
