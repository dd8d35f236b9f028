"""A glossary makes a real model write names that it does not know, and does no harm where they are not said."""

from pathlib import Path

import numpy as np
import pytest

from tests.chunks import transcribe
from tests.readings import with_faint_noise
from tests.speech import Pcm, say, silence

pytestmark = [pytest.mark.model, pytest.mark.timeout(600)]

NAMES = ("Timisoara", "Thibodeaux", "Yilmaz", "Kravchenko")
SAID = (
    "Nobody had heard of Thibodeaux before the spring.",
    "Yilmaz and Kravchenko wrote the first report about the new office in Timisoara.",
)
OTHERS = ("Quetzalcoatl", "Nebuchadnezzar", "Antananarivo", "Thessaloniki")


@pytest.fixture(scope="module")
def sound() -> Pcm:
    parts = [part for text in SAID for part in (say(text, voice="en-us", speed=150, pitch=50), silence(0.5))]
    return with_faint_noise(np.concatenate([silence(0.5), *parts]))


def test_names_of_a_glossary_are_written_as_in_it(sound: Pcm, base: Path, tmp_path: Path) -> None:
    plain = transcribe(sound, base, tmp_path, language="en").text
    assert sum(name in plain for name in NAMES) <= 1
    expected = transcribe(sound, base, tmp_path, language="en", glossary=NAMES).text
    assert sum(name in expected for name in NAMES) >= 3


def test_names_that_are_not_said_are_not_written(sound: Pcm, base: Path, tmp_path: Path) -> None:
    text = transcribe(sound, base, tmp_path, language="en", glossary=OTHERS).text
    assert not [name for name in OTHERS if name in text]
    assert "wrote the first report about the new office" in text
