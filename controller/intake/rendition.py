"""A small audio file of the decoded audio, for players: MP3, 16 kHz mono, 32 kbit/s.

Touches: ffmpeg, which only gets our own samples; a scratch file. MP3, because every browser plays it without a codec of
its system. At this constant bit rate each frame has exactly 144 bytes: a player finds any time without an index, and
nothing must be fetched before the first sound.
"""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import IO, cast

import numpy as np

from chunk_job.contract import SAMPLE_RATE
from controller.errors import EnvironmentProblem
from controller.intake import sandbox
from controller.intake.flac import Pcm

BIT_RATE = 32_000
_SPEED = 7
"""Of LAME, 0 to 9. Better ones take up to ten times as long, for music."""
_DELAY_SAMPLES = 1_105
"""By which encoder and decoder together delay the sound. Nothing in the file says so: its beginning is left out."""
_PIECE_SAMPLES = SAMPLE_RATE
_ANY_BYTES = 1 << 40
_END_S = 120


class Rendition:
    """Gets the decoded audio in blocks, in order. Several channels are mixed."""

    def __init__(self, path: Path, *, lead_samples: int) -> None:
        """*path*: a new file. *lead_samples*: the silence before the audio begins, so that the times are right.

        Every method raises :class:`EnvironmentProblem` if ffmpeg cannot write the file.
        """
        form = ("-f", "s16le", "-ar", str(SAMPLE_RATE), "-ac", "1")
        encoder = ("-c:a", "libmp3lame", "-b:a", str(BIT_RATE), "-compression_level", str(_SPEED))
        # Nothing but frames: neither tags nor a first frame with a table of times.
        bare = ("-write_xing", "0", "-id3v2_version", "0", "-f", "mp3")
        with path.open("xb") as file:
            self._child = subprocess.Popen(
                [
                    *sandbox.command("ffmpeg", size_bytes=_ANY_BYTES, output_bytes=_ANY_BYTES),
                    *("-nostats", *form, "-i", "pipe:0", *encoder, *bare, "pipe:1"),
                ],
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=sandbox.environment(),
                start_new_session=True,
            )
        silence = max(0, lead_samples - _DELAY_SAMPLES)
        self._left_out = _DELAY_SAMPLES - (lead_samples - silence)
        for at in range(0, silence, _PIECE_SAMPLES):
            self._write(np.zeros(min(_PIECE_SAMPLES, silence - at), np.int16))

    def add(self, block: Pcm) -> None:
        """Add the next samples."""
        block, self._left_out = block[self._left_out :], max(0, self._left_out - len(block))
        self._write(block if block.ndim == 1 else np.rint(block.mean(axis=1)).astype("<i2"))

    def finish(self) -> None:
        """Complete the file."""
        try:
            _, messages = self._child.communicate(timeout=_END_S)
        except subprocess.TimeoutExpired:
            raise _failed("it does not end") from None
        if self._child.returncode:
            raise _failed(sandbox.last_lines(messages, ""))

    def stop(self) -> None:
        """End ffmpeg if it runs, and release what it uses. Can be repeated."""
        self._child.kill()
        with contextlib.suppress(BrokenPipeError):
            self._child.communicate()

    def _write(self, samples: Pcm) -> None:
        left = memoryview(samples.tobytes())
        try:
            while left:
                # Unbuffered: a write may take a part only.
                left = left[cast("IO[bytes]", self._child.stdin).write(left) :]
        except BrokenPipeError:
            self.finish()
            raise _failed("it ended early") from None


def _failed(why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"no rendition: ffmpeg: {why}",
        "free space for temporary files, use an ffmpeg with libmp3lame, or leave out --rendition",
    )
