"""Why a run waits, is slow, or failed: causes from its view, those first that matter most.

Touches: nothing.
"""

from __future__ import annotations

import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from controller.reports.figures import lost_attempts, took
from controller.reports.run_view import BarKind, ChunkView, Failure, RunView

Kind = Literal["failed", "pending", "slow"]
_MOST_EVIDENCE = 5
_MUCH = 0.15
"""A part of the time that is worth a cause."""
_SHORT_MS = 5_000
"""Nobody waits for less."""
_NOT_STARTED = ("queued", "starting")
_GPUS = "kubectl get nodes -o custom-columns=NODE:.metadata.name,GPUS:.status.allocatable.nvidia\\.com/gpu"
_PODS = "kubectl get pods -l stenofleet.io/run={run} -o wide"


@dataclass(frozen=True, kw_only=True)
class Cause:
    """One reason, with what shows it, and what to do."""

    kind: Kind
    summary: str
    evidence: tuple[str, ...] = ()
    advice: str = ""
    command: str = ""
    """What shows more, or does what is advised."""
    weight: float = 0.0
    """How much it matters: a part of the run's chunks or of its time, above 1 for what stops the run."""


def explain(view: RunView, *, now_ms: int) -> tuple[Cause, ...]:
    """All causes, the most important first. Empty: nothing is wrong with this run.

    *now_ms*: since the epoch; a run that nobody works on has reported last long before.
    """
    found = [*_of_state(view, now_ms), *_failures(view), *_lost_attempts(view), *_pending(view), *_slow(view)]
    return tuple(sorted(found, key=lambda cause: -cause.weight))


# ------------------------------------------------------------ the run as a whole


def _of_state(view: RunView, now_ms: int) -> Iterator[Cause]:
    run, header = view.header.run, view.header
    if header.state == "interrupted":
        silent = (
            f"its last report is {took(now_ms - header.updated_ms)} old" if header.updated_ms else "it never reported"
        )
        yield Cause(
            kind="pending",
            summary="no process works on this run: its command was stopped or killed",
            evidence=(silent, f"{header.chunks_done} of {header.chunks_known} chunks are done, and are kept"),
            advice="start it again: only what is missing is computed",
            command=f"stenofleet resume {run}",
            weight=10,
        )
    elif header.state == "cancelled":
        yield Cause(
            kind="failed",
            summary="it was cancelled",
            evidence=(f"{header.chunks_done} of {header.chunks_known} chunks were done",),
            advice="the same command starts it again, and keeps the chunks that are done",
            command=header.command,
            weight=10,
        )
    elif header.state in ("waiting", "following"):
        yield Cause(
            kind="pending",
            summary="it has not begun" if header.state == "waiting" else "another process works on this run",
            evidence=("its command works on other recordings first",) if header.state == "waiting" else (),
            command=f"stenofleet watch {run}",
            weight=10,
        )
    elif header.state == "running" and view.grid.intake_waits_for:
        yield Cause(
            kind="pending",
            summary=f"the job that cuts the recording waits: {view.grid.intake_waits_for}",
            advice="nothing of this run works before that is there (how long it waits: docs/reference/failures.md)",
            command=_PODS.format(run=run),
            weight=9,
        )
    elif header.state == "running" and not header.chunks_known and not view.grid.intake:
        yield Cause(
            kind="pending",
            summary="the recording is being read: no chunk is cut yet",
            advice="reading takes about a second for two minutes of sound; on a cluster, stenofleet logs with"
            " --runner kubernetes shows what its intake job does",
            command=f"stenofleet watch {run}",
            weight=5,
        )
    elif header.state == "failed" and not _is_told(view):
        # What ended the run is no failure of a chunk, or it is not known: it comes before the chunks that failed.
        yield Cause(
            kind="failed",
            summary=header.summary or "it failed, and its store does not say why any more",
            advice=header.advice if header.summary else "the same command starts it again",
            command="" if header.summary else header.command,
            weight=30,
        )


# ------------------------------------------------------------ attempts that failed


def _failures(view: RunView) -> Iterator[Cause]:
    """A cause for each class of failures: of what stopped the run, then of what was repeated."""
    if view.grid.intake:
        yield _of_intake(view, view.grid.intake[-1])
    by_class: dict[str, list[tuple[ChunkView, Failure]]] = defaultdict(list)
    for chunk in view.grid.chunks:
        for failure in chunk.failures:
            by_class[failure.failure].append((chunk, failure))
    for name, found in by_class.items():
        yield _of_class(view, name, found)


def _of_intake(view: RunView, last: Failure) -> Cause:
    cut, over = view.header.planned, view.header.state == "failed"
    how = "was cut only by a later attempt" if cut else "could not be cut" if over else "is not yet cut"
    return Cause(
        kind="slow" if cut else "failed",
        summary=f"the recording {how}: {last.summary} ({last.failure})",
        evidence=_lines(last),
        advice=last.advice,
        command=f"stenofleet logs {view.header.run}",
        weight=0.2 if cut else 20 if over else 3,
    )


def _of_class(view: RunView, name: str, found: Sequence[tuple[ChunkView, Failure]]) -> Cause:
    chunks = {chunk.index: chunk for chunk, _ in found}
    ended = view.header.state in ("failed", "partial")
    lost = [index for index, chunk in chunks.items() if ended and chunk.state == "lost"]
    attempts = sum(len(failure.attempts) for _, failure in found)
    last = found[-1][1]
    nodes = Counter(node for _, failure in found for node in failure.nodes)
    evidence = [f"{_count(attempts, 'attempt')} of {_count(len(chunks), 'chunk')} failed: {_indices(chunks)}"]
    if lost:
        has = "has" if len(lost) == 1 else "have"
        evidence.append(f"{_count(len(lost), 'chunk')} {has} no result: {_indices(lost)}")
    one_node = len(nodes) == 1 and attempts > 1
    if nodes:
        evidence.append("on " + ", ".join(f"{node} ({count})" for node, count in nodes.most_common(_MOST_EVIDENCE)))
    evidence += _lines(last)[-2:]
    node = next(iter(nodes), "")
    advice = last.advice
    if one_node and len(chunks) > 1:
        advice = f"all of them failed on {node}: look at that node first. {advice}".strip()
    log = f"stenofleet logs {view.header.run}" + (f" --chunk {next(iter(chunks))}" if len(chunks) == 1 else "")
    share = len(chunks) / max(1, view.header.chunks_known)
    return Cause(
        kind="failed" if lost else "slow",
        summary=f"{name}: {last.summary}",
        evidence=tuple(evidence),
        advice=advice,
        command=f"kubectl describe node {shlex.quote(node)}" if one_node and len(chunks) > 1 and not lost else log,
        weight=(20 if lost else 0.2) + share,
    )


def _lost_attempts(view: RunView) -> Iterator[Cause]:
    """A cause for the attempts of which only the start is known: they are no failures of chunks."""
    chunks = {chunk.index: chunk for chunk in view.grid.chunks if chunk.lost_attempts}
    count = view.grid.lost_intakes + sum(chunk.lost_attempts for chunk in chunks.values())
    if count:
        spent = _spent(view)
        share = spent["unseen"] / max(1, spent.total())
        where = [f"of {_count(len(chunks), 'chunk')}: {_indices(chunks)}"] if chunks else []
        where += ["of the cutting of the recording"] if view.grid.lost_intakes else []
        yield Cause(
            kind="slow",
            summary=f"{lost_attempts(count)}: nobody saw the end",
            evidence=(*where, *([f"{share:.0%} of the critical path"] if share >= _MUCH else [])),
            advice="keep the controller running: in the cluster it is a Job that is started again",
            command=f"stenofleet usage {view.header.run}",
            weight=0.2 + share,
        )


# ------------------------------------------------------------ chunks that wait


def _pending(view: RunView) -> Iterator[Cause]:
    """A cause for each thing that chunks of a running run wait for."""
    if view.header.state != "running":
        return
    waiting: dict[str, list[ChunkView]] = defaultdict(list)
    for chunk in view.grid.chunks:
        if chunk.waits_for and chunk.state in _NOT_STARTED:
            waiting[chunk.waits_for].append(chunk)
    running = view.grid.counts.get("running", 0)
    for reason, chunks in waiting.items():
        yield Cause(
            kind="pending",
            summary=f"{_count(len(chunks), 'chunk')} {'waits' if len(chunks) == 1 else 'wait'}: {reason}",
            evidence=(f"chunks {_indices(chunk.index for chunk in chunks)}", f"{running} others run now"),
            advice=""
            if running
            else "nothing of this run works before that is there (how long it waits: docs/reference/failures.md)",
            command=_PODS.format(run=view.header.run),
            weight=(1 if running else 8) + len(chunks) / max(1, view.header.chunks_known),
        )
    held = view.grid.counts.get("waiting", 0)
    if held and not waiting and running:
        has = "has" if held == 1 else "have"
        yield Cause(
            kind="pending",
            summary=f"{_count(held, 'chunk')} {has} no job yet: as many jobs work as may work at the same time",
            evidence=(f"{running} run now",),
            advice="more at the same time need more GPUs, or cores: --max-parallel",
            command=_GPUS if _on_cluster(view) else f"stenofleet watch {view.header.run}",
            weight=0.5,
        )


# ------------------------------------------------------------ where the time went

_PARTS: dict[BarKind, tuple[str, str, str]] = {
    "queued": (
        "its jobs waited for a free GPU or slot",
        "allow more jobs at the same time (--max-parallel), add GPU nodes, or take longer chunks: fewer jobs wait",
        "kubectl get pods -A --field-selector=status.phase=Pending",
    ),
    "starting": (
        "its pods took long to start: images are pulled, volumes mounted, nodes added",
        "keep the images on the GPU nodes, and nodes warm (docs/how-to/cluster.md)",
        "kubectl get events --sort-by=.lastTimestamp",
    ),
    "loading": (
        "its jobs loaded the model again and again",
        "take longer chunks (--chunk-duration auto), a model on a local volume, and the type that the GPU computes in",
        "stenofleet doctor",
    ),
    "failed": (
        "attempts that failed took this time",
        "see why they failed",
        "stenofleet logs {run}",
    ),
}

_REPORT = "stenofleet report {run} -o report.html"
_LOADING_ON_CPU = "take longer chunks (--chunk-duration auto), and a model on a local volume"


def _slow(view: RunView) -> Iterator[Cause]:
    """What took a part of the critical path that is worth something; decoding itself is what a run is for."""
    if view.timeline is None:
        return
    spent = _spent(view)
    total_ms = spent.total()
    for kind, (summary, advice, command) in _PARTS.items():
        if spent[kind] >= max(_SHORT_MS, _MUCH * total_ms):
            share = spent[kind] / total_ms
            yield Cause(
                kind="slow",
                summary=f"{summary}: {took(spent[kind])} of {took(total_ms)}",
                evidence=(
                    f"{share:.0%} of {'the critical path' if view.timeline.absolute else 'the time of its jobs'}",
                ),
                advice=advice if view.header.on_gpu or kind != "loading" else _LOADING_ON_CPU,
                command=(command if command.startswith("stenofleet") or _on_cluster(view) else _REPORT).format(
                    run=view.header.run
                ),
                weight=share,
            )
    yield from _uneven(view)
    for advice in view.findings.advice:
        yield Cause(kind="slow", summary=advice, weight=0.1)


def _spent(view: RunView) -> Counter[BarKind]:
    """How long each kind of work took, in ms: on the critical path, or in all where only that is known."""
    spent: Counter[BarKind] = Counter()
    for row in view.timeline.rows if view.timeline else ():
        for bar in row.bars:
            if bar.critical or not (view.timeline and view.timeline.absolute):
                spent[bar.kind] += bar.end_ms - bar.start_ms
    return spent


def _uneven(view: RunView) -> Iterator[Cause]:
    """One job that took far longer than all others decides when a run ends."""
    timed = sorted((chunk for chunk in view.grid.chunks if chunk.job_ms), key=lambda chunk: chunk.job_ms or 0)
    if len(timed) < 3 or view.header.took_ms is None:
        return
    usual_ms, longest = timed[len(timed) // 2].job_ms or 0, timed[-1]
    over_ms = (longest.job_ms or 0) - 2 * usual_ms
    if over_ms >= max(_SHORT_MS, _MUCH * view.header.took_ms):
        where = f" on {longest.node}" if longest.node else ""
        yield Cause(
            kind="slow",
            summary=f"chunk {longest.index} took {took(longest.job_ms or 0)}{where}, where most took {took(usual_ms)}",
            evidence=(f"speech in it: {took(longest.speech_ms)}",) if longest.speech_ms is not None else (),
            advice="a slow node, or windows that were decoded again and again: compare it with its neighbours",
            command=_REPORT.format(run=view.header.run),
            weight=over_ms / view.header.took_ms,
        )


# ------------------------------------------------------------ texts


def _on_cluster(view: RunView) -> bool:
    """Whether a job had a node: jobs of this machine have none, and kubectl says nothing about them."""
    return any(chunk.node for chunk in view.grid.chunks)


def _is_told(view: RunView) -> bool:
    """Whether what ended the run is a failure of a chunk or of the cutting: these are causes of their own."""
    failures = (*view.grid.intake, *(failure for chunk in view.grid.chunks for failure in chunk.failures))
    said = view.header.summary
    return any(said in ("", "failed") or failure.summary in said for failure in failures)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _indices(indices: Iterator[int] | Sequence[int] | dict[int, ChunkView]) -> str:
    ordered = sorted(indices)
    more = f" and {len(ordered) - _MOST_EVIDENCE} more" if len(ordered) > _MOST_EVIDENCE else ""
    return ", ".join(map(str, ordered[:_MOST_EVIDENCE])) + more


def _lines(failure: Failure) -> tuple[str, ...]:
    """Its last log lines that say something."""
    return tuple(line.strip() for line in failure.lines if line.strip() and failure.summary not in line)[-3:]
