"""Why did it fail? An exit status with termination message and a log → a class, evidence, and what to do.

Touches: nothing. The classes are a public vocabulary: scripts and people rely on their names. What a cluster says of
its jobs is read in ``ended`` and ``pending``, in the same words.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chunk_job.contract import JobFailure
from chunk_job.errors import DocumentInvalid, ExitCode


class FailureClass(StrEnum):
    """What kind of failure it was, as far as anything was left to tell."""

    BAD_INPUT = "BAD_INPUT"
    CONFIG = "CONFIG"
    ACCESS = "ACCESS"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    STORE_FULL = "STORE_FULL"
    CUDA_OOM = "CUDA_OOM"
    GPU_UNHEALTHY = "GPU_UNHEALTHY"
    MODEL = "MODEL"
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
    """A failure with a name: one line what happened, one line what to do, and what was seen."""

    failure: FailureClass
    summary: str
    advice: str = ""
    details: tuple[str, ...] = ()
    node: str = ""
    """Where it happened, on a cluster."""


_BY_EXIT_CODE: dict[int, FailureClass] = {
    ExitCode.USAGE: FailureClass.CONFIG,
    ExitCode.BAD_INPUT: FailureClass.BAD_INPUT,
    # Trying again does not bring it back; the next command finds it missing and cuts again.
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
    ExitCode.DECODE: FailureClass.UNKNOWN,
    ExitCode.CHUNK_DAMAGED: FailureClass.CHUNK_DAMAGED,
    ExitCode.TERMINATED: FailureClass.DISRUPTED_DELETED,
}

_CRASH_SIGNALS = frozenset({signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV})

_DETAIL_LINES = 30
_LINE_LENGTH = 500


def from_process(status: int, *, termination_message: bytes, log: Sequence[str], oom_kills: int | None) -> Diagnosis:
    """Why a local process ended without a result.

    *status* is a return code (negative: the signal that killed it), *termination_message* what it left,
    *log* its last lines, *oom_kills* how often the kernel killed for memory while it ran (None: this system
    cannot tell).
    """
    details = excerpt(log)
    told = from_termination_message(termination_message)
    if told is not None:
        return Diagnosis(failure=by_code(told.code), summary=told.summary, advice=told.advice, details=details)
    if status < 0:
        return _killed(-status, oom_kills, details)
    if status == 0:
        return Diagnosis(
            failure=FailureClass.NO_RESULT,
            summary="the process ended well but left no result",
            details=details,
        )
    return Diagnosis(failure=by_code(status), summary=f"the process ended with exit code {status}", details=details)


def deadline(limit_s: int) -> Diagnosis:
    """A job that ran longer than its chunk can need."""
    return Diagnosis(
        failure=FailureClass.DEADLINE,
        summary=f"still running after {limit_s} s: stopped",
        advice="use a smaller model, shorter chunks, or more threads",
    )


def invalid_result(reason: str) -> Diagnosis:
    """A result object that is none."""
    return Diagnosis(
        failure=FailureClass.RESULT_INVALID,
        summary=f"its result is not valid: {reason}",
        advice="check who else writes to the store",
    )


def node_lost(node: str) -> Diagnosis:
    """An attempt whose node fell silent, and whose chunk another attempt has answered meanwhile."""
    return Diagnosis(
        failure=FailureClass.DISRUPTED_NODE_LOST,
        summary="its node fell silent; another attempt has done its work",
        advice="costs no attempt; see `kubectl describe node`",
        node=node,
    )


def is_disruption(failure: str) -> bool:
    """Whether an attempt was taken away from outside."""
    return failure.startswith("DISRUPTED.")


def by_code(code: int) -> FailureClass:
    """What a job means by its exit code, which its termination message repeat."""
    return _BY_EXIT_CODE.get(code, FailureClass.UNKNOWN)


def from_termination_message(termination_message: bytes) -> JobFailure | None:
    """What a job said of its own end, or None where *termination_message* are no such document."""
    if not termination_message:
        return None
    try:
        return JobFailure.decode(termination_message)
    except DocumentInvalid:
        return None


def excerpt(log: Sequence[str]) -> tuple[str, ...]:
    """As much of a log's end as evidence holds."""
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
    return Diagnosis(failure=FailureClass.DISRUPTED_DELETED, summary=f"somebody stopped it ({name})", details=details)
