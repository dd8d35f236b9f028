"""Signals to a running command: waits end, a step that hangs is abandoned, a second signal ends it at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.cli import execute
from controller.cli.execute import SystemClock
from controller.domain.interfaces import Stopped

LONG_S = 60.0


@pytest.fixture
def clock() -> Iterator[SystemClock]:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)
    before = [signal.getsignal(number) for number in numbers]
    yield SystemClock()
    signal.setitimer(signal.ITIMER_REAL, 0)
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def interrupted(number: int) -> None:
    """A long wait in which this process gets a signal."""
    os.kill(os.getpid(), number)
    time.sleep(LONG_S)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_wait_and_reaches_the_loop(clock: SystemClock, number: int) -> None:
    ended = []

    def wait() -> None:
        interrupted(number)
        ended.append("waited")

    clock.rest(wait)
    assert ended == []
    assert clock.signal() == number


def test_after_a_signal_there_is_no_wait(clock: SystemClock) -> None:
    clock.rest(lambda: interrupted(signal.SIGTERM))
    clock.rest(lambda: pytest.fail("it waits"))


def test_a_step_that_takes_long_after_a_signal_is_abandoned(
    clock: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "_STEP_S", 0.1)
    with pytest.raises(Stopped) as stopped:
        interrupted(signal.SIGTERM)
    assert stopped.value.number == signal.SIGTERM
    assert not isinstance(stopped.value, Exception), "no handler for errors may catch it"


def test_a_step_that_ends_soon_after_a_signal_is_not_disturbed(
    clock: SystemClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "_STEP_S", LONG_S)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signal.getitimer(signal.ITIMER_REAL)[0] > 0
    assert clock.signal() == signal.SIGTERM
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0), "nothing interrupts what follows"


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_the_process_at_once(number: int) -> None:
    program = (
        "import os, time; from controller.cli import execute; execute._STEP_S = 60; clock = execute.SystemClock();"
        f"os.kill(os.getpid(), {number:d}); print('first', flush=True);"
        f"os.kill(os.getpid(), {number:d}); print('second', flush=True)"
    )
    root = Path(execute.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=root, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (128 + number, b"first\n"), done.stderr
