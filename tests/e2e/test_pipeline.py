"""A recording gives the right words, at the right times, in every format."""

import io
import itertools
import json
import os
import statistics
import wave
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jiwer
import pysubs2
import pytest
import webvtt

from tests import pipeline, sounds, speech

pytestmark = [pytest.mark.process, pytest.mark.e2e]

Spoken = dict[str, speech.Tape]


def timed_words(document: Mapping[str, Any]) -> list[speech.TimedWord]:
    """The words of a transcript's JSON in milliseconds."""
    return [
        (word["word"], round(1000 * word["start"]), round(1000 * word["end"]))
        for segment in document["segments"]
        for word in segment["words"]
    ]


def shifts_ms(script: speech.Script, transcribed: Sequence[speech.TimedWord]) -> list[tuple[int, int]]:
    """For every word that was transcribed correctly: when it was spoken, and how much later it is in the transcript."""
    spoken = [word for utterance in script.utterances for word in utterance.word_times()]
    (pieces,) = jiwer.process_words(
        " ".join(word for word, _, _ in spoken),
        " ".join(" ".join(speech.normalise(word)) for word, _, _ in transcribed),
    ).alignments
    pairs = [
        (spoken[piece.ref_start_idx + i], transcribed[piece.hyp_start_idx + i])
        for piece in pieces
        if piece.type == "equal"
        for i in range(piece.ref_end_idx - piece.ref_start_idx)
    ]
    return [((a[1] + a[2]) // 2, (b[1] + b[2] - a[1] - a[2]) // 2) for a, b in pairs]


# ---------------------------------------------------------------- the reference recording, cut in three


@pytest.fixture(scope="module")
def document(undisturbed: pipeline.Undisturbed) -> dict[str, Any]:
    return undisturbed.workplace.document("talk")


@pytest.fixture(scope="module")
def by_stamps(undisturbed: pipeline.Undisturbed, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The same in sequential decoding: without time stamps, the demonstration model repeats some utterances."""
    workplace = pipeline.Workplace(tmp_path_factory.mktemp("by-stamps"))
    done = workplace.transcribe(workplace.media(undisturbed.media), *pipeline.CUT, "--batch-size", "0")
    assert done.code == 0, done.err
    return workplace.document("talk")


def test_the_words_are_right(tape: speech.Tape, document: dict[str, Any], by_stamps: dict[str, Any]) -> None:
    assert speech.word_errors(tape.words, by_stamps["text"]).wer <= 0.05
    assert speech.word_errors(tape.words, document["text"]).wer <= 0.2
    assert [chunk["cut"] for chunk in document["chunks"]] == ["pause", "pause", "end"]


def test_words_have_the_times_at_which_they_were_spoken(tape: speech.Tape, by_stamps: dict[str, Any]) -> None:
    shifts = shifts_ms(tape, timed_words(by_stamps))
    assert len(shifts) > 0.9 * len(tape.words)
    assert statistics.median(abs(shift) for _, shift in shifts) <= 300
    assert max(abs(shift) for _, shift in shifts) <= 700
    early, late = ([shift for at, shift in shifts if low <= at < low + 16_000] for low in (0, 48_000))
    assert abs(statistics.mean(early) - statistics.mean(late)) <= 100, "times drift from the first chunk to the last"


def test_no_word_is_lost_or_doubled_at_cuts_in_pauses(tape: speech.Tape, by_stamps: dict[str, Any]) -> None:
    cuts_ms = [round(1000 * chunk["end"]) for chunk in by_stamps["chunks"][:-1]]
    assert len(cuts_ms) == 2
    found = speech.seam_errors(tape.utterances, cuts_ms, timed_words(by_stamps))
    assert (found.lost, found.doubled) == ((), ())


def test_the_end_of_the_recording_is_transcribed(tape: speech.Tape, document: dict[str, Any]) -> None:
    assert tuple(speech.normalise(document["text"])[-4:]) == tape.words[-4:]


def test_every_format_is_written_and_named_on_stdout(undisturbed: pipeline.Undisturbed) -> None:
    assert sorted(undisturbed.outputs) == ["talk.json", "talk.srt", "talk.tsv", "talk.txt", "talk.vtt"]
    printed = (undisturbed.workplace.folder / "command1.out").read_text(encoding="utf-8").splitlines()
    assert sorted(printed) == [str(undisturbed.workplace.out / name) for name in sorted(undisturbed.outputs)]


def test_json_is_whispers(undisturbed: pipeline.Undisturbed, document: dict[str, Any]) -> None:
    assert isinstance(document["text"], str)
    assert document["language"] == "en"
    assert [segment["id"] for segment in document["segments"]] == list(range(len(document["segments"])))
    whispers = {
        *("id", "seek", "start", "end", "text", "tokens"),
        *("temperature", "avg_logprob", "compression_ratio", "no_speech_prob", "words"),
    }
    assert {frozenset(segment) for segment in document["segments"]} == {frozenset(whispers)}
    assert {frozenset(word) for segment in document["segments"] for word in segment["words"]} == {
        frozenset({"word", "start", "end", "probability"})
    }
    assert "".join(segment["text"] for segment in document["segments"]).strip() == document["text"]
    times = list(itertools.chain.from_iterable(word[1:] for word in timed_words(document)))
    assert times == sorted(times)
    assert (document["status"], document["success"], document["gaps"]) == ("complete", True, [])
    assert document["duration"] == 64.0


def test_subtitles_are_read_by_others(undisturbed: pipeline.Undisturbed, document: dict[str, Any]) -> None:
    texts = [" ".join(segment["text"].split()) for segment in document["segments"]]
    times = [(round(1000 * segment["start"]), round(1000 * segment["end"])) for segment in document["segments"]]
    srt = pysubs2.SSAFile.from_string(undisturbed.outputs["talk.srt"].decode(), format_="srt")
    assert [event.plaintext for event in srt] == texts
    assert [(event.start, event.end) for event in srt] == times
    vtt = webvtt.from_buffer(io.StringIO(undisturbed.outputs["talk.vtt"].decode())).captions
    assert [caption.text for caption in vtt] == texts
    assert [(cue.start, cue.end) for cue in vtt] == [(stamp(start), stamp(end)) for start, end in times]
    rows = [line.split("\t") for line in undisturbed.outputs["talk.tsv"].decode().splitlines()]
    assert rows == [
        ["start", "end", "text"],
        *([str(a), str(b), text] for (a, b), text in zip(times, texts, strict=True)),
    ]
    assert undisturbed.outputs["talk.txt"].decode().splitlines() == texts


def stamp(ms: int) -> str:
    return f"{ms // 3_600_000:02d}:{ms // 60_000 % 60:02d}:{ms // 1000 % 60:02d}.{ms % 1000:03d}"


def test_nothing_half_written_stays_after_a_good_run(undisturbed: pipeline.Undisturbed) -> None:
    assert undisturbed.workplace.leftovers() == []
    assert undisturbed.workplace.processes() == []


# ---------------------------------------------------------------- kinds of media, many files in one command


@pytest.fixture(scope="module")
def spoken() -> Spoken:
    """A few seconds each, all different, so that each is a run."""
    return {
        name: speech.tape(seconds=9, seed=20 + number, language="pt" if name == "pt" else "en")
        for number, name in enumerate(["en", "pt", "mp3", "ogg", "list"])
    }


def with_list(path: Path, tape: speech.Tape) -> Path:
    """A WAV file whose samples do not begin at byte 44: a LIST chunk is before them."""
    whole = io.BytesIO()
    with wave.open(whole, "wb") as file:
        file.setparams((1, 2, speech.RATE_HZ, 0, "NONE", ""))
        file.writeframes(tape.pcm.tobytes())
    plain = whole.getvalue()
    note = b"INFOINAM" + (20).to_bytes(4, "little") + b"a name, not a sound\0"
    extra = b"LIST" + len(note).to_bytes(4, "little") + note
    body = plain[12:36] + extra + plain[36:]
    path.write_bytes(b"RIFF" + (len(body) + 4).to_bytes(4, "little") + b"WAVE" + body)
    return path


def video(path: Path, spoken: Spoken) -> Path:
    """A video with an English and a Portuguese track."""
    english, portuguese = (speech.write_wav(path.with_name(f"{name}.track"), spoken[name]) for name in ("en", "pt"))
    picture = ["-f", "lavfi", "-i", "color=c=blue:s=64x48:r=5:d=9"]
    return speech.encode(
        english,
        path,
        *("-i", str(portuguese), *picture, "-map", "2:v", "-map", "0:a", "-map", "1:a"),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=por"),
        *("-c:v", "mpeg4", "-c:a", "aac", "-b:a", "64k", "-shortest"),
    )


def test_any_container_gives_its_words_and_equal_content_is_transcribed_once(
    workplace: pipeline.Workplace, spoken: Spoken
) -> None:
    files = {
        "video.mp4": video(workplace.folder / "video.mp4", spoken),
        "talk.mp3": speech.encode(spoken["mp3"], workplace.folder / "talk.mp3", "-b:a", "48k"),
        "radio.ogg": speech.encode(spoken["ogg"], workplace.folder / "radio.ogg", "-c:a", "libopus"),
        "list.wav": with_list(workplace.folder / "list.wav", spoken["list"]),
    }
    os.link(files["talk.mp3"], workplace.folder / "copy.mp3")
    stems = {"video": "en", "talk": "mp3", "copy": "mp3", "radio": "ogg", "list": "list"}
    ended = workplace.transcribe(*files.values(), workplace.folder / "copy.mp3", *pipeline.SMALL, "--json")
    assert ended.code == 0, ended.err
    printed = json.loads(ended.out)
    assert printed["exit_code"] == 0
    assert len(printed["runs"]) == len(workplace.results()) == 4
    assert sorted(path for run in printed["runs"] for path in run["files"]) == [
        str(workplace.out / name) for name in sorted(workplace.outputs)
    ]
    assert sorted(workplace.outputs) == sorted(
        f"{stem}.{ext}" for stem in stems for ext in ("txt", "srt", "vtt", "tsv", "json")
    )
    for stem, name in stems.items():
        assert speech.word_errors(spoken[name].words, workplace.document(stem)["text"]).wer <= 0.15, stem
        assert [chunk["cut"] for chunk in workplace.document(stem)["chunks"]] == ["end"], "the direct path is one chunk"
    assert workplace.outputs["talk.txt"] == workplace.outputs["copy.txt"]


def test_the_other_track_of_a_video_is_transcribed_in_its_own_language(
    workplace: pipeline.Workplace, spoken: Spoken
) -> None:
    file = video(workplace.folder / "film.mkv", spoken)
    ended = workplace.transcribe(file, *pipeline.SMALL[:-2], "--audio-track", "1")
    assert ended.code == 0, ended.err
    assert workplace.document("film")["language"] == "pt"
    assert workplace.document("film")["language_probability"] > 0.5
    assert speech.word_errors(spoken["pt"].words, workplace.document("film")["text"]).wer <= 0.15


@pytest.mark.parametrize("separator", ["\n", "\0"], ids=["line", "NUL"])
def test_a_list_of_names_is_read_from_stdin(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed, separator: str
) -> None:
    undisturbed.lay(workplace, 0, 1, 2)
    workplace.media(undisturbed.media, "other name.wav")
    names = separator.join(["talk.wav", "other name.wav", "talk.wav", ""])
    ended = workplace.transcribe("-", *pipeline.CUT, stdin=names.encode())
    assert ended.code == 0, ended.err
    assert sorted({path.stem for path in ended.paths}) == ["other name", "talk"]
    assert {name: data for name, data in workplace.outputs.items() if name.startswith("talk.")} == undisturbed.outputs


def test_portuguese_is_what_portuguese_is_called(workplace: pipeline.Workplace, spoken: Spoken) -> None:
    file = speech.write_wav(workplace.folder / "fala.wav", spoken["pt"])
    ended = workplace.transcribe(file, *pipeline.SMALL[:-2], "--language", "Portuguese", "-f", "txt,json")
    assert ended.code == 0, ended.err
    assert sorted(workplace.outputs) == ["fala.json", "fala.txt"]
    assert workplace.document("fala")["options"]["language"] == workplace.document("fala")["language"] == "pt"
    assert speech.word_errors(spoken["pt"].words, workplace.document("fala")["text"]).wer <= 0.15


def test_silence_gives_valid_and_empty_files(workplace: pipeline.Workplace) -> None:
    file = speech.write_wav(workplace.folder / "night.wav", speech.silence(25, noise_db=-60))
    ended = workplace.transcribe(file, *pipeline.CUT)
    assert ended.code == 0, ended.err
    document = workplace.document("night")
    assert (document["text"], document["segments"], document["status"]) == ("", [], "complete")
    assert (document["language"], document["duration"]) == (None, 25.0)
    assert {chunk["quality"] for chunk in document["chunks"]} == {"silent"}
    assert (workplace.outputs["night.txt"], workplace.outputs["night.srt"]) == (b"", b"")
    assert (workplace.outputs["night.vtt"], workplace.outputs["night.tsv"]) == (b"WEBVTT\n", b"start\tend\ttext\n")
    assert webvtt.from_buffer(io.StringIO(workplace.outputs["night.vtt"].decode())).captions == []
    assert document["warnings"] == []
    assert "warning" not in ended.err


def test_a_recording_with_sound_and_no_words_gives_a_warning_everywhere(workplace: pipeline.Workplace) -> None:
    file = speech.write_wav(workplace.folder / "concert.wav", sounds.chords(25))
    ended = workplace.transcribe(file, *pipeline.CUT)
    assert ended.code == 0, ended.err
    (warning,) = workplace.document("concert")["warnings"]
    assert warning.startswith("no words were found, though the recording has sound: listen to it; with --vad-filter")
    assert f"concert.wav: warning: {warning}\n" in ended.err
    (run,) = json.loads(workplace.run("transcribe", "-o", workplace.out, file, *pipeline.CUT, "--json").out)["runs"]
    assert run["warnings"] == [warning]
    report = workplace.store.get(workplace.keys().report, max_bytes=1 << 20)
    assert json.loads(report)["warnings"] == [warning]


def test_chunks_are_transcribed_while_the_file_is_still_being_cut(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed
) -> None:
    here = workplace.meeting()
    file = workplace.media(undisturbed.media)
    running = workplace.start(
        "transcribe", "-o", workplace.out, file, *pipeline.CUT, crash=f"intake.task.00001=hold:{here}"
    )
    pipeline.until(here.exists, "the intake has put the second task")
    pipeline.until(workplace.results, "the first chunk is done, with the intake standing still")
    assert workplace.store.stat(workplace.keys().plan) is None
    running.kill()
    workplace.quiet()
    ended = workplace.run("resume", workplace.keys().run)
    assert ended.code == 0, ended.err
    assert workplace.outputs == undisturbed.outputs
