"""What the intake makes for players beside the chunks: the waveform, and a rendition if it is asked for.

Touches: the store, scratch files. All of it is put before the plan: a run that is planned has it.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Literal, Self

from chunk_job.contract import SAMPLE_RATE
from chunk_job.store.base import Store
from controller.domain.keys import RunKeys
from controller.domain.playback import MediaType, Playback
from controller.domain.waveform import LONGEST_LEAD_MS
from controller.intake.flac import Pcm
from controller.intake.peaks import Peaks
from controller.intake.rendition import Rendition

log = logging.getLogger("stenofleet.intake")


class ForPlayers:
    """Gets the decoded audio in blocks, in order. A context, at whose end its scratch files are closed."""

    def __init__(self, store: Store, keys: RunKeys, scratch: Path, *, offset_ms: int, rendition: bool) -> None:
        """*offset_ms*: how long after the beginning of the recording its audio begins."""
        self._store, self._keys, self._scratch = store, keys, scratch
        self._peaks: Peaks | None = None
        self._rendition: Rendition | None = None
        self._offset_ms = offset_ms
        if offset_ms > LONGEST_LEAD_MS:
            log.warning("the audio begins after %d s: no waveform and no rendition are made", offset_ms // 1000)
            return
        lead_samples = offset_ms * SAMPLE_RATE // 1000
        self._peaks = Peaks(scratch / "peaks", lead_samples=lead_samples)
        # One that an earlier intake has put is complete, and of the same audio.
        if rendition and store.stat(keys.rendition) is None:
            self._rendition = Rendition(scratch / "rendition.mp3", lead_samples=lead_samples)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._peaks:
            self._peaks.close()
        if self._rendition:
            self._rendition.stop()

    def add(self, block: Pcm) -> None:
        """Add the next samples."""
        if self._peaks:
            self._peaks.add(block)
        if self._rendition:
            self._rendition.add(block)

    def put(self, media_type: Literal[""] | MediaType, *, offset_ms: int) -> None:
        """Put everything, after the last samples. *offset_ms*: that of the plan.

        If that is another one after all, the times would be wrong, and nothing is put.
        """
        if self._peaks is None or offset_ms != self._offset_ms:
            return
        waveform = self._scratch / "waveform.bin"
        self._peaks.finish(self._keys.run, waveform)
        self._store.put_file(self._keys.waveform, waveform)
        if self._rendition:
            self._rendition.finish()
            self._store.put_file(self._keys.rendition, self._scratch / "rendition.mp3")
        has_rendition = self._store.stat(self._keys.rendition) is not None
        found = Playback(run=self._keys.run, media_type=media_type, rendition=has_rendition)
        self._store.put(self._keys.playback, found.encode())
