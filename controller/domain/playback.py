"""What a player can play of a run: the recording itself, or a small rendition of its sound.

Touches: nothing.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from chunk_job.document import Document, RunId

MediaType = Literal[
    "audio/aac", "audio/flac", "audio/mp4", "audio/mpeg", "audio/ogg", "audio/wav", "audio/webm", "video/mp4",
    "video/webm",
]  # fmt: skip
"""What browsers play, at least in current versions."""

RENDITION_TYPE: MediaType = "audio/mpeg"


class Playback(Document):
    """What the intake found and made for players. Put before the plan."""

    schema_: Literal["stenofleet.playback/1"] = Field(default="stenofleet.playback/1", alias="schema")
    run: RunId
    media_type: Literal[""] | MediaType
    """Of the recording, if browsers play the track that is transcribed; empty: they may not."""
    rendition: bool
    """Whether there is a rendition, in :data:`RENDITION_TYPE`."""
