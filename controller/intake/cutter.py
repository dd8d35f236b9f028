"""One pass over a recording: decoded blocks → chunks, each with its span and its FLAC file.

Touches: the media file, ffmpeg (through ``decoder``), ffprobe (through ``probe``), scratch files. Memory is constant:
the planner gets levels, the open chunk gets samples. Clips are taken from the same pass: what is before, between and
behind them is decoded, if necessary, and dropped. So their samples are exactly those of the whole recording.
"""

from __future__ import annotations

import os

# numpy's BLAS would start one unused thread per core, which costs a tenth of a second in every intake.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from chunk_job.contract import SAMPLE_RATE
from chunk_job.document import MAX_AUDIO_MS
from controller.domain.chunk_length import length_for, with_length
from controller.domain.documents import Source
from controller.domain.dry_run import CutQuality
from controller.domain.plan import Clip, Plan, PlanOptions, Span, is_direct
from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.blocks import Stream, Window
from controller.intake.channels import Channels
from controller.intake.decoder import decode
from controller.intake.file_length import claimed_bytes, is_estimate, is_joined_without_loss
from controller.intake.flac import FlacWriter, Pcm, levels
from controller.intake.planner import Planner
from controller.intake.playable import media_type
from controller.intake.probe import offset_ms
from controller.intake.sound import SoundFinder
from controller.intake.tracks import Media

_Writer = Callable[[int], tuple[Path | None, FlacWriter]]
"""Opens the file of a chunk, by its number."""

_LISTED_RATES = 6
_OF_FILTERS = "filter graph"
"""In messages of ffmpeg."""


@dataclass(frozen=True, kw_only=True)
class CutChunk:
    """A finished span with its audio file (None: not needed) and the digest of its samples."""

    span: Span
    audio: Path | None
    pcm_sha256: str
    quality: CutQuality | None
    """None: it ends at the end of the recording or of a clip."""


class Cutter:
    """One pass over one track of one media file."""

    def __init__(
        self, path: Path, media: Media, options: PlanOptions, *, audio_track: int | None, language: str | None = None
    ) -> None:
        """*audio_track* None: the track of *language*, if that is given and a track has it, else the default one."""
        self._path = str(path)
        self._track = media.track(audio_track, language=language)
        self._choice = options.channels
        self.channels = Channels(self._track, options.channels).count
        """Channels of the chunks."""
        self._about_track = tuple(media.about_choice(audio_track, language=language))
        self.media_type = media_type(path, media, self._track)
        """As which type browsers play the recording; empty if they may not."""
        self._offset_ms = offset_ms(self._path, media, self._track)
        self._header_ms = self._track.duration_ms or media.duration_ms
        # The pictures of a video may continue after its sound.
        own_ms = None if media.container == "asf" and media.has_pictures else self._track.duration_ms
        self._promised_ms = own_ms or (0 if media.has_pictures else media.duration_ms or 0)
        self._clips = options.clips
        if self._offset_ms + (self._header_ms or 0) > MAX_AUDIO_MS:
            # A track that seems to begin weeks late has a wrong header.
            self._offset_ms = 0
        parts = [_Part.of(clip, self._offset_ms, self._header_ms) for clip in options.clips]
        self._parts = parts or [_Part(start_ms=0, end_ms=None, header_ms=self._header_ms)]
        lengths_ms = [part.length_ms for part in self._parts if part.length_ms is not None]
        is_known = len(lengths_ms) == len(self._parts)
        wanted_ms = sum(lengths_ms) if is_known else None
        size_bytes = path.stat().st_size
        if wanted_ms is not None and self._header_ms:
            size_bytes = size_bytes * min(wanted_ms, self._header_ms) // self._header_ms
        self.direct = len(self._parts) == 1 and is_direct(options, duration_ms=wanted_ms, size_bytes=size_bytes)
        self._options, self.chosen = options, None
        if is_known and not self.direct:
            self._options, self.chosen = with_length(options, lengths_ms, channels=self.channels)
        self._sound = SoundFinder()
        self._end_ms = 0
        self._ended = False
        """Whether the recording was decoded to its end."""
        self._errors = ""
        self._channels: Channels | None = None
        """After the decoding: which channels were used."""
        self._rates_hz: list[int] = []
        self._layouts: list[str] = []
        self._container = media.container

    @property
    def offset_ms(self) -> int:
        """How long after the beginning of the recording its audio begins."""
        return self._offset_ms

    def chunks(
        self, scratch: Path, *, skip: frozenset[int], tap: Callable[[Pcm], None] | None = None
    ) -> Iterator[CutChunk]:
        """All chunks in order, with FLAC files in *scratch* except for the spans in *skip*.

        *tap* gets all audio that is decoded, in blocks. Raises :class:`MediaProblem` if
        nothing can be decoded, or if a clip starts behind the end of the recording.
        """

        def writer(index: int) -> tuple[Path | None, FlacWriter]:
            path = scratch / f"{index:05d}.flac" if index not in skip else None
            return path, FlacWriter(path, self.channels)

        count = 0
        with decode(self._path, self._track, self._choice) as decoder:
            stream = Stream(decoder, tap)
            for part in self._parts:
                for chunk in self._cut(part, stream, count, writer):
                    count = chunk.span.index + 1
                    self._end_ms = chunk.span.end_ms
                    yield chunk
            self._ended = stream.at_end
            self._errors = decoder.errors_so_far()
            self._channels, self._rates_hz, self._layouts = decoder.channels, decoder.rates_hz(), decoder.layouts()
            if self._errors and is_joined_without_loss(Path(self._path), self._container, decoder.messages()):
                self._errors = ""

    def _cut(self, part: _Part, stream: Stream, first: int, writer: _Writer) -> Iterator[CutChunk]:
        """The chunks of one part, which are numbered from *first*."""
        options = self._options
        if self.chosen and part.length_ms:
            options = options.model_copy(update={"chunk_ms": length_for(part.length_ms, options.chunk_ms)})
        planner = Planner(options, duration_ms=part.length_ms, direct=self.direct)
        window, written = Window(), 0
        self._sound.begin(part.start_ms)
        path, flac = writer(first)

        def moved(span: Span) -> Span:
            times = ("start_ms", "end_ms", "audio_start_ms", "audio_end_ms")
            return span.model_copy(
                update={"index": first + span.index} | {name: part.start_ms + getattr(span, name) for name in times}
            )

        for block in stream.between(_samples(part.start_ms), None if part.end_ms is None else _samples(part.end_ms)):
            window.append(block)
            loudness = levels(block)
            self._sound.feed(loudness)
            for span in planner.feed(loudness):
                window.copy(flac, written, _samples(span.audio_end_ms))
                quality = planner.quality(span.index)
                yield CutChunk(span=moved(span), audio=path, pcm_sha256=flac.close(), quality=quality)
                path, flac = writer(first + span.index + 1)
                # Both chunks at a cut overlap it by the same time.
                written = _samples(2 * span.end_ms - span.audio_end_ms)
            decided = max(written, _samples(planner.decided_ms))
            decided = min(decided, window.end)
            window.copy(flac, written, decided)
            written = decided
            window.drop(_samples(planner.needed_from_ms))
        if not window.end:
            raise self._nothing(part, stream)
        window.copy(flac, written, window.end)
        span = moved(planner.finish(_ms(window.end)))
        yield CutChunk(span=span, audio=path, pcm_sha256=flac.close(), quality=None)

    def _nothing(self, part: _Part, stream: Stream) -> MediaProblem:
        """The error for a part without any audio."""
        if part.end_ms is not None and part.end_ms <= part.start_ms:
            return MediaProblem(
                f"its sound begins at {self._offset_ms / 1000:.3f} s, after the end of a clip",
                "correct --clip-timestamps",
            )
        if stream.end and self._clips:
            return MediaProblem(
                f"ends at {(_ms(stream.end) + self._offset_ms) / 1000:.3f} s, before the clip that starts at"
                f" {(part.start_ms + self._offset_ms) / 1000:.3f} s",
                "correct --clip-timestamps",
            )
        # What ffmpeg says of its filters is only a consequence of a header without a meaning.
        why = "its audio data is not valid" if _OF_FILTERS in stream.errors else stream.errors
        return MediaProblem(
            f"no audio could be decoded: {why or 'its audio stream is empty'}",
            "check that it is complete and plays in a media player",
        )

    def plan(self, run: str, spans: list[Span]) -> Plan:
        """The plan, after all chunks are cut."""
        return Plan(
            run=run,
            spans=tuple(spans),
            duration_ms=self._end_ms,
            # If a track seems to begin weeks late, its header is wrong.
            offset_ms=self._offset_ms if self._end_ms + self._offset_ms <= MAX_AUDIO_MS else 0,
            direct=self.direct,
            warnings=tuple(self._warnings()),
            clips=self._clips,
            chosen=self.chosen,
            sound=self._sound.finish(),
            channels=self.channels,
        )

    def _about_downmix(self, parts: Sequence[tuple[int, int]], used: set[int]) -> str:
        begin, _ = parts[0]
        _, end = parts[-1]
        seconds = sum(end_ms - start_ms for start_ms, end_ms in parts) / 1000
        names = " or the ".join({1: "left one", 2: "right one"}[side] for side in sorted(used))
        return (
            f"its channels cancel each other as a mix in {seconds:.0f} s between"
            f" {(begin + self._offset_ms) / 1000:.0f} and {(end + self._offset_ms) / 1000:.0f} s:"
            f" there, the {names} alone is transcribed"
        )

    def _short_ms(self) -> int:
        """How much less sound there is than the header of the file claims; 0 if it is less than two seconds or 1 %."""
        path = Path(self._path)
        claimed, size_bytes = claimed_bytes(path) or 0, path.stat().st_size
        by_size_ms = self._end_ms * (claimed - size_bytes) // size_bytes if claimed > size_bytes else 0
        # In Matroska, the length of a late track counts from the beginning of the file.
        by_time_ms = self._promised_ms - self._offset_ms - self._end_ms
        if by_time_ms > max(2_000, self._promised_ms // 100) and not is_estimate(path, self._container):
            return by_time_ms
        return by_size_ms if by_size_ms > max(2_000, self._end_ms // 100) else 0

    def _warnings(self) -> Iterator[str]:
        yield from self._about_track
        if self._channels:
            yield from self._channels.warnings(self._layouts)
            if (downmix := self._channels.downmix) and (parts := list(downmix.parts_ms())):
                yield self._about_downmix(parts, downmix.used)
        if len(self._rates_hz) > 1:
            rates = " → ".join(f"{rate_hz} Hz" for rate_hz in self._rates_hz[:_LISTED_RATES])
            more = " → …" if len(self._rates_hz) > _LISTED_RATES else ""
            yield f"its sample rate changes midway ({rates}{more}): other programs may play it at a wrong speed"
        if self._errors:
            yield f"ffmpeg reported errors while decoding; all audio that it could read is transcribed: {self._errors}"
        if self._ended and (short_ms := self._short_ms()):
            yield f"the file ends {short_ms / 1000:.0f} s before the end in its header: check that it is complete"
        if self._ended and self._clips and (end_ms := self._clips[-1].end_ms):
            decoded_ms = self._end_ms + self._offset_ms
            if decoded_ms < end_ms:
                yield f"the recording ends at {decoded_ms / 1000:.3f} s, before the last clip does"


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A part of the decoded audio; *end_ms* None: to its end. *header_ms*: the length of the audio in the header."""

    start_ms: int
    end_ms: int | None
    header_ms: int | None

    @classmethod
    def of(cls, clip: Clip, offset_ms: int, header_ms: int | None) -> Self:
        """The part for a clip in media time: the decoded audio begins *offset_ms* later."""
        end_ms = None if clip.end_ms is None else max(0, clip.end_ms - offset_ms)
        return cls(start_ms=max(0, clip.start_ms - offset_ms), end_ms=end_ms, header_ms=header_ms)

    @property
    def length_ms(self) -> int | None:
        """Its expected length; None: not known."""
        ends = [end for end in (self.end_ms, self.header_ms) if end is not None]
        return max(0, min(ends) - self.start_ms) if ends else None


@contextlib.contextmanager
def named(src: Source) -> Iterator[None]:
    """A context that adds the recording's name to the message of a :class:`MediaProblem`."""
    try:
        yield
    except MediaProblem as error:
        # The error may come from a file that was changed while it was read: then report the change instead.
        source.check_unchanged(src)
        name = source.shown(src)
        has_name = error.summary.startswith(f"{name}: ")
        raise MediaProblem(error.summary if has_name else f"{name}: {error.summary}", error.advice) from error


def _samples(ms: int) -> int:
    return ms * SAMPLE_RATE // 1000


def _ms(samples: int) -> int:
    return -(-samples * 1000 // SAMPLE_RATE)
