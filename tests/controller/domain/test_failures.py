"""Why did it fail? Every exit code and signal, what was said last, and which evidence goes first."""

import signal

import pytest

from chunk_job.contract import JobFailure
from chunk_job.errors import ExitCode
from controller.domain import failures
from controller.domain.failures import FailureClass

SEGV = -signal.SIGSEGV
KILL = -signal.SIGKILL
WORDS = JobFailure(code=ExitCode.CUDA_OOM, summary="CUDA out of memory", advice="use int8").encode()


def found(
    status: int, *, termination_message: bytes = b"", log: tuple[str, ...] = (), oom_kills: int | None = 0
) -> failures.Diagnosis:
    return failures.from_process(status, termination_message=termination_message, log=log, oom_kills=oom_kills)


CODES = {
    ExitCode.USAGE: FailureClass.CONFIG,
    ExitCode.BAD_INPUT: FailureClass.BAD_INPUT,
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


def test_every_exit_code_that_is_a_failure_has_a_class() -> None:
    assert CODES.keys() == set(ExitCode) - {ExitCode.DONE}


@pytest.mark.parametrize("code,failure", CODES.items(), ids=[code.name for code in CODES])
def test_an_exit_code_says_what_it_was(code: ExitCode, failure: FailureClass) -> None:
    assert found(code).failure is failure
    assert found(code).summary == f"the process ended with exit code {code}"


@pytest.mark.parametrize("code,failure", CODES.items(), ids=[code.name for code in CODES])
def test_last_words_say_it_better(code: ExitCode, failure: FailureClass) -> None:
    told = found(code, termination_message=JobFailure(code=code, summary="this happened", advice="do that").encode())
    assert (told.failure, told.summary, told.advice) == (failure, "this happened", "do that")


@pytest.mark.parametrize("status", [1, 2, 127, 134, 255])
def test_an_exit_code_of_nobody_is_unknown(status: int) -> None:
    assert found(status).failure is FailureClass.UNKNOWN
    assert str(status) in found(status).summary


def test_a_job_that_ended_well_and_left_nothing() -> None:
    assert found(0).failure is FailureClass.NO_RESULT


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_signal_of_native_code_is_a_crash(name: str) -> None:
    told = found(-signal.Signals[name])
    assert (told.failure, told.summary) == (FailureClass.NATIVE_CRASH, f"native code crashed ({name})")
    assert found(-signal.Signals[name], oom_kills=3).failure is FailureClass.NATIVE_CRASH


@pytest.mark.parametrize(
    "oom_kills,failure",
    [(1, FailureClass.OOM_KILLED), (0, FailureClass.DISRUPTED_DELETED), (None, FailureClass.DISRUPTED_DELETED)],
)
def test_sigkill_is_the_kernels_where_the_kernel_has_killed_for_memory(
    oom_kills: int | None, failure: FailureClass
) -> None:
    assert found(KILL, oom_kills=oom_kills).failure is failure


@pytest.mark.parametrize("number,name", [(15, "SIGTERM"), (2, "SIGINT"), (1, "SIGHUP"), (99, "99")])
def test_any_other_signal_came_from_somebody(number: int, name: str) -> None:
    told = found(-number, oom_kills=2)
    assert (told.failure, told.summary) == (
        FailureClass.DISRUPTED_DELETED,
        f"stopped by a signal from outside ({name})",
    )


@pytest.mark.parametrize("status", [SEGV, KILL, 0, ExitCode.BUG])
def test_what_a_job_said_itself_goes_before_how_it_went(status: int) -> None:
    assert found(status, termination_message=WORDS, oom_kills=1).failure is FailureClass.CUDA_OOM


@pytest.mark.parametrize(
    "termination_message",
    [b"", b"{", b"killed by cat", WORDS[:-5], WORDS + WORDS, b"\xff" * 100, b"[" * (64 << 10)],
    ids=["none", "half", "text", "cut short", "twice", "bytes", "oversized"],
)
def test_last_words_that_are_none_leave_it_to_the_status(termination_message: bytes) -> None:
    assert found(SEGV, termination_message=termination_message).failure is FailureClass.NATIVE_CRASH


def test_a_code_that_nobody_knows_is_unknown_and_keeps_its_words() -> None:
    told = found(1, termination_message=JobFailure(code=199, summary="odd", advice="").encode())
    assert (told.failure, told.summary) == (FailureClass.UNKNOWN, "odd")


@pytest.mark.parametrize("status,termination_message", [(SEGV, b""), (KILL, b""), (0, b""), (70, b""), (70, WORDS)])
def test_the_last_thirty_lines_of_the_log_are_evidence_each_of_bounded_length(
    status: int, termination_message: bytes
) -> None:
    log = (*(f"line {number}" for number in range(100)), "x" * 10_000)
    details = found(status, termination_message=termination_message, log=log).details
    assert details == (*(f"line {number}" for number in range(71, 100)), "x" * 500)


def test_a_deadline_says_for_how_long() -> None:
    told = failures.deadline(1200)
    assert told.failure is FailureClass.DEADLINE
    assert "1200 s" in told.summary
    assert told.advice


def test_an_invalid_result_says_why() -> None:
    told = failures.invalid_result("times leave the chunk")
    assert told.failure is FailureClass.RESULT_INVALID
    assert "times leave the chunk" in told.summary


def test_the_vocabulary_is_public_and_does_not_change() -> None:
    assert [str(failure) for failure in FailureClass] == [
        "BAD_INPUT",
        "CONFIG",
        "ACCESS",
        "STORE_UNAVAILABLE",
        "STORE_FULL",
        "CUDA_OOM",
        "GPU_UNHEALTHY",
        "MODEL",
        "NATIVE_CRASH",
        "OOM_KILLED",
        "EPHEMERAL_STORAGE",
        "DEADLINE",
        "DISRUPTED.preempted",
        "DISRUPTED.evicted",
        "DISRUPTED.drained",
        "DISRUPTED.node_lost",
        "DISRUPTED.deleted",
        "IMAGE_PULL",
        "CREATE_DENIED.quota",
        "CREATE_DENIED.admission",
        "CREATE_DENIED.rbac",
        "UNSCHEDULABLE.resources",
        "UNSCHEDULABLE.affinity",
        "UNSCHEDULABLE.taint",
        "UNSCHEDULABLE.volume",
        "NO_RESULT",
        "RESULT_INVALID",
        "CHUNK_DAMAGED",
        "UNKNOWN",
    ]
