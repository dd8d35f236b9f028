"""Crash points: a process stops only at the requested point, by a real signal."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chunk_job import crashpoint
from tests import pipeline

REACH = "import sys; from chunk_job.crashpoint import reach; reach(sys.argv[1]); print('went on')"


@pytest.mark.parametrize("value", ["", "other=kill", "here.a11=kill", "=kill", "other"])
def test_a_crash_point_that_was_not_requested_is_passed(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(crashpoint.VARIABLE, value)
    crashpoint.reach("here.a1")


def test_a_crash_point_is_passed_when_the_variable_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(crashpoint.VARIABLE, raising=False)
    crashpoint.reach("here")


@pytest.mark.parametrize("value", ["here", "here=", "here=stop"])
def test_an_unknown_action_is_an_error(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(crashpoint.VARIABLE, value)
    with pytest.raises(ValueError, match="use kill, abort, exit or hold:FILE"):
        crashpoint.reach("here")


@pytest.mark.process
@pytest.mark.parametrize("action,died_of", [("kill", signal.SIGKILL), ("abort", signal.SIGABRT), ("exit", 0)])
def test_the_process_is_ended_by_the_real_signal(action: str, died_of: signal.Signals) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", REACH, "here"],
        env={crashpoint.VARIABLE: f"here={action}"},
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (-died_of, b"")


@pytest.mark.process
def test_a_held_process_creates_its_file_and_waits(tmp_path: Path) -> None:
    here = tmp_path / "here=there"
    command = [sys.executable, "-c", REACH, "here"]
    with subprocess.Popen(command, env={crashpoint.VARIABLE: f"here=hold:{here}"}, stdout=subprocess.PIPE) as child:
        pipeline.until(here.exists, "the point is reached")
        assert child.poll() is None
        child.kill()
        assert child.communicate(timeout=60)[0] == b""


@pytest.mark.process
def test_a_held_process_continues_when_its_file_is_removed(tmp_path: Path) -> None:
    here = tmp_path / "here"
    command = [sys.executable, "-c", REACH, "here"]
    with subprocess.Popen(command, env={crashpoint.VARIABLE: f"here=hold:{here}"}, stdout=subprocess.PIPE) as child:
        pipeline.until(here.exists, "the point is reached")
        here.unlink()
        assert child.communicate(timeout=60)[0] == b"went on\n"
