"""Installs lock files into an environment: every hash is checked, and nothing is built. Uses uv, which is fast, or pip.

    python .ci/install.py [--into PYTHON] [--editable FOLDER] [LOCK…]

It needs only the standard library and pip in the environment that runs it. It uses the uv on PATH, or pip installs the
one that is locked in uv.txt, in the folder of the lock files. Index, certificates and proxy are those of pip: uv gets
them as variables of its process.
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

# Settings of pip, and the variables of uv with the same meaning.
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


def print_message(text: str) -> None:
    print(f"make: {text}", file=sys.stderr, flush=True)


def pip_settings(listed: str) -> dict[str, str]:
    """The settings that `pip config list` prints. Variables win over `install`, and `install` over `global`."""
    settings: dict[str, str] = {}
    for section in ("global", "install", ":env:"):
        for name, value in re.findall(rf"^{section}\.([a-z-]+)=(.*)$", listed, re.MULTILINE):
            settings[name] = str(ast.literal_eval(value))
    return settings


def uv_environment(settings: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """The environment for uv with the same *settings* as pip. *given*: the environment of this process."""
    translated = {variable: " ".join(settings[name].split()) for name, variable in SAME.items() if settings.get(name)}
    # pip only warns about a missing folder, but uv fails.
    links = [link for link in settings.get("find-links", "").split() if "://" in link or Path(link).exists()]
    if links:
        translated["UV_FIND_LINKS"] = ",".join(links)
    # In pip's order: these two variables win over its own setting. Without any, it uses the certificates of the system.
    bundle = given.get("REQUESTS_CA_BUNDLE") or given.get("CURL_CA_BUNDLE") or settings.get("cert")
    if bundle:
        translated["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    else:
        translated |= {"UV_SYSTEM_CERTS": "true", "UV_NATIVE_TLS": "true"}  # the second: uv before 0.11
    # uv's own variables win.
    own = {name: value for name, value in given.items() if name.startswith("UV_")}
    if own.keys() & {"UV_INDEX_URL", "UV_DEFAULT_INDEX"}:
        translated.pop("UV_DEFAULT_INDEX", None)
    return given | translated | own


def quietly(*command: str | Path, environment: dict[str, str] | None = None) -> str | None:
    """Run *command* without output. Returns why it failed, or None."""
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    except OSError as problem:
        return str(problem)
    if done.returncode == 0:
        return None
    words = (done.stderr or done.stdout).split()
    return " ".join(words)[:300] or f"exit code {done.returncode}"


def find_uv(lock: Path) -> str | None:
    """Find a working uv: on PATH, next to this interpreter, or the one of *lock*, installed with pip."""
    own_folder = str(Path(sys.executable).parent)
    for folders in (None, own_folder):
        found = shutil.which("uv", path=folders)
        if found and quietly(found, "--version") is None:
            return found
    problem = quietly(*PIP, "--quiet", "install", *LOCKED, "-r", lock)
    found = None if problem else shutil.which("uv", path=own_folder)
    if found and quietly(found, "--version") is None:
        return found
    print_message(f"pip installs, which takes about a minute: uv is not available ({problem or 'it does not start'})")
    return None


def by_uv(uv: str, into: str, locks: list[str], editable: str | None) -> bool:
    listed = subprocess.run([*PIP, "config", "list"], capture_output=True, text=True, check=False).stdout
    settings = pip_settings(listed)
    environment = uv_environment(settings, dict(os.environ))
    install = (uv, "pip", "install", "--quiet", "--python", into)
    # The hashes identify the files, so any index may be used, as with pip.
    index_options = ["--index-strategy", "unsafe-best-match"]
    if settings.get("no-index", "").lower() in {"1", "true", "yes", "on"}:
        index_options.append("--no-index")
    problem = None
    for lock in locks:
        problem = problem or quietly(*install, *LOCKED, *index_options, "-r", lock, environment=environment)
    if editable and not problem:
        options = ("--no-deps", "--no-build-isolation", "--reinstall")
        problem = quietly(*install, *options, "--editable", editable, environment=environment)
    if problem:
        print_message(f"pip installs, which takes about a minute: uv failed ({problem})")
    return not problem


def by_pip(into: str, locks: list[str], editable: str | None, *, again: bool) -> int:
    """*again*: reinstall, because uv may have left incomplete packages."""
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
        print_message(f"installing {', '.join(asked.locks)}")
    uv = find_uv(Path([*asked.locks, "uv.txt"][0]).with_name("uv.txt"))
    if uv and by_uv(uv, asked.into, asked.locks, asked.editable):
        return 0
    return by_pip(asked.into, asked.locks, asked.editable, again=uv is not None)


if __name__ == "__main__":
    sys.exit(main())
