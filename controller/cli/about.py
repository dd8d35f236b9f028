"""``version`` and ``completion``."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil

import click
from click.shell_completion import get_completion_class

from chunk_job.text import json_line
from controller import cli
from controller.cli import options as shared
from controller.cli.terminal import print_data

_PACKAGES = (
    "stenofleet",
    "faster-whisper",
    "ctranslate2",
    "numpy",
    "soundfile",
    "ffmpeg-python",
    "click",
    "pydantic",
)


@click.command("version")
@shared.json_option
def version_command(*, as_json: bool) -> int:
    """Versions of everything that is used for a transcript."""
    facts = {name: _version(name) for name in _PACKAGES}
    facts |= {"python": platform.python_version(), "ffmpeg": shutil.which("ffmpeg") or "missing"}
    if as_json:
        print_data(json_line(facts), exact=True)
    else:
        for name, version in facts.items():
            print_data(f"{name:16} {version}", exact=True)
    return 0


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        # The controller image has no model library.
        return "missing"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> int:
    """Print the completion script for SHELL; save it in the shell's folder for completions."""
    completion = get_completion_class(shell)
    assert completion is not None
    script = completion(cli.stenofleet, {}, "stenofleet", "_STENOFLEET_COMPLETE").source()
    # Not escaped: it contains no untrusted text, and the shell needs its tabs.
    click.echo(script)  # noqa: TID251
    return 0
