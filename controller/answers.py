"""A run's tasks and what answers them: reads both, validates every result once, and says which of them counts.

Touches: the store. What is remembered between two looks is only what was read there and can be read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from chunk_job.contract import MAX_RESULT_BYTES, ChunkResult, ChunkTask, DocumentInvalid, Usage, sha256_hex
from chunk_job.store import Store
from controller import diagnose
from controller.decide import degrade
from controller.keys import ResultKey, RunKeys, parse_result, parse_task
from controller.records import MAX_DOCUMENT_BYTES, Winner
from controller.state import JobView


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A task that was read: its audio's length, and the digests results may answer (one a rung)."""

    audio_ms: int
    digests: frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What the report needs of a winner, which may be megabytes and is not read again for it."""

    speech_ms: int
    usage: Usage


class Answers:
    """The spans of one run: which there are, and which have a valid result."""

    def __init__(self, store: Store, keys: RunKeys, *, keep_audio: bool) -> None:
        """*keep_audio*: else a chunk's audio goes with its first valid result."""
        self._store = store
        self._keys = keys
        self._keep_audio = keep_audio
        self._tasks: dict[int, _Task] = {}
        self._winners: dict[int, ResultKey] = {}
        self._spent: dict[int, Spent] = {}
        self._invalid: dict[str, str] = {}
        self.planned = False
        """Whether the tasks are all there will be."""
        self.attempts: dict[int, int] = {}
        """Highest attempt of a span that left a result, valid or not."""

    def __contains__(self, span: int | None) -> bool:
        return span in self._winners

    @property
    def tasks(self) -> dict[int, int]:
        """Span → length of its audio in ms, for every task."""
        return {span: task.audio_ms for span, task in self._tasks.items()}

    @property
    def answered(self) -> frozenset[int]:
        """Spans with a valid result."""
        return frozenset(self._winners)

    def audio_ms(self, span: int) -> int:
        """Length of the span's audio."""
        return self._tasks[span].audio_ms

    def answer(self, span: int) -> tuple[ResultKey, Spent] | None:
        """The result that counts and what it took; None where there is none."""
        return (self._winners[span], self._spent[span]) if span in self._winners else None

    def read(self) -> None:
        """Everything: at the beginning of a round."""
        self.read_tasks()
        self.read_results()
        self._forget_uncut()

    def read_tasks(self) -> None:
        """Tasks that were not seen before, and whether they are all."""
        # The plan before the tasks: when it is there, so are they all.
        self.planned = self._store.stat(self._keys.plan) is not None
        digests: dict[int, set[str]] = {}
        for entry in self._store.list(self._keys.tasks):
            found = parse_task(entry.key)
            if found is None or (found.span in self._tasks and not found.rung):
                continue
            raw = self._store.get(entry.key, max_bytes=MAX_DOCUMENT_BYTES)
            digests.setdefault(found.span, set()).add(sha256_hex(raw))
            if not found.rung:
                self._tasks[found.span] = _Task(audio_ms=ChunkTask.decode(raw).audio_ms, digests=frozenset())
        for span, more in digests.items():
            if span in self._tasks:  # else: degraded options of a task that is not there (any more)
                self._accept(span, more)

    def read_results(self, span: int | None = None) -> None:
        """Validate results, of one span or of all, that were not seen before; the lowest attempt wins."""
        for entry in self._store.list(self._keys.results if span is None else self._keys.results_of(span)):
            key = parse_result(entry.key)
            if key is None or key.key in self._invalid or key.span not in self._tasks:
                continue
            if key.span in self._winners and self._winners[key.span] <= key:
                continue
            try:
                result, _ = self._result(key)
            except DocumentInvalid as error:
                self._invalid[key.key] = error.summary
            else:
                self._winners[key.span] = key
                self._spent[key.span] = Spent(speech_ms=result.speech_ms, usage=result.usage)
                if not self._keep_audio:
                    self._store.delete(self._keys.audio(key.span))
            self.attempts[key.span] = max(self.attempts.get(key.span, 0), key.attempt)

    def judged(self, view: JobView) -> JobView:
        """A job that left an invalid result failed for that."""
        if view.phase != "ended" or view.span is None or view.span in self._winners:
            return view
        prefix = f"{self._keys.results_of(view.span)}a{view.attempt}-"
        reason = next((why for key, why in self._invalid.items() if key.startswith(prefix)), None)
        return replace(view, diagnosis=diagnose.invalid_result(reason)) if reason else view

    def degraded(self, span: int, rung: int) -> str:
        """Key of the span's task with options *rung* steps cheaper, which is put where it is not there yet."""
        key = self._keys.task(span, rung)
        if self._store.stat(key) is None:
            task = ChunkTask.decode(self._store.get(self._keys.task(span)))
            raw = task.model_copy(update={"options": degrade(task.options, rung)}).encode()
            self._store.put(key, raw)
            self._accept(span, {sha256_hex(raw)})
        return key

    def winning(self) -> Iterator[tuple[Winner, ChunkResult]]:
        """The results that count, in order, read again one at a time."""
        for span in sorted(self._winners):
            result, data = self._result(self._winners[span])
            yield Winner(span=span, key=self._winners[span].key, sha256=sha256_hex(data)), result

    def _accept(self, span: int, digests: set[str]) -> None:
        task = self._tasks[span]
        self._tasks[span] = replace(task, digests=task.digests | digests)

    def _forget_uncut(self) -> None:
        """A task promises that its audio lies there. Where it does not any more, forget it: the intake cuts it anew."""
        gone = [
            span
            for span in self._tasks
            if span not in self._winners and self._store.stat(self._keys.audio(span)) is None
        ]
        if gone:
            self._store.delete(self._keys.plan)
            self.planned = False
        for span in gone:
            self._store.delete(self._keys.task(span))
            del self._tasks[span]

    def _result(self, key: ResultKey) -> tuple[ChunkResult, bytes]:
        data = self._store.get(key.key, max_bytes=MAX_RESULT_BYTES)
        digests = self._tasks[key.span].digests
        return ChunkResult.read(data, run=self._keys.run, span=key.span, task_sha256=digests), data
