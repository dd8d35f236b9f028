"""Whole folders in one command: mirrored, left out where done, and nothing that a person changed is replaced."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from tests import pipeline, speech
from tests.pipeline import SMALL, Undisturbed, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]

GOOD = ("001", "002", "003")
NOISE = ("000", "008")
EMPTY = tuple(f"{number:03}" for number in range(12, 19))


def lay(workplace: Workplace, *names: str) -> None:
    """Write a short silent recording of a different length for each name."""
    for number, name in enumerate(names):
        path = workplace.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        speech.write_wav(path, speech.silence(1 + number / 100, noise_db=-60))


def test_a_corrected_subtitle_file_is_kept(workplace: Workplace, undisturbed: Undisturbed) -> None:
    file = undisturbed.lay(workplace, 0, 1, 2)
    command = ("transcribe", "-o", workplace.out, file, *pipeline.CUT)
    assert workplace.run(*command).code == 0
    subtitles = workplace.out / "talk.srt"
    subtitles.write_text("CORRECTED")
    again = workplace.run(*command)
    assert (again.code, subtitles.read_text()) == (0, "CORRECTED")
    assert f"talk.wav: warning: {subtitles} is kept: it was changed since it was written" in again.err
    assert subtitles not in again.paths
    document = json.loads(workplace.run(*command, "--json").out)
    assert document["runs"][0]["kept"] == [str(subtitles)]
    assert workplace.run(*command, "--overwrite").code == 0
    assert workplace.outputs == undisturbed.outputs


def test_a_folder_is_mirrored_and_left_out_when_it_is_done(workplace: Workplace) -> None:
    lay(workplace, "box/cd1/01.wav", "box/cd2/01.wav")
    ended = workplace.transcribe("box", *SMALL, "-f", "txt")
    assert ended.code == 0, ended.err
    assert ended.paths == [workplace.out / "cd1" / "01.txt", workplace.out / "cd2" / "01.txt"]
    lay(workplace, "box/cd3/01.wav")
    again = workplace.transcribe("box", *SMALL, "-f", "txt", "--skip-existing")
    assert (again.code, again.paths) == (0, [workplace.out / "cd3" / "01.txt"])
    assert "skipped: 2 of 3, all their outputs exist" in again.err
    both = workplace.transcribe("box", *SMALL, "--skip-existing", "--overwrite")
    assert (both.code, "contradict each other" in both.err) == (2, True)
    whole = workplace.transcribe("box", *SMALL, "-f", "txt", "--skip-existing", "--json")
    assert (whole.code, len(json.loads(whole.out)["skipped"])) == (0, 3)


def test_outputs_are_written_beside_the_recordings(workplace: Workplace) -> None:
    lay(workplace, "cd1/01.wav", "cd2/01.wav")
    ended = workplace.run("transcribe", "cd1", "cd2", "-o", "source", *SMALL, "-f", "txt")
    assert ended.code == 0, ended.err
    assert ended.paths == [workplace.folder / "cd1" / "01.txt", workplace.folder / "cd2" / "01.txt"]


def test_a_recording_on_stdin_is_transcribed_and_its_copy_removed(workplace: Workplace) -> None:
    lay(workplace, "x.wav")
    data = (workplace.folder / "x.wav").read_bytes()
    scratch = workplace.folder / "scratch"
    ended = workplace.transcribe("-", *SMALL, "-f", "txt", "--scratch-dir", scratch, "--name", "talk.wav", stdin=data)
    assert ended.code == 0, ended.err
    assert ended.paths == [workplace.out / "talk.txt"]
    assert list(scratch.glob("stenofleet-stdin-*")) == []
    assert "transcribed: no speech was found" in ended.err
    lost = workplace.run("transcribe", "-", "-o", "source", *SMALL, stdin=data)
    assert (lost.code, "a recording on stdin is in no folder" in lost.err) == (2, True)
    images = ("--chunk-image", "x", "--intake-image", "x")
    refused = workplace.transcribe("-", *SMALL, "--runner", "kubernetes", *images, stdin=data)
    assert refused.code == 2
    assert "upload it first" in refused.err


def test_a_recording_on_stdin_that_is_not_transcribed_is_kept(workplace: Workplace) -> None:
    lay(workplace, "x.wav")
    data = (workplace.folder / "x.wav").read_bytes()
    failed = workplace.transcribe("-", *SMALL, "--compute-type", "int8_float16", "--name", "talk.wav", stdin=data)
    assert failed.code != 0
    kept = Path(failed.err.partition("is kept, because it is not transcribed: ")[2].splitlines()[0])
    assert kept.read_bytes() == data
    assert workplace.run("transcribe", kept, "-o", workplace.out, *SMALL, "-f", "txt").code == 0
    assert (workplace.out / "talk.txt").exists()
    without_model = workplace.transcribe("-", "--model", "small", stdin=data)
    assert (without_model.code, "the recording from stdin is kept" in without_model.err) == (3, True)
    assert len(list(kept.parent.parent.iterdir())) == 2
    cleaned = workplace.run("clean", "--all", "--yes")
    assert "removed 2 recordings that were kept from stdin" in cleaned.err
    assert list(kept.parent.parent.iterdir()) == []


def test_many_files_with_some_bad_ones_end_with_a_summary(workplace: Workplace) -> None:
    """More than ten: most of them are empty, which costs no process."""
    lay(workplace, *(f"box/{name}.wav" for name in GOOD))
    for name in NOISE:
        (workplace.folder / "box" / f"{name}.wav").write_text(f"not audio {name} " * 100)
    for name in EMPTY:
        (workplace.folder / "box" / f"{name}.wav").touch()
    shutil.copy(workplace.folder / "box" / "001.wav", workplace.folder / "box" / "twin.wav")
    started = workplace.start("transcribe", "box", "-o", workplace.out, *SMALL, "-f", "txt")
    pipeline.until(lambda: started.out, "the first is reported")
    assert started.process.poll() is None, "before the others have ended"
    ended = started.ended()
    assert ended.code == 4, ended.err
    assert len(set(ended.paths)) == len(ended.paths) == len(GOOD) + 1
    lines = ended.err[ended.err.index("ended: ") :].splitlines()
    assert lines[0] == (
        f"ended: {len(GOOD)} complete, {len(NOISE) + len(EMPTY)} failed (complete ones of equal content count once)"
    )
    named = [Path(line.split(":")[0].strip()).name for line in lines[1:]]
    assert sorted(named) == [f"{name}.wav" for name in (*NOISE, *EMPTY)]


def test_an_archive_that_is_interrupted_twice_is_finished_by_the_third_command(workplace: Workplace) -> None:
    lay(workplace, *(f"box/cd{disc}/{track:02}.wav" for disc in (1, 2) for track in (1, 2, 3)))
    (workplace.folder / "box" / "cd1" / "02.wav").write_text("not audio")
    command = ("transcribe", "box", "-o", workplace.out, *SMALL, "-f", "txt")

    def written() -> list[Path]:
        return sorted(path.relative_to(workplace.out) for path in workplace.out.rglob("*.txt"))

    # The jobs wait before they transcribe. Those that are freed end, and the next ones wait.
    here = workplace.meeting()
    first = workplace.start(*command, crash=f"chunk.loaded.00000.a1=hold:{here}")
    pipeline.until(here.exists, "the first jobs are held")
    here.unlink()
    pipeline.until(written, "the first transcript is written")
    os.kill(first.process.pid, signal.SIGINT)
    assert first.ended().code == 130
    before, done = workplace.results(), len(written())
    assert done < 4, "it was interrupted early"
    corrected = workplace.out / written()[0]
    corrected.write_text("CORRECTED")

    here = workplace.meeting()
    second = workplace.start(*command, crash=f"chunk.loaded.00000.a1=hold:{here}")
    pipeline.until(here.exists, "the next jobs are held")
    here.unlink()
    pipeline.until(lambda: len(written()) > done, "one more is written")
    second.kill()
    workplace.quiet()
    assert len(written()) < 5, "it was killed before the end"
    assert workplace.results().items() >= before.items(), "what was committed is not computed again"
    before = workplace.results()

    third = workplace.run(*command)
    assert third.code == 4, third.err
    assert [str(path) for path in written()] == [f"cd1/{n}.txt" for n in ("01", "03")] + [
        f"cd2/{n}.txt" for n in ("01", "02", "03")
    ]
    assert workplace.results().items() >= before.items()
    assert len(workplace.results()) == 5, "one result for each recording"
    assert corrected.read_text() == "CORRECTED"
    assert f"{corrected} is kept: it was changed" in third.err
    assert len(third.paths) == 4
