"""The files of a transcript with other names of speakers, made from its JSON a few segments at a time.

Touches: temporary files. The store has only the names that a transcript gets by itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from controller.runs.stored_transcript import read_with
from controller.runs.transcript_files import TranscriptFiles, disk_errors, written
from controller.transcript.model import Transcript
from controller.transcript.speakers import named


def with_speakers(transcript: TranscriptFiles, names: Sequence[str]) -> TranscriptFiles:
    """The transcript with these names of the speakers of channel 1, 2, …; without names, as it is.

    Raises :class:`StoreUnavailable` if temporary files cannot be written.
    """
    if not names:
        return transcript
    with disk_errors(), transcript.path("json").open("rb") as file:
        return read_with(
            file,
            lambda summary, segments: written(summary, (tuple(named(some, names)) for some in segments)),
            most_whole_bytes=Transcript.max_bytes,
        )
