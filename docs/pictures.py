# ruff: noqa: INP001
"""Draw the README's picture of a terminal: ``stenofleet watch`` while a run is worked on, of which one job was killed.

python docs/pictures.py
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

from chunk_job import crashpoint
from controller import demo
from tests.pipeline import until
from tests.terminals import ENTERED, HOME, Terminal

FILE = Path(__file__).parent / "images" / "terminal.svg"
COLUMNS, LINES = 96, 24
_NOT_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Zac-ln-z]")
_FONTS = re.compile(r"\s*@font-face \{.*?\}\n", re.DOTALL)


def watched(folder: Path) -> str:
    """Return what ``watch`` draws when the killed job is at work again and others have ended: lines with colours."""
    store = folder / "store"
    command = (
        *("env", f"{crashpoint.VARIABLE}=chunk.transcribed.00002.a1=kill"),
        *(sys.executable, "-m", "controller", "transcribe", str(demo.SAMPLE), "-o", str(folder), "--quiet"),
        *("--store", str(store), "--model", str(demo.MODEL), "--language", "en", "--batch-size", "0"),
        *("--chunk-duration", "20", "--chunking-threshold", "0", "--max-parallel", "2", "--threads", "1"),
    )
    worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        until(lambda: any(store.glob("runs/*/status.json")), "the run is in the store")
        watch = ("watch", "--store", str(store))
        terminal = Terminal(*watch, columns=COLUMNS, lines=LINES, env={"TERM": "xterm-256color"})
        try:
            terminal.until("✓ done 5")
            return terminal.raw.partition(ENTERED)[2].split(HOME)[-2]
        finally:
            terminal.close()
    finally:
        worker.wait()


def drawn(lines: str) -> str:
    """Return lines with colours as an SVG that needs no other file."""
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor", highlight=False
    )
    console.print(Text("$ stenofleet watch", style="bold"))
    console.print(Text.from_ansi(_NOT_COLOUR.sub("", lines).replace("\r", "")), end="")
    return _FONTS.sub("", console.export_svg(title="stenofleet", unique_id="terminal"))


def main() -> None:
    """Write it."""
    with tempfile.TemporaryDirectory() as folder:
        FILE.write_text(drawn(watched(Path(folder))), encoding="utf-8")
    sys.stdout.write(f"{FILE}\n")


if __name__ == "__main__":
    main()
