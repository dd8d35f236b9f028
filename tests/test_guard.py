"""The guard of unit tests: it must detect every kind of violation."""

import contextlib
import multiprocessing.util
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest

ESCAPES: dict[str, Callable[[], object]] = {
    "socket": lambda: socket.socket(socket.AF_UNIX),
    "connection": lambda: socket.create_connection(("127.0.0.1", 9), timeout=1),
    "name lookup": lambda: socket.getaddrinfo("localhost", 80),
    "subprocess": lambda: subprocess.run([sys.executable, "-V"], check=False),
    "multiprocessing": lambda: multiprocessing.util.spawnv_passfds(os.fsencode(sys.executable), [b"-V"], []),
    "posix_spawn": lambda: os.posix_spawn(sys.executable, [sys.executable, "-V"], {}),
    "system": lambda: os.system("true"),
    "fork": os.fork,
    "exec": lambda: os.execv(sys.executable, [sys.executable, "-V"]),
}


class Guard(Protocol):
    violations: list[str]


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_a_unit_test_cannot_open_a_socket_or_start_a_process(guard: Guard, escape: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="mark it process"), contextlib.suppress(Exception):
        escape()
    assert len(guard.violations) == 1
    guard.violations.clear()


def test_a_violation_that_was_caught_is_recorded(guard: Guard) -> None:
    with contextlib.suppress(BaseException):
        socket.socket()
    assert guard.violations == ["socket.__new__"]
    guard.violations.clear()


def test_threads_are_guarded_too(guard: Guard) -> None:
    def escape() -> None:
        with contextlib.suppress(BaseException):
            os.system("true")

    thread = threading.Thread(target=escape)
    thread.start()
    thread.join()
    assert guard.violations == ["os.system"]
    guard.violations.clear()


@pytest.mark.process
def test_a_test_marked_process_is_exempt() -> None:
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True).stdout == b"1\n"
    socket.socket().close()


@pytest.mark.process
def test_a_recorded_violation_fails_its_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_bytes((Path(__file__).parent / "conftest.py").read_bytes())
    (tmp_path / "test_violation.py").write_text(
        "import contextlib, os\n"
        "def test_caught():\n"
        "    with contextlib.suppress(BaseException):\n"
        "        os.system('true')\n"
        "def test_innocent():\n"
        "    pass\n"
    )
    options = ("-q", "--disable-plugin-autoload", "-p", "no:cacheprovider")
    command = [sys.executable, "-m", "pytest", *options, str(tmp_path)]
    output = subprocess.run(command, capture_output=True, check=False, text=True, cwd=tmp_path).stdout
    assert "ERROR test_violation.py::test_caught" in output
    assert "2 passed, 1 error" in output


def test_no_test_waits_for_the_disk() -> None:
    os.fsync(-1)
