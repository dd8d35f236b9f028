"""Captions of transcripts in each profile, read by two other parsers and measured by rules that are written here again.

    python -m bench.captions TRANSCRIPT.json … [--violations FILE]

The product's own check is only compared: it must list the same cues as too fast, and no other violation.
"""

import argparse
import html
import json
import subprocess
import sys
import tempfile
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pysubs2
import webvtt

from bench.tables import machine, table


class Limits(NamedTuple):
    """What a cue may be, with times in milliseconds."""

    columns: int
    lines: int
    shortest_ms: int
    longest_ms: int
    gap_ms: int
    speed: int
    """Columns in a second."""


PROFILES = {
    "broadcast": Limits(columns=37, lines=2, shortest_ms=1000, longest_ms=7000, gap_ms=120, speed=20),
    "netflix": Limits(columns=42, lines=2, shortest_ms=834, longest_ms=7000, gap_ms=84, speed=20),
}
RULES = ("width", "lines", "shortest", "longest", "overlap", "gap")
LINGER_MS = 500
"""A cue may stay so long after its last word."""


class Shown(NamedTuple):
    """A cue as a parser reads it."""

    start_ms: int
    end_ms: int
    lines: tuple[str, ...]


class Spoken(NamedTuple):
    """A word of a transcript."""

    text: str
    start_ms: int
    end_ms: int


@dataclass(kw_only=True)
class Found:
    """The figures of one profile, over both formats of all transcripts."""

    cues: int = 0
    columns: int = 0
    shown_ms: int = 0
    broken: Counter[str] = field(default_factory=Counter)
    fast: list[str] = field(default_factory=list)
    """A line for each cue that is too fast."""
    late_ms: list[int] = field(default_factory=list)
    """Of cues that start after their first word: by how much."""
    differ: list[str] = field(default_factory=list)
    """What is wrong with a whole file: its words, its parsers, or the list of the product's own check."""


def columns(line: str) -> int:
    """The width of a line: two columns for a wide character of East Asia, none for a combining or invisible one."""
    return sum(
        1 + (unicodedata.east_asian_width(one) in ("W", "F"))
        for one in line
        if unicodedata.category(one) not in ("Mn", "Me", "Cf")
    )


def by_pysubs2(path: Path) -> list[Shown]:
    """The cues as pysubs2 reads them."""
    return [
        Shown(one.start, one.end, tuple(html.unescape(one.plaintext).split("\n")))
        for one in pysubs2.load(str(path), encoding="utf-8")
    ]


def by_webvtt(path: Path) -> list[Shown]:
    """The cues as webvtt-py reads them, SubRip too."""
    read = webvtt.from_srt if path.suffix == ".srt" else webvtt.read
    return [
        Shown(_ms(one.start), _ms(one.end), tuple(html.unescape(one.text).split("\n")))
        for one in read(str(path)).captions
    ]


def _ms(clock: str) -> int:
    hours, minutes, seconds = clock.split(":")
    return round(1000 * (3600 * int(hours) + 60 * int(minutes) + float(seconds)))


def broken(cues: Sequence[Shown], limits: Limits) -> Iterator[str]:
    """The rule of each violation, without those of the reading speed."""
    for cue in cues:
        if max(map(columns, cue.lines)) > limits.columns:
            yield "width"
        if len(cue.lines) > limits.lines:
            yield "lines"
        if cue.end_ms - cue.start_ms < limits.shortest_ms:
            yield "shortest"
        if cue.end_ms - cue.start_ms > limits.longest_ms:
            yield "longest"
    for before, after in pairwise(cues):
        if after.start_ms < before.end_ms:
            yield "overlap"
        elif after.start_ms - before.end_ms < limits.gap_ms:
            yield "gap"


def speed(cue: Shown) -> float:
    """Columns in a second."""
    return 1000 * sum(map(columns, cue.lines)) / max(1, cue.end_ms - cue.start_ms)


def first_words(cues: Sequence[Shown], words: Sequence[Spoken]) -> list[int] | None:
    """The number of the first word of each cue; None if the words are not there once and in order."""
    expected = squeezed("".join(word.text for word in words))
    texts = [squeezed("".join(cue.lines)) for cue in cues]
    if "".join(texts) != expected:
        # Two people in one cue: each line starts with a dash.
        texts = [squeezed("".join(line.removeprefix("- ") for line in cue.lines)) for cue in cues]
    if "".join(texts) != expected:
        return None
    ends, at = [], 0
    for word in words:
        at += len(squeezed(word.text))
        ends.append(at)
    found, at, number = [], 0, 0
    for text in texts:
        while ends[number] <= at:
            number += 1
        found.append(number)
        at += len(text)
    return found


def squeezed(text: str) -> str:
    """The text without spaces, and without the marks of lines from right to left."""
    return "".join(text.replace("\u200f", "").split())


def measure(transcript: Path, profile: str, folder: Path, found: Found) -> None:
    """Render a transcript, and add the figures of its files to *found*."""
    command = [sys.executable, "-m", "controller"]
    render = ["render", str(transcript.absolute()), "-o", str(folder), "-f", "srt,vtt", "--caption-profile", profile]
    subprocess.run([*command, *render], check=True, stdout=subprocess.DEVNULL)
    segments = json.loads(transcript.read_text(encoding="utf-8"))["segments"]
    words = [
        Spoken(word["word"], round(1000 * word["start"]), round(1000 * word["end"]))
        for segment in segments
        for word in segment["words"]
    ]
    for extension in ("srt", "vtt"):
        path = folder / f"{transcript.stem}.{extension}"
        check = ["captions", "check", str(path), "--profile", profile, "--json"]
        done = subprocess.run([*command, *check], check=True, capture_output=True, text=True)
        examine(path, words, PROFILES[profile], json.loads(done.stdout)["violations"], found)


def examine(
    path: Path, words: Sequence[Spoken], limits: Limits, listed: Sequence[dict[str, object]], found: Found
) -> None:
    """Add the figures of one file to *found*. *listed*: what ``captions check`` says about it."""
    cues = by_pysubs2(path)
    if cues != by_webvtt(path):
        found.differ.append(f"{path.name}: two parsers read different cues")
    firsts = first_words(cues, words)
    if firsts is None:
        found.differ.append(f"{path.name}: its words are not those of the transcript, each once and in order")
    else:
        late = (cue.start_ms - words[first].start_ms for cue, first in zip(cues, firsts, strict=True))
        found.late_ms += [one for one in late if one > 0]
    fast = [number for number, cue in enumerate(cues, 1) if speed(cue) > limits.speed]
    if {one["cue"] for one in listed} != set(fast) or len(listed) != len(fast):
        found.differ.append(f"{path.name}: captions check lists other cues")
    found.fast += [
        f"{path.name}: cue {number}: {speed(cues[number - 1]):.1f} columns/s: {' | '.join(cues[number - 1].lines)}"
        for number in fast
    ]
    found.broken.update(broken(cues, limits))
    found.cues += len(cues)
    found.columns += sum(columns(line) for cue in cues for line in cue.lines)
    found.shown_ms += sum(cue.end_ms - cue.start_ms for cue in cues)


def row(profile: str, found: Found) -> list[str]:
    """One line of the table."""
    late = sorted(found.late_ms)
    share = 100 * len(found.fast) / found.cues
    return [
        profile,
        str(found.cues),
        f"{found.shown_ms / found.cues / 1000:.1f} s",
        *(str(found.broken[rule]) for rule in RULES),
        f"{len(found.fast)} ({share:.2f} %)",
        f"{len(late)}, at most {late[-1] / 1000:.2f} s" if late else "none",
        str(len(found.differ)),
    ]


def main() -> int:
    """Measure all transcripts and print the table. Returns 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("transcripts", nargs="+", type=Path, help="JSON files that stenofleet wrote")
    parser.add_argument("--violations", type=Path, help="write each cue that is too fast to this file")
    arguments = parser.parse_args()
    documents = [json.loads(path.read_text(encoding="utf-8")) for path in arguments.transcripts]
    words = sum(len(segment["words"]) for one in documents for segment in one["segments"])
    print(f"{machine()}: {sum(one['duration'] for one in documents) / 60:.1f} min, {words} words\n")
    rows, listed, missed = [], [], False
    for profile in PROFILES:
        found = Found()
        for path in arguments.transcripts:
            with tempfile.TemporaryDirectory(prefix="stenofleet-captions-") as folder:
                measure(path, profile, Path(folder), found)
        rows.append(row(profile, found))
        listed += [f"{profile}: {one}" for one in (*found.differ, *found.fast)]
        missed |= bool(found.broken or found.differ or len(found.fast) > 0.02 * found.cues)
        for one in found.differ:
            print(f"{profile}: {one}", file=sys.stderr)
    header = ["profile", "cues (srt and vtt)", "mean display", *RULES, "too fast", "late cues", "files that differ"]
    print(table(header, rows))
    if arguments.violations:
        arguments.violations.write_text("".join(f"{one}\n" for one in listed), encoding="utf-8")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
