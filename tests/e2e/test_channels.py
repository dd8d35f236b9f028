"""A call with one person per channel: one transcript with both, and names that cost no second transcription."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests import speech
from tests.pipeline import SMALL, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]


@pytest.fixture(scope="module")
def people() -> tuple[speech.Tape, speech.Tape]:
    """Two people who speak at the same time most of the time."""
    return speech.tape(seconds=40, seed=5), speech.tape(seconds=40, seed=6)


@pytest.fixture
def call(workplace: Workplace, people: tuple[speech.Tape, speech.Tape]) -> Path:
    path = workplace.folder / "call.wav"
    soundfile.write(path, np.column_stack([tape.pcm for tape in people]), speech.RATE_HZ, subtype="PCM_16")
    return path


@pytest.mark.parametrize("cut", [(), ("--chunk-duration", "15", "--chunking-threshold", "0")], ids=["whole", "cut"])
def test_both_people_of_a_call_are_in_one_transcript(
    workplace: Workplace, call: Path, people: tuple[speech.Tape, speech.Tape], cut: tuple[str, ...]
) -> None:
    command = ("transcribe", call.name, "-o", str(workplace.out), *SMALL, *cut, "--channels", "split")
    ended = workplace.run(*command, "--speaker-names", "Anna, Ben")
    assert ended.code == 0, ended.err
    document = json.loads((workplace.out / "call.json").read_text())
    for channel, (name, tape) in enumerate(zip(("Anna", "Ben"), people, strict=True), 1):
        segments = [segment for segment in document["segments"] if segment["speaker"] == name]
        assert {segment["channel"] for segment in segments} == {channel}
        assert {word["speaker"] for segment in segments for word in segment["words"]} == {name}
        said = "".join(segment["text"] for segment in segments)
        assert speech.word_errors(tape.words, said).wer <= 0.08
    starts = [segment["start"] for segment in document["segments"]]
    assert starts == sorted(starts)
    lines = (workplace.out / "call.txt").read_text().splitlines()
    assert {line.partition(": ")[0] for line in lines} == {"Anna", "Ben"}
    assert "<v Ben>" in (workplace.out / "call.vtt").read_text()
    assert "\nAnna: " in (workplace.out / "call.srt").read_text()
    jobs = len(list(workplace.store.list("work/")))
    again = workplace.run(*command, "--speaker-names", "Eva,Ben")
    assert again.code == 0, again.err
    assert len(list(workplace.store.list("work/"))) == jobs
    assert "Eva: " in (workplace.out / "call.txt").read_text()
    render = workplace.run("render", workplace.out / "call.json", "-o", "other", "-f", "txt", "--speaker-names", "X,Y")
    assert render.code == 0, render.err
    assert {line[:3] for line in (workplace.folder / "other" / "call.txt").read_text().splitlines()} == {"X: ", "Y: "}


def test_one_channel_of_a_call_has_the_words_of_one_person(
    workplace: Workplace, call: Path, people: tuple[speech.Tape, speech.Tape]
) -> None:
    ended = workplace.run("transcribe", call.name, "-o", workplace.out, *SMALL, "-f", "txt", "--channels", "2")
    assert ended.code == 0, ended.err
    said = (workplace.out / "call.txt").read_text()
    assert speech.word_errors(people[1].words, said).wer <= 0.08
    assert "Speaker" not in said
    run = ended.err.partition("(run ")[2][:16]
    refused = workplace.run("render", run, "-o", "other", "--speaker-names", "Anna")
    assert (refused.code, "no speakers to name" in refused.err) == (2, True), refused.err


@pytest.mark.parametrize(
    "options,code,message",
    [
        (("--channels", "3"), 5, "audio track 0 has 2 channels, and no channel 3"),
        (("--channels", "left"), 2, "'left' is none of mix, split or a number from 1 to 1000"),
        (("--channels", "0"), 2, "'0' is none of mix, split or a number"),
        (("--speaker-names", "Anna,Ben"), 2, "with --channels mix, the speakers are not told apart"),
        (("--channels", "split", "--speaker-names", "Anna,,Ben"), 2, "name 2 of 3 is empty"),
        (("--channels", "split", "--speaker-names", ",".join("abcdefghi")), 2, "9 names: at most 8 channels"),
    ],
)
def test_channels_and_names_that_cannot_be_are_an_error(
    workplace: Workplace, call: Path, options: tuple[str, ...], code: int, message: str
) -> None:
    ended = workplace.run("transcribe", call.name, "-o", workplace.out, *SMALL, *options)
    assert (ended.code, message in ended.err) == (code, True), ended.err
    assert "Traceback" not in ended.err


def test_the_plan_checks_the_channels(workplace: Workplace, call: Path) -> None:
    ended = workplace.run("plan", call.name, "--channels", "split", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["recordings"][call.name]["channels"] == 2
    refused = workplace.run("plan", call.name, "--channels", "3")
    assert refused.code == 5
