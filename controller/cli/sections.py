"""Commands with many options: their help has a section for each purpose.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click
from click.core import ParameterSource

from controller.cli.switches import CommandWithSwitches
from controller.errors import UsageProblem

OWN, CLUSTER = "Options", "Kubernetes"
"""Sections of options that only one or two commands have, and of those that only the Kubernetes runner reads."""

_FEW = 20
"""A command with as few options needs no sections but that of the cluster."""

_OUTPUT = ("output", "output-format", "overwrite", "skip-existing", "name", "name-template", "speaker-names")
_CAPTIONS = (
    "caption-profile", "max-line-width", "max-line-count", "max-words-per-line", "max-cue-duration",
    "min-cue-duration", "max-cps", "min-gap", "highlight-words",
)  # fmt: skip
_DECODING = (
    "model", "download", "language", "task", "device", "compute-type", "threads", "beam-size", "temperature",
    "temperature-increment-on-fallback", "no-speech-threshold", "logprob-threshold", "compression-ratio-threshold",
    "batch-size", "vad-filter", "vad-threshold", "vad-min-silence-duration-ms", "condition-on-previous-text",
    "initial-prompt", "hotwords", "glossary",
)  # fmt: skip
_CUTTING = ("chunk-duration", "chunking-threshold", "clip-timestamps", "audio-track", "channels", "rendition")
_JOBS = (
    "runner", "max-parallel", "max-attempts", "max-disruptions", "store-patience", "on-chunk-failure", "keep-chunks",
    "scratch-dir", "store",
)  # fmt: skip
_REPORTS = ("junit", "dotenv", "events", "null", "json", "quiet", "gpu-hour-price", "cpu-hour-price")
_GATES = ("min-coverage", "min-confidence", "max-rtf", "max-cost", "max-wer", "reference", "captions-profile")
_SERVICE = ("server", "token-file")
SECTIONS: Mapping[str, Sequence[str]] = {
    "Output": _OUTPUT,
    "Captions": _CAPTIONS,
    "Model and decoding": _DECODING,
    "Cutting": _CUTTING,
    "Jobs and store": _JOBS,
    "Reports": _REPORTS,
    "Quality gates": _GATES,
    "Through the service": _SERVICE,
}
"""By title: long names of options, without dashes."""
_TITLES = {f"--{name}": title for title, names in SECTIONS.items() for name in names}


class ClusterOption(click.Option):
    """An option that only the Kubernetes runner reads."""


def sections(command: click.Command, ctx: click.Context) -> dict[str, list[click.Option]]:
    """Return the options of a command that its help shows, by the titles of its sections in their order."""
    shown = [one for one in command.get_params(ctx) if isinstance(one, click.Option) and one.get_help_record(ctx)]
    many = sum(not isinstance(one, ClusterOption) for one in shown) > _FEW
    found: dict[str, list[click.Option]] = {title: [] for title in (OWN, *SECTIONS, CLUSTER)}
    for one in shown:
        found[_title(one, many=many)].append(one)
    return {title: options for title, options in found.items() if options}


def _title(option: click.Option, *, many: bool) -> str:
    if isinstance(option, ClusterOption):
        return CLUSTER
    titles = [_TITLES[name] for name in option.opts if name in _TITLES] if many else []
    return titles[0] if titles else OWN


class Sectioned(CommandWithSwitches):
    """A command with sections in its help. It refuses options of a cluster for jobs that run here."""

    def invoke(self, ctx: click.Context) -> Any:
        if ctx.params.get("runner") != "kubernetes":
            # Only typed options: settings in the environment or a file may be meant for other commands.
            typed = [
                parameter.opts[0]
                for parameter in self.params
                if isinstance(parameter, ClusterOption)
                and ctx.get_parameter_source(parameter.name or "") is ParameterSource.COMMANDLINE
            ]
            if typed:
                # Other programs have an option of this name for their model.
                here = "; a model on this machine: --model FOLDER" if "--model-path" in typed else ""
                raise UsageProblem(
                    f"{', '.join(typed)}: only for jobs on a cluster, but jobs run here",
                    f"add --runner kubernetes{here}",
                )
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for title, options in sections(self, ctx).items():
            with formatter.section(title):
                formatter.write_dl([record for one in options if (record := one.get_help_record(ctx))])
