"""Decides what to do next: from the objects in the store and the live jobs to actions.

Touches: nothing; the time is an argument. Every retry, budget, escalation and stop is decided here, from a state of the
run that can be read again at any time. A second controller with the same state makes the same decision.
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
"""Failures that may not happen on another node: its GPU is larger or healthy, or it can pull the image."""

MORE_MEMORY = 1.5
"""Memory factor of an attempt after one that was killed for too little memory."""
LAST_ATTEMPT = 999_999
"""The highest attempt number that fits into the names of results, failures and Jobs."""


def decide(
    state: RunState, *, now_ms: int, policy: RetryPolicy, free_slots: int, free_intake_slots: int
) -> list[Action]:
    """Return the next actions, with at most *free_slots* new chunk jobs and *free_intake_slots* new intake jobs."""
    deletions = list(_deletions(state, now_ms, policy))
    actions: list[Action] = [*deletions]
    deleted = {id(delete.view) for delete in deletions}
    live = [view for view in state.jobs if id(view) not in deleted]
    if state.cancelled:
        actions = [Delete(view=view) for view in state.jobs]
        return actions or [Finish(verdict="cancelled", summary="cancelled")]
    verdict = _verdict(state, policy)
    if verdict is not None:
        if verdict.verdict == "failed":
            # Jobs that have not started would make a run whose outcome is known wait for a free GPU.
            actions += [Delete(view=view) for view in live if view.phase in ("queued", "starting")]
        return actions if live or actions else [verdict]
    # No new intake while an ended one is still listed: its evidence and the back-off are not in this state yet.
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
                # The span has a result: from an attempt that was considered lost, or just now from this job.
                yield Delete(view=view, failure=_disruption(state, view))
        elif done:
            yield Delete(view=view, failure=_disruption(state, view))
        elif _deferred(state, view) or _cut_too_early(state, view):
            yield Delete(view=view)
        else:
            yield Delete(view=view, failure=view.diagnosis)


def _disruption(state: RunState, view: JobView) -> Diagnosis | None:
    """Return the disruption that ended this attempt, where another attempt wrote the result that counts; else None.

    So the evidence shows a lost node even if its span has a result.
    """
    if view.span is None or state.answered_by.get(view.span, view.attempt) == view.attempt:
        return None
    if view.lost:
        return node_lost(view.node)
    diagnosis = view.diagnosis
    return diagnosis if diagnosis is not None and is_disruption(diagnosis.failure) else None


def _cut_too_early(state: RunState, view: JobView) -> bool:
    """Whether an intake succeeded, but a chunk that was valid when it started was removed in the meantime."""
    succeeded = view.diagnosis is not None and view.diagnosis.failure is FailureClass.NO_RESULT
    return view.span is None and succeeded and bool(state.removed)


def _deferred(state: RunState, view: JobView) -> bool:
    """Whether the job ended without a result because its span has too little speech to decide the language."""
    succeeded = view.diagnosis is not None and view.diagnosis.failure is FailureClass.NO_RESULT
    return succeeded and state.language_open and view.span in state.language_candidates


def _deadline_ms(state: RunState, view: JobView, policy: RetryPolicy) -> int:
    if view.span is None:
        return policy.intake_deadline_ms
    return policy.deadline_base_ms + policy.deadline_factor * state.tasks.get(view.span, 0)


def _verdict(state: RunState, policy: RetryPolicy) -> Finish | None:
    """Return the verdict of the round; None while more attempts are needed. Jobs may still be running."""
    tripped = _circuit_breaker(state, policy)
    if tripped is not None:
        return tripped
    open_spans = {None: state.planned} | {span: span in state.answered for span in state.tasks}
    if any(state.used_attempts.get(span, 0) >= LAST_ATTEMPT and not done for span, done in open_spans.items()):
        return Finish(
            verdict="failed",
            summary="no attempt number is left: the store contains attempt numbers higher than any run reaches",
            advice="check who else writes to the store, and start a new run with --force",
            failure=FailureClass.CONFIG,
        )
    if not state.planned and (last := _lost(state, None, policy)):
        return Finish(verdict="failed", summary=last.summary, advice=last.advice, failure=last.failure)
    lost = {span: last for span in state.tasks if span not in state.answered and (last := _lost(state, span, policy))}
    if lost and not state.gaps_allowed:
        span, last = min(lost.items())
        count = len(state.failures_of(span))
        return Finish(
            verdict="failed",
            lost=tuple(sorted(lost)),
            summary=f"chunk {span} failed {count} time{'s' if count > 1 else ''}, last {last.failure}: {last.summary}",
            advice=last.advice or "run the same command again for a new round, or allow a gap (--on-chunk-failure gap)",
            failure=last.failure,
        )
    if not state.planned or len(state.answered) + len(lost) < len(state.tasks):
        return None
    if lost and not state.answered:
        last = lost[min(lost)]
        return Finish(
            verdict="failed",
            lost=tuple(sorted(lost)),
            summary=last.summary,
            advice=last.advice,
            failure=last.failure,
        )
    return Finish(verdict="partial" if lost else "complete", lost=tuple(sorted(lost)))


def _circuit_breaker(state: RunState, policy: RetryPolicy) -> Finish | None:
    """Return the verdict of the circuit breaker: failed after many equal failures and no success; else None."""
    if state.answered or not policy.breaker:
        return None
    own = [
        item
        for item in state.evidence
        # Chunks that were removed from the store together are cut again together.
        if item.span is not None and _budget(item) != "cluster" and item.failure != FailureClass.CHUNK_DAMAGED
    ]
    for failure, count in Counter(item.failure for item in own).most_common(1):
        if count >= policy.breaker:
            last = [item for item in own if item.failure == failure][-1]
            return Finish(
                verdict="failed",
                summary=f"{count} jobs failed in the same way and none succeeded ({failure}): {last.summary}",
                advice=last.advice,
                failure=failure,
            )
    return None


def _lost(state: RunState, span: int | None, policy: RetryPolicy) -> Evidence | None:
    """Return the last failure of the span if its budgets for this round are used up; else None."""
    failures = state.failures_of(span)
    used = Counter(_budget(item) for item in failures)
    spent = used["never"] or used["chunk"] >= policy.max_attempts or used["cluster"] > policy.max_disruptions
    return failures[-1] if spent else None


def _budget(failure: Evidence) -> Budget:
    # A failure class of another version counts against the chunk.
    return BUDGETS.get(failure.failure, "chunk")


def _rested(state: RunState, span: int | None, now_ms: int, policy: RetryPolicy) -> bool:
    """Whether the back-off after the span's last failure is over."""
    failures = state.failures_of(span)
    if not failures:
        return True
    pause = min(policy.backoff_ms << min(len(failures) - 1, 20), policy.backoff_max_ms)
    # If the clock was set back, a chunk must not wait for hours.
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
            candidates = state.language_candidates.values()
            best = max(candidates, key=lambda candidate: (candidate.speech_ms, -candidate.span))
            yield PinLanguage(language=best)
            return
        # One span at a time, in order: the first span with enough speech decides the language of all spans.
        open_spans, free_slots = undecided[:1], min(free_slots, 0 if live else 1)
    ready = [span for span in open_spans if span not in busy and _rested(state, span, now_ms, policy)]
    for span in ready[: max(0, free_slots)]:
        yield _escalated(state, span)


def _escalated(state: RunState, span: int) -> Submit:
    """Return the span's next attempt, with the changes that its earlier failures call for."""
    count = Counter(item.failure for item in state.failures_of(span))
    avoid = _unfit_nodes(state, span)
    return Submit(
        span=span,
        attempt=_next_attempt(state, span),
        degradation_level=count[FailureClass.CUDA_OOM],
        # Only once: if this is not enough, the cause is not a wrong estimate.
        memory_factor=MORE_MEMORY if count[FailureClass.OOM_KILLED] else 1.0,
        avoid_nodes=avoid,
        only_elsewhere=bool(avoid) and any(node not in avoid for node in _fit_nodes(state)),
    )


def _unfit_nodes(state: RunState, span: int) -> tuple[str, ...]:
    """Return the nodes on which this span failed because of the node, in order."""
    failures = [item for item in state.failures_of(span) if item.node and item.failure in _OF_THE_NODE]
    # After an out-of-memory error on a GPU, the same node is first tried with options that need less memory.
    degradable = Counter(item.failure for item in failures)[FailureClass.CUDA_OOM] <= state.degradation_levels
    return tuple({item.node: None for item in failures if not (degradable and item.failure == FailureClass.CUDA_OOM)})


def _fit_nodes(state: RunState) -> Iterator[str]:
    """Yield the nodes that are known to run this run's jobs.

    If there are any, unfit nodes are excluded: jobs fail there quickly, so such a node would be free again for every
    attempt. If there are none, an unfit node is better than no node.
    """
    yield from (view.node for view in state.jobs if view.node and view.phase == "running" and not view.lost)
    yield from (item.node for item in state.evidence if item.node and item.failure not in _OF_THE_NODE)
