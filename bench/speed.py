"""Speed and memory compared with plain tools, as ratios measured alternately on one machine.

    python -m bench.speed [--rounds 3]
    python -m bench.speed --model FOLDER [--speech FILE]

CPU seconds include all children of a command. The recordings are generated: speech with known words, two hours by
repeating ten minutes, ten hours by repeating those. With a real model, only the rows that depend on the model are
measured, on a story that is read aloud or on a file with English speech.
"""

import argparse
import math
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import soundfile

from bench import peer
from bench.common import Cost, Figure, Ratio, by_ratio, compare, cost, report, transcribe_command, turns
from chunk_job.contract import SAMPLE_RATE, ChunkTask, TranscribeOptions, sha256_hex
from chunk_job.store.files import FileStore
from controller import demo
from controller.domain.plan import PlanOptions
from tests.readings import read_aloud
from tests.speech import encode, write_tape, write_wav

PYTHON = (sys.executable, "-P", "-m")
SEGMENT = ("-vn", "-ac", "1", "-ar", "16000", "-c:a", "flac", "-f", "segment", "-segment_time", "720")
# The same voice detection, word times and threads as a chunk job: the cost of the library call alone.
BARE = """\
import sys
from faster_whisper import WhisperModel
model = WhisperModel(sys.argv[1], device="cpu", compute_type="int8", cpu_threads=1)
segments, _ = model.transcribe(
    sys.argv[2],
    language=sys.argv[3] if sys.argv[3:] else None,
    vad_filter=True,
    word_timestamps=True,
    condition_on_previous_text=False,
)
print("".join(segment.text for segment in segments))
"""


class Bench:
    """The recordings, and one figure for each requirement."""

    def __init__(self, folder: Path, rounds: int) -> None:
        self.folder = folder
        self.rounds = rounds
        tape = folder / "ten.wav"
        write_tape(tape, seconds=600, seed=7)
        self.short = encode(tape, folder / "second.wav", "-ss", "1", "-t", "1")
        self.forty = folder / "forty.wav"
        write_tape(self.forty, seconds=2400, seed=8)
        self.mp3 = self.looped(encode(tape, folder / "ten.mp3", "-b:a", "64k"), "two.mp3", 11)
        self.m4a = self.looped(encode(tape, folder / "ten.m4a", "-b:a", "64k"), "two.m4a", 11)
        self.hours = self.looped(self.mp3, "hours.mp3", 4)

    def looped(self, media: Path, name: str, more: int) -> Path:
        """The recording repeated several times, with copied packets."""
        path = self.folder / name
        cost(["ffmpeg", "-v", "error", "-stream_loop", str(more), "-i", media, "-c", "copy", path])
        return path

    def command(self, media: Path, *options: str) -> list[str | Path]:
        """One separate run."""
        return transcribe_command(media, self.fresh(), *options)

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
        """CPU seconds of one chunk job on one second of audio, to its committed result, against the bare call."""
        store = FileStore(self.fresh())
        pcm, _ = soundfile.read(self.short, dtype="int16")
        task = ChunkTask(
            run="0123456789abcdef",
            span=0,
            audio_key="audio.flac",
            audio_ms=len(pcm) * 1000 // SAMPLE_RATE,
            pcm_sha256=sha256_hex(pcm.tobytes()),
            result_prefix="results/",
            language_key="language.json",
            language_note_key="note.json",
            language_min_speech_ms=0,
            options=TranscribeOptions(model=str(demo.MODEL), compute_type="int8"),
            seed=1,
        )
        soundfile.write(store.root / task.audio_key, pcm, SAMPLE_RATE)
        store.put("task.json", task.encode())
        job: list[str | Path] = [*PYTHON, "chunk_job", "--store", store.url, "--task", "task.json"]
        job += ["--task-sha256", sha256_hex(task.encode())]
        bare: list[str | Path] = [sys.executable, "-c", BARE, demo.MODEL, self.short]

        def ours() -> float:
            store.delete(task.language_key)
            return cost(job).cpu_s

        return compare(ours, lambda: cost(bare).cpu_s, rounds=3 * self.rounds)

    def chunked(self) -> Iterator[Figure]:
        """Forty minutes in ten chunks, compared with the same command without cuts and with plain tools.

        Every side is a whole command, the controller and the cutting included.
        """
        cut = ("--chunking-threshold", "0", "--chunk-duration", "240", "--max-parallel")
        whole = ("--chunking-threshold", "99999", "--max-parallel", "1", "--compute-type", "int8")
        commands = {
            "whole": lambda: cost(self.command(self.forty, *whole)),
            "one": lambda: cost(self.command(self.forty, *cut, "1")),
            "two": lambda: cost(self.command(self.forty, *cut, "2")),
        }
        skipped = ""
        try:
            program = peer.install(self.folder / "peer")
        except peer.Missing as reason:
            skipped = f"skipped: {reason}"
        else:
            commands["peer"] = lambda: cost(
                peer.command(program, self.forty, self.fresh(), seconds=240, jobs=2), HF_HUB_OFFLINE="1"
            )
        costs = turns(commands, self.rounds)

        def wall(ours: str, theirs: str) -> Ratio:
            return Ratio(ours=costs[ours].wall_s, theirs=costs[theirs].wall_s)

        def cpu(ours: str, theirs: str) -> Ratio:
            return Ratio(ours=costs[ours].cpu_s, theirs=costs[theirs].cpu_s)

        file, tools = "the whole file, one thread", "ffmpeg, GNU parallel, whisper-ctranslate2"
        yield by_ratio("ten chunks one by one", file, "≤ 1.05", cpu("one", "whole"), "CPU s")
        yield by_ratio("two workers of one thread", file, "≤ 0.55", wall("two", "whole"), "s")
        if skipped:
            yield Figure(name="two workers of one thread", peer=tools, ours=skipped, bar="≤ 1.05")
        else:
            yield by_ratio("two workers of one thread", tools, "≤ 1.05", wall("two", "peer"), "s")
            yield by_ratio("the same in CPU seconds", tools, "", cpu("two", "peer"), "CPU s")

    def intake_memory(self) -> Figure:
        """Peak memory of the largest process while a recording is only cut."""
        script = "import bench.speed, sys; bench.speed.cut_only(*sys.argv[1:])"
        long, short = (
            cost([sys.executable, "-c", script, media, self.fresh()], PYTHONPATH=str(Path.cwd())).peak_mib
            for media in (self.hours, self.mp3)
        )
        return Figure(
            name="cutting 10 h, memory",
            peer="cutting 2 h",
            ours=f"{long:.0f} MiB",
            theirs=f"{short:.0f} MiB",
            ratio=f"{long - short:+.0f} MiB",
            bar="≤ +20 MB",
        )

    def first_chunk(self) -> Figure:
        """Wall seconds from the command to the first chunk's process, on ten hours."""
        place = self.fresh()
        command = transcribe_command(self.hours, place)
        began_s = time.monotonic()
        with subprocess.Popen([str(part) for part in command], stderr=subprocess.DEVNULL) as child:
            while not list(place.glob("store/.local/scratch/*/*-c00000-a1")) and time.monotonic() - began_s < 60:
                time.sleep(0.01)
            took_s = time.monotonic() - began_s
            child.terminate()
        return Figure(name="first chunk job of 10 h starts after", ours=f"{took_s:.1f} s", bar="≤ 3 s")

    def help(self) -> Figure:
        """Wall seconds of the shortest command."""
        shortest_s = min(cost([*PYTHON, "controller", "--help"]).wall_s for _ in range(5))
        return Figure(name="`stenofleet --help`", ours=f"{shortest_s:.2f} s", bar="< 0.3 s")


def with_real_model(folder: Path, model: Path, speech: Path | None, rounds: int) -> Iterator[Figure]:
    """A recording in four chunks, and whole, compared with the library alone and with plain tools. One thread each."""
    from controller.intake.probe import probe

    media = speech or write_wav(folder / "story.wav", read_aloud("en", turn=0, seed=0))
    length_s = (probe(str(media)).duration_ms or 0) / 1000
    chunk_s = math.ceil(length_s / 4)
    cut = ("--chunking-threshold", "0", "--chunk-duration", str(chunk_s), "--max-parallel")
    whole = ("--chunking-threshold", "99999", "--max-parallel", "1")

    def fresh() -> Path:
        return Path(tempfile.mkdtemp(dir=folder))

    def ours(*options: str) -> Callable[[], Cost]:
        return lambda: cost(transcribe_command(media, fresh(), *options, "--compute-type", "int8", model=model))

    commands = {
        "whole": ours(*whole),
        "two": ours(*cut, "2"),
        "library": lambda: cost([sys.executable, "-c", BARE, model, media, "en"]),
    }
    tools, skipped = "ffmpeg, GNU parallel, whisper-ctranslate2", ""
    try:
        program = peer.install(folder / "peer")
    except peer.Missing as reason:
        skipped = f"skipped: {reason}"
    else:
        commands["peer"] = lambda: cost(
            _for_model(peer.command(program, media, fresh(), seconds=chunk_s, jobs=2), model), HF_HUB_OFFLINE="1"
        )
    costs = turns(commands, rounds)
    name, length = model.resolve().name, f"{length_s / 60:.1f} min"
    for what, key in ((f"{name}, {length}, whole", "whole"), (f"{name}, {length}, four chunks, two workers", "two")):
        ratio = Ratio(ours=costs[key].cpu_s, theirs=costs["library"].cpu_s)
        yield by_ratio(what, "faster-whisper, sequential, same options", "≤ 1.02", ratio, "CPU s")
    if skipped:
        yield Figure(name="two workers of one thread", peer=tools, ours=skipped, bar="≤ 1.0")
        return
    wall = Ratio(ours=costs["two"].wall_s, theirs=costs["peer"].wall_s)
    yield by_ratio("two workers of one thread", tools, "≤ 1.0", wall, "s")
    cpu = Ratio(ours=costs["two"].cpu_s, theirs=costs["peer"].cpu_s)
    yield by_ratio("the same in CPU seconds", tools, "", cpu, "CPU s")


def _for_model(command: Sequence[str], model: Path) -> list[str]:
    """The peer's command with another model than the demonstration model."""
    return [part.replace(shlex.quote(str(demo.MODEL)), shlex.quote(str(model))) for part in command]


def cut_only(media: str, folder: str) -> None:
    """Only cut a recording into chunks."""
    from controller.intake.cutter import Cutter
    from controller.intake.probe import probe

    cutter = Cutter(Path(media), probe(media), PlanOptions(), audio_track=None)
    for chunk in cutter.chunks(Path(folder), skip=frozenset()):
        if chunk.audio:
            chunk.audio.unlink()


def figures(folder: Path, rounds: int) -> Iterator[Figure]:
    """All measurements of this module, one after the other."""
    bench = Bench(folder, rounds)
    yield bench.help()
    yield bench.first_chunk()
    segment = "`ffmpeg -f segment -c:a flac`"
    yield by_ratio("cut and encode 2 h of mp3", segment, "≤ 1.0", bench.cut(bench.mp3), "CPU s")
    yield by_ratio("cut and encode 2 h of m4a", segment, "≤ 1.0", bench.cut(bench.m4a), "CPU s")
    yield bench.intake_memory()
    yield by_ratio("chunk job, 1 s of audio", "bare faster-whisper call", "≤ 0.9", bench.job(), "CPU s")
    yield from bench.chunked()


def main() -> None:
    """Measure all and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="turns of each comparison, after one to warm up")
    parser.add_argument("--model", type=Path, help="folder of a real model: measure with it instead")
    parser.add_argument("--speech", type=Path, help="file with English speech for the real model")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stenofleet-speed-") as temporary:
        folder = Path(temporary)
        if arguments.model:
            report(with_real_model(folder, arguments.model, arguments.speech, arguments.rounds))
        else:
            report(figures(folder, arguments.rounds))


if __name__ == "__main__":
    main()
