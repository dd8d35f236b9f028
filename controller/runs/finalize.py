"""Ends a run: merges its results, and writes the transcript, ``final.json``, the report and the run's marker.

Touches: the store, temporary files. The output depends on the results alone, so every step can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from chunk_job.contract import ChunkResult
from chunk_job.crashpoint import reach
from chunk_job.glossary import HitCounter
from chunk_job.store.base import Store
from controller.domain.actions import Finish
from controller.domain.documents import Evidence, Final, Outcome, RunRecord, Verdict, Winner
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan
from controller.errors import PlanMismatch
from controller.runs import stored_transcript
from controller.runs.report import report
from controller.runs.report import summary as summary_of
from controller.runs.result_index import ResultIndex
from controller.runs.transcript_files import TranscriptFiles, TranscriptWriter
from controller.transcript.formats import FORMATS
from controller.transcript.merge import Merge
from controller.transcript.model import TranscriptSummary

_LONGEST_LINE = 8_000
_LONG_S = 60.0
"""Time of jobs from which on it is worth a message where it went."""


@dataclass(frozen=True, kw_only=True)
class Finalized:
    """How a run has ended. Its marker is not written yet."""

    outcome: Outcome
    transcript: TranscriptFiles | None
    """None if the run has failed."""
    usage: tuple[str, ...]
    """Where the time of the jobs went, and what would make the next run faster, as lines for people."""


class Finalizer:
    """Ends one run in one round of attempts."""

    def __init__(self, store: Store, record: RunRecord, index: ResultIndex, *, round_id: str) -> None:
        self._store = store
        self._record = record
        self._index = index
        self._keys = RunKeys(record.run)
        self._round = round_id
        self._hits: HitCounter | None = None

    def finalize(
        self, finish: Finish, evidence: Iterable[Evidence], *, elapsed_s: float, check: Callable[[], None]
    ) -> Finalized:
        """Merge the results unless the run has failed, and write everything except the run's marker.

        The verdict is that of the written transcript. Raises :class:`ResultGone` if a result was deleted or changed,
        and :class:`PlanMismatch` if the results do not belong together or are fewer than when the run ended. *check* is
        called after the merge, which may take long, and before anything is written.
        """
        verdict: Verdict = "failed"
        summary, transcript = finish.summary, None
        if finish.verdict in ("complete", "partial"):
            transcript = self._write_transcript(finish.lost, check)
            verdict, summary = transcript.summary.status, _summary(transcript.summary)
        usage = report(
            self._index,
            verdict,
            evidence,
            run=self._record.run,
            elapsed_s=elapsed_s,
            hits=self._hits.counts if self._hits else None,
            warnings=transcript.summary.warnings if transcript else (),
        )
        self._store.put(self._keys.report, usage.encode())
        outcome = Outcome(
            run=self._record.run,
            verdict=verdict,
            round=self._round,
            summary=(summary or "failed")[:_LONGEST_LINE],
            advice=finish.advice[:_LONGEST_LINE],
            failure=finish.failure,
        )
        reach("run.concluded")
        return Finalized(
            outcome=outcome,
            transcript=transcript,
            usage=tuple(summary_of(usage)) if usage.time.total_s >= _LONG_S else (),
        )

    def _write_transcript(self, lost: Sequence[int], check: Callable[[], None]) -> TranscriptFiles:
        """Merge and store the transcript, and return it. If the store holds a better one of this run, return that."""
        # Read again: an attempt that counts as lost may have written its result in the meantime.
        self._index.read_results()
        plan = self._index.plan
        if plan is None:
            raise PlanMismatch(f"run {self._record.run} has no plan to merge by")
        winners: list[Winner] = []
        transcript = self._merge(plan, winners)
        check()
        missing = sorted({span.index for span in plan.spans} - {winner.span for winner in winners})
        if deleted := sorted(set(missing) - set(lost)):
            raise PlanMismatch(
                f"run {self._record.run} no longer has the results of chunks {', '.join(map(str, deleted[:10]))}",
                "find out what else writes to the store; run the same command again to transcribe these chunks again",
            )
        before = stored_transcript.stored(self._store, self._record) if missing else None
        if before and before.summary.gaps_ms < transcript.summary.gaps_ms:
            return before
        for extension in FORMATS:
            self._store.put_file(self._keys.transcript(extension), transcript.path(extension))
            reach(f"run.transcript.{extension}")
        final = Final(
            run=self._record.run,
            verdict=transcript.summary.status,
            winners=tuple(winners),
            lost=tuple(missing),
            outputs=dict(transcript.sha256),
        )
        self._store.put(self._keys.final, final.encode())
        return transcript

    def _merge(self, plan: Plan, winners: list[Winner]) -> TranscriptFiles:
        """Write the transcript of all winning results to temporary files, and add these results to *winners*."""
        merge = Merge(plan, self._record, self._index.answered)
        self._hits = HitCounter(self._record.options.glossary)
        with TranscriptWriter(merge.gaps, merge.duration_ms) as writer:
            for segments in merge.segments(self._winning(winners)):
                writer.add(segments)
                self._hits.add(segments)
            return writer.finish(merge.summary())

    def _winning(self, winners: list[Winner]) -> Iterator[ChunkResult]:
        for winner, result in self._index.winning():
            winners.append(winner)
            yield result


def put_marker(store: Store, outcome: Outcome) -> None:
    """Write the run's marker, after removing temporary objects of writers that were killed."""
    keys = RunKeys(outcome.run)
    for prefix in (keys.work, keys.home):
        store.sweep(prefix)
    store.put(keys.marker(outcome.verdict), outcome.encode())


def _summary(written: TranscriptSummary) -> str:
    if written.status == "complete":
        silent = all(chunk.quality == "silent" for chunk in written.chunks)
        return "transcribed: no speech was found" if silent else "transcribed"
    count = sum(1 for chunk in written.chunks if chunk.quality == "lost")
    return f"{count} chunk{'s' if count > 1 else ''} without a result: marked as gaps"
