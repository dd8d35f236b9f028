"""Which reference belongs to which transcript."""

from pathlib import Path

import pytest

from controller.errors import UsageProblem
from controller.evaluation.normalize import NotComparable
from controller.evaluation.pairs import pairs, references

NFC, NFD = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a", encoding="utf-8")


def found(transcripts: str, wanted: str) -> tuple[dict[str, str], dict[str, str]]:
    every = pairs(Path(transcripts), Path(wanted))
    return {str(a): str(b) for a, b in every.found}, {str(path): why for path, why in every.alone}


def test_two_files_are_a_pair_whatever_their_names(folder: Path) -> None:
    put("a.json", "b.TXT")
    assert found("a.json", "b.TXT") == ({"a.json": "b.TXT"}, {})


def test_names_match_and_what_is_alone_is_said(folder: Path) -> None:
    put("out/a.json", "out/a.txt", "out/a.srt", "out/b.vtt", "out/notes.md", "out/.hidden.txt", "out/.git/x.txt")
    put("refs/a.txt", "refs/c.srt")
    assert found("out", "refs") == (
        {"out/a.json": "refs/a.txt"},
        {
            "out/b.vtt": "there is no reference: no b with .json, .vtt, .srt, .txt in refs",
            "refs/c.srt": "there is no transcript for it in out",
        },
    )
    assert found("out/a.srt", "refs") == ({"out/a.srt": "refs/a.txt"}, {})


def test_of_equal_names_the_folders_decide(folder: Path) -> None:
    put("out/x/1.json", "out/y/1.json", "refs/x/1.txt", "refs/y/1.txt", "flat/1.txt", "out/3.json", "refs/x/3.txt")
    assert found("out", "refs")[0] == {
        "out/x/1.json": "refs/x/1.txt",
        "out/y/1.json": "refs/y/1.txt",
        "out/3.json": "refs/x/3.txt",
    }
    assert found("out/x", "flat")[0] == {"out/x/1.json": "flat/1.txt"}
    with pytest.raises(NotComparable, match=r"not clear which .*: refs/x/1.txt or refs/y/1.txt"):
        references(Path("refs")).find("1")
    assert references(Path("refs")).find("2.wav", "1", folders=("/", "in", "y")) == Path("refs/y/1.txt")


def test_a_reference_belongs_to_the_recording_in_its_own_folder(folder: Path) -> None:
    put("out/cd1/01.json", "out/cd2/01.json", "out/cd2/02.json", "refs/cd1/01.txt", "refs/cd1/02.txt")
    assert found("out", "refs") == (
        {"out/cd1/01.json": "refs/cd1/01.txt", "out/cd2/02.json": "refs/cd1/02.txt"},
        {"out/cd2/01.json": "there is no reference: refs/cd1/01.txt belongs to out/cd1/01.json"},
    )
    # Of two models.
    put("models/small/talk.json", "models/large/talk.json", "by-hand/talk.txt")
    assert set(found("models", "by-hand")[0].values()) == {"by-hand/talk.txt"}
    assert len(found("models", "by-hand")[0]) == 2


def test_names_are_compared_in_one_unicode_form(folder: Path) -> None:
    put(f"out/{NFD}/{NFD}.json", f"out/{NFD}/2.json", f"refs/{NFC}/{NFC}.txt", f"refs/{NFC}/2.txt", "refs/x/2.txt")
    assert found("out", "refs") == (
        {f"out/{NFD}/{NFD}.json": f"refs/{NFC}/{NFC}.txt", f"out/{NFD}/2.json": f"refs/{NFC}/2.txt"},
        {"refs/x/2.txt": "there is no transcript for it in out"},
    )
    assert references(Path("refs")).find(f"{NFD}.wav", NFD, folders=("/", NFD)) == Path(f"refs/{NFC}/{NFC}.txt")
    put(f"one/{NFC}.json", f"one/{NFD}.txt")
    assert found(f"one/{NFD}.txt", "one/") == ({f"one/{NFD}.txt": f"one/{NFC}.json"}, {}), "of two kinds the first"
    put(f"two/{NFC}.txt", f"two/{NFD}.txt")
    with pytest.raises(NotComparable, match="it is not clear which reference belongs to it"):
        references(Path("two")).find(NFC)


@pytest.mark.parametrize(
    "transcripts,wanted,why",
    [
        ("none", "refs", "none: there is no such file or folder"),
        ("out", "none", "none: there is no such file or folder"),
        ("out", "out", "a transcript is not its own reference"),
        ("out/a.md", "refs", "files of this kind are not compared"),
        ("empty", "refs", "there is nothing to compare in it"),
    ],
)
def test_what_cannot_be_matched(folder: Path, transcripts: str, wanted: str, why: str) -> None:
    put("out/a.txt", "out/a.md", "refs/a.txt")
    Path("empty").mkdir()
    with pytest.raises(UsageProblem, match=why):
        pairs(Path(transcripts), Path(wanted))
