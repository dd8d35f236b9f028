"""One pass over a recording: decoded blocks → chunks, each with its span and its FLAC file.

Touches: the media file, ffmpeg (through ``ffmpeg``), scratch files. Memory is constant: the planner gets levels, the
open chunk gets samples.
"""

from __future__ import annotations

import os

# numpy's BLAS would start one unused thread per core, which costs a tenth of a second in every intake.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import collections
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chunk_job.contract import SAMPLE_RATE
from chunk_job.document import MAX_AUDIO_MS
from controller.domain.documents import Source
from controller.domain.plan import Plan, PlanOptions, Span, is_direct
from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.ffmpeg import Media, decode, offset_ms, probe
from controller.intake.flac import FlacWriter, Pcm, levels
from controller.intake.planner import Planner


@dataclass(frozen=True, kw_only=True)
class CutChunk:
    """A finished span with its audio file (None: not needed) and the digest of its samples."""

    span: Span
    audio: Path | None
    pcm_sha256: str


def plan_only(src: Source, options: PlanOptions, *, audio_track: int | None) -> Plan:
    """The plan of a recording without storing anything (dry run). Raises :class:`MediaProblem`."""
    with source.at_hand(src) as path, named(src):
        cutter = Cutter(path, probe(str(path)), options, audio_track=audio_track)
        spans = [chunk.span for chunk in cutter.chunks(None, skip=frozenset())]
        return cutter.plan("0" * 16, spans)


class Cutter:
    """One pass over one track of one media file."""

    def __init__(self, path: Path, media: Media, options: PlanOptions, *, audio_track: int | None) -> None:
        self._path = str(path)
        self._track = media.track(audio_track)
        self._offset_ms = offset_ms(self._path, media, self._track)
        self._header_ms = self._track.duration_ms or media.duration_ms
        self.direct = is_direct(options, duration_ms=self._header_ms, size_bytes=path.stat().st_size)
        self._planner = Planner(options, duration_ms=self._header_ms, direct=self.direct)
        self._window = _Window()
        self._errors = ""

    def chunks(self, scratch: Path | None, *, skip: frozenset[int]) -> Iterator[CutChunk]:
        """All chunks in order, with FLAC files in *scratch* except for the spans in *skip*.

        *scratch* None: no files. Raises :class:`MediaProblem` if nothing can be decoded.
        """

        def writer(index: int) -> tuple[Path | None, FlacWriter]:
            path = scratch / f"{index:05d}.flac" if scratch and index not in skip else None
            return path, FlacWriter(path)

        path, flac = writer(0)
        written = 0
        with decode(self._path, self._track) as decoder:
            for block in decoder.blocks():
                self._window.append(block)
                for span in self._planner.feed(levels(block)):
                    self._window.copy(flac, written, _samples(span.audio_end_ms))
                    yield CutChunk(span=span, audio=path, pcm_sha256=flac.close())
                    path, flac = writer(span.index + 1)
                    # Both chunks at a cut overlap it by the same time.
                    written = _samples(2 * span.end_ms - span.audio_end_ms)
                decided = max(written, _samples(self._planner.decided_ms))
                decided = min(decided, self._window.end)
                self._window.copy(flac, written, decided)
                written = decided
                self._window.drop(_samples(self._planner.needed_from_ms))
            self._errors = decoder.errors
        if not self._window.end:
            reason = self._errors or "its audio stream is empty"
            raise MediaProblem(
                f"no audio could be decoded: {reason}", "check that it is complete and plays in a media player"
            )
        self._window.copy(flac, written, self._window.end)
        yield CutChunk(span=self._planner.finish(self._decoded_ms), audio=path, pcm_sha256=flac.close())

    def plan(self, run: str, spans: list[Span]) -> Plan:
        """The plan, after all chunks are cut."""
        return Plan(
            run=run,
            spans=tuple(spans),
            duration_ms=self._decoded_ms,
            # If a track seems to begin weeks late, its header is wrong.
            offset_ms=self._offset_ms if self._decoded_ms + self._offset_ms <= MAX_AUDIO_MS else 0,
            direct=self.direct,
            warnings=tuple(self._warnings()),
        )

    @property
    def _decoded_ms(self) -> int:
        return -(-self._window.end * 1000 // SAMPLE_RATE)

    def _warnings(self) -> Iterator[str]:
        if self._errors:
            yield f"ffmpeg reported errors while decoding; all audio that it could read is transcribed: {self._errors}"
        # In Matroska, the length of a late track counts from the beginning of the file.
        short_ms = (self._header_ms or 0) - self._offset_ms - self._decoded_ms
        if short_ms > max(2_000, (self._header_ms or 0) // 100):
            yield f"the file ends {short_ms / 1000:.0f} s before the end in its header: check that it is complete"


class _Window:
    """The decoded audio that may still be needed: a window that moves with the decoder."""

    def __init__(self) -> None:
        self._blocks: collections.deque[tuple[int, Pcm]] = collections.deque()
        self.end = 0
        """Samples decoded so far."""

    def append(self, block: Pcm) -> None:
        self._blocks.append((self.end, block))
        self.end += len(block)

    def copy(self, flac: FlacWriter, begin: int, end: int) -> None:
        """Write samples [begin, end) to *flac*."""
        for at, block in self._blocks:
            part = block[max(0, begin - at) : max(0, end - at)]
            if len(part):
                flac.write(part)

    def drop(self, before: int) -> None:
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= before:
            self._blocks.popleft()


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
