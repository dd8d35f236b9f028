"""The audio tracks of a recording, and which one is transcribed.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from langcodes import Language
from langcodes.tag_parser import LanguageTagError

from controller.errors import MediaProblem

_LISTED_TRACKS = 8
_WHISPER = {"cmn": "zh", "fil": "tl", "jv": "jw", "nb": "no"}
"""Codes of Whisper that differ from those of the standard."""


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """One audio stream, by its number among the audio streams."""

    number: int
    codec: str
    language: str
    """As tagged; ``und`` without a tag."""
    duration_ms: int | None
    default: bool
    commented: bool = False
    """A commentary or an audio description."""
    rate_hz: int = 0
    """Sample rate at its begin; 0 if it is not known."""
    has_fine_samples: bool = False
    """Whether its samples have more than 16 bits, as those of lossy codecs have when they are decoded."""
    channels: int = 0
    """Number of its channels at its begin; 0 if it is not known."""
    has_layout: bool = True
    """Whether it is known where its channels are: without that, ffmpeg cannot mix more than two."""
    has_times: bool = True
    """Whether the container has time stamps."""

    @property
    def spoken(self) -> str:
        """The tagged language as Whisper writes it; empty if there is none, or none that is known."""
        try:
            code = Language.get(self.language).language or ""
        except LanguageTagError:
            return ""
        code = _WHISPER.get(code, code)
        return "" if code in ("mul", "und", "zxx") else code

    def __str__(self) -> str:
        about = [self.codec, *([] if self.language == "und" else [self.language[:8]])]
        about += ["default"] * self.default + ["commentary or description"] * self.commented
        return f"{self.number} ({', '.join(about)})"


@dataclass(frozen=True, kw_only=True)
class Media:
    """The output of ffprobe. ``duration_ms`` comes from the header and can be wrong; None if there is none."""

    container: str
    begin_ms: int
    """Time stamp of the first picture or sound, where a player shows time 0."""
    duration_ms: int | None
    tracks: tuple[AudioTrack, ...]
    has_pictures: bool = False
    """Whether it is a video: then its length may be that of the pictures."""

    def track(self, number: int | None, *, language: str | None = None) -> AudioTrack:
        """The track with this *number*. None: that of *language*, else the default one, else the first.

        Without a number, a commentary or an audio description is taken only if there is nothing else. Raises
        :class:`MediaProblem`.
        """
        if not self.tracks:
            raise MediaProblem("has no audio stream", "choose a file with sound")
        if number is None:
            of_language = [track for track in self.tracks if language and track.spoken == language]
            plain = [track for track in of_language or self.tracks if not track.commented]
            candidates = plain or [track for track in self.tracks if not track.commented] or list(self.tracks)
            return next((track for track in candidates if track.default), candidates[0])
        if number >= len(self.tracks):
            raise MediaProblem(f"has no audio track {number}", f"use --audio-track with one of: {_listed(self.tracks)}")
        return self.tracks[number]

    def about_choice(self, number: int | None, *, language: str | None = None) -> Iterator[str]:
        """Sentences about the track that is transcribed, where another one may be meant."""
        chosen = self.track(number, language=language)
        differs = bool(language and chosen.spoken and chosen.spoken != language)
        others = tuple(track for track in self.tracks if track != chosen)
        if number is None and others:
            yield (
                f"audio track {chosen} is transcribed, {self._reason(chosen, language)};"
                f" --audio-track chooses another one: {_listed(others)}"
            )
        if differs:
            yield f"audio track {chosen.number} is tagged as {chosen.language[:8]}, but --language is {language}"

    def _reason(self, chosen: AudioTrack, language: str | None) -> str:
        if language and chosen.spoken == language:
            return f"because it is tagged as --language {language}"
        missing = "because it is "
        if language and any(track.spoken == language for track in self.tracks):
            missing = (
                f"because the only track tagged as --language {language} is a commentary or description, and it is "
            )
        elif language:
            missing = f"because no track is tagged as --language {language} and it is "
        if chosen.default:
            return f"{missing}the default one"
        return f"{missing}the first one{'' if chosen.number == 0 else ' without a commentary'}"


def _listed(tracks: tuple[AudioTrack, ...]) -> str:
    more = [f"… up to {tracks[-1].number}"] if len(tracks) > _LISTED_TRACKS else []
    return ", ".join([*map(str, tracks[:_LISTED_TRACKS]), *more])
