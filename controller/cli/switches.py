"""Switches that are on without a value, and that take Whisper's values too: ``--highlight_words True``.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import click

_VALUES = ("true", "false")


class Switch(click.Option):
    """An option that is on without a value, and may have the value True or False."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        # Not a flag of click, which would take the value for the name of a recording.
        fixed = {"is_flag": False, "flag_value": "True", "type": bool, "default": False, "metavar": "[True|False]"}
        super().__init__(*args, **attributes | fixed)


class CommandWithSwitches(click.Command):
    """A command whose switches have only True or False as a value, never the argument after them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {name for option in self.params if isinstance(option, Switch) for name in option.opts}
        return super().parse_args(ctx, list(_with_values(args, switches)))


def _with_values(arguments: Iterable[str], switches: set[str]) -> Iterator[str]:
    """Give each switch the value that stands after it, or True."""
    rest = list(arguments)
    while rest:
        one = rest.pop(0)
        if one == "--":
            yield from (one, *rest)
            return
        if one.replace("_", "-") in switches:
            value = rest.pop(0) if rest and rest[0].lower() in _VALUES else "True"
            yield f"{one}={value}"
        else:
            yield one
