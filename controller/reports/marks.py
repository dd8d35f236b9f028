"""How page, report and terminal mark the state of a run, of its chunks and of what attempts did: by a sign and words.

Touches: nothing. Colours only repeat what the sign and the words say.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from controller.domain.documents import StoredState
from controller.reports.run_view import BarKind, ChunkMark

Tone = Literal["good", "warn", "bad", "live", "off"]


class Mark(NamedTuple):
    """How something is marked."""

    sign: str
    word: str
    tone: Tone


RUN_STATES: Mapping[StoredState, Mark] = {
    "complete": Mark("✓", "complete", "good"),
    "partial": Mark("◐", "partial", "warn"),
    "failed": Mark("✕", "failed", "bad"),
    "cancelled": Mark("■", "cancelled", "off"),
    "running": Mark("▶", "running", "live"),
    "waiting": Mark("…", "waiting", "off"),
    "following": Mark("…", "waiting", "off"),
    "interrupted": Mark("‖", "interrupted", "warn"),
}

CHUNK_STATES: Mapping[ChunkMark, Mark] = {
    "done": Mark("✓", "done", "good"),
    "again": Mark("+", "done after a failure", "warn"),
    "lost": Mark("✕", "lost", "bad"),
    "running": Mark("▶", "running", "live"),
    "starting": Mark("↑", "starting", "live"),
    "queued": Mark("…", "queued", "off"),
    "retry": Mark("↻", "to be tried again", "warn"),
    "waiting": Mark("·", "not done", "off"),
}

BAR_WORDS: Mapping[BarKind, str] = {
    "queued": "waits for its turn",
    "starting": "starts: node, image",
    "loading": "loads audio and model",
    "decoding": "transcribes",
    "committing": "writes its result",
    "running": "works",
    "failed": "failed",
    "unseen": "its end was not seen",
}
