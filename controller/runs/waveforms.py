"""Reads the waveform of a run from the store.

Touches: the store.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import BinaryIO

from chunk_job.document import MAX_AUDIO_MS
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing, Store
from controller.domain import stored_documents
from controller.domain.keys import RunKeys
from controller.domain.waveform import (
    BYTES_OF_STEP,
    LONGEST_LEAD_MS,
    STEP_MS,
    Level,
    Place,
    WaveformHeader,
    dat_bytes,
    dat_header,
    places,
)

_MAX_BYTES = WaveformHeader.max_bytes + sum(
    dat_bytes((MAX_AUDIO_MS + LONGEST_LEAD_MS) // step_ms + 1) for step_ms in STEP_MS.values()
)


@dataclass(frozen=True, kw_only=True)
class Waveform:
    """A waveform in an open file."""

    file: BinaryIO
    header: WaveformHeader
    places: Mapping[Level, Place]
    """Where the ``.dat`` file of each level is in *file*."""

    def steps(self, level: Level) -> bytes:
        """Return the lowest and the highest sample of each step of a level, as signed bytes."""
        place = self.places[level]
        count = BYTES_OF_STEP * self.header.steps(level)
        self.file.seek(place.end - count)
        return self.file.read(count)


def opened(store: Store, run: str) -> Waveform | None:
    """Return the waveform of a run; None if it has none, or none that is valid. The caller closes its file."""
    key = RunKeys(run).waveform
    try:
        file = store.open(key, max_bytes=_MAX_BYTES)
    except (ObjectMissing, DocumentInvalid):
        return None
    with contextlib.ExitStack() as failing:
        failing.enter_context(file)
        try:
            found = parse(file, key)
        except DocumentInvalid:
            return None
        failing.pop_all()
        return found


def parse(file: BinaryIO, key: str) -> Waveform:
    """Return the waveform in *file*, which was read from *key*. Raises :class:`DocumentInvalid`."""
    first = file.readline(WaveformHeader.max_bytes)
    header = stored_documents.parse(WaveformHeader, key, first)
    found = places(header)
    for level, place in found.items():
        file.seek(place.begin)
        expected = dat_header(level, header.steps(level))
        if file.read(len(expected)) != expected:
            raise DocumentInvalid(f"{key}: the level {level} does not begin where it should")
    if file.seek(0, 2) != found["detail"].end:
        raise DocumentInvalid(f"{key}: has another length than its header says")
    return Waveform(file=file, header=header, places=found)
