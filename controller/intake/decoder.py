"""Decodes one audio track as a stream of 16 kHz samples.

Touches: ffmpeg, which reads untrusted bytes inside the ``sandbox``. ffmpeg-python builds the argument lists; this
module runs them. It is the only client of ffmpeg.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import ffmpeg
import numpy as np

from chunk_job.contract import SAMPLE_RATE
from controller.domain.plan import ChannelChoice
from controller.errors import MediaProblem
from controller.intake import sandbox
from controller.intake.channels import Channels
from controller.intake.flac import HOP_SAMPLES, Pcm, Sound
from controller.intake.messages import Messages
from controller.intake.tracks import AudioTrack

BLOCK_SAMPLES = 1500 * HOP_SAMPLES
"""Thirty seconds per block: about a megabyte, which is also the size of the pipe."""

_STALL_TIMEOUT_S = 120
_SHORT_READ_BYTES = 256 << 10
_PAUSE_S = 0.005
_LONGEST_HOLE_S = 3600
"""A longer step in the time stamps is not a gap but another clock: it is removed."""
_INPUT = "INPUT"
_COUNTED = "STARTPTS+NB_CONSUMED_SAMPLES/SR/TB"
"""The time of a frame by the samples before it."""
_MPEG_AUDIO = frozenset({"mp1", "mp2", "mp3"})
_MPEG_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_NEAR_S = 0.05
_BACKWARDS_S = 0.5
"""A longer step backwards is a new beginning. A shorter one is an overlap, of which ffmpeg drops one half.

The times of FLAC are exact, but the first frames of a new beginning may be out of order.
"""


@contextlib.contextmanager
def decode(path: str, track: AudioTrack, choice: ChannelChoice = "mix") -> Iterator[Decoder]:
    """A context with a decoder of one track of the file at the absolute *path*. ffmpeg is stopped at its end.

    Raises :class:`MediaProblem` if the track does not have the channels of *choice*.
    """
    channels = Channels(track, choice)
    # A placeholder for the name: ffmpeg-python encodes its arguments, and a file name may not be UTF-8.
    graph = ffmpeg.input(_INPUT, vn=None, sn=None, dn=None, **sandbox.INPUT_OPTIONS)
    output = graph.output(
        "pipe:1",
        filter_complex=f"[0:a:{track.number}]{_frame_times(track)},{channels.filters()}",
        map="[out]",
        f="f32le" if channels.has_fine_samples else "s16le",
        # Without this ffmpeg writes each frame at once: forty times as many calls, and 5 % of its time.
        flush_packets=0,
    )
    arguments = [f"file:{path}" if argument == _INPUT else argument for argument in output.get_args()]
    size_bytes = Path(path).stat().st_size
    steps = ["-dts_delta_threshold", str(_LONGEST_HOLE_S), "-dts_error_threshold", str(_LONGEST_HOLE_S)]
    with subprocess.Popen(
        [
            *sandbox.command("ffmpeg", size_bytes=size_bytes, level="level+verbose"),
            "-nostdin",
            "-nostats",
            "-filter_threads",
            "1",
            *steps,
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        # Linux only: the default pipe of 64 KiB would wake both processes sixteen times as often.
        pipesize=1 << 20,
        env=sandbox.environment(),
        start_new_session=True,
    ) as child:
        try:
            yield Decoder(child, path, limit_s=sandbox.longest_s(size_bytes), channels=channels)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


def _frame_times(track: AudioTrack) -> str:
    """The filter that gives frames their times: those of the container, as long as they are right.

    Where the sample rate changes midway, ffmpeg still counts time in steps of the first rate, and holes would be filled
    that are none. From there on time is counted in samples. ffmpeg builds its filters again at a change, so the count
    begins there.
    """
    if not track.has_times:
        return f"asetpts={_COUNTED}"
    if not track.rate_hz:
        return "anull"
    times = "PTS"
    if track.codec in _MPEG_AUDIO:
        # The first frame after a change still has the old rate, and its time in units of the new one.
        expected = "(PREV_OUTPTS+NB_SAMPLES)"
        others = (rate_hz for rate_hz in _MPEG_RATES_HZ if rate_hz != track.rate_hz)
        wrong = "+".join(f"lt(abs(PTS-{expected}*{rate_hz}/{track.rate_hz})*TB,{_NEAR_S})" for rate_hz in others)
        times = f"if({wrong},{expected},PTS)"
    # Recordings that were joined byte by byte: their times begin again, and from there on more is added to them.
    # Variables: 0 what is added, 1 the samples of the frame before.
    back = f"(PREV_OUTPTS-{times}-ld(0))"
    least_s = _NEAR_S if track.codec == "flac" else _BACKWARDS_S
    added = f"if(gt({back}*TB,{least_s}),ld(0)+{back}+ld(1)/SR/TB,ld(0))"
    times = f"st(0,if(isnan(PREV_OUTPTS),0,{added}));st(1,NB_SAMPLES);{times}+ld(0)"
    return f"asetpts='if(eq(SR,{track.rate_hz}),{times},{_COUNTED})'"


class Decoder:
    """Blocks of int16 samples from a running ffmpeg."""

    def __init__(self, child: subprocess.Popen[bytes], path: str, *, limit_s: int, channels: Channels) -> None:
        self._child = child
        self._path = path
        self._limit_s = limit_s
        self._messages = Messages()
        self._errors: str | None = None
        self._sample_type = "<f4" if channels.has_fine_samples else "<i2"
        self.channels = channels
        """Which channels the samples are of."""

    def errors_so_far(self) -> str:
        """ffmpeg's messages about errors until now; empty for a clean file."""
        if self._errors is not None:
            return self._errors
        return sandbox.last_lines(self._messages.errors, self._path) if self._messages.errors else ""

    def rates_hz(self) -> list[int]:
        """The sample rates until now, in order, with an entry for each change."""
        return self._messages.rates_hz

    def layouts(self) -> list[str]:
        """The layouts of the track's channels until now, in order, with an entry for each change."""
        return self._messages.layouts

    def messages(self) -> str:
        """All of ffmpeg's messages until now; of many, only the last ones."""
        return self._messages.errors.decode(errors="replace")

    def blocks(self) -> Iterator[Pcm]:
        """All samples in order, in blocks of thirty seconds.

        Raises :class:`MediaProblem` if ffmpeg hangs or is stopped, or if there are more samples than the limit.
        """
        filled, left_s = 0, self._limit_s
        width = self.channels.columns
        block = np.empty((BLOCK_SAMPLES, width), dtype=self._sample_type)
        while count := self._read_into(block.data.cast("B")[filled:]):
            filled += count
            if filled == block.nbytes:
                if (left_s := left_s - BLOCK_SAMPLES // SAMPLE_RATE) < 0:
                    raise MediaProblem(
                        f"does not end after {self._limit_s / 3600:.0f} h, far more than a file of its size can hold",
                        sandbox.CONVERT,
                    )
                yield self._to_pcm(block)
                # A new array each time: the window keeps parts of the previous ones.
                filled, block = 0, np.empty((BLOCK_SAMPLES, width), dtype=self._sample_type)
        if samples := filled // (width * block.itemsize):
            yield self._to_pcm(block[:samples])
        try:
            code = self._child.wait(timeout=_STALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise _hangs() from None
        self._messages.add(b"")
        errors = self._messages.errors
        sandbox.check_end("ffmpeg", code, errors)
        self._errors = sandbox.last_lines(errors, self._path) if errors or code else ""

    def _to_pcm(self, frames: np.ndarray[Any, Any]) -> Pcm:
        sound: Sound = frames * np.float32(32768) if frames.dtype == np.float32 else frames.astype(np.float32)
        return self.channels.to_pcm(sound)

    def _read_into(self, buffer: memoryview) -> int:
        """Read the next bytes of samples into *buffer*. Also reads stderr, so that ffmpeg never blocks on it."""
        # Unbuffered pipes are raw files; the annotations of subprocess are wrong about that.
        stdout, stderr = cast("io.FileIO", self._child.stdout), cast("io.FileIO", self._child.stderr)
        streams = [stdout, stderr]
        while True:
            ready, _, _ = select.select(streams, [], [], _STALL_TIMEOUT_S)
            if not ready:
                raise _hangs()
            if stderr in ready:
                data = stderr.read(1 << 16)
                self._messages.add(data)
                if not data:
                    streams.remove(stderr)
            if stdout in ready:
                count = stdout.readinto(buffer)
                if 0 < count < min(len(buffer), _SHORT_READ_BYTES):
                    # This process is faster than ffmpeg: let the pipe fill instead of reading each frame.
                    time.sleep(_PAUSE_S)
                return count


def _hangs() -> MediaProblem:
    return MediaProblem(f"ffmpeg made no progress for {_STALL_TIMEOUT_S} s", sandbox.INCOMPLETE)
