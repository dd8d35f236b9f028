"""Windows decoded in batches give as few word errors as windows decoded one after the other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from controller import demo
from controller.demo.recipe.corpus import Language
from tests import sounds
from tests.chunks import transcribe
from tests.readings import compared, read_aloud
from tests.speech import Pcm, Tape, tape

pytestmark = [pytest.mark.model, pytest.mark.timeout(900)]

BATCH = 8
POINTS = 0.3
"""Percentage points that the batches may have more errors, over all recordings of a test."""

# Portuguese of espeak-ng with noise of 12 dB is beyond base: four of five words are wrong, in any mode.
NOISE_DB: dict[Language, float] = {"en": 12, "pt": 24}


def noisy(pcm: Pcm, under_db: float) -> Pcm:
    return sounds.mixed(pcm, np.random.default_rng(1).standard_normal(len(pcm)), under_db=under_db)


def texts(pcm: Pcm, model: Path, folder: Path, **options: Any) -> tuple[str, str]:
    """The transcripts of sequential decoding and of batches."""
    sequential = transcribe(pcm, model, folder, batch_size="sequential", **options)
    batched = transcribe(pcm, model, folder, batch_size=BATCH, **options)
    # A short recording has fewer windows than fit into a batch.
    assert sequential.result.engine.batch_size == 0 < batched.result.engine.batch_size <= BATCH
    return sequential.text, batched.text


def check(recordings: list[tuple[Tape, Pcm]], model: Path, folder: Path) -> None:
    """Compare both ways on all recordings together, and print what was found (``pytest -rP`` shows it).

    A misheard word more or less is chance, and 0.3 points are three words of a thousand. So the test fails if the 95 %
    interval of the difference lies above the bar: for a thousand words from about two points on. It shows a decoder
    that skips sentences (batches with time-stamp tokens had seven points more); finer differences are for
    ``bench/batches.py``.
    """
    made = [(said, *texts(pcm, model, folder, language=said.language)) for said, pcm in recordings]
    for one in made:
        print(compared([one]))
    whole = compared(made)
    print(whole)
    assert whole.low <= POINTS, whole


@pytest.mark.parametrize("language", ["en", "pt"])
def test_a_story_by_whisper_base_clean_and_with_noise(language: Language, base: Path, tmp_path: Path) -> None:
    said = read_aloud(language, lines=slice(0, 30))
    check([(said, said.pcm), (said, noisy(said.pcm, NOISE_DB[language]))], base, tmp_path)


def test_a_telephone_and_music_under_the_speech_by_whisper_base(base: Path, tmp_path: Path) -> None:
    said, rng = read_aloud("en", lines=slice(40, None), turn=1), np.random.default_rng(1)
    check([(said, sounds.telephone(said.pcm, rng)), (said, sounds.music(said.pcm, rng))], base, tmp_path)


def test_five_of_a_hundred_words_of_the_demonstration_model_may_be_wrong(tmp_path: Path) -> None:
    for language in ("en", "pt"):
        # Twenty minutes: the model repeats some sentences without time stamps, so errors come in groups.
        tapes = [tape(seconds=240, seed=seed, language=language) for seed in range(31, 36)]
        found = compared([(said, *texts(said.pcm, demo.MODEL, tmp_path, language=language)) for said in tapes])
        print(found)
        assert max(found.before, found.after) <= 5, found
