"""A folder of each test's own; the reference recording and its undisturbed run are the whole session's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import pipeline
from tests.reference import shared, tape, undisturbed

__all__ = ["shared", "tape", "undisturbed"]


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[pipeline.Workplace]:
    """A folder of this test's own; what still runs there at its end is stopped."""
    workplace = pipeline.Workplace(tmp_path / "workplace")
    yield workplace
    workplace.clear()
