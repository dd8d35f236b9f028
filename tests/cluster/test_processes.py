"""Processes of the testbed end with their session, or when the next session starts."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.testbed import processes
from tests.testbed.pods import until
from tests.testbed.processes import Part

SESSION = """
import sys, time
from pathlib import Path
from tests.testbed import processes
processes.GROUP = sys.argv[1]
part = processes.Part(name="part", command=["sleep", "600"], log=Path(sys.argv[2]))
part.start()
print(part._process.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def group(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A control group next to that of a cluster, which may be running."""
    name = f"{processes.GROUP}-{os.getpid()}"
    monkeypatch.setattr(processes, "GROUP", name)
    yield name
    processes.end_all()


def program(process: int) -> str:
    """The name of the program that it runs; empty when it has ended, also when its parent has not waited for it."""
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{process}/exe").readlink().name
    return ""


def test_a_child_that_left_its_parent_is_ended_too(tmp_path: Path) -> None:
    note = tmp_path / "child"
    script = f"setsid sh -c 'echo $$ >{note}.new; mv {note}.new {note}; exec sleep 600' & exec sleep 600"
    part = Part(name="parent", command=["sh", "-c", script], log=tmp_path / "log")
    part.start()
    until(note.is_file)
    child = int(note.read_text())
    until(lambda: program(child) == "sleep")
    part.kill()
    assert not part.alive
    assert program(child) == "sleep"
    processes.end_all()
    assert not program(child)
    assert not [root for root in processes.hierarchies() if (root / processes.GROUP).exists()]


def test_a_part_ends_with_a_killed_session(tmp_path: Path, group: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SESSION, group, tmp_path / "log"], stdout=subprocess.PIPE, text=True
    ) as session:
        assert session.stdout
        part = int(session.stdout.readline())
        until(lambda: program(part) == "sleep")
        session.send_signal(signal.SIGKILL)
        session.wait()
        until(lambda: not program(part))


def test_a_killed_part_starts_again(tmp_path: Path) -> None:
    part = Part(name="part", command=["sh", "-c", "echo here; exec sleep 600"], log=tmp_path / "log")
    for lives in (1, 2):
        part.start()
        until(lambda: part.termination_message() == "here\n" * lives)  # noqa: B023 (called at once)
        part.kill()
        assert not part.alive


def test_a_part_reports_why_it_ended(tmp_path: Path) -> None:
    part = Part(name="part", command=["sh", "-c", "echo no such setting >&2; exit 1"], log=tmp_path / "log")
    part.start()
    until(lambda: not part.alive)
    assert part.termination_message() == "no such setting\n"
    part.kill()
