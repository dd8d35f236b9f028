"""Options about output files, and when an existing one is replaced."""

from __future__ import annotations

from controller.cli import options as shared
from controller.errors import EnvironmentProblem
from controller.runs.protection import OutputRules
from controller.runs.written_files import WrittenFiles

overwrite_option = shared.option(
    "--overwrite", is_flag=True, help="Also replace outputs that were changed since they were written."
)


def output_rules(*, overwrite: bool) -> OutputRules:
    """Return when outputs are replaced; without a home folder, it is not known what was written before."""
    try:
        written = WrittenFiles(shared.state_home())
    except EnvironmentProblem:
        written = WrittenFiles(None)
    return OutputRules(overwrite=overwrite, written=written)
