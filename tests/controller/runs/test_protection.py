"""A file that a person changed, or another program wrote, is kept."""

import os
from pathlib import Path

import pytest

from controller.runs.outputs import WrittenOutputs, write_outputs
from controller.runs.protection import OutputRules
from controller.runs.transcript_files import TranscriptFiles, TranscriptWriter
from controller.runs.written_files import WrittenFiles
from controller.transcript.merge import Merge
from tests import fakes

RECORD = fakes.record()


def transcript(text: str) -> TranscriptFiles:
    """The files of a complete transcript."""
    result = fakes.result(fakes.task(RECORD, 0), fakes.segment((f" {text}", 0, 100)))
    merge = Merge(fakes.plan(10_000), RECORD, {0: 1})
    with TranscriptWriter(merge.gaps, merge.duration_ms) as writer:
        for segments in merge.segments([result]):
            writer.add(segments)
        return writer.finish(merge.summary())


class Folder:
    """An output folder, and the state folder of a user who writes to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / "state"
        self.txt = path / "talk.txt"
        self.json = path / "talk.json"

    def write(self, text: str, *, overwrite: bool = False, remembers: bool = True) -> WrittenOutputs:
        """Write the transcript of this text."""
        rules = OutputRules(overwrite=overwrite, written=WrittenFiles(self.home if remembers else None))
        return write_outputs(fakes.request(RECORD, self.path / "talk"), transcript(text), rules)


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_corrected_file_is_kept_and_the_others_are_written(folder: Folder) -> None:
    folder.write("red")
    folder.txt.write_text("CORRECTED\n")
    found = folder.write("red")
    assert folder.txt.read_text() == "CORRECTED\n"
    assert found.kept_files == (str(folder.txt),)
    assert found.files == (str(folder.json),)
    assert found.kept[0].startswith(f"{folder.txt} is kept: it was changed since it was written")
    assert "--overwrite" in found.kept[0]
    assert found.problem is None


def test_overwrite_replaces_a_corrected_file(folder: Folder) -> None:
    folder.write("red")
    folder.txt.write_text("CORRECTED\n")
    found = folder.write("red", overwrite=True)
    assert folder.txt.read_text() == "red\n"
    assert (found.kept, len(found.files)) == ((), 2)
    assert folder.write("blue").kept == (), "it is known again"


def test_a_file_of_ours_is_replaced_by_a_run_with_other_text(folder: Folder) -> None:
    for text in ("red", "blue", "green"):
        found = folder.write(text)
        assert (found.kept, folder.txt.read_text()) == ((), f"{text}\n")


def test_an_unchanged_file_is_left(folder: Folder) -> None:
    folder.write("red")
    before = folder.txt.stat()
    found = folder.write("red")
    assert (found.kept, len(found.files)) == ((), 2)
    assert (folder.txt.stat().st_ino, folder.txt.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_of_another_program_is_kept(folder: Folder) -> None:
    folder.txt.write_text("my notes\n")
    found = folder.write("red")
    assert (found.kept_files, folder.txt.read_text()) == ((str(folder.txt),), "my notes\n")


def test_without_a_record_an_equal_file_is_ours_and_another_is_kept(folder: Folder) -> None:
    folder.write("red", remembers=False)
    assert folder.write("red", remembers=False).kept == ()
    assert len(folder.write("blue", remembers=False).kept) == 2
    assert folder.txt.read_text() == "red\n"


def test_a_damaged_record_loses_no_file(folder: Folder) -> None:
    folder.write("red")
    for path in (folder.home / ".local" / "written").rglob("*.json"):
        path.write_text("{")
    assert len(folder.write("blue").kept) == 2


def test_a_command_that_was_killed_before_it_wrote_knows_both_versions(folder: Folder) -> None:
    folder.write("red")
    before = folder.txt.read_bytes()
    folder.write("blue")
    folder.txt.write_bytes(before)
    assert folder.write("green").kept == ()


def test_a_read_only_file_is_kept_even_with_overwrite(folder: Folder) -> None:
    folder.write("red")
    folder.txt.chmod(0o444)
    assert folder.write("red").kept == (), "it has the wanted content already"
    found = folder.write("blue", overwrite=True)
    assert (folder.txt.read_text(), found.kept_files) == ("red\n", (str(folder.txt),))
    assert "read-only" in found.kept[0]


def test_a_link_keeps_its_place_and_its_target_is_written(folder: Folder) -> None:
    (folder.path / "elsewhere").mkdir()
    target = folder.path / "elsewhere" / "it.txt"
    folder.write("red")
    folder.txt.rename(target)
    folder.txt.symlink_to(target)
    assert folder.write("blue").kept == ()
    assert (folder.txt.is_symlink(), target.read_text()) == (True, "blue\n")
    target.write_text("CORRECTED\n")
    assert folder.write("blue").kept_files == (str(folder.txt),)
    assert (folder.txt.is_symlink(), target.read_text()) == (True, "CORRECTED\n")


def test_nothing_is_created_through_a_link_to_nothing(folder: Folder) -> None:
    folder.txt.symlink_to(folder.path / "nothing.txt")
    found = folder.write("red", overwrite=True)
    assert not (folder.path / "nothing.txt").exists()
    assert "a link whose target cannot be used" in found.kept[0]


def test_a_pipe_is_kept(folder: Folder) -> None:
    os.mkfifo(folder.txt)
    assert "not a regular file" in folder.write("red", overwrite=True).kept[0]
    assert folder.txt.is_fifo()


def test_a_folder_in_the_place_of_one_format_does_not_stop_the_others(folder: Folder) -> None:
    folder.txt.mkdir()
    found = folder.write("red")
    assert found.files == (str(folder.json),)
    assert found.problem is not None
    assert "talk.txt: cannot be written: Is a directory" in found.problem.summary
