"""The intake job: media → chunk audio, tasks, plan.

Touches: the media file, ffmpeg (through ``media``), the store. One pass over the decoded audio in constant memory:
levels go to the planner, samples to the open chunk, and a chunk's task is put as soon as its end is known, so the
first chunk job starts while the rest is still being cut. Started again, it decodes from the beginning, takes stored
tasks as given and puts only what is missing.

    python -m controller.intake --store URL --task KEY --task-sha256 HEX
"""

from __future__ import annotations

import os

# numpy's BLAS would start a thread a core that nobody uses here: a tenth of a second of every intake.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import collections
import contextlib
import faulthandler
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chunk_job import process
from chunk_job.contract import (
    MAX_RESULT_BYTES,
    SAMPLE_RATE,
    ChunkResult,
    ChunkTask,
    DocumentInvalid,
    ExitCode,
    JobError,
    TranscribeOptions,
    sha256_hex,
)
from chunk_job.crashpoint import reach
from chunk_job.store import Store, open_store
from controller import source
from controller.errors import EnvironmentProblem, MediaProblem
from controller.keys import RunKeys, parse_task
from controller.media import FlacWriter, Media, Pcm, decode, levels, offset_ms, probe
from controller.plan import Plan, Planner, PlanOptions, Span, is_direct
from controller.records import Request, RunRecord, Source

log = logging.getLogger("stenofleet.intake")

LANGUAGE_MIN_SPEECH_MS = 3_000
"""Less speech than this does not decide a run's language: Whisper is sure of itself even on a breath."""


@dataclass(frozen=True, kw_only=True)
class CutChunk:
    """A closed span with its audio on local disk (None: it was not needed) and the digest of its samples."""

    span: Span
    audio: Path | None
    pcm_sha256: str


def main(argv: list[str] | None = None) -> NoReturn:
    """Do the intake the arguments name and leave the process."""
    process.start_logging()
    parser = process.JobArgumentParser(prog="python -m controller.intake", description="Cut one media file.")
    process.add_arguments(parser)
    arguments = parser.parse_args(argv)
    if not (arguments.store and arguments.task and arguments.task_sha256):
        parser.error("--store, --task and --task-sha256 are needed")
    faulthandler.enable()
    process.hold_lifeline(arguments.lifeline)

    def work() -> None:
        try:
            run_intake(open_store(arguments.store), arguments.task, task_sha256=arguments.task_sha256)
        except MediaProblem as error:
            raise JobError(ExitCode.BAD_INPUT, error.summary, error.advice) from error
        except EnvironmentProblem as error:
            raise JobError(ExitCode.CONFIG, error.summary, error.advice) from error

    process.leave(process.work(work, arguments.termination_log))


def run_intake(store: Store, key: str, *, task_sha256: str) -> None:
    """Cut the media of the request under *key*. Raises :class:`MediaProblem`, naming the file."""
    raw = store.get(key, max_bytes=1 << 20)
    if sha256_hex(raw) != task_sha256:
        raise JobError(ExitCode.BAD_INPUT, f"request {key} is not the one this job was made for")
    request = Request.decode(raw)
    record_raw = store.get(request.record_key, max_bytes=1 << 20)
    if sha256_hex(record_raw) != request.record_sha256:
        raise JobError(ExitCode.BAD_INPUT, f"run record {request.record_key} is not the one the request names")
    record = RunRecord.decode(record_raw)
    source.check_unchanged(request.source)
    with source.at_hand(request.source) as path, _named(request.source):
        _cut_and_put(store, record, request.source, path)


def plan_only(src: Source, options: PlanOptions, *, audio_track: int | None) -> Plan:
    """The plan of a recording, with nothing stored: the dry run. Raises :class:`MediaProblem`."""
    with source.at_hand(src) as path, _named(src):
        cutter = Cutter(path, probe(str(path)), options, audio_track=audio_track)
        spans = [chunk.span for chunk in cutter.chunks(None, skip=frozenset())]
        return cutter.plan("0" * 16, spans)


class Cutter:
    """One pass over one track of one media file."""

    def __init__(self, path: Path, media: Media, options: PlanOptions, *, audio_track: int | None) -> None:
        self._path = str(path)
        self._track = media.track(audio_track)
        self._offset_ms = offset_ms(self._path, media, self._track)
        self._header_ms = self._track.duration_ms or media.duration_ms
        self.direct = is_direct(options, duration_ms=self._header_ms, size_bytes=path.stat().st_size)
        self._planner = Planner(options, duration_ms=self._header_ms, direct=self.direct)
        self._tape = _Tape()
        self._complaint = ""

    def chunks(self, scratch: Path | None, *, skip: frozenset[int]) -> Iterator[CutChunk]:
        """Every chunk in order, its FLAC in *scratch* but for the spans in *skip* (and all, without *scratch*).

        Raises :class:`MediaProblem` where nothing can be decoded.
        """

        def writer(index: int) -> tuple[Path | None, FlacWriter]:
            path = scratch / f"{index:05d}.flac" if scratch and index not in skip else None
            return path, FlacWriter(path)

        path, flac = writer(0)
        written = 0
        with decode(self._path, self._track) as decoder:
            for block in decoder.blocks():
                self._tape.append(block)
                for span in self._planner.feed(levels(block)):
                    self._tape.copy(flac, written, _samples(span.audio_end_ms))
                    yield CutChunk(span=span, audio=path, pcm_sha256=flac.close())
                    path, flac = writer(span.index + 1)
                    # The neighbours of a cut hear equally far beyond it.
                    written = _samples(2 * span.end_ms - span.audio_end_ms)
                settled = max(written, _samples(self._planner.settled_ms))
                settled = min(settled, self._tape.end)
                self._tape.copy(flac, written, settled)
                written = settled
                self._tape.forget(_samples(self._planner.needed_from_ms))
            self._complaint = decoder.complaint
        if not self._tape.end:
            reason = self._complaint or "its audio stream is empty"
            raise MediaProblem(
                f"no audio could be decoded: {reason}", "check that it is complete and plays in a media player"
            )
        self._tape.copy(flac, written, self._tape.end)
        yield CutChunk(span=self._planner.finish(self._decoded_ms), audio=path, pcm_sha256=flac.close())

    def plan(self, run: str, spans: list[Span]) -> Plan:
        """The plan, once every chunk is cut."""
        return Plan(
            run=run,
            spans=tuple(spans),
            duration_ms=self._decoded_ms,
            offset_ms=self._offset_ms,
            direct=self.direct,
            warnings=tuple(self._warnings()),
        )

    @property
    def _decoded_ms(self) -> int:
        return -(-self._tape.end * 1000 // SAMPLE_RATE)

    def _warnings(self) -> Iterator[str]:
        if self._complaint:
            yield f"ffmpeg met errors while decoding, what it could read is transcribed: {self._complaint}"
        # Matroska's length of a late track counts from the film's beginning.
        short_ms = (self._header_ms or 0) - self._offset_ms - self._decoded_ms
        if short_ms > max(2_000, (self._header_ms or 0) // 100):
            yield f"the file ends {short_ms / 1000:.0f} s before its header says it does: is it complete?"


class _Tape:
    """The decoded audio that may still be needed: a window that moves with the decoder."""

    def __init__(self) -> None:
        self._blocks: collections.deque[tuple[int, Pcm]] = collections.deque()
        self.end = 0
        """Samples decoded so far."""

    def append(self, block: Pcm) -> None:
        self._blocks.append((self.end, block))
        self.end += len(block)

    def copy(self, flac: FlacWriter, begin: int, end: int) -> None:
        """Write samples [begin, end) to *flac*."""
        for at, block in self._blocks:
            part = block[max(0, begin - at) : max(0, end - at)]
            if len(part):
                flac.write(part)

    def forget(self, before: int) -> None:
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= before:
            self._blocks.popleft()


@contextlib.contextmanager
def _named(src: Source) -> Iterator[None]:
    """Put the recording's name before what is wrong with it."""
    try:
        yield
    except MediaProblem as error:
        # The fault may lie in bytes that were swapped under our hands: say that instead of what they looked like.
        source.check_unchanged(src)
        name = source.shown(src)
        told = error.summary.startswith(f"{name}: ")
        raise MediaProblem(error.summary if told else f"{name}: {error.summary}", error.advice) from error


def _cut_and_put(store: Store, record: RunRecord, src: Source, path: Path) -> None:
    keys = RunKeys(record.run)
    cutter = Cutter(path, probe(str(path)), record.plan, audio_track=record.audio_track)
    tasks: dict[int, list[str]] = {}
    for entry in store.list(keys.tasks):
        if known := parse_task(entry.key):
            tasks.setdefault(known.span, []).append(entry.key)
    tasked = {span for span in tasks if keys.task(span) in tasks[span]}
    skip = frozenset(
        span for span in tasked if store.stat(keys.audio(span)) is not None or _answered(store, keys, span, tasks[span])
    )
    spans = []
    with tempfile.TemporaryDirectory(prefix="stenofleet-intake-") as scratch:
        for chunk in cutter.chunks(Path(scratch), skip=skip):
            index = chunk.span.index
            task = _task(keys, record, chunk, direct=cutter.direct)
            if index in tasked:
                _check_task(store, keys.task(index), task)
            if chunk.audio:
                store.put_file(keys.audio(index), chunk.audio)
                chunk.audio.unlink()
            reach(f"intake.audio.{index:05d}")
            if index not in tasked:
                source.check_unchanged(src)
                store.put(keys.task(index), task.encode())
            reach(f"intake.task.{index:05d}")
            spans.append(chunk.span)
            log.info("span %d ends at %d ms (%s)", index, chunk.span.end_ms, chunk.span.cut)
    source.check_unchanged(src)
    store.put(keys.plan, cutter.plan(record.run, spans).encode())
    reach("intake.planned")


def _answered(store: Store, keys: RunKeys, span: int, tasks: Sequence[str]) -> bool:
    """Whether a valid result for one of the span's *tasks* makes its audio unnecessary."""
    digests = frozenset(sha256_hex(store.get(key, max_bytes=1 << 20)) for key in tasks)
    for entry in store.list(keys.results_of(span)):
        with contextlib.suppress(DocumentInvalid):
            data = store.get(entry.key, max_bytes=MAX_RESULT_BYTES)
            ChunkResult.read(data, run=keys.run, span=span, task_sha256=digests)
            return True
    return False


def _task(keys: RunKeys, record: RunRecord, chunk: CutChunk, *, direct: bool) -> ChunkTask:
    index = chunk.span.index
    seed = int(sha256_hex(f"{record.run}/{index}".encode())[:8], 16) >> 1
    return ChunkTask(
        run=record.run,
        span=index,
        audio_key=keys.audio(index),
        audio_ms=chunk.span.audio_end_ms - chunk.span.audio_start_ms,
        pcm_sha256=chunk.pcm_sha256,
        result_prefix=keys.results_of(index),
        language_key=keys.language,
        language_note_key=keys.language_note(index),
        # The only chunk there is has nobody to pass the decision to.
        language_min_speech_ms=0 if direct else LANGUAGE_MIN_SPEECH_MS,
        options=_chunk_options(record.options, direct=direct),
        seed=seed,
    )


def _chunk_options(options: TranscribeOptions, *, direct: bool) -> TranscribeOptions:
    """int8 for chunks unless something else was asked for: a direct job has the device to itself."""
    if options.compute_type == "auto" and not direct:
        return options.model_copy(update={"compute_type": "int8"})
    return options


def _check_task(store: Store, key: str, task: ChunkTask) -> None:
    """A stored task is given; audio cut differently now would not be what its results are about."""
    stored = ChunkTask.decode(store.get(key, max_bytes=1 << 20))
    if (stored.pcm_sha256, stored.audio_ms) != (task.pcm_sha256, task.audio_ms):
        raise JobError(
            ExitCode.CONFIG,
            f"span {task.span} decodes to other audio than when this run began",
            "ffmpeg has changed meanwhile; use --force to start a new run",
        )


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000


if __name__ == "__main__":
    main()
