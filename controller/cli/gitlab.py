"""What GitLab shows of a command: sections of the log.

Touches: stderr, the clock. A section begins and ends with characters that no other line of this program has: texts of
recordings, files and jobs are escaped before they are printed.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator

import click

_ERASE = "\r\x1b[0K"
"""Without it GitLab takes no line for a marker; a terminal erases the marker."""


def is_here() -> bool:
    """Whether GitLab runs this process."""
    return os.environ.get("GITLAB_CI") == "true"


@contextlib.contextmanager
def section(title: str) -> Iterator[None]:
    """Fold the lines that are printed in the block. *title* is a text of this program."""
    # Each section of a job has its own name.
    name = f"stenofleet_{secrets.token_hex(4)}"
    _mark(f"section_start:{int(time.time())}:{name}[collapsed=true]", title)
    try:
        yield
    finally:
        _mark(f"section_end:{int(time.time())}:{name}", "")


def _mark(marker: str, title: str) -> None:
    # Not stripped by click, as colours are off a terminal.
    click.echo(f"\x1b[0K{marker}{_ERASE}{title}", err=True, color=True)
