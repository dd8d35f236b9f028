"""Features are computed ahead, once for each window, and are those of faster-whisper."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chunk_job.contract import SAMPLE_RATE
from chunk_job.engine import features
from chunk_job.engine.features import FRAMES, Features
from chunk_job.engine.timings import Timings
from chunk_job.engine.windows import Window
from controller import demo

AUDIO = np.random.default_rng(3).standard_normal(60 * SAMPLE_RATE, dtype=np.float32) / 10
WINDOWS = [Window(start=at * SAMPLE_RATE, end=(at + 3) * SAMPLE_RATE) for at in range(0, 60, 3)]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[Window]:
    """The windows whose features are computed, in the order of their beginning."""
    done: list[Window] = []
    real = Features._of

    def counted(self: Features, window: Window) -> Any:
        done.append(window)
        return real(self, window)

    monkeypatch.setattr(features.Features, "_of", counted)
    return done


def made(ahead: int, threads: int = 1) -> Features:
    return Features(demo.MODEL, AUDIO, WINDOWS, ahead=ahead, threads=threads, timings=Timings())


def test_features_are_those_of_the_library(computed: list[Window]) -> None:
    from faster_whisper.feature_extractor import FeatureExtractor

    batch = made(4).batch(WINDOWS[:2])
    assert (batch.shape, batch.dtype) == ((2, 80, FRAMES), np.float32)
    direct = FeatureExtractor()(AUDIO[: 3 * SAMPLE_RATE])
    assert np.array_equal(batch[0][:, : direct.shape[-1]], direct)
    assert not batch[0][:, direct.shape[-1] :].any()
    assert computed


@pytest.mark.parametrize("ahead,size", [(1, 4), (4, 4), (64, 4), (2, 20)])
def test_every_window_is_computed_once(computed: list[Window], ahead: int, size: int) -> None:
    stream = made(ahead)
    for at in range(0, len(WINDOWS), size):
        stream.batch(WINDOWS[at : at + size])
    assert computed == WINDOWS


def test_no_more_than_wanted_is_computed_ahead(computed: list[Window]) -> None:
    stream = made(3)
    stream.batch(WINDOWS[:2])
    stream.batch([WINDOWS[2]])
    stream.batch(WINDOWS[3:4])
    assert set(computed) <= set(WINDOWS[:7])


def test_other_windows_and_windows_once_more_are_computed_too(computed: list[Window]) -> None:
    stream = made(2)
    half = Window(start=0, end=SAMPLE_RATE)
    first = stream.batch([WINDOWS[0], half])
    again = stream.batch([WINDOWS[0], WINDOWS[1]])
    assert np.array_equal(first[0], again[0])
    assert computed.count(half) == 1


def test_threads_change_nothing() -> None:
    assert np.array_equal(made(20, threads=1).batch(WINDOWS), made(20, threads=4).batch(WINDOWS))


@pytest.mark.parametrize(
    "settings,bands",
    [('{"feature_size": 128}', 128), ('{"feature_size": "x"}', 80), ("[]", 80), ("no JSON", 80), (None, 80)],
)
def test_the_model_says_how_many_mel_bands_it_takes(tmp_path: Path, settings: str | None, bands: int) -> None:
    if settings is not None:
        (tmp_path / "preprocessor_config.json").write_text(settings)
    stream = Features(tmp_path, AUDIO, WINDOWS[:1], ahead=1, threads=1, timings=Timings())
    assert stream.batch(WINDOWS[:1]).shape == (1, bands, FRAMES)
