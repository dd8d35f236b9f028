"""What is read of each kind of file, and what is said of files that are something else."""

import json
from pathlib import Path

import pytest

from controller.domain.plan import Plan
from controller.evaluation.normalize import NotComparable
from controller.evaluation.read import read_text
from controller.transcript.formats import FORMATS
from controller.transcript.merge import merge
from tests import fakes

RECORD = fakes.record()
PLAN: Plan = fakes.plan(10_000, 20_000)
WORDS = ((" one", 1_000, 1_400), (" two", 1_500, 1_900))


def put(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def words(path: Path) -> list[tuple[str, int, int | None, str | None]]:
    return [(word.text, word.line, word.start_ms, word.speaker) for word in read_text(path).words]


def test_a_transcript_of_stenofleet_in_each_format(tmp_path: Path) -> None:
    task = fakes.task(RECORD, 0)
    results = [fakes.result(task, fakes.segment(*WORDS)).model_copy(update={"audio_ms": 12_000})]
    transcript = merge(PLAN, RECORD, results)
    segments = tuple(one.model_copy(update={"speaker": "Ann"}) for one in transcript.segments)
    transcript = transcript.model_copy(update={"segments": segments})
    found = read_text(put(tmp_path, "a.json", FORMATS["json"](transcript)))
    assert (found.language, found.chunks, found.has_speakers) == ("en", transcript.chunks, True)
    assert words(tmp_path / "a.json") == [("one", 0, 1_000, "Ann"), ("two", 0, 1_500, "Ann")]
    # The same with other white space.
    put(tmp_path, "b.json", json.dumps(json.loads((tmp_path / "a.json").read_bytes()), indent=1))
    assert read_text(tmp_path / "b.json") == found
    plain = transcript.model_copy(
        update={"segments": tuple(one.model_copy(update={"speaker": None}) for one in segments)}
    )
    for kind in ("srt", "vtt", "txt"):
        text = FORMATS[kind](plain)
        assert "[no transcript from" in text
        assert [text for text, *_ in words(put(tmp_path, f"a.{kind}", text))] == ["one", "two"]


def test_a_line_has_its_number_in_the_file_and_words_beside_a_gap_are_kept(tmp_path: Path) -> None:
    gap = "[no transcript from 00:00:05 to 00:00:07]"
    text = f"\n\nOne {gap} two\n{gap}\n\nthree\x0cfour\u2028five"
    assert [(word, line) for word, line, *_ in words(put(tmp_path, "a.txt", text))] == [
        ("One", 2),
        ("two", 2),
        ("three", 5),
        ("four", 5),
        ("five", 5),
    ]
    cues = f"1\n00:00:01,000 --> 00:00:05,000\n{gap}\n\n2\n00:00:07,000 --> 00:00:09,000\nsix {gap}\n"
    assert [(word, line) for word, line, *_ in words(put(tmp_path, "a.srt", cues))] == [("six", 1)]


def test_json_of_whisper_and_files_of_other_programs(tmp_path: Path) -> None:
    whisper = {"text": " a b", "segments": [{"start": 0, "end": 2, "text": " a b"}], "language": "de"}
    found = read_text(put(tmp_path, "a.json", json.dumps(whisper)))
    assert (found.language, found.chunks) == ("de", ())
    assert words(tmp_path / "a.json") == [("a", 0, 0, None), ("b", 0, 1_500, None)]
    assert words(put(tmp_path, "a.txt", "One two.\r\n\r\nThree".encode("utf-16"))) == [
        ("One", 0, None, None),
        ("two.", 0, None, None),
        ("Three", 2, None, None),
    ]
    assert [text for text, *_ in words(put(tmp_path, "a.srt", "1\n0:01,0 --> 0:02,0\n<i>One</i>\ntwo\n"))] == [
        "One",
        "two",
    ]
    assert words(put(tmp_path, "empty.txt", "")) == []


@pytest.mark.parametrize(
    "name,content,why",
    [
        ("a.json", b"{", "document: "),
        ("a.json", b'{"schema": "stenofleet.plan/1"}', "Transcript: "),
        ("a.txt", b"ok\nnot \xff", "line 2: is not UTF-8"),
        ("a.srt", b"no cue", "is not a cue"),
        ("a.vtt", b"WEBVTT\n\n1:99x --> 2\nhello", "has no valid times"),
    ],
)
def test_other_files_are_refused_with_the_reason(tmp_path: Path, name: str, content: bytes, why: str) -> None:
    with pytest.raises(NotComparable, match=why):
        read_text(put(tmp_path, name, content))
    with pytest.raises(NotComparable, match="it cannot be read: No such file"):
        read_text(tmp_path / "missing.txt")
    with pytest.raises(NotComparable, match="it cannot be read: not a regular file"):
        read_text(Path("/dev/null").with_name("zero"))
