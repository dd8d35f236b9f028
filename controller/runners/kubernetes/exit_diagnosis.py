"""Why a Job ended without a result: the states that Kubernetes reports → a failure class, evidence, and what to do.

Touches: nothing. The most specific source is read first: the termination message of the process. The exit code alone is
read last, because every killed container has exit code 137.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chunk_job.errors import ExitCode
from controller.domain.failures import Diagnosis, FailureClass, by_code, excerpt, from_termination_message
from controller.runners.kubernetes.pod_status import (
    ENDED,
    Document,
    condition,
    container_state,
    is_over,
    is_true,
    node,
    one_line,
    started_at,
)

_CRASHES = frozenset({132, 134, 135, 136, 139})
"""SIGILL, SIGABRT, SIGBUS, SIGFPE, SIGSEGV. An abort of PID 1 also gives 139, so the number gives no further detail."""

_NOT_STARTED = frozenset({126, 127, 128})
_KILLED = 137
_STOPPED = frozenset({None, 0, _KILLED, ExitCode.TERMINATED})

_Finding = tuple[FailureClass, str, str]
"""Class, what happened, what to do."""

_DISRUPTIONS: Mapping[str, _Finding] = {
    "PreemptionByScheduler": (
        FailureClass.DISRUPTED_PREEMPTED,
        "a pod of higher priority took its place",
        "costs no attempt; a higher --priority-class keeps the place",
    ),
    "EvictionByEvictionAPI": (
        FailureClass.DISRUPTED_DRAINED,
        "its node was drained",
        "costs no attempt; a PodDisruptionBudget makes drains wait",
    ),
    "DeletionByTaintManager": (
        FailureClass.DISRUPTED_NODE_LOST,
        "its node was lost, or tainted NoExecute",
        "costs no attempt; see `kubectl describe node`",
    ),
    "DeletionByPodGC": (
        FailureClass.DISRUPTED_NODE_LOST,
        "its node was deleted",
        "costs no attempt; see `kubectl get nodes`",
    ),
    "TerminationByKubelet": (
        FailureClass.DISRUPTED_EVICTED,
        "its node ran out of a resource and evicted it",
        "costs no attempt; see the node's conditions in `kubectl describe node`",
    ),
}
"""Reasons of the condition ``DisruptionTarget``."""

_PREEMPTED_BY_KUBELET: _Finding = (
    FailureClass.DISRUPTED_PREEMPTED,
    "its node preempted it for a critical pod",
    "costs no attempt",
)
_SHUT_DOWN: _Finding = (FailureClass.DISRUPTED_DRAINED, "its node was shut down", "costs no attempt")
_DELETED: _Finding = (
    FailureClass.DISRUPTED_DELETED,
    "another client deleted its pod",
    "costs no attempt; the API server's audit log says who",
)
_OOM_KILLED: _Finding = (
    FailureClass.OOM_KILLED,
    "the kernel killed it at its memory limit",
    "give jobs more memory (--job-memory), or use shorter chunks (--chunk-duration) or a smaller model",
)

_POD_REASONS: Mapping[str, _Finding] = {
    "Preempting": _PREEMPTED_BY_KUBELET,
    "Terminated": _SHUT_DOWN,
    "NodeShutdown": _SHUT_DOWN,
}
"""Values of a pod's ``reason`` that determine the cause alone."""

_EVENTS: Mapping[str, _Finding] = {
    "Preempted": _DISRUPTIONS["PreemptionByScheduler"],
    "TaintManagerEviction": _DISRUPTIONS["DeletionByTaintManager"],
    "Evicted": _DISRUPTIONS["TerminationByKubelet"],
    "Preempting": _PREEMPTED_BY_KUBELET,
    "NodeShutdown": _SHUT_DOWN,
}
"""Events of a deleted pod. An eviction through the API leaves no event."""


def from_cluster(job: Document, pod: Document | None, events: Sequence[Document], log: Sequence[str]) -> Diagnosis:
    """Why a Job ended without a result.

    *job* is empty if it was deleted. *pod* is its last known state. *events* are those of Job and pod. *log* has the
    last lines of the container; if it is empty, the part of the log that the pod's status contains is used.
    """
    end = _End(job=job, pod=pod, events=events, log=log or _kept(pod).splitlines())
    failure, summary, advice = next(found for judge in _JUDGES if (found := judge(end)) is not None)
    return Diagnosis(
        failure=failure,
        summary=summary,
        advice=advice,
        details=(*excerpt(list(_evidence(end))), *excerpt(end.log)),
    )


@dataclass(frozen=True, kw_only=True)
class _End:
    """All data about an attempt that has ended."""

    job: Document
    pod: Document | None
    events: Sequence[Document]
    log: Sequence[str]

    @property
    def reason(self) -> str:
        """The pod's reason."""
        return str((self.pod or {}).get("status", {}).get("reason") or "")

    @property
    def message(self) -> str:
        """The pod's message, in one line."""
        return one_line((self.pod or {}).get("status", {}).get("message"))

    @property
    def container(self) -> Document:
        """How the container ended; empty if unknown. The kubelet reports that as ``ContainerStatusUnknown``."""
        ended = container_state(self.pod, "terminated")
        return {} if ended.get("reason") == "ContainerStatusUnknown" else ended

    @property
    def disrupted(self) -> Document:
        return condition(self.pod, "DisruptionTarget") if is_true(self.pod, "DisruptionTarget") else {}


def _by_termination_message(end: _End) -> _Finding | None:
    message = from_termination_message(_kept(end.pod).encode())
    if message is None:
        return None
    failure = by_code(message.code)
    # If the kernel kills ffmpeg for lack of memory, the job reports bad media. The kernel's reason is the true one.
    if end.container.get("reason") == "OOMKilled" and failure in (FailureClass.BAD_INPUT, FailureClass.UNKNOWN):
        return _OOM_KILLED
    return failure, message.summary, message.advice


def _by_pod_reason(end: _End) -> _Finding | None:
    match end.reason:
        case "DeadlineExceeded":
            return _deadline(end)
        case "Evicted" if end.disrupted:
            failure, summary, advice = _DISRUPTIONS["TerminationByKubelet"]
            return failure, f"{summary}: {end.message}", advice
        case "Evicted":
            return (
                FailureClass.EPHEMERAL_STORAGE,
                f"it wrote more to its disk than its limit: {end.message}",
                "give jobs more disk space (--job-scratch)",
            )
        case "UnexpectedAdmissionError":
            return (
                FailureClass.GPU_UNHEALTHY,
                f"its node could not give it a device: {end.message}",
                "see the device plugin's log on that node; another node is tried",
            )
        case reason if reason.startswith(("OutOf", "NodeAffinity")):
            return FailureClass.DISRUPTED_EVICTED, f"its node refused it: {end.message or reason}", "costs no attempt"
        case reason:
            return _POD_REASONS.get(reason)


def _deadline(end: _End) -> _Finding:
    limit_s = (end.pod or {}).get("spec", {}).get("activeDeadlineSeconds")
    if started_at(end.pod) is None:
        return (
            FailureClass.DEADLINE,
            f"had not started after {limit_s} s: stopped",
            "pulling the image counts: see its events, pull it on every node beforehand, or give jobs more time",
        )
    return (
        FailureClass.DEADLINE,
        f"still running after {limit_s} s: stopped",
        "use a smaller model, shorter chunks (--chunk-duration), or a faster GPU",
    )


def _by_container(end: _End) -> _Finding | None:
    match end.container.get("reason"):
        case "OOMKilled":
            return _OOM_KILLED
        case "StartError" | "ContainerCannotRun":
            return (
                FailureClass.CONFIG,
                f"its container could not start: {one_line(end.container.get('message'))}",
                "use an image of this project (--chunk-image, --intake-image)",
            )
        case _:
            return None


def _by_disruption(end: _End) -> _Finding | None:
    if not end.disrupted:
        return None
    return _DISRUPTIONS.get(end.disrupted.get("reason", ""), _DELETED)


def _by_deletion(end: _End) -> _Finding | None:
    """A pod that failed by itself stays with its Job. A pod that is missing or did not end was removed from outside."""
    if end.pod is not None and (end.container or is_over(end.pod)):
        deleted = end.pod["metadata"].get("deletionTimestamp")
        return _DELETED if deleted and end.container.get("exitCode") in _STOPPED else None
    for event in end.events:
        if event.get("reason") in _EVENTS:
            return _EVENTS[event["reason"]]
    if condition(end.job, "FailureTarget").get("reason") == "DeadlineExceeded":
        return (
            FailureClass.DEADLINE,
            "the Job's own deadline passed",
            "activeDeadlineSeconds was set on the Job, not by stenofleet: it also counts the time in the queue",
        )
    return _DELETED if end.job else (FailureClass.DISRUPTED_DELETED, "another client deleted its Job", _DELETED[2])


def _by_exit_code(end: _End) -> _Finding:
    code = end.container.get("exitCode")
    if code is None:
        return FailureClass.UNKNOWN, "it ended without any report", "see `kubectl describe` of its pod and node"
    if code == 0:
        return (
            FailureClass.NO_RESULT,
            "the process ended with exit code 0 but wrote no result",
            "see its log; check that --job-s3-endpoint is the same store as the one that this command uses",
        )
    if code in _CRASHES:
        fatal = next((line.strip() for line in end.log if line.startswith("Fatal Python error")), f"exit code {code}")
        return (
            FailureClass.NATIVE_CRASH,
            f"native code crashed ({fatal})",
            "the log's last lines hold the Python stack; if it repeats, try another --compute-type",
        )
    if code == _KILLED:
        return (
            FailureClass.DISRUPTED_DELETED,
            "killed from outside (exit code 137), by an unknown cause",
            "costs no attempt; if it repeats, look for SystemOOM in `kubectl describe node`",
        )
    if code in _NOT_STARTED:
        return (
            FailureClass.CONFIG,
            f"its image does not contain the program (exit code {code})",
            "use an image of this project (--chunk-image, --intake-image)",
        )
    return by_code(code), f"the process ended with exit code {code}", ""


_JUDGES = (_by_termination_message, _by_pod_reason, _by_container, _by_disruption, _by_deletion, _by_exit_code)


def _evidence(end: _End) -> Iterator[str]:
    if end.pod is not None:
        status = end.pod.get("status", {})
        yield _line("pod", status.get("phase"), end.reason, f"on {node(end.pod)}" if node(end.pod) else "", end.message)
    ended = container_state(end.pod, "terminated")
    if ended:
        yield _line("container", f"exit code {ended.get('exitCode')}", ended.get("reason"))
    for kind, holder in (("DisruptionTarget", end.pod), *((kind, end.job) for kind in ENDED)):
        if is_true(holder, kind):
            found = condition(holder, kind)
            yield _line("condition", kind, found.get("reason"), found.get("message"))
    for event in end.events:
        if event.get("type") == "Warning" or event.get("reason") in _EVENTS:
            yield _line("event", event.get("reason"), event.get("message"))


def _line(what: str, *parts: Any) -> str:
    return f"{what}: " + ", ".join(one_line(part) for part in parts if part)


def _kept(pod: Document | None) -> str:
    """The message of the container's end: the job's termination message, or the end of the log if it wrote none."""
    return str(container_state(pod, "terminated").get("message") or "")
