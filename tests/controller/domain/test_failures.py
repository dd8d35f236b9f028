"""The cause of a failure: exit codes, signals, termination messages, and which evidence takes precedence."""

import signal

import pytest

from chunk_job.contract import JobFailure
from chunk_job.errors import ExitCode
from controller.domain import failures
from controller.domain.failures import FailureClass
from tests import handbook

SEGV = -signal.SIGSEGV
KILL = -signal.SIGKILL
MESSAGE = JobFailure(code=ExitCode.CUDA_OOM, summary="CUDA out of memory", advice="use int8").encode()


def found(
    status: int, *, termination_message: bytes = b"", log: tuple[str, ...] = (), oom_kills: int | None = 0
) -> failures.Diagnosis:
    return failures.from_process(status, termination_message=termination_message, log=log, oom_kills=oom_kills)


CODES = handbook.exit_codes()


def test_every_exit_code_of_a_failure_has_a_documented_class() -> None:
    assert CODES.keys() == set(ExitCode) - {ExitCode.DONE}


@pytest.mark.parametrize("code,failure", CODES.items(), ids=[code.name for code in CODES])
def test_an_exit_code_has_its_documented_class(code: ExitCode, failure: FailureClass) -> None:
    assert found(code).failure is failure
    assert found(code).summary == f"the process ended with exit code {code}"


@pytest.mark.parametrize("code,failure", CODES.items(), ids=[code.name for code in CODES])
def test_a_termination_message_takes_precedence_over_the_exit_code(code: ExitCode, failure: FailureClass) -> None:
    diagnosis = found(
        code, termination_message=JobFailure(code=code, summary="this happened", advice="do that").encode()
    )
    assert (diagnosis.failure, diagnosis.summary, diagnosis.advice) == (failure, "this happened", "do that")


@pytest.mark.parametrize("status", [1, 2, 127, 134, 255])
def test_an_undocumented_exit_code_is_unknown(status: int) -> None:
    assert found(status).failure is FailureClass.UNKNOWN
    assert str(status) in found(status).summary


def test_exit_code_0_without_a_result_is_no_result() -> None:
    assert found(0).failure is FailureClass.NO_RESULT


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGBUS", "SIGFPE", "SIGILL"])
def test_a_signal_of_native_code_is_a_crash(name: str) -> None:
    diagnosis = found(-signal.Signals[name])
    assert (diagnosis.failure, diagnosis.summary) == (FailureClass.NATIVE_CRASH, f"native code crashed ({name})")
    assert found(-signal.Signals[name], oom_kills=3).failure is FailureClass.NATIVE_CRASH


@pytest.mark.parametrize(
    "oom_kills,failure",
    [(1, FailureClass.OOM_KILLED), (0, FailureClass.DISRUPTED_DELETED), (None, FailureClass.DISRUPTED_DELETED)],
)
def test_sigkill_means_out_of_memory_only_when_the_kernel_counted_an_oom_kill(
    oom_kills: int | None, failure: FailureClass
) -> None:
    assert found(KILL, oom_kills=oom_kills).failure is failure


@pytest.mark.parametrize("number,name", [(15, "SIGTERM"), (2, "SIGINT"), (1, "SIGHUP"), (99, "99")])
def test_any_other_signal_is_a_disruption(number: int, name: str) -> None:
    diagnosis = found(-number, oom_kills=2)
    assert (diagnosis.failure, diagnosis.summary) == (
        FailureClass.DISRUPTED_DELETED,
        f"stopped by a signal from outside ({name})",
    )


@pytest.mark.parametrize("status", [SEGV, KILL, 0, ExitCode.BUG])
def test_a_termination_message_takes_precedence_over_any_status(status: int) -> None:
    assert found(status, termination_message=MESSAGE, oom_kills=1).failure is FailureClass.CUDA_OOM


@pytest.mark.parametrize(
    "termination_message",
    [b"", b"{", b"killed by cat", MESSAGE[:-5], MESSAGE + MESSAGE, b"\xff" * 100, b"[" * (64 << 10)],
    ids=["none", "half", "text", "cut short", "twice", "bytes", "oversized"],
)
def test_an_invalid_termination_message_is_ignored(termination_message: bytes) -> None:
    assert found(SEGV, termination_message=termination_message).failure is FailureClass.NATIVE_CRASH


def test_an_undocumented_code_in_a_message_is_unknown_and_keeps_its_summary() -> None:
    diagnosis = found(1, termination_message=JobFailure(code=199, summary="odd", advice="").encode())
    assert (diagnosis.failure, diagnosis.summary) == (FailureClass.UNKNOWN, "odd")


@pytest.mark.parametrize("status,termination_message", [(SEGV, b""), (KILL, b""), (0, b""), (70, b""), (70, MESSAGE)])
def test_the_last_thirty_lines_of_the_log_are_evidence_each_of_bounded_length(
    status: int, termination_message: bytes
) -> None:
    log = (*(f"line {number}" for number in range(100)), "x" * 10_000)
    details = found(status, termination_message=termination_message, log=log).details
    assert details == (*(f"line {number}" for number in range(71, 100)), "x" * 500)


def test_a_deadline_names_its_limit() -> None:
    diagnosis = failures.deadline(1200)
    assert diagnosis.failure is FailureClass.DEADLINE
    assert "1200 s" in diagnosis.summary
    assert diagnosis.advice


def test_an_invalid_result_names_the_reason() -> None:
    diagnosis = failures.invalid_result("times leave the chunk")
    assert diagnosis.failure is FailureClass.RESULT_INVALID
    assert "times leave the chunk" in diagnosis.summary


def test_every_class_is_documented() -> None:
    assert handbook.budgets().keys() == set(FailureClass)


def test_a_class_has_the_name_of_its_value() -> None:
    assert all(failure.name == failure.value.upper().replace(".", "_") for failure in FailureClass)
