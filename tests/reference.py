"""The reference recording and one undisturbed run of it, shared by all workers of a session.

Fixtures: conftest files that need them import them from here.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests import pipeline, speech

SECONDS = 64
SEED = 1


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def tape() -> speech.Tape:
    """The script and sound of the reference recording."""
    return speech.tape(seconds=SECONDS, seed=SEED)


@pytest.fixture(scope="session")
def undisturbed(shared: Path, tape: speech.Tape) -> pipeline.Undisturbed:
    """The reference: cut in three, transcribed by two workers, its chunks' audio kept."""
    folder = shared / "undisturbed"
    media = shared / "talk.wav"
    with pipeline.alone(folder) as must:
        workplace = pipeline.Workplace(folder)
        if must:
            speech.write_wav(media, tape)
            ended = workplace.transcribe(media, *pipeline.CUT, "--keep-chunks")
            assert ended.code == 0, ended.err
    return pipeline.Undisturbed(workplace=workplace, media=media, outputs=workplace.outputs)


@pytest.fixture(scope="session")
def talk(undisturbed: pipeline.Undisturbed) -> Path:
    """The recording."""
    return undisturbed.media


@pytest.fixture(scope="session")
def wanted(undisturbed: pipeline.Undisturbed) -> Mapping[str, bytes]:
    """The outputs of an undisturbed run on one machine."""
    return undisturbed.outputs
