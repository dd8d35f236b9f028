"""Windows decoded in batches compared with windows decoded one after the other: word errors, CPU time, segments.

    python -m bench.batches [--model base|demonstration] [--readings 2] [--only NAME]

Whisper base hears the story of ``tests/readings.py``, in each reading with other voices; the demonstration model hears
as many times five minutes of its own words. Every transcription is a chunk job of its own: int8, one CPU thread.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.common import machine, table
from controller import demo
from controller.demo.recipe.corpus import Language
from tests import sounds
from tests.chunks import Done, transcribe
from tests.readings import compared, read_aloud
from tests.speech import Pcm, Tape, tape
from tests.testbed import real_model

BATCH = 8
Change = Callable[[Pcm, np.random.Generator], Pcm]
Reading = tuple[Tape, Done, Done]
"""What was said, and the results of sequential decoding and of batches."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """Recordings of one kind for one model."""

    model: str
    name: str
    language: Language
    change: Change | None = None

    def said(self, number: int) -> Tape:
        """One of the recordings, without the change."""
        if self.model == "base":
            return read_aloud(self.language, turn=number, seed=number)
        return tape(seconds=300, seed=200 + number, language=self.language)


def noise(under_db: float) -> Change:
    """White noise this many dB below the speech."""
    return lambda pcm, rng: sounds.mixed(pcm, rng.standard_normal(len(pcm)), under_db=under_db)


CASES = (
    Case(model="base", name="English", language="en"),
    Case(model="base", name="English, noise 12 dB under", language="en", change=noise(12)),
    Case(model="base", name="English, telephone", language="en", change=sounds.telephone),
    Case(model="base", name="English, music 18 dB under", language="en", change=sounds.music),
    Case(model="base", name="Portuguese", language="pt"),
    Case(model="base", name="Portuguese, noise 24 dB under", language="pt", change=noise(24)),
    Case(model="demonstration", name="English", language="en"),
    Case(model="demonstration", name="English, noise 12 dB under", language="en", change=noise(12)),
    Case(model="demonstration", name="Portuguese", language="pt"),
    Case(model="demonstration", name="Portuguese, noise 12 dB under", language="pt", change=noise(12)),
)


def measure(case: Case, readings: int, folder: Path) -> list[Reading]:
    """Transcribe all recordings of the case in both ways."""
    model = real_model.fetch() if case.model == "base" else demo.MODEL
    made = []
    for number in range(readings):
        said = case.said(number)
        pcm = case.change(said.pcm, np.random.default_rng(number)) if case.change else said.pcm
        one, other = (
            transcribe(pcm, model, folder, language=case.language, batch_size=size) for size in ("sequential", BATCH)
        )
        made.append((said, one, other))
        print(f"{case.model}: {case.name}: {number + 1} of {readings}", file=sys.stderr, flush=True)
    return made


def row(case: Case, made: Sequence[Reading]) -> list[str]:
    """One line of the table."""
    found = compared([(said, one.text, other.text) for said, one, other in made])
    one, other = [reading[1] for reading in made], [reading[2] for reading in made]
    windows = [window for each in other for window in each.result.windows]
    retried = sum(len(window.tries) > 1 for window in windows)
    return [
        case.model,
        case.name,
        str(found.words),
        f"{found.before:.2f} → {found.after:.2f} %",
        f"{found.points:+.2f} ({found.low:+.2f} … {found.high:+.2f})",
        f"{sum(each.cpu_s for each in one):.0f} → {sum(each.cpu_s for each in other):.0f}",
        f"{sum(len(each.result.segments) for each in one)} → {sum(len(each.result.segments) for each in other)}",
        f"{longest_s(one):.1f} → {longest_s(other):.1f} s",
        f"{retried} of {len(windows)}",
    ]


def longest_s(made: Sequence[Done]) -> float:
    """The length of the longest segment."""
    return max(segment.end_ms - segment.start_ms for each in made for segment in each.result.segments) / 1000


def main() -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=["base", "demonstration"], help="only this model")
    parser.add_argument("--readings", type=int, default=2, help="recordings of each case")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    header = ["model", "recordings", "words", "WER, sequential → batched", "points more", "CPU s", "segments"]
    print(f"{machine()}, {arguments.readings} readings a case\n")
    print(table([*header, "longest", "windows tried again"], []), flush=True)
    for case in CASES:
        if arguments.only in case.name and arguments.model in (None, case.model):
            with tempfile.TemporaryDirectory(prefix="stenofleet-batches-") as folder:
                made = measure(case, arguments.readings, Path(folder))
            # Each line as soon as it is measured: the whole table takes a quarter of an hour.
            print(f"| {' | '.join(row(case, made))} |", flush=True)


if __name__ == "__main__":
    main()
