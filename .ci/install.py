"""Installs locks into an environment: every hash is checked, and nothing is built. By uv in seconds, else by pip.

    python .ci/install.py [--into PYTHON] [--editable FOLDER] [LOCK…]

It needs pip in the environment that runs it, and the standard library. uv is the one on PATH, or pip brings the one
that uv.txt locks, which lies beside the locks. Index, certificates and proxy are pip's: they are handed to uv as
variables of its process alone.
"""

import argparse
import ast
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

# What pip may be told, and how uv is told the same.
SAME = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "trusted-host": "UV_INSECURE_HOST",
    "client-cert": "SSL_CLIENT_CERT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
}
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input")
LOCKED = ("--require-hashes", "--only-binary", ":all:")


def say(text: str) -> None:
    print(f"make: {text}", file=sys.stderr, flush=True)


def pip_settings(listed: str) -> dict[str, str]:
    """What `pip config list` says, of which a variable wins over `install`, and that over `global`."""
    settings: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([a-z-]+)=(.*)$", listed, re.MULTILINE):
            settings[name] = str(ast.literal_eval(value))
    return settings


def uv_environment(settings: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """The variables that have uv use what pip uses by *settings*; *given* is this process's environment."""
    told = {variable: " ".join(settings[name].split()) for name, variable in SAME.items() if settings.get(name)}
    # pip warns of a folder that is not there; uv ends.
    places = [place for place in settings.get("find-links", "").split() if "://" in place or Path(place).exists()]
    if places:
        told["UV_FIND_LINKS"] = ",".join(places)
    # In pip's order, where these two variables win over its own setting; without any, it trusts what the system trusts.
    bundle = given.get("REQUESTS_CA_BUNDLE") or given.get("CURL_CA_BUNDLE") or settings.get("cert")
    if bundle:
        told["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    else:
        told |= {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}  # the second: uv before 0.11
    # uv's own variables win: whoever has set them means uv.
    own = {name: value for name, value in given.items() if name.startswith("UV_")}
    if own.keys() & {"UV_INDEX_URL", "UV_DEFAULT_INDEX"}:
        told.pop("UV_DEFAULT_INDEX", None)
    return given | told | own


def quietly(*command: str | Path, environment: dict[str, str] | None = None) -> str | None:
    """Returns why *command* failed, or None."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as problem:
        return str(problem)
    if done.returncode == 0:
        return None
    said = (done.stderr or done.stdout).split()
    return " ".join(said)[:300] or f"exit code {done.returncode}"


def find_uv(lock: Path) -> str | None:
    """A uv that starts: the machine's, the one beside this interpreter, or the one of *lock*, brought by pip."""
    beside = str(Path(sys.executable).parent)
    for folders in (None, beside):
        found = shutil.which("uv", path=folders)
        if found and quietly(found, "--version") is None:
            return found
    problem = quietly(*PIP, "--quiet", "install", *LOCKED, "-r", lock)
    found = None if problem else shutil.which("uv", path=beside)
    if found and quietly(found, "--version") is None:
        return found
    say(f"pip installs, which takes about a minute: uv cannot be had ({problem or 'it does not start'})")
    return None


def by_uv(uv: str, into: str, locks: list[str], editable: str | None) -> bool:
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    settings = pip_settings(listed)
    environment = uv_environment(settings, dict(os.environ))
    install = (uv, "pip", "install", "--quiet", "--python", into)
    # The hashes say which file is meant, so that any index may bring it, as for pip.
    where = ["--index-strategy", "unsafe-best-match"]
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        where.append("--no-index")
    problem = None
    for lock in locks:
        problem = problem or quietly(*install, *LOCKED, *where, "-r", lock, environment=environment)
    if editable and not problem:
        options = ("--no-deps", "--no-build-isolation", "--reinstall")
        problem = quietly(*install, *options, "--editable", editable, environment=environment)
    if problem:
        say(f"pip installs, which takes about a minute: uv failed ({problem})")
    return not problem


def by_pip(into: str, locks: list[str], editable: str | None, *, again: bool) -> int:
    """*again*: what is there may be half of a package, left by uv."""
    install = [*PIP, "--quiet", *(() if into == sys.executable else ("--python", into)), "install"]
    for lock in locks:
        command = [*install, *LOCKED, *(("--force-reinstall",) if again else ()), "-r", lock]
        if code := subprocess.run(command, check=False).returncode:
            return code
    if editable:
        command = [*install, "--no-deps", "--no-build-isolation", "--editable", editable]
        return subprocess.run(command, check=False).returncode
    return 0


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    parser = argparse.ArgumentParser()
    parser.add_argument("--into", default=sys.executable)
    parser.add_argument("--editable")
    parser.add_argument("locks", nargs="*")
    asked = parser.parse_args()
    if asked.locks:
        say(f"installing {', '.join(asked.locks)}")
    uv = find_uv(Path([*asked.locks, "uv.txt"][0]).with_name("uv.txt"))
    if uv and by_uv(uv, asked.into, asked.locks, asked.editable):
        return 0
    return by_pip(asked.into, asked.locks, asked.editable, again=uv is not None)


if __name__ == "__main__":
    sys.exit(main())
