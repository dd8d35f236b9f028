"""Runs to look at: their documents in a store, as if they had been transcribed on a cluster. Nothing is decoded."""

import random
from collections.abc import Iterator, Sequence
from typing import Any, Literal

from chunk_job.contract import TranscribeOptions
from chunk_job.segment import Segment, Word
from chunk_job.store.base import Store
from controller.domain.attempt_documents import Attempts, AttemptTimes
from controller.domain.documents import (
    Evidence,
    Final,
    JobTime,
    Outcome,
    Report,
    RunRecord,
    SpanReport,
    Status,
    StoredState,
    Verdict,
    WindowCounts,
    Winner,
)
from controller.domain.keys import RunKeys
from controller.domain.plan import Cut, Plan, Stretch
from controller.domain.waveform import BYTES_OF_STEP, STEP_MS, STEPS_IN_OVERVIEW, WaveformHeader, dat_header
from controller.runs.transcript_files import TranscriptFiles, written
from controller.transcript.formats import FORMATS
from controller.transcript.model import Chunk, Gap, ModelInfo, SourceInfo, TranscriptSummary
from tests import fakes
from tests.readings import sentences

KEYS = RunKeys(fakes.RUN)
CHUNK_MS = 720_000
_PARALLEL = 4
_LOG = (
    "2026-11-27T10:12:01Z fetch 1.2 s",
    "2026-11-27T10:12:09Z model large-v3 loaded on cuda in 7.9 s",
    "2026-11-27T10:12:31Z progress 201000 of 720000 ms",
    "Fatal Python error: Segmentation fault",
    '  File "chunk_job/engine/decode.py", line 121 in decode',
)


class ShownRun:
    """A run of *chunks* chunks, in which some attempts failed and the chunks *lost* have no result.

    *chunk_ms* is the length of each, *words* is about how many words it has in all. *done*: chunks with a result, for a
    run that has not ended.
    """

    def __init__(
        self,
        *,
        chunks: int = 5,
        words: int = 1_000,
        chunk_ms: int = CHUNK_MS,
        lost: Sequence[int] = (),
        failed: Sequence[int] = (),
        done: int | None = None,
        name: str = "Board meeting 2026-11-20.mp4",
        warnings: Sequence[str] = (),
        seed: int = 0,
        run: str = fakes.RUN,
    ) -> None:
        self.run, self.keys = run, RunKeys(run)
        self._random = random.Random(seed)
        self._seed = seed
        self.lost, self._failed, self._warnings = frozenset(lost), frozenset(failed) | frozenset(lost), tuple(warnings)
        self.done = frozenset(range(chunks if done is None else done)) - self.lost
        self.chunks, self._words, self._chunk_ms = chunks, words, chunk_ms
        options = TranscribeOptions(model="large-v3", device="cuda")
        of = fakes.record(run, name=name)
        self.record: RunRecord = of.model_copy(
            update={"options": options, "versions": {"stenofleet": "0.4.0", "ctranslate2": "4.8.1"}}
        )
        cuts: dict[int, Cut] = dict.fromkeys(range(2, chunks - 1, 9), "forced")
        plan = fakes.plan(*(self._chunk_ms * (span + 1) for span in range(chunks)), cuts=cuts, run=run)
        sound = [
            Stretch(start_ms=at, end_ms=min(plan.duration_ms, at + self._random.randrange(10, 60) * 10_000))
            for at in range(0, plan.duration_ms, 600_000)
        ]
        self.plan: Plan = plan.model_copy(update={"sound": tuple(sound), "warnings": self._warnings})

    # ------------------------------------------------------------ the words

    def segments(self) -> Iterator[tuple[Segment, ...]]:
        """The segments of the chunks with a result."""
        story = sentences("en")
        number, each = 0, -(-self._words // max(1, self.chunks))
        for span in sorted(self.done) if self._words else ():
            at_ms, end_ms, spoken = span * self._chunk_ms, (span + 1) * self._chunk_ms, 0
            a_word_ms = self._chunk_ms * 8 // 10 // each
            while spoken < each:
                text = story[number % len(story)].split()
                whole = self._segment(number, text, at_ms, min(400, a_word_ms), end_ms)
                yield (whole,)
                spoken, number = spoken + len(text), number + 1
                at_ms = min(end_ms, at_ms + len(text) * a_word_ms + 200)

    def _segment(self, number: int, text: Sequence[str], at_ms: int, a_word_ms: int, end_ms: int) -> Segment:
        chosen = self._random.choices((0.97, 0.4, 0.15), (90, 8, 2), k=len(text))
        words: list[Word] = [
            {
                "word": f" {word}",
                "start_ms": min(end_ms, at_ms + place * a_word_ms),
                "end_ms": min(end_ms, at_ms + (place + 1) * a_word_ms),
                "probability": chosen[place],
            }
            for place, word in enumerate(text)
        ]
        return fakes.segment(number=number).model_copy(
            update={
                "start_ms": words[0]["start_ms"],
                "end_ms": words[-1]["end_ms"],
                "text": "".join(word["word"] for word in words),
                "words": tuple(words),
            }
        )

    def summary(self) -> TranscriptSummary:
        """The transcript without its words."""

        def quality(span: int) -> Literal["ok", "silent", "lost"]:
            return "lost" if span in self.lost else "ok" if self._words else "silent"

        spans = self.plan.spans
        return TranscriptSummary(
            language="en",
            language_probability=0.98,
            duration_ms=self.plan.duration_ms,
            success=not self.lost,
            status="partial" if self.lost else "complete",
            source=SourceInfo(name=self.record.name, identity=self.record.identity),
            model=ModelInfo(name="large-v3", digest="d" * 64),
            options=self.record.options,
            chunks=tuple(
                Chunk(start_ms=one.start_ms, end_ms=one.end_ms, cut=one.cut, quality=quality(one.index))
                for one in spans
            ),
            gaps=tuple(Gap(start_ms=one.start_ms, end_ms=one.end_ms) for one in spans if one.index in self.lost),
            warnings=self._warnings,
        )

    def transcript(self) -> TranscriptFiles:
        """The transcript in every format."""
        return written(self.summary(), self.segments())

    # ------------------------------------------------------------ how it was made

    def attempts(self) -> Attempts:
        """The intake, then the chunks in four slots; a failed attempt is followed by another one."""
        begin, chance = fakes.START_MS, random.Random(self._seed)
        found = [
            AttemptTimes(
                span=None, attempt=1, phase="ended", submitted_ms=begin, starting_ms=begin + 2_000,
                running_ms=begin + 9_000, ended_ms=begin + 90_000, node="cpu-1",
            )
        ]  # fmt: skip
        free = [begin + 20_000 + 5_000 * slot for slot in range(_PARALLEL)]
        for span in range(self.chunks):
            slot = free.index(min(free))
            last = 3 if span in self.lost else 2 if span in self._failed else 1
            if span not in self.done and span not in self.lost:
                last = 1 if free[slot] else 0
            for attempt in range(1, last + 1):
                at = free[slot]
                works = span in self.done and attempt == last
                takes = chance.randrange(50_000, 80_000) if works else 25_000
                alive = span not in self.done and span not in self.lost
                found.append(
                    AttemptTimes(
                        span=span, attempt=attempt, phase="running" if alive else "ended", submitted_ms=at,
                        starting_ms=at + 1_500, running_ms=at + 6_000, ended_ms=None if alive else at + 6_000 + takes,
                        node=f"gpu-{slot + 1}", progress_ms=300_000 if alive else 0,
                        failure="" if alive or works else "NATIVE_CRASH",
                    )
                )  # fmt: skip
                free[slot] = at + 7_000 + takes
            if span not in self.done and span not in self.lost and len(found) > len(self.done) + _PARALLEL:
                break
        return Attempts(run=self.run, began_ms=begin, done_before_ms=0, attempts=tuple(found))

    def evidence(self) -> list[Evidence]:
        """Why attempts failed."""
        return [
            Evidence(
                run=self.run, round="0000cafe", span=span, attempt=attempt, failure="NATIVE_CRASH",
                summary="native code crashed (SIGSEGV)", advice="the log has the Python stack; it is tried again",
                details=_LOG, ended_ms=fakes.START_MS + 60_000, node="gpu-2",
            )
            for span in sorted(self._failed)
            for attempt in range(1, 4 if span in self.lost else 2)
        ]  # fmt: skip

    def report(self, verdict: Verdict) -> Report:
        """Its measurements."""
        times: dict[str, Any] = {
            "startup_s": 1.0, "fetch_s": 1.1, "load_s": 8.2, "kernels_s": 0.4, "transcribe_s": 38.5, "detection_s": 3.0,
            "decode_s": 30.2, "align_s": 5.1, "commit_s": 0.6, "total_s": 48.0,
        }  # fmt: skip
        spans = tuple(
            SpanReport(
                span=span,
                attempts=3 if span in self.lost else 2 if span in self._failed else 1,
                failures=("NATIVE_CRASH",) if span in self._failed else (),
                audio_s=self._chunk_ms / 1000,
                speech_s=500.0 if span in self.done and self._words else 0.0,
                windows=WindowCounts(decoded=30, doubtful=span % 3),
                **(times if span in self.done else {}),
            )
            for span in range(self.chunks)
        )
        compute_s = 48.0 * len(self.done)
        return Report(
            run=self.run,
            verdict=verdict,
            elapsed_s=90.0 + compute_s / _PARALLEL,
            audio_s=self.plan.duration_ms / 1000,
            speech_s=sum(span.speech_s for span in spans),
            compute_s=compute_s,
            realtime_factor=15.0,
            time=JobTime(total_s=compute_s),
            useful_share=0.735,
            devices=("cuda",),
            compute_types=("float16",),
            advice=("the model is stored as float32 and used as float16: each load converts it (8.2 s of loading)",),
            warnings=self._warnings,
            spans=spans,
        )

    # ------------------------------------------------------------ in a store

    def put(self, store: Store, state: StoredState, **outcome: Any) -> TranscriptFiles | None:
        """Write the run as it is in this *state*; returns its transcript. *outcome*: other values of its end."""
        store.put(self.keys.record, self.record.encode())
        store.put(self.keys.request, fakes.request(self.record).encode())
        store.put(self.keys.attempts, self.attempts().encode())
        for item in self.evidence():
            store.put(self.keys.failure(item.span, item.attempt, item.round), item.encode())
        if state != "failed" or self.done:
            store.put(self.keys.plan, self.plan.encode())
        results = {
            span: f"{self.keys.results_of(span)}a{2 if span in self._failed else 1}-u.json" for span in self.done
        }
        for key in results.values():
            store.put(key, b"{}")
        store.put(self.keys.status, self.status(state).encode())
        if state not in ("complete", "partial", "failed"):
            return None
        store.put(self.keys.report, self.report(state).encode())
        transcript = None
        if state != "failed":
            transcript = self.transcript()
            for extension in FORMATS:
                store.put_file(self.keys.transcript(extension), transcript.path(extension))
            winners = tuple(Winner(span=span, key=key, sha256="0" * 64) for span, key in sorted(results.items()))
            final = Final(
                run=self.run,
                verdict=state,
                winners=winners,
                lost=tuple(sorted(self.lost)),
                outputs=dict(transcript.sha256),
            )
            store.put(self.keys.final, final.encode())
        store.put(self.keys.marker(state), self.outcome(state, **outcome).encode())
        return transcript

    def put_waveform(self, store: Store) -> None:
        """Write a waveform: speech in sentences, between pauses."""
        chance, steps, length = random.Random(self._seed), bytearray(), self.plan.duration_ms // 1000
        for second in range(length):
            loud = chance.randrange(40, 120) if second % 23 < 18 else 2
            steps += bytes((255 - loud, loud))
        whole = [bytes(steps), b"".join(steps[at : at + 2] * STEPS_IN_OVERVIEW for at in range(0, len(steps), 2))]
        header = WaveformHeader(run=self.run, overview=length, detail=length * STEPS_IN_OVERVIEW)
        levels = [
            dat_header(level, len(data) // BYTES_OF_STEP) + data for level, data in zip(STEP_MS, whole, strict=True)
        ]
        store.put(self.keys.waveform, header.encode() + b"".join(levels))

    def outcome(self, verdict: Verdict, **changes: Any) -> Outcome:
        """How it ended."""
        summary = {"complete": "transcribed", "partial": "1 chunk without a result: marked as gaps", "failed": "failed"}
        end = Outcome(run=self.run, verdict=verdict, round="0000cafe", summary=summary[verdict], advice="", failure="")
        return end.model_copy(update=changes)

    def status(self, state: StoredState) -> Status:
        """Its progress, as reported a minute and a half after it began."""
        done_ms = self._chunk_ms * len(self.done)
        last_ms = max(one.running_ms or 0 for one in self.attempts().attempts)
        return Status(
            run=self.run, name=self.record.name, state=state, updated_ms=last_ms + 20_000,
            percent=10 + 80 * done_ms / self.plan.duration_ms, spans_done=len(self.done), spans_known=self.chunks,
            planned=True, running=2, done_ms=done_ms, total_ms=self.plan.duration_ms, failures=len(self.evidence()),
            useful_share=0.7,
        )  # fmt: skip


MARKUP = "</script></style></title><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;<!--"
INVISIBLE = "\u202e\u2066\x07\x1b[31m"
HOSTILE = MARKUP + INVISIBLE
HOSTILE_NAME = HOSTILE.replace("/", "\u2215") + ".mp4"


class HostileRun(ShownRun):
    """A run in which every text that comes from outside is markup, with characters that change what is around them."""

    def __init__(self, *, run: str = fakes.RUN) -> None:
        super().__init__(chunks=3, words=60, failed=(1,), name=HOSTILE_NAME, warnings=(HOSTILE,), run=run)
        options = self.record.options.model_copy(update={"hotwords": HOSTILE, "initial_prompt": HOSTILE})
        self.record = self.record.model_copy(update={"options": options})

    def segments(self) -> Iterator[tuple[Segment, ...]]:
        for (one,) in super().segments():
            spoken: list[Word] = [{**word, "word": f" {MARKUP}"} for word in one.words[:3]]
            said = one.model_copy(update={"words": tuple(spoken), "text": "".join(word["word"] for word in spoken)})
            yield (said.model_copy(update={"speaker": MARKUP.replace(" ", "-")}),)

    def evidence(self) -> list[Evidence]:
        changed = {"summary": HOSTILE, "advice": HOSTILE, "details": (HOSTILE, HOSTILE)}
        return [one.model_copy(update=changed) for one in super().evidence()]

    def report(self, verdict: Verdict) -> Report:
        return super().report(verdict).model_copy(update={"advice": (HOSTILE,), "devices": (HOSTILE,)})

    def outcome(self, verdict: Verdict, **changes: Any) -> Outcome:
        return super().outcome(verdict, **{"summary": HOSTILE, "advice": HOSTILE, **changes})
