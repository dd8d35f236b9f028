"""The words of a transcript as documents: segments with their words, and how each window was decoded.

Touches: nothing. Importing this module loads neither a model library nor a store, so other programs can use it too.
"""

from __future__ import annotations

from typing import Annotated, Literal, NotRequired

from pydantic import Field, with_config
from typing_extensions import TypedDict  # pydantic's own; before Python 3.12 it accepts no other

from chunk_job.document import Count, Document, Score, Seconds

MOST_CHANNELS = 8
"""Most channels that are transcribed one by one: as many as FLAC can have."""

Channel = Annotated[int, Field(ge=1, le=MOST_CHANNELS)]
"""The number of a channel, counted from 1."""

SPEAKER_PATTERN = r"^[^\s\x00-\x1f\x7f-\x9f]+( [^\s\x00-\x1f\x7f-\x9f]+)*$"
Speaker = Annotated[str, Field(min_length=1, max_length=200, pattern=SPEAKER_PATTERN)]
"""The name of a speaker, on one line."""


@with_config(Document.model_config)
class Word(TypedDict):
    """One word with its leading space, as Whisper writes it.

    A plain dictionary: ten hours of speech have a hundred thousand words, and model objects would make the merge five
    times slower.
    """

    word: Annotated[str, Field(max_length=8_000)]
    start_ms: Annotated[Seconds, Field(alias="start")]
    end_ms: Annotated[Seconds, Field(alias="end")]
    probability: Score
    speaker: NotRequired[Speaker]
    """Only in a transcript, if it is known. Without it, the word is of the speaker of the segment."""
    corrected: NotRequired[Literal[True]]
    """Only in a corrected transcript: a person wrote this word, and its probability is 1."""


class Segment(Document):
    """Whisper's segment. Chunk-local in a result, absolute in a transcript. ``end_ms`` is exclusive."""

    id: Count
    seek: Count
    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")
    text: str = Field(max_length=1_000_000)
    tokens: tuple[Annotated[int, Field(ge=0, lt=1 << 24)], ...] = Field(max_length=100_000)
    temperature: Score
    avg_logprob: Score
    compression_ratio: Score
    no_speech_prob: Score
    words: tuple[Word, ...] = Field(max_length=100_000)
    speaker: Speaker | None = Field(default=None, exclude_if=lambda speaker: speaker is None)
    """Only in a transcript. None: not known, and then the field is left out."""
    channel: Channel | None = Field(default=None, exclude_if=lambda channel: channel is None)
    """None: the sound is that of one channel or a mix, and then the field is left out."""

    def inside(self, end_ms: int) -> bool:
        """Whether all times of the segment and its words are in order and at most *end_ms*."""
        if not self.start_ms <= self.end_ms <= end_ms:
            return False
        for word in self.words:  # noqa: SIM110 (a generator in all() costs a third more on results of an hour)
            if not word["start_ms"] <= word["end_ms"] <= end_ms:
                return False
        return True


class Try(Document):
    """One decoding of one window, and why it was not the last one."""

    temperature: Score
    avg_logprob: Score
    compression_ratio: Score
    no_speech_prob: Score
    failed: Literal["", "repetitive", "improbable", "token_limit", "repeats_previous"] = ""
    """Empty: it passed all checks."""


class DecodedWindow(Document):
    """A part of the chunk that was decoded at once, and what was tried. Times are chunk-local."""

    start_ms: Seconds = Field(alias="start")
    end_ms: Seconds = Field(alias="end")
    outcome: Literal["text", "empty", "no_speech", "doubtful", "split", "unused"]
    """``doubtful``: no decoding passed all checks, and the most probable one is used.

    ``split``: it had too many tokens, and its two halves follow. ``unused``: the window before has better words.
    """
    loop_removed: bool = False
    """Repetitions of a phrase to the end of the text were removed."""
    incomplete: bool = False
    """There was speech without words: from there on, it was decoded again as the next window."""
    tries: tuple[Try, ...] = Field(max_length=300)
    channel: Channel | None = Field(default=None, exclude_if=lambda channel: channel is None)
    """None: the sound is that of one channel or a mix."""
