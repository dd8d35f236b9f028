"""A run's tasks and their results: reads both, validates them once, and selects the winning result of each span.

Touches: the store. Between two ticks it keeps in memory only what it can read from the store again. A task that no
intake of this run can have written, or that is not in the plan, is removed, and its chunk is cut again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from chunk_job.contract import ChunkResult, ChunkTask, Language, longest_result_bytes, sha256_hex
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing, Store
from controller.domain import failures, stored_documents, tasks
from controller.domain.attempt_documents import AttemptResult
from controller.domain.documents import RunRecord, Winner
from controller.domain.jobs import JobView
from controller.domain.keys import ResultKey, RunKeys, TaskKey, parse_result, parse_task
from controller.domain.plan import Plan
from controller.runs.figures import ResultFigures, figures_of, share, useful_ms


@dataclass(frozen=True, kw_only=True)
class _Task:
    """A validated task of the run."""

    task: ChunkTask
    digests: dict[int, str] = field(default_factory=dict)
    """Digests of the task objects whose results are accepted, by degradation level."""


class ResultGone(Exception):
    """A winning result was deleted from the store, or was changed."""

    def __init__(self, key: ResultKey, reason: str) -> None:
        super().__init__(f"a result that was valid before was deleted or changed: {reason}")
        self.key = key


class ResultIndex:
    """The spans of one run, and which of them have a valid result."""

    def __init__(self, store: Store, record: RunRecord, *, keep_audio: bool) -> None:
        """*keep_audio*: False deletes a chunk's audio when its first valid result was read."""
        self._store = store
        self._record = record
        self._keys = RunKeys(record.run)
        self._keep_audio = keep_audio
        self._tasks: dict[int, _Task] = {}
        self._winners: dict[int, ResultKey] = {}
        self._figures: dict[int, ResultFigures] = {}
        # Sums over the figures: a status needs them every two seconds.
        self._useful_ms = self._total_ms = 0
        self._invalid: dict[str, str] = {}
        self.plan: Plan | None = None
        """The run's plan; None until the tasks are exactly its spans."""
        self.attempts: dict[int, int] = {}
        """By span: the highest attempt that left a result, valid or not."""
        self._early: dict[int, set[ResultKey]] = {}
        """Results that were listed before their task was."""
        self.removed: frozenset[int] = frozenset()
        """Spans whose task was removed and not written again since."""
        self.refused: list[str] = []
        """Invalid objects that were found, as sentences."""

    def __contains__(self, span: int | None) -> bool:
        return span in self._winners

    @property
    def planned(self) -> bool:
        """Whether all tasks of the run exist."""
        return self.plan is not None

    @property
    def tasks(self) -> dict[int, int]:
        """Span → length of its audio in ms, the sum of its channels, for every task."""
        return {span: known.task.audio_ms * known.task.channels for span, known in self._tasks.items()}

    @property
    def answered(self) -> frozenset[int]:
        """Spans with a valid result."""
        return frozenset(self._winners)

    @property
    def answered_by(self) -> dict[int, int]:
        """Span → attempt of the result that counts."""
        return {span: key.attempt for span, key in self._winners.items()}

    def audio_ms(self, span: int) -> int:
        """Length of the span's audio."""
        return self._tasks[span].task.audio_ms

    def digest(self, span: int, level: int = 0) -> str:
        """Digest of the span's task as it was read or written. Its job checks the task against it."""
        return self._tasks[span].digests[level]

    def winner(self, span: int) -> tuple[ResultKey, ResultFigures] | None:
        """The winning result and its figures; None if there is none."""
        return (self._winners[span], self._figures[span]) if span in self._winners else None

    def measured(self, span: int | None, attempt: int) -> AttemptResult | None:
        """What this attempt measured; None if its result is not the winning one."""
        key, figures = self.winner(span) or (None, None) if span is not None else (None, None)
        if span is None or key is None or figures is None or key.attempt != attempt:
            return None
        return AttemptResult(
            audio_ms=self.audio_ms(span),
            speech_ms=figures.speech_ms,
            device=figures.device,
            usage=figures.usage,
        )

    @property
    def useful_share(self) -> float | None:
        """Decoding and word times, as a part of the time of the jobs with a result; None if it was not measured."""
        return share(self._useful_ms, self._total_ms)

    def language(self) -> Language | None:
        """The language in which the existing results were transcribed; None if no result has one."""
        for span in sorted(self._figures):
            figures = self._figures[span]
            if figures.language is not None:
                return Language(
                    language=figures.language,
                    probability=figures.language_probability,
                    speech_ms=figures.speech_ms,
                    span=span,
                )
        return None

    def warnings(self) -> tuple[str, ...]:
        """Problems of the recording that the intake found. Empty if the plan is not known."""
        plan = self.plan or stored_documents.valid(self._store, Plan, self._keys.plan)
        return plan.warnings if plan else ()

    def read(self) -> None:
        """Read everything. Called at the start of a round."""
        self.read_tasks()
        self.read_results()
        self._drop_uncut()

    def read_tasks(self) -> None:
        """Read new tasks, and check whether all tasks exist."""
        # Read the plan before the tasks: an intake writes it last, so if it exists, all tasks exist.
        try:
            plan = stored_documents.find(self._store, Plan, self._keys.plan)
        except DocumentInvalid:
            plan = None
            self._drop_plan()
        listed = {found for entry in self._store.list(self._keys.tasks) if (found := parse_task(entry.key))}
        # Sorted: a task comes before its degraded versions, which are compared with it.
        for found in sorted(listed):
            if found.span not in self._tasks or found.level not in self._tasks[found.span].digests:
                self._read_task(found)
        for span in self._tasks.keys() - {found.span for found in listed if not found.level}:
            self._drop_span(span)
        self.plan = plan if plan and self._is_all(plan) else None
        if plan and not self.plan:
            self._drop_plan()

    def read_new_tasks(self) -> None:
        """Read tasks that a running intake has written. It writes them in order, so the first missing key ends this."""
        if self._store.stat(self._keys.plan) is not None:
            self.read_tasks()
            return
        span = 0
        while span in self._tasks or self._read_task(TaskKey(span=span, level=0)):
            span += 1

    def read_results(self, span: int | None = None) -> None:
        """Validate new results of one span, or of all. The lowest attempt with a valid result wins."""
        for entry in self._store.list(self._keys.results if span is None else self._keys.results_of(span)):
            key = parse_result(entry.key)
            if key is None:
                continue
            # The attempt number counts as used even if the result is invalid.
            self.attempts[key.span] = max(self.attempts.get(key.span, 0), key.attempt)
            if key.span in self._tasks:
                self._read_result(key)
            else:
                self._early.setdefault(key.span, set()).add(key)

    def _read_result(self, key: ResultKey) -> None:
        """Validate a new result of a span whose task is known."""
        if key.key in self._invalid or (key.span in self._winners and self._winners[key.span] <= key):
            return
        try:
            result, _ = self._result(key)
        except ObjectMissing:
            return
        except DocumentInvalid as error:
            self._invalid[key.key] = error.summary
            return
        self._forget(key.span)
        self._winners[key.span] = key
        self._figures[key.span] = figures_of(result)
        self._count(self._figures[key.span], 1)
        if not self._keep_audio:
            self._store.delete(self._keys.audio(key.span))

    def cut_again(self, span: int) -> None:
        """Remove the span's task, its audio and the plan. The next intake writes them again."""
        if span in self._winners or span not in self._tasks:
            return
        self._drop_plan()
        # The task last: it is needed to find the span again if this is interrupted.
        degraded = [self._keys.task(span, level) for level in self._tasks[span].digests if level]
        for key in (*degraded, self._keys.audio(span)):
            self._store.delete(key)
        self._store.delete(self._keys.task(span))
        self._drop_span(span)
        self.removed |= {span}

    def with_result(self, view: JobView) -> JobView:
        """*view*, with a diagnosis if the job left an invalid result."""
        if view.phase != "ended" or view.span is None or view.span in self._winners:
            return view
        prefix = f"{self._keys.results_of(view.span)}a{view.attempt}-"
        reason = next((why for key, why in self._invalid.items() if key.startswith(prefix)), None)
        return replace(view, diagnosis=failures.invalid_result(reason)) if reason else view

    def degraded_task(self, span: int, level: int) -> str:
        """Key of the span's task at degradation level *level*. The task is written if it does not exist yet."""
        key = self._keys.task(span, level)
        known = self._tasks[span]
        if level not in known.digests:
            raw = tasks.degraded_task(known.task, level).encode()
            self._store.put(key, raw)
            known.digests[level] = sha256_hex(raw)
        return key

    def winning(self) -> Iterator[tuple[Winner, ChunkResult]]:
        """The winning results in order of their spans, read again one at a time.

        Raises :class:`ResultGone` for a result that is no longer valid. Its span then has no result.
        """
        for span in sorted(self._winners):
            try:
                result, data = self._result(self._winners[span])
            except (ObjectMissing, DocumentInvalid) as error:
                key = self._winners[span]
                self._forget(span)
                self._invalid[key.key] = error.summary
                raise ResultGone(key, error.summary) from error
            winner = Winner(span=span, key=self._winners[span].key, sha256=sha256_hex(data))
            found = (winner, result)
            # Else this generator would keep the result in memory while it reads the next one.
            del data, result
            yield found

    def _read_task(self, found: TaskKey) -> bool:
        """Read a task from the store, and remove it if it does not belong to the run. Returns whether it is valid."""
        key = self._keys.task(found.span, found.level)
        try:
            raw = self._store.get(key, max_bytes=ChunkTask.max_bytes)
            task = stored_documents.parse(ChunkTask, key, raw)
        except ObjectMissing:
            return False
        except DocumentInvalid as error:
            self._refuse(key, error.summary)
            return False
        known = self._tasks.get(found.span)
        if not found.level and tasks.belongs(task, self._record, found.span):
            self._tasks[found.span] = _Task(task=task, digests={0: sha256_hex(raw)})
            self.removed -= {found.span}
            for early in sorted(self._early.pop(found.span, ())):
                self._read_result(early)
        elif found.level and known and task == tasks.degraded_task(known.task, found.level):
            known.digests[found.level] = sha256_hex(raw)
        else:
            self._refuse(key, "it was not written by an intake of this run")
            return False
        return True

    def _refuse(self, key: str, why: str) -> None:
        self.refused.append(f"{key} is invalid and was removed: {why}")
        self._store.delete(key)

    def _is_all(self, plan: Plan) -> bool:
        """Whether the tasks are exactly the spans of *plan*, and the plan is for the clips of the run."""
        planned = {span.index: (span.audio_ms, plan.channels) for span in plan.spans}
        found = {span: (known.task.audio_ms, known.task.channels) for span, known in self._tasks.items()}
        return found == planned and plan.clips == self._record.plan.clips

    def _drop_plan(self) -> None:
        self._store.delete(self._keys.plan)
        self.plan = None

    def _drop_span(self, span: int) -> None:
        self._tasks.pop(span, None)
        self._forget(span)

    def _forget(self, span: int) -> None:
        """The span has no winning result any more."""
        self._winners.pop(span, None)
        if figures := self._figures.pop(span, None):
            self._count(figures, -1)

    def _count(self, figures: ResultFigures, sign: int) -> None:
        useful, total = useful_ms(figures.usage)
        self._useful_ms += sign * useful
        self._total_ms += sign * total

    def _drop_uncut(self) -> None:
        """Cut the spans again whose task exists but whose audio is missing."""
        cut = {entry.key for entry in self._store.list(self._keys.audios)}
        for span in sorted(self._tasks):
            if span not in self._winners and self._keys.audio(span) not in cut:
                self.cut_again(span)

    def _result(self, key: ResultKey) -> tuple[ChunkResult, bytes]:
        known = self._tasks[key.span]
        task = known.task
        data = self._store.get(key.key, max_bytes=longest_result_bytes(task.audio_ms * task.channels))
        result = ChunkResult.read(
            data,
            run=self._keys.run,
            span=key.span,
            task_sha256=frozenset(known.digests.values()),
            audio_ms=task.audio_ms,
            channels=task.channels,
        )
        if (result.attempt, result.uid) != (key.attempt, key.uid):
            raise DocumentInvalid(f"result of attempt {result.attempt}-{result.uid} has the key of another attempt")
        return result, data
