"""Names that differ only in letter case or in their Unicode form: of recordings, and of outputs."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from chunk_job.text import composed
from controller.cli import same_files
from controller.cli.batch_entries import entries_of, listed_in
from controller.cli.input_names import spelled
from controller.cli.name_lists import OnStdin
from controller.cli.output_names import bases_of
from controller.cli.recordings import Named, Recordings, named_recordings
from controller.cli.same_files import Rule, SameFiles, rules_of
from controller.errors import UsageProblem
from controller.runs.outputs import output_path

NFC, NFD = "caf\N{LATIN SMALL LETTER E WITH ACUTE}", "cafe\N{COMBINING ACUTE ACCENT}"
BOTH: Sequence[Rule] = (str.casefold, composed)


@pytest.fixture(autouse=True)
def here(working_folder: Path) -> Path:
    return working_folder


def put(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def no_case(monkeypatch: pytest.MonkeyPatch, rules: Sequence[Rule] = BOTH) -> list[Path]:
    """No file system of Linux here has such folders. Returns those that were tried."""
    tried: list[Path] = []

    def rules_of(folder: Path) -> Sequence[Rule]:
        tried.append(folder)
        return rules

    monkeypatch.setattr(same_files, "rules_of", rules_of)
    return tried


def written(*names: str, folder: str = "out") -> list[str]:
    bases = bases_of([Named(name) for name in names], folder)
    return [output_path(bases[name], "txt").rpartition("/")[2] for name in names]


def named(*files: str) -> Recordings:
    return named_recordings(files, lambda: OnStdin((), recording=False))


# ---------------------------------------------------------------- recordings


def test_a_name_finds_the_file_that_has_it_in_another_unicode_form() -> None:
    put(f"{NFD}/{NFD}.mp3", f"{NFD}/talk.mp3", f"{NFC}.wav")
    assert spelled(f"{NFC}/{NFC}.mp3") == f"{NFD}/{NFD}.mp3"
    assert spelled(str(Path(f"{NFC}/talk.mp3").absolute())) == str(Path(f"{NFD}/talk.mp3").absolute())
    assert spelled(f"{NFD}.wav") == f"{NFC}.wav"
    for name in (
        "talk.mp3",
        f"{NFC}.mp3",
        f"{NFC}/other.mp3",
        f"s3://bucket/{NFC}.mp3",
        "\udcff.mp3",
        "\0é.mp3",
        f"{NFC}/" * 1300,
    ):
        assert spelled(name) == name
    put(f"new/{NFD}.mp3")
    assert spelled(f"new/{NFC}.mp3") == f"new/{NFD}.mp3"
    put(f"new/{NFC}.mp3")
    assert spelled(f"new/{NFC}.mp3") == f"new/{NFC}.mp3", "the name itself comes first"


def test_a_name_that_may_be_one_of_two_files_stays_missing() -> None:
    two = "e\N{COMBINING ACUTE ACCENT}\N{COMBINING CEDILLA}", "e\N{COMBINING CEDILLA}\N{COMBINING ACUTE ACCENT}"
    put(*(f"{name}.mp3" for name in two))
    typed = f"{composed(two[0])}.mp3"
    assert composed(two[0]) == composed(two[1]) not in two
    assert spelled(typed) == typed


def test_a_folder_and_a_recording_in_it_count_once_in_any_form() -> None:
    put(f"{NFD}/{NFD}.mp3", "other/x.mp3")
    found = named(f"{NFC}/{NFC}.mp3", NFC, "other")
    assert [one.name for one in found.named] == [f"{NFD}/{NFD}.mp3", "other/x.mp3"]
    assert [one.folder for one in named(NFC, "other").named] == [NFD, "other"]


def test_a_list_of_a_spreadsheet_names_files_of_macos() -> None:
    put(f"{NFD}.mp3")
    Path("list.csv").write_text(f"source\n{NFC}.mp3\n", encoding="utf-8")
    (row,) = listed_in(["list.csv"], quiet=True)
    (entry,) = entries_of([row], "out", {"formats": ("txt",)})
    assert (entry.name, entry.output) == (f"{NFD}.mp3", NFD)


# ---------------------------------------------------------------- outputs


def test_where_case_and_form_are_distinguished_each_keeps_its_name() -> None:
    assert rules_of(Path()) == []
    assert list(Path().iterdir()) == []
    assert written("Talk.mp3", "talk.mp3") == ["Talk.txt", "talk.txt"]
    assert written(f"{NFC}.mp3", f"{NFD}.mp3") == [f"{NFC}.txt", f"{NFD}.txt"]


@pytest.mark.parametrize("one,other", [("Talk", "talk"), (NFC, NFD), (NFC.upper(), NFD)])
def test_equal_names_for_a_folder_without_case_are_refused(
    monkeypatch: pytest.MonkeyPatch, one: str, other: str
) -> None:
    tried = no_case(monkeypatch)
    with pytest.raises(UsageProblem, match=r"would both write .*: to their folder, names that differ so little are"):
        written(f"{one}.mp3", f"{other}.mp3")
    assert tried == [Path.cwd()], "the output folder is not there yet; it is tried once"
    in_s3 = [f"s3://bucket/{one}", f"s3://bucket/{other}"]
    assert SameFiles().keys(in_s3) == in_s3, "S3 distinguishes everything"


def test_of_two_kinds_both_keep_their_full_names_there(monkeypatch: pytest.MonkeyPatch) -> None:
    no_case(monkeypatch)
    assert written("Talk.mp3", "talk.wav", "x.wav") == ["Talk.mp3.txt", "talk.wav.txt", "x.txt"]


def test_a_folder_that_has_only_one_rule_gets_only_that(monkeypatch: pytest.MonkeyPatch) -> None:
    no_case(monkeypatch, (str.casefold,))
    assert written(f"{NFC}.mp3", f"{NFD}.mp3") == [f"{NFC}.txt", f"{NFD}.txt"]


def test_names_that_clearly_differ_try_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = no_case(monkeypatch)
    assert written("a.mp3", "b.mp3") == ["a.txt", "b.txt"]
    assert tried == []


def test_an_output_that_a_list_gives_is_compared_too(monkeypatch: pytest.MonkeyPatch) -> None:
    no_case(monkeypatch)
    put("a.mp3", "b.mp3")
    Path("list.csv").write_text("source,output\na.mp3,cd/Talk\nb.mp3,CD/talk\n", encoding="utf-8")
    with pytest.raises(UsageProblem, match=r"list.csv, line 2 and list.csv, line 3 would both write talk.txt"):
        list(entries_of(listed_in(["list.csv"], quiet=True), "out", {"formats": ("txt",)}))
