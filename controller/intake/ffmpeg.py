"""Media: probe a file, decode one audio track as a stream of 16 kHz mono samples.

Touches: ffmpeg and ffprobe, which meet untrusted bytes behind the ``fence``. ffmpeg-python builds the argument lists;
we run them. The only client of ffmpeg.
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
"""Thirty seconds a block: a megabyte, which is also what the pipe holds."""

_PROBE_TIMEOUT_S = 60
_STALL_TIMEOUT_S = 120
_SHORT_READ_BYTES = 256 << 10
_PAUSE_S = 0.005
_PROBE_BYTES = 1 << 20
"""What ffprobe may say: a thousand tracks fit. Tags can be as long as the file."""
_TOLD_TRACKS = 8
_FIRST_PACKETS = 64
"""More than any decoder swallows before its first sound."""
_LONGEST_HOLE_S = 3600
"""A longer step of the time stamps is not a hole but another clock: it is closed up."""

_ENTRIES = (
    "format=format_name,start_time,duration:stream=codec_type,codec_name,duration:stream_disposition=default"
    ":stream_tags=language,DURATION"
)
_INPUT = "INPUT"


@dataclass(frozen=True, kw_only=True)
class AudioTrack:
    """One audio stream, by its number among the audio streams."""

    number: int
    codec: str
    language: str
    duration_ms: int | None
    default: bool


@dataclass(frozen=True, kw_only=True)
class Media:
    """What ffprobe says. ``duration_ms`` is a header's claim; None where there is none."""

    container: str
    begin_ms: int
    """What its clock reads where a player's reads 0: the first thing that is shown or heard."""
    duration_ms: int | None
    tracks: tuple[AudioTrack, ...]

    def track(self, number: int | None) -> AudioTrack:
        """The wanted track; None: the one marked default, else the first. Raises :class:`MediaProblem`."""
        if not self.tracks:
            raise MediaProblem("has no audio stream", "choose a file with sound")
        if number is None:
            return next((track for track in self.tracks if track.default), self.tracks[0])
        if number >= len(self.tracks):
            told = [f"{track.number} ({track.codec} {track.language:.8})" for track in self.tracks[:_TOLD_TRACKS]]
            more = [f"… up to {len(self.tracks) - 1}"] if len(self.tracks) > _TOLD_TRACKS else []
            raise MediaProblem(
                f"has no audio track {number}", f"use --audio-track with one of: {', '.join(told + more)}"
            )
        return self.tracks[number]


def probe(path: str) -> Media:
    """Ask ffprobe what is in the file at the absolute *path*. Raises :class:`MediaProblem` with ffmpeg's own words."""
    return _parse_probe(_ffprobe(path, "-show_entries", _ENTRIES))


def offset_ms(path: str, media: Media, track: AudioTrack) -> int:
    """How much later than the recording the first sample that :func:`decode` gives of *track* is heard.

    The frames are asked, not the header: it tells no time for a track that begins behind the first megabytes.
    Raises :class:`MediaProblem` like :func:`probe`.
    """
    wanted = ("-show_entries", "frame=best_effort_timestamp_time", "-read_intervals", f"%+#{_FIRST_PACKETS}")
    document = _ffprobe(path, "-select_streams", f"a:{track.number}", *wanted)
    times = (_ms(frame.get("best_effort_timestamp_time")) for frame in _rows(document.get("frames")))
    first_ms = next((time_ms for time_ms in times if time_ms is not None), media.begin_ms)
    return max(0, first_ms - media.begin_ms)


@contextlib.contextmanager
def decode(path: str, track: AudioTrack) -> Iterator[Decoder]:
    """A stream over one track of the file at the absolute *path*; ffmpeg is gone when the block is left."""
    # A stand-in for the name: ffmpeg-python encodes what it is given, and a name need not be UTF-8.
    graph = ffmpeg.input(_INPUT, vn=None, sn=None, dn=None, **sandbox.INPUT_OPTIONS)
    output = graph.output(
        "pipe:1",
        map=f"0:a:{track.number}",
        # Holes in the time stamps become silence, so times stay a player's; clean files are unchanged. Those under
        # 0.1 s wait until they add up: a finer measure would cut out sound wherever time stamps jitter.
        # A hole is held in memory whole: filled after everything else, an hour takes a tenth of what it took before.
        af=f"aformat=sample_fmts=s16:sample_rates={SAMPLE_RATE}:channel_layouts=mono,aresample=async=1",
        ac=1,
        ar=SAMPLE_RATE,
        f="s16le",
        # ffmpeg writes each frame to a pipe at once otherwise: forty times as many calls, a twentieth of its time.
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
        # Where the system can (Linux): with its 64 KiB a pipe wakes both sides sixteen times as often.
        pipesize=1 << 20,
        env=sandbox.environment(),
        start_new_session=True,
    ) as child:
        try:
            yield Decoder(child, path, limit_s=sandbox.longest_s(size_bytes))
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)


class Decoder:
    """Blocks of int16 samples from a running ffmpeg."""

    def __init__(self, child: subprocess.Popen[bytes], path: str, *, limit_s: int) -> None:
        self._child = child
        self._path = path
        self._limit_s = limit_s
        self._words = b""
        self.complaint = ""
        """ffmpeg's words about what it could not decode; empty for a clean file. Known when the blocks have ended."""

    def blocks(self) -> Iterator[Pcm]:
        """Every sample in order, thirty seconds a block.

        Raises :class:`MediaProblem` when ffmpeg stands still or is stopped, or when there is no end of samples.
        """
        filled, room_s = 0, self._limit_s
        block = np.empty(BLOCK_SAMPLES, dtype="<i2")
        while count := self._read_into(block.data.cast("B")[filled:]):
            filled += count
            if filled == block.nbytes:
                if (room_s := room_s - BLOCK_SAMPLES // SAMPLE_RATE) < 0:
                    raise MediaProblem(
                        f"does not end after {self._limit_s / 3600:.0f} h, far more than a file of its size can hold",
                        sandbox.CONVERT,
                    )
                yield block
                # A new one each time: the tape keeps parts of the last ones.
                filled, block = 0, np.empty(BLOCK_SAMPLES, dtype="<i2")
        if filled >= block.itemsize:
            yield block[: filled // block.itemsize]
        try:
            code = self._child.wait(timeout=_STALL_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise _stood_still() from None
        sandbox.check_end("ffmpeg", code, self._words)
        self.complaint = sandbox.termination_message(self._words, self._path) if self._words or code else ""

    def _read_into(self, room: memoryview) -> int:
        """The next bytes of samples; words on stderr are kept (their end) meanwhile, so that ffmpeg never blocks."""
        # Unbuffered pipes are raw files, whatever the annotations of subprocess say.
        stdout, stderr = cast("io.FileIO", self._child.stdout), cast("io.FileIO", self._child.stderr)
        streams = [stdout, stderr]
        while True:
            ready, _, _ = select.select(streams, [], [], _STALL_TIMEOUT_S)
            if not ready:
                raise _stood_still()
            if stderr in ready:
                words = stderr.read(1 << 16)
                self._words = (self._words + words)[-4096:]
                if not words:
                    streams.remove(stderr)
            if stdout in ready:
                count = stdout.readinto(room)
                if 0 < count < min(len(room), _SHORT_READ_BYTES):
                    # We are faster than ffmpeg: let the pipe fill, instead of waking for each of its frames.
                    time.sleep(_PAUSE_S)
                return count


def _stood_still() -> MediaProblem:
    return MediaProblem(f"ffmpeg stood still for {_STALL_TIMEOUT_S} s", sandbox.INCOMPLETE)


def _ffprobe(path: str, *wanted: str) -> dict[str, Any]:
    command = sandbox.command("ffprobe", size_bytes=0, output_bytes=_PROBE_BYTES)
    command += [part for name, value in sandbox.INPUT_OPTIONS.items() for part in (f"-{name}", value)]
    # Files, for their length can be limited: what a pipe brings would have to be held first.
    with tempfile.TemporaryFile() as told, tempfile.TemporaryFile() as words:
        try:
            code = subprocess.run(
                [*command, "-of", "json", *wanted, "-i", f"file:{path}"],
                stdin=subprocess.DEVNULL,
                stdout=told,
                stderr=words,
                timeout=_PROBE_TIMEOUT_S,
                env=sandbox.environment(),
                start_new_session=True,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise MediaProblem(f"could not be probed within {_PROBE_TIMEOUT_S} s", sandbox.INCOMPLETE) from None
        told.seek(0)
        words.seek(0)
        return _answer(code, told.read(_PROBE_BYTES), words.read(_PROBE_BYTES), path)


def _answer(code: int, told: bytes, words: bytes, path: str) -> dict[str, Any]:
    sandbox.check_end("ffprobe", code, words)
    if b"Format not on whitelist" in words:
        raise MediaProblem(
            "is a playlist or another format that is not read here", "name the recording itself, in a media container"
        )
    # Neither JSON nor UTF-8, thousands of digits in a number, as many brackets in each other.
    with contextlib.suppress(ValueError, RecursionError):
        if code == 0 and isinstance(document := json.loads(told), dict):
            return document
    raise MediaProblem(
        f"is not media that ffmpeg can read: {sandbox.termination_message(words, path)}", sandbox.INCOMPLETE
    )


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
            )
            for number, stream in enumerate(sounds)
        ),
    )


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rows(value: object) -> list[dict[str, Any]]:
    return [row for row in value if isinstance(row, dict)] if isinstance(value, list) else []


def _word(value: object, otherwise: str) -> str:
    """Up to 64 characters of a text that can be shown; *otherwise* where there is none."""
    return value[:64] if isinstance(value, str) and value and value.isprintable() else otherwise


def _ms(seconds: Any, *, least_s: float = -1e9) -> int | None:
    """ffprobe's decimal strings as ms; None for what is missing or nonsense."""
    with contextlib.suppress(OverflowError, TypeError, ValueError):
        if least_s <= (value := float(seconds)) <= 1e9:
            return round(value * 1000)
    return None


def _clock_ms(tags: dict[str, Any], begin_ms: int) -> int | None:
    """Matroska keeps in a tag where a stream ends, in hours, minutes and seconds of its own clock."""
    found = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", _word(tags.get("DURATION"), ""))
    end_ms = found and _ms(3600 * int(found[1]) + 60 * int(found[2]) + float(found[3]))
    return None if end_ms is None else max(0, end_ms - begin_ms)
