"""Reading, validating and merging results, against ``json.loads`` of the same bytes; memory over a hundred runs.

    python -m bench.merge [--rounds 9] [--runs 100]

A run has ten hours of dense speech as chunk jobs write it: 50 results, 120,000 words, 14 MB.
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

from bench.common import Figure, Ratio, by_ratio, compare, report
from chunk_job.contract import (
    ChunkResult,
    ChunkTask,
    Engine,
    Segment,
    TranscribeOptions,
    Usage,
    Word,
    sha256_hex,
)
from chunk_job.store.files import FileStore
from controller.domain.actions import Finish
from controller.domain.documents import Output, Request, RunRecord, Source
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan, PlanOptions, Span
from controller.domain.tasks import chunk_task
from controller.runs.repository import Ledger
from controller.transcript.formats import every_format
from controller.transcript.merge import merge

RUN = "0123456789abcdef"
SPAN_MS = 720_000
SPANS = tuple(
    Span(
        index=index,
        start_ms=SPAN_MS * index,
        end_ms=SPAN_MS * (index + 1),
        audio_start_ms=SPAN_MS * index,
        audio_end_ms=SPAN_MS * (index + 1),
        cut="pause",
    )
    for index in range(50)
)
PLAN = Plan(run=RUN, spans=SPANS, duration_ms=SPANS[-1].end_ms, offset_ms=0, direct=False, warnings=())
RECORD = RunRecord(
    run=RUN,
    identity="0" * 64,
    size_bytes=1,
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
    """What the chunk job of this span was told."""
    return chunk_task(RECORD, span, audio_ms=SPAN_MS, pcm_sha256="0" * 64, direct=False)


def results() -> Iterator[bytes]:
    """Dense speech, 12 minutes and about 2,400 words a result."""
    chance = random.Random(1)
    for span in SPANS:
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
    """Twelve minutes of them."""
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
    """CPU seconds of one run's results."""
    wanted = [frozenset({sha256_hex(task(span.index).encode())}) for span in SPANS]

    def ours() -> float:
        began_s = time.process_time()
        read = (
            ChunkResult.read(data, run=RUN, span=i, task_sha256=wanted[i], audio_ms=SPAN_MS)
            for i, data in enumerate(raw)
        )
        transcript = merge(PLAN, RECORD, read)
        if write:
            for _, text in every_format(transcript):
                text.encode()
        return time.process_time() - began_s

    return compare(ours, lambda: loading(raw), rounds=rounds)


def loading(raw: list[bytes]) -> float:
    """CPU seconds of the plain parser."""
    began_s = time.process_time()
    for data in raw:
        json.loads(data)
    return time.process_time() - began_s


def request() -> Request:
    """What a command asks of the run."""
    return Request(
        run=RUN,
        source=Source(uri="file:///n", identity="0" * 64, size_bytes=1, mtime_ns=1),
        record_key=RunKeys(RUN).record,
        record_sha256="0" * 64,
        outputs=(Output(base="file:///n", formats=("json",)),),
        on_chunk_failure="fail",
        keep_chunks=True,
    )


def fill(store: FileStore) -> list[bytes]:
    """A run whose chunks are all done; its results."""
    keys = RunKeys(RUN)
    raw = list(results())
    store.put(keys.plan, PLAN.encode())
    for span, data in zip(SPANS, raw, strict=True):
        store.put(keys.task(span.index), task(span.index).encode())
        store.put(f"{keys.results_of(span.index)}a1-u.json", data)
        store.put(keys.audio(span.index), b"")
    return raw


def conclude_often(folder: str, runs: int) -> None:
    """What a controller does when a run's last chunk is done, again and again in one process.

    Prints how much memory it has needed at most after ten runs and after all of them, in MiB, and the CPU seconds of
    concluding and of ``json.loads``.
    """
    store = FileStore(Path(folder))
    raw = [store.get(entry.key) for entry in store.list(RunKeys(RUN).results)]
    ours_s, theirs_s, ten_mib = 0.0, 0.0, 0.0
    for number in range(runs):
        ledger = Ledger(store, RECORD, request())
        if ledger.open():
            raise RuntimeError(f"{folder}: the run is already concluded")
        began_s = time.process_time()
        ledger.conclude(Finish(verdict="complete"), elapsed_s=0)
        ours_s += time.process_time() - began_s
        theirs_s += loading(raw)
        if number == 9:
            ten_mib = peak_mib()
    print(json.dumps([ten_mib, peak_mib(), ours_s, theirs_s]))


def peak_mib() -> float:
    """This process's high-water mark."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def many(runs: int) -> Iterator[Figure]:
    """The real path, files and all, in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="stenofleet-merge-") as folder:
        fill(FileStore(Path(folder)))
        script = f"from bench.merge import conclude_often; conclude_often({folder!r}, {runs})"
        done = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=True)
    ten_mib, all_mib, ours_s, theirs_s = json.loads(done.stdout)
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


def figures(rounds: int, runs: int) -> Iterator[Figure]:
    """All about merging."""
    raw = list(results())
    yield by_ratio("read, validate, merge 10 h", LOADS, "≤ 3", merging(raw, rounds, write=False), "CPU s")
    yield by_ratio("the same, and five formats", LOADS, "", merging(raw, rounds, write=True), "CPU s")
    yield from many(runs)


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="turns of each comparison, after one to warm up")
    parser.add_argument("--runs", type=int, default=100, help="runs of ten hours in one process")
    arguments = parser.parse_args()
    report(figures(arguments.rounds, arguments.runs))


if __name__ == "__main__":
    main()
