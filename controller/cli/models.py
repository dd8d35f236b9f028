"""Whether jobs on this machine will find their model.

Touches: the terminal, folders of models, S3 for a model there, a model hub if the person asks for it.
"""

from __future__ import annotations

import sys
from pathlib import Path

from chunk_job.model_manifest import is_url
from chunk_job.models.verification import verify
from chunk_job.names import MODEL_FILES, is_published, unknown_model
from controller.cli.ci import is_watched
from controller.cli.terminal import ask, print_message
from controller.errors import EnvironmentProblem, UsageProblem
from controller.runners import local


def check_model_name(reference: str) -> None:
    """Raises :class:`UsageProblem` if there is no such model, neither a folder nor a published one."""
    if not Path(reference).is_dir() and not is_published(reference) and not is_url(reference):
        raise UsageProblem(*unknown_model(reference))


def ensure_model(reference: str, *, download: bool) -> None:
    """Check that jobs on this machine will find the model; on a terminal, offer to fetch it.

    A model with a manifest is verified here, so that jobs that start together do not all read it. Raises
    :class:`EnvironmentProblem` if it is missing, :class:`UsageProblem` if there is no such model, and
    :class:`ModelDamaged` if it does not match its manifest.
    """
    folder = Path(reference)
    if all((folder / name).is_file() for name in MODEL_FILES):
        verify(folder)
        return
    check_model_name(reference)
    if is_url(reference):
        print_message(f"copying model {reference} to this machine if it is not here yet")
    elif download:
        print_message(f"fetching model {reference} if it is missing")
    try:
        verify(local.resolve_model(reference, download=download))
    except EnvironmentProblem as error:
        if download or is_url(reference) or not (sys.stdin.isatty() and is_watched(sys.stderr)) or folder.is_dir():
            raise
        if not ask(f"{error.summary}. Download it now?"):
            raise
        verify(local.resolve_model(reference, download=True))
