"""A recording as an intake would cut it, without a store.

Touches: the media file, ffmpeg (through ``cutter``), a temporary folder with one chunk at a time: only an encoded chunk
has a known size.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from controller.domain.documents import RunRecord, Source
from controller.domain.dry_run import DryChunk, DryRun, DryTrack
from controller.intake import source
from controller.intake.cutter import Cutter, named
from controller.intake.probe import probe
from controller.intake.tracks import AudioTrack, Media


def dry_run(src: Source, record: RunRecord) -> DryRun:
    """Cut the recording of this run, and store nothing. Raises :class:`MediaProblem`, with the name of the file."""
    language = record.options.language
    with source.at_hand(src) as path, named(src):
        media = probe(str(path))
        cutter = Cutter(path, media, record.plan, audio_track=record.audio_track, language=language)
        chunks = tuple(_chunks(cutter))
        plan = cutter.plan(record.run, [chunk.span for chunk in chunks])
        return DryRun(
            plan=plan, chunks=chunks, tracks=_tracks(media, media.track(record.audio_track, language=language))
        )


def _chunks(cutter: Cutter) -> Iterator[DryChunk]:
    with tempfile.TemporaryDirectory(prefix="stenofleet-plan-") as folder:
        for chunk in cutter.chunks(Path(folder), skip=frozenset()):
            assert chunk.audio
            size_bytes = chunk.audio.stat().st_size
            chunk.audio.unlink()
            yield DryChunk(span=chunk.span, pcm_sha256=chunk.pcm_sha256, size_bytes=size_bytes, quality=chunk.quality)


def _tracks(media: Media, chosen: AudioTrack) -> tuple[DryTrack, ...]:
    return tuple(
        DryTrack(
            number=track.number,
            codec=track.codec,
            language=track.language,
            channels=track.channels,
            rate_hz=track.rate_hz,
            default=track.default,
            commented=track.commented,
            chosen=track == chosen,
        )
        for track in media.tracks
    )
