"""Whether jobs on this machine will find their model.

Touches: the terminal, folders of models, a model hub if the person asks for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chunk_job.names import MODEL_FILES, is_published, unknown_model
from controller.cli.ci import is_watched
from controller.cli.terminal import ask, print_message
from controller.errors import EnvironmentProblem, UsageProblem
from controller.runners import local


def check_model_name(reference: str) -> None:
    """Raises :class:`UsageProblem` if there is no such model, neither a folder nor a published one."""
    if not Path(reference).is_dir() and not is_published(reference):
        raise UsageProblem(*unknown_model(reference))


def ensure_model(reference: str, *, download: bool) -> None:
    """Check that jobs on this machine will find the model; on a terminal, offer to fetch it.

    Raises :class:`EnvironmentProblem` if it is missing, and :class:`UsageProblem` if there is no such model.
    """
    folder = Path(reference)
    if all((folder / name).is_file() for name in MODEL_FILES):
        return
    check_model_name(reference)
    if download:
        print_message(f"fetching model {reference} if it is missing")
    try:
        local.resolve_model(reference, download=download)
    except EnvironmentProblem as error:
        if download or not (sys.stdin.isatty() and is_watched(sys.stderr)) or folder.is_dir():
            raise
        if not ask(f"{error.summary}. Download it now?"):
            raise
        local.resolve_model(reference, download=True)
