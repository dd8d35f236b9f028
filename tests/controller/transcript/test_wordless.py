"""Parts with sound and without words: which of them give a warning."""

from typing import Any

import pytest

from controller.domain.plan import Span, Stretch
from controller.transcript.merge import merge
from controller.transcript.wordless import Wordless
from tests import fakes

MINUTE_MS = 60_000
END_MS = 60 * MINUTE_MS


def minutes(*parts: tuple[float, float]) -> list[Stretch]:
    return [Stretch(start_ms=int(start * MINUTE_MS), end_ms=int(end * MINUTE_MS)) for start, end in parts]


def lost(start: float, end: float) -> Span:
    times: dict[str, Any] = {"start_ms": int(start * MINUTE_MS), "end_ms": int(end * MINUTE_MS)}
    return Span(index=0, audio_start_ms=times["start_ms"], audio_end_ms=times["end_ms"], cut="pause", **times)


def wordless(*words: float, offset_ms: int = 0) -> Wordless:
    """The parts without words of a transcript with a word of half a second at each of these minutes."""
    found = Wordless()
    for minute in words:
        start_ms = int(minute * MINUTE_MS) + offset_ms
        found.add([fakes.segment((" word", start_ms, start_ms + 500))], offset_ms)
    return found


EVERYWHERE = minutes((0, 60))


@pytest.mark.parametrize(
    "words, sound, expected",
    [
        ([0, 4, 8, 12], minutes((0, 13)), []),
        ([0, 6, *range(7, 60)], EVERYWHERE, [(500, 6 * MINUTE_MS)]),
        ([0, 4.9, *range(5, 60)], EVERYWHERE, []),
        ([*range(60), 59.5], EVERYWHERE, []),
        ([6, *range(7, 60)], EVERYWHERE, [(0, 6 * MINUTE_MS)]),
        (list(range(50)), EVERYWHERE, [(49 * MINUTE_MS + 500, END_MS)]),
        # A pause without sound, with little sound, and with sound in half of it.
        ([0, 10, *range(11, 60)], minutes((0, 1), (10, 60)), []),
        ([0, 10, *range(11, 60)], minutes((0, 2.4), (10, 60)), []),
        ([0, 10, *range(11, 60)], minutes((0, 2), (4, 5), (10, 60)), [(500, 10 * MINUTE_MS)]),
        # No words at all: a second of sound is enough.
        ([], minutes((0, 0.02)), [(0, END_MS)]),
        ([], minutes((0, 0.01)), []),
        ([], [], []),
    ],
)
@pytest.mark.parametrize("offset_ms", [0, 480])
def test_parts_with_sound_and_no_words(
    words: list[float], sound: list[Stretch], expected: list[tuple[int, int]], offset_ms: int
) -> None:
    assert list(wordless(*words, offset_ms=offset_ms).with_sound(sound, [], END_MS)) == expected


def test_a_gap_of_lost_chunks_is_not_said_twice() -> None:
    found = wordless(0, *range(10, 60))
    assert list(found.with_sound(EVERYWHERE, [lost(0, 8)], END_MS)) == []
    found = wordless(0, *range(10, 60))
    assert list(found.with_sound(EVERYWHERE, [lost(0, 4)], END_MS)) == [(500, 10 * MINUTE_MS)]


def test_segments_without_text_are_no_words() -> None:
    found = Wordless()
    found.add([fakes.segment((" ", 0, 500))], 0)
    assert not found.has_words


def merged_warnings(*, sound: list[Stretch] | None, words: bool = True, vad_filter: bool = True) -> tuple[str, ...]:
    """The warnings of a transcript of twenty minutes with words in its first and last minute, or with none."""
    record = fakes.record(vad_filter=vad_filter)
    plan = fakes.plan(10 * MINUTE_MS, 20 * MINUTE_MS).model_copy(update={"sound": sound and tuple(sound)})
    first = [fakes.segment((" one", 1000, 1500))] if words else []
    last = [fakes.segment((" two", 9 * MINUTE_MS, 9 * MINUTE_MS + 500))] if words else []
    results = [
        fakes.result(fakes.task(record, span, 10 * MINUTE_MS), *segments) for span, segments in enumerate((first, last))
    ]
    return merge(plan, record, results).warnings


def test_the_transcript_has_a_warning() -> None:
    (warning,) = merged_warnings(sound=minutes((0, 20)))
    assert warning == (
        "no words were found in 0:01-19:00, though there is sound: listen to it there; with --vad-filter False, all"
        " sound is transcribed, also what speech detection leaves out"
    )
    (warning,) = merged_warnings(sound=minutes((0, 20)), words=False, vad_filter=False)
    assert warning == "no words were found, though the recording has sound: listen to it"
    assert merged_warnings(sound=minutes((0, 1), (19, 20))) == ()


def test_a_plan_of_an_older_version_gives_the_transcript_that_it_gave() -> None:
    assert merged_warnings(sound=None) == ()
    assert merged_warnings(sound=None, words=False) == ()
