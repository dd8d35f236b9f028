"""Starts a process that works on a batch after the command has ended.

Touches: processes, a log file in the state folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from controller.cli import options as shared
from controller.errors import EnvironmentProblem, UsageProblem


def detach(batch: str, arguments: Sequence[str]) -> Path:
    """Run this command line without ``--detach``, in a session of its own. Returns the file of its messages.

    Raises :class:`UsageProblem` if the command reads stdin, and :class:`EnvironmentProblem`.
    """
    if "-" in arguments:
        raise UsageProblem("--detach: a list on stdin is gone when this command has ended", "write it into a file")
    folder = shared.state_home() / ".local" / "batches"
    log = folder / f"{batch}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with log.open("ab") as file:
            os.fchmod(file.fileno(), 0o600)
            subprocess.Popen(
                [sys.executable, "-P", "-m", "controller", *(one for one in arguments if one != "--detach")],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                # It may also be set by the variable, which the process must not follow again.
                env=os.environ | {"STENOFLEET_DETACH": "0"},  # noqa: TID251 (for a process that is this command)
            )
    except OSError as error:
        raise EnvironmentProblem(f"{log}: {error.strerror}", "free space there, or leave --detach out") from error
    return log
