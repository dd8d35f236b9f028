"""What CI systems are told of a command, each in its own way: the only module that knows which one runs it.

Touches: the environment; stderr and files through ``github`` and ``gitlab``.
"""

from __future__ import annotations

import contextlib
import os
from typing import TextIO

from controller.cli import github, gitlab
from controller.cli.conclusion import Conclusion

_NOT = frozenset(["", "0", "false", "no", "off"])


def is_here() -> bool:
    """Whether a CI system runs this process: nearly all set ``CI``."""
    return os.environ.get("CI", "").lower() not in _NOT or github.is_here() or gitlab.is_here()


def is_watched(stream: TextIO) -> bool:
    """Whether a person looks at *stream* while it is written: a terminal, and not one that a CI system gives its jobs.

    Only there lines are drawn again, and questions asked.
    """
    return stream.isatty() and not is_here()


def without_commands() -> contextlib.AbstractContextManager[None]:
    """No line that is printed in the block is a command to the system, except those that this module prints."""
    return github.without_commands() if github.is_here() else contextlib.nullcontext()


def section(title: str) -> contextlib.AbstractContextManager[None]:
    """Fold the lines that are printed in the block, where the system can. *title* is a text of this program."""
    if github.is_here():
        return github.section(title)
    return gitlab.section(title) if gitlab.is_here() else contextlib.nullcontext()


def takes_commands() -> bool:
    """Whether lines of the log can be commands to the system, so that even paths must be escaped."""
    return github.is_here() or gitlab.is_here()


def harmless(line: str) -> str:
    """Return a printable *line* that is no command."""
    return github.harmless(line) if github.is_here() else line


def publish(ended: Conclusion) -> None:
    """Show how a command ended, where the system has a place for it."""
    if github.is_here():
        github.publish(ended)


def dotenv(ended: Conclusion) -> str:
    """Return variables for later jobs of a pipeline: one on each line, all of them numbers."""
    return "".join(f"{name.replace('-', '_').upper()}={value}\n" for name, value in ended.numbers.items())
