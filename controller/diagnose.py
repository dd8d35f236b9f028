"""Why did it fail? An exit status with last words and a log → a class, evidence, and what to do.

Touches: nothing. The classes are a public vocabulary: scripts and people rely on their names.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from chunk_job.contract import DocumentInvalid, ExitCode, JobFailure


class FailureClass(StrEnum):
    """What kind of failure it was, as far as anything was left to tell."""

    BAD_INPUT = "BAD_INPUT"
    CONFIG = "CONFIG"
    ACCESS = "ACCESS"
    STORE_UNAVAILABLE = "STORE_UNAVAILABLE"
    CUDA_OOM = "CUDA_OOM"
    GPU_UNHEALTHY = "GPU_UNHEALTHY"
    MODEL = "MODEL"
    NATIVE_CRASH = "NATIVE_CRASH"
    OOM_KILLED = "OOM_KILLED"
    DEADLINE = "DEADLINE"
    DISRUPTED_DELETED = "DISRUPTED.deleted"
    NO_RESULT = "NO_RESULT"
    RESULT_INVALID = "RESULT_INVALID"
    UNKNOWN = "UNKNOWN"


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A failure with a name: one line what happened, one line what to do, and what was seen."""

    failure: FailureClass
    summary: str
    advice: str = ""
    details: tuple[str, ...] = ()


_BY_EXIT_CODE: dict[int, FailureClass] = {
    ExitCode.USAGE: FailureClass.CONFIG,
    ExitCode.BAD_INPUT: FailureClass.BAD_INPUT,
    # Trying again does not bring it back; the next command finds it missing and cuts again.
    ExitCode.INPUT_MISSING: FailureClass.BAD_INPUT,
    ExitCode.STORE_UNAVAILABLE: FailureClass.STORE_UNAVAILABLE,
    ExitCode.BUG: FailureClass.UNKNOWN,
    ExitCode.TEMPORARY: FailureClass.DEADLINE,
    ExitCode.ACCESS_DENIED: FailureClass.ACCESS,
    ExitCode.CONFIG: FailureClass.CONFIG,
    ExitCode.CUDA_OOM: FailureClass.CUDA_OOM,
    ExitCode.GPU_UNHEALTHY: FailureClass.GPU_UNHEALTHY,
    ExitCode.MODEL: FailureClass.MODEL,
    ExitCode.DECODE: FailureClass.UNKNOWN,
    ExitCode.TERMINATED: FailureClass.DISRUPTED_DELETED,
}

_CRASH_SIGNALS = frozenset({signal.SIGILL, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGSEGV})

_DETAIL_LINES = 30
_LINE_LENGTH = 500


def from_process(status: int, *, last_words: bytes, log: Sequence[str], oom_kills: int | None) -> Diagnosis:
    """Why a local process ended without a result.

    *status* is a return code (negative: the signal that killed it), *last_words* the termination message (empty:
    none), *log* its last lines, *oom_kills* how often the kernel killed for memory while it ran (None: this system
    cannot tell).
    """
    details = tuple(line[:_LINE_LENGTH] for line in log[-_DETAIL_LINES:])
    told = _told(last_words)
    if told is not None:
        failure = _BY_EXIT_CODE.get(told.code, FailureClass.UNKNOWN)
        return Diagnosis(failure=failure, summary=told.summary, advice=told.advice, details=details)
    if status < 0:
        return _killed(-status, oom_kills, details)
    if status == 0:
        return Diagnosis(
            failure=FailureClass.NO_RESULT,
            summary="the process ended well but left no result",
            details=details,
        )
    failure = _BY_EXIT_CODE.get(status, FailureClass.UNKNOWN)
    return Diagnosis(failure=failure, summary=f"the process ended with exit code {status}", details=details)


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


def _told(last_words: bytes) -> JobFailure | None:
    if not last_words:
        return None
    try:
        return JobFailure.decode(last_words)
    except DocumentInvalid:
        return None
