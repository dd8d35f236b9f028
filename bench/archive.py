"""An archive in one command: time to the first transcript, memory and time for each recording, for archives of several
sizes. One recording in twenty is no media.

    python -m bench.archive [--sizes 200 1000 10000]

The command line, the loop, the store and the outputs are the real ones. Only the jobs are replaced: each leaves at once
what a job would, so that ten thousand recordings take minutes and what is measured is the controller.
"""

import argparse
import contextlib
import os
import resource
import subprocess
import sys
import tempfile
import time
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from bench.common import Figure, Ratio, by_ratio, report
from controller import demo
from controller.cli import main, options
from tests import quick_jobs

_ONE_IN = 20
_EVERY_S = 0.2


def write_archive(folder: Path, count: int) -> None:
    """Write *count* short recordings of different content, fifty in a folder."""
    for number in range(count):
        path = folder / f"{number // 50:03}" / f"{number:05}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % _ONE_IN == _ONE_IN - 1:
            path.write_bytes(quick_jobs.NOT_MEDIA + f" {number}".encode())
            continue
        with wave.open(str(path), "wb") as file:
            file.setparams((1, 2, 16_000, 0, "NONE", ""))
            file.writeframes(number.to_bytes(4, "little") * 2_400)


def command(archive: str, folder: str) -> NoReturn:
    """Transcribe the archive in this process, as the command line does."""
    options.runner_for = quick_jobs.runner_for(options.runner_for, Path(folder))
    arguments = ["transcribe", archive, "-o", f"{folder}/out", "--model", str(demo.MODEL), "--language", "en"]
    sys.argv = ["stenofleet", *arguments, "-f", "txt", "--store", f"{folder}/store", "--max-parallel", "2"]
    main()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One command: its exit code, times, memory and what it wrote."""

    code: int
    first_s: float
    """Until the first path was printed."""
    cpu_s: float
    samples: Sequence[tuple[int, float]]
    """Transcripts that were written so far, and the memory in MiB."""
    last: Sequence[str]
    """The summary."""

    def memory_at(self, part: float) -> float:
        """The memory when this part of all transcripts was there."""
        most = self.samples[-1][0]
        return next(mib for count, mib in self.samples if count >= part * most)


def measure(folder: Path) -> Measured:
    """Transcribe the archive in *folder*, or do so again."""
    out, words = folder / "out", folder / "messages"
    before = _count(out)
    script = f"import bench.archive as archive; archive.command({str(folder / 'archive')!r}, {str(folder)!r})"
    with words.open("wb") as err, (folder / "paths").open("wb") as paths:
        began_s = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, "-c", script],
            stdout=paths,
            stderr=err,
            env=os.environ | {"XDG_STATE_HOME": str(folder)},
        )
    samples: list[tuple[int, float]] = []
    first_s = 0.0
    while (ended := os.wait4(process.pid, os.WNOHANG))[0] == 0:
        # The first path is printed when the first transcript is complete.
        first_s = first_s or (time.monotonic() - began_s if (folder / "paths").stat().st_size else 0.0)
        with contextlib.suppress(OSError, IndexError):
            pages = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1])
            samples.append((_count(out) - before, pages * resource.getpagesize() / (1 << 20)))
        time.sleep(_EVERY_S if first_s else _EVERY_S / 10)
    lines = words.read_text(encoding="utf-8").splitlines()
    begins = max((number for number, line in enumerate(lines) if line.startswith("ended: ")), default=len(lines))
    return Measured(
        code=os.waitstatus_to_exitcode(ended[1]),
        first_s=first_s,
        cpu_s=ended[2].ru_utime + ended[2].ru_stime,
        samples=samples,
        last=lines[begins:],
    )


def _count(out: Path) -> int:
    return sum(len(os.listdir(one)) for one in out.iterdir()) if out.is_dir() else 0


def archive(count: int) -> tuple[Measured, Measured]:
    """Transcribe an archive of *count* recordings twice: the second command finds that all is done."""
    with tempfile.TemporaryDirectory(prefix="stenofleet-archive-") as folder:
        write_archive(Path(folder) / "archive", count)
        both = measure(Path(folder)), measure(Path(folder))
    for found in both:
        if found.code != 4:
            raise RuntimeError(f"the command ended with {found.code}: {found.last}")
        print(*found.last, sep="\n", file=sys.stderr)
    return both


def figures(sizes: Sequence[int]) -> Iterator[Figure]:
    """Lines for each size; ratios compare it with the smallest."""
    smallest: tuple[Measured, Measured] | None = None
    for count in sizes:
        found = archive(count)
        smallest = smallest or found
        peer = f"{sizes[0]:,} recordings"
        for ours, theirs, name in zip(
            found, smallest, [f"{count:,} recordings", "the same command again"], strict=True
        ):
            yield Figure(name=f"{name}: first path after", ours=f"{ours.first_s:.1f} s", bar="≤ 10 s")
            ratio = Ratio(ours=1000 * ours.cpu_s / count, theirs=1000 * theirs.cpu_s / sizes[0])
            yield by_ratio(f"{name}: each", peer, "≤ 1.2", ratio, "CPU ms")
        tenth, most = found[0].memory_at(0.1), max(mib for _, mib in found[0].samples)
        yield Figure(
            name=f"{count:,} recordings: largest memory",
            peer="when a tenth was written",
            ours=f"{most:.0f} MiB",
            theirs=f"{tenth:.0f} MiB",
            ratio=f"{most / tenth:.2f}",
            bar="≤ 1.2",
        )
        yield Figure(name=f"{count:,} recordings: lines of the summary", ours=str(len(found[0].last)), bar="≤ 20")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", nargs="+", type=int, default=[200, 1_000, 10_000])
    report(figures(parser.parse_args().sizes))
