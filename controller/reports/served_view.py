"""The view of a run of the transcription service, of what its API says: for quality gates and reports for CI.

Touches: temporary files of the transcript.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from chunk_job.segment import Segment
from controller.domain.documents import Report, StoredState
from controller.reports.cost import Prices, cost
from controller.reports.run_view import ChunkGrid, ChunkView, Findings, Header, RunView, SoundView
from controller.reports.words import WordFigures
from controller.runs.fetched_transcripts import WordCounts
from controller.runs.stored_transcript import read_with
from controller.runs.transcript_files import TranscriptFiles, disk_errors
from controller.transcript.model import TranscriptSummary


def served_view(
    run: str,
    name: str,
    state: StoredState,
    summary: TranscriptSummary,
    words: WordCounts,
    report: Report | None,
    prices: Prices,
) -> RunView:
    """The view of a run that has a transcript. *report*: None if there is none; then job times are not known."""
    compute_ms = round(1000 * report.compute_s) if report else None
    return RunView(
        header=Header(
            run=run,
            name=name,
            state=state,
            duration_ms=summary.duration_ms,
            compute_ms=compute_ms,
            devices=report.devices if report else (),
            cost=cost(compute_ms, prices.of(report.devices)) if report else None,
            words=sum(words.words),
            unsure_words=sum(words.unsure),
            confidence=words.probability / words.judged if words.judged else None,
        ),
        findings=Findings(),
        grid=ChunkGrid(chunks=_chunks(summary, words, report)),
        timeline=None,
        sound=SoundView(
            duration_ms=summary.duration_ms, gaps=tuple((gap.start_ms, gap.end_ms) for gap in summary.gaps)
        ),
    )


def words_of(transcript: TranscriptFiles) -> WordCounts:
    """Count the words of a transcript. Raises :class:`StoreUnavailable` if its files cannot be read."""
    words = WordFigures(chunks=transcript.summary.chunks)

    def count(_: TranscriptSummary, segments: Iterable[Sequence[Segment]]) -> WordFigures:
        for some in segments:
            words.add(some)
        return words

    with disk_errors(), transcript.path("json").open("rb") as file:
        read_with(file, count, most_whole_bytes=0)
    return WordCounts(
        words=tuple(words.words),
        unsure=tuple(words.unsure),
        judged=words.judged,
        probability=max(0.0, words.probability),
    )


def _chunks(summary: TranscriptSummary, words: WordCounts, report: Report | None) -> tuple[ChunkView, ...]:
    spans = {one.span: one for one in report.spans} if report else {}
    counted = words.words or (0,) * len(summary.chunks)
    return tuple(
        ChunkView(
            index=index,
            start_ms=chunk.start_ms,
            end_ms=chunk.end_ms,
            cut=chunk.cut,
            state="lost" if chunk.quality == "lost" else "done",
            quality=None if chunk.quality == "lost" else chunk.quality,
            attempts=spans[index].attempts if index in spans else 0,
            job_ms=round(1000 * spans[index].total_s) if index in spans else None,
            words=counted[index],
        )
        for index, chunk in enumerate(summary.chunks)
    )
