"""Files that were identified before are not read again, unless they may have changed."""

import os
import time
from pathlib import Path

import pytest

from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.known_files import KnownFiles

OLD_NS = 3_000_000_000


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that are read to identify them."""
    read: list[Path] = []
    identity = source._file_identity

    def counted(path: Path, status: os.stat_result) -> str:
        read.append(path)
        return identity(path, status)

    monkeypatch.setattr(source, "_file_identity", counted)
    return read


@pytest.fixture
def known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownFiles:
    """The clock is far enough ahead of every file that is written now."""
    now_ns = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + OLD_NS)
    return KnownFiles(tmp_path / "state")


def test_a_file_is_read_once(tmp_path: Path, known: KnownFiles, reads: list[Path]) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"talk")
    first = source.inspect(talk, known)
    assert source.inspect(talk, known) == first
    assert source.inspect(talk, KnownFiles(tmp_path / "state")) == first, "by another command too"
    assert reads == [talk]


@pytest.mark.parametrize("change", ["content", "size", "content behind the same times", "path"])
def test_a_file_that_may_have_changed_is_read_again(
    tmp_path: Path, known: KnownFiles, reads: list[Path], change: str
) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"talk")
    before = talk.stat()
    first = source.inspect(talk, known)
    if change == "size":
        talk.write_bytes(b"longer talk")
    elif change == "path":
        talk = talk.rename(tmp_path / "other.wav")
    else:
        time.sleep(0.01)
        talk.write_bytes(b"walk")
    if change == "content behind the same times":
        os.utime(talk, ns=(before.st_atime_ns, before.st_mtime_ns))
    again = source.inspect(talk, known)
    assert len(reads) == 2
    assert (again.identity == first.identity) == (change == "path")


def test_a_file_that_was_written_just_now_is_not_kept(tmp_path: Path, reads: list[Path]) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"talk")
    known = KnownFiles(tmp_path / "state")
    source.inspect(talk, known)
    source.inspect(talk, known)
    assert len(reads) == 2


def test_a_file_that_changes_while_it_is_read_is_not_kept(
    tmp_path: Path, known: KnownFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"talk")
    identity = source._file_identity

    def grown(path: Path, status: os.stat_result) -> str:
        found = identity(path, status)
        with path.open("ab") as file:
            file.write(b"more")
        return found

    monkeypatch.setattr(source, "_file_identity", grown)
    source.inspect(talk, known)
    assert not list((tmp_path / "state").rglob("*.json"))


@pytest.mark.parametrize("kept", [b"", b"{}", b"x" * 100_000])
def test_an_invalid_entry_is_skipped(tmp_path: Path, known: KnownFiles, reads: list[Path], kept: bytes) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"talk")
    first = source.inspect(talk, known)
    (document,) = (tmp_path / "state").rglob("*.json")
    document.write_bytes(kept)
    assert source.inspect(talk, known) == first
    assert source.inspect(talk, known) == first
    assert len(reads) == 2


def test_without_a_writable_home_files_are_read_each_time(tmp_path: Path, known: KnownFiles, reads: list[Path]) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"talk")
    (tmp_path / "state").write_bytes(b"a file in the way")
    for nowhere in (KnownFiles(None), known):
        first = source.inspect(talk, nowhere)
        assert source.inspect(talk, nowhere) == first
    assert len(reads) == 4


def test_a_deleted_known_file_is_missing(tmp_path: Path, known: KnownFiles) -> None:
    talk = tmp_path / "talk.wav"
    talk.write_bytes(b"talk")
    source.inspect(talk, known)
    talk.unlink()
    with pytest.raises(MediaProblem, match="no such file"):
        source.inspect(talk, known)


def test_a_link_that_leads_to_another_file_of_the_same_size_and_times_is_read_again(
    tmp_path: Path, known: KnownFiles, reads: list[Path]
) -> None:
    one, other, link = tmp_path / "one.wav", tmp_path / "other.wav", tmp_path / "link.wav"
    one.write_bytes(b"talk")
    other.write_bytes(b"walk")
    os.utime(one, ns=(1, 1))
    os.utime(other, ns=(1, 1))
    link.symlink_to(one)
    first = source.inspect(link, known)
    link.unlink()
    link.symlink_to(other)
    assert source.inspect(link, known).identity != first.identity
