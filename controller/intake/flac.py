"""Computes levels of samples, and writes samples to FLAC files.

Touches: files.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import soundfile

from chunk_job.contract import SAMPLE_RATE
from controller.domain.plan import FLOOR_DB, HOP_MS
from controller.errors import EnvironmentProblem

Pcm = np.ndarray[Any, np.dtype[np.int16]]
"""Samples at 16 kHz: of one channel, or an array of (samples, channels)."""

Sound = np.ndarray[Any, np.dtype[np.float32]]
"""Samples at 16 kHz that are not rounded yet, in the scale of 16 bits."""

HOP_SAMPLES = SAMPLE_RATE * HOP_MS // 1000


class FlacWriter:
    """A FLAC file of 16 kHz samples, with the digest of its samples."""

    def __init__(self, path: Path | None, channels: int = 1) -> None:
        """*path* None: write no file, only count and digest the samples, for a chunk whose audio is not needed.

        Writing raises :class:`EnvironmentProblem` if the disk is full.
        """
        self._path = path
        self._file = path and soundfile.SoundFile(
            path, mode="w", samplerate=SAMPLE_RATE, channels=channels, format="FLAC", subtype="PCM_16"
        )
        self._digest = hashlib.sha256()
        self.samples = 0

    def write(self, pcm: Pcm) -> None:
        """Append samples."""
        self._digest.update(pcm.data)
        self.samples += len(pcm)
        if self._file:
            with self._disk_errors():
                self._file.write(pcm)

    def close(self) -> str:
        """Finish the file, and return the digest of its samples."""
        if self._file:
            with self._disk_errors():
                self._file.close()
        return self._digest.hexdigest()

    def _disk_errors(self) -> contextlib.AbstractContextManager[None]:
        assert self._path is not None
        return disk_errors(self._path.parent)


@contextlib.contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """A context that raises :class:`EnvironmentProblem` if audio cannot be written to *folder*."""
    try:
        yield
    except (soundfile.LibsndfileError, OSError) as error:
        raise EnvironmentProblem(
            f"chunk audio cannot be written to {folder}: {error}",
            "free space there, or set TMPDIR (for a local run: --store) to a folder with free space",
        ) from error


def levels(pcm: Pcm) -> list[float]:
    """RMS levels in dB of full scale, one for every 20 ms. The last one may cover less.

    Of several channels, the loudest one counts at each time.
    """
    if pcm.ndim > 1:
        channels = [levels(pcm[:, channel]) for channel in range(pcm.shape[1])]
        return [max(several) for several in zip(*channels, strict=True)]
    spare = -len(pcm) % HOP_SAMPLES
    samples = (np.pad(pcm, (0, spare)) if spare else pcm).astype(np.float32).reshape(-1, HOP_SAMPLES)
    power = np.einsum("ij,ij->i", samples, samples) / (HOP_SAMPLES * 32768.0**2)
    if spare:
        power[-1] *= HOP_SAMPLES / (HOP_SAMPLES - spare)
    return cast("list[float]", np.maximum(10 * np.log10(np.maximum(power, 1e-12)), FLOOR_DB).tolist())
