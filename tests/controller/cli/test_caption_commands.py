"""Captions through the command line: ``render`` with a profile, and ``captions check``."""

from __future__ import annotations

import html
import json
import os
from pathlib import Path

import pysubs2
import pytest
import webvtt

from chunk_job.store.files import FileStore
from controller.cli import run
from controller.cli.caption_options import NAMES, taken
from controller.cli.requests import same_files
from controller.domain.captions import PROFILES
from controller.domain.documents import Request
from controller.domain.output import Output
from controller.errors import UsageProblem
from controller.runs.outputs import write_outputs
from controller.runs.stored_transcript import rendered
from controller.transcript.formats import FORMATS
from controller.transcript.merge import merge
from tests import fakes

TEXT = (
    "On 3 May 1999 Dr. Smith said {that} the old bridge & its two towers would be closed for about 10 000 cars a day,"
    " because nobody had looked at the cables since the war. Was it true? Nobody knew. שלום"
)
LIMITS = dict.fromkeys(NAMES) | {
    "caption_profile": "whisper",
    "highlight_words": False,
    "name_template": "{stem}.{ext}",
    "speaker_names": (),
}


@pytest.fixture
def talk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: FileStore) -> Path:
    """The JSON of a transcript of two minutes, in the current folder."""
    for name in os.environ:
        if name.startswith("STENOFLEET"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    words = [(f" {word}", 300 * number, 300 * number + 290) for number, word in enumerate((TEXT + " ").split() * 8)]
    record = fakes.record(name="talk.mp4")
    segments = [fakes.segment(*words[start : start + 11]) for start in range(0, len(words), 11)]
    document = merge(fakes.plan(120_000), record, [fakes.result(fakes.task(record, 0, 120_000), *segments)])
    Path("talk.json").write_text(FORMATS["json"](document), encoding="utf-8")
    return Path("talk.json")


def squeezed(text: str) -> str:
    return "".join(text.replace("\u200f", "").split())


@pytest.mark.parametrize("profile", ["broadcast", "netflix"])
def test_files_of_a_profile_keep_its_limits_and_every_word(
    talk: Path, profile: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["render", "talk.json", "-o", "out", "-f", "srt,vtt,ass,lrc", "--caption-profile", profile]) == 0
    expected = squeezed(TEXT * 8)
    vtt = webvtt.read("out/talk.vtt").captions
    srt = webvtt.from_srt("out/talk.srt").captions
    assert squeezed(html.unescape("".join(cue.text for cue in vtt))) == expected
    assert squeezed("".join(cue.text for cue in srt)) == expected
    assert [cue.start for cue in vtt] == [cue.start for cue in srt]
    assert len(pysubs2.load("out/talk.srt", format_="srt")) == len(srt)
    ass = pysubs2.load("out/talk.ass")
    assert len(ass) == len(srt)
    assert squeezed("".join(line.plaintext for line in ass)) == expected.replace("{", "｛").replace("}", "｝")
    lyrics = Path("out/talk.lrc").read_text(encoding="utf-8").splitlines()
    assert squeezed("".join(line.partition("]")[2] for line in lyrics)) == expected
    for extension in ("srt", "vtt"):
        capsys.readouterr()
        run(["captions", "check", f"out/talk.{extension}", "--profile", profile, "--json"])
        facts = json.loads(capsys.readouterr().out)
        assert facts["cues"] == len(srt) > 20
        assert [one for one in facts["violations"] if one["rule"] != "speed"] == []


def test_without_options_the_captions_are_as_before(talk: Path) -> None:
    assert run(["render", "talk.json", "-o", "plain"]) == 0
    assert run(["render", "talk.json", "-o", "whisper", "--caption-profile", "whisper"]) == 0
    assert sorted(path.name for path in Path("plain").iterdir()) == sorted(f"talk.{name}" for name in FORMATS)
    for path in Path("plain").iterdir():
        assert path.read_bytes() == Path("whisper", path.name).read_bytes()


def test_highlighted_words_are_one_cue_each(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ["-f", "srt,vtt,ass,lrc", "--caption-profile", "netflix", "--highlight-words"]
    assert run(["render", "talk.json", "-o", "out", *chosen]) == 0
    marked = Path("out/talk.srt").read_text(encoding="utf-8")
    assert marked.count("<u>") == len(TEXT.split()) * 8 == len(pysubs2.load("out/talk.srt", format_="srt"))
    assert [int(block.split("\n")[0]) for block in marked.strip().split("\n\n")] == list(
        range(1, marked.count("<u>") + 1)
    )
    assert Path("out/talk.ass").read_text(encoding="utf-8").count("{\\k") == marked.count("<u>")
    assert Path("out/talk.lrc").read_text(encoding="utf-8").count("<0") == marked.count("<u>")
    assert run(["render", "--highlight_words", "True", "talk.json", "-o", "same", *chosen[:-1]]) == 0
    assert run(["render", "--highlight-words", "talk.json", "-o", "alike", *chosen[:-1]]) == 0
    for folder in ("same", "alike"):
        assert Path(folder, "talk.srt").read_text(encoding="utf-8") == marked
    capsys.readouterr()
    assert run(["captions", "check", "out/talk.vtt", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["violations"]
    assert {one["rule"] for one in found} <= {"speed"}


def test_strict_is_an_exit_code_of_its_own(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.srt").write_text(f"1\n00:00:01,000 --> 00:00:04,000\n{'x' * 45}\n\n", encoding="utf-8")
    assert run(["captions", "check", "a.srt"]) == 0
    message = capsys.readouterr()
    assert message.out == "cue 1 at 00:00:01.000: too wide: 45 columns (at most 42)\n"
    assert "a.srt: 1 of 1 cues break the profile netflix (1 violation)" in message.err
    assert run(["captions", "check", "a.srt", "--strict"]) == 7
    Path("b.srt").write_text("1\n00:00:01,000 --> 00:00:04,000\nfine\n\n", encoding="utf-8")
    assert run(["captions", "check", "b.srt", "--strict"]) == 0


@pytest.mark.parametrize(
    "option, value, found",
    [
        ("--max-line-width", "10", "too wide: 12 columns (at most 10)"),
        ("--max-line-count", "1", "too many lines: 2 (at most 1)"),
        ("--max-words-per-line", "1", "too many words in a line: 2 (at most 1)"),
        ("--max-cue-duration", "1.5", "too long: 2 s (at most 1.5 s)"),
        ("--min-cue-duration", "2.5", "too short: 2 s (at least 2.5 s)"),
        ("--max-cps", "5", "too fast: 9 columns per second (at most 5)"),
        ("--min-gap", "0.2", "too near: 0.1 s after the cue before it (at least 0.2 s)"),
    ],
)
def test_a_check_takes_the_limits_of_captions(
    talk: Path, option: str, value: str, found: str, capsys: pytest.CaptureFixture[str]
) -> None:
    first = "1\n00:00:00,000 --> 00:00:00,900\nHello\n\n"
    Path("a.srt").write_text(f"{first}2\n00:00:01,000 --> 00:00:03,000\nlong enough.\nlines.\n\n", encoding="utf-8")
    assert run(["captions", "check", "a.srt", "--strict"]) == 0
    capsys.readouterr()
    assert run(["captions", "check", "a.srt", "--profile", "netflix", option, value, "--strict"]) == 7
    message = capsys.readouterr()
    assert f"cue 2 at 00:00:01.000: {found}" in message.out.split("\n")
    assert "break the profile netflix with other limits" in message.err
    run(["captions", "check", "a.srt", option, value, "--json"])
    limits = json.loads(capsys.readouterr().out)["limits"]
    usual = PROFILES["netflix"].model_dump()
    assert len([name for name, limit in limits.items() if limit != usual[name]]) == 1


def test_a_check_refuses_limits_that_contradict_each_other(talk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["captions", "check", "a.srt", "--max-cue-duration", "0.5"]) == 2
    message = capsys.readouterr().err
    assert "captions: the shortest cue (834 ms) is longer than the longest (500 ms)" in message
    assert "change --profile" in message


def test_settings_for_writing_captions_do_not_change_a_check(
    talk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("a.srt").write_text("1\n00:00:01,000 --> 00:00:03,000\nTen columns wide?\n\n", encoding="utf-8")
    monkeypatch.setenv("STENOFLEET_MAX_LINE_WIDTH", "10")
    assert run(["captions", "check", "a.srt", "--strict"]) == 0


@pytest.mark.parametrize("name, why", [("none.srt", "No such file"), ("talk.json", "line 1: ")])
def test_a_file_that_is_not_of_captions_is_a_usage_error(
    talk: Path, name: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["captions", "check", name]) == 2
    message = capsys.readouterr().err
    assert f"{name}: {why}" in message
    assert "give an srt or vtt file" in message


def test_options_change_the_limits_of_the_profile() -> None:
    assert taken(dict(LIMITS)).style is None
    assert taken(LIMITS | {"caption_profile": "netflix"}).style == PROFILES["netflix"]
    changed = taken(LIMITS | {"caption_profile": "broadcast", "max_line_width": 30, "min_gap": 0.2}).style
    assert changed == PROFILES["broadcast"].model_copy(update={"max_line_width": 30, "min_gap_ms": 200})
    alone = taken(LIMITS | {"max_words_per_line": 3}).style
    assert alone == PROFILES["whisper"].model_copy(update={"max_words_per_line": 3})
    with pytest.raises(UsageProblem, match="the shortest cue"):
        taken(LIMITS | {"max_cue_duration": 1.0, "min_cue_duration": 2.0})


@pytest.mark.parametrize("language, name", [("en", "talk.en.srt"), (None, "talk.und.srt")])
def test_the_language_may_be_a_part_of_the_name(talk: Path, language: str | None, name: str) -> None:
    document = json.loads(talk.read_text(encoding="utf-8")) | {"language": language}
    talk.write_text(json.dumps(document), encoding="utf-8")
    template = ["--name-template", "{stem}.{language}.{ext}"]
    assert run(["render", "talk.json", "-o", "out", "-f", "srt,json", *template]) == 0
    assert sorted(os.listdir("out")) == [name.replace("srt", "json"), name]


@pytest.mark.parametrize(
    "template, why",
    [
        ("{stem}.{lang}.{ext}", "{lang} is not a part of a name: use {stem}, {language} and {ext}"),
        ("{stem}.srt", "{ext} is missing"),
        ("{language}.{ext}", "{stem} is missing"),
        ("{stem!r}.{ext}", "{stem} is not a part of a name"),
        ("a/{stem}.{ext}", "a name contains no slash"),
        ("{stem}.{ext", "expected '}'"),
    ],
)
def test_a_template_is_checked_before_the_work(
    talk: Path, template: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["transcribe", "missing.mp4", "--name-template", template]) == 2
    assert why in " ".join(capsys.readouterr().err.split())


def test_a_run_writes_its_outputs_in_the_style_and_with_the_names_of_its_request(talk: Path) -> None:
    with talk.open("rb") as file:
        files = rendered(file)
    base = (Path.cwd() / "place" / "talk").as_uri()
    template = "{language}-{stem}.{ext}"
    output = Output(
        base=base, formats=("srt", "ass"), captions=PROFILES["netflix"], name_template=template, speakers=("Anna",)
    )
    record = fakes.record(name="talk.mp4")
    request = fakes.request(record).model_copy(update={"outputs": (output,)})
    found = write_outputs(Request.decode(request.encode()), files)
    assert [Path(path).name for path in found.files] == ["en-talk.srt", "en-talk.ass"]
    assert run(["render", "talk.json", "-o", "out", "-f", "srt,ass", "--caption-profile", "netflix"]) == 0
    for extension in ("srt", "ass"):
        assert Path(f"place/en-talk.{extension}").read_bytes() == Path(f"out/talk.{extension}").read_bytes()
    kept = {"captions": PROFILES["netflix"].model_dump(), "name_template": template, "speakers": ("Anna",)}
    assert same_files(request) == kept
