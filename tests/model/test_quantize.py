"""A real Whisper with converted weights says the same."""

from pathlib import Path

import pytest

from chunk_job.engine.convert import convert
from chunk_job.stored_type import stored_type
from tests.chunks import transcribe
from tests.readings import read_aloud
from tests.speech import normalise, word_errors

pytestmark = pytest.mark.model


def test_weights_that_were_converted_once_give_the_words_of_weights_that_each_load_converts(
    base: Path, tmp_path: Path
) -> None:
    assert stored_type(base) == "float16"
    manifest = convert(str(base), tmp_path / "int8", quantization="int8", device="cpu")
    assert manifest.quantization == "int8"
    said = read_aloud("en", lines=slice(0, 6))
    converted = transcribe(said.pcm, tmp_path / "int8", tmp_path / "a")
    loaded = transcribe(said.pcm, base, tmp_path / "b")
    # Loading rounds some weights another way, which may decide a word between two: one of these seventy or so.
    assert word_errors(normalise(converted.text), loaded.text).wer <= 0.02
    assert word_errors(said.words, loaded.text).wer < 0.1
    assert converted.result.engine.stored_type == "int8"
    assert (tmp_path / "int8" / "model.bin").stat().st_size < 0.6 * (base / "model.bin").stat().st_size
