"""The shipped sample and model match the description of the demonstration."""

import json

import numpy as np
import pytest

from chunk_job.names import MODEL_FILES
from chunk_job.stored_type import specification, variables
from controller import demo
from controller.cli.demo import _CHUNK_MS, _KILLED, _word_error_rate
from controller.domain.plan import PlanOptions
from controller.intake.source import inspect
from tests import speech
from tests.dry_runs import plan_only

MEGABYTE = 1 << 20


def test_the_model_is_whole_and_small() -> None:
    assert all((demo.MODEL / name).is_file() for name in MODEL_FILES)
    assert sum(file.stat().st_size for file in demo.MODEL.iterdir()) < 4 * MEGABYTE
    assert json.loads((demo.MODEL / "config.json").read_bytes())


def test_all_processors_can_add_its_products() -> None:
    """Without VNNI, two products of 8-bit numbers are added in 16 bits, each with an input of at most 255."""
    largest = []
    with (demo.MODEL / "model.bin").open("rb") as file:
        specification(file)
        for variable in variables(file):
            data = file.read(variable.size_bytes)
            if variable.kind == "int8" and variable.shape:
                largest.append(int(np.abs(np.frombuffer(data, np.int8).astype(np.int32)).max()))
    assert len(largest) > 20
    assert 2 * 255 * max(largest) < 1 << 15


def test_the_sample_contains_only_words_the_model_knows() -> None:
    words = speech.normalise(demo.SAMPLE_TEXT.read_text(encoding="utf-8"))
    vocabulary = json.loads((demo.MODEL / "vocabulary.json").read_bytes())
    known = {word.strip("Ġ ").lower() for word in vocabulary}
    assert len(words) > 200
    assert set(words) <= known


@pytest.mark.process
def test_the_sample_is_three_minutes_in_five_chunks_of_which_the_killed_is_one() -> None:
    plan = plan_only(inspect(demo.SAMPLE), PlanOptions(threshold_ms=0, chunk_ms=_CHUNK_MS), audio_track=None)
    assert 170_000 < plan.duration_ms < 200_000
    assert len(plan.spans) == 5
    assert {span.cut for span in plan.spans[:-1]} == {"pause"}
    assert _KILLED == "chunk.transcribed.00001.a1"


@pytest.mark.parametrize(
    "spoken,transcribed,rate",
    [
        ("one two three", "One, two\nthree.\n", 0.0),
        ("one two three four", "one two three", 0.25),
        ("one", "one one one", 2.0),
        ("one two", "", 1.0),
    ],
)
def test_the_word_error_rate_is_of_words_alone(spoken: str, transcribed: str, rate: float) -> None:
    assert _word_error_rate(spoken, transcribed) == rate
