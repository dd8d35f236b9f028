"""One recording and one undisturbed run of it for the whole session, however many workers it has."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import river, speech

SECONDS = 64
SEED = 1


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this session have in common."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def tape() -> speech.Tape:
    """What is said in the reference recording."""
    return speech.tape(seconds=SECONDS, seed=SEED)


@pytest.fixture(scope="session")
def undisturbed(shared: Path, tape: speech.Tape) -> river.Undisturbed:
    """The reference: cut in three, transcribed by two workers, its chunks' audio kept."""
    folder = shared / "undisturbed"
    media = shared / "talk.wav"
    with river.alone(folder) as must:
        desk = river.Desk(folder)
        if must:
            speech.write_wav(media, tape)
            ended = desk.transcribe(media, *river.CUT, "--keep-chunks")
            assert ended.code == 0, ended.err
    return river.Undisturbed(desk=desk, media=media, outputs=desk.outputs)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[river.Desk]:
    """A folder of this test's own; what still runs there at its end is stopped."""
    desk = river.Desk(tmp_path / "desk")
    yield desk
    desk.clear()
