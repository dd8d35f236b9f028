"""What becomes of windows that are decoded again, with a decoder that says what the test tells it."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np
import pytest

from chunk_job.contract import SAMPLE_RATE, TranscribeOptions
from chunk_job.engine.checks import Decoding
from chunk_job.engine.complete import WindowsOfAChunk
from chunk_job.engine.features import Features
from chunk_job.engine.prepare import Prepared
from chunk_job.engine.segments import SpokenWindow, segments_of
from chunk_job.engine.speech import Speech
from chunk_job.engine.timings import Timings
from chunk_job.engine.window_state import WindowState
from chunk_job.engine.windows import Window
from chunk_job.engine.words import TimedWord
from chunk_job.segment import DecodedWindow
from controller import demo

Said = tuple[str, float, float]
"""A text, and the seconds from the start of its window at which it begins and ends."""
Script = Callable[[float, bool], Said | None]
"""From the start of a window in seconds, and whether it is tried again, to its text; None: it has too many tokens."""


class Scripted:
    """A decoder whose windows have the texts of a script. Batches of more than *memory* windows do not fit."""

    temperatures = len(TranscribeOptions(model="m").temperature)

    def __init__(self, script: Script, *, batch: int, memory: int, doubtful: bool) -> None:
        self.batch_size, self._memory = batch, memory
        self._script, self._doubtful = script, doubtful
        self.decoded: list[tuple[float, bool]] = []

    def decode(self, states: Sequence[WindowState], *, skip: int = 0) -> None:
        while min(len(states), self.batch_size) > self._memory:
            self.batch_size = (self.batch_size + 1) // 2
        for state in states:
            self._decode(state, again=bool(skip))

    def _decode(self, state: WindowState, *, again: bool) -> None:
        start_s = state.window.start / SAMPLE_RATE
        self.decoded.append((start_s, again))
        said = self._script(start_s, again)
        decoding = made(said[0] if said else "")
        state.tries.append(decoding.as_try("" if said else "token_limit"))
        if said:
            state.decoding = decoding
            state.words = spread(said, state.window)
            state.doubtful = self._doubtful


def made(text: str) -> Decoding:
    return Decoding(
        tokens=(),
        text=text,
        temperature=0.0,
        avg_logprob=-0.1,
        compression_ratio=1.0,
        no_speech_prob=0.0,
        at_limit=False,
    )


def spread(said: Said, window: Window) -> tuple[TimedWord, ...]:
    """The words of a text, evenly from its begin to its end."""
    text, begin_s, end_s = said
    words = text.split()
    step = (end_s - begin_s) / max(1, len(words))
    start = window.start / SAMPLE_RATE + begin_s
    return tuple(
        TimedWord(
            text=f" {word}",
            tokens=(1,),
            start_ms=round(1000 * (start + number * step)),
            end_ms=round(1000 * (start + (number + 1) * step)),
            probability=1.0,
        )
        for number, word in enumerate(words)
    )


def decoded(
    script: Script,
    *windows_s: tuple[float, float],
    batch: int = 8,
    memory: int = 99,
    doubtful: bool = False,
    spoken: tuple[tuple[float, float], ...] | None = None,
) -> tuple[str, tuple[DecodedWindow, ...], Scripted]:
    """The text of windows (in seconds) with speech in all of them, or where it is *spoken*; checked as a result is."""
    samples = round(max(end for _, end in windows_s) * SAMPLE_RATE)
    spans = tuple((round(a * SAMPLE_RATE), round(b * SAMPLE_RATE)) for a, b in (spoken or windows_s))
    speech = Speech(spans=spans, samples=samples, skipped_from=2 * SAMPLE_RATE)
    audio = np.zeros(speech.samples, np.float32)
    features = Features(demo.MODEL, audio, (), ahead=1, threads=1, timings=Timings())
    prepared = Prepared(audio=audio, speech=speech, windows=(), features=features, is_left_out=False)
    decoder = Scripted(script, batch=batch, memory=memory, doubtful=doubtful)
    windows = [Window(start=round(a * SAMPLE_RATE), end=round(b * SAMPLE_RATE)) for a, b in windows_s]
    found, records = WindowsOfAChunk(decoder, prepared, lambda _: None).decode(windows)
    check(found)
    return "".join(word.text for one in found for word in one.words).strip(), tuple(records), decoder


def check(found: Sequence[SpokenWindow]) -> None:
    """No word may start before the one before it: the controller refuses segments out of order."""
    starts = [word.start_ms for window in found for word in window.words]
    assert starts == sorted(starts)
    segments = segments_of(found, language="en")
    assert all(one.start_ms <= two.start_ms for one, two in pairwise(segments))


def test_the_rest_of_a_text_that_ended_early_follows_it() -> None:
    texts = {0.0: ("one two three", 0, 9), 9.0: ("four five six seven", 0, 11)}
    text, records, _ = decoded(lambda start, _: texts[start], (0, 20))
    assert text == "one two three four five six seven"
    assert [(one.start_ms, one.end_ms, one.incomplete, one.outcome) for one in records] == [
        (0, 20_000, True, "text"),
        (9_000, 20_000, False, "text"),
    ]


def test_words_after_a_gap_are_replaced_by_more_words() -> None:
    def script(start: float, _: bool) -> Said:
        return ("one two three", 0, 20) if start == 0 else ("more words than three", 0, 10)

    state = WindowState(window=Window(start=0, end=20 * SAMPLE_RATE), words=spread(("a b c", 0, 3), window_of(20)))
    state.cut_before = 1
    rest = WindowState(window=Window(start=SAMPLE_RATE, end=20 * SAMPLE_RATE))
    rest.words = spread(("d e f", 0, 3), rest.window)
    state.complete_with([rest])
    assert (state.text, state.cut_before, rest.unused) == (" a", 1, False)
    assert decoded(script, (0, 20))[0] == "one two three"


def window_of(seconds: float) -> Window:
    return Window(start=0, end=round(seconds * SAMPLE_RATE))


@pytest.mark.parametrize("case", ["fewer", "doubtful", "the same"])
def test_a_rest_that_is_not_better_is_not_used_and_recorded(case: str) -> None:
    state = WindowState(window=window_of(20), words=spread(("a b c d", 0, 4), window_of(20)), cut_before=2)
    rest = WindowState(window=window_of(20), decoding=made("x"), doubtful=case == "doubtful")
    rest.words = spread(({"fewer": "x y", "doubtful": "x y z", "the same": "q a b"}[case], 0, 3), rest.window)
    if case == "the same":
        state.words = spread(("q a b d", 0, 4), window_of(20))
        state.cut_before = 3
    state.complete_with([rest])
    assert (len(state.words), state.cut_before) == (4, None)
    assert (rest.words, rest.record().outcome) == ((), "unused")


def test_there_is_an_end_to_rests() -> None:
    """Each text ends after a second and a half, in sixty seconds of speech."""
    numbers = iter(range(1000))
    text, records, decoder = decoded(lambda *_: (f"word{next(numbers)} again", 0, 1.5), (0, 28))
    assert len(decoder.decoded) == len(records) == 4
    assert len(text.split()) == 8


def test_a_doubtful_window_has_no_rest() -> None:
    assert len(decoded(lambda *_: ("what", 0, 1), (0, 28), doubtful=True)[1]) == 1


def test_a_completed_window_that_began_like_the_one_before_is_not_decoded_once_more() -> None:
    phrase = "thanks for watching this video"

    def script(start: float, again: bool) -> Said:
        if start == 0:
            return (phrase, 0, 19.5)
        if start == 20:
            return ("now we begin this is the second part of it", 0, 19.5) if again else (phrase, 0, 4)
        return ("this is the second part of it", 0, 15.5)

    text, records, decoder = decoded(script, (0, 20), (20, 40))
    assert text == f"{phrase} {phrase} this is the second part of it"
    assert [one.outcome for one in records] == ["text", "text", "text"]
    assert not any(again for _, again in decoder.decoded)


def test_a_repetition_is_decoded_again_and_the_other_text_used() -> None:
    def script(start: float, again: bool) -> Said:
        return ("something else is said here", 0, 19) if again else ("thanks for watching", 0, 19)

    text, records, _ = decoded(script, (0, 20), (20, 40))
    assert text == "thanks for watching something else is said here"
    assert [one.failed for one in records[1].tries] == ["repeats_previous", ""]


def test_parts_are_all_decoded_when_the_batch_shrinks_on_the_way() -> None:
    whole: set[float] = set()

    def script(start: float, _: bool) -> Said | None:
        if start % 20 == 0 and start not in whole:
            whole.add(start)
            return None
        return (f"word{start:.0f} and more", 0, 4.5)

    windows = [(at, at + 20.0) for at in range(0, 160, 20)]
    _, records, decoder = decoded(script, *windows, batch=8, memory=3)
    assert decoder.batch_size == 2
    assert all(one.tries for one in records)
    assert {one.outcome for one in records} <= {"split", "text"}


def test_repetitions_are_all_decoded_again_when_the_batch_shrinks_on_the_way() -> None:
    windows = [(at, at + 10.0) for at in range(0, 170, 10)]
    _, records, decoder = decoded(lambda *_: ("the same old words", 0, 9.5), *windows, batch=8, memory=3)
    assert [one.outcome for one in records] == ["text", *["doubtful"] * 16]
    assert sum(again for _, again in decoder.decoded) == 16
