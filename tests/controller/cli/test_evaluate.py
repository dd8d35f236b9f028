"""``stenofleet evaluate`` as it is typed: what it prints and writes, and its exit codes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import html5lib
import pytest

from controller import cli
from controller.evaluation.documents import Evaluation
from controller.evaluation.measure import Files, compare, evaluation
from controller.evaluation.read import of_transcript
from controller.evaluation.words import Text, of_lines
from controller.reports.evaluation_page import page
from tests.controller.domain.test_schema import check
from tests.shown_runs import MARKUP, ShownRun

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.chdir(tmp_path)
    for folder in ("out", "refs"):
        Path(folder).mkdir()

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(["evaluate", *arguments])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return code, printed.out, printed.err

    return run


def put(name: str, text: str) -> None:
    Path(name).write_text(text, encoding="utf-8")


def said(count: int = 30) -> str:
    return "".join(f"This is line {number} of the talk.\n" for number in range(count))


def test_a_transcript_and_its_reference(command: Command) -> None:
    put("refs/talk.txt", said())
    put("out/talk.txt", said().replace("line 7 of", "lime 7 of").replace("line 9 of the", "line 9 the"))
    code, out, err = command("out/talk.txt", "refs/talk.txt", "--worst", "1")
    assert (code, err) == (0, "")
    head, row, _, title, where, reference, transcript, _, last = out.splitlines()
    assert head.split() == "error rate 95 % interval character rate words wrong missing added".split()  # noqa: SIM905
    assert row.split()[-4:] == ["210", "1", "1", "0"]
    assert title == "talk (rules: basic)"
    assert (where, reference, transcript) == (
        "  line 8: 1 error, 7 words",
        "    reference:  this is [line] 7 of the talk",
        "    transcript: this is [lime] 7 of the talk",
    )
    assert last.startswith("word error rate: 0.95 % (95 % interval 0.00 – ")


def test_folders_with_files_that_have_no_counterpart(command: Command) -> None:
    for name in ("out/a.txt", "refs/a.txt", "refs/b.txt", "out/c.srt", "refs/c.txt", "out/d.txt"):
        put(name, said(2))
    put("refs/d.txt", "\n")
    code, out, err = command("out", "refs")
    assert code == 4
    assert out.splitlines()[-1] == "word error rate: 0.00 %"
    assert [line.split(": ")[:3] for line in err.splitlines()] == [
        ["refs/b.txt", "not compared", "there is no transcript for it in out"],
        ["out/c.srt", "not compared", "out/c.srt"],
        ["out/d.txt", "not compared", "the reference has no words"],
    ]
    Path("out/a.txt").unlink()
    code, out, err = command("out", "refs")
    assert (code, out) == (5, "")
    assert command("out", "nowhere")[0] == 2


def test_the_document_the_page_and_the_table(command: Command) -> None:
    put("refs/=1+1.txt", said())
    put("refs/b.txt", "今日は天気がいい")
    put("out/=1+1.txt", said().replace("line 7", "lime 7"))
    put("out/b.txt", "今日は電気がいい")
    files = ("-o", "page.html", "--csv", "table.csv")
    code, out, err = command("out", "refs", "--json", *files)
    assert (code, err) == (0, "")
    check("evaluation", json.loads(out))
    document = Evaluation.decode(out.encode())
    assert [(one.name, one.unit, one.words.wrong) for one in document.recordings] == [
        ("=1+1", "words", 1),
        ("b", "characters", 1),
    ]
    rows = list(csv.DictReader(Path("table.csv").read_text(encoding="utf-8").splitlines()))
    assert [(row["recording"], row["rate"], row["low"] != "") for row in rows] == [
        ("'=1+1", "0.004762", True),
        ("b", "0.125", False),
    ]
    assert "Evaluation of 2 recordings" in Path("page.html").read_text(encoding="utf-8")
    # Its own files are replaced, those of others are kept.
    assert command("out", "refs", *files)[0] == 0
    for name, what in (("page.html", "evaluation"), ("table.csv", "table")):
        put(name, "mine")
        code, _, err = command("out", "refs", *files)
        assert (code, f"{name}: exists, and is no {what} of stenofleet" in err) == (2, True)
        assert Path(name).read_text(encoding="utf-8") == "mine"
        assert command("out", "refs", *files, "--overwrite")[0] == 0


@pytest.mark.parametrize("limit,code", [("0.004762", 0), ("0.0047", 7)])
def test_a_limit(command: Command, limit: str, code: int) -> None:
    put("refs/a.txt", said())
    put("out/a.txt", said().replace("line 7", "lime 7"))
    found, _, err = command("out", "refs", "--max-wer", limit)
    assert found == code
    assert err == ("a: --max-wer: its word error rate is 0.48 %, above 0.47 %\n" if code else "")


def test_what_is_wrong_with_a_file_is_said(command: Command) -> None:
    put("out/a.txt", "9" * 6_000)
    put("refs/a.txt", "a")
    deep = "/".join(["refs", *["d\x01" * 100] * 19])
    Path(deep).mkdir(parents=True)
    put(f"{deep}/b.txt", "b")
    code, _, err = command("out", "refs", "--normalize", "english", "--json")
    assert code == 5
    first, second = err.splitlines()
    assert "d\\x01d" in first
    assert second.endswith("the transcript has numbers that the rules for English cannot read: use --normalize basic")


def test_hostile_words_and_names_stay_text(command: Command) -> None:
    name = MARKUP.replace("/", "\u2215") + "\u202e"
    put(f"refs/{name}.txt", f"{MARKUP} one\x1b[31m two\u202e three\n" * 20)
    put(f"out/{name}.txt", f"{MARKUP} one\x07 too {MARKUP}\n" * 20)
    put("out/'\"><script>.txt", "a")
    code, out, err = command("out", "refs", "--normalize", "none", "-o", "page.html")
    assert code == 4
    assert all(line.isprintable() for line in (out + err).split("\n"))
    text = Path("page.html").read_text(encoding="utf-8")
    assert not any(mark in text for mark in ("\x1b", "\x07", "\u202e"))
    tree = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    names = {one.tag for one in tree.iter() if isinstance(one.tag, str)}
    assert not names & {"script", "img", "iframe", "link"}
    assert not [key for one in tree.iter() for key in one.attrib if key.startswith("on") or key == "style"]
    (policy,) = [one.get("content") for one in tree.iter("meta") if one.get("http-equiv")]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "script-src" not in policy
    shown = ["".join(one.itertext()) for one in tree.iter("td")]
    assert any("<script>alert(1)</script>" in cell for cell in shown)


def test_the_page_of_a_run_with_chunks_seams_and_speakers(tmp_path: Path) -> None:
    run = ShownRun(words=400, lost=(2,))
    words = of_lines("some words that are not the same")
    transcript = of_transcript(run.transcript())
    found = evaluation([compare(Text(words=words), transcript, Files("talk", "a.json", "a.txt"), worst=3)], [])
    text = "".join(page(found))
    html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(text)
    for part in ("At the 4 seams of chunks", "By chunk (5)", "lost", "Passages with most errors", "chunk 0"):
        assert part in text
