"""A chunk's task follows from its run and its span; any other task is refused."""

from typing import Any

import pytest

from controller.domain import tasks
from controller.domain.keys import RunKeys
from controller.domain.plan import PlanOptions, longest_chunk_ms
from tests import fakes

RECORD = fakes.record()
TASK = tasks.chunk_task(RECORD, 3, audio_ms=10_000, pcm_sha256="0" * 64, direct=False)


def test_a_task_contains_the_keys_of_its_span() -> None:
    keys = RunKeys(fakes.RUN)
    assert (TASK.run, TASK.span, TASK.audio_ms) == (fakes.RUN, 3, 10_000)
    assert (TASK.audio_key, TASK.result_prefix) == (keys.audio(3), keys.results_of(3))
    assert (TASK.language_key, TASK.language_note_key) == (keys.language, keys.language_candidate(3))


def test_chunks_use_int8_and_a_single_chunk_uses_the_requested_type() -> None:
    direct = tasks.chunk_task(RECORD, 0, audio_ms=1, pcm_sha256="0" * 64, direct=True)
    assert (TASK.options.compute_type, direct.options.compute_type) == ("int8", "auto")
    assert (TASK.language_min_speech_ms, direct.language_min_speech_ms) == (3_000, 0)
    asked = fakes.record(compute_type="float16")
    assert tasks.chunk_task(asked, 0, audio_ms=1, pcm_sha256="0" * 64, direct=False).options == asked.options


def test_the_seed_follows_from_the_run_and_the_span() -> None:
    others = [
        tasks.chunk_task(RECORD, 4, audio_ms=10_000, pcm_sha256="0" * 64, direct=False),
        tasks.chunk_task(fakes.record("e" * 16), 3, audio_ms=10_000, pcm_sha256="0" * 64, direct=False),
    ]
    assert len({TASK.seed, *(other.seed for other in others)}) == 3


@pytest.mark.parametrize("direct", [True, False])
def test_a_task_that_an_intake_wrote_is_accepted(direct: bool) -> None:
    task = tasks.chunk_task(RECORD, 3, audio_ms=10_000, pcm_sha256="a" * 64, direct=direct)
    assert tasks.belongs(task, RECORD, 3)
    assert not tasks.belongs(task, RECORD, 4)
    assert not tasks.belongs(task, fakes.record(beam_size=1), 3)


def test_only_a_run_that_splits_channels_has_tasks_of_several() -> None:
    task = tasks.chunk_task(RECORD, 3, audio_ms=10_000, pcm_sha256="a" * 64, direct=False, channels=2)
    assert not tasks.belongs(task, RECORD, 3)
    split = RECORD.model_copy(update={"plan": PlanOptions(channels="split")})
    assert tasks.belongs(task, split, 3)
    assert tasks.belongs(task.model_copy(update={"channels": 1}), split, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"seed": 1},
        {"language_min_speech_ms": 1},
        {"audio_key": "work/x"},
        {"result_prefix": "work/x/"},
        {"language_key": "x"},
        {"language_note_key": "x"},
        {"options": RECORD.options.model_copy(update={"model": "/elsewhere"})},
        {"audio_ms": longest_chunk_ms(PlanOptions()) + 1},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_any_other_task_is_refused(changes: dict[str, Any]) -> None:
    assert not tasks.belongs(TASK.model_copy(update=changes), RECORD, 3)


def test_no_chunk_is_as_long_as_what_is_refused() -> None:
    options = PlanOptions(threshold_ms=0, chunk_ms=10_000)
    assert longest_chunk_ms(options) > 10_000 * 3 // 2 + 2 * (10_000 // 4 + 2_000)
    assert longest_chunk_ms(PlanOptions(threshold_ms=1 << 40)) == 1001 * 3_600_000
