"""Merges results with chunk-local times to a transcript with media times.

Touches: nothing. Only this module and ``seams`` convert times. A pure function of plan and winning results: the same
winners give the same bytes. Results come one at a time, and at most two neighbours are in memory. Each channel is
merged by itself; all segments are then ordered by their start, and those of different channels may overlap.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

from chunk_job.contract import ChunkResult
from chunk_job.names import LANGUAGES, model_name
from chunk_job.segment import Segment, Word
from controller.domain.documents import RunRecord
from controller.domain.plan import Plan, Span
from controller.errors import PlanMismatch
from controller.transcript.clean_text import cleaned
from controller.transcript.model import (
    MOST_WARNINGS,
    Chunk,
    Gap,
    ModelInfo,
    SourceInfo,
    Transcript,
    TranscriptSummary,
    cleaned_segments,
    control_characters_removed,
    parts_of,
)
from controller.transcript.seams import Part, join
from controller.transcript.speakers import speaker_of, spoken_by
from controller.transcript.wordless import Wordless

_LAST_SEEK = 1 << 53
_SURE = 0.5
"""Probability of a detected language, below which a warning says which one it is."""
_MOST_PLACES = 10
"""Most times that one warning lists."""


class Merge:
    """Creates one transcript: first its segments, then its summary."""

    def __init__(self, plan: Plan, record: RunRecord, spans: Collection[int]) -> None:
        """*spans*: the spans with a result. All other spans of the plan become gaps.

        Raises :class:`PlanMismatch` for spans that are not in the plan.
        """
        answered = frozenset(spans)
        if extra := answered - {span.index for span in plan.spans}:
            raise PlanMismatch(f"run {plan.run} has results for spans {sorted(extra)} that its plan does not have")
        self._plan = plan
        self._record = record
        self._lost = [span for span in plan.spans if span.index not in answered]
        self.duration_ms = plan.duration_ms + plan.offset_ms
        self.gaps = tuple(
            Gap(start_ms=span.start_ms + plan.offset_ms, end_ms=span.end_ms + plan.offset_ms) for span in self._lost
        )
        self._qualities: dict[int, Literal["ok", "empty", "silent"]] = {}
        self._digests: set[str] = set()
        self._languages: set[str] = set()
        self._most_speech_ms = -1
        self._language: str | None = None
        self._language_probability = 0.0
        self._at_ms = [0] * plan.channels
        """For each channel: the end of its last segment."""
        self._waiting: list[_Placed] = []
        """Segments before which one of the next span may start."""
        self._count = 0
        self._speaking: set[int] = set()
        """Channels with words."""
        self._removed = self._terms = 0
        self._doubtful, self._loops = _Places(), _Places()
        self._wordless = Wordless()

    def segments(self, results: Iterable[ChunkResult]) -> Iterator[tuple[Segment, ...]]:
        """The segments in media time, span by span. *results*: the results of all spans, in order."""
        left: list[Part] = []
        for result in results:
            right = self._take(result)
            # Else this generator would keep the result in memory while the next one is read.
            del result
            if left:
                self._join(left, right)
                yield self._placed(left, right[0].span.audio_start_ms + self._plan.offset_ms)
            left = right
        if left:
            yield self._placed(left, None)

    def _join(self, left: Sequence[Part], right: Sequence[Part]) -> None:
        """Join two neighbours, channel by channel, if there is a forced cut between them."""
        span = left[0].span
        if span.cut == "forced" and right[0].span.index == span.index + 1:
            for ours, theirs in zip(left, right, strict=True):
                join(ours, theirs, span.end_ms + self._plan.offset_ms)

    def summary(self) -> TranscriptSummary:
        """The summary, after all segments were read.

        Raises :class:`PlanMismatch` for results of different models.
        """
        if len(self._digests) > 1:
            raise PlanMismatch(
                f"run {self._plan.run} has results of {len(self._digests)} different models",
                "the model changed during the run: start a new run with --force",
            )
        record = self._record
        # A transcript is given away: it must not show the folders of this machine.
        model = model_name(record.options.model)
        return TranscriptSummary(
            language=self._language or record.options.language,
            language_probability=self._language_probability,
            duration_ms=self.duration_ms,
            success=not self._lost,
            status="partial" if self._lost else "complete",
            source=SourceInfo(
                name=cleaned(record.name)[0] or "recording",
                identity=record.identity,
                audio_track=record.audio_track,
                channels=record.plan.channels,
            ),
            model=ModelInfo(name=model, digest=next(iter(self._digests), None)),
            options=record.options.model_copy(update={"model": model}),
            chunks=tuple(map(self._chunk, self._plan.spans)),
            gaps=self.gaps,
            warnings=tuple(self._warnings()),
            clips=parts_of(self._plan.clips),
        )

    def _take(self, result: ChunkResult) -> list[Part]:
        """Store the data of a result that the summary needs, and return the segments of each channel."""
        if result.channels != self._plan.channels:
            raise PlanMismatch(
                f"run {self._plan.run} has a result of {result.channels} channels, and its plan {self._plan.channels}"
            )
        span = self._plan.spans[result.span]
        self._qualities[result.span] = result.quality
        self._digests.add(result.engine.model_digest)
        self._terms = max(self._terms, result.glossary_terms)
        if result.language:
            self._languages.add(result.language)
        for window in result.windows:
            at_ms = max(window.start_ms + span.audio_start_ms, span.start_ms)
            # Windows beyond a forced cut count for the neighbour.
            if at_ms < min(window.end_ms + span.audio_start_ms, span.end_ms):
                self._doubtful.add(at_ms + self._plan.offset_ms, wanted=window.outcome == "doubtful")
                self._loops.add(at_ms + self._plan.offset_ms, wanted=window.loop_removed)
        # Of equal ones, the first is used.
        if result.speech_ms > self._most_speech_ms:
            self._most_speech_ms = result.speech_ms
            self._language, self._language_probability = result.language, result.language_probability
        shift_ms = span.audio_start_ms + self._plan.offset_ms
        if result.channels == 1:
            return [Part(span, result.segments, shift_ms)]
        return [
            Part(span, tuple(segment for segment in result.segments if segment.channel == channel), shift_ms)
            for channel in range(1, result.channels + 1)
        ]

    def _warnings(self) -> Iterator[str]:
        """Possible problems of the transcript: the intake's warnings first, as many as the document can have."""
        for warning in self._plan.warnings[:MOST_WARNINGS]:
            yield cleaned(warning)[0]
        if len(self._languages) > 1:
            yield f"chunks were transcribed in different languages: {', '.join(sorted(self._languages))}"
        if self._record.options.language is None and self._language and self._language_probability < _SURE:
            name, percent = LANGUAGES[self._language].title(), 100 * self._language_probability
            yield (
                f"its language was detected as {name}, with a probability of only {percent:.0f} %:"
                " if it is another one, name it with --language"
            )
        if (count := self._doubtful.count) > 0:
            yield f"{_parts(count)} of up to 30 s may be wrong (the decoder was unsure): {self._doubtful}"
        if (count := self._loops.count) > 0:
            yield f"a phrase that the decoder repeated was removed from {_parts(count)}: {self._loops}"
        yield from self._without_words()
        silent = [channel for channel in range(1, self._plan.channels + 1) if channel not in self._speaking]
        if self._plan.channels > 1 and self._speaking and silent:
            yield f"no words were found in channel {', '.join(map(str, silent))} of {self._plan.channels}"
        if 0 < self._terms < (count := len(self._record.options.glossary)):
            yield f"only the first {self._terms} of {count} terms of the glossary fit in the model's prompt"
        if self._removed:
            yield control_characters_removed(self._removed)

    def _without_words(self) -> Iterator[str]:
        """A warning for long parts with sound and without words."""
        parts = [
            f"{_clock(start_ms + self._plan.offset_ms)}-{_clock(end_ms + self._plan.offset_ms)}"
            for start_ms, end_ms in self._wordless.with_sound(
                self._plan.sound or (), self._lost, self._plan.duration_ms
            )
        ]
        if not parts:
            return
        listen = "listen to it" if not self._wordless.has_words else "listen to it there"
        if self._record.options.vad_filter:
            listen += "; with --vad-filter False, all sound is transcribed, also what speech detection leaves out"
        if not self._wordless.has_words:
            yield f"no words were found, though the recording has sound: {listen}"
        else:
            more = ", …" if len(parts) > _MOST_PLACES else ""
            yield f"no words were found in {', '.join(parts[:_MOST_PLACES])}{more}, though there is sound: {listen}"

    def _chunk(self, span: Span) -> Chunk:
        return Chunk(
            start_ms=span.start_ms + self._plan.offset_ms,
            end_ms=span.end_ms + self._plan.offset_ms,
            cut=span.cut,
            quality=self._qualities.get(span.index, "lost"),
        )

    def _placed(self, parts: Sequence[Part], until_ms: int | None) -> tuple[Segment, ...]:
        """The next segments in media time: numbered continuously, inside the media, those of a channel not overlapping.

        *until_ms*: no segment of the next span starts before this time; None: there is no next one.
        """
        for channel, part in enumerate(parts):
            self._waiting += self._in_media(part, channel)
        ready = self._waiting
        if len(parts) > 1:
            ready.sort(key=lambda one: one.start_ms)
            if until_ms is not None:
                ready = [one for one in ready if one.start_ms <= until_ms]
        self._waiting = self._waiting[len(ready) :]
        segments, removed = cleaned_segments([one.segment(self._count + place) for place, one in enumerate(ready)])
        self._count += len(segments)
        self._speaking.update(segment.channel for segment in segments if segment.channel and segment.text.strip())
        self._wordless.add(segments, self._plan.offset_ms)
        self._removed += removed
        return segments

    def _in_media(self, part: Part, channel: int) -> Iterator[_Placed]:
        """The segments of one channel in media time."""
        shift, end_ms = part.shift_ms, self.duration_ms
        for segment in part.segments:
            start = min(max(segment.start_ms + shift, self._at_ms[channel]), end_ms)
            words, word_at = _placed_words(segment.words, shift, start, end_ms)
            self._at_ms[channel] = max(min(max(segment.end_ms + shift, start), end_ms), word_at)
            seek = min(segment.seek + shift // 10, _LAST_SEEK)
            yield _Placed(segment, seek, start, self._at_ms[channel], words)


class _Placed(NamedTuple):
    """A segment of a result, and its times in the media."""

    original: Segment
    seek: int
    start_ms: int
    end_ms: int
    words: tuple[Word, ...]

    def segment(self, number: int) -> Segment:
        """The segment of the transcript."""
        channel, words = self.original.channel, self.words
        speaker = {}
        if channel is not None:
            speaker, words = {"speaker": speaker_of(channel)}, spoken_by(words, speaker_of(channel))
        times = {"seek": self.seek, "start_ms": self.start_ms, "end_ms": self.end_ms}
        return self.original.model_copy(update={"id": number, "words": words, **times, **speaker})


def merge(plan: Plan, record: RunRecord, results: Iterable[ChunkResult]) -> Transcript:
    """The complete transcript, from results in any order.

    Raises :class:`PlanMismatch` for results of different models or of spans that are not in the plan.
    """
    by_span = {result.span: result for result in results}
    made = Merge(plan, record, by_span.keys())
    segments = tuple(itertools.chain.from_iterable(made.segments(by_span[span] for span in sorted(by_span))))
    return Transcript(
        text="".join(segment.text for segment in segments).strip(), segments=segments, **dict(made.summary())
    )


class _Places:
    """A number of places in the recording, of which the first are listed."""

    def __init__(self) -> None:
        self.count = 0
        self._listed: list[int] = []

    def add(self, at_ms: int, *, wanted: bool) -> None:
        self.count += wanted
        if wanted and len(self._listed) < _MOST_PLACES:
            self._listed.append(at_ms)

    def __str__(self) -> str:
        return ", ".join([*map(_clock, self._listed), *(["…"] if self.count > len(self._listed) else [])])


def _parts(count: int) -> str:
    return f"{count} part{'s' if count > 1 else ''}"


def _clock(at_ms: int) -> str:
    """Format a time as a player shows it: 12:30, or 1:02:03."""
    minutes, seconds = divmod(at_ms // 1000, 60)
    return f"{minutes}:{seconds:02d}" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"


def _placed_words(words: Sequence[Word], shift_ms: int, start_ms: int, end_ms: int) -> tuple[tuple[Word, ...], int]:
    """The words in media time, in order within [start_ms, end_ms], and the end of the last word."""
    at = start_ms
    placed: list[Word] = []
    for word in words:
        begin, end = word["start_ms"] + shift_ms, word["end_ms"] + shift_ms
        # Comparisons are faster than min and max: ten hours of speech have a hundred thousand words.
        if not at <= begin <= end <= end_ms:
            begin = min(max(begin, at), end_ms)
            end = min(max(end, begin), end_ms)
        placed.append({"word": word["word"], "start_ms": begin, "end_ms": end, "probability": word["probability"]})
        at = end
    return tuple(placed), at
