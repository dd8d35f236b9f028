"""The file of ``--glossary``, and what the report and the transcript say of its terms."""

from pathlib import Path
from typing import Any

import click
import pytest

from controller.cli.glossary import parse_glossary
from controller.transcript.merge import Merge
from tests import fakes


def read(path: Path) -> tuple[str, ...]:
    return parse_glossary(click.Context(click.Command("x")), click.Option(["--glossary"]), str(path))


def test_a_term_is_a_line(tmp_path: Path) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes("\ufeff# names\r\n Kubernetes=cooper  netties\r\n\r\nZoë\tK.\r\nZoë K.\r\n".encode())
    assert read(path) == ("Kubernetes = cooper netties", "Zoë K.")


@pytest.mark.parametrize("space", ["\u2028", "\x85", "\xa0", "\x0c"])
def test_only_line_feeds_and_carriage_returns_end_a_line(tmp_path: Path, space: str) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes(f"Ann{space}Lee = analy\rZoë\n= x".encode())
    with pytest.raises(click.BadParameter, match="line 3: write a term"):
        read(path)
    path.write_bytes(f"Ann{space}Lee = analy\rZoë\n".encode())
    assert read(path) == ("Ann Lee = analy", "Zoë")


@pytest.mark.parametrize("encoding,mark", [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_a_file_in_utf_16_is_decoded(tmp_path: Path, encoding: str, mark: bytes) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes(mark + "Zoë\r\netcd = et cetera\r\n".encode(encoding))
    assert read(path) == ("Zoë", "etcd = et cetera")


@pytest.mark.parametrize(
    "data,message",
    [
        (b"", "has no terms"),
        (b"# only\n", "has no terms"),
        (b"good\n= sound\n", "line 2: write a term, or: term = sounds like"),
        (b"term =\n", "line 1: write a term"),
        (b"a = b = c\n", "line 1: a term, and what it sounds like, cannot contain '='"),
        ("a".encode("utf-16") + b"\0", "is not UTF-16"),
        (b"x" * 201, "line 1: it has 201 characters, and may have 200"),
        (b"a\x1b[2Jb\n", "line 1: it has control characters"),
        (b"\xff", "is not UTF-8"),
        (b"\n".join(b"t%d" % number for number in range(1001)), "has 1001 terms, and may have 1000"),
        (b"x\n" * (1 << 20), "larger than|File too large"),
    ],
    ids=[
        "empty",
        "comments",
        "no term",
        "no sound",
        "two sounds",
        "half",
        "long",
        "control",
        "encoding",
        "many",
        "large",
    ],
)
def test_a_mistake_is_reported_with_its_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "terms.txt"
    path.write_bytes(data)
    with pytest.raises(click.BadParameter, match=message):
        read(path)


def test_a_missing_file_or_a_folder_is_reported(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(click.BadParameter, match=r"No such file|not a regular file|Is a directory"):
            read(path)


@pytest.mark.parametrize("used,warned", [(2, True), (3, False), (0, False)])
def test_a_glossary_that_does_not_fit_gives_one_warning(used: int, warned: bool) -> None:
    record = fakes.record(glossary=("a", "b", "c"))
    results: list[Any] = [
        fakes.result(fakes.task(record, span), fakes.segment((" a", 0, 500)), glossary_terms=used) for span in (0, 1)
    ]
    merge = Merge(fakes.plan(10_000, 20_000), record, (0, 1))
    list(merge.segments(results))
    message = "only the first 2 of 3 terms of the glossary fit in the model's prompt"
    assert merge.summary().warnings == ((message,) if warned else ())
