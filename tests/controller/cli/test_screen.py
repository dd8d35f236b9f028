"""``stenofleet watch`` on a real terminal: it fills it, follows its size, and leaves it as it was."""

import re
import signal
import time
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.cli.screen import characters
from tests.shown_runs import KEYS, ShownRun
from tests.terminals import ENTERED, LEFT, terminal

pytestmark = pytest.mark.process

SHOW_CURSOR = "\x1b[?25h"
COLOUR = re.compile(r"\x1b\[[\d;]*3\dm")


def put_running(store: FileStore, run: ShownRun) -> None:
    """Put a run that is being worked on now."""
    run.put(store, "running")
    status = run.status("running").model_copy(update={"updated_ms": time.time_ns() // 1_000_000})
    store.put(KEYS.status, status.encode())


def test_a_terminal_is_filled_and_its_size_is_followed(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    put_running(store, ShownRun(chunks=60, done=40, failed=(1,)))
    with terminal("watch", "--store", store.url, columns=120, lines=40) as screen:
        picture = screen.picture(40)
        assert picture[0] == "▶ running  Board meeting 2026-11-20.mp4"
        assert max(map(len, picture)) == 120
        screen.resize(60, 24)
        assert max(map(len, screen.picture(24))) == 60
        assert COLOUR.search(screen.raw)
        screen.process.send_signal(signal.SIGTERM)
        assert screen.ended() == 128 + signal.SIGTERM
        assert screen.raw.index(ENTERED) < screen.raw.index(LEFT)
        assert SHOW_CURSOR in screen.raw
        assert screen.left_behind[0] == "▶ running  Board meeting 2026-11-20.mp4"
        assert len(screen.left_behind) < 24


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"LC_ALL": "C"}, {"TERM": "dumb"}], ids=str)
def test_terminals_that_can_do_less(tmp_path: Path, env: dict[str, str]) -> None:
    store = FileStore(tmp_path / "store")
    ShownRun(chunks=12, lost=(2,)).put(store, "partial")
    with terminal("watch", KEYS.run, "--store", store.url, columns=60, lines=24, **env) as screen:
        assert screen.ended() == 4
        assert f"{KEYS.run}: partial" in screen.left_behind
        assert (COLOUR.search(screen.raw) is None) == (env != {"LC_ALL": "C"})
        assert screen.raw.isascii() == (env != {"NO_COLOR": "1"})
        if "TERM" in env:
            assert screen.raw.startswith("100% | ")
            assert "\x1b" not in screen.raw
        else:
            crossed = {"NO_COLOR": "✕", "LC_ALL": "X"}[next(iter(env))]
            assert f"{crossed} chunk 2, attempts 1, 2, 3 on gpu-2: NATIVE_CRASH" in screen.left_behind


@pytest.mark.parametrize(
    "encoding,environment,shown",
    [
        ("utf-8", {}, "utf-8"),
        ("utf-8", {"LANG": "de_DE.UTF-8", "TERM": "xterm"}, "utf-8"),
        ("utf-8", {"LC_ALL": "C.UTF-8", "LANG": "C"}, "utf-8"),
        ("utf-8", {"LC_ALL": "", "LC_CTYPE": "POSIX", "LANG": "de_DE.UTF-8"}, "ascii"),
        ("utf-8", {"TERM": "linux"}, "ascii"),
        ("iso8859-1", {"LANG": "C"}, "iso8859-1"),
    ],
)
def test_the_characters_that_a_terminal_shows(encoding: str, environment: dict[str, str], shown: str) -> None:
    assert characters(encoding, environment) == shown
