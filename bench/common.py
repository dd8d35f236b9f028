"""Shared by the benchmarks: the pipeline on one recording, a child's CPU time, medians of alternating runs, tables."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.tables import machine, table
from chunk_job.store.files import FileStore
from controller import demo
from controller.cli.execute import execute
from controller.cli.options import runner_for, transcribe_options
from controller.domain.output import Output
from controller.domain.plan import Plan, PlanOptions
from controller.domain.policy import RetryPolicy
from controller.intake import source
from controller.orchestrator.command_runs import KnownRequests
from controller.runs.run_requests import make_run_request
from controller.transcript.model import Transcript

__all__ = [
    "NEVER_MS",
    "WHOLE",
    "Cost",
    "Figure",
    "Ratio",
    "by_ratio",
    "compare",
    "cost",
    "machine",
    "report",
    "table",
    "transcribe",
    "transcribe_command",
    "turns",
]

NEVER_MS = 1 << 40
WHOLE = PlanOptions(threshold_ms=NEVER_MS, threshold_bytes=NEVER_MS)
"""Plan options without cuts."""


def transcribe(
    media: Path, plan: PlanOptions, *, language: str | None = None, jobs: int = 2, threads: int = 1
) -> tuple[Transcript, Plan]:
    """Transcribe one recording with the real loop and local processes. Returns its transcript and its plan."""
    options = transcribe_options(
        model=str(demo.MODEL),
        temperature=0.0,
        temperature_increment_on_fallback=0.2,
        threads=threads,
        jobs=jobs,
        language=language,
    )
    with tempfile.TemporaryDirectory(prefix="stenofleet-bench-") as folder:
        store = FileStore(Path(folder) / "store")
        base = Path(folder) / "out" / media.stem
        run_request = make_run_request(
            source.inspect(media),
            Output(base=base.as_uri(), formats=("json",)),
            plan=plan,
            options=options,
            audio_track=None,
            on_chunk_failure="fail",
            keep_chunks=False,
        )
        (ended,) = execute(
            KnownRequests([run_request]), store, runner_for(store), policy=RetryPolicy(), max_parallel=jobs, quiet=True
        )
        if ended.verdict != "complete":
            raise RuntimeError(f"{media}: {ended.summary}")
        made = Plan.decode(store.get(f"runs/{ended.run}/plan.json"))
        return Transcript.decode(base.with_suffix(".json").read_bytes()), made


def transcribe_command(media: Path, folder: Path, *options: str, model: Path = demo.MODEL) -> list[str | Path]:
    """The command of one run, with its own store."""
    return [
        *(sys.executable, "-P", "-m", "controller", "transcribe", media, "--model", model),
        *("--language", "en", "--threads", "1", "-q", "--store", (folder / "store").as_uri(), "-o", folder),
        *options,
    ]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Cost of a command: CPU seconds with all its children, wall seconds, memory of the largest process in MiB."""

    cpu_s: float
    wall_s: float
    peak_mib: float


def cost(command: Sequence[str | Path], **environment: str) -> Cost:
    """Run a command to its end. Raises :class:`RuntimeError` with its output if it fails."""
    reading, writing = os.pipe()
    with tempfile.TemporaryFile() as output:
        began_s = time.monotonic()
        child = os.fork()
        if child == 0:
            # A separate process in between, so that only the children of this command are counted.
            code = subprocess.run(
                [str(part) for part in command], stdout=output, stderr=output, env=os.environ | environment, check=False
            ).returncode
            used = resource.getrusage(resource.RUSAGE_CHILDREN)
            os.write(writing, f"{code} {used.ru_utime + used.ru_stime} {used.ru_maxrss}".encode())
            os._exit(0)
        os.waitpid(child, 0)
        wall_s = time.monotonic() - began_s
        status, cpu_s, peak_kib = os.read(reading, 100).split()
        os.close(reading)
        os.close(writing)
        if int(status):
            output.seek(0)
            raise RuntimeError(
                f"{command[0]} ended with {int(status)}: {output.read()[-2000:].decode(errors='replace')}"
            )
    return Cost(cpu_s=float(cpu_s), wall_s=wall_s, peak_mib=int(peak_kib) / 1024)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """Our value and theirs: medians of alternating runs."""

    ours: float
    theirs: float

    @property
    def value(self) -> float:
        return self.ours / self.theirs


def compare(ours: Callable[[], float], theirs: Callable[[], float], *, rounds: int) -> Ratio:
    """Run both alternately, so that other load of the machine affects both. The first round is a warm-up."""
    ours(), theirs()
    pairs = [(ours(), theirs()) for _ in range(rounds)]
    return Ratio(ours=statistics.median(pair[0] for pair in pairs), theirs=statistics.median(pair[1] for pair in pairs))


def turns(commands: Mapping[str, Callable[[], Cost]], rounds: int) -> dict[str, Cost]:
    """The median cost of each command, run alternately. The first round is a warm-up."""
    made = [{name: run() for name, run in commands.items()} for _ in range(rounds + 1)][1:]
    return {name: _median([costs[name] for costs in made]) for name in commands}


def _median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        cpu_s=statistics.median(one.cpu_s for one in costs),
        wall_s=statistics.median(one.wall_s for one in costs),
        peak_mib=max(one.peak_mib for one in costs),
    )


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of a table: what was measured, compared with what, and the required limit."""

    name: str
    peer: str = ""
    ours: str
    theirs: str = ""
    ratio: str = ""
    bar: str = ""


def by_ratio(name: str, peer: str, bar: str, ratio: Ratio, unit: str) -> Figure:
    """A line with a comparison."""
    ours, theirs = f"{ratio.ours:.2f} {unit}", f"{ratio.theirs:.2f} {unit}"
    return Figure(name=name, peer=peer, ours=ours, theirs=theirs, ratio=f"{ratio.value:.2f}", bar=bar)


def report(figures: Iterable[Figure]) -> None:
    """Print each line as soon as it is measured."""
    print(f"{machine()}\n")
    print(table(["what", "against", "ours", "theirs", "ratio", "bar"], []), flush=True)
    for one in figures:
        print(f"| {one.name} | {one.peer} | {one.ours} | {one.theirs} | {one.ratio} | {one.bar} |", flush=True)
