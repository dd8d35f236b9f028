"""A folder of each test's own; the reference recording and its undisturbed run are the whole session's."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import river
from tests.reference import shared, tape, undisturbed

__all__ = ["shared", "tape", "undisturbed"]


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[river.Desk]:
    """A folder of this test's own; what still runs there at its end is stopped."""
    desk = river.Desk(tmp_path / "desk")
    yield desk
    desk.clear()
