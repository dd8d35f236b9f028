"""The identity of a media file, and changes to it."""

import hashlib
import os
from pathlib import Path

import pytest

from controller.errors import MediaProblem
from controller.intake import source


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "talk.mp4"
    path.write_bytes(b"content")
    return path


def test_a_file_is_identified_by_its_content_and_not_by_its_name(file: Path) -> None:
    found = source.inspect(file)
    assert found.identity == hashlib.sha256(b"content").hexdigest()
    assert (found.size_bytes, found.mtime_ns) == (7, file.stat().st_mtime_ns)
    other = file.with_name("other.wav")
    other.write_bytes(b"content")
    assert source.inspect(other).identity == found.identity
    other.write_bytes(b"Content")
    assert source.inspect(other).identity != found.identity


@pytest.mark.parametrize(
    "name", [b"plain", b"with space", b"a?b#c%41", b"new\nline", b"latin \xe9", "日本".encode(), b"-", b"a;b&c=d"]
)
def test_the_path_behind_a_uri_is_the_path_byte_for_byte(tmp_path: Path, name: bytes) -> None:
    path = tmp_path / os.fsdecode(name)
    path.write_bytes(b"x")
    found = source.inspect(path)
    assert found.uri.isascii()
    assert source.local_path(found.uri) == path
    assert os.fsencode(source.local_path(found.uri)).endswith(name)


def test_a_relative_path_becomes_absolute_and_a_link_keeps_its_name(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(file.parent)
    Path("link.mp4").symlink_to("talk.mp4")
    assert source.local_path(source.inspect(Path("link.mp4")).uri) == file.with_name("link.mp4")


@pytest.mark.parametrize(
    "kind,message",
    [
        ("missing", "no such file"),
        ("folder", "is a folder"),
        ("pipe", "is not a regular file"),
        ("empty", r"is empty \(0 bytes\)"),
        ("loop", "cannot be read: Too many levels of symbolic links"),
        ("long", "cannot be read: File name too long"),
        ("below a file", "cannot be read: Not a directory"),
    ],
)
def test_a_path_that_cannot_be_a_recording_is_reported_with_its_name(tmp_path: Path, kind: str, message: str) -> None:
    path = tmp_path / ("x" * 300 if kind == "long" else "name.wav")
    match kind:
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
        case "empty":
            path.touch()
        case "loop":
            path.symlink_to(path)
        case "below a file":
            path.touch()
            path = path / "name.wav"
    with pytest.raises(MediaProblem, match=message) as refused:
        source.inspect(path)
    assert refused.value.summary.startswith(f"{path}: ")
    assert refused.value.advice


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_reported(file: Path) -> None:
    file.chmod(0)
    with pytest.raises(MediaProblem, match="cannot be read: Permission denied"):
        source.inspect(file)


@pytest.mark.parametrize("change", ["longer", "newer", "gone", "none"])
def test_a_change_is_seen(file: Path, change: str) -> None:
    found = source.inspect(file)
    match change:
        case "longer":
            file.write_bytes(b"content and more")
            os.utime(file, ns=(found.mtime_ns, found.mtime_ns))
        case "newer":
            os.utime(file, ns=(found.mtime_ns, found.mtime_ns + 1000))
        case "gone":
            file.unlink()
        case "none":
            source.check_unchanged(found)
            return
    with pytest.raises(
        MediaProblem, match="cannot be found" if change == "gone" else "changed while it was being read"
    ) as seen:
        source.check_unchanged(found)
    assert str(file) in seen.value.summary


def test_a_huge_file_is_identified_by_size_time_and_samples(tmp_path: Path) -> None:
    path = tmp_path / "huge.mkv"
    with path.open("wb") as file:
        file.truncate((2 << 30) + 1)
    if path.stat().st_blocks * 512 > 1 << 30:
        pytest.skip("this file system keeps no holes")
    first = source.inspect(path)
    assert source.inspect(path).identity == first.identity
    with path.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\1")
    os.utime(path, ns=(first.mtime_ns, first.mtime_ns))
    changed = source.inspect(path)
    assert changed.identity != first.identity, "the end of the file is sampled"
    os.utime(path, ns=(first.mtime_ns, first.mtime_ns + 1000))
    assert source.inspect(path).identity != changed.identity, "its modification time counts"
