"""Speed and memory against plain tools, as ratios measured in turns on one machine.

    python -m bench.speed [--rounds 3]

CPU seconds count a command with all its children. The recordings are made here: speech with known words, two hours of
it by repeating ten minutes, ten hours by repeating those.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.common import Ratio, compare, cost, machine, table
from chunk_job.contract import ChunkResult, Engine, Segment, TranscribeOptions, Usage, Word
from controller import demo
from controller.formats import FORMATS
from controller.plan import Plan, PlanOptions, Span
from controller.records import RunRecord
from controller.transcript import merge
from tests.speech import encode, write_tape

PYTHON = (sys.executable, "-P", "-m")
SEGMENT = ("-vn", "-ac", "1", "-ar", "16000", "-c:a", "flac", "-f", "segment", "-segment_time", "720")
# The same voice detection, words and threads as a chunk job: what it costs without the job around it.
BARE = """\
import sys
from faster_whisper import WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=1)
segments, _ = model.transcribe(sys.argv[2], vad_filter=True, word_timestamps=True, condition_on_previous_text=False)
print("".join(segment.text for segment in segments))
"""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One line of the table."""

    name: str
    peer: str
    ours: str
    theirs: str
    ratio: str
    bar: str


class Bench:
    """The recordings, and a figure for each promise."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        self.count = 0
        tape = folder / "ten.wav"
        write_tape(tape, seconds=600, seed=7)
        self.short = encode(tape, folder / "second.wav", "-ss", "1", "-t", "1")
        self.forty = folder / "forty.wav"
        write_tape(self.forty, seconds=2400, seed=8)
        self.mp3 = self.looped(encode(tape, folder / "ten.mp3", "-b:a", "64k"), "two.mp3", 11)
        self.m4a = self.looped(encode(tape, folder / "ten.m4a", "-b:a", "64k"), "two.m4a", 11)
        self.hours = self.looped(self.mp3, "hours.mp3", 4)

    def looped(self, media: Path, name: str, more: int) -> Path:
        """The recording again and again, its packets copied."""
        path = self.folder / name
        cost(["ffmpeg", "-v", "error", "-stream_loop", str(more), "-i", media, "-c", "copy", path])
        return path

    def command(self, media: Path, *options: str) -> list[str | Path]:
        """One run of its own."""
        self.count += 1
        place = self.folder / f"run{self.count}"
        store = (place / "store").as_uri()
        fixed = [
            "--model",
            str(demo.MODEL),
            "--language",
            "en",
            "--threads",
            "1",
            "-q",
            "--store",
            store,
            "-o",
            str(place),
        ]
        command: list[str | Path] = [*PYTHON, "controller", "transcribe", media]
        return [*command, *fixed, *options]

    def cut(self, media: Path) -> Ratio:
        """CPU seconds of cutting and encoding."""

        def ours() -> float:
            script = "import bench.speed, sys; bench.speed.cut_only(*sys.argv[1:])"
            return cost([sys.executable, "-c", script, media, self.fresh()], PYTHONPATH=str(Path.cwd())).cpu_s

        def theirs() -> float:
            return cost(["ffmpeg", "-nostdin", "-v", "error", "-i", media, *SEGMENT, self.fresh() / "%03d.flac"]).cpu_s

        return compare(ours, theirs, rounds=self.rounds)

    def fresh(self) -> Path:
        """A new folder."""
        return Path(tempfile.mkdtemp(dir=self.folder))

    def job(self) -> Ratio:
        """CPU seconds of one chunk job on one second of audio, by hand, against the bare call."""
        hand: list[str | Path] = [*PYTHON, "chunk_job", self.short, demo.MODEL]
        bare: list[str | Path] = [sys.executable, "-c", BARE, demo.MODEL, self.short]
        return compare(lambda: cost(hand).cpu_s, lambda: cost(bare).cpu_s, rounds=3 * self.rounds)

    def chunked(self, figure: Callable[[list[str | Path]], float], jobs: str) -> Ratio:
        """Ten chunks of forty minutes against the same command on the whole, controller and cutting included."""
        cut = ("--chunking-threshold", "0", "--chunk-duration", "240", "--max-parallel", jobs)
        whole = ("--chunking-threshold", "99999", "--max-parallel", "1", "--compute-type", "int8")
        return compare(
            lambda: figure(self.command(self.forty, *cut)),
            lambda: figure(self.command(self.forty, *whole)),
            rounds=self.rounds,
        )

    def intake_mib(self, media: Path) -> float:
        """Peak memory of the largest process while nothing but cutting happens."""
        script = "import bench.speed, sys; bench.speed.cut_only(*sys.argv[1:])"
        return cost([sys.executable, "-c", script, media, self.fresh()], PYTHONPATH=str(Path.cwd())).peak_mib

    def first_chunk_s(self) -> float:
        """Wall seconds from the command to the first chunk's task, on ten hours."""
        command = self.command(self.hours)
        place = self.folder / f"run{self.count}" / "store"
        began_s = time.monotonic()
        with subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL) as child:
            while not list(place.glob(".local/scratch/*/*-c00000-a1")) and time.monotonic() - began_s < 60:
                time.sleep(0.01)
            took_s = time.monotonic() - began_s
            child.terminate()
        return took_s


def cut_only(media: str, folder: str) -> None:
    """Cut a recording into chunks and do nothing else."""
    from controller.intake import Cutter
    from controller.media import probe

    cutter = Cutter(Path(media), probe(media), PlanOptions(), audio_track=None)
    for chunk in cutter.chunks(Path(folder), skip=frozenset()):
        if chunk.audio:
            chunk.audio.unlink()


def results(hours: int) -> Iterator[bytes]:
    """Dense speech as chunk jobs write it: 12 minutes and about 2,400 words a result."""
    rng = random.Random(1)
    engine = Engine(
        faster_whisper="1.2.1",
        ctranslate2="4.8.1",
        model="m",
        model_digest="d",
        device="cpu",
        compute_type="int8",
        isa="x",
    )
    usage = Usage(fetch_ms=1, load_ms=1, transcribe_ms=1, cpu_threads=1)
    for span in range(hours * 5):
        segments: list[Segment] = []
        at = 0
        while at < 714_000:
            words, start = [], at
            for _ in range(rng.randint(8, 16)):
                end = at + rng.randint(100, 400)
                words.append(
                    Word(word=f" word{rng.randint(0, 999)}", start_ms=at, end_ms=end, probability=rng.random())
                )
                at = end
            segments.append(
                Segment(
                    id=len(segments),
                    seek=0,
                    start_ms=start,
                    end_ms=at,
                    text="".join(word["word"] for word in words),
                    tokens=tuple(rng.randint(0, 50_000) for _ in range(len(words) + 4)),
                    temperature=0.0,
                    avg_logprob=-0.3,
                    compression_ratio=1.4,
                    no_speech_prob=0.01,
                    words=tuple(words),
                )
            )
            at += rng.randint(100, 900)
        yield ChunkResult(
            text="",
            processing_time=1.0,
            run="r",
            span=span,
            attempt=1,
            uid="u",
            task_sha256="t",
            audio_ms=720_000,
            speech_ms=720_000,
            language="en",
            language_probability=0.9,
            quality="ok",
            segments=tuple(segments),
            engine=engine,
            usage=usage,
        ).encode()


def merging(rounds: int, *, write: bool) -> Ratio:
    """CPU seconds of reading, validating and merging ten hours, against ``json.loads`` of the same bytes."""
    raw = list(results(10))
    spans = tuple(
        Span(
            index=i,
            start_ms=720_000 * i,
            end_ms=720_000 * (i + 1),
            audio_start_ms=720_000 * i,
            audio_end_ms=720_000 * (i + 1),
            cut="pause",
        )
        for i in range(len(raw))
    )
    plan = Plan(run="r", spans=spans, duration_ms=spans[-1].end_ms, offset_ms=0, direct=False, warnings=())
    record = RunRecord(
        run="r",
        identity="i",
        size_bytes=1,
        name="n",
        audio_track=None,
        plan=PlanOptions(),
        options=TranscribeOptions(),
        planner=1,
        versions={},
    )
    wanted = frozenset({"t"})

    def ours() -> float:
        began_s = time.process_time()
        read = (ChunkResult.read(data, run="r", span=i, task_sha256=wanted) for i, data in enumerate(raw))
        transcript = merge(plan, record, read)
        if write:
            for render in FORMATS.values():
                render(transcript)
        return time.process_time() - began_s

    def theirs() -> float:
        began_s = time.process_time()
        for data in raw:
            json.loads(data)
        return time.process_time() - began_s

    return compare(ours, theirs, rounds=3 * rounds)


def by_ratio(name: str, peer: str, bar: str, ratio: Ratio, unit: str) -> Figure:
    """A line that compares."""
    ours, theirs = f"{ratio.ours:.2f} {unit}", f"{ratio.theirs:.2f} {unit}"
    return Figure(name=name, peer=peer, ours=ours, theirs=theirs, ratio=f"{ratio.value:.2f}", bar=bar)


def figures(bench: Bench) -> Iterator[Callable[[], Figure]]:
    """All of them, to be measured one by one."""
    segment = "`ffmpeg -f segment -c:a flac`"
    yield lambda: by_ratio("cut and encode 2 h of mp3", segment, "≤ 1.0", bench.cut(bench.mp3), "CPU s")
    yield lambda: by_ratio("cut and encode 2 h of m4a", segment, "≤ 1.0", bench.cut(bench.m4a), "CPU s")
    yield lambda: by_ratio("chunk job, 1 s of audio", "bare faster-whisper call", "≤ 0.9", bench.job(), "CPU s")
    whole = "the whole file, one thread"
    yield lambda: by_ratio(
        "ten chunks one by one", whole, "≤ 1.05", bench.chunked(lambda command: cost(command).cpu_s, "1"), "CPU s"
    )
    yield lambda: by_ratio(
        "two workers of one thread", whole, "≤ 0.55", bench.chunked(lambda command: cost(command).wall_s, "2"), "s"
    )
    loads = "`json.loads` of the same bytes"
    yield lambda: by_ratio("merge 10 h", loads, "≤ 3", merging(bench.rounds, write=False), "CPU s")
    yield lambda: by_ratio("merge 10 h, write five formats", loads, "", merging(bench.rounds, write=True), "CPU s")

    def memory() -> Figure:
        long, short = bench.intake_mib(bench.hours), bench.intake_mib(bench.mp3)
        more = f"{long - short:+.0f} MiB"
        return Figure(
            name="cutting 10 h, memory",
            peer="cutting 2 h",
            ours=f"{long:.0f} MiB",
            theirs=f"{short:.0f} MiB",
            ratio=more,
            bar="≤ +20 MB",
        )

    yield memory
    yield lambda: Figure(
        name="first chunk job of 10 h starts after",
        peer="",
        ours=f"{bench.first_chunk_s():.1f} s",
        theirs="",
        ratio="",
        bar="≤ 3 s",
    )
    yield lambda: Figure(
        name="`stenofleet --help`",
        peer="",
        ours=f"{min(cost([*PYTHON, 'controller', '--help']).wall_s for _ in range(5)):.2f} s",
        theirs="",
        ratio="",
        bar="< 0.3 s",
    )


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each comparison, after one to warm up")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory(prefix="stenofleet-speed-") as folder:
        for measure in figures(Bench(Path(folder), arguments.rounds)):
            found = measure()
            print(f"{found.name}: {found.ours} / {found.theirs} {found.ratio}", file=sys.stderr, flush=True)
            rows.append([found.name, found.peer, found.ours, found.theirs, found.ratio, found.bar])
    print(f"{machine()}\n")
    print(table(["what", "against", "ours", "theirs", "ratio", "bar"], rows))


if __name__ == "__main__":
    main()
