"""The resource usage of a run, by span: everything that can differ between two runs of the same recording.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from controller.domain.documents import Evidence, JobTime, Report, SpanReport, Verdict, WindowCounts
from controller.domain.term_hits import TermHits
from controller.runs.figures import ResultFigures, conversion, counted_ms, useful_share
from controller.runs.result_index import ResultIndex

_PARTS = {
    "startup_s": "startup_ms",
    "fetch_s": "fetch_ms",
    "load_s": "load_ms",
    "kernels_s": "kernels_ms",
    "transcribe_s": "transcribe_ms",
    "detection_s": "speech_ms",
    "features_s": "features_ms",
    "decode_s": "decode_ms",
    "align_s": "align_ms",
    "commit_s": "commit_ms",
    "total_s": "total_ms",
}
"""Field of the report → field of a result's usage."""


def report(
    index: ResultIndex,
    verdict: Verdict,
    evidence: Iterable[Evidence],
    *,
    run: str,
    elapsed_s: float,
    hits: Mapping[str, int] | None = None,
    warnings: tuple[str, ...] = (),
) -> Report:
    """The report of a run that has ended.

    *evidence*: all its failures. *elapsed_s*: duration of the command that ended it, in seconds. *hits*: by term of the
    glossary. *warnings*: those of its transcript.
    """
    failed: dict[int | None, list[Evidence]] = {}
    for item in evidence:
        failed.setdefault(item.span, []).append(item)
    spans = tuple(_span_report(index, span, failed.get(span, ())) for span in sorted(index.tasks))
    found = [winner[1] for span in sorted(index.tasks) if (winner := index.winner(span))]
    compute_s = sum(counted_ms(figures.usage) for figures in found) / 1000
    audio_s = sum(span.audio_s for span in spans)
    time = _time(found)
    return Report(
        run=run,
        verdict=verdict,
        elapsed_s=round(elapsed_s, 3),
        audio_s=round(audio_s, 3),
        speech_s=round(sum(span.speech_s for span in spans), 3),
        compute_s=round(compute_s, 3),
        realtime_factor=round(audio_s / compute_s, 2) if compute_s else 0.0,
        time=time,
        useful_share=useful_share(figures.usage for figures in found),
        windows=_windows(found),
        batch_sizes=tuple(sorted({figures.batch_size for figures in found if figures.speech_ms}))[:1_000],
        stored_types=_names(figures.stored_type for figures in found),
        devices=_names(figures.device for figures in found),
        compute_types=_names(figures.compute_type for figures in found),
        chunk_length=index.plan.chosen.reason if index.plan and index.plan.chosen else "",
        glossary=tuple(TermHits(term=term, hits=count) for term, count in (hits or {}).items()),
        advice=tuple(_advice(found)),
        warnings=warnings,
        spans=spans,
    )


def summary(of: Report) -> Iterator[str]:
    """Yield where the time of the jobs went, and what would make the next run faster, as lines for people."""
    if of.useful_share is not None and of.time.total_s:
        rest = {
            "starting": of.time.startup_s,
            "loading the model": of.time.load_s,
            "compiling kernels": of.time.kernels_s,
            "detecting speech": of.time.detection_s,
        }
        longest = sorted(((took, what) for what, took in rest.items() if took >= 0.05), reverse=True)[:2]
        others = "".join(f", {what} {took:.1f} s" for took, what in longest)
        yield (
            f"time of its jobs: {of.time.total_s:.1f} s, of which {of.useful_share:.0%} useful"
            f" (decoding {of.time.decode_s:.1f} s, word times {of.time.align_s:.1f} s){others}"
        )
    yield from of.advice


def _span_report(index: ResultIndex, span: int, failures: Sequence[Evidence]) -> SpanReport:
    key, figures = index.winner(span) or (None, None)
    return SpanReport(
        span=span,
        attempts=max([key.attempt if key else 0, *(item.attempt for item in failures)]),
        failures=tuple(item.failure for item in failures),
        audio_s=index.audio_ms(span) / 1000,
        speech_s=figures.speech_ms / 1000 if figures else 0.0,
        windows=figures.windows if figures else WindowCounts(),
        batch_size=figures.batch_size if figures else 0,
        **dict(_time([figures] if figures else [])),
    )


def _time(found: Sequence[ResultFigures]) -> JobTime:
    """The sum of each part over these results."""
    return JobTime(
        **{
            field: round(sum(getattr(figures.usage, name) for figures in found) / 1000, 3)
            for field, name in _PARTS.items()
        }
    )


def _windows(found: Sequence[ResultFigures]) -> WindowCounts:
    return WindowCounts(
        **{name: sum(getattr(figures.windows, name) for figures in found) for name in WindowCounts.model_fields}
    )


def _names(types: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({name for name in types if name}))[:100]


def _advice(found: Sequence[ResultFigures]) -> Iterator[str]:
    pairs = {pair for figures in found if (pair := conversion(figures))}
    for stored, used in sorted(pairs)[:10]:
        loads_s = sum(figures.usage.load_ms for figures in found if conversion(figures) == (stored, used)) / 1000
        yield (
            f"the model is stored as {stored} and used as {used}: each load converts it ({loads_s:.1f} s of loading in"
            " all); convert it once:"
            f" ct2-transformers-converter --model MODEL --output_dir FOLDER --quantization {used}"
        )
