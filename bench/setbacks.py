"""The cost of interruptions: jobs killed at random times, and a run that is stopped half-way.

    python -m bench.setbacks [--rounds 2] [--seed N]

Forty chunks of one minute; one in twenty first attempts gets SIGKILL at a random time of its usual duration.
"""

import argparse
import contextlib
import os
import random
import re
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from bench.common import Cost, Figure, Ratio, by_ratio, cost, report, transcribe_command, turns
from chunk_job.store.files import FileStore
from controller.domain.keys import parse_result
from tests.speech import write_tape

CHUNKS = 40
CUT = ("--chunking-threshold", "0", "--chunk-duration", "60", "--max-parallel", "2")
PATIENCE_S = 300


class Killer:
    """Kills some first attempts of the chunk jobs of one run, each at a random time of its usual duration."""

    def __init__(self, place: Path, chance: random.Random) -> None:
        self.killed = 0
        self._place = place
        self._when_s = {span: chance.uniform(0, 1.5) for span in chance.sample(range(CHUNKS), CHUNKS // 20)}
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        seen_s: dict[int, float] = {}
        while not self._over.wait(0.02):
            for span, process in self._first_attempts():
                began_s = seen_s.setdefault(span, time.monotonic())
                if span in self._when_s and time.monotonic() - began_s >= self._when_s[span]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(process, signal.SIGKILL)
                        self.killed += 1
                        del self._when_s[span]

    def _first_attempts(self) -> Iterator[tuple[int, int]]:
        """Span and process of all running chunk jobs."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                words = path.read_bytes().decode(errors="replace").replace("\0", " ")
                found = re.search(r" -m chunk_job --attempt 1 .*/tasks/(\d+)\.json", words)
                if found and str(self._place) in words:
                    yield int(found[1]), int(path.parent.name)


def killed(folder: Path, media: Path, rounds: int, seed: int) -> Iterator[Figure]:
    """The same run, without interruptions and with one attempt in twenty killed."""
    chance = random.Random(seed)
    count, kills = 0, []

    def run(*, disturbed: bool) -> Cost:
        nonlocal count
        count += 1
        place = folder / f"kill{count}"
        command = transcribe_command(media, place, *CUT)
        if not disturbed:
            return cost(command)
        with Killer(place, chance) as killer:
            spent = cost(command)
        kills.append(killer.killed)
        return spent

    costs = turns({"ours": lambda: run(disturbed=True), "theirs": lambda: run(disturbed=False)}, rounds)
    ours, theirs = costs["ours"], costs["theirs"]
    name = f"{CHUNKS} chunks, attempts killed at random: {kills[1:]} (seed {seed})"
    yield by_ratio(name, "the undisturbed run", "≤ 1.15", Ratio(ours=ours.wall_s, theirs=theirs.wall_s), "s")
    ratio = Ratio(ours=ours.cpu_s, theirs=theirs.cpu_s)
    yield by_ratio("the same in CPU seconds", "the undisturbed run", "≤ 1.15", ratio, "CPU s")


def finished(store: FileStore) -> dict[int, set[tuple[str, int]]]:
    """The results of each span, and the time when each was written."""
    found: dict[int, set[tuple[str, int]]] = {}
    for entry in store.list("work/"):
        key = parse_result(entry.key)
        if key:
            found.setdefault(key.span, set()).add((key.key, (store.root / key.key).stat().st_mtime_ns))
    return found


def resumed(folder: Path, media: Path) -> Figure:
    """Stop a run when half of its chunks are finished, start it again, and check which chunks ran again."""
    place = folder / "resume"
    store = FileStore(place / "store")
    command = [str(part) for part in transcribe_command(media, place, *CUT)]
    until_s = time.monotonic() + PATIENCE_S
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        while len(finished(store)) < CHUNKS // 2 and child.poll() is None and time.monotonic() < until_s:
            time.sleep(0.05)
        child.send_signal(signal.SIGKILL)
    before = finished(store)
    if not CHUNKS // 2 <= len(before) < CHUNKS:
        raise RuntimeError(f"the run was to be stopped half-way and had {len(before)} of {CHUNKS} chunks done")
    cost(command)
    after = finished(store)
    again = sum(after[span] != before[span] for span in before)
    return Figure(
        name=f"resume of {CHUNKS} chunks, controller killed half-way: finished chunks that ran again",
        ours=f"{again} of {len(before)}",
        bar="0",
    )


def figures(rounds: int, seed: int) -> Iterator[Figure]:
    """All measurements of this module."""
    with tempfile.TemporaryDirectory(prefix="stenofleet-setbacks-") as folder:
        media = Path(folder) / "forty.wav"
        write_tape(media, seconds=60 * CHUNKS, seed=8)
        yield resumed(Path(folder), media)
        yield from killed(Path(folder), media, rounds, seed)


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="turns of each comparison, after one to warm up")
    parser.add_argument("--seed", type=int, default=random.randrange(10_000), help="of the moments of the kills")
    arguments = parser.parse_args()
    report(figures(arguments.rounds, arguments.seed))


if __name__ == "__main__":
    main()
