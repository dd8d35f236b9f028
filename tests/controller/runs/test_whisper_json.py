"""The JSON of Whisper and its relatives: what is read, and what is refused."""

import io
import json

import pytest

from chunk_job.errors import DocumentInvalid
from controller.runs.stored_transcript import rendered
from controller.runs.transcript_files import TranscriptFiles
from controller.runs.whisper_json import rendered_whisper
from controller.transcript.model import Transcript


def read(document: object) -> TranscriptFiles:
    return rendered_whisper(io.BytesIO(json.dumps(document).encode()))


def transcript(document: object) -> Transcript:
    """What is known of *document*, through the json that is made of it."""
    return Transcript.decode(own_json(document))


def own_json(document: object) -> bytes:
    # The files are removed with the object.
    files = read(document)
    return files.path("json").read_bytes()


def segment(start: float, end: float, text: str, **more: object) -> dict[str, object]:
    return {"start": start, "end": end, "text": text, **more}


def word(text: str, start: float, end: float, **more: object) -> dict[str, object]:
    return {"word": text, "start": start, "end": end, **more}


def test_words_are_kept_inside_their_segment() -> None:
    words = [word(" Good", 0.9, 1.4, probability=0.5), word(" morning.", 1.2, 9.0)]
    found = transcript({"segments": [segment(1, 2, " Good morning.", words=words)], "language": "english"})
    assert [(one["word"], one["start_ms"], one["end_ms"]) for one in found.segments[0].words] == [
        (" Good", 1000, 1400),
        (" morning.", 1200, 2000),
    ]
    assert (found.language, found.duration_ms) == ("en", 2000)


@pytest.mark.parametrize(
    "words",
    [
        None,
        [],
        [{"word": " Good"}],
        [word(" Good", 0, 1)],
        "Good",
        [word(" Good", 0, 1), word(" night.", 1, 2)],
        [word(" Good", 0, 1), word(" morning.", 1, 2, probability=1e9)],
    ],
)
def test_words_that_are_not_complete_are_left_out(words: object) -> None:
    found = transcript({"segments": [segment(1, 2, " Good morning.", words=words)]})
    assert found.segments[0].words == ()
    assert found.segments[0].text == " Good morning."


def test_segments_are_put_in_order_and_an_end_is_not_before_its_start() -> None:
    found = transcript({"segments": [segment(5, 4, " b"), segment(1, 7, " a")]})
    assert [(one.id, one.start_ms, one.end_ms, one.text) for one in found.segments] == [
        (0, 1000, 7000, " a"),
        (1, 5000, 5000, " b"),
    ]


def test_a_recording_without_speech_has_no_lines() -> None:
    files = read({"text": "", "segments": [], "language": "xx"})
    assert files.path("txt").read_text(encoding="utf-8") == ""


def test_control_characters_are_removed() -> None:
    assert transcript({"segments": [segment(0, 1, " a\x1b[2Jb")]}).text == "a[2Jb"


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"text": "a"},
        {"segments": {}},
        {"segments": [1]},
        {"segments": [segment(-1, 1, "a")]},
        {"segments": [segment(0, 1e300, "a")]},
        {"segments": [segment(0, float("nan"), "a")]},
        {"segments": [], "schema": "stenofleet.transcript/1"},
        {"segments": [{"start": 0, "end": 1, "text": 5}]},
    ],
)
def test_anything_else_is_refused(document: object) -> None:
    with pytest.raises(DocumentInvalid):
        read(document)


@pytest.mark.parametrize("data", [b"", b"\xff", b"[" * 100_000, b"9" * 10_000])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(DocumentInvalid):
        rendered_whisper(io.BytesIO(data))


def test_a_transcript_of_stenofleet_is_not_read_as_one_of_whisper() -> None:
    own = own_json({"segments": [segment(0, 1, " a")]})
    files = rendered(io.BytesIO(own))
    assert files.path("txt").read_text(encoding="utf-8") == "a\n"
    with pytest.raises(DocumentInvalid):
        rendered_whisper(io.BytesIO(own))


def test_speakers_of_whisperx_are_kept() -> None:
    words = [word(" Hi.", 0, 1, speaker="SPEAKER_00"), word(" Bye.", 1, 2, speaker="SPEAKER_01")]
    found = transcript({"segments": [segment(0, 2, " Hi. Bye.", words=words, speaker="SPEAKER_00")]})
    assert found.segments[0].speaker == "SPEAKER_00"
    assert [word["speaker"] for word in found.segments[0].words] == ["SPEAKER_00", "SPEAKER_01"]
    for speaker in (None, 7, "", "  ", "a\u202eb", "x" * 300):
        assert transcript({"segments": [segment(0, 2, " Hi.", speaker=speaker)]}).segments[0].speaker is None
