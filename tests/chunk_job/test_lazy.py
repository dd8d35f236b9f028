"""An unused library costs no start time; a used one is loaded."""

import subprocess
import sys
import wave
from pathlib import Path

import pytest

from chunk_job import lazy

MODULE = "colorsys"


@pytest.fixture
def unloaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, MODULE, raising=False)
    # Changes of a test are undone.
    monkeypatch.setitem(sys.modules, MODULE, None)
    del sys.modules[MODULE]


@pytest.fixture
def second(tmp_path: Path) -> Path:
    """A second of silence."""
    path = tmp_path / "second.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 16_000, "NONE", ""))
        file.writeframes(bytes(32_000))
    return path


@pytest.mark.usefixtures("unloaded")
def test_a_deferred_module_loads_when_it_is_used() -> None:
    lazy.defer(MODULE)
    bound = __import__(MODULE)
    assert "rgb_to_hsv" not in vars(bound)
    assert bound.rgb_to_hsv(0, 0, 0) == (0.0, 0.0, 0)
    assert bound.hsv_to_rgb is __import__(MODULE).hsv_to_rgb
    assert sys.modules[MODULE] is not bound


@pytest.mark.usefixtures("unloaded")
def test_a_name_it_does_not_have_is_an_attribute_error() -> None:
    lazy.defer(MODULE)
    with pytest.raises(AttributeError, match="nothing"):
        _ = __import__(MODULE).nothing


def test_a_loaded_module_stays_loaded() -> None:
    before = sys.modules["sys"]
    lazy.defer("sys")
    assert sys.modules["sys"] is before


@pytest.mark.process
def test_the_model_library_does_without_its_decoder_until_a_file_is_decoded(second: Path) -> None:
    program = (
        "import sys; from chunk_job import lazy; lazy.defer('av'); from faster_whisper import decode_audio;"
        f"print('av.audio' in sys.modules, len(decode_audio({str(second)!r})), 'av.audio' in sys.modules)"
    )
    root = Path(lazy.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True, text=True, cwd=root)
    assert done.stdout.split() == ["False", "16000", "True"]
