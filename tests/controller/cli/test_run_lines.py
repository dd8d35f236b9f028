"""The picture of runs in a terminal: it fits, says everything by signs and words, and shows untrusted text as text."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from chunk_job.store.files import FileStore
from controller.cli.fitting import Space, shares
from controller.cli.run_lines import picture
from controller.domain.documents import StoredState
from controller.reports.build import build
from controller.reports.run_view import RunView
from controller.reports.stored_run import read_documents, status_only
from controller.runs.lookup import StoredRun
from tests import fakes
from tests.shown_runs import ShownRun

ROOMY = Space(width=120, height=60)
EVIL = "a\x1b[2J\x9b31m\u202eb\x00\r\n[bold red]c[/]"


@pytest.fixture
def view(tmp_path: Path) -> Any:
    """Make the view of a run that is in this state."""

    def made(run: ShownRun, state: StoredState, **outcome: Any) -> RunView:
        store = FileStore(tmp_path / f"store{len(list(tmp_path.iterdir()))}")
        run.put(store, state, **outcome)
        documents = read_documents(store, fakes.RUN)
        assert documents
        # That of a process which reported long ago is `interrupted`.
        return build(replace(documents, state=state))

    return made


RUNS: dict[str, tuple[ShownRun, StoredState]] = {
    "complete": (ShownRun(failed=(3,), warnings=("it may be wrong",)), "complete"),
    "partial": (ShownRun(chunks=12, lost=(2,)), "partial"),
    "not cut": (ShownRun(done=0), "failed"),
    "running": (ShownRun(chunks=60, done=40, failed=(1, 50)), "running"),
    "many": (ShownRun(chunks=3000, done=1200, failed=(1, 44, 2999)), "running"),
}


def texts(lines: Any) -> list[str]:
    return [line.plain.rstrip() for line in lines]


@pytest.mark.parametrize("name", RUNS)
def test_a_picture_fits_every_terminal(view: Any, name: str) -> None:
    shown = view(*RUNS[name])
    for width in (1, 8, 30, 61, 240):
        for height in (1, 2, 3, 5, 9, 24, 60):
            for views in ([shown], [shown] * 3):
                for space in (
                    Space(width=width, height=height),
                    Space(width=width, height=height, encoding="ascii", plain=True),
                ):
                    lines = picture(views, space)
                    assert 0 < len(lines) <= height
                    assert all(cell_len(line.plain) <= width for line in lines)
                    assert not space.plain or all(line.plain.isascii() for line in lines)


def test_a_picture_has_the_facts_of_the_page(view: Any) -> None:
    lines = texts(picture([view(*RUNS["running"])], ROOMY))
    whole = "\n".join(lines)
    assert lines[0] == "▶ running  Board meeting 2026-11-20.mp4"
    assert "63 %" in lines[1]
    assert "40 of 60 chunks · failed attempts 2 · model large-v3 · run 0123456789abcdef" in whole
    assert "✓ done 39   + done after a failure 1   ▶ running 3   ↻ to be tried again 1   · not done 16" in lines
    grid = lines.index(next(line for line in lines if line.startswith("── Chunks"))) + 2
    assert lines[grid] == " 0 ✓+✓✓✓✓✓✓✓✓ ✓✓✓✓✓✓✓✓✓✓ ✓✓✓✓✓✓✓✓✓✓ ✓✓✓✓✓✓✓✓✓✓ ▶▶▶······· ↻·········"
    assert any(line.startswith("▶ chunk 40   running  ━━━━──────  42 %  on gpu-") for line in lines)
    assert "✕ chunk 50, attempt 1 on gpu-2: NATIVE_CRASH" in lines
    assert "  What to do: the log has the Python stack; it is tried again" in lines
    assert '  │   File "chunk_job/engine/decode.py", line 121 in decode' in lines
    assert lines.index("✕ chunk 50, attempt 1 on gpu-2: NATIVE_CRASH") < lines.index(
        "✕ chunk 1, attempt 1 on gpu-2: NATIVE_CRASH"
    ), "what is still open comes first"
    assert any(line.startswith("◆ cut ░▆▆▆") for line in lines)
    assert "· waits for its turn   ░ starts: node, image   ▆ works   × failed   ◆ critical path" in lines


def test_of_an_ended_run_the_parts_of_its_jobs_are_shown(view: Any) -> None:
    lines = texts(picture([view(*RUNS["complete"])], ROOMY))
    assert "Warning: it may be wrong" in lines
    assert any("took 2 min 30 s (24.0 x real time) · GPU time 4 min 00 s" in line for line in lines)
    (row,) = [line for line in lines if line.startswith("    3 ")]
    parts = row.replace(" ", "")
    assert [sign for at, sign in enumerate(parts) if parts[at - 1] != sign][1:9] == list("·░×·░▒█▓")


def test_what_there_is_no_room_for_is_counted(view: Any) -> None:
    lines = texts(picture([view(*RUNS["many"])], Space(width=60, height=24)))
    assert any("to a sign: the worst of them" in line for line in lines)
    grid = [line for line in lines if (line[:5].strip().isdigit() and "✓" in line) or "·" * 10 in line]
    assert "".join(grid).count("+") == 2
    assert grid[-1].endswith("↻"), "the chunk that failed is not hidden by those beside it"
    assert "  2 more: stenofleet logs 0123456789abcdef" in lines
    assert any(line.endswith(" more chunks are not shown") for line in lines)


def test_of_several_runs_those_that_go_on_come_first(view: Any) -> None:
    waiting = build(status_only(StoredRun(run="b" * 16, end="", status=ShownRun(name="next.mp4").status("waiting"))))
    views = [view(*RUNS["complete"]), waiting, view(*RUNS["running"])]
    lines = texts(picture(views, Space(width=100, height=30)))
    assert lines[0] == "3 runs · 1 complete · 1 running · 1 waiting"
    heads = [line for line in lines if line.endswith((".mp4", "chunks")) and line[:1] in "▶…✓"]
    assert [line.split()[1] for line in heads] == ["waiting", "running", "complete"]
    assert len(picture(views, Space(width=100, height=3))) == 3
    assert texts(picture(views, Space(width=100, height=3)))[-1] == "2 more runs are not shown"


def test_untrusted_text_is_only_text(view: Any) -> None:
    run = ShownRun(chunks=3, lost=(1,), warnings=(EVIL,))
    run.record = run.record.model_copy(update={"name": EVIL.replace("/", "").replace("\0", "")})
    evidence = run.evidence()
    spoiled = [one.model_copy(update={"summary": EVIL, "advice": EVIL, "details": (EVIL,)}) for one in evidence]
    run.evidence = lambda: spoiled  # type: ignore[method-assign]
    lines = picture([view(run, "partial", summary=EVIL, advice=EVIL)], ROOMY)
    whole = "\n".join(line.plain for line in lines)
    assert whole.replace("\n", "").isprintable()
    assert whole.count("a\\x1b[2J\\x9b31m\\u202eb") == whole.count("[bold red]c[") == 7


def test_a_terminal_gets_only_characters_that_it_can_show(view: Any) -> None:
    run = ShownRun(name="Rat für München 会議.mp4")
    latin_1 = texts(picture([view(run, "complete")], Space(width=80, height=24, encoding="latin-1", plain=True)))
    assert latin_1[0] == "= complete  Rat für München \\u4f1a\\u8b70.mp4"
    assert texts(picture([view(run, "complete")], Space(width=24, height=24)))[0] == "✓ complete  Rat für Mün…"
    wide = texts(picture([view(ShownRun(name="会議" * 20 + ".mp4"), "complete")], Space(width=24, height=24)))
    assert wide[0] == "✓ complete  会議会議会 …"


@given(st.integers(0, 100), st.lists(st.tuples(st.integers(1, 9), st.integers(1, 50)), max_size=8))
def test_lines_are_shared_out(height: int, wants: list[tuple[int, int]]) -> None:
    wants = [(min(pair), max(pair)) for pair in wants]
    given_lines = shares(height, wants)
    assert sum(given_lines) <= height
    for got, (least, most) in zip(given_lines, wants, strict=True):
        assert got == 0 or least <= got <= most
    if sum(given_lines) < height:
        left = height - sum(given_lines)
        assert all(
            got == most or (got == 0 and least > left) for got, (least, most) in zip(given_lines, wants, strict=True)
        )
