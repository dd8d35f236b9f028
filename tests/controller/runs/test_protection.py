"""A file that a person changed, or another program wrote, is kept."""

import json
import os
from pathlib import Path

import pytest

from controller.domain.documents import RunRecord
from controller.domain.keys import written_key
from controller.domain.output import Format
from controller.domain.written_output import MOST_VERSIONS
from controller.runs.outputs import WrittenOutputs, write_outputs
from controller.runs.protection import OF_ANOTHER, OutputRules
from controller.runs.transcript_files import TranscriptFiles, TranscriptWriter
from controller.runs.written_files import WrittenFiles
from controller.transcript.merge import Merge
from tests import fakes

RECORD = fakes.record()
OTHER = RECORD.model_copy(update={"identity": "cd" * 32})


def transcript(text: str, record: RunRecord = RECORD) -> TranscriptFiles:
    """The files of a complete transcript."""
    result = fakes.result(fakes.task(record, 0), fakes.segment((f" {text}", 0, 100)))
    merge = Merge(fakes.plan(10_000), record, {0: 1})
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

    def write(
        self,
        text: str,
        *,
        overwrite: bool = False,
        remembers: bool = True,
        record: RunRecord = RECORD,
        formats: tuple[Format, ...] = ("txt", "json"),
    ) -> WrittenOutputs:
        """Write the transcript of this text."""
        rules = OutputRules(overwrite=overwrite, written=WrittenFiles(self.home if remembers else None))
        request = fakes.request(record, self.path / "talk", formats=formats)
        return write_outputs(request, transcript(text, record), rules)


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
    assert found.warnings[0].startswith(f"{folder.txt} is kept: it was changed since it was written")
    assert "--overwrite" in found.warnings[0]
    assert found.problem is None


def test_overwrite_replaces_a_corrected_file(folder: Folder) -> None:
    folder.write("red")
    folder.txt.write_text("CORRECTED\n")
    found = folder.write("red", overwrite=True)
    assert folder.txt.read_text() == "red\n"
    assert (found.warnings, len(found.files)) == ((), 2)
    assert folder.write("blue").warnings == (), "it is known again"


def test_a_file_of_ours_is_replaced_by_a_run_with_other_text(folder: Folder) -> None:
    for text in ("red", "blue", "green"):
        found = folder.write(text)
        assert (found.warnings, folder.txt.read_text()) == ((), f"{text}\n")


def test_a_transcript_of_another_recording_is_replaced_with_a_warning(folder: Folder) -> None:
    """Two folders with a talk.mp4 each, and two commands that write to the same place."""
    folder.write("red")
    found = folder.write("blue", record=OTHER)
    assert (folder.txt.read_text(), found.kept_files) == ("blue\n", ())
    (warning,) = found.warnings
    assert warning.startswith(f"{folder.txt}: {OF_ANOTHER}")
    assert folder.write("blue", record=OTHER).warnings == (), "nothing is replaced"
    assert folder.write("green", record=OTHER).warnings == (), "the same recording"
    (warning,) = folder.write("red", overwrite=True).warnings
    assert warning.startswith(f"{folder.txt}: {OF_ANOTHER}")
    folder.txt.unlink()
    folder.json.unlink()
    assert folder.write("red").warnings == (), "nothing was there"


def test_the_recording_is_that_of_each_file(folder: Folder) -> None:
    """Two commands may write different formats below one name."""
    folder.write("red", formats=("txt",))
    folder.write("blue", record=OTHER, formats=("json",))
    assert folder.write("green", formats=("txt",)).warnings == (), "it was a transcript of this recording"
    (warning,) = folder.write("blue", record=OTHER).warnings
    assert warning.startswith(f"{folder.txt}: {OF_ANOTHER}")


def test_a_command_that_was_killed_before_it_wrote_says_what_its_next_try_replaces(folder: Folder) -> None:
    folder.write("red", formats=("txt",))
    before = folder.txt.read_bytes()
    folder.write("blue", record=OTHER, formats=("txt",))
    folder.txt.write_bytes(before)
    (warning,) = folder.write("blue", record=OTHER, formats=("txt",)).warnings
    assert warning.startswith(f"{folder.txt}: {OF_ANOTHER}")


def test_a_recording_is_noted_for_no_more_files_than_are_known(folder: Folder) -> None:
    for number in range(MOST_VERSIONS + 2):
        folder.write(str(number))
    found = WrittenFiles(folder.home).find((folder.path / "talk").as_uri())
    assert len(found.sha256["txt"]) == MOST_VERSIONS
    assert found.recordings.keys() == {digest for digests in found.sha256.values() for digest in digests}


def test_of_what_an_earlier_version_wrote_the_recording_is_not_known(folder: Folder) -> None:
    folder.write("red")
    path = folder.home / ".local" / written_key((folder.path / "talk").as_uri())
    document = json.loads(path.read_bytes())
    del document["recordings"]
    path.write_text(json.dumps(document))
    found = folder.write("blue", record=OTHER)
    assert (folder.txt.read_text(), found.warnings) == ("blue\n", ())


def test_an_unchanged_file_is_left(folder: Folder) -> None:
    folder.write("red")
    before = folder.txt.stat()
    found = folder.write("red")
    assert (found.warnings, len(found.files)) == ((), 2)
    assert (folder.txt.stat().st_ino, folder.txt.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_of_another_program_is_kept(folder: Folder) -> None:
    folder.txt.write_text("my notes\n")
    found = folder.write("red")
    assert (found.kept_files, folder.txt.read_text()) == ((str(folder.txt),), "my notes\n")


def test_without_a_record_an_equal_file_is_ours_and_another_is_kept(folder: Folder) -> None:
    folder.write("red", remembers=False)
    assert folder.write("red", remembers=False).warnings == ()
    assert len(folder.write("blue", remembers=False).warnings) == 2
    assert folder.txt.read_text() == "red\n"


def test_a_damaged_record_loses_no_file(folder: Folder) -> None:
    folder.write("red")
    for path in (folder.home / ".local" / "written").rglob("*.json"):
        path.write_text("{")
    assert len(folder.write("blue").warnings) == 2


def test_a_command_that_was_killed_before_it_wrote_knows_both_versions(folder: Folder) -> None:
    folder.write("red")
    before = folder.txt.read_bytes()
    folder.write("blue")
    folder.txt.write_bytes(before)
    assert folder.write("green").warnings == ()


def test_a_read_only_file_is_kept_even_with_overwrite(folder: Folder) -> None:
    folder.write("red")
    folder.txt.chmod(0o444)
    assert folder.write("red").warnings == (), "it has the wanted content already"
    found = folder.write("blue", overwrite=True)
    assert (folder.txt.read_text(), found.kept_files) == ("red\n", (str(folder.txt),))
    assert "read-only" in found.warnings[0]


def test_a_link_keeps_its_place_and_its_target_is_written(folder: Folder) -> None:
    (folder.path / "elsewhere").mkdir()
    target = folder.path / "elsewhere" / "it.txt"
    folder.write("red")
    folder.txt.rename(target)
    folder.txt.symlink_to(target)
    assert folder.write("blue").warnings == ()
    assert (folder.txt.is_symlink(), target.read_text()) == (True, "blue\n")
    target.write_text("CORRECTED\n")
    assert folder.write("blue").kept_files == (str(folder.txt),)
    assert (folder.txt.is_symlink(), target.read_text()) == (True, "CORRECTED\n")


def test_nothing_is_created_through_a_link_to_nothing(folder: Folder) -> None:
    folder.txt.symlink_to(folder.path / "nothing.txt")
    found = folder.write("red", overwrite=True)
    assert not (folder.path / "nothing.txt").exists()
    assert "a link whose target cannot be used" in found.warnings[0]


def test_a_pipe_is_kept(folder: Folder) -> None:
    os.mkfifo(folder.txt)
    assert "not a regular file" in folder.write("red", overwrite=True).warnings[0]
    assert folder.txt.is_fifo()


def test_a_folder_in_the_place_of_one_format_does_not_stop_the_others(folder: Folder) -> None:
    folder.txt.mkdir()
    found = folder.write("red")
    assert found.files == (str(folder.json),)
    assert found.problem is not None
    assert "talk.txt: cannot be written: Is a directory" in found.problem.summary
