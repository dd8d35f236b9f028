"""Locks of this machine: one holder at a time, and no files of locks that nobody holds."""

import fcntl
import shutil
from pathlib import Path

import pytest

from controller.leadership.file_lock import FileLocks
from controller.runners.folders import Home

RUN = "0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def leads(locks: FileLocks) -> bool:
    return locks.try_acquire_or_renew(RUN, 0) == "leading"


def test_a_lock_has_one_holder_and_leaves_no_file(home: Path) -> None:
    first, second = FileLocks(Home(home)), FileLocks(Home(home))
    assert leads(first)
    assert leads(first)
    assert not leads(second)
    first.release(RUN, ended=True)
    assert leads(second)
    second.close()
    assert list((home / "locks").iterdir()) == []


def test_a_lock_that_is_deleted_while_another_process_takes_it_excludes_all_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, third = (FileLocks(Home(home)) for _ in range(3))
    assert leads(first)
    flock, left = fcntl.flock, [first]

    def after_the_release(descriptor: int, operation: int) -> None:
        # The second one has opened the file: now the first one deletes it.
        while left:
            left.pop().release(RUN, ended=True)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", after_the_release)
    assert leads(second)
    assert not leads(third)


def test_a_lock_in_a_folder_that_was_made_again_is_left(home: Path) -> None:
    first, second, third = (FileLocks(Home(home)) for _ in range(3))
    assert leads(first)
    shutil.rmtree(home)
    assert leads(second)
    first.release(RUN, ended=True)
    assert not leads(third)
