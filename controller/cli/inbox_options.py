"""The options of commands that watch an inbox: ``serve`` and ``watch-folder``.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from controller.cli import options as shared

_F = TypeVar("_F", bound=Callable[..., Any])


def inbox_options(command: _F) -> _F:
    """Add the options of every inbox to *command*."""
    for add in reversed((
        shared.option(
            "--inbox-poll",
            type=click.IntRange(1, 86_400),
            default=10,
            show_default=True,
            metavar="SECONDS",
            help="Pause between two looks into the inbox.",
        ),
        shared.option(
            "--inbox-settle",
            type=click.IntRange(0, 86_400),
            default=10,
            show_default=True,
            metavar="SECONDS",
            help="A file that has not changed for so long is complete.",
        ),
        shared.option(
            "--inbox-lists",
            type=click.IntRange(2, 100_000),
            default=60,
            show_default=True,
            metavar="N",
            help="Requests a minute to list an inbox in S3.",
        ),
    )):  # fmt: skip
        command = add(command)
    return command
