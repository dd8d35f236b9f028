"""Bad input: every message names the file and what to do, and other files are not affected."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import pipeline, speech
from tests.pipeline import CUT, SMALL, Undisturbed, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]

NOT_MEDIA = "is not media that ffmpeg can read"
PLAYS = "check that it is complete and plays in a media player"

PLAYLIST = "is a playlist or a script ({}): it names other files"

BAD = {
    "page.mp4": (NOT_MEDIA, PLAYS),
    "noise.mp3": (NOT_MEDIA, PLAYS),
    "half.m4a": (NOT_MEDIA, PLAYS),
    "playlist.m3u8": (PLAYLIST.format("hls"), "use the recording itself"),
    "concat.txt": (PLAYLIST.format("concat"), "use the recording itself"),
    "header.wav": ("no audio could be decoded: its audio stream is empty", PLAYS),
    "mute.mp4": ("has no audio stream", "choose a file with sound"),
    "empty.wav": ("is empty (0 bytes)", "check how it was copied or recorded"),
    "folder": (
        "is a folder without audio or video files",
        "files with other suffixes are transcribed if they are named themselves",
    ),
    "missing.wav": ("no such file", "check the name"),
    "pipe.wav": ("is not a regular file", "save the recording as a file first"),
    "loop.wav": ("cannot be read: Too many levels of symbolic links", "check its permissions and its disk"),
    "\x1b[31mred.mp4": ("no such file", "check the name"),
}
"""By name: the problem and the advice."""

_LIMIT = """\
import os, resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
os.execv(sys.argv[2], sys.argv[2:])
"""
LIMITED = (sys.executable, "-P", "-c", _LIMIT)
"""Run a command with a limit on the size of a file in bytes: for a single file, this is like a full disk."""


def lay_out(folder: Path) -> None:
    """Put every bad file of the table in *folder*, and a good one."""
    (folder / "page.mp4").write_text("<html>not found</html>\n" * 50)
    (folder / "noise.mp3").write_bytes(bytes((i * i * 31 >> 3) % 256 for i in range(40_000)))
    (folder / "playlist.m3u8").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\ngood.wav\n#EXT-X-ENDLIST\n")
    (folder / "concat.txt").write_text("ffconcat version 1.0\nfile 'good.wav'\n")
    (folder / "empty.wav").touch()
    (folder / "folder").mkdir()
    (folder / "loop.wav").symlink_to("loop.wav")
    os.mkfifo(folder / "pipe.wav")
    good = speech.write_wav(folder / "good.wav", speech.tape(seconds=9, seed=40))
    (folder / "header.wav").write_bytes(good.read_bytes()[:44])
    whole = speech.encode(good, folder / "whole.m4a", "-c:a", "aac").read_bytes()
    (folder / "half.m4a").write_bytes(whole[: len(whole) // 2])
    picture = ["-f", "lavfi", "-i", "color=c=blue:s=64x48:r=5:d=1", "-c:v", "mpeg4"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, f"file:{folder / 'mute.mp4'}"], check=True)


@pytest.fixture(scope="session")
def refused(shared: Path) -> tuple[Workplace, pipeline.Ended]:
    """One command with all bad files and a good one in the middle."""
    folder = shared / "refused"
    with pipeline.alone(folder) as must:
        workplace = Workplace(folder)
        if must:
            lay_out(folder)
            names = list(BAD)
            ended = workplace.transcribe(*names[:5], "good.wav", *names[5:], *SMALL)
            (folder / "ended.json").write_text(json.dumps(dataclasses.asdict(ended)), encoding="utf-8")
    return workplace, pipeline.Ended(**json.loads((folder / "ended.json").read_bytes()))


@pytest.mark.parametrize("name", BAD)
def test_the_message_names_the_file_and_what_to_do(refused: tuple[Workplace, pipeline.Ended], name: str) -> None:
    summary, advice = BAD[name]
    _, ended = refused
    lines = ended.err.splitlines()
    shown = name.replace("\x1b", "\\x1b")
    # Indented lines are of the summary at the end.
    first = [line if line[:1] != " " and "attempt" not in line else "" for line in lines]
    at = [i for i, line in enumerate(first) if shown in line and summary in line]
    assert len(at) == 1, ended.err
    assert lines[at[0] + 1].strip() == advice


def test_the_good_file_among_bad_ones_is_transcribed(refused: tuple[Workplace, pipeline.Ended]) -> None:
    workplace, ended = refused
    assert ended.code == 4
    assert sorted(workplace.outputs) == [f"good.{extension}" for extension in ("json", "srt", "tsv", "txt", "vtt")]
    spoken = speech.tape(seconds=9, seed=40).words
    assert speech.word_errors(spoken, workplace.document("good")["text"]).wer <= 0.15
    assert ended.paths == [workplace.out / f"good.{extension}" for extension in ("txt", "srt", "vtt", "tsv", "json")]


def test_a_bad_file_is_tried_once(refused: tuple[Workplace, pipeline.Ended]) -> None:
    _, ended = refused
    assert ended.err.count("page.mp4: cutting, attempt 1 failed (BAD_INPUT)") == 1
    assert "attempt 2" not in ended.err


def test_bad_files_leave_nothing_half_written(refused: tuple[Workplace, pipeline.Ended]) -> None:
    workplace, _ = refused
    assert workplace.leftovers() == []


def test_a_name_with_control_characters_is_escaped(refused: tuple[Workplace, pipeline.Ended]) -> None:
    _, ended = refused
    assert "\x1b" not in ended.err + ended.out
    assert "\\x1b[31mred.mp4" in ended.err


def test_only_bad_files_give_their_own_exit_code(workplace: Workplace) -> None:
    (workplace.folder / "empty.wav").touch()
    ended = workplace.transcribe("empty.wav", "missing.wav", *SMALL, "--json")
    assert ended.code == 5
    assert json.loads(ended.out)["exit_code"] == 5
    assert [(run["name"], run["verdict"]) for run in json.loads(ended.out)["runs"]] == [
        ("empty.wav", "failed"),
        ("missing.wav", "failed"),
    ]
    assert not workplace.out.exists()


def test_plan_refuses_the_same_and_plans_the_rest(workplace: Workplace) -> None:
    lay_out(workplace.folder)
    ended = workplace.run("plan", "mute.mp4", "good.wav", "missing.wav", "page.mp4")
    assert ended.code == 4
    assert ended.out.splitlines()[0] == "good.wav: 0:00:09, 1 chunk (not cut)"
    assert "mute.mp4: has no audio stream\n  choose a file with sound" in ended.err
    assert "missing.wav: no such file\n  check the name" in ended.err
    assert NOT_MEDIA in ended.err


@pytest.mark.parametrize(
    "model,code,message",
    [
        ("largest", 2, "no model 'largest': neither a folder here nor a known name"),
        (".", 3, "it lacks model.bin, config.json, tokenizer.json"),
        ("tiny", 3, "add --download to download it once from the hub (Systran/faster-whisper-tiny)"),
    ],
)
def test_a_missing_model_is_reported_before_anything_starts(
    workplace: Workplace, model: str, code: int, message: str
) -> None:
    speech.write_wav(workplace.folder / "night.wav", speech.silence(2))
    ended = workplace.transcribe("night.wav", "--model", model, env={"HF_HOME": str(workplace.folder / "hub")})
    assert ended.code == code
    assert message in ended.err
    assert not workplace.store.root.exists()
    assert not workplace.out.exists()


def test_two_files_of_one_name_for_one_folder_are_reported_before_anything_starts(workplace: Workplace) -> None:
    (workplace.folder / "sub").mkdir()
    speech.write_wav(workplace.folder / "night.wav", speech.silence(2))
    speech.write_wav(workplace.folder / "sub" / "night.mp3", speech.silence(3))
    ended = workplace.transcribe("sub/night.mp3", "sub/../night.mp3", *SMALL)
    assert ended.code == 2
    assert "sub/night.mp3 and sub/../night.mp3 would both write night.mp3.txt" in ended.err
    assert "rename one, transcribe them with different --output-dir, or give their folder: it is mirrored" in ended.err
    assert not workplace.store.root.exists()


# ---------------------------------------------------------------- files that change, disks that are full


@pytest.mark.parametrize(
    "change,summary,advice",
    [
        ("append", "changed while it was being read", "wait until it is complete, then run the command again"),
        ("remove", "cannot be found: No such file or directory", "restore it, then run the same command again"),
    ],
)
def test_a_file_that_changes_while_it_is_read_is_not_transcribed(
    workplace: Workplace, tape: speech.Tape, change: str, summary: str, advice: str
) -> None:
    here = workplace.meeting()
    file = speech.write_wav(workplace.folder / "live.wav", tape)
    running = workplace.start("transcribe", "-o", workplace.out, file, *CUT, crash=f"intake.audio.00000=hold:{here}")
    pipeline.until(here.exists, "the intake is held")
    if change == "append":
        with file.open("ab") as more:
            more.write(bytes(32_000))
    else:
        file.unlink()
    workplace.kill_all("controller.intake")
    ended = running.ended()
    assert ended.code == 5
    assert f"{file}: {summary}\n  {advice}\n" in ended.err
    assert workplace.results() == {}
    assert not workplace.out.exists()
    assert workplace.leftovers() == []


def test_outputs_that_cannot_be_written_keep_the_transcript_and_leave_nothing_half_written(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 1, 2)
    assert workplace.transcribe(file, *CUT).code == 0
    other = ("-o", workplace.folder / "other")
    in_the_way = workplace.folder / "other" / "talk.json"
    in_the_way.mkdir(parents=True)
    ended = workplace.run("transcribe", *other, file, *CUT)
    assert ended.code == 3
    assert "other/talk.json: cannot be written: Is a directory" in ended.err
    assert f"the transcript is in the store: stenofleet render {workplace.keys().run} -o FOLDER writes" in ended.err
    assert list(in_the_way.iterdir()) == []
    assert not [path for path in (workplace.folder / "other").iterdir() if path.name.startswith(".")]
    in_the_way.rmdir()
    assert workplace.run("transcribe", *other, file, *CUT).code == 0
    assert {path.name: path.read_bytes() for path in (workplace.folder / "other").iterdir()} == undisturbed.outputs


def test_a_full_disk_for_the_transcript_is_an_environment_problem_and_the_same_command_resumes(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 1, 2)
    ended = workplace.transcribe(file, *CUT, before=(*LIMITED, "8000"))
    assert ended.code == 3
    assert "cannot write a transcript to " in ended.err
    assert ": File too large\n  free space there or set TMPDIR to another folder" in ended.err
    assert "the same command resumes it" in ended.err
    assert workplace.outputs == {}
    assert workplace.leftovers() == []
    assert workplace.transcribe(file, *CUT).code == 0
    assert workplace.outputs == undisturbed.outputs


def test_a_full_disk_for_results_ends_soon_with_the_reason_and_advice(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = undisturbed.lay(workplace, 0, 1)
    ended = workplace.transcribe(file, *CUT, before=(*LIMITED, "6000"))
    assert ended.code == 3, ended.err
    assert ended.err.count("failed (STORE_FULL): no free space for work/") == 3
    assert ended.err.count("it is tried again for a while, until the cause of STORE_FULL is fixed") == 1
    assert "free space there or choose another --store" in ended.err
    assert "warning: report.html is not written: cannot write a page to " in ended.err.splitlines()[-1]
    assert workplace.outputs == {}
    assert workplace.transcribe(file, *CUT).code == 0
    assert workplace.outputs == undisturbed.outputs


@pytest.mark.parametrize("folder,code", [("talk.wav", 2), ("talk.wav/sub", 3)])
def test_an_invalid_output_folder_is_reported(
    workplace: Workplace, undisturbed: Undisturbed, folder: str, code: int
) -> None:
    file = undisturbed.lay(workplace, 0, 1, 2)
    ended = workplace.run("transcribe", "-o", folder, file, *CUT)
    assert ended.code == code
    assert f"{folder}" in ended.err
    assert workplace.store.stat(workplace.keys().marker("complete")) is None, "it is reported before any work"
    assert "choose another folder" in ended.err or "use a folder for --output-dir" in ended.err


def test_a_full_disk_for_the_chunks_is_an_environment_problem(workplace: Workplace, undisturbed: Undisturbed) -> None:
    file = workplace.media(undisturbed.lay(workplace, 0, 1, 2), "again.wav")
    ended = workplace.transcribe(file, *CUT, "--force", before=(*LIMITED, "20000"))
    assert ended.code == 3
    assert "chunk audio cannot be written to" in ended.err
    assert "free space there" in ended.err
    assert "this is a bug" not in ended.err


# ---------------------------------------------------------------- strange names

NAMES = (
    b"two words.wav",
    b"-f.wav",
    b"--model",
    b"new\nline.wav",
    b"concat:a|b.wav",
    b"pipe:0",
    b"http:host.wav",
    b'it\'s "quoted" $HOME `x`.wav',
    b"100%41 #1?.wav",
    "voz é 日本.wav".encode(),
    b"no extension",
)


def test_names_are_only_names(workplace: Workplace) -> None:
    speech.write_wav(workplace.folder / "a.wav", speech.silence(2, noise_db=-60))
    names = [*NAMES, b"latin \xe9.wav"]
    for name in names:
        os.link(workplace.folder / "a.wav", workplace.folder / os.fsdecode(name))
    ended = workplace.transcribe(*SMALL, "-f", "txt", "-0", "--", *names)
    assert ended.code == 0, ended.err
    written = sorted(os.listdir(os.fsencode(workplace.out)))
    assert written == sorted(os.fsencode(f"{Path(os.fsdecode(name)).stem}.txt") for name in names)
    assert sorted(path.rpartition(b"/")[2] for path in os.fsencode(ended.out).split(b"\0")[:-1]) == written


def test_a_name_as_long_as_names_can_be_is_only_a_name(workplace: Workplace) -> None:
    name = "語" * 80 + ".wav"
    speech.write_wav(workplace.folder / name, speech.silence(2, noise_db=-60))
    ended = workplace.transcribe(name, *SMALL)
    assert ended.code == 0, ended.err
    assert len(workplace.outputs) == 5


def test_a_list_by_nul_keeps_every_byte_of_a_name(workplace: Workplace) -> None:
    speech.write_wav(workplace.folder / "x.wav\r", speech.silence(2, noise_db=-60))
    ended = workplace.transcribe(*SMALL, "-f", "txt", "-", stdin=b"x.wav\r\0")
    assert ended.code == 0, ended.err


def test_the_reader_of_the_messages_may_exit(workplace: Workplace) -> None:
    speech.write_wav(workplace.folder / "x.wav", speech.silence(2, noise_db=-60))
    reading, writing = os.pipe()
    os.close(reading)
    try:
        # Both streams go to a pipe that no process reads.
        into = "import os, sys; [os.dup2(int(sys.argv[1]), n) for n in (1, 2)]; os.execv(sys.argv[2], sys.argv[2:])"
        before = (sys.executable, "-P", "-c", into, str(writing))
        ended = workplace.transcribe("x.wav", *SMALL, before=before, keep=(writing,))
    finally:
        os.close(writing)
    assert ended.code == 0
    assert len(workplace.outputs) == 5


def test_a_name_of_dots_stays_in_the_output_folder(workplace: Workplace) -> None:
    speech.write_wav(workplace.folder / "..wav", speech.silence(2, noise_db=-60))
    ended = workplace.transcribe("..wav", *SMALL, "-f", "txt")
    assert ended.code == 0, ended.err
    assert [path.name for path in workplace.out.iterdir()] == ["..wav.txt"]


def test_a_recording_is_never_overwritten_by_its_transcript(workplace: Workplace) -> None:
    media = speech.write_wav(workplace.folder / "talk.txt", speech.silence(2, noise_db=-60))
    before = media.read_bytes()
    ended = workplace.run("transcribe", "talk.txt", *SMALL, "-o", ".")
    assert ended.code == 2
    assert "talk.txt is one of the given files" in ended.err
    assert media.read_bytes() == before


def test_ffmpeg_gets_names_as_files(workplace: Workplace) -> None:
    """Names that would mean something else to ffmpeg: options, protocols, patterns, an end of a line, no Unicode."""
    speech.write_wav(workplace.folder / "a.wav", speech.silence(2, noise_db=-60))
    special = (b"-f.wav", b"concat:a|b.wav", b"pipe:0", b"100%41 #1?.wav", b"new\nline.wav")
    assert set(special) <= set(NAMES)
    names = [*special, b"latin \xe9.wav"]
    for name in names:
        os.link(workplace.folder / "a.wav", workplace.folder / os.fsdecode(name))
    ended = workplace.run("plan", "--json", "--", *names)
    assert ended.code == 0, ended.err
    plans = json.loads(ended.out)["recordings"]
    # JSON is Unicode: a byte that is not UTF-8 is written as an escape.
    assert sorted(plans) == sorted(name.decode(errors="backslashreplace") for name in names)
    assert {plan["duration_ms"] for plan in plans.values()} == {2000}
