"""The planner: properties of the spans of any audio, and the choice of the pause."""

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.domain.dry_run import CutQuality
from controller.domain.plan import FLOOR_DB, HOP_MS, Cut, PlanOptions, Span, is_direct
from controller.intake.planner import Planner

SPEECH_DB = -20.0
SILENCE_DB = -60.0
MINUTE_MS = 60_000


def cut(
    levels: Sequence[float],
    options: PlanOptions,
    *,
    duration_ms: int | None = None,
    direct: bool = False,
    block: int = 1000,
    rest_ms: int = 0,
) -> list[Span]:
    """All spans of these levels, fed in blocks; the header may state any length."""
    planner = Planner(options, duration_ms=duration_ms, direct=direct)
    spans = [span for at in range(0, len(levels), block) for span in planner.feed(levels[at : at + block])]
    return [*spans, planner.finish(len(levels) * HOP_MS - rest_ms)]


def talk(length_ms: int, seed: int = 1, *, pauses: bool = True) -> list[float]:
    """Levels like those of speech: syllables, and pauses on request."""
    chance = random.Random(seed)
    levels: list[float] = []
    while len(levels) * HOP_MS < length_ms:
        levels += [SPEECH_DB + chance.uniform(-8, 4) for _ in range(chance.randint(20, 200))]
        if pauses:
            levels += [SILENCE_DB + chance.uniform(-1, 1) for _ in range(chance.randint(2, 60))]
    return levels[: length_ms // HOP_MS]


def without_pauses(length_ms: int, *holes: tuple[int, int, float]) -> list[float]:
    """A syllable every 160 ms without pauses, except for *holes*: from ms, to ms, level."""
    chance = random.Random(7)
    syllable = [0.0] * 5 + [-12.0] * 3
    levels = [SPEECH_DB + syllable[hop % 8] + chance.uniform(-1, 1) for hop in range(length_ms // HOP_MS)]
    for start, end, level in holes:
        levels[start // HOP_MS : end // HOP_MS] = [level] * ((end - start) // HOP_MS)
    return levels


def first_cut(levels: Sequence[float], **options: Any) -> tuple[int, Cut]:
    """The end of the first chunk of 40 s, with a window of ±10 s, and the kind of cut."""
    span = cut(levels, PlanOptions(threshold_ms=0, **{"chunk_ms": 40_000, "window_ms": 10_000, **options}))[0]
    return span.end_ms, span.cut


def is_paused_at(expected_ms: int, levels: Sequence[float]) -> bool:
    found_ms, why = first_cut(levels)
    return why == "pause" and abs(found_ms - expected_ms) <= HOP_MS


wild_options = st.builds(
    PlanOptions,
    threshold_ms=st.sampled_from([0, 30_000]),
    chunk_ms=st.integers(10_000, 60_000),
    window_ms=st.integers(HOP_MS, 30_000),
    pause_ms=st.integers(HOP_MS, 1000),
    dip_ms=st.integers(HOP_MS, 1000),
    pad_ms=st.integers(0, 2000),
)


@st.composite
def recordings(draw: st.DrawFn) -> list[float]:
    """Speech, speech without pauses, noise or silence, up to four minutes."""
    length_ms = draw(st.integers(1, 240)) * 1000
    seed = draw(st.integers(0, 1000))
    kind = draw(st.sampled_from(["talk", "without_pauses", "noise", "silence", "steps"]))
    if kind == "silence":
        return [FLOOR_DB] * (length_ms // HOP_MS)
    if kind == "noise":
        chance = random.Random(seed)
        return [chance.uniform(FLOOR_DB, 0) for _ in range(length_ms // HOP_MS)]
    if kind == "steps":
        steps = draw(st.lists(st.tuples(st.integers(1, 400), st.sampled_from([FLOOR_DB, -40.0, -10.0])), min_size=1))
        return [level for count, level in steps for _ in range(count)]
    return talk(length_ms, seed, pauses=kind == "talk")


# ---------------------------------------------------------------- for any audio


@settings(max_examples=150)
@given(
    levels=recordings(),
    options=wild_options,
    header=st.none() | st.floats(0.5, 3.0),
    direct=st.booleans(),
    rest_ms=st.integers(0, HOP_MS - 1),
)
def test_spans_are_contiguous_and_lose_nothing(
    levels: list[float], options: PlanOptions, header: float | None, direct: bool, rest_ms: int
) -> None:
    stated_ms = None if header is None else round(len(levels) * HOP_MS * header)
    # A header far shorter than a chunk is tested separately.
    spans = cut(levels, options, duration_ms=stated_ms, direct=direct, rest_ms=rest_ms)
    assert [span.index for span in spans] == list(range(len(spans)))
    assert spans[0].start_ms == spans[0].audio_start_ms == 0
    assert all(left.end_ms == right.start_ms for left, right in itertools.pairwise(spans))
    assert all(span.start_ms < span.end_ms for span in spans)
    assert spans[-1].end_ms == spans[-1].audio_end_ms == len(levels) * HOP_MS - rest_ms
    assert [span.cut == "end" for span in spans] == [False] * (len(spans) - 1) + [True]
    assert all(span.end_ms % HOP_MS == 0 for span in spans[:-1])


@given(levels=recordings(), options=wild_options)
def test_only_forced_cuts_are_padded_and_on_both_sides(levels: list[float], options: PlanOptions) -> None:
    spans = cut(levels, options)
    pad_ms = options.pad_ms // HOP_MS * HOP_MS
    for left, right in itertools.pairwise(spans):
        beyond = pad_ms if left.cut == "forced" else 0
        assert (left.audio_end_ms, right.audio_start_ms) == (left.end_ms + beyond, left.end_ms - beyond)
    assert all(span.audio_start_ms >= 0 and span.audio_end_ms <= len(levels) * HOP_MS for span in spans)


@given(levels=recordings(), options=wild_options, header=st.none() | st.floats(0.5, 3.0))
def test_a_cut_stays_within_its_window_of_an_absolute_grid(
    levels: list[float], options: PlanOptions, header: float | None
) -> None:
    stated_ms = None if header is None else round(len(levels) * HOP_MS * header)
    header_ms = stated_ms if stated_ms and stated_ms >= options.chunk_ms else None
    parts = max(1, round(header_ms / options.chunk_ms)) if header_ms else 1
    length_ms = header_ms or options.chunk_ms
    reach_ms = min(options.window_ms, length_ms // parts // 4)
    for number, span in enumerate(cut(levels, options, duration_ms=stated_ms)[:-1], 1):
        assert abs(span.end_ms - number * length_ms / parts) <= reach_ms + HOP_MS


@pytest.mark.parametrize("header_ms", [1, 10, 2000, 700_000])
def test_a_header_shorter_than_a_chunk_is_not_believed(header_ms: int) -> None:
    spans = cut([-20.0, -40.0] * 45_000, PlanOptions(threshold_ms=0), duration_ms=header_ms)
    assert [round(span.end_ms, -5) for span in spans] == [700_000, 1_400_000, 1_800_000]


@given(
    levels=recordings(),
    options=wild_options,
    block=st.sampled_from([1, 2, 7, 50, 1234, 10**6]),
    direct=st.booleans(),
)
def test_blocks_of_any_size_give_the_same_spans(
    levels: list[float], options: PlanOptions, block: int, direct: bool
) -> None:
    assert cut(levels, options, direct=direct, block=block) == cut(levels, options, direct=direct)


@settings(max_examples=30)
@given(levels=recordings(), options=wild_options, block=st.sampled_from([1, 40, 333]), direct=st.booleans())
def test_memory_is_bounded_and_audio_is_requested_before_it_is_dropped(
    levels: list[float], options: PlanOptions, block: int, direct: bool
) -> None:
    planner = Planner(options, duration_ms=None, direct=direct)
    window = 2 * min(options.window_ms, options.chunk_ms // 4) + options.pad_ms
    decided, needed = 0, 0
    for at in range(0, len(levels), block):
        for span in planner.feed(levels[at : at + block]):
            assert span.end_ms >= decided
            padding = span.audio_end_ms - span.end_ms
            assert span.end_ms - padding >= needed
        assert len(planner._kept) * HOP_MS <= window + block * HOP_MS
        assert planner.decided_ms >= decided
        assert planner.needed_from_ms >= needed
        decided, needed = planner.decided_ms, planner.needed_from_ms


# ---------------------------------------------------------------- how many


def test_eighty_four_minutes_are_seven_spans() -> None:
    spans = cut(talk(84 * MINUTE_MS), PlanOptions(), duration_ms=84 * MINUTE_MS)
    assert len(spans) == 7
    assert all(span.cut == "pause" for span in spans[:-1])
    assert [round(span.end_ms / MINUTE_MS) for span in spans] == [12, 24, 36, 48, 60, 72, 84]


def test_the_grid_divides_the_length_that_is_known() -> None:
    ends = [span.end_ms for span in cut(talk(45 * MINUTE_MS), PlanOptions(), duration_ms=45 * MINUTE_MS)]
    assert len(ends) == 4
    assert all(abs(end - quarter * 675_000) <= 30_000 for quarter, end in enumerate(ends, 1))


def test_the_grid_of_an_unknown_length_is_the_requested_chunk_length() -> None:
    ends = [span.end_ms for span in cut(talk(50 * MINUTE_MS), PlanOptions())]
    assert len(ends) == 5
    assert all(abs(end - number * 720_000) <= 30_000 for number, end in enumerate(ends[:-1], 1))


def test_a_cut_that_moved_does_not_move_the_cuts_after_it() -> None:
    options = PlanOptions(threshold_ms=0, chunk_ms=40_000, window_ms=10_000)
    early = without_pauses(
        160_000, (31_000, 32_000, SILENCE_DB), (80_000, 81_000, SILENCE_DB), (120_000, 121_000, SILENCE_DB)
    )
    assert [span.end_ms for span in cut(early, options)[:3]] == pytest.approx([31_500, 80_500, 120_500], abs=HOP_MS)


@pytest.mark.parametrize(
    "duration_ms,size_bytes,direct",
    [
        (2_399_999, 499_999_999, True),
        (2_400_000, 1, False),
        (1, 500_000_000, False),
        (None, 1, False),
        (0, 1, True),
        (84 * MINUTE_MS, 10**9, False),
    ],
)
def test_short_and_small_and_known_to_be_so_is_direct(duration_ms: int | None, size_bytes: int, direct: bool) -> None:
    assert is_direct(PlanOptions(), duration_ms=duration_ms, size_bytes=size_bytes) is direct


def test_a_threshold_of_zero_always_cuts() -> None:
    assert not is_direct(PlanOptions(threshold_ms=0), duration_ms=0, size_bytes=0)
    assert not is_direct(PlanOptions(threshold_bytes=0), duration_ms=1, size_bytes=0)


def test_direct_media_are_one_span_in_their_own_length() -> None:
    spans = cut(talk(39 * MINUTE_MS), PlanOptions(), duration_ms=39 * MINUTE_MS, direct=True, rest_ms=3)
    assert [(span.start_ms, span.end_ms, span.cut) for span in spans] == [(0, 39 * MINUTE_MS - 3, "end")]


@pytest.mark.parametrize(
    "stated_ms,direct,spans",
    [
        pytest.param(MINUTE_MS, True, 6, id="one minute, and is direct: cut when it goes on past the threshold"),
        pytest.param(0, True, 6, id="nothing, and is direct"),
        pytest.param(0, False, 8, id="nothing: as if it were unknown"),
        pytest.param(45 * MINUTE_MS, False, 8, id="too short: the grid goes on"),
        pytest.param(500 * MINUTE_MS, False, 8, id="too long"),
    ],
)
def test_a_wrong_header_loses_nothing(stated_ms: int, direct: bool, spans: int) -> None:
    found = cut(talk(90 * MINUTE_MS), PlanOptions(), duration_ms=stated_ms, direct=direct)
    assert len(found) == spans
    assert found[-1].end_ms == 90 * MINUTE_MS
    assert max(span.end_ms - span.start_ms for span in found) <= (41 if direct else 13) * MINUTE_MS


def test_a_recording_that_ends_at_a_cut_gives_no_empty_span() -> None:
    options = PlanOptions(threshold_ms=0, chunk_ms=10_000, window_ms=2500)
    for hops in range(9_000 // HOP_MS, 15_000 // HOP_MS):
        spans = cut([FLOOR_DB] * hops, options, block=1)
        assert all(span.start_ms < span.end_ms for span in spans)
        assert spans[-1].end_ms == hops * HOP_MS


# ---------------------------------------------------------------- which pause


def test_a_pause_is_cut_in_its_middle() -> None:
    assert is_paused_at(36_400, without_pauses(60_000, (36_000, 36_800, SILENCE_DB)))


def test_a_pause_is_chosen_over_a_quieter_dip() -> None:
    levels = without_pauses(60_000, (40_000, 40_200, FLOOR_DB), (45_000, 45_600, -50.0))
    assert is_paused_at(45_300, levels)


@pytest.mark.parametrize(
    "holes,expected_ms",
    [
        pytest.param([(33_000, 33_400), (45_000, 45_700)], 45_340, id="the longer one, although farther"),
        pytest.param([(38_000, 39_000), (45_000, 46_600)], 38_500, id="beyond 0.8 s length counts no more"),
        pytest.param([(33_600, 34_240), (41_600, 42_240)], 41_920, id="of equals the nearer one"),
        pytest.param([(38_400, 39_040), (46_400, 47_040)], 38_720, id="of equals the nearer one, before the grid"),
        pytest.param([(20_000, 22_000), (45_000, 45_400)], 45_200, id="none outside the window"),
    ],
)
def test_the_best_pause_is_taken(holes: list[tuple[int, int]], expected_ms: int) -> None:
    levels = without_pauses(60_000, *((start, end, SILENCE_DB) for start, end in holes))
    assert is_paused_at(expected_ms, levels)


@pytest.mark.parametrize("noise_db", [-32.0, -45.0, -70.0])
def test_pauses_in_steady_noise_are_found(noise_db: float) -> None:
    chance = random.Random(3)
    levels = [SPEECH_DB + chance.uniform(-2, 2) for _ in range(3000)]
    for start in range(100, 2900, 150):
        levels[start : start + 30] = [noise_db + chance.uniform(-1, 1) for _ in range(30)]
    end_ms, why = first_cut(levels)
    assert why == "pause"
    assert (end_ms // HOP_MS - 100) % 150 in range(10, 21)


def test_a_click_does_not_split_a_pause() -> None:
    levels = without_pauses(60_000, (41_000, 41_400, -32.0), (41_200, 41_220, -27.0))
    assert is_paused_at(41_200, levels)


@pytest.mark.parametrize(
    "length_ms,why", [(40, "forced"), (60, "forced"), (180, "tight"), (200, "tight"), (400, "pause")]
)
def test_without_a_pause_the_quietest_moment_is_cut_and_its_length_says_how(length_ms: int, why: str) -> None:
    end_ms, found = first_cut(without_pauses(60_000, (37_000, 37_000 + length_ms, SILENCE_DB)))
    assert found == why
    assert 37_000 <= end_ms <= 37_000 + length_ms


def test_a_pause_shorter_than_the_options_require_is_ignored() -> None:
    levels = without_pauses(60_000, (37_000, 37_500, SILENCE_DB))
    assert first_cut(levels)[1] == "pause"
    assert first_cut(levels, pause_ms=600)[1] == "tight"
    assert first_cut(levels, pause_ms=600, dip_ms=600)[1] == "forced"


def test_ongoing_speech_is_cut_near_the_grid_with_two_seconds_for_both_sides() -> None:
    levels = without_pauses(100_000)
    first, second = cut(levels, PlanOptions(threshold_ms=0, chunk_ms=40_000, window_ms=10_000))[:2]
    assert first.cut == "forced"
    assert first.audio_end_ms - first.end_ms == second.start_ms - second.audio_start_ms == 2000


def test_without_padding_neighbours_do_not_overlap() -> None:
    first, second = cut(without_pauses(100_000), PlanOptions(threshold_ms=0, chunk_ms=40_000, pad_ms=0))[:2]
    assert first.cut == "forced"
    assert first.audio_end_ms == first.end_ms == second.audio_start_ms


def test_the_dip_near_the_grid_is_cut_unless_another_is_quieter() -> None:
    near, far = (40_000, 40_160), (31_000, 31_160)
    assert 40_000 <= first_cut(without_pauses(60_000, (*near, -40.0), (*far, -40.5)))[0] <= 40_160
    assert 31_000 <= first_cut(without_pauses(60_000, (*near, -40.0), (*far, -43.0)))[0] <= 31_160


@pytest.mark.parametrize("level", [FLOOR_DB, -45.0, 0.0])
def test_constant_audio_is_cut_on_the_grid(level: float) -> None:
    assert first_cut([level] * 3000) == (40_000, "pause")


# ---------------------------------------------------------------- how good a cut is


def first_quality(levels: Sequence[float]) -> tuple[Cut, CutQuality]:
    """The kind and the quality of the first cut of :func:`first_cut`."""
    planner = Planner(
        PlanOptions(threshold_ms=0, chunk_ms=40_000, window_ms=10_000), duration_ms=len(levels) * HOP_MS, direct=False
    )
    for at in range(0, len(levels), 50):
        for span in planner.feed(levels[at : at + 50]):
            return span.cut, planner.quality(span.index)
    raise AssertionError("no cut")


@pytest.mark.parametrize("length_ms", [400, 1000, 3000])
def test_the_quality_of_a_pause_is_its_length_and_how_quiet_it_is(length_ms: int) -> None:
    kind, quality = first_quality(without_pauses(120_000, (40_000, 40_000 + length_ms, SILENCE_DB)))
    assert kind == "pause"
    # Levels are means of three neighbours, and the first and the last ones are partly speech.
    assert quality.pause_ms == pytest.approx(length_ms, abs=5 * HOP_MS)
    assert quality.below_speech_db == pytest.approx(SPEECH_DB - SILENCE_DB, abs=3)


def test_a_cut_in_speech_is_hardly_quieter_than_speech() -> None:
    kind, quality = first_quality(without_pauses(120_000))
    assert kind == "forced"
    assert quality.pause_ms < 200
    assert quality.below_speech_db < 15
