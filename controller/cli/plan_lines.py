"""A plan as lines for people and as facts for JSON.

Touches: nothing.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Sequence
from typing import Any

from controller.cli.estimates import Basis
from controller.cli.terminal import clock
from controller.domain.dry_run import DryChunk, DryRun, DryTrack
from controller.domain.interfaces import RunRequest

_LISTED_TRACKS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A recording with all that is known of it."""

    name: str
    run_request: RunRequest
    dry: DryRun

    @property
    def jobs(self) -> dict[str, int]:
        """Return how many jobs it has if none fails, by kind."""
        return {"intake": 1, "chunks": len(self.dry.chunks)}


def lines(planned: Planned, basis: Basis, *, on_cluster: bool) -> Iterator[str]:
    """Yield the lines after the first one. *on_cluster*: whether jobs run on a cluster."""
    plan = planned.dry.plan
    here = on_cluster and planned.run_request.request.source.uri.startswith("file:")
    intake = f"1 intake{' on this machine' if here else ''}"
    yield f"  run {plan.run}: {intake}, {_jobs(len(plan.spans))}, {_size(planned.dry.size_bytes)} of chunks to store"
    yield from (f"  {line}" for line in _tracks(planned.dry.tracks))
    if plan.chosen:
        yield f"  {plan.chosen.reason}"
    yield from map(_chunk, planned.dry.chunks)
    yield f"  {basis.line(basis.of([plan]))}"


def first_line(planned: Planned) -> str:
    """Return the line with the name, the length and the number of chunks."""
    plan = planned.dry.plan
    whole_ms = sum(span.end_ms - span.start_ms for span in plan.spans)
    chunks = f"{len(plan.spans)} chunk{'s' if len(plan.spans) > 1 else ''}{' (not cut)' if plan.direct else ''}"
    return f"{planned.name}: {clock(whole_ms / 1000)}, {chunks}"


def total_lines(all_planned: Sequence[Planned], basis: Basis) -> Iterator[str]:
    """Yield what all recordings would take together."""
    whole_ms = sum(span.end_ms - span.start_ms for one in all_planned for span in one.dry.plan.spans)
    runs = _runs(all_planned)
    plans = [one.dry.plan for one in runs]
    intakes = f"{len(runs):,} intake{'' if len(runs) == 1 else 's'}"
    chunks, size = _jobs(sum(len(plan.spans) for plan in plans)), _size(sum(one.dry.size_bytes for one in runs))
    once = ", equal recordings once" if len(runs) < len(all_planned) else ""
    yield f"all {len(all_planned):,}: {clock(whole_ms / 1000)}, {intakes}, {chunks}, {size} to store{once}"
    yield f"  {basis.line(basis.of(plans))}"


def _facts(planned: Planned, basis: Basis) -> dict[str, Any]:
    """Return the plan of one recording for JSON: its document, and what is not in it."""
    dry = planned.dry
    cuts = [None if one.quality is None else dataclasses.asdict(one.quality) for one in dry.chunks]
    document: dict[str, Any] = json.loads(dry.plan.encode())
    return document | {
        "tracks": [dataclasses.asdict(track) for track in dry.tracks],
        "cuts": cuts,
        "chunk_bytes": [chunk.size_bytes for chunk in dry.chunks],
        "bytes": dry.size_bytes,
        "jobs": planned.jobs,
        "estimate": basis.facts(basis.of([dry.plan])),
    }


def all_facts(all_planned: Sequence[Planned], basis: Basis) -> dict[str, Any]:
    """Return the plans of all recordings for JSON, their sums, and what the estimates are based on."""
    recordings = {one.name: _facts(one, basis) for one in all_planned}
    return {"recordings": recordings, "total": _total(all_planned, basis), "speed": basis.speed_facts()}


def _total(all_planned: Sequence[Planned], basis: Basis) -> dict[str, Any]:
    runs = _runs(all_planned)
    jobs = [one.jobs for one in runs]
    return {
        "recordings": len(all_planned),
        "bytes": sum(one.dry.size_bytes for one in runs),
        "jobs": {kind: sum(one[kind] for one in jobs) for kind in ("intake", "chunks")},
        "estimate": basis.facts(basis.of([one.dry.plan for one in runs])),
    }


def _runs(all_planned: Sequence[Planned]) -> list[Planned]:
    """Those that would be transcribed: recordings of equal content are one run."""
    return list({one.dry.plan.run: one for one in all_planned}.values())


def _jobs(chunks: int) -> str:
    return f"{chunks:,} chunk job{'' if chunks == 1 else 's'}"


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.1f} MB" if size_bytes >= 100_000 else f"{size_bytes / 1e3:,.1f} kB"


def _tracks(tracks: Sequence[DryTrack]) -> Iterator[str]:
    chosen = [track for track in tracks if track.chosen]
    others = [track for track in tracks if not track.chosen]
    for track in [*chosen, *others[: _LISTED_TRACKS - 1]]:
        about = [track.codec, *([] if track.language == "und" else [track.language[:8]])]
        about += [f"{track.channels} channel{'s' if track.channels > 1 else ''}"] if track.channels else []
        about += [f"{track.rate_hz} Hz"] if track.rate_hz else []
        about += ["default"] * track.default + ["commentary or description"] * track.commented
        yield f"audio track {track.number}{' (used)' if track.chosen else ''}: {', '.join(about)}"
    if len(others) >= _LISTED_TRACKS:
        yield f"and {len(others) - _LISTED_TRACKS + 1:,} more audio tracks"


def _chunk(chunk: DryChunk) -> str:
    span, quality = chunk.span, chunk.quality
    row = (
        f"  {span.index:5d}  {clock(span.start_ms / 1000)} - {clock(span.end_ms / 1000)}"
        f"  {(span.end_ms - span.start_ms) / 1000:8.2f} s  {span.cut}"
    )
    if quality is None:
        return row
    pause = f"{quality.pause_ms / 1000:.2f} s" if quality.pause_ms else "no pause"
    return f"{row}{' ' * (8 - len(span.cut))}{pause}, {quality.below_speech_db:.0f} dB below speech"
