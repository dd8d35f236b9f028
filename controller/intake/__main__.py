"""The intake job: media → chunk audio, tasks, plan.

Touches: the media file, ffmpeg (through ``cutter``), the store. One pass over the decoded audio in constant memory: the
planner gets levels, the open chunk gets samples, and a chunk's task is written as soon as its end is known. So the
first chunk job starts while the rest is still being cut. If the intake is started again, it decodes from the beginning,
keeps the stored tasks and writes only missing ones.

    python -m controller.intake --store URL --task KEY --task-sha256 HEX
"""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from chunk_job import process
from chunk_job.contract import ChunkResult, ChunkTask, longest_result_bytes, sha256_hex
from chunk_job.crashpoint import reach
from chunk_job.errors import DocumentInvalid, ExitCode, JobError, other_version
from chunk_job.store.base import ObjectMissing, Store
from chunk_job.store.open_store import open_store
from controller.domain import stored_documents
from controller.domain.documents import Request, RunRecord
from controller.domain.keys import RunKeys, parse_result, parse_task
from controller.domain.tasks import chunk_task
from controller.errors import EnvironmentProblem, MediaProblem
from controller.intake import source
from controller.intake.cutter import Cutter, named
from controller.intake.for_players import ForPlayers
from controller.intake.probe import probe

log = logging.getLogger("stenofleet.intake")


@dataclass(frozen=True, kw_only=True)
class _Stored:
    """A task that existed in the store before this pass, and the digest of its object."""

    task: ChunkTask
    digest: str


def main(argv: list[str] | None = None) -> NoReturn:
    """Run the intake of the arguments and exit."""
    process.start_logging()
    parser = process.JobArgumentParser(prog="python -m controller.intake", description="Cut one media file.")
    process.add_arguments(parser)
    arguments = parser.parse_args(argv)
    if not (arguments.store and arguments.task and arguments.task_sha256):
        parser.error("--store, --task and --task-sha256 are required")
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
    """Cut the media of the request under *key*. Raises :class:`MediaProblem` with the name of the file."""
    raw = store.get(key, max_bytes=Request.max_bytes)
    if sha256_hex(raw) != task_sha256:
        raise _changed(f"request {key} is not the one that this job was started for")
    try:
        request = stored_documents.parse(Request, key, raw)
    except DocumentInvalid as error:
        raise other_version(f"request {key}: {error.summary}") from error
    record_raw = store.get(request.record_key, max_bytes=RunRecord.max_bytes)
    if sha256_hex(record_raw) != request.record_sha256:
        raise _changed(f"run record {request.record_key} does not match the digest in the request")
    record = stored_documents.parse(RunRecord, request.record_key, record_raw)
    source.check_unchanged(request.source)
    with source.at_hand(request.source) as path, named(request.source):
        # A second pass, if a stored task did not match the media and was removed.
        if not any(_cut_and_put(store, record, request, path) for _ in range(2)):
            raise JobError(
                ExitCode.STORE_UNAVAILABLE,
                f"tasks of run {record.run} are changed while they are written",
                "check what else writes to the store",
            )


def _cut_and_put(store: Store, record: RunRecord, request: Request, path: Path) -> bool:
    """Write missing audio and tasks, what players need, and the plan.

    Returns False if a stored task was wrong and was removed.
    """
    keys, src = RunKeys(record.run), request.source
    cutter = Cutter(
        path, probe(str(path)), record.plan, audio_track=record.audio_track, language=record.options.language
    )
    known = _stored_tasks(store, keys)
    answered = _answered(store, keys, known)
    cut = {entry.key for entry in store.list(keys.audios)}
    skip = frozenset(
        span for span, stored in known.items() if 0 in stored and (span in answered or keys.audio(span) in cut)
    )
    spans = []
    whole = True
    with (
        tempfile.TemporaryDirectory(prefix="stenofleet-intake-") as scratch,
        ForPlayers(store, keys, Path(scratch), offset_ms=cutter.offset_ms, rendition=request.rendition) as players,
    ):
        for chunk in cutter.chunks(Path(scratch), skip=skip, tap=players.add):
            index = chunk.span.index
            task = chunk_task(
                record,
                index,
                audio_ms=chunk.span.audio_ms,
                pcm_sha256=chunk.pcm_sha256,
                direct=cutter.direct,
                channels=cutter.channels,
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
            # Tasks that are not in the plan are removed.
            _remove_chunk(store, keys, index, known[index])
        if whole:
            plan = cutter.plan(record.run, spans)
            players.put(cutter.media_type, offset_ms=plan.offset_ms)
            reach("intake.for_players")
            # The plan is last: it says that the intake is complete.
            store.put(keys.plan, plan.encode())
            reach("intake.planned")
    return whole


def _stored_tasks(store: Store, keys: RunKeys) -> dict[int, dict[int, _Stored]]:
    """The valid tasks in the store, by span and degradation level."""
    found: dict[int, dict[int, _Stored]] = {}
    for entry in store.list(keys.tasks):
        if key := parse_task(entry.key):
            with contextlib.suppress(DocumentInvalid, ObjectMissing):
                raw = store.get(entry.key, max_bytes=ChunkTask.max_bytes)
                task = stored_documents.parse(ChunkTask, entry.key, raw)
                found.setdefault(key.span, {})[key.level] = _Stored(task=task, digest=sha256_hex(raw))
    return found


def _answered(store: Store, keys: RunKeys, known: Mapping[int, Mapping[int, _Stored]]) -> set[int]:
    """Spans whose audio is not needed, because one of their tasks has a valid result."""
    answered: set[int] = set()
    for entry in store.list(keys.results):
        found = parse_result(entry.key)
        if found is None or found.span in answered or found.span not in known:
            continue
        stored = known[found.span]
        task = next(iter(stored.values())).task
        digests = frozenset(one.digest for one in stored.values())
        with contextlib.suppress(DocumentInvalid, ObjectMissing):
            data = store.get(entry.key, max_bytes=longest_result_bytes(task.audio_ms * task.channels))
            ChunkResult.read(
                data,
                run=keys.run,
                span=found.span,
                task_sha256=digests,
                audio_ms=task.audio_ms,
                channels=task.channels,
            )
            answered.add(found.span)
    return answered


def _remove_chunk(store: Store, keys: RunKeys, span: int, levels: Iterable[int]) -> None:
    """Delete a chunk's audio and tasks."""
    store.delete(keys.audio(span))
    for level in sorted(levels, reverse=True):
        store.delete(keys.task(span, level))


def _changed(what: str) -> JobError:
    return JobError(
        ExitCode.STORE_UNAVAILABLE, what, "check what else writes to the store; run the same command to try again"
    )


def _other_audio(span: int) -> JobError:
    return JobError(
        ExitCode.CONFIG,
        f"span {span} decodes to other audio than when this run started",
        "ffmpeg was updated in the meantime; use --force to start a new run",
    )


if __name__ == "__main__":
    main()
