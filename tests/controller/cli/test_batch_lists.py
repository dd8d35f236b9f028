"""Lists of recordings: CSV, JSON Lines and names, with options for each; and errors that name the line."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.cli.batch_lists import is_list, read_list
from controller.domain.batches import as_name, as_text
from controller.errors import UsageProblem

pytestmark = pytest.mark.usefixtures("working_folder")


def write(name: str, text: str, encoding: str = "utf-8") -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return name


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_csv_of_any_program(encoding: str, separator: str, end: str) -> None:
    rows = [
        ("File", "output", "lang", "track", "prompt", "label.show"),
        ("a b.wav", "", "Portuguese", "1", f'"one{separator} two"', "news"),
        ("", "", "", "", "", ""),
        ("s3://bucket/x.mp3", "2026/x", "", "", "", ""),
        ("other.wav", "", "Auto", "", "", ""),
    ]
    name = write("lists/l.csv", end.join(separator.join(row) for row in rows) + end, encoding)
    first, second, third = read_list(name)
    assert (first.named.name, first.named.folder, first.output) == ("lists/a b.wav", "", "")
    assert first.options.language == "pt"
    assert first.options.audio_track == 1
    assert first.options.initial_prompt == f"one{separator} two"
    assert first.labels == {"show": "news"}
    assert (second.named.name, second.output, second.labels) == ("s3://bucket/x.mp3", "2026/x", {})
    assert second.options.language is None
    assert third.options.language == "auto"


def test_json_lines() -> None:
    write("terms.txt", "Kubernetes\nMinIO = min eye oh\n")
    lines = [
        '{"source": "x/1.wav", "task": "translate", "labels": {"show": "news"}, "glossary": "terms.txt"}',
        "",
        '{"path": "/abs/2.wav", "hotwords": null, "output": "two"}',
    ]
    first, second = read_list(write("l.jsonl", "\n".join(lines)))
    assert (first.named.name, first.named.folder) == ("x/1.wav", "x")
    assert first.options.task == "translate"
    assert first.options.glossary == ("Kubernetes", "MinIO = min eye oh")
    assert first.labels == {"show": "news"}
    assert (second.named.name, second.output) == ("/abs/2.wav", "two")


def test_a_list_of_names() -> None:
    found = read_list(write("in/list.txt", "x/1.wav\nx/2.wav\n"))
    assert [(one.named.name, one.named.folder) for one in found] == [("in/x/1.wav", "x"), ("in/x/2.wav", "x")]
    assert is_list("s3://bucket/LIST.CSV")
    assert not is_list("talk.wav")


@pytest.mark.parametrize(
    "name,text,message",
    [
        ("l.csv", "", "l.csv, line 1: there is no column source"),
        ("l.csv", "source\n", "l.csv: has no recordings"),
        ("l.csv", "language\nen\n", "l.csv, line 1: there is no column source"),
        ("l.csv", "source,speed\na,1\n", "l.csv, line 1: there is no option 'speed'"),
        ("l.csv", "source,file\na,b\n", "l.csv, line 1: the column source is there twice"),
        ("l.csv", "source,track\na,1\nb\n", "l.csv, line 3: has 1 cells, and the first line has 2"),
        ("l.csv", 'source,prompt\n"a","b\nc"\nd,1,2\n', "l.csv, line 4: has 3 cells, and the first line has 2"),
        ("l.csv", "source,track\na,1\nb,x\n", "l.csv, line 3: track: "),
        ("l.csv", "source,language\na,klingon\n", "l.csv, line 2: language: Whisper knows no language 'klingon'"),
        ("l.csv", "source,glossary\na,none.txt\n", "l.csv, line 2: none.txt: No such file or directory"),
        ("l.csv", "source,output\na,../b\n", "l.csv, line 2: output: '../b' is not a path below the output folder"),
        ("l.csv", "source,output\na,/b\n", "l.csv, line 2: output: '/b' is not a path below the output folder"),
        ("l.csv", 'source\n"a\n', "l.csv, line 2: unexpected end of data"),
        ("l.jsonl", '{"source": "a"}\n{"source": \n', "l.jsonl, line 2: is not JSON"),
        ("l.jsonl", "[1]\n", "l.jsonl, line 1: is not an object"),
        ("l.jsonl", '{"language": "en"}', "l.jsonl, line 1: no source"),
        ("l.jsonl", '{"source": 3}', "l.jsonl, line 1: no source"),
        ("l.jsonl", '{"source": "a", "speed": 1}', "l.jsonl, line 1: there is no option 'speed'"),
        ("l.jsonl", '{"source": "a", "labels": ["x"]}', "l.jsonl, line 1: labels is not an object"),
        ("l.jsonl", '{"source": "a", "labels": {"x": 1}}', "l.jsonl, line 1: labels.x: "),
        ("l.jsonl", "[" * 100_000, "l.jsonl, line 1: is not JSON"),
        ("l.jsonl", '{"source": "a\\u0000b"}', "l.jsonl, line 1: source: is not the name of a file or an object"),
        ("l.jsonl", '{"source": "\\ud800"}', "l.jsonl, line 1: source: is not the name of a file or an object"),
        ("l.csv", "source\n" + "x" * 5_000, "l.csv, line 2: source: is not the name of a file or an object"),
        ("l.jsonl", '{"source": "a", "file": "b"}', "l.jsonl, line 1: source is there twice"),
        ("l.jsonl", '{"source": "a", "source": "b"}', "l.jsonl, line 1: source is there twice"),
        ("l.jsonl", '{"source": "a", "labels": {"x": "1", "x": "2"}}', "l.jsonl, line 1: x is there twice"),
        ("l.jsonl", '{"source": "a", "track": true}', "l.jsonl, line 1: track: is true or false"),
        ("l.jsonl", '{"source": "a", "output": "\\ud800"}', "l.jsonl, line 1: output: "),
        ("l.csv", "source,output\na," + "x" * 5_000, "l.csv, line 2: output: "),
        ("l.txt", "\n", "l.txt is empty"),
        ("l.txt", "\n\n" + "x" * 5_000, "l.txt, line 3: source: "),
        ("l.txt", "\1" * 100, "l.txt: is not a list of file names"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(name: str, text: str, message: str) -> None:
    with pytest.raises(UsageProblem) as problem:
        read_list(write(name, text))
    assert message in problem.value.summary
    assert problem.value.advice


def test_a_list_in_another_encoding_is_told() -> None:
    with pytest.raises(UsageProblem) as problem:
        read_list(write("l.csv", "source\na.wav\nGespräch.wav\n", "windows-1252"))
    assert problem.value.summary == "l.csv, line 3: is not UTF-8"
    with pytest.raises(UsageProblem, match="No such file"):
        read_list("missing.csv")


@given(st.binary(max_size=40))
def test_any_file_name_is_kept_in_text(raw: bytes) -> None:
    name = raw.decode("utf-8", "surrogateescape")
    text = as_text(name)
    text.encode()
    assert as_name(text) == name
