"""Options of every command that makes runs, and of every one that works on runs.

Touches: nothing.
"""

from __future__ import annotations

import click

from controller.cli import kubernetes
from controller.cli import options as shared

_place_options = shared.together(
    kubernetes.runner_option, shared.parallel_option, shared.attempts_options, shared.patience_option
)
_keep_options = shared.together(
    shared.option(
        "--on-chunk-failure",
        type=click.Choice(["fail", "gap"]),
        default="fail",
        show_default=True,
        help="gap: write the other chunks, and mark the gap.",
    ),
    shared.option("--keep-chunks", is_flag=True, help="Keep chunk audio in the store."),
    shared.rendition_option,
)
_machine_options = shared.together(shared.scratch_option, shared.download_option)

work_options = shared.together(_place_options, _machine_options)
"""Where and how jobs run, and how often they are tried."""
run_options = shared.together(shared.model_options, shared.cut_options, _place_options, _keep_options, _machine_options)
"""What a run is, and the same."""
