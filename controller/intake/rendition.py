"""A small audio file of the decoded audio, for players: MP3, 16 kHz mono, 32 kbit/s.

Touches: a scratch file. MP3, because every browser plays it without a codec of its system. At this constant bit rate
each frame has exactly 144 bytes: a player finds any time without an index, and nothing must be fetched before the first
sound.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from chunk_job.contract import SAMPLE_RATE
from controller.intake.flac import Pcm, disk_errors

BIT_RATE = 32_000
_HIGHEST_RATE, _LOWEST_RATE = 160_000, 8_000
"""Of MP3 at this sample rate: libsndfile takes a share of what is between them."""
_DELAY_SAMPLES = 1_105
"""By which encoder and decoder together delay the sound. Nothing in the file says so: its beginning is left out."""
_PIECE_SAMPLES = SAMPLE_RATE


class Rendition:
    """Gets the decoded audio in blocks, in order. Several channels are mixed.

    Every method raises :class:`EnvironmentProblem` if the disk is full.
    """

    def __init__(self, path: Path, *, lead_samples: int) -> None:
        """*lead_samples*: the silence before the audio begins, so that its times are those of the recording."""
        self._folder = path.parent
        with disk_errors(self._folder):
            self._file = soundfile.SoundFile(
                path,
                mode="w",
                samplerate=SAMPLE_RATE,
                channels=1,
                format="MP3",
                subtype="MPEG_LAYER_III",
                bitrate_mode="CONSTANT",
                compression_level=(_HIGHEST_RATE - BIT_RATE) / (_HIGHEST_RATE - _LOWEST_RATE),
            )
        silence = max(0, lead_samples - _DELAY_SAMPLES)
        self._left_out = _DELAY_SAMPLES - (lead_samples - silence)
        for at in range(0, silence, _PIECE_SAMPLES):
            self._write(np.zeros(min(_PIECE_SAMPLES, silence - at), np.int16))

    def add(self, block: Pcm) -> None:
        """Add the next samples."""
        block, self._left_out = block[self._left_out :], max(0, self._left_out - len(block))
        self._write(block if block.ndim == 1 else np.rint(block.mean(axis=1)).astype(np.int16))

    def close(self) -> None:
        """Complete the file."""
        with disk_errors(self._folder):
            self._file.close()

    def _write(self, samples: Pcm) -> None:
        with disk_errors(self._folder):
            self._file.write(samples)
