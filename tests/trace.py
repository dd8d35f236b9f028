"""The files and sockets that a command and its children open, as the kernel sees it (strace)."""

import re
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_SYSTEM = ("/usr/", "/lib", "/etc/", "/proc/", "/sys/", "/dev/null", "/opt/", "/snap/")
_CALL = re.compile(r"^(\d+) +(\w+)\((.*)$")
_PATH = re.compile(r'"((?:[^"\\]|\\.)*)"')


@dataclass(frozen=True, kw_only=True)
class Traced:
    """The end of a traced command, and what its processes tried to open, with or without success."""

    code: int
    err: str
    opened: Mapping[int, frozenset[str]]
    """By process: paths outside the system's folders."""
    tools: frozenset[int]
    """The processes that became ffmpeg or ffprobe."""
    sockets: tuple[str, ...]
    """Every call that creates or connects a network socket."""


def trace(command: Sequence[str | bytes | Path], *, cwd: Path, env: Mapping[str, str] | None = None) -> Traced:
    """Run *command* under strace."""
    with tempfile.NamedTemporaryFile(suffix=".strace") as log:
        watch = ["strace", "-f", "--seccomp-bpf", "-xx", "-s", "4096", "-o", log.name]
        watch += ["-e", "trace=open,openat,openat2,creat,socket,connect,sendto,execve"]
        done = subprocess.run([*watch, *command], cwd=cwd, env=env, capture_output=True, check=False)
        return _read(Path(log.name).read_text(encoding="ascii"), done)


def _read(log: str, done: subprocess.CompletedProcess[bytes]) -> Traced:
    opened: dict[int, set[str]] = {}
    tools: set[int] = set()
    sockets: list[str] = []
    for pid, call, rest in (found.groups() for found in map(_CALL.match, log.splitlines()) if found):
        first = next((bytes.fromhex(text.replace("\\x", "")) for text in _PATH.findall(rest)), b"")
        path = first.decode(errors="surrogateescape")
        if call == "execve" and path.endswith(("/ffmpeg", "/ffprobe")):
            tools.add(int(pid))
        elif call.startswith(("open", "creat")):
            opened.setdefault(int(pid), set()).update([path] if not path.startswith(_SYSTEM) else [])
        elif "AF_INET" in rest or "AF_NETLINK" in rest:
            sockets.append(f"{call}({rest}")
    return Traced(
        code=done.returncode,
        err=done.stderr.decode(errors="replace"),
        opened={pid: frozenset(paths) for pid, paths in opened.items()},
        tools=frozenset(tools),
        sockets=tuple(sockets),
    )
