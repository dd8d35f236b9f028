"""The sandbox of ffmpeg's tools, which read untrusted bytes: which files and resources they can use.

Touches: the search path and the environment. It only builds command lines; ``decoder`` and ``probe`` run them. No
shell, an absolute ``file:`` name, only files, only media demuxers (no playlists, which open other files), none of our
environment variables, no written files, limits on memory and CPU. The tools are killed when their parent ends.
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
from controller.intake import demuxers

INCOMPLETE = "check that it is complete and plays in a media player"
CONVERT = "convert it to WAV or FLAC with a tool that you trust, and transcribe the result"

INPUT_OPTIONS = {
    "protocol_whitelist": "file",
    "format_whitelist": demuxers.ALLOWED,
    # Else each video decoder has several threads, each with a stack and an arena: with many cores they alone reach the
    # memory limit. Audio is always decoded by one thread.
    "threads": "1",
}
"""Input options of both tools."""

_MEMORY_BYTES = 2 << 30
_ALLOCATION_BYTES = 512 << 20
"""Enough for the index of a hundred hours of m4a and for an hour of inserted silence; not for a cover of 2 GB."""
_CPU_FLOOR_S = 60
_CPU_CEILING_S = 4 * 3600
_BYTES_A_CPU_S = 4096
"""The slowest real files need a tenth of this time: one second for every 40 KB."""


def command(tool: str, *, size_bytes: int, output_bytes: int = 0, level: str = "error") -> list[str]:
    """The beginning of a command line: *tool* on a file of *size_bytes*, writing files of at most *output_bytes*.

    *level*: which messages it writes.

    Tools of util-linux set the limits and the signal at the parent's end. Without them (macOS) only timeouts protect.
    """
    begin = []
    if sys.platform.startswith("linux"):
        if setpriv := shutil.which("setpriv"):
            begin += [setpriv, "--pdeathsig", "KILL", "--no-new-privs"]
        if prlimit := shutil.which("prlimit"):
            cpu_s = min(_CPU_CEILING_S, _CPU_FLOOR_S + size_bytes // _BYTES_A_CPU_S)
            limits = {"as": _MEMORY_BYTES, "cpu": cpu_s, "fsize": output_bytes, "core": 0, "nofile": 64}
            begin += [prlimit, *(f"--{name}={_lowered(name, limit)}" for name, limit in limits.items())]
    return [*begin, found(tool), "-v", level, "-max_alloc", str(_ALLOCATION_BYTES)]


def _lowered(name: str, limit: int) -> int:
    """*limit*, or the limit of this process if that is lower: only root can raise a limit."""
    own = resource.getrlimit(getattr(resource, f"RLIMIT_{name.upper()}"))[1]
    return limit if own == resource.RLIM_INFINITY else min(limit, own)


def environment() -> dict[str, str]:
    """The environment of the tools: none of our variables, so no credentials, no proxies, no AV_LOG settings."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}


def found(tool: str) -> str:
    """The path of *tool*. Raises :class:`EnvironmentProblem`."""
    path = shutil.which(tool)
    if path is None:
        raise EnvironmentProblem(
            f"{tool} is not on this machine",
            "install ffmpeg: apt-get install ffmpeg, dnf install ffmpeg, brew install ffmpeg",
        )
    return path


def longest_s(size_bytes: int) -> int:
    """The longest audio, in seconds, that a file of this size can have."""
    return longest_recording_ms(size_bytes) // 1000


def check_end(tool: str, code: int, stderr: bytes) -> None:
    """Raise :class:`MediaProblem` if *tool* crashed or reached a limit: then more is missing than a damaged frame."""
    if code < 0:
        raise MediaProblem(
            f"{tool} was ended by {signal.Signals(-code).name}: it crashed, or reached a limit",
            CONVERT,
        )
    if (code and b"Cannot allocate memory" in stderr) or b"Failed to compensate for timestamp delta" in stderr:
        raise MediaProblem(f"{tool} needs more than {_ALLOCATION_BYTES >> 20} MiB at once for it", CONVERT)


def last_lines(stderr: bytes, path: str) -> str:
    """The last two lines of a tool's messages, without the path and the memory addresses before them."""
    text = stderr.replace(os.fsencode(f"file:{path}: "), b"").replace(os.fsencode(path), b"the file")
    lines = [line.strip() for line in text.decode(errors="replace").splitlines() if line.strip()]
    cleaned = [re.sub(r"^(\[[^]]* @ 0x[0-9a-f]+\] *)+", "", line) for line in lines[-2:]]
    return "; ".join(dict.fromkeys(cleaned))[:300] or "no reason given"
