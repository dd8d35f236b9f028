"""A separate folder for each test; the session shares the reference recording and its undisturbed run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pipeline
from tests.reference import shared, tape, undisturbed

__all__ = ["shared", "tape", "undisturbed"]


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[pipeline.Workplace]:
    """The folder of this test; processes that still run there at its end are stopped."""
    workplace = pipeline.Workplace(tmp_path / "workplace")
    yield workplace
    workplace.clear()
