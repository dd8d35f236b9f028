"""Builds the view of a run from its documents.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from urllib.parse import unquote, urlsplit

from chunk_job.text import masked, printable, shown
from controller.domain.attempt_documents import Attempts, AttemptTimes
from controller.domain.documents import (
    Evidence,
    Outcome,
    Report,
    Request,
    RunRecord,
    SpanReport,
    Status,
    StoredState,
)
from controller.domain.plan import Plan, Span
from controller.domain.progress import ENDED
from controller.reports.command_line import command_line
from controller.reports.cost import NO_PRICES, Prices, cost
from controller.reports.run_view import (
    CaptionFindings,
    ChunkGrid,
    ChunkState,
    ChunkView,
    CutView,
    Failure,
    Findings,
    Header,
    Quality,
    RunView,
    SoundView,
    Waveform,
)
from controller.reports.timeline import timeline
from controller.reports.words import WordFigures
from controller.transcript.model import TranscriptSummary

MOST_CHUNKS = 1_000
MOST_LINES = 20
"""Most log lines of a failure."""
MOST_FAILURES = 5
"""Most different failures of one chunk: the last ones."""
_LONGEST_LINE = 500
_LIVE: Mapping[str, ChunkState] = {
    "queued": "queued",
    "starting": "starting",
    "running": "running",
    "ending": "running",
}
"""States of a chunk by the phase of its newest attempt."""


@dataclass(frozen=True, kw_only=True)
class RunDocuments:
    """What a store has of a run. Each document may be missing, and others may have been written at another time."""

    run: str
    state: StoredState
    record: RunRecord | None = None
    request: Request | None = None
    outcome: Outcome | None = None
    plan: Plan | None = None
    status: Status | None = None
    attempts: Attempts | None = None
    report: Report | None = None
    evidence: tuple[Evidence, ...] = ()
    winners: Mapping[int, int] = field(default_factory=dict)
    """Span → attempt of the result that is used."""
    summary: TranscriptSummary | None = None
    words: WordFigures | None = None
    captions: CaptionFindings | None = None
    prices: Prices = NO_PRICES
    waveform: Waveform | None = None
    places: bool = True
    """Whether to show where the recording and the model are. Clients of the service may not know that."""

    @property
    def hidden(self) -> Sequence[tuple[str, str]]:
        """What is not shown, and what is shown instead."""
        if self.places or self.record is None:
            return ()
        name, model = self.record.name, self.record.options.model
        places = {self.request.source.uri, recording_of(self.request)} if self.request else set()
        # The longest first: one of them may be a part of another.
        return *((place, name) for place in sorted(places, key=len, reverse=True)), (model, _model(model))

    @property
    def working(self) -> bool:
        """Whether a process works on the run now."""
        return self.state == "running"

    @property
    def now_ms(self) -> int | None:
        """When the leading process reported last; None if none works on the run."""
        return self.status.updated_ms if self.status and self.working else None

    @property
    def span_reports(self) -> Mapping[int, SpanReport]:
        """The times of each span's winning attempt."""
        return {one.span: one for one in self.report.spans} if self.report else {}


def build(of: RunDocuments) -> RunView:
    """The view of a run."""
    return RunView(
        header=_header(of),
        findings=_findings(of),
        grid=_grid(of),
        timeline=timeline(
            of.attempts.attempts if of.attempts else (),
            winners=of.winners,
            reports=of.span_reports,
            failed={(item.span, item.attempt) for item in of.evidence},
            now_ms=of.now_ms,
        ),
        sound=_sound(of),
    )


def recording_of(request: Request) -> str:
    """The recording's path, or its address in S3: untrusted text."""
    uri = request.source.uri
    return unquote(urlsplit(uri).path, errors="replace") if uri.startswith("file:") else uri


def _header(of: RunDocuments) -> Header:
    compute_ms = round(1000 * of.report.compute_s) if of.report else None
    hour_price = of.prices.of(of.report.devices) if of.report else None
    record, report, status, summary = of.record, of.report, of.status, of.summary
    source = recording_of(of.request) if of.request and of.places else ""
    detected = summary is not None and summary.options.language is None
    return Header(
        run=of.run,
        name=_line(of, record.name if record else status.name if status else of.run),
        state=of.state,
        summary=_lines(of, of.outcome.summary) if of.outcome else "",
        advice=_lines(of, of.outcome.advice) if of.outcome else "",
        duration_ms=of.plan.duration_ms + of.plan.offset_ms if of.plan else None,
        percent=100.0 if of.state in ("complete", "partial") else status.percent if status else 0.0,
        chunks_done=len(of.winners),
        chunks_known=len(of.plan.spans) if of.plan else status.spans_known if status else 0,
        planned=of.plan is not None,
        failures=max(len(of.evidence), status.failures if status else 0, of.attempts.failed if of.attempts else 0),
        took_ms=round(1000 * report.elapsed_s) if report and report.elapsed_s > 0 and of.outcome else None,
        left_ms=_left_ms(of),
        compute_ms=compute_ms,
        cost=cost(compute_ms, hour_price),
        hour_price=hour_price,
        devices=tuple(_line(of, one) for one in report.devices) if report else (),
        useful_share=report.useful_share if report else status.useful_share if status else None,
        job_speed=report.realtime_factor or None if report else None,
        speech_ms=round(1000 * report.speech_s) if report else None,
        words=sum(of.words.words) if of.words else None,
        unsure_words=sum(of.words.unsure) if of.words else None,
        confidence=of.words.probability / of.words.judged if of.words and of.words.judged else None,
        language=(summary.language if summary else record.options.language if record else None) or "",
        language_probability=summary.language_probability if summary and summary.language and detected else None,
        model=_line(of, _model(record.options.model)) if record else "",
        compute_types=tuple(_line(of, one) for one in report.compute_types) if report else (),
        versions={_line(of, name): _line(of, version) for name, version in record.versions.items()} if record else {},
        source=_line(of, source),
        command=_without_places(of, command_line(record, source or record.name, of.request)) if record else "",
        updated_ms=status.updated_ms if status else None,
    )


def _model(name: str) -> str:
    """The name of a model, or of its folder."""
    return name.rstrip("/").rpartition("/")[2] or name if name.startswith("/") else name


def _line(of: RunDocuments, text: str) -> str:
    """Untrusted *text* as one line that can be shown."""
    return masked(printable(_without_places(of, text)))


def _lines(of: RunDocuments, text: str) -> str:
    """Untrusted *text* with its lines."""
    return shown(_without_places(of, text))


def _without_places(of: RunDocuments, text: str) -> str:
    for place, name in of.hidden:
        text = text.replace(place, name)
    return text


def _left_ms(of: RunDocuments) -> int | None:
    """The estimated time to the end, from the speed since the process began that works on the run."""
    status, attempts = of.status, of.attempts
    if not (of.working and status and attempts and status.planned):
        return None
    done_ms, worked_ms = status.done_ms - attempts.done_before_ms, status.updated_ms - attempts.began_ms
    return (status.total_ms - status.done_ms) * worked_ms // done_ms if done_ms > 0 and worked_ms > 0 else None


def _findings(of: RunDocuments) -> Findings:
    warnings = [
        *(of.plan.warnings if of.plan else ()),
        *(of.summary.warnings if of.summary else of.report.warnings if of.report else ()),
    ]
    return Findings(
        warnings=tuple(_line(of, warning) for warning in dict.fromkeys(warnings)),
        advice=tuple(_line(of, advice) for advice in of.report.advice) if of.report else (),
        glossary=tuple((_line(of, one.term), one.hits) for one in of.report.glossary) if of.report else (),
        captions=of.captions,
    )


def _sound(of: RunDocuments) -> SoundView | None:
    plan = of.plan
    if plan is None:
        return None
    shift_ms = plan.offset_ms
    return SoundView(
        duration_ms=plan.duration_ms + shift_ms,
        cuts=tuple(
            CutView(at_ms=before.end_ms + shift_ms, cut=before.cut, chunk=before.index + 1)
            for before in plan.spans[:-1]
        )[: MOST_CHUNKS - 1],
        sound=None if plan.sound is None else tuple((x.start_ms + shift_ms, x.end_ms + shift_ms) for x in plan.sound),
        speech=tuple(of.words.speech) if of.words else (),
        gaps=tuple((gap.start_ms, gap.end_ms) for gap in of.summary.gaps) if of.summary else (),
        waveform=of.waveform,
    )


# ---------------------------------------------------------------- the chunks


def _grid(of: RunDocuments) -> ChunkGrid:
    failed: dict[int | None, list[Evidence]] = {}
    for item in of.evidence:
        failed.setdefault(item.span, []).append(item)
    noted: dict[int | None, list[AttemptTimes]] = {}
    # In order of their numbers; of those with the same number, the newest last.
    for one in sorted(of.attempts.attempts if of.attempts else (), key=lambda one: one.attempt):
        noted.setdefault(one.span, []).append(one)
    reports = of.span_reports
    chunks = [
        _chunk(of, span, failed.get(span.index, ()), noted.get(span.index, ()), reports.get(span.index))
        for span in (of.plan.spans if of.plan else ())
    ]
    shown_chunks = chunks
    if len(chunks) > MOST_CHUNKS:
        kept = sorted(chunks, key=lambda chunk: (not chunk.troubled, chunk.state == "done"))[:MOST_CHUNKS]
        shown_chunks = sorted(kept, key=lambda chunk: chunk.index)
    return ChunkGrid(
        chunks=tuple(shown_chunks),
        left_out=len(chunks) - len(shown_chunks),
        intake=_failures(of, failed.get(None, ())),
        lost_intakes=sum(one.lost for one in noted.get(None, ())),
        intake_waits_for=_intake_waits_for(of, noted.get(None, ())),
        marks=tuple(chunk.mark for chunk in chunks),
    )


def _intake_waits_for(of: RunDocuments, noted: Sequence[AttemptTimes]) -> str:
    newest = noted[-1] if noted else None
    waits = of.working and newest is not None and newest.phase in ("queued", "starting")
    return _line(of, newest.waits_for) if newest and waits else ""


def _chunk(
    of: RunDocuments,
    span: Span,
    failed: Sequence[Evidence],
    noted: Sequence[AttemptTimes],
    report: SpanReport | None,
) -> ChunkView:
    winner = of.winners.get(span.index)
    newest = noted[-1] if noted else None
    state = _state(of, span.index, failed, newest)
    live = newest if state in ("running", "starting", "queued") else None
    used = next((one for one in reversed(noted) if one.attempt == winner), None) if winner is not None else newest
    numbers = [report.attempts if report else 0, winner or 0, newest.attempt if newest else 0]
    offset_ms = of.plan.offset_ms if of.plan else 0
    job_ms = round(1000 * (report.total_s or report.fetch_s + report.load_s + report.transcribe_s)) if report else 0
    if not job_ms and winner is not None and used and used.running_ms and used.ended_ms:
        job_ms = max(0, used.ended_ms - used.running_ms)
    return ChunkView(
        index=span.index,
        start_ms=span.start_ms + offset_ms,
        end_ms=span.end_ms + offset_ms,
        cut=span.cut,
        state=state,
        quality=_quality(of, span.index),
        # The attempt after a lost one has its number.
        attempts=max(*numbers, *(item.attempt for item in failed)) + sum(one.lost for one in noted[:-1]),
        node=used.node if used else "",
        waits_for=_line(of, live.waits_for) if live and state != "running" else "",
        progress=min(1.0, live.progress_ms / span.audio_ms) if live and live.progress_ms and span.audio_ms else None,
        job_ms=job_ms or None,
        speech_ms=round(1000 * report.speech_s) if report and winner is not None else None,
        doubtful=report.windows.doubtful if report else 0,
        words=_of(of.words.words if of.words else (), span.index),
        unsure_words=_of(of.words.unsure if of.words else (), span.index),
        failures=_failures(of, failed),
        lost_attempts=sum(one.lost for one in noted),
    )


def _of(counts: Sequence[int], span: int) -> int | None:
    return counts[span] if span < len(counts) else None


def _state(of: RunDocuments, span: int, failed: Sequence[Evidence], newest: AttemptTimes | None) -> ChunkState:
    if span in of.winners:
        return "done"
    if of.working and newest and newest.phase in _LIVE:
        return _LIVE[newest.phase]
    if of.state in ENDED:
        return "lost" if failed or of.state == "partial" else "waiting"
    return "retry" if failed else "waiting"


def _quality(of: RunDocuments, span: int) -> Quality | None:
    if of.summary is None or span >= len(of.summary.chunks):
        return None
    quality = of.summary.chunks[span].quality
    return None if quality == "lost" else quality


def _failures(of: RunDocuments, failed: Iterable[Evidence]) -> tuple[Failure, ...]:
    """The failures of one chunk; what failed several times in succession for the same reason is one."""
    ordered = sorted(failed, key=lambda item: item.attempt)
    alike = [list(some) for _, some in groupby(ordered, key=lambda item: (item.failure, item.summary, item.advice))]
    return tuple(
        Failure(
            attempts=tuple(item.attempt for item in some),
            failure=some[-1].failure,
            summary=_lines(of, some[-1].summary),
            advice=_lines(of, some[-1].advice),
            lines=tuple(_line(of, line)[:_LONGEST_LINE] for line in some[-1].details[-MOST_LINES:]),
            nodes=tuple(dict.fromkeys(item.node for item in some if item.node)),
        )
        for some in alike[-MOST_FAILURES:]
    )
