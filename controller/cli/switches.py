"""Switches that are on without a value, and that take Whisper's values too: ``--highlight_words True``.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import click

_VALUES = frozenset(["true", "false", "yes", "no", "on", "off", "t", "f", "y", "n", "1", "0", "none"])
"""What is a value after a switch, in any case; anything else is the next argument."""


class Switch(click.Option):
    """An option that is on without a value, and may have the value True or False (with *type*: other words too)."""

    def __init__(self, *args: Any, **attributes: Any) -> None:
        # Not a flag of click, which would take the value for the name of a recording.
        fixed = {"is_flag": False, "flag_value": "True", "metavar": "[True|False]"}
        usual: dict[str, Any] = {"type": bool, "default": False}
        super().__init__(*args, **usual | attributes | fixed)


class CommandWithSwitches(click.Command):
    """A command whose switches have only words like True or False as a value, never another argument after them."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        switches = {
            name: option.opts[-1] for option in self.params if isinstance(option, Switch) for name in option.opts
        }
        return super().parse_args(ctx, list(_with_values(args, switches)))


def _with_values(arguments: Iterable[str], switches: Mapping[str, str]) -> Iterator[str]:
    """Give each switch the value that stands after it, or True. *switches*: each name, with the long one."""
    rest = list(arguments)
    while rest:
        one = rest.pop(0)
        if one == "--":
            yield from (one, *rest)
            return
        if name := switches.get(one.replace("_", "-")):
            value = rest.pop(0) if rest and rest[0].lower() in _VALUES else "True"
            yield f"{name}={value}"
        else:
            yield one
