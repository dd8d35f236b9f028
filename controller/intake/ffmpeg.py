"""Probes a media file, and decodes one audio track as a stream of 16 kHz mono samples.

Touches: ffmpeg and ffprobe, which read untrusted bytes inside the ``sandbox``. ffmpeg-python builds the argument lists;
this module runs them. It is the only client of ffmpeg.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ffmpeg
import numpy as np

from chunk_job.contract import SAMPLE_RATE
from controller.errors import MediaProblem
from controller.intake import sandbox
from controller.intake.flac import HOP_SAMPLES, Pcm

BLOCK_SAMPLES = 1500 * HOP_SAMPLES
"""Thirty seconds per block: about a megabyte, which is also the size of the pipe."""

_PROBE_TIMEOUT_S = 60
_STALL_TIMEOUT_S = 120
_SHORT_READ_BYTES = 256 << 10
_PAUSE_S = 0.005
_PROBE_BYTES = 1 << 20
"""Largest output of ffprobe: enough for a thousand tracks. Tags can be as long as the file."""
_LISTED_TRACKS = 8
_FIRST_PACKETS = 64
"""More packets than any decoder reads before its first samples."""
_LONGEST_HOLE_S = 3600
"""A longer step in the time stamps is not a gap but another clock: it is removed."""

_ENTRIES = (
    "format=format_name,start_time,duration:stream=codec_type,codec_name,sample_rate,duration:stream_disposition=default"
    ":stream_tags=language,DURATION"
)
_INPUT = "INPUT"
_WITHOUT_TIMES = frozenset({"aac", "ac3", "dts", "eac3", "mlp", "mp3", "truehd"})
"""Containers without time stamps: ffmpeg counts the frames, in the sample rate of the first one."""
_COUNTED = "STARTPTS+NB_CONSUMED_SAMPLES/SR/TB"
"""The time of a frame by the samples before it."""
_MPEG_AUDIO = frozenset({"mp1", "mp2", "mp3"})
_MPEG_RATES_HZ = (8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000)
_NEAR_S = 0.05


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """One audio stream, by its number among the audio streams."""

    number: int
    codec: str
    language: str
    duration_ms: int | None
    default: bool
    rate_hz: int = 0
    """Sample rate at its begin; 0 if it is not known."""
    has_times: bool = True
    """Whether the container has time stamps."""


@dataclass(frozen=True, kw_only=True)
class Media:
    """The output of ffprobe. ``duration_ms`` comes from the header and can be wrong; None if there is none."""

    container: str
    begin_ms: int
    """Time stamp of the first picture or sound, where a player shows time 0."""
    duration_ms: int | None
    tracks: tuple[AudioTrack, ...]

    def track(self, number: int | None) -> AudioTrack:
        """The track with this *number*; None: the default one, else the first. Raises :class:`MediaProblem`."""
        if not self.tracks:
            raise MediaProblem("has no audio stream", "choose a file with sound")
        if number is None:
            return next((track for track in self.tracks if track.default), self.tracks[0])
        if number >= len(self.tracks):
            listed = [f"{track.number} ({track.codec} {track.language:.8})" for track in self.tracks[:_LISTED_TRACKS]]
            more = [f"… up to {len(self.tracks) - 1}"] if len(self.tracks) > _LISTED_TRACKS else []
            raise MediaProblem(
                f"has no audio track {number}", f"use --audio-track with one of: {', '.join(listed + more)}"
            )
        return self.tracks[number]


def probe(path: str) -> Media:
    """Probe the file at the absolute *path* with ffprobe. Raises :class:`MediaProblem` with ffmpeg's message."""
    return _parse_probe(_ffprobe(path, "-show_entries", _ENTRIES))


def offset_ms(path: str, media: Media, track: AudioTrack) -> int:
    """How long after the beginning of the recording *track* begins: the time of its first sample in :func:`decode`.

    Read from the frames: the header has no time for a track that begins after the first megabytes.
    Raises :class:`MediaProblem` like :func:`probe`.
    """
    wanted = ("-show_entries", "frame=best_effort_timestamp_time", "-read_intervals", f"%+#{_FIRST_PACKETS}")
    document = _ffprobe(path, "-select_streams", f"a:{track.number}", *wanted)
    times = (_ms(frame.get("best_effort_timestamp_time")) for frame in _rows(document.get("frames")))
    first_ms = next((time_ms for time_ms in times if time_ms is not None), media.begin_ms)
    return max(0, first_ms - media.begin_ms)


@contextlib.contextmanager
def decode(path: str, track: AudioTrack) -> Iterator[Decoder]:
    """A context with a decoder of one track of the file at the absolute *path*. ffmpeg is stopped at its end."""
    # A placeholder for the name: ffmpeg-python encodes its arguments, and a file name may not be UTF-8.
    graph = ffmpeg.input(_INPUT, vn=None, sn=None, dn=None, **sandbox.INPUT_OPTIONS)
    output = graph.output(
        "pipe:1",
        map=f"0:a:{track.number}",
        # Gaps in the time stamps become silence, so times are those of a player; clean files are unchanged. Gaps under
        # 0.1 s are filled when they add up: a finer limit would remove sound if time stamps jitter.
        # ffmpeg holds a gap in memory: as the last filter, after resampling, it takes a tenth of the memory.
        af=f"{_frame_times(track)},aformat=sample_fmts=s16:sample_rates={SAMPLE_RATE}:channel_layouts=mono,aresample=async=1",
        ac=1,
        ar=SAMPLE_RATE,
        f="s16le",
        # Without this ffmpeg writes each frame at once: forty times as many calls, and 5 % of its time.
        flush_packets=0,
    )
    arguments = [f"file:{path}" if argument == _INPUT else argument for argument in output.get_args()]
    size_bytes = Path(path).stat().st_size
    steps = ["-dts_delta_threshold", str(_LONGEST_HOLE_S), "-dts_error_threshold", str(_LONGEST_HOLE_S)]
    with subprocess.Popen(
        [*sandbox.command("ffmpeg", size_bytes=size_bytes), "-nostdin", "-filter_threads", "1", *steps, *arguments],
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
            yield Decoder(child, path, limit_s=sandbox.longest_s(size_bytes))
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
    return f"asetpts='if(eq(SR,{track.rate_hz}),{times},{_COUNTED})'"


class Decoder:
    """Blocks of int16 samples from a running ffmpeg."""

    def __init__(self, child: subprocess.Popen[bytes], path: str, *, limit_s: int) -> None:
        self._child = child
        self._path = path
        self._limit_s = limit_s
        self._stderr = b""
        self._errors: str | None = None

    def errors_so_far(self) -> str:
        """ffmpeg's messages about errors until now; empty for a clean file."""
        if self._errors is not None:
            return self._errors
        return sandbox.last_lines(self._stderr, self._path) if self._stderr else ""

    def blocks(self) -> Iterator[Pcm]:
        """All samples in order, in blocks of thirty seconds.

        Raises :class:`MediaProblem` if ffmpeg hangs or is stopped, or if there are more samples than the limit.
        """
        filled, left_s = 0, self._limit_s
        block = np.empty(BLOCK_SAMPLES, dtype="<i2")
        while count := self._read_into(block.data.cast("B")[filled:]):
            filled += count
            if filled == block.nbytes:
                if (left_s := left_s - BLOCK_SAMPLES // SAMPLE_RATE) < 0:
                    raise MediaProblem(
                        f"does not end after {self._limit_s / 3600:.0f} h, far more than a file of its size can hold",
                        sandbox.CONVERT,
                    )
                yield block
                # A new array each time: the window keeps parts of the previous ones.
                filled, block = 0, np.empty(BLOCK_SAMPLES, dtype="<i2")
        if filled >= block.itemsize:
            yield block[: filled // block.itemsize]
        try:
            code = self._child.wait(timeout=_STALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise _hangs() from None
        sandbox.check_end("ffmpeg", code, self._stderr)
        self._errors = sandbox.last_lines(self._stderr, self._path) if self._stderr or code else ""

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
                self._stderr = (self._stderr + data)[-4096:]
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


def _ffprobe(path: str, *wanted: str) -> dict[str, Any]:
    command = sandbox.command("ffprobe", size_bytes=0, output_bytes=_PROBE_BYTES)
    command += [part for name, value in sandbox.INPUT_OPTIONS.items() for part in (f"-{name}", value)]
    # Output to files, because their size can be limited. Data from a pipe would first be held in memory.
    with tempfile.TemporaryFile() as stdout, tempfile.TemporaryFile() as stderr:
        try:
            code = subprocess.run(
                [*command, "-of", "json", *wanted, "-i", f"file:{path}"],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                timeout=_PROBE_TIMEOUT_S,
                env=sandbox.environment(),
                start_new_session=True,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise MediaProblem(f"could not be probed within {_PROBE_TIMEOUT_S} s", sandbox.INCOMPLETE) from None
        stdout.seek(0)
        stderr.seek(0)
        return _parse_output(code, stdout.read(_PROBE_BYTES), stderr.read(_PROBE_BYTES), path)


def _parse_output(code: int, stdout: bytes, stderr: bytes, path: str) -> dict[str, Any]:
    sandbox.check_end("ffprobe", code, stderr)
    if b"Format not on whitelist" in stderr:
        raise MediaProblem(
            "is a playlist or another format that is not supported", "use the recording itself, in a media container"
        )
    # Errors of json: neither JSON nor UTF-8, numbers with thousands of digits, thousands of nested brackets.
    with contextlib.suppress(ValueError, RecursionError):
        if code == 0 and isinstance(document := json.loads(stdout), dict):
            return document
    raise MediaProblem(f"is not media that ffmpeg can read: {sandbox.last_lines(stderr, path)}", sandbox.INCOMPLETE)


def _parse_probe(document: dict[str, Any]) -> Media:
    container = _fields(document.get("format"))
    begin_ms = _ms(container.get("start_time")) or 0
    sounds = [stream for stream in _rows(document.get("streams")) if stream.get("codec_type") == "audio"]
    return Media(
        container=_word(container.get("format_name"), "unknown"),
        begin_ms=begin_ms,
        duration_ms=_ms(container.get("duration"), least_s=0),
        tracks=tuple(
            AudioTrack(
                number=number,
                codec=_word(stream.get("codec_name"), "unknown"),
                language=_word(_fields(stream.get("tags")).get("language"), "und"),
                duration_ms=_ms(stream.get("duration"), least_s=0) or _clock_ms(_fields(stream.get("tags")), begin_ms),
                default=_fields(stream.get("disposition")).get("default") == 1,
                rate_hz=_rate_hz(stream.get("sample_rate")),
                has_times=_word(container.get("format_name"), "") not in _WITHOUT_TIMES,
            )
            for number, stream in enumerate(sounds)
        ),
    )


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _word(value: object, otherwise: str) -> str:
    """Up to 64 characters of a printable text; *otherwise* if *value* is not one."""
    return value[:64] if isinstance(value, str) and value and value.isprintable() else otherwise


def _ms(seconds: Any, *, least_s: float = -1e9) -> int | None:
    """Convert ffprobe's decimal strings to ms; None if the value is missing or invalid."""
    with contextlib.suppress(OverflowError, TypeError, ValueError):
        if least_s <= (value := float(seconds)) <= 1e9:
            return round(value * 1000)
    return None


def _rate_hz(value: object) -> int:
    """A sample rate of ffprobe; 0 if it is missing or none that sound has."""
    text = _word(value, "")
    return int(text) if re.fullmatch(r"[1-9]\d{2,6}", text) else 0


def _clock_ms(tags: dict[str, Any], begin_ms: int) -> int | None:
    """The length of a Matroska stream: a tag has the time of its end, in hours, minutes and seconds."""
    found = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", _word(tags.get("DURATION"), ""))
    end_ms = found and _ms(3600 * int(found[1]) + 60 * int(found[2]) + float(found[3]))
    return None if end_ms is None else max(0, end_ms - begin_ms)
