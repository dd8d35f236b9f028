"""The file of ``--glossary``: one term per line, with what it sounds like.

Touches: the file that is named.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path

import click

from chunk_job.glossary import MOST_TERMS, checked, distinct
from controller.runs.opened_files import open_file

_MOST_BYTES = 1 << 20
_LINE_END = re.compile(r"\r\n|\r|\n")
"""Not the separators of Unicode, which no editor shows as the end of a line."""


def parse_glossary(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Read the terms of the file *value*; none if there is no file."""
    return terms_in(value) if value else ()


def terms_in(path: str) -> tuple[str, ...]:
    """Read the terms of a file, each as ``term`` or ``term = sounds like``; a term counts once.

    Empty lines, and those that begin with ``#``, are left out. Raises :class:`click.BadParameter` with the line number.
    """
    lines: list[str] = []
    for number, line in enumerate(_LINE_END.split(_text(path)), 1):
        if (text := line.strip()) and not text.startswith("#"):
            try:
                lines.append(checked(text))
            except ValueError as error:
                raise click.BadParameter(f"{path}, line {number}: {error}") from None
    terms = distinct(lines)
    if not terms:
        raise click.BadParameter(f"{path} has no terms: write one per line")
    if len(terms) > MOST_TERMS:
        raise click.BadParameter(f"{path} has {len(terms)} terms, and may have {MOST_TERMS}")
    return terms


def _text(path: str) -> str:
    try:
        with open_file(Path(path), max_bytes=_MOST_BYTES) as file:
            data = file.read(_MOST_BYTES + 1)
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from None
    # Editors on Windows write a mark before the first line.
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if wide else "utf-8-sig")
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path} is not {'UTF-16' if wide else 'UTF-8'}") from None
