"""What to do next: what is in the store and what runs → actions.

Touches: nothing; the time is an argument. Every retry, budget, escalation and stop of the house is decided here, from a
picture of the run that can be taken anew at any moment. A second controller with the same picture decides the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from controller.domain.actions import Action, Delete, Finish, PinLanguage, Submit
from controller.domain.budgets import BUDGETS, Budget
from controller.domain.documents import Evidence
from controller.domain.failures import Diagnosis, FailureClass, deadline, is_disruption, node_lost
from controller.domain.jobs import JobView
from controller.domain.policy import RetryPolicy
from controller.domain.state import RunState

_OF_THE_NODE = frozenset({FailureClass.CUDA_OOM, FailureClass.GPU_UNHEALTHY, FailureClass.IMAGE_PULL})
"""Another node may do better: its GPU is larger, well, or has the image."""

MORE_MEMORY = 1.5

LAST_ATTEMPT = 999_999
"""The highest number that names of results, failures and Jobs can hold."""


def decide(
    state: RunState, *, now_ms: int, policy: RetryPolicy, free_slots: int, free_intake_slots: int
) -> list[Action]:
    """The next actions, at most *free_slots* chunk jobs and *free_intake_slots* intake jobs among them."""
    deletions = list(_deletions(state, now_ms, policy))
    actions: list[Action] = [*deletions]
    gone = {id(delete.view) for delete in deletions}
    live = [view for view in state.jobs if id(view) not in gone]
    if state.cancelled:
        actions = [Delete(view=view) for view in state.jobs]
        return actions or [Finish(verdict="cancelled", summary="cancelled")]
    verdict = _verdict(state, policy)
    if verdict is not None:
        if verdict.verdict == "failed":
            # What has not begun would make a decided run wait for a free GPU.
            actions += [Delete(view=view) for view in live if view.phase in ("queued", "starting")]
        return actions if live or actions else [verdict]
    # One that has just ended is judged first: its evidence, and the back-off it asks for, are not in this picture yet.
    intakes = [view for view in state.jobs if view.span is None]
    if not state.planned and not intakes and free_intake_slots > 0 and _rested(state, None, now_ms, policy):
        actions.append(Submit(span=None, attempt=_next_attempt(state, None)))
    actions.extend(_chunk_actions(state, [view for view in live if view.span is not None], now_ms, policy, free_slots))
    return actions


def _deletions(state: RunState, now_ms: int, policy: RetryPolicy) -> Iterator[Delete]:
    for view in state.jobs:
        done = state.planned if view.span is None else view.span in state.answered
        if view.phase != "ended":
            limit_ms = _deadline_ms(state, view, policy)
            if view.phase == "running" and now_ms - view.since_ms > limit_ms and not done:
                yield Delete(view=view, failure=deadline(limit_ms // 1000))
            elif done and view.span is not None:
                # Its span was answered by an attempt that was thought lost, or by itself a moment ago.
                yield Delete(view=view, failure=_disruption(state, view))
        elif done:
            yield Delete(view=view, failure=_disruption(state, view))
        elif _deferred(state, view) or _cut_too_early(state, view):
            yield Delete(view=view)
        else:
            yield Delete(view=view, failure=view.diagnosis)


def _disruption(state: RunState, view: JobView) -> Diagnosis | None:
    """What took this attempt away, where another one has answered its span: a lost node leaves a trace."""
    if view.span is None or state.answered_by.get(view.span, view.attempt) == view.attempt:
        return None
    if view.lost:
        return node_lost(view.node)
    why = view.diagnosis
    return why if why is not None and is_disruption(why.failure) else None


def _cut_too_early(state: RunState, view: JobView) -> bool:
    """Whether an intake ended well, and a chunk that it had found whole at its start was removed meanwhile."""
    left_well = view.diagnosis is not None and view.diagnosis.failure is FailureClass.NO_RESULT
    return view.span is None and left_well and bool(state.removed)


def _deferred(state: RunState, view: JobView) -> bool:
    """Whether the job left without a result because it passed the language on."""
    left_well = view.diagnosis is not None and view.diagnosis.failure is FailureClass.NO_RESULT
    return left_well and state.language_open and view.span in state.language_candidates


def _deadline_ms(state: RunState, view: JobView, policy: RetryPolicy) -> int:
    if view.span is None:
        return policy.intake_deadline_ms
    return policy.deadline_base_ms + policy.deadline_factor * state.tasks.get(view.span, 0)


def _verdict(state: RunState, policy: RetryPolicy) -> Finish | None:
    """Whether the round is over but for jobs that still run."""
    broken = _broken(state, policy)
    if broken is not None:
        return broken
    open_spans = {None: state.planned} | {span: span in state.answered for span in state.tasks}
    if any(state.used_attempts.get(span, 0) >= LAST_ATTEMPT and not done for span, done in open_spans.items()):
        return Finish(
            verdict="failed",
            summary="no number is left for another attempt: the store holds numbers that no run reaches",
            advice="see who else writes to the store, and begin a new run with --force",
            failure=FailureClass.CONFIG,
        )
    if not state.planned and (why := _lost(state, None, policy)):
        return Finish(verdict="failed", summary=why.summary, advice=why.advice, failure=why.failure)
    lost = {span: why for span in state.tasks if span not in state.answered and (why := _lost(state, span, policy))}
    if lost and not state.gaps_allowed:
        span, why = min(lost.items())
        count = len(state.failures_of(span))
        return Finish(
            verdict="failed",
            lost=tuple(sorted(lost)),
            summary=f"chunk {span} failed {count} time{'s' if count > 1 else ''}, last {why.failure}: {why.summary}",
            advice=why.advice
            or "run the same command again for a fresh round, or allow a gap (--on-chunk-failure gap)",
            failure=why.failure,
        )
    if not state.planned or len(state.answered) + len(lost) < len(state.tasks):
        return None
    if lost and not state.answered:
        why = lost[min(lost)]
        return Finish(
            verdict="failed",
            lost=tuple(sorted(lost)),
            summary=why.summary,
            advice=why.advice,
            failure=why.failure,
        )
    return Finish(verdict="partial" if lost else "complete", lost=tuple(sorted(lost)))


def _broken(state: RunState, policy: RetryPolicy) -> Finish | None:
    """The circuit breaker: many equal failures, no success."""
    if state.answered or not policy.breaker:
        return None
    own = [
        item
        for item in state.evidence
        # Objects that went from the store together are cut again together.
        if item.span is not None and _budget(item) != "cluster" and item.failure != FailureClass.CHUNK_DAMAGED
    ]
    for failure, count in Counter(item.failure for item in own).most_common(1):
        if count >= policy.breaker:
            last = [item for item in own if item.failure == failure][-1]
            return Finish(
                verdict="failed",
                summary=f"{count} jobs in a row failed alike and none succeeded ({failure}): {last.summary}",
                advice=last.advice,
                failure=failure,
            )
    return None


def _lost(state: RunState, span: int | None, policy: RetryPolicy) -> Evidence | None:
    """The failure that ends this span's attempts for this round, if its budgets are spent."""
    failures = state.failures_of(span)
    paid = Counter(_budget(item) for item in failures)
    spent = paid["never"] or paid["chunk"] >= policy.max_attempts or paid["cluster"] > policy.max_disruptions
    return failures[-1] if spent else None


def _budget(failure: Evidence) -> Budget:
    # A class of another version is nobody's fault but the chunk's.
    return BUDGETS.get(failure.failure, "chunk")


def _rested(state: RunState, span: int | None, now_ms: int, policy: RetryPolicy) -> bool:
    """Whether the back-off after the last failure is over."""
    failures = state.failures_of(span)
    if not failures:
        return True
    pause = min(policy.backoff_ms << min(len(failures) - 1, 20), policy.backoff_max_ms)
    # A clock that was set back must not make a chunk wait for hours.
    return not 0 <= now_ms - failures[-1].ended_ms < pause


def _next_attempt(state: RunState, span: int | None) -> int:
    live = [view.attempt for view in state.jobs if view.span == span]
    return 1 + max([state.used_attempts.get(span, 0), *live])


def _chunk_actions(
    state: RunState, live: list[JobView], now_ms: int, policy: RetryPolicy, free_slots: int
) -> Iterator[Action]:
    busy = {view.span for view in state.jobs if not view.lost}
    open_spans = [span for span in sorted(state.tasks) if span not in state.answered and not _lost(state, span, policy)]
    if state.language_open:
        undecided = [span for span in open_spans if span not in state.language_candidates]
        if not undecided and open_spans and state.planned:
            best = max(state.language_candidates.values(), key=lambda note: (note.speech_ms, -note.span))
            yield PinLanguage(language=best)
            return
        # One at a time, in order: the first span with enough speech decides, and every other is told.
        open_spans, free_slots = undecided[:1], min(free_slots, 0 if live else 1)
    ready = [span for span in open_spans if span not in busy and _rested(state, span, now_ms, policy)]
    for span in ready[: max(0, free_slots)]:
        yield _escalated(state, span)


def _escalated(state: RunState, span: int) -> Submit:
    """The span's next attempt, with more of what the last ones lacked."""
    count = Counter(item.failure for item in state.failures_of(span))
    avoid = _unfit_nodes(state, span)
    return Submit(
        span=span,
        attempt=_next_attempt(state, span),
        degradation_level=count[FailureClass.CUDA_OOM],
        # Once: what needs still more is no slip of the estimate.
        memory_factor=MORE_MEMORY if count[FailureClass.OOM_KILLED] else 1.0,
        avoid_nodes=avoid,
        only_elsewhere=bool(avoid) and any(node not in avoid for node in _fit_nodes(state)),
    )


def _unfit_nodes(state: RunState, span: int) -> tuple[str, ...]:
    """Nodes that failed this span for what they are, in order."""
    failures = [item for item in state.failures_of(span) if item.node and item.failure in _OF_THE_NODE]
    # A GPU that was full gets what needs less of it first.
    spared = Counter(item.failure for item in failures)[FailureClass.CUDA_OOM] <= state.degradation_levels
    return tuple({item.node: None for item in failures if not (spared and item.failure == FailureClass.CUDA_OOM)})


def _fit_nodes(state: RunState) -> Iterator[str]:
    """Nodes that are known to run this run's jobs: where there are none, even an unfit one is better than no node.

    Where there are, an unfit one is shut out: it fails fast, so it would be the one that is free for every attempt.
    """
    yield from (view.node for view in state.jobs if view.node and view.phase == "running" and not view.lost)
    yield from (item.node for item in state.evidence if item.node and item.failure not in _OF_THE_NODE)
