"""One process at a time writes a model's folder, and the next one removes what a killed one has left."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunk_job.models.exclusive import alone

pytestmark = pytest.mark.process

KILLED = """
import os, signal, sys
from pathlib import Path
from chunk_job.models.exclusive import alone
with alone(Path(sys.argv[1]), print) as work:
    work.mkdir()
    (work / "model.bin").write_bytes(b"a part")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def never() -> None:
    raise AssertionError("nobody else is there")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_of_many_at_once_each_is_alone_and_nothing_of_them_stays(tmp_path: Path) -> None:
    inside: list[int] = []
    most: list[int] = []

    def write(number: int) -> None:
        with alone(tmp_path / "models" / "tiny", time.time) as work:
            inside.append(number)
            work.mkdir()
            most.append(len(inside))
            time.sleep(0.002)
            inside.remove(number)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(60)))
    assert most == [1] * 60
    assert names(tmp_path / "models") == []


def test_the_second_waits_says_so_once_and_leaves_what_the_first_is_writing(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with alone(tmp_path / "tiny", lambda: said.append("waits")):
            order.append("second")

    with alone(tmp_path / "tiny", never) as work:
        work.mkdir()
        other = threading.Thread(target=second)
        other.start()
        while not said:
            time.sleep(0.005)
        time.sleep(0.05)
        assert work.is_dir()
        order.append("first")
    other.join()
    assert (order, said) == (["first", "second"], ["waits"])


def test_what_a_killed_process_left_is_removed_and_it_is_not_waited_for(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-P", "-c", KILLED, str(tmp_path / "tiny")], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert len(names(tmp_path)) == 2, "its lock and its files"
    with alone(tmp_path / "other", never):
        assert len(names(tmp_path)) == 3, "what belongs to another place stays"
    with alone(tmp_path / "tiny", never):
        assert len(names(tmp_path)) == 1
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "one,other", [("Tiny", "tiny"), ("caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}")]
)
def test_names_that_are_one_folder_on_some_disks_have_one_lock(tmp_path: Path, one: str, other: str) -> None:
    with alone(tmp_path / one, never):
        lock = names(tmp_path)
    with alone(tmp_path / other, never):
        assert names(tmp_path) == lock


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_another_user_waits_too_where_both_may_write() -> None:
    said: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o777)

        def second() -> None:
            with alone(folder / "tiny", lambda: said.append("waits")):
                said.append("second")

        other = threading.Thread(target=second)
        with alone(folder / "tiny", never):
            (lock,) = folder.iterdir()
            lock.chmod(0o644)
            os.seteuid(65_534)
            try:
                other.start()
                while not said:
                    time.sleep(0.005)
            finally:
                os.seteuid(0)
            said.append("first")
        other.join()
        assert said == ["waits", "first", "second"]
        assert names(folder) == []


def test_where_no_lock_can_be_made_the_writer_finds_out_why(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with alone(tmp_path / "file" / "tiny", never) as work, pytest.raises(NotADirectoryError):
        work.mkdir()
