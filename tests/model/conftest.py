"""The models of these tests: a real Whisper, and the demonstration model."""

from pathlib import Path

import pytest

from controller import demo
from tests.testbed import real_model


@pytest.fixture(scope="session")
def base() -> Path:
    """The folder of Whisper base. Fails where it can neither be found nor fetched."""
    return real_model.fetch()


@pytest.fixture(params=["base", "demonstration"])
def model(request: pytest.FixtureRequest) -> Path:
    """Each of both models."""
    return request.getfixturevalue("base") if request.param == "base" else demo.MODEL
