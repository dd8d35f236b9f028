"""Probes a media file: its container, its audio tracks, and when they begin.

Touches: ffprobe, which reads untrusted bytes inside the ``sandbox``. It is the only client of ffprobe.
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import tempfile
from typing import Any

from controller.errors import MediaProblem
from controller.intake import demuxers, sandbox
from controller.intake.tracks import AudioTrack, Media

_PROBE_TIMEOUT_S = 60
_PROBE_BYTES = 1 << 20
"""Largest output of ffprobe: enough for a thousand tracks. Tags can be as long as the file."""
_FIRST_PACKETS = 64
"""More packets than any decoder reads before its first samples."""
_WITHOUT_TIMES = frozenset({"aac", "ac3", "aptx_hd", "dts", "eac3", "mlp", "mp3", "truehd"})
"""Containers without time stamps: ffmpeg counts the frames, in the sample rate of the first one (aptX HD: wrongly)."""

_ENTRIES = (
    "format=format_name,start_time,duration:stream=codec_type,codec_name,sample_rate,sample_fmt,channels,channel_layout,duration"
    ":stream_disposition=default,attached_pic,comment,descriptions,visual_impaired:stream_tags=language,title,handler_name,DURATION"
)

_UP_TO_16_BITS = frozenset({"s16", "s16p", "u8", "u8p"})
_COMMENTED = ("comment", "descriptions", "visual_impaired")
_COMMENT_TITLE = re.compile(r"comment(ary|aire|ario|o\b)|kommentar|audio ?(be|de)s[ck]ri", re.IGNORECASE)


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
        # ffmpeg puts the name of the format before its message.
        named = re.search(rb"\[([\w,]{1,64}) @ [^\]]*\] Format not on whitelist", stderr)
        raise MediaProblem(*demuxers.refusal(named[1].decode("ascii", "replace") if named else ""))
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
        has_pictures=any(map(_is_video, _rows(document.get("streams")))),
        tracks=tuple(
            AudioTrack(
                number=number,
                codec=_word(stream.get("codec_name"), "unknown"),
                language=_word(_fields(stream.get("tags")).get("language"), "und"),
                duration_ms=_ms(stream.get("duration"), least_s=0) or _clock_ms(_fields(stream.get("tags")), begin_ms),
                default=_fields(stream.get("disposition")).get("default") == 1,
                commented=_is_commented(stream),
                rate_hz=_rate_hz(stream.get("sample_rate")),
                has_fine_samples=_word(stream.get("sample_fmt"), "s16") not in _UP_TO_16_BITS,
                channels=_count(stream.get("channels")),
                has_layout=_word(stream.get("channel_layout"), "unknown") != "unknown",
                has_times=_word(container.get("format_name"), "") not in _WITHOUT_TIMES,
            )
            for number, stream in enumerate(sounds)
        ),
    )


def _is_video(stream: dict[str, Any]) -> bool:
    """Whether a stream is a video, not the cover of a recording."""
    return stream.get("codec_type") == "video" and _fields(stream.get("disposition")).get("attached_pic") != 1


def _is_commented(stream: dict[str, Any]) -> bool:
    """Whether a stream is a commentary or an audio description, by its flags or its title."""
    flags = _fields(stream.get("disposition"))
    # MP4 has the title of a track in the name of its handler.
    tags = _fields(stream.get("tags"))
    titles = " ".join(_word(tags.get(name), "") for name in ("title", "handler_name"))
    return any(flags.get(flag) == 1 for flag in _COMMENTED) or bool(_COMMENT_TITLE.search(titles))


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


def _count(value: object) -> int:
    """A number of channels; 0 if it is missing or none that sound has."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 1_000 else 0


def _rate_hz(value: object) -> int:
    """A sample rate of ffprobe; 0 if it is missing or none that sound has."""
    text = _word(value, "")
    return int(text) if re.fullmatch(r"[1-9]\d{2,6}", text) else 0


def _clock_ms(tags: dict[str, Any], begin_ms: int) -> int | None:
    """The length of a Matroska stream: a tag has the time of its end, in hours, minutes and seconds."""
    found = re.fullmatch(r"(\d{1,6}):(\d\d):(\d\d(?:\.\d+)?)", _word(tags.get("DURATION"), ""))
    end_ms = found and _ms(3600 * int(found[1]) + 60 * int(found[2]) + float(found[3]))
    return None if end_ms is None else max(0, end_ms - begin_ms)
