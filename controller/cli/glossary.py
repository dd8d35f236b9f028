"""The file of ``--glossary``: one term per line, with what it sounds like.

Touches: the file that is named.
"""

from __future__ import annotations

from pathlib import Path

import click

from chunk_job.glossary import LONGEST_LINE, MOST_TERMS, parsed
from controller.runs.opened_files import open_file

_MOST_BYTES = 1 << 20


def parse_glossary(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Read the terms of the file *value*, each as ``term`` or ``term = sounds like``; a term counts once.

    Empty lines, and those that begin with ``#``, are left out. Errors have the line number.
    """
    if not value:
        return ()
    terms: dict[str, str] = {}
    for number, line in enumerate(_text(value).splitlines(), 1):
        if (text := line.strip()) and not text.startswith("#"):
            term, sounds = _term(text, f"{value}, line {number}")
            terms.setdefault(term, f"{term} = {sounds}" if sounds else term)
    if not terms:
        raise click.BadParameter(f"{value} has no terms: write one per line")
    if len(terms) > MOST_TERMS:
        raise click.BadParameter(f"{value} has {len(terms)} terms, and may have {MOST_TERMS}")
    return tuple(terms.values())


def _term(text: str, where: str) -> tuple[str, str]:
    if len(text) > LONGEST_LINE:
        raise click.BadParameter(f"{where}: it has {len(text)} characters, and may have {LONGEST_LINE}")
    if not text.isprintable() and not text.replace("\t", " ").isprintable():
        raise click.BadParameter(f"{where}: it has control characters")
    term, sounds = parsed(" ".join(text.split()))
    if not term or ("=" in text and not sounds) or "=" in sounds:
        raise click.BadParameter(f"{where}: write a term, or: term = sounds like")
    return term, sounds


def _text(path: str) -> str:
    try:
        with open_file(Path(path), max_bytes=_MOST_BYTES) as file:
            # Editors on Windows write a mark before the first line.
            return file.read(_MOST_BYTES + 1).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise click.BadParameter(f"{path} is not UTF-8") from None
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}") from None
