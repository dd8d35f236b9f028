"""``captions check``: which cues of a file break a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from chunk_job.text import json_line, printable
from controller.cli import options as shared
from controller.cli.caption_options import limit_options, style_of
from controller.cli.terminal import print_data, print_message
from controller.domain.captions import PROFILES, Profile
from controller.errors import UsageProblem
from controller.runs.opened_files import open_file
from controller.transcript.captions.check import SENTENCES, Violation, violations
from controller.transcript.captions.read import CaptionsInvalid, FileCue, decoded, file_cues
from controller.transcript.formats import clock

BROKEN = 7
"""Exit code of ``--strict`` if a cue breaks a limit."""

_MOST_BYTES = 64 << 20


@click.group("captions")
def captions_command() -> None:
    """Work with files of captions."""


@captions_command.command("check")
@click.argument("file", type=click.Path(), metavar="FILE")
@click.option(
    "--profile",
    type=click.Choice([name for name in PROFILES if name != "whisper"]),
    default="netflix",
    show_default=True,
    help="broadcast: 37 columns × 2 lines; netflix: 42 × 2. The next options change its limits.",
)
@limit_options
@click.option("--strict", is_flag=True, help=f"Exit code {BROKEN} if a cue breaks a limit.")
@shared.json_option
def check_command(file: str, profile: Profile, *, strict: bool, as_json: bool, **own: Any) -> int:
    """List what breaks a profile in FILE, an srt or vtt file of any program."""
    style = style_of(profile, own, "change --profile or the limits after it (see --help)")
    cues = _cues_of(file)
    found = violations(cues, style)
    if as_json:
        facts = {
            "file": file,
            "profile": profile,
            "limits": style.model_dump(exclude={"highlight_words"}),
            "cues": len(cues),
            "violations": list(map(_facts, found)),
        }
        print_data(json_line(facts), exact=True)
    else:
        for one in found:
            what = SENTENCES[one.rule].format(value=one.value, limit=one.limit)
            print_data(f"cue {one.cue} at {clock(one.start_ms, '.')}: {what}")
        changed = " with other limits" if style != PROFILES[profile] else ""
        print_message(_summary(file, f"{profile}{changed}", cues, found))
    return BROKEN if strict and found else 0


def _cues_of(file: str) -> list[FileCue]:
    advice = "give an srt or vtt file in UTF-8 or UTF-16; from Windows-1252: iconv -f windows-1252 -t utf-8 IN > OUT"
    try:
        with open_file(Path(file), max_bytes=_MOST_BYTES) as opened:
            return file_cues(decoded(opened.read()))
    except CaptionsInvalid as error:
        raise UsageProblem(f"{file}: {error}", advice) from error
    except OSError as error:
        raise UsageProblem(f"{file}: {error.strerror}", "give an srt or vtt file") from error


def _facts(one: Violation) -> dict[str, object]:
    return {"cue": one.cue, "start": one.start_ms / 1000, "rule": one.rule, "value": one.value, "limit": one.limit}


def _summary(file: str, profile: str, cues: Sequence[FileCue], found: Sequence[Violation]) -> str:
    if not cues:
        return printable(f"{file}: there are no cues in it")
    broken = len({one.cue for one in found})
    count = f"{len(found)} violation{'s' if len(found) != 1 else ''}"
    return printable(f"{file}: {broken} of {len(cues)} cues break the profile {profile} ({count})")
