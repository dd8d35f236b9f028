"""Parts of a recording: only their words, at the times of the whole recording; and the length that is chosen."""

import json

import pytest

from controller import demo
from controller.domain.documents import Report
from controller.domain.plan import Plan
from controller.transcript.formats import FORMATS
from tests import clicks, speech
from tests.pipeline import SMALL, Undisturbed, Workplace, until

pytestmark = [pytest.mark.process, pytest.mark.e2e]


def between(tape: speech.Tape, number: int) -> int:
    """The middle of the pause before an utterance."""
    return (tape.utterances[number - 1].end_ms + tape.utterances[number].start_ms) // 2


def seconds(*times_ms: int) -> str:
    return ",".join(f"{time_ms / 1000:.3f}" for time_ms in times_ms)


def test_only_the_words_of_the_clips_are_transcribed_at_their_times_in_the_recording(
    workplace: Workplace, undisturbed: Undisturbed, tape: speech.Tape
) -> None:
    last = len(tape.utterances) - 3
    times = [between(tape, 3), between(tape, 7), between(tape, last)]
    ended = workplace.transcribe(workplace.media(undisturbed.media), *SMALL, "--clip-timestamps", seconds(*times))
    assert ended.code == 0, ended.err
    document = workplace.document("talk")
    spoken = [word for utterance in (*tape.utterances[3:7], *tape.utterances[last:]) for word in utterance.words]
    assert speech.word_errors(spoken, document["text"]).wer <= 0.1
    end = document["duration"]
    inside = [(times[0] / 1000, times[1] / 1000), (times[2] / 1000, end)]
    words = [word for segment in document["segments"] for word in segment["words"]]
    for word in words:
        assert any(a <= word["start"] <= word["end"] <= b for a, b in inside), word
    assert {next(i for i, (a, b) in enumerate(inside) if a <= word["start"] <= b) for word in words} == {0, 1}
    assert [(chunk["start"], chunk["end"]) for chunk in document["chunks"]] == inside
    assert (document["gaps"], document["status"], len(workplace.results())) == ([], "complete", 2)
    assert document["clips"] == [{"start": inside[0][0], "end": inside[0][1]}, {"start": inside[1][0], "end": None}]
    rendered = workplace.run("render", workplace.out / "talk.json", "-o", workplace.folder / "again")
    assert rendered.code == 0, rendered.err
    assert {f"talk.{name}": (workplace.folder / "again" / f"talk.{name}").read_bytes() for name in FORMATS} == (
        workplace.outputs
    )


def test_a_run_of_clips_is_found_again_and_is_not_that_of_the_whole_recording(
    workplace: Workplace, undisturbed: Undisturbed
) -> None:
    file = workplace.media(undisturbed.media)
    for clips in ("0,5", "0,3,3,5.0"):
        assert workplace.transcribe(file, *SMALL, "--clip-timestamps", clips).code == 0
    keys = workplace.keys()
    part = workplace.outputs
    assert workplace.transcribe(file, *SMALL).code == 0
    assert workplace.document("talk")["duration"] > 60
    assert workplace.outputs != part
    assert len(list((workplace.store.root / "runs").iterdir())) == 2
    plan = Plan.decode(workplace.store.get(keys.plan))
    assert [(span.start_ms, span.end_ms) for span in plan.spans] == [(0, 5000)]


def test_a_clip_behind_the_end_is_bad_input_with_both_times(workplace: Workplace, undisturbed: Undisturbed) -> None:
    ended = workplace.transcribe(workplace.media(undisturbed.media), *SMALL, "--clip-timestamps", "1,2,100,101")
    assert (ended.code, workplace.outputs) == (5, {})
    assert "before the clip that starts at 100.000 s" in ended.err
    assert "correct --clip-timestamps" in ended.err


def test_the_length_chosen_for_the_first_command_is_kept(workplace: Workplace) -> None:
    talk = workplace.folder / "talk.wav"
    clicks.write(talk, clicks.clicks(16_000, seconds=800, every_s=200), 16_000)
    model = ("--model", str(demo.MODEL), "--threads", "1", "--language", "en", "--device", "cpu")
    auto = ("--chunk-duration", "auto", "--chunking-threshold", "0", *model)
    # Killed when the intake has put the second task: its cuts are those for four jobs.
    here = workplace.meeting()
    crash = f"intake.task.00001=hold:{here}"
    started = workplace.start("transcribe", "-o", workplace.out, talk, *auto, "--max-parallel", "4", crash=crash)
    until(here.exists, "two chunks are cut")
    started.kill()
    workplace.quiet()
    keys = workplace.keys()
    assert len(list(workplace.store.list(keys.tasks))) == 2
    ended = workplace.transcribe(talk, *auto, "--max-parallel", "1")
    assert ended.code == 0, ended.err
    plan = Plan.decode(workplace.store.get(keys.plan))
    assert plan.chosen
    assert plan.chosen.reason.startswith("4 chunks of 200 s, 4 at once: at 2 times real time and 3 s beside it")
    # Each cut is in a pause at most 30 s from its place.
    assert [span.end_ms for span in plan.spans] == pytest.approx([200_000, 400_000, 600_000, 800_000], abs=30_000)
    assert plan.chosen.reason in ended.err
    report = Report.decode(workplace.store.get(keys.report))
    assert report.chunk_length == plan.chosen.reason
    assert json.loads(workplace.run("status", keys.run, "--json").out)["useful_share"] == report.useful_share
