"""The fence around ffmpeg's tools, which meet untrusted bytes: what they may read and take, and how they end.

Touches: the search path and the environment. Builds command lines, starts nothing: that is ``media``'s. No shell, an
absolute ``file:`` name, only files, only media demuxers (never playlists, which open other files), nothing of our
environment, nothing written, limits on memory and CPU, and a death with their parent.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import sys

from controller.domain.plan import longest_recording_ms
from controller.errors import EnvironmentProblem, MediaProblem

INCOMPLETE = "check that it is complete and plays in a media player"
CONVERT = "convert it to WAV or FLAC with a tool you trust it with, and transcribe that"

INPUT_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": (
        "aac,ac3,aiff,amr,ape,asf,au,avi,caf,dts,eac3,flac,flv,gsm,gxf,m4v,matroska,webm,mlp,mov,mp4,m4a,3gp,3g2,mj2,mp3,"
        "mpc,mpc8,mpeg,mpegts,mxf,nut,oga,ogg,oma,rm,tak,truehd,tta,voc,w64,wav,wtv,wv,xwma"
    ),
    # One for each picture decoder otherwise, with a stack and an arena of its own: on many cores they alone reach the
    # memory limit. Sound is decoded by one thread anyway.
    "threads": "1",
}
"""What both tools are told about the file before its name."""

_MEMORY_BYTES = 2 << 30
_ALLOCATION_BYTES = 512 << 20
"""The index of a hundred hours of m4a fits, and an hour of silence in a hole; a cover of 2 GB does not."""
_CPU_FLOOR_S = 60
_CPU_CEILING_S = 4 * 3600
_BYTES_A_CPU_S = 4096
"""The slowest real files take a tenth of that: a second of work for every 40 KB."""


def command(tool: str, *, size_bytes: int, output_bytes: int = 0) -> list[str]:
    """The beginning of a command line: *tool* on a file of *size_bytes*, writing files of at most *output_bytes*.

    util-linux sets limits and the death signal before the tool starts; elsewhere (macOS) the timeouts must do.
    """
    begin = []
    if sys.platform.startswith("linux"):
        if setpriv := shutil.which("setpriv"):
            begin += [setpriv, "--pdeathsig", "KILL", "--no-new-privs"]
        if prlimit := shutil.which("prlimit"):
            cpu_s = min(_CPU_CEILING_S, _CPU_FLOOR_S + size_bytes // _BYTES_A_CPU_S)
            limits = {"as": _MEMORY_BYTES, "cpu": cpu_s, "fsize": output_bytes, "core": 0, "nofile": 64}
            begin += [prlimit, *(f"--{name}={_lowered(name, limit)}" for name, limit in limits.items())]
    return [*begin, found(tool), "-v", "error", "-max_alloc", str(_ALLOCATION_BYTES)]


def _lowered(name: str, limit: int) -> int:
    """*limit*, or this process' own where that is lower: nobody but root may raise it."""
    own = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return limit if own == resource.RLIM_INFINITY else min(limit, own)


def environment() -> dict[str, str]:
    """Nothing of ours: no credentials, no proxies, no AV_LOG surprises."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def found(tool: str) -> str:
    """Where *tool* is. Raises :class:`EnvironmentProblem`."""
    place = shutil.which(tool)
    if place is None:
        raise EnvironmentProblem(
            f"{tool} is not on this machine",
            "install ffmpeg: apt-get install ffmpeg, dnf install ffmpeg, brew install ffmpeg",
        )
    return place


def longest_s(size_bytes: int) -> int:
    """How many seconds of sound a file of that size may hold."""
    return longest_recording_ms(size_bytes) // 1000


def check_end(tool: str, code: int, words: bytes) -> None:
    """Raises :class:`MediaProblem` if *tool* crashed or met a limit: more is missing then than a broken frame."""
    if code < 0:
        raise MediaProblem(
            f"{tool} was ended by {signal.Signals(-code).name}: it crashed, or took more than it is given",
            CONVERT,
        )
    if (code and b"Cannot allocate memory" in words) or b"Failed to compensate for timestamp delta" in words:
        raise MediaProblem(f"{tool} needs more than {_ALLOCATION_BYTES >> 20} MiB at once for it", CONVERT)


def termination_message(stderr: bytes, path: str) -> str:
    """The last two lines of a tool, without the path and the addresses it puts before them."""
    text = stderr.replace(os.fsencode(f"file:{path}: "), b"").replace(os.fsencode(path), b"the file")
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    cleaned = [re.sub(r"^(\[[^]]* @ 0x[0-9a-f]+\] *)+", "", line) for line in lines[-2:]]
    return "; ".join(dict.fromkeys(cleaned))[:300] or "no reason given"
