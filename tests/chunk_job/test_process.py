"""The manners of a job's process: its lifeline, its last words, its leaving."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from chunk_job import process
from chunk_job.contract import ExitCode, JobError, JobFailure

OUT_OF_MEMORY = "out of memory"


def failing(error: BaseException) -> None:
    raise error


# ---------------------------------------------------------------- last words


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
def test_a_failure_leaves_its_exit_code_and_last_words(
    tmp_path: Path, error: Exception, code: ExitCode, summary: str, advice: str
) -> None:
    words = tmp_path / "last-words"
    assert process.work(lambda: failing(error), words) == code
    assert JobFailure.decode(words.read_bytes()) == JobFailure(code=code, summary=summary, advice=advice)


@pytest.mark.parametrize("text", ["a", "議", '"', "\0", "😀"], ids=["ascii", "cjk", "quotes", "control", "emoji"])
def test_long_last_words_stay_a_document_that_kubernetes_keeps_whole(tmp_path: Path, text: str) -> None:
    def fail() -> None:
        raise JobError(ExitCode.BAD_INPUT, text * 5000, text * 5000)

    process.work(fail, tmp_path / "words")
    said = (tmp_path / "words").read_bytes()
    assert len(said) <= 4096
    told = JobFailure.decode(said)
    assert text * 20 in told.summary
    assert text * 20 in told.advice


def test_work_that_ends_well_has_no_last_words(tmp_path: Path) -> None:
    assert process.work(lambda: None, tmp_path / "last-words") == ExitCode.DONE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("words", [None, Path("/nowhere/last-words")])
def test_a_failure_without_a_place_for_last_words_is_still_told(
    words: Path | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert process.work(lambda: failing(JobError(ExitCode.ACCESS_DENIED, "no", "ask")), words) == ExitCode.ACCESS_DENIED
    assert "no: ask" in caplog.messages
    assert any("no termination message" in line for line in caplog.messages) == (words is not None)


# ---------------------------------------------------------------- real processes


def python(code: str, **how: object) -> subprocess.Popen[bytes]:
    """A process that runs *code*, without what hides a missing flush."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(  # type: ignore[call-overload,no-any-return]
        [sys.executable, "-c", code],
        **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment, **how},
    )


@pytest.mark.process
def test_leaving_flushes_and_runs_no_teardown() -> None:
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
        assert b"the parent process is gone: leaving" in err


@pytest.mark.process
def test_only_our_own_loggers_are_heard() -> None:
    code = (
        "import logging; from chunk_job import process; process.start_logging(); "
        "logging.getLogger('stenofleet.x').info('ours'); logging.getLogger('faster_whisper').info('theirs'); "
        "logging.getLogger('faster_whisper').warning('their warning')"
    )
    with python(code) as child:
        assert child.communicate(timeout=20) == (b"", b"ours\ntheir warning\n")


@pytest.mark.process
@pytest.mark.parametrize("module", ["chunk_job", "controller.intake"])
@pytest.mark.parametrize("arguments", [["--nonsense"], ["--lifeline", "x"], []])
def test_a_wrong_command_is_told_by_the_usage_exit_code(module: str, arguments: list[str]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", module, *arguments], capture_output=True, check=False, timeout=20, text=True
    )
    assert ended.returncode == ExitCode.USAGE
    assert ended.stdout == ""
    assert ended.stderr.strip()
