"""What an intake would make of a recording: its chunks, how good the cuts are, and the audio tracks to choose from.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from controller.domain.plan import Plan, Span


@dataclass(frozen=True, kw_only=True)
class CutQuality:
    """How quiet it is at a cut."""

    pause_ms: int
    """Length of the pause around it; 0 if there is none."""
    below_speech_db: float
    """How much quieter it is there than the speech near it."""


@dataclass(frozen=True, kw_only=True)
class DryChunk:
    """A chunk that would be stored."""

    span: Span
    pcm_sha256: str
    """Digest of its samples."""
    size_bytes: int
    """Of its FLAC file."""
    quality: CutQuality | None
    """Of the cut at its end. None: it ends at the end of the recording or of a clip."""


@dataclass(frozen=True, kw_only=True)
class DryTrack:
    """An audio track of a recording."""

    number: int
    """Counted from 0, among the audio tracks."""
    codec: str
    language: str
    """As tagged; ``und`` without a tag."""
    channels: int
    """0: not known."""
    rate_hz: int
    """0: not known."""
    default: bool
    commented: bool
    """Whether it is a commentary or an audio description."""
    chosen: bool
    """Whether it is the one that is transcribed."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """A recording as an intake would cut it."""

    plan: Plan
    chunks: tuple[DryChunk, ...]
    tracks: tuple[DryTrack, ...]

    @property
    def size_bytes(self) -> int:
        """Return the size of all its chunks."""
        return sum(chunk.size_bytes for chunk in self.chunks)
