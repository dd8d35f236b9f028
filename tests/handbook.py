"""The tables of docs/reference/failures.md. Tests compare the code with them, so that neither can change alone."""

import re
from pathlib import Path

from chunk_job.errors import ExitCode
from controller.domain.failures import FailureClass

_HANDBOOK = Path(__file__).parents[1] / "docs" / "reference" / "failures.md"


def budgets() -> dict[FailureClass, str]:
    """The budget of every failure class: ``never`` (not tried again), ``chunk`` or ``cluster``."""
    return {FailureClass(name): _budget(text) for name, text in _rows(r"`([A-Z_.a-z]+)` \| .+ \| (.+)")}


def exit_codes() -> dict[ExitCode, FailureClass]:
    """The failure class of every exit code of a job, except 0."""
    return {ExitCode(int(code)): FailureClass(name) for code, name in _rows(r"(\d+) \| .+ \| `([A-Z_.a-z]+)`")}


def _rows(columns: str) -> list[tuple[str, str]]:
    return re.findall(rf"^\| {columns} \|$", _HANDBOOK.read_text(encoding="utf-8"), re.MULTILINE)


def _budget(text: str) -> str:
    return next((name for name in ("never", "chunk") if name in text), "cluster")
