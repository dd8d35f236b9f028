"""The fence itself: a fence that cannot fail is none."""

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


class Fence(Protocol):
    breaches: list[str]


@pytest.mark.parametrize("escape", ESCAPES.values(), ids=ESCAPES)
def test_nothing_gets_out_of_a_unit_test(fence: Fence, escape: Callable[[], object]) -> None:
    with pytest.raises(pytest.fail.Exception, match="mark it process"), contextlib.suppress(Exception):
        escape()
    assert len(fence.breaches) == 1
    fence.breaches.clear()


def test_a_breach_that_was_caught_is_remembered(fence: Fence) -> None:
    with contextlib.suppress(BaseException):
        socket.socket()
    assert fence.breaches == ["socket.__new__"]
    fence.breaches.clear()


def test_threads_are_fenced_too(fence: Fence) -> None:
    def escape() -> None:
        with contextlib.suppress(BaseException):
            os.system("true")

    thread = threading.Thread(target=escape)
    thread.start()
    thread.join()
    assert fence.breaches == ["os.system"]
    fence.breaches.clear()


@pytest.mark.process
def test_a_test_marked_process_is_outside() -> None:
    assert subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True).stdout == b"1\n"
    socket.socket().close()


@pytest.mark.process
def test_a_remembered_breach_fails_its_test(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_bytes((Path(__file__).parent / "conftest.py").read_bytes())
    (tmp_path / "test_breach.py").write_text(
        "import contextlib, os\n"
        "def test_caught():\n"
        "    with contextlib.suppress(BaseException):\n"
        "        os.system('true')\n"
        "def test_innocent():\n"
        "    pass\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    told = subprocess.run(command, capture_output=True, check=False, text=True, cwd=tmp_path).stdout
    assert "ERROR test_breach.py::test_caught" in told
    assert "2 passed, 1 error" in told
