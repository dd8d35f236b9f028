"""The waveform of a recording: the lowest and highest sample in short steps, so that a player can draw it.

Touches: nothing. The stored object is one line of JSON, a :class:`WaveformHeader`, followed by both levels, the
overview first. Each level is a complete ``.dat`` file of the program audiowaveform, version 2, which libraries that
draw waveforms can read: 24 bytes of header, then for each step two signed bytes, the lowest and the highest sample in
1/128 of full scale. Step *n* of a level begins at *n* times its length, in media time: the time of a player and of the
transcript.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from chunk_job.contract import SAMPLE_RATE
from chunk_job.document import MAX_AUDIO_MS, Document, RunId

Level = Literal["overview", "detail"]

STEP_MS: Mapping[Level, int] = MappingProxyType({"overview": 1_000, "detail": 40})
"""Length of a step. An hour takes 7 KB in overview and 180 KB in detail."""
STEPS_IN_OVERVIEW = STEP_MS["overview"] // STEP_MS["detail"]
"""Steps of the detail in one step of the overview."""
BYTES_OF_STEP = 2
LONGEST_LEAD_MS = 3_600_000
"""A track that begins later than this after the video has no waveform and no rendition: they would begin with hours
of silence."""

_DAT = struct.Struct("<iIiiIi")
_DAT_VERSION, _DAT_8_BITS, _DAT_CHANNELS = 2, 1, 1

Steps = Annotated[int, Field(ge=1, le=(MAX_AUDIO_MS + LONGEST_LEAD_MS) // STEP_MS["detail"] + 1)]


class WaveformHeader(Document):
    """How many steps the levels of a waveform have. Both levels follow, in this order."""

    max_bytes: ClassVar[int] = 4 << 10
    schema_: Literal["stenofleet.waveform/1"] = Field(default="stenofleet.waveform/1", alias="schema")
    run: RunId
    overview: Steps
    detail: Steps

    @model_validator(mode="after")
    def _of_one_length(self) -> Self:
        if self.overview != -(-self.detail // STEPS_IN_OVERVIEW):
            raise ValueError("the levels have different lengths")
        return self

    def steps(self, level: Level) -> int:
        """Return the number of steps of a level."""
        return self.overview if level == "overview" else self.detail


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the ``.dat`` file of a level is in the object, in bytes."""

    begin: int
    size_bytes: int

    @property
    def end(self) -> int:
        """Return where it ends."""
        return self.begin + self.size_bytes


def places(header: WaveformHeader) -> Mapping[Level, Place]:
    """Return where each level is in the object that begins with *header*. The object ends with the last one."""
    overview = Place(begin=len(header.encode()), size_bytes=dat_bytes(header.overview))
    return {"overview": overview, "detail": Place(begin=overview.end, size_bytes=dat_bytes(header.detail))}


def dat_header(level: Level, steps: int) -> bytes:
    """Return the beginning of a level's ``.dat`` file."""
    samples = SAMPLE_RATE * STEP_MS[level] // 1000
    return _DAT.pack(_DAT_VERSION, _DAT_8_BITS, SAMPLE_RATE, samples, steps, _DAT_CHANNELS)


def dat_bytes(steps: int) -> int:
    """Return the size of the ``.dat`` file of a level with this number of steps."""
    return _DAT.size + BYTES_OF_STEP * steps
