"""The waveform of the decoded audio: the lowest and highest sample of each step, as the samples come.

Touches: scratch files. Memory is constant: the detail is written to a scratch file, from which the overview is made at
the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from chunk_job.contract import SAMPLE_RATE
from controller.domain.waveform import BYTES_OF_STEP, STEP_MS, STEPS_IN_OVERVIEW, WaveformHeader, dat_header
from controller.intake.flac import Pcm, disk_errors

_STEP_SAMPLES = SAMPLE_RATE * STEP_MS["detail"] // 1000
_PIECE_STEPS = STEPS_IN_OVERVIEW * 10_000
"""Read at once: whole steps of the overview."""

_Steps = np.ndarray[Any, np.dtype[np.int8]]
"""An array of (steps, 2): lowest and highest sample."""


class Peaks:
    """Gets the decoded audio in blocks, in order. Of several channels, a step has the extremes of all.

    Every method raises :class:`EnvironmentProblem` if the disk is full.
    """

    def __init__(self, scratch: Path, *, lead_samples: int) -> None:
        """*scratch*: a new file. *lead_samples*: the silence that a player shows before the audio begins."""
        self._folder = scratch.parent
        with disk_errors(self._folder):
            self._file = scratch.open("x+b")
        self._lead_samples = lead_samples
        self._rest: Pcm | None = None
        """Samples of a step that is not complete."""
        self._steps = 0

    def add(self, block: Pcm) -> None:
        """Add the next samples."""
        if self._lead_samples:
            whole, part = divmod(self._lead_samples, _STEP_SAMPLES)
            self._write(np.zeros((whole, 2), np.int8))
            self._rest = np.zeros((part, *block.shape[1:]), np.int16)
            self._lead_samples = 0
        if self._rest is not None:
            block = np.concatenate((self._rest, block))
        whole_samples = len(block) - len(block) % _STEP_SAMPLES
        self._rest = block[whole_samples:].copy() if whole_samples < len(block) else None
        if whole_samples:
            steps = block[:whole_samples].reshape(whole_samples // _STEP_SAMPLES, -1)
            self._write(_in_8_bits(np.column_stack((steps.min(axis=1), steps.max(axis=1)))))

    def finish(self, run: str, path: Path) -> None:
        """Write the waveform of all samples to a new file at *path*."""
        if self._rest is not None:
            self._write(_in_8_bits(np.array([[self._rest.min(), self._rest.max()]])))
            self._rest = None
        header = WaveformHeader(run=run, overview=-(-self._steps // STEPS_IN_OVERVIEW), detail=self._steps)
        with disk_errors(path.parent), path.open("xb") as file:
            file.write(header.encode() + dat_header("overview", header.overview))
            for piece in _pieces(self._file):
                file.write(_overview(piece))
            file.write(dat_header("detail", header.detail))
            for piece in _pieces(self._file):
                file.write(piece)

    def close(self) -> None:
        """Close the scratch file."""
        self._file.close()

    def _write(self, steps: _Steps) -> None:
        with disk_errors(self._folder):
            self._file.write(steps.tobytes())
        self._steps += len(steps)


def _in_8_bits(extremes: np.ndarray[Any, np.dtype[np.int16]]) -> _Steps:
    """Round towards zero: silence with a little noise is a flat line."""
    found: _Steps = (extremes / np.float32(256)).astype(np.int8)
    return found


def _pieces(detail: BinaryIO) -> Iterator[bytes]:
    detail.seek(0)
    while piece := detail.read(_PIECE_STEPS * BYTES_OF_STEP):
        yield piece


def _overview(piece: bytes) -> bytes:
    """The overview of a piece of the detail. Only the last piece may end within a step."""
    steps: _Steps = np.frombuffer(piece, np.int8).reshape(-1, 2)
    spare = -len(steps) % STEPS_IN_OVERVIEW
    grouped = np.pad(steps, ((0, spare), (0, 0)), "edge").reshape(-1, STEPS_IN_OVERVIEW, 2)
    return np.column_stack((grouped[:, :, 0].min(axis=1), grouped[:, :, 1].max(axis=1))).tobytes()
