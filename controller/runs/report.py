"""The resource usage of a run, by span: everything that can differ between two runs of the same recording.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from controller.domain.documents import Evidence, Report, SpanReport, Verdict
from controller.runs.result_index import ResultIndex


def report(index: ResultIndex, verdict: Verdict, evidence: Iterable[Evidence], *, run: str, elapsed_s: float) -> Report:
    """The report of a run that has ended.

    *evidence*: all its failures. *elapsed_s*: duration of the command that ended it, in seconds.
    """
    failed: dict[int | None, list[Evidence]] = {}
    for item in evidence:
        failed.setdefault(item.span, []).append(item)
    spans = tuple(_span_report(index, span, failed.get(span, ())) for span in sorted(index.tasks))
    compute_s = sum(span.fetch_s + span.load_s + span.transcribe_s for span in spans)
    audio_s = sum(span.audio_s for span in spans)
    return Report(
        run=run,
        verdict=verdict,
        elapsed_s=round(elapsed_s, 3),
        audio_s=round(audio_s, 3),
        speech_s=round(sum(span.speech_s for span in spans), 3),
        compute_s=round(compute_s, 3),
        realtime_factor=round(audio_s / compute_s, 2) if compute_s else 0.0,
        spans=spans,
    )


def _span_report(index: ResultIndex, span: int, failures: Sequence[Evidence]) -> SpanReport:
    key, figures = index.winner(span) or (None, None)
    return SpanReport(
        span=span,
        attempts=max([key.attempt if key else 0, *(item.attempt for item in failures)]),
        failures=tuple(item.failure for item in failures),
        audio_s=index.audio_ms(span) / 1000,
        speech_s=figures.speech_ms / 1000 if figures else 0.0,
        fetch_s=figures.usage.fetch_ms / 1000 if figures else 0.0,
        load_s=figures.usage.load_ms / 1000 if figures else 0.0,
        transcribe_s=figures.usage.transcribe_ms / 1000 if figures else 0.0,
    )
