"""Diagnoses a failed process: from exit status, termination message and log to a class, evidence, and what to do.

Touches: nothing. The class names are public: scripts and people rely on them. Jobs of a cluster are diagnosed with the
same classes in ``runners/kubernetes`` (``exit_diagnosis``, ``startup_diagnosis``).
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chunk_job.contract import JobFailure
from chunk_job.errors import DocumentInvalid, ExitCode


class FailureClass(StrEnum):
    """The kind of a failure, as far as it is known."""

    BAD_INPUT = "BAD_INPUT"
    CONFIG = "CONFIG"
    ACCESS = "ACCESS"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    STORE_FULL = "STORE_FULL"
    CUDA_OOM = "CUDA_OOM"
    GPU_UNHEALTHY = "GPU_UNHEALTHY"
    MODEL = "MODEL"
    MODEL_DAMAGED = "MODEL_DAMAGED"
    NATIVE_CRASH = "NATIVE_CRASH"
    OOM_KILLED = "OOM_KILLED"
    EPHEMERAL_STORAGE = "EPHEMERAL_STORAGE"
    DEADLINE = "DEADLINE"
    DISRUPTED_PREEMPTED = "DISRUPTED.preempted"
    DISRUPTED_EVICTED = "DISRUPTED.evicted"
    DISRUPTED_DRAINED = "DISRUPTED.drained"
    DISRUPTED_NODE_LOST = "DISRUPTED.node_lost"
    DISRUPTED_DELETED = "DISRUPTED.deleted"
    IMAGE_PULL = "IMAGE_PULL"
    CREATE_DENIED_QUOTA = "CREATE_DENIED.quota"
    CREATE_DENIED_ADMISSION = "CREATE_DENIED.admission"
    CREATE_DENIED_RBAC = "CREATE_DENIED.rbac"
    UNSCHEDULABLE_RESOURCES = "UNSCHEDULABLE.resources"
    UNSCHEDULABLE_AFFINITY = "UNSCHEDULABLE.affinity"
    UNSCHEDULABLE_TAINT = "UNSCHEDULABLE.taint"
    UNSCHEDULABLE_VOLUME = "UNSCHEDULABLE.volume"
    NO_RESULT = "NO_RESULT"
    RESULT_INVALID = "RESULT_INVALID"
    CHUNK_DAMAGED = "CHUNK_DAMAGED"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A failure with its class: one line on what happened, one line on what to do, and the evidence."""

    failure: FailureClass
    summary: str
    advice: str = ""
    details: tuple[str, ...] = ()
    node: str = ""
    """The cluster node on which it happened; empty elsewhere."""


_BY_EXIT_CODE: dict[int, FailureClass] = {
    ExitCode.USAGE: FailureClass.CONFIG,
    ExitCode.BAD_INPUT: FailureClass.BAD_INPUT,
    # A retry does not bring it back; the next command finds it missing and cuts again.
    ExitCode.INPUT_MISSING: FailureClass.BAD_INPUT,
    ExitCode.STORE_UNAVAILABLE: FailureClass.STORE_UNAVAILABLE,
    ExitCode.STORE_FULL: FailureClass.STORE_FULL,
    ExitCode.BUG: FailureClass.UNKNOWN,
    ExitCode.TEMPORARY: FailureClass.DEADLINE,
    ExitCode.ACCESS_DENIED: FailureClass.ACCESS,
    ExitCode.CONFIG: FailureClass.CONFIG,
    ExitCode.CUDA_OOM: FailureClass.CUDA_OOM,
    ExitCode.GPU_UNHEALTHY: FailureClass.GPU_UNHEALTHY,
    ExitCode.MODEL: FailureClass.MODEL,
    ExitCode.MODEL_DAMAGED: FailureClass.MODEL_DAMAGED,
    ExitCode.DECODE: FailureClass.UNKNOWN,
    ExitCode.CHUNK_DAMAGED: FailureClass.CHUNK_DAMAGED,
    ExitCode.TERMINATED: FailureClass.DISRUPTED_DELETED,
}

_CRASH_SIGNALS = frozenset({signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV})

_DETAIL_LINES = 30
_LINE_LENGTH = 500


def from_process(status: int, *, termination_message: bytes, log: Sequence[str], oom_kills: int | None) -> Diagnosis:
    """Diagnose a local process that ended without a result.

    *status* is its return code (negative: the signal that killed it), *termination_message* what it wrote at its end,
    *log* its last lines, *oom_kills* how often the kernel killed a process for lack of memory while it ran (None: not
    known on this system).
    """
    details = excerpt(log)
    reported = from_termination_message(termination_message)
    if reported is not None:
        return Diagnosis(
            failure=by_code(reported.code), summary=reported.summary, advice=reported.advice, details=details
        )
    if status < 0:
        return _killed(-status, oom_kills, details)
    if status == 0:
        return Diagnosis(
            failure=FailureClass.NO_RESULT,
            summary="the process ended with exit code 0 but wrote no result",
            details=details,
        )
    return Diagnosis(failure=by_code(status), summary=f"the process ended with exit code {status}", details=details)


def deadline(limit_s: int) -> Diagnosis:
    """Diagnose a job that ran longer than its chunk can need."""
    return Diagnosis(
        failure=FailureClass.DEADLINE,
        summary=f"still running after {limit_s} s: stopped",
        advice="use a smaller model, shorter chunks, or more threads",
    )


def invalid_result(reason: str) -> Diagnosis:
    """Diagnose a result object that is not valid."""
    return Diagnosis(
        failure=FailureClass.RESULT_INVALID,
        summary=f"its result is not valid: {reason}",
        advice="check who else writes to the store",
    )


def node_lost(node: str) -> Diagnosis:
    """Diagnose an attempt on a lost node, after another attempt has transcribed its chunk."""
    return Diagnosis(
        failure=FailureClass.DISRUPTED_NODE_LOST,
        summary="its node stopped responding; another attempt has transcribed the chunk",
        advice="costs no attempt; see `kubectl describe node`",
        node=node,
    )


def is_disruption(failure: str) -> bool:
    """Whether *failure* is the class of a disruption: the attempt was ended from outside."""
    return failure.startswith("DISRUPTED.")


def by_code(code: int) -> FailureClass:
    """Return the class for the exit code of a job; its termination message contains the same code."""
    return _BY_EXIT_CODE.get(code, FailureClass.UNKNOWN)


def from_termination_message(termination_message: bytes) -> JobFailure | None:
    """Decode the failure that a job has written; None if *termination_message* is not such a document."""
    if not termination_message:
        return None
    try:
        return JobFailure.decode(termination_message)
    except DocumentInvalid:
        return None


def excerpt(log: Sequence[str]) -> tuple[str, ...]:
    """Return the end of a log, cut to the size that evidence can hold."""
    return tuple(line[:_LINE_LENGTH] for line in log[-_DETAIL_LINES:])


def _killed(number: int, oom_kills: int | None, details: tuple[str, ...]) -> Diagnosis:
    name = signal.Signals(number).name if number in {member.value for member in signal.Signals} else str(number)
    if number in _CRASH_SIGNALS:
        return Diagnosis(
            failure=FailureClass.NATIVE_CRASH,
            summary=f"native code crashed ({name})",
            advice="the log's last lines hold the Python stack; if it repeats, try another --compute-type",
            details=details,
        )
    if number == signal.SIGKILL and oom_kills:
        return Diagnosis(
            failure=FailureClass.OOM_KILLED,
            summary="the kernel killed it: the machine ran out of memory",
            advice="use fewer jobs at once (--max-parallel), shorter chunks, or a smaller model",
            details=details,
        )
    return Diagnosis(
        failure=FailureClass.DISRUPTED_DELETED, summary=f"stopped by a signal from outside ({name})", details=details
    )
