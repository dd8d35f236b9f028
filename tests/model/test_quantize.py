"""A real Whisper with converted weights says the same."""

from pathlib import Path

import pytest

from chunk_job.engine.convert import convert
from chunk_job.stored_type import stored_type
from tests.chunks import transcribe
from tests.speech import tape

pytestmark = pytest.mark.model


def test_weights_that_were_converted_once_give_the_words_of_weights_that_each_load_converts(
    base: Path, tmp_path: Path
) -> None:
    assert stored_type(base) == "float16"
    manifest = convert(str(base), tmp_path / "int8", quantization="int8", device="cpu")
    assert manifest.quantization == "int8"
    pcm = tape(seconds=20, seed=5).pcm
    converted = transcribe(pcm, tmp_path / "int8", tmp_path / "a")
    assert converted.text == transcribe(pcm, base, tmp_path / "b").text
    assert converted.result.engine.stored_type == "int8"
    assert (tmp_path / "int8" / "model.bin").stat().st_size < 0.6 * (base / "model.bin").stat().st_size
