"""Many short recordings with known words, and broken ones among them: for batches whose jobs are real.

Touches: environment (``STENOFLEET_TEST_BATCH``: how many), files.
"""

import csv
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from controller.demo.recipe.corpus import number_en
from tests import speech

COUNT = int(os.environ.get("STENOFLEET_TEST_BATCH", "10"))
"""Recordings of a batch, from 10 to 1000."""
_EVERY, _FIRST = 19, 7
BROKEN = frozenset(range(_FIRST, COUNT, _EVERY))
"""Five in a hundred, of even and of odd numbers."""
GOOD = COUNT - len(BROKEN)
PATIENCE_S = 60 + 10 * COUNT
"""How long a batch may take. A recording takes two seconds of both cores of a busy machine."""


def name_of(number: int) -> str:
    """The name of a recording, without an extension."""
    return f"{number:03}"


def text_of(number: int) -> str:
    """The transcript of a recording: what is said in it."""
    return f"item {' '.join(number_en(1000 + number))}.\n"


def lay(folder: Path) -> None:
    """Write the recordings to a new folder, each with another content: two seconds, or broken."""
    folder.mkdir(parents=True)
    edge = speech.silence(0.4, noise_db=-60)
    for number in range(COUNT):
        path = folder / f"{name_of(number)}.wav"
        if number in BROKEN:
            # In turn: no media at all, and the first bytes of a file whose transfer was interrupted.
            head = b"RIFF" + (50_000 + number).to_bytes(4, "little") + b"WAVEfmt "
            path.write_bytes(head if number % 2 else f"no media {number}".encode())
        else:
            said = speech.say(text_of(number).strip(".\n"))
            speech.write_wav(path, np.concatenate([edge, said, edge]))


def check_transcripts(found: dict[str, str]) -> None:
    """*found*: the text files by name. Each good recording has one, with its words; no other has any."""
    assert found == {f"{name_of(number)}.txt": text_of(number) for number in range(COUNT) if number not in BROKEN}


def check_report(folder: Path) -> dict[str, Any]:
    """Check the files of ``batch report``, by parsers that are not ours. Returns the sums."""
    found: dict[str, Any] = json.loads((folder / "report.json").read_bytes())
    rows = found.pop("recordings")
    assert [row["number"] for row in rows] == list(range(COUNT))
    assert {row["number"] for row in rows if row["status"] == "failed"} == BROKEN
    assert [row["status"] for row in rows].count("succeeded") == GOOD, "none was complete before the batch"
    assert found["counts"] == {
        "succeeded": GOOD, "skipped": 0, "partial": 0, "failed": len(BROKEN), "cancelled": 0, "not_begun": 0
    }  # fmt: skip
    for row in rows:
        broken = row["number"] in BROKEN
        assert (row["failure"], bool(row["advice"])) == (("BAD_INPUT", True) if broken else ("", False)), row
        assert (row["environment"], row["audio_s"] is None, row["compute_s"] is None) == (False, broken, broken), row
    for name in ("audio_s", "compute_s"):
        assert found[name] == pytest.approx(sum(row[name] or 0 for row in rows), abs=0.001)
    with (folder / "report.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    for name in ("source", "status", "run", "failure", "advice"):
        assert [row[name] for row in table] == [row[name] for row in rows]
    assert sum(float(row["audio_s"] or 0) for row in table) == pytest.approx(found["audio_s"], abs=0.001)
    assert len({row["run"] for row in rows}) == COUNT
    return found


def check_junit(path: Path) -> None:
    """Check a report for CI: a suite for each recording, and an error in those of the broken ones alone."""
    document = ET.parse(path).getroot()
    suites = {Path(suite.get("name", "")).stem: suite for suite in document}
    assert (document.tag, len(document)) == ("testsuites", COUNT)
    assert suites.keys() == {name_of(number) for number in range(COUNT)}
    wrong = {name for name, suite in suites.items() if [*suite.iter("error"), *suite.iter("failure")]}
    assert wrong == {name_of(number) for number in BROKEN}
    cases = list(document.iter("testcase"))
    assert int(document.get("tests", "")) == len(cases) >= COUNT
    assert int(document.get("errors", "")) + int(document.get("failures", "")) == len(BROKEN)


def check_dotenv(path: Path) -> None:
    """Check the variables for later jobs of a pipeline."""
    found = dict(line.split("=") for line in path.read_text().splitlines())
    assert (found["EXIT_CODE"], found["COMPLETE"], found["FAILED"]) == ("4", str(GOOD), str(len(BROKEN)))


def attempts_of(runs: list[str], read: Callable[[str], bytes]) -> Iterator[dict[str, Any]]:
    """Yield all attempts of runs, from their documents in the store."""
    for run in runs:
        yield from json.loads(read(f"runs/{run}/attempts.json"))["attempts"]


def measured_s(attempts: list[dict[str, Any]]) -> float:
    """The time of all jobs of which somebody saw the end."""
    ended = [one for one in attempts if one["phase"] == "ended"]
    used = [one["result"]["usage"]["total_ms"] if one["result"] else 0 for one in ended]
    return sum(max(one["ran_ms"] or 0, most) for one, most in zip(ended, used, strict=True)) / 1000
