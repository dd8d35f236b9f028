"""The shell blocks of the README and of docs/: what a reader types, and what the page says is printed.

A block is fenced as ``console``. Lines that begin with ``$`` are commands, those with ``>`` continue them, all others
are shown output, but for the text of a here-document. A comment ``# exit code 4`` behind a command says how it ends;
without one it ends with 0.
"""

import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
README = "README.md"
ON_THIS_MACHINE = {
    README: ("60-second start", "Ways of use"),
    "docs/tutorials/first-transcript.md": (),
    "docs/tutorials/batch.md": (),
    "docs/how-to/transcribe.md": (),
}
"""Pages whose commands tests/s3/test_documented.py types; for the README without those of ON_A_CLUSTER."""
ON_A_CLUSTER = ("docs/tutorials/cluster.md", "docs/tutorials/service.md")
"""Pages whose commands tests/cluster/test_documented.py types. The README repeats some of them."""

RUN_OF_TALK = (
    '$(stenofleet list --json | python -c \'import json, sys; print(next(one["run"] for one in '
    'json.load(sys.stdin)["runs"] if one["name"] == "talk.mp4"))\')'
)
"""What stands for the id that pages show for a run of talk.mp4."""
_SERVERS = ("stenofleet serve", "kubectl port-forward", "stenofleet watch-folder")
"""Commands that run until they are stopped: the reader types the next ones on another terminal."""
_PORT = "8080"
_PROGRESS = re.compile(r"^ *#% \|")
_TIMEOUT_S = 800


@dataclass(frozen=True, kw_only=True)
class Block:
    """A block of commands."""

    heading: str
    """The nearest heading of level 2 above it; empty: none."""
    commands: tuple[str, ...]
    shown: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Typed:
    """What commands did: everything that they printed, and the exit code of the shell."""

    code: int
    printed: str

    def lacks(self, shown: Sequence[str]) -> list[str]:
        """Lines that a page shows and that were not printed; numbers and ids are not compared, ``…`` is anything."""
        there = [_without_numbers(line) for line in self.printed.splitlines()]
        return [line for line in shown if not any(_same(_without_numbers(line), other) for other in there)]


def blocks(page: str) -> list[Block]:
    """All blocks of a page, in their order."""
    found, heading = [], ""
    text = (ROOT / page).read_text(encoding="utf-8")
    for title, body in re.findall(r"(?ms)^## ([^\n]+)$|^```console\n(.*?)^```", text):
        if title:
            heading = title
            continue
        commands: list[str] = []
        shown = []
        for line in body.splitlines():
            if commands and "<<'EOF'" in commands[-1] and not commands[-1].endswith("\nEOF"):
                commands[-1] += f"\n{line}"
            elif line.startswith("$ "):
                commands.append(line.removeprefix("$ "))
            elif line.startswith("> "):
                commands[-1] += f"\n{line.removeprefix('> ')}"
            elif line.strip() not in ("", "…"):
                shown.append(line)
        found.append(Block(heading=heading, commands=tuple(commands), shown=tuple(shown)))
    return found


def shell(commands: Sequence[str], *, port: int) -> str:
    """A script that types them one after the other, and ends with the first that does not do what the page says."""
    lines = ["trap 'kill $(jobs -p) 2>/dev/null' EXIT"]
    for command in (one.replace(_PORT, str(port)) for one in commands):
        lines.append(f"printf '%s\\n' {_quoted(f'$ {command}')}")
        if command.startswith(_SERVERS):
            text = command.partition("  #")[0].rstrip()
            port_option = "" if str(port) in text or not text.startswith("stenofleet serve") else f" --port {port}"
            lines.append(f"{text}{port_option} &")
            if not text.startswith("stenofleet watch-folder"):
                answers = f"curl -s http://127.0.0.1:{port}/healthz >/dev/null"
                lines.append(f"for _ in $(seq 600); do {answers} && break; sleep 0.2; done")
            continue
        expected = re.search(r"# exit code (\d+)", command)
        wanted = expected[1] if expected else "0"
        lines.append(command)
        lines.append(f"CODE=$?; [ $CODE = {wanted} ] || {{ echo exit code $CODE, not {wanted}; exit 99; }}")
    return "\n".join([*lines, ""])


def typed(commands: Sequence[str], folder: Path, env: Mapping[str, str], *, port: int) -> Typed:
    """Type commands in bash, in a folder."""
    done = subprocess.run(
        ["bash", "-c", shell(commands, port=port)], cwd=folder, env=dict(env), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=_TIMEOUT_S, check=False,
    )  # fmt: skip
    return Typed(code=done.returncode, printed=done.stdout.decode("utf-8", "replace"))


def checkout(folder: Path) -> None:
    """Make *folder* look like the folder of this project, without what tests may write to."""
    for entry in ROOT.iterdir():
        if entry.name in (".venv", ".ci", "Makefile", "pyproject.toml") or (
            not entry.name.startswith(".") and entry.name not in ("build", "dist", "k8s")
        ):
            (folder / entry.name).symlink_to(entry)


def environment(folder: Path) -> dict[str, str]:
    """Variables of a reader's shell: no settings, and a home folder of their own."""
    kept = ("PATH", "LANG", "SSL_CERT_FILE", "TMPDIR")
    return {name: os.environ[name] for name in kept if name in os.environ} | {"HOME": str(folder / "home")}


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _without_numbers(line: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"\b[0-9a-f]{8,}\b|[0-9]+", "#", line)).strip()


def _same(shown: str, printed: str) -> bool:
    if _PROGRESS.match(shown):
        return bool(_PROGRESS.match(printed))
    return re.fullmatch(".*".join(re.escape(part) for part in shown.split("…")), printed) is not None
