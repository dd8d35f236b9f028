"""Whether browsers play a recording as it is, and as which type.

Touches: the first bytes of the media file.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from controller.domain.playback import MediaType
from controller.intake.tracks import AudioTrack, Media

_PCM = frozenset({"pcm_alaw", "pcm_f32le", "pcm_mulaw", "pcm_s16le", "pcm_s24le", "pcm_u8"})
_OPEN = frozenset({"opus", "vorbis"})
_AUDIO: Mapping[str, tuple[MediaType, frozenset[str]]] = MappingProxyType(
    {
        "aac": ("audio/aac", frozenset({"aac"})),
        "flac": ("audio/flac", frozenset({"flac"})),
        "mp3": ("audio/mpeg", frozenset({"mp3"})),
        "ogg": ("audio/ogg", _OPEN | {"flac"}),
        "wav": ("audio/wav", _PCM),
    }
)
"""By container: its type, and the codecs that browsers decode in it."""
_MP4, _MATROSKA = "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"
_MP4_CODECS = frozenset({"aac", "flac", "mp3", "opus"})
_WEBM = b"\x42\x82\x84webm"
"""The element that says what a Matroska file is, in its first bytes."""
_FIRST_BYTES = 4_096


def media_type(path: Path, media: Media, track: AudioTrack) -> Literal[""] | MediaType:
    """The type under which browsers play *track* of the file at *path*; empty if they may not.

    A browser plays the first or the default track: another one is not what is transcribed.
    """
    if track != media.track(None) or any(other.default for other in media.tracks if other != track):
        return ""
    if media.container == _MP4 and track.codec in _MP4_CODECS:
        return "video/mp4" if media.has_pictures else "audio/mp4"
    if media.container == _MATROSKA and track.codec in _OPEN and _is_webm(path):
        return "video/webm" if media.has_pictures else "audio/webm"
    # A video in Ogg is not played any more.
    found = None if media.has_pictures else _AUDIO.get(media.container)
    return found[0] if found and track.codec in found[1] else ""


def _is_webm(path: Path) -> bool:
    with path.open("rb") as file:
        return _WEBM in file.read(_FIRST_BYTES)
