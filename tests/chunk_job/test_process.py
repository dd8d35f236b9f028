"""The lifecycle of a job's process: lifeline, termination message and exit."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chunk_job import process
from chunk_job.contract import JobFailure
from chunk_job.errors import ExitCode, JobError
from chunk_job.text import printable

OUT_OF_MEMORY = "out of memory"


def failing(error: BaseException) -> None:
    raise error


# ---------------------------------------------------------------- termination message


@pytest.mark.parametrize(
    "error,code,summary,advice",
    [
        (JobError(ExitCode.MODEL, "no model", "get one"), ExitCode.MODEL, "no model", "get one"),
        (JobError(ExitCode.CUDA_OOM, "x" * 5000, "y" * 5000), ExitCode.CUDA_OOM, "x" * 1900, "y" * 1900),
        (MemoryError(), ExitCode.BUG, OUT_OF_MEMORY, "give the job more memory or make the chunks shorter"),
        (KeyError("k"), ExitCode.BUG, "KeyError: 'k'", "this is a bug: report it with the log"),
    ],
    ids=["named", "long", "memory", "bug"],
)
def test_a_failure_leaves_its_exit_code_and_a_termination_message(
    tmp_path: Path, error: Exception, code: ExitCode, summary: str, advice: str
) -> None:
    path = tmp_path / "termination-message"
    assert process.work(lambda: failing(error), path) == code
    assert JobFailure.decode(path.read_bytes()) == JobFailure(code=code, summary=summary, advice=advice)


@pytest.mark.parametrize("text", ["a", "議", '"', "\0", "😀"], ids=["ascii", "cjk", "quotes", "control", "emoji"])
def test_a_long_termination_message_is_shortened_to_what_kubernetes_keeps(tmp_path: Path, text: str) -> None:
    def fail() -> None:
        raise JobError(ExitCode.BAD_INPUT, text * 5000, text * 5000)

    process.work(fail, tmp_path / "words")
    message = (tmp_path / "words").read_bytes()
    assert len(message) <= 4096
    failure = JobFailure.decode(message)
    # `kubectl describe` shows it too.
    assert printable(text) * 20 in failure.summary
    assert printable(text) * 20 in failure.advice
    assert (failure.summary + failure.advice).isprintable()


def test_the_termination_message_has_no_control_characters_and_no_secrets(tmp_path: Path) -> None:
    def fail() -> None:
        raise JobError(
            ExitCode.BAD_INPUT, "a\x1b]0;x\x9b.mp4 \u202e http://user:hush@host", "one\ntwo?X-Amz-Signature=hush"
        )

    process.work(fail, tmp_path / "words")
    message = (tmp_path / "words").read_text(encoding="utf-8")
    assert message.removesuffix("\n").isprintable()
    assert "hush" not in message
    failure = JobFailure.decode(message.encode())
    assert failure.summary == "a\\x1b]0;x\\x9b.mp4 \\u202e http://***@host"
    assert failure.advice == "one\ntwo?X-Amz-Signature=***"


def test_successful_work_leaves_no_termination_message(tmp_path: Path) -> None:
    assert process.work(lambda: None, tmp_path / "termination-message") == ExitCode.DONE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("path", [None, Path("/nowhere/termination-message")])
def test_a_failure_is_logged_when_no_termination_message_can_be_written(
    path: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert process.work(lambda: failing(JobError(ExitCode.ACCESS_DENIED, "no", "ask")), path) == ExitCode.ACCESS_DENIED
    assert "no: ask" in caplog.messages
    assert any("no termination message" in line for line in caplog.messages) == (path is not None)


# ---------------------------------------------------------------- the log


def logged(message: str, *arguments: object, error: Exception | None = None) -> str:
    """The line that a job's log handler writes for one record."""
    trace = (type(error), error, None) if error else None
    record = logging.LogRecord("stenofleet.x", logging.ERROR, "x.py", 1, message, arguments, trace)
    return process._OneLine("%(message)s").format(record)


def test_a_log_record_is_one_line_without_control_characters() -> None:
    line = logged("%s: %s", "a\x1b[2J\nprogress 9000 of 9000 ms", "\x9b\u202e\x00\udcff")
    assert line == "a\\x1b[2J\\nprogress 9000 of 9000 ms: \\x9b\\u202e\\x00\\udcff"


def test_a_log_record_contains_no_secret() -> None:
    assert logged("no %s", "s3://user:hush@bucket/key") == "no s3://***@bucket/key"


def test_a_traceback_keeps_its_lines() -> None:
    first, *lines = logged("x\ny", error=ValueError("\x1b[2J\nat http://user:hush@host")).split("\n")
    assert first == "x\\ny"
    assert lines == ["ValueError: \\x1b[2J", "at http://***@host"]


def test_the_line_of_data_on_stdout_is_printable(capsys: pytest.CaptureFixture[str]) -> None:
    process.print_data("/models/a\x1bb\nc")
    assert capsys.readouterr().out == "/models/a\\x1bb\\nc\n"


# ---------------------------------------------------------------- real processes


def python(code: str, **how: object) -> subprocess.Popen[bytes]:
    """A process that runs *code*, with output buffering, which shows a missing flush."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", code],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, **how},
    )


@pytest.mark.process
def test_leaving_flushes_output_and_runs_no_teardown() -> None:
    code = (
        "import atexit; from chunk_job.process import leave; "
        "atexit.register(lambda: print('teardown')); print('last line', end=''); leave(69)"
    )
    with python(code) as child:
        out, _ = child.communicate(timeout=20)
        assert (child.returncode, out) == (69, b"last line")


@pytest.mark.process
def test_a_last_line_that_cannot_be_written_is_a_failure() -> None:
    with (
        Path("/dev/full").open("wb") as full,
        python("from chunk_job.process import leave; print('x'); leave(0)", stdout=full) as child,
    ):
        assert child.wait(timeout=20) == ExitCode.BUG


@pytest.mark.process
def test_a_process_leaves_when_its_lifeline_ends() -> None:
    reading, writing = os.pipe()
    code = (
        "import sys, time; from chunk_job import process; process.start_logging(); "
        f"process.hold_lifeline({reading}); print('up', flush=True); time.sleep(60)"
    )
    with python(code, pass_fds=(reading,)) as child:
        os.close(reading)
        assert child.stdout is not None
        assert child.stdout.readline() == b"up\n"
        assert child.poll() is None
        os.close(writing)
        _, err = child.communicate(timeout=20)
        assert child.returncode == ExitCode.TEMPORARY
        assert b"the parent process has ended: exiting" in err


@pytest.mark.process
def test_only_our_own_loggers_are_printed() -> None:
    code = (
        "import logging; from chunk_job import process; process.start_logging(); "
        "logging.getLogger('stenofleet.x').info('ours'); logging.getLogger('faster_whisper').info('theirs'); "
        "logging.getLogger('faster_whisper').warning('their warning')"
    )
    with python(code) as child:
        assert child.communicate(timeout=20) == (b"", b"ours\ntheir warning\n")


@pytest.mark.process
def test_an_exception_that_ends_a_thread_is_logged_with_its_trace() -> None:
    code = (
        "import threading; from chunk_job import process; process.start_logging()\n"
        "def fail(): raise ValueError('\\x1b[2J')\n"
        "thread = threading.Thread(target=fail); thread.start(); thread.join()"
    )
    with python(code) as child:
        _, err = child.communicate(timeout=20)
    failure = err.decode().splitlines()
    assert failure[0] == "an unexpected error ended a thread"
    assert failure[-1] == "ValueError: \\x1b[2J"


@pytest.mark.process
def test_the_trace_of_a_bug_is_logged_without_control_characters() -> None:
    code = (
        "from chunk_job import process; process.start_logging()\n"
        "def fail(): raise ValueError('\\x1b[2J\\x9b http://user:hush@host')\n"
        "process.leave(process.work(fail, None))"
    )
    with python(code) as child:
        out, err = child.communicate(timeout=20)
    assert (child.returncode, out) == (ExitCode.BUG, b"")
    failure = err.decode().split("\n")
    assert "Traceback (most recent call last):" in failure
    assert "ValueError: \\x1b[2J\\x9b http://***@host" in failure
    assert failure[-2] == "ValueError: \\x1b[2J\\x9b http://***@host: this is a bug: report it with the log"
    assert all(line.isprintable() for line in failure)


@pytest.mark.process
@pytest.mark.parametrize("module", ["chunk_job", "controller.intake"])
def test_a_wrong_argument_is_reported_printable_and_masked(module: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, "--lifeline", "\x1b[2Jhttp://user:hush@host"],
        capture_output=True, check=False, timeout=20, text=True,
    )  # fmt: skip
    assert ended.returncode == ExitCode.USAGE
    assert "[2Jhttp://***@host" in ended.stderr
    assert "\x1b" not in ended.stderr


@pytest.mark.process
@pytest.mark.parametrize("module", ["chunk_job", "controller.intake"])
@pytest.mark.parametrize("arguments", [["--nonsense"], ["--lifeline", "x"], []])
def test_a_wrong_command_gives_the_usage_exit_code(module: str, arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, check=False, timeout=20, text=True
    )
    assert ended.returncode == ExitCode.USAGE
    assert ended.stdout == ""
    assert ended.stderr.strip()
