"""Reading, validating and merging results, compared with ``json.loads`` of the same bytes. Memory of a hundred runs,
and of runs of ten and a hundred hours.

    python -m bench.merge [--rounds 9] [--runs 100]

Ten hours of dense speech, in the format of chunk jobs: 50 results, 120,000 words, 14 MB.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.common import Figure, Ratio, by_ratio, compare, report
from chunk_job.contract import ChunkResult, ChunkTask, Engine, TranscribeOptions, Usage, sha256_hex
from chunk_job.segment import Segment, Word
from chunk_job.store.files import FileStore
from controller.domain.actions import Finish
from controller.domain.documents import Request, RunRecord, Source
from controller.domain.keys import RunKeys
from controller.domain.output import Output
from controller.domain.plan import Plan, PlanOptions, Span
from controller.domain.tasks import chunk_task
from controller.runs.repository import RunRepository
from controller.runs.transcript_files import TranscriptWriter
from controller.transcript.merge import Merge

RUN = "0123456789abcdef"
SPAN_MS = 720_000
SPANS_IN_10_H = 50


def plan_of(hours: int) -> Plan:
    """A plan with spans of twelve minutes."""
    spans = tuple(
        Span(
            index=index,
            start_ms=SPAN_MS * index,
            end_ms=SPAN_MS * (index + 1),
            audio_start_ms=SPAN_MS * index,
            audio_end_ms=SPAN_MS * (index + 1),
            cut="pause",
        )
        for index in range(SPANS_IN_10_H * hours // 10)
    )
    return Plan(run=RUN, spans=spans, duration_ms=spans[-1].end_ms, offset_ms=0, direct=False, warnings=())


PLAN = plan_of(10)
RECORD = RunRecord(
    run=RUN,
    identity="0" * 64,
    size_bytes=1 << 30,
    name="n",
    audio_track=None,
    plan=PlanOptions(),
    options=TranscribeOptions(language="en"),
    planner=1,
    versions={},
)
ENGINE = Engine(
    faster_whisper="1.2.1",
    ctranslate2="4.8.1",
    model="m",
    model_digest="0" * 64,
    device="cpu",
    compute_type="int8",
    isa="x",
)
LOADS = "`json.loads` of the same bytes"


def task(span: int) -> ChunkTask:
    """The task of the chunk job of this span."""
    return chunk_task(RECORD, span, audio_ms=SPAN_MS, pcm_sha256="0" * 64, direct=False)


def results(plan: Plan) -> Iterator[bytes]:
    """Results of dense speech: 12 minutes and about 2,400 words each."""
    chance = random.Random(1)
    for span in plan.spans:
        yield ChunkResult(
            text="",
            processing_time=1.0,
            run=RUN,
            span=span.index,
            attempt=1,
            uid="u",
            task_sha256=sha256_hex(task(span.index).encode()),
            audio_ms=SPAN_MS,
            speech_ms=SPAN_MS,
            language="en",
            language_probability=0.9,
            quality="ok",
            segments=tuple(segments(chance)),
            engine=ENGINE,
            usage=Usage(fetch_ms=1, load_ms=1, transcribe_ms=1, cpu_threads=1),
        ).encode()


def segments(chance: random.Random) -> Iterator[Segment]:
    """Segments of twelve minutes."""
    at, number = 0, 0
    while at < SPAN_MS - 6000:
        words, start = [], at
        for _ in range(chance.randint(8, 16)):
            end = at + chance.randint(100, 400)
            text = f" word{chance.randint(0, 999)}"
            words.append(Word(word=text, start_ms=at, end_ms=end, probability=chance.random()))
            at = end
        yield Segment(
            id=number,
            seek=0,
            start_ms=start,
            end_ms=at,
            text="".join(word["word"] for word in words),
            tokens=tuple(chance.randint(0, 50_000) for _ in range(len(words) + 4)),
            temperature=0.0,
            avg_logprob=-0.3,
            compression_ratio=1.4,
            no_speech_prob=0.01,
            words=tuple(words),
        )
        at += chance.randint(100, 900)
        number += 1


def merging(raw: list[bytes], rounds: int, *, write: bool) -> Ratio:
    """CPU seconds for the results of one run."""
    wanted = [frozenset({sha256_hex(task(span.index).encode())}) for span in PLAN.spans]

    def ours() -> float:
        began_s = time.process_time()
        read = (
            ChunkResult.read(data, run=RUN, span=i, task_sha256=wanted[i], audio_ms=SPAN_MS)
            for i, data in enumerate(raw)
        )
        made = Merge(PLAN, RECORD, range(len(raw)))
        if write:
            with TranscriptWriter(made.gaps, made.duration_ms) as writer:
                for some in made.segments(read):
                    writer.add(some)
                writer.finish(made.summary())
        else:
            for _ in made.segments(read):
                pass
            made.summary()
        return time.process_time() - began_s

    return compare(ours, lambda: loading(raw), rounds=rounds)


def loading(raw: list[bytes]) -> float:
    """CPU seconds of the plain parser."""
    began_s = time.process_time()
    for data in raw:
        json.loads(data)
    return time.process_time() - began_s


def request() -> Request:
    """The request of a command for the run."""
    return Request(
        run=RUN,
        source=Source(uri="file:///n", identity="0" * 64, size_bytes=1, mtime_ns=1),
        record_key=RunKeys(RUN).record,
        record_sha256="0" * 64,
        outputs=(Output(base="file:///n", formats=("json",)),),
        on_chunk_failure="fail",
        keep_chunks=True,
    )


def fill(folder: str, hours: int) -> int:
    """Store a run whose chunks are all finished. Returns the size of its results in bytes."""
    store, keys, plan, size = FileStore(Path(folder)), RunKeys(RUN), plan_of(hours), 0
    store.put(keys.plan, plan.encode())
    for span, data in zip(plan.spans, results(plan), strict=True):
        store.put(keys.task(span.index), task(span.index).encode())
        store.put(f"{keys.results_of(span.index)}a1-u.json", data)
        store.put(keys.audio(span.index), b"")
        size += len(data)
    return size


def conclude_often(folder: str, runs: int) -> None:
    """Conclude a run many times in one process, as a controller does after the last chunk.

    Prints the peak memory after ten runs and after all runs, in MiB, and the CPU seconds of concluding and of
    ``json.loads``.
    """
    store = FileStore(Path(folder))
    raw = [store.get(entry.key) for entry in store.list(RunKeys(RUN).results)]
    ours_s, theirs_s, ten_mib = 0.0, 0.0, 0.0
    for number in range(runs):
        repository = RunRepository(store, RECORD, request())
        if repository.open():
            raise RuntimeError(f"{folder}: the run is already concluded")
        began_s = time.process_time()
        repository.conclude(Finish(verdict="complete"), elapsed_s=0, check=lambda: None)
        ours_s += time.process_time() - began_s
        theirs_s += loading(raw)
        if number == 9:
            ten_mib = peak_mib()
    print(json.dumps([ten_mib, peak_mib(), ours_s, theirs_s]))


def conclude_once(folder: str) -> None:
    """Conclude a run, as a controller does after the last chunk. Prints the memory before and its peak, in MiB."""
    repository = RunRepository(FileStore(Path(folder)), RECORD, request())
    before_mib = peak_mib()
    if repository.open():
        raise RuntimeError(f"{folder}: the run is already concluded")
    repository.mark(repository.conclude(Finish(verdict="complete"), elapsed_s=0, check=lambda: None))
    print(json.dumps([before_mib, peak_mib()]))


def read_back(folder: str) -> None:
    """Read a complete run, as a controller does. Prints the memory before and its peak, in MiB."""
    repository = RunRepository(FileStore(Path(folder)), RECORD, request())
    before_mib = peak_mib()
    if not repository.open():
        raise RuntimeError(f"{folder}: the run is not complete")
    print(json.dumps([before_mib, peak_mib()]))


def peak_mib() -> float:
    """Peak memory of this process in MiB."""
    # On Linux the value of getrusage starts with that of the parent process; VmHWM is of this program only.
    status = Path("/proc/self/status")
    lines = status.read_text(encoding="ascii").splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def alone(call: str) -> Any:
    """Run a function of this module in a separate process, and return the JSON that it prints."""
    script = f"import bench.merge as merge; merge.{call}"
    return json.loads(subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True).stdout)


def many(runs: int) -> Iterator[Figure]:
    """Many runs with the real code and real files, in a separate process."""
    with tempfile.TemporaryDirectory(prefix="stenofleet-merge-") as folder:
        fill(folder, 10)
        ten_mib, all_mib, ours_s, theirs_s = alone(f"conclude_often({folder!r}, {runs})")
    hours = f"{runs * 10} h in {runs} runs"
    ratio = Ratio(ours=ours_s, theirs=theirs_s)
    yield by_ratio(f"conclude {hours}: store, merge, five formats to disk", LOADS, "", ratio, "CPU s")
    yield Figure(
        name=f"the same, peak memory after {runs} runs",
        peer="after 10 runs",
        ours=f"{all_mib:.0f} MiB",
        theirs=f"{ten_mib:.0f} MiB",
        ratio=f"{all_mib - ten_mib:+.0f} MiB",
        bar="flat",
    )


def memory(hours: int) -> Iterator[Figure]:
    """Peak memory of a process that concludes a run, and of one that reads its transcript."""
    with tempfile.TemporaryDirectory(prefix="stenofleet-merge-") as folder:
        results_mib = fill(folder, hours) / (1 << 20)
        for name, call in (("conclude", "conclude_once"), ("read back", "read_back")):
            before_mib, most_mib = alone(f"{call}({folder!r})")
            yield Figure(
                name=f"{name} {hours} h: peak memory of the process, of which {before_mib:.0f} MiB before",
                peer="the results' bytes",
                ours=f"{most_mib:.0f} MiB",
                theirs=f"{results_mib:.0f} MiB",
                ratio=f"{most_mib / results_mib:.2f}",
                bar="≤ 200 MiB",
            )


def figures(rounds: int, runs: int) -> Iterator[Figure]:
    """All measurements of this module."""
    raw = list(results(PLAN))
    yield by_ratio("read, validate, merge 10 h", LOADS, "≤ 3", merging(raw, rounds, write=False), "CPU s")
    yield by_ratio("the same, and five formats", LOADS, "", merging(raw, rounds, write=True), "CPU s")
    yield from many(runs)
    yield from memory(10)
    yield from memory(100)


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each comparison, after one to warm up")
    parser.add_argument("--runs", type=int, default=100, help="runs of ten hours in one process")
    arguments = parser.parse_args()
    report(figures(arguments.rounds, arguments.runs))


if __name__ == "__main__":
    main()
