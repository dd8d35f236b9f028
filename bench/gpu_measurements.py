"""The measurements of ``bench.gpu``: what is run, and the rows that come of it."""

import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.chunk_jobs import ROOT, ChunkJobs, EndedJob, Process
from bench.gpu_figures import decoding_rtfx, ending, failure, split, spoken, work
from bench.gpu_rows import Rows
from chunk_job.contract import ChunkResult, TranscribeOptions
from chunk_job.errors import ExitCode

SECTIONS = ("start", "jobs", "batches", "peers", "together", "behaviour")

SHORTEST_S = 8.0
"""Nothing is started with less time left."""

PEER_BATCH = 16

STARTS = (
    ("int8_float16", "int8", "empty"),
    ("int8_float16", "int8", "warm"),
    ("float16", "int8", "warm"),
    ("float16", "float16", "empty"),
    ("float16", "float16", "warm"),
)
"""Types of the stored weights, types that are asked for, and states of CUDA's cache. A GPU's int8 is int8_float16."""

# What a GPU of the H100's class has to reach.
DECODING_BARS = {"large-v3-turbo": 400.0}
"""Smallest RTFx of the decoding alone: features, encoding, text, word times."""
WALL_BARS = {("large-v3-turbo", 720): 5.0, ("large-v3-turbo", 1800): 8.0}
"""Longest wall seconds of a whole job, by model and seconds of audio."""
JOB_BARS = {"large-v3": 2.5 * 51}
"""Smallest RTFx of a whole job. 51 is that of sequential decoding."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What is measured. The first model gets all measurements, the others only the whole jobs and the peers."""

    device: str
    models: Sequence[str]
    seconds: Sequence[int]
    """Lengths of chunks, ascending."""
    batches: Sequence[int | str]
    rounds: int
    threads: int
    budget_s: float
    only: Sequence[str] = SECTIONS


class Measurements:
    """All measurements, within the budget."""

    def __init__(
        self, settings: Settings, rows: Rows, jobs: ChunkJobs, work: Path, environment: dict[str, str]
    ) -> None:
        self._settings, self._rows, self._jobs, self._work = settings, rows, jobs, work
        self._kernels = work / "kernels"
        self._environment = environment | {"CUDA_CACHE_PATH": str(self._kernels)}
        self._wall: dict[tuple[str, int], float] = {}
        """Median wall seconds of whole jobs, by model and seconds of audio."""
        self._decoding: dict[str, float] = {}
        """Best RTFx of decoding, by model."""
        self._result: ChunkResult | None = None
        """The last result of the first model's shortest job."""

    @property
    def _left_s(self) -> float:
        return self._settings.budget_s - self._rows.elapsed_s

    def run(self) -> None:
        """Measure all. A measurement that fails costs its own rows only."""
        first, *others = self._settings.models
        if not self._models():
            return
        self._section("start", self._start)
        for model in self._settings.models:
            self._section("jobs", lambda model=model: self._whole_jobs(model))  # type: ignore[misc]
        self._section("batches", lambda: self._sweep(first))
        for model in (first, *others):
            self._section("peers", lambda model=model: self._peers(model))  # type: ignore[misc]
        self._section("together", lambda: self._together(first))
        self._section("behaviour", lambda: self._repeats(first))
        self._section("behaviour", lambda: self._out_of_memory(first))
        self._bars()

    def _section(self, section: str, measure: Callable[[], None]) -> None:
        if section not in self._settings.only:
            return
        try:
            measure()
        except (OSError, RuntimeError, ValueError) as error:
            self._rows.add(section, remark=f"failed: {type(error).__name__}: {error}"[:300])

    # --- models

    def _models(self) -> bool:
        """Build the models, side by side: nothing is measured meanwhile."""
        first, *others = self._settings.models
        wanted = [(first, "int8_float16"), *((name, "float16") for name in (first, *others))]
        building = []
        for name, stored in wanted:
            folder = self._model(name, stored)
            if not (folder / "tokenizer.json").exists():
                command = [sys.executable, "-m", "bench.rehearsal", name, str(folder), stored]
                building.append((folder, Process(command, {}, self._work / f"{folder.name}.log")))
        ended = [(folder, process.wait(max(0.0, self._left_s))) for folder, process in building]
        failed = [f"{folder.name}: {process.output[-300:]}" for folder, process in ended if process.code != 0]
        built_s = max((process.wall_s for _, process in ended), default=0.0)
        self._rows.add("environment", what="seconds to build the models", value=built_s)
        for one in failed:
            self._rows.add("environment", what="model not built", value=one)
        return not failed

    def _model(self, name: str, stored: str) -> Path:
        return self._work / f"{name}-{stored}"

    # --- chunk jobs

    def _options(self, model: str, stored: str = "float16", **options: Any) -> TranscribeOptions:
        on_gpu = self._settings.device == "cuda"
        defaults = (
            {"device": "cuda", "compute_type": "float16"} if on_gpu else {"device": "cpu", "compute_type": "int8"}
        )
        return TranscribeOptions(
            model=str(self._model(model, stored)),
            language="en",
            cpu_threads=self._settings.threads,
            **(defaults | options),
        )

    def _job(self, seconds: int, options: TranscribeOptions) -> EndedJob | None:
        """Run a job; None if there is no time for it."""
        if self._left_s < SHORTEST_S:
            return None
        return self._jobs.start(seconds, options, self._environment).wait(self._left_s)

    def _start(self) -> None:
        """The shortest job with each type of stored weights. The kernels of the last one stay in the cache."""
        seconds, model = self._settings.seconds[0], self._settings.models[0]
        for stored, computed, cache in STARTS:
            if computed == "float16" and self._settings.device == "cpu":
                continue
            if cache == "empty":
                shutil.rmtree(self._kernels, ignore_errors=True)
            ended = self._job(seconds, self._options(model, stored, compute_type=computed))
            found = ended.result.engine.compute_type if ended and ended.result else computed
            row = {"model": model, "stored": stored, "computed": found, "kernel cache": cache, "audio s": seconds}
            self._rows.add("start", **row, **(failure(ended) or split(ended)))

    def _whole_jobs(self, model: str) -> None:
        for seconds in self._settings.seconds:
            runs = [self._job(seconds, self._options(model)) for _ in range(self._settings.rounds)]
            ended = [run for run in runs if run and run.result]
            if not ended:
                self._rows.add("jobs", model=model, **{"audio s": seconds}, **failure(runs[0]))
                continue
            wall_s = statistics.median(run.wall_s for run in ended)
            middle = min(ended, key=lambda run: abs(run.wall_s - wall_s))
            self._wall[model, seconds] = wall_s
            if (model, seconds) == (self._settings.models[0], self._settings.seconds[0]):
                self._result = ended[-1].result
            self._decoded(model, middle)
            row = {"model": model, "audio s": seconds, "wall s": wall_s, "RTFx": seconds / wall_s}
            self._rows.add("jobs", **row, **work(middle), runs=len(ended))

    def _sweep(self, model: str) -> None:
        """The longest job with each size of a batch."""
        seconds = self._settings.seconds[-1]
        windows = 0
        for batch in self._settings.batches:
            row = {"model": model, "audio s": seconds, "batch size": batch}
            if isinstance(batch, int) and 0 < windows < batch:
                self._rows.add("batches", **row, remark=f"skipped: there are only {windows} windows")
                continue
            ended = self._job(seconds, self._options(model, batch_size=batch))
            if ended and ended.result:
                windows = len(ended.result.windows)
                self._decoded(model, ended)
            self._rows.add("batches", **row, **(failure(ended) or work(ended)))

    def _decoded(self, model: str, ended: EndedJob) -> None:
        rtfx = decoding_rtfx(ended)
        self._decoding[model] = max(rtfx, self._decoding.get(model, 0.0))

    def _together(self, model: str) -> None:
        """Two jobs that start at the same time."""
        seconds = self._middle
        row: dict[str, Any] = {"model": model, "audio s": seconds, "jobs": 2}
        if self._left_s < SHORTEST_S:
            self._rows.add("together", **row, **failure(None))
            return
        started = [self._jobs.start(seconds, self._options(model), self._environment) for _ in range(2)]
        ended = [job.wait(max(0.0, self._left_s)) for job in started]
        for run in ended:
            if reason := failure(run):
                self._rows.add("together", **row, **reason)
                return
        rtfx = 2 * seconds / max(run.wall_s for run in ended)
        alone = seconds / self._wall[model, seconds] if (model, seconds) in self._wall else None
        row |= {"wall s": max(run.wall_s for run in ended), "RTFx of both": rtfx, "RTFx of one alone": alone}
        self._rows.add("together", **row, gain=rtfx / alone if alone else None)

    @property
    def _middle(self) -> int:
        """The middle one of the lengths."""
        return self._settings.seconds[len(self._settings.seconds) // 2]

    # --- the library alone

    def _peers(self, model: str) -> None:
        seconds = self._middle
        for batch, name in ((0, "sequential"), (PEER_BATCH, f"BatchedInferencePipeline({PEER_BATCH})")):
            row: dict[str, Any] = {"model": model, "audio s": seconds, "mode": name}
            if self._left_s < SHORTEST_S:
                self._rows.add("peers", **row, remark="skipped: no time left")
                continue
            ended = Process(self._peer(model, seconds, batch), self._environment, self._work / "peer.log").wait(
                self._left_s
            )
            if ended.code != 0:
                self._rows.add("peers", **row, remark=ending(ended.code, ended.output))
                continue
            found = json.loads(ended.output.splitlines()[-1])
            ours = self._wall.get((model, seconds))
            row |= {
                "wall s": ended.wall_s,
                "CPU s": ended.cpu_s,
                "RTFx": seconds / ended.wall_s,
                **found,
                "our wall s": ours,
            }
            self._rows.add("peers", **row, ratio=ours / ended.wall_s if ours else None)

    def _peer(self, model: str, seconds: int, batch: int) -> list[str]:
        options = self._options(model)
        return [
            *(sys.executable, "-P", "-m", "bench.bare", options.model, str(self._jobs.audio(seconds))),
            *("--batch", str(batch), "--device", options.device, "--compute-type", options.compute_type),
            *("--threads", str(options.cpu_threads)),
        ]

    # --- behaviour

    def _repeats(self, model: str) -> None:
        ended = self._job(self._settings.seconds[0], self._options(model))
        row = {"what": "a job that is repeated gives the same bytes of text, times and windows"}
        if ended and ended.result and self._result:
            self._rows.add("behaviour", **row, met=spoken(ended.result) == spoken(self._result))
        else:
            self._rows.add("behaviour", **row, **(failure(ended) or {"remark": "skipped: nothing to compare with"}))

    def _out_of_memory(self, model: str) -> None:
        """A large batch while another process holds most of the memory: the batch is halved until it fits."""
        row = {"what": "too little GPU memory for a batch of 64: smaller batches, same job"}
        if self._settings.device != "cuda" or self._left_s < 2 * SHORTEST_S:
            reason = "no time left" if self._settings.device == "cuda" else "no GPU"
            self._rows.add("behaviour", **row, remark=f"skipped: {reason}")
            return
        left_mib = (self._model(model, "float16") / "model.bin").stat().st_size // 2**20 + 1_500
        command = [sys.executable, "-P", str(ROOT / "bench" / "hold_gpu.py"), str(left_mib)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as held:
            assert held.stdout
            if (answer := held.stdout.readline().strip()) != b"held":
                rest = (answer + held.stdout.read())[-200:].decode(errors="replace")
                self._rows.add("behaviour", **row, remark=f"skipped: the memory could not be held: {rest}")
                return
            ended = self._job(self._settings.seconds[-1], self._options(model, batch_size=64))
        used = ended.result.engine.batch_size if ended and ended.result else None
        explained = ended is not None and ended.code == ExitCode.CUDA_OOM
        remark = "exit code CUDA_OOM: not even one window fits" if explained else f"{left_mib} MiB were free"
        self._rows.add(
            "behaviour", **row, met=used is not None, **{"batch size": used}, **(failure(ended) or {"remark": remark})
        )

    # --- bars

    def _bars(self) -> None:
        for model, bar in DECODING_BARS.items():
            self._bar(f"{model}: RTFx of decoding", "≥", bar, self._decoding.get(model))
        for (model, seconds), bar in WALL_BARS.items():
            self._bar(f"{model}: wall s of a job of {seconds} s", "≤", bar, self._wall.get((model, seconds)))
        for model, bar in JOB_BARS.items():
            for seconds in (720, 1800):
                wall_s = self._wall.get((model, seconds))
                self._bar(f"{model}: RTFx of a job of {seconds} s", "≥", bar, seconds / wall_s if wall_s else None)

    def _bar(self, what: str, relation: str, bar: float, found: float | None) -> None:
        met = None if found is None else found >= bar if relation == "≥" else found <= bar
        remark = "not measured" if found is None else "" if self._settings.device == "cuda" else "not on a GPU"
        self._rows.add("bars", what=what, measured=found, bar=f"{relation} {bar:g}", met=met, remark=remark)
