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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chunk_job import process
from chunk_job.contract import (
    MAX_AUDIO_MS,
    SAMPLE_RATE,
    ChunkResult,
    ChunkTask,
    DocumentInvalid,
    ExitCode,
    JobError,
    longest_result_bytes,
    sha256_hex,
)
from chunk_job.crashpoint import reach
from chunk_job.store.base import ObjectMissing, Store
from chunk_job.store.open_store import open_store
from controller import documents, source
from controller.errors import EnvironmentProblem, MediaProblem
from controller.keys import RunKeys, parse_result, parse_task
from controller.media import FlacWriter, Media, Pcm, decode, levels, offset_ms, probe
from controller.plan import Plan, Planner, PlanOptions, Span, is_direct
from controller.records import Request, RunRecord, Source
from controller.tasks import chunk_task

log = logging.getLogger("stenofleet.intake")


@dataclass(frozen=True, kw_only=True)
class CutChunk:
    """A closed span with its audio on local disk (None: it was not needed) and the digest of its samples."""

    span: Span
    audio: Path | None
    pcm_sha256: str


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A task that was in the store before this pass, and the digest of its object."""

    task: ChunkTask
    digest: str


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
    raw = store.get(key, max_bytes=Request.max_bytes)
    if sha256_hex(raw) != task_sha256:
        raise _changed(f"request {key} is not the one this job was made for")
    request = documents.parse(Request, key, raw)
    record_raw = store.get(request.record_key, max_bytes=RunRecord.max_bytes)
    if sha256_hex(record_raw) != request.record_sha256:
        raise _changed(f"run record {request.record_key} is not the one the request names")
    record = documents.parse(RunRecord, request.record_key, record_raw)
    source.check_unchanged(request.source)
    with source.at_hand(request.source) as path, _named(request.source):
        # Once more where a task was found that these media do not give, and was removed.
        if not _cut_and_put(store, record, request.source, path) and not _cut_and_put(
            store, record, request.source, path
        ):
            raise JobError(
                ExitCode.STORE_UNAVAILABLE,
                f"tasks of run {record.run} change while they are written",
                "check who else writes to the store",
            )


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
            # A track that begins weeks late is a header that lies.
            offset_ms=self._offset_ms if self._decoded_ms + self._offset_ms <= MAX_AUDIO_MS else 0,
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


def _cut_and_put(store: Store, record: RunRecord, src: Source, path: Path) -> bool:
    """Put the audio and tasks that are missing, and the plan. False: a stored task was wrong and is removed."""
    keys = RunKeys(record.run)
    cutter = Cutter(path, probe(str(path)), record.plan, audio_track=record.audio_track)
    known = _stored_tasks(store, keys)
    answered = _answered(store, keys, known)
    cut = {entry.key for entry in store.list(keys.audios)}
    skip = frozenset(
        span for span, stored in known.items() if 0 in stored and (span in answered or keys.audio(span) in cut)
    )
    spans = []
    whole = True
    with tempfile.TemporaryDirectory(prefix="stenofleet-intake-") as scratch:
        for chunk in cutter.chunks(Path(scratch), skip=skip):
            index = chunk.span.index
            task = chunk_task(
                record,
                index,
                audio_ms=chunk.span.audio_ms,
                pcm_sha256=chunk.pcm_sha256,
                direct=cutter.direct,
            )
            stored = known[index].get(0) if index in known else None
            if stored and stored.task != task:
                if index in answered:
                    raise _other_audio(index)
                _remove_chunk(store, keys, index, known[index])
                whole = whole and chunk.audio is not None
            if chunk.audio:
                store.put_file(keys.audio(index), chunk.audio)
                chunk.audio.unlink()
            reach(f"intake.audio.{index:05d}")
            if chunk.audio and not (stored and stored.task == task):
                source.check_unchanged(src)
                store.put(keys.task(index), task.encode())
            reach(f"intake.task.{index:05d}")
            spans.append(chunk.span)
            log.info("span %d ends at %d ms (%s)", index, chunk.span.end_ms, chunk.span.cut)
    source.check_unchanged(src)
    for index in known.keys() - {span.index for span in spans}:
        # Of another plan, or of nobody: every task that stays is one of the plan.
        _remove_chunk(store, keys, index, known[index])
    if whole:
        store.put(keys.plan, cutter.plan(record.run, spans).encode())
        reach("intake.planned")
    return whole


def _stored_tasks(store: Store, keys: RunKeys) -> dict[int, dict[int, _Stored]]:
    """The tasks that are in the store, by span and rung; what is no task is not there."""
    found: dict[int, dict[int, _Stored]] = {}
    for entry in store.list(keys.tasks):
        if key := parse_task(entry.key):
            with contextlib.suppress(DocumentInvalid, ObjectMissing):
                raw = store.get(entry.key, max_bytes=ChunkTask.max_bytes)
                task = documents.parse(ChunkTask, entry.key, raw)
                found.setdefault(key.span, {})[key.rung] = _Stored(task=task, digest=sha256_hex(raw))
    return found


def _answered(store: Store, keys: RunKeys, known: Mapping[int, Mapping[int, _Stored]]) -> set[int]:
    """Spans whose audio is unnecessary, because there is a valid result for one of their tasks."""
    answered: set[int] = set()
    for entry in store.list(keys.results):
        found = parse_result(entry.key)
        if found is None or found.span in answered or found.span not in known:
            continue
        stored = known[found.span]
        audio_ms = next(iter(stored.values())).task.audio_ms
        digests = frozenset(one.digest for one in stored.values())
        with contextlib.suppress(DocumentInvalid, ObjectMissing):
            data = store.get(entry.key, max_bytes=longest_result_bytes(audio_ms))
            ChunkResult.read(data, run=keys.run, span=found.span, task_sha256=digests, audio_ms=audio_ms)
            answered.add(found.span)
    return answered


def _remove_chunk(store: Store, keys: RunKeys, span: int, rungs: Iterable[int]) -> None:
    """Take a chunk's audio and tasks out of the store."""
    store.delete(keys.audio(span))
    for rung in sorted(rungs, reverse=True):
        store.delete(keys.task(span, rung))


def _changed(what: str) -> JobError:
    return JobError(ExitCode.STORE_UNAVAILABLE, what, "see who else writes to the store; the same command tries again")


def _other_audio(span: int) -> JobError:
    return JobError(
        ExitCode.CONFIG,
        f"span {span} decodes to other audio than when this run began",
        "ffmpeg has changed meanwhile; use --force to start a new run",
    )


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000


if __name__ == "__main__":
    main()
