"""Segments of batches read like sentences, their words have the right times, and cuts cost no words."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest

from controller.domain.plan import Plan
from controller.transcript.model import Transcript
from tests.chunks import Done, transcribe, words_of
from tests.readings import read_aloud, times_off_ms
from tests.speech import Tape, seam_errors, write_wav

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

LONGEST_MS, PAUSE_MS = 12_000, 800
SENTENCE_ENDS, CLAUSE_ENDS = (".", "?", "!", "…"), (",", ";", ":", "—")


@pytest.fixture(scope="module")
def said() -> Tape:
    return read_aloud("en", lines=slice(0, 22), turn=2)


@pytest.fixture(scope="module")
def done(said: Tape, base: Path, tmp_path_factory: pytest.TempPathFactory) -> Done:
    return transcribe(said.pcm, base, tmp_path_factory.mktemp("done"), language="en", batch_size=8)


def test_a_segment_ends_with_a_sentence_or_at_a_pause(done: Done) -> None:
    segments = done.result.segments
    assert len(segments) >= 15
    for segment, following in itertools.pairwise(segments):
        is_pause = following.start_ms - segment.end_ms >= PAUSE_MS
        is_long = following.end_ms - segment.start_ms > LONGEST_MS
        assert segment.text.endswith(SENTENCE_ENDS) or is_pause or is_long, (segment.text, following.text)


def test_no_segment_is_longer_than_twelve_seconds_where_a_clause_ends(done: Done) -> None:
    for segment in done.result.segments:
        if segment.end_ms - segment.start_ms > LONGEST_MS:
            assert not any(word["word"].endswith(CLAUSE_ENDS) for word in segment.words[:-1]), segment.text


def test_a_segment_is_its_words(done: Done) -> None:
    for segment in done.result.segments:
        assert segment.text == "".join(word["word"] for word in segment.words)
        assert (segment.start_ms, segment.end_ms) == (segment.words[0]["start_ms"], segment.words[-1]["end_ms"])


def test_times_of_words_increase_and_are_those_of_the_speech(said: Tape, done: Done) -> None:
    for word, following in itertools.pairwise(done.words):
        assert word[1] <= word[2] <= following[1]
    off_ms = sorted(map(abs, times_off_ms(said, done.words)))
    assert len(off_ms) > 0.9 * len(said.words)
    assert off_ms[len(off_ms) // 2] < 150
    assert off_ms[len(off_ms) * 95 // 100] < 500
    assert off_ms[-1] < 1_000


def test_cuts_in_pauses_cost_no_words(said: Tape, done: Done, base: Path, tmp_path: Path) -> None:
    media = write_wav(tmp_path / "story.wav", said)
    command = [sys.executable, "-P", "-m", "controller", "transcribe", media, "--model", base, "--language", "en"]
    command += ["--chunking-threshold", "0", "--chunk-duration", "30", "--threads", "1", "--max-parallel", "1"]
    command += ["--store", (tmp_path / "store").as_uri(), "-o", tmp_path / "out", "-q"]
    subprocess.run([str(part) for part in command], check=True, stdin=subprocess.DEVNULL)
    (output,) = (tmp_path / "out").glob("*.json")
    cut = Transcript.decode(output.read_bytes())
    (path,) = (tmp_path / "store").glob("runs/*/plan.json")
    cuts = [span.end_ms for span in Plan.decode(path.read_bytes()).spans[:-1]]
    assert len(cuts) >= 3
    found, before = (
        seam_errors(said.utterances, cuts, words) for words in (words_of(cut.segments), words_of(done.result.segments))
    )
    assert len(found.lost) + len(found.doubled) <= len(before.lost) + len(before.doubled), (found, before)
