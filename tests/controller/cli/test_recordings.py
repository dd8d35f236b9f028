"""Which recordings a command names, and where the transcript of each is written."""

import errno
import io
import os
import re
import sys
import threading
from pathlib import Path

import pytest

from controller.cli import name_lists, output_names
from controller.cli.caption_options import CaptionOptions
from controller.cli.folders import InFolder
from controller.cli.input_names import find_all
from controller.cli.name_lists import OnStdin, is_media, names_in, read_stdin
from controller.cli.output_names import existing, outputs_of
from controller.cli.recordings import Named, mirrored, named_recordings
from controller.domain.output import Format, Output
from controller.errors import MediaProblem, UsageProblem
from controller.intake import source
from controller.runs.outputs import output_path
from tests import speech

NAMES = ["talk.wav", "réunion 1.mp3", "disc/01.wav"]
TEXT = "\n".join(NAMES)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def nothing() -> OnStdin:
    raise AssertionError("stdin is not read")


def lay(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"x")


def written(recordings: list[Named], folder: str = "out", formats: tuple[Format, ...] = ("srt",)) -> list[str]:
    """The first output of each recording, relative to the working folder."""
    outputs, _ = outputs_of(recordings, folder, formats)
    return [os.path.relpath(output_path(output.base, formats[0])) for output in outputs.values()]


# ---------------------------------------------------------------- lists


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\0"])
def test_a_list_is_read_in_any_unicode_encoding(encoding: str, end: str) -> None:
    data = "".join(f"{name}{end}" for name in NAMES).encode(encoding)
    assert not is_media(data)
    assert names_in(data) == NAMES


def test_a_mark_of_the_other_byte_order_is_understood() -> None:
    assert names_in(b"\xfe\xff" + TEXT.encode("utf-16-be")) == NAMES


def test_names_that_are_not_unicode_keep_every_byte() -> None:
    assert names_in(b"latin \xe9.wav\nx.wav") == [os.fsdecode(b"latin \xe9.wav"), "x.wav"]


def test_names_of_one_letter_between_nuls_are_not_utf_16(here: Path) -> None:
    assert names_in(b"a\0b\0c\0d\0") == ["abcd"]
    (here / "a").touch()
    assert names_in(b"a\0b\0c\0d\0") == ["a", "b", "c", "d"]


def test_a_cut_utf_16_list_is_refused() -> None:
    with pytest.raises(UsageProblem, match="not valid UTF-16"):
        names_in(TEXT.encode("utf-16")[:-1])


def test_data_that_is_no_list_is_refused_with_what_to_do() -> None:
    with pytest.raises(UsageProblem, match="neither a list of file names nor a recording") as caught:
        names_in(bytes(range(256)) * 4)
    assert "-f wav" in caught.value.advice


# ---------------------------------------------------------------- a recording on stdin


@pytest.mark.parametrize(
    "codec",
    [(".wav",), (".flac",), (".ogg", "-c:a", "libvorbis"), (".mp3",), (".m4a", "-c:a", "aac"), (".mka",), (".ts",)],
    ids=lambda codec: codec[0],
)  # fmt: skip
@pytest.mark.process
def test_media_on_stdin_is_recognized(here: Path, codec: tuple[str, ...]) -> None:
    wav = speech.write_wav(here / "a.wav", speech.tape(seconds=2, seed=1))
    media = speech.encode(wav, here / f"b{codec[0]}", *codec[1:]).read_bytes()
    assert is_media(media[: 64 << 10])


@pytest.mark.parametrize("name", ["RIFF notes.wav", "ID3.mp3", "OggS", "GGG" * 99])
def test_a_name_like_the_beginning_of_media_is_a_name(name: str) -> None:
    assert not is_media(f"{name}\n".encode())


def test_a_recording_on_stdin_is_copied(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = speech.write_wav(here / "a.wav", speech.silence(3)).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    found = read_stdin(here / "scratch", "talk.wav")
    assert found == OnStdin((str(here / "scratch" / "talk.wav"),), recording=True)
    assert Path(found.names[0]).read_bytes() == data
    assert len(data) > name_lists._HEAD_BYTES


# ---------------------------------------------------------------- folders


def test_a_folder_is_mirrored(capsys: pytest.CaptureFixture[str]) -> None:
    lay("box/cd2/01.WAV", "box/cd1/01.wav", "box/notes.txt", "box/.hidden/x.wav", "box/.x.wav", "box/top.mp4")
    found = named_recordings(["box"], nothing)
    assert [one.name for one in found.named] == ["box/cd1/01.wav", "box/cd2/01.WAV", "box/top.mp4"]
    assert written(found.named) == ["out/cd1/01.srt", "out/cd2/01.srt", "out/top.srt"]
    assert capsys.readouterr().err == "box: 3 recordings found\n"


def test_several_folders_are_mirrored_below_their_names() -> None:
    lay("a/box/01.wav", "crate/01.wav", "one.wav")
    found = named_recordings(["a/box/", "crate", "one.wav"], nothing)
    assert written(found.named) == ["out/box/01.srt", "out/crate/01.srt", "out/one.srt"]


@pytest.mark.parametrize(
    "typed,folder",
    [
        ("..", "top"),
        ("../", "top"),
        (".", "here"),
        ("./.", "here"),
        ("sub/..", "here"),
        ("sub/", "sub"),
        ("link", "link"),
    ],
)
def test_the_name_of_a_folder_of_dots_is_that_of_the_real_one(
    here: Path, monkeypatch: pytest.MonkeyPatch, typed: str, folder: str
) -> None:
    lay("top/t.wav", "top/here/t.wav", "top/here/sub/t.wav", "other/t.wav")
    (here / "top" / "here" / "link").symlink_to("sub")
    monkeypatch.chdir(here / "top" / "here")
    found = named_recordings([typed, str(here / "other")], nothing).named
    assert found[-1].folder == "other"
    assert {one.folder.split("/")[0] for one in found[:-1]} == {folder}


def test_no_key_of_an_object_leads_above_the_output_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controller.cli.recordings.recordings_in", lambda _: InFolder(("../../x.wav", "a/../../y.wav")))
    assert [one.folder for one in named_recordings(["s3://b/../", "s3://b/a/"], nothing).named] == ["", "", "", ""]


def test_links_to_folders_are_not_followed() -> None:
    lay("box/01.wav")
    Path("box/loop").symlink_to(Path("box").absolute())
    assert [one.name for one in named_recordings(["box"], nothing).named] == ["box/01.wav"]


def test_a_folder_without_recordings_is_a_mistake_alone_and_refused_with_others() -> None:
    lay("box/notes.txt", "talk.wav")
    with pytest.raises(UsageProblem, match="box: is a folder without audio or video files"):
        named_recordings(["box"], nothing)
    found = named_recordings(["box", "talk.wav"], nothing)
    assert ([one.name for one in found.named], len(found.refused)) == (["talk.wav"], 1)


@pytest.fixture
def unreadable(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The folders that the operating system does not let this user read: the tests may run as root."""
    closed: set[str] = set()
    scandir = os.scandir

    def read(folder: str) -> object:
        if folder in closed:
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", read)
    return closed


def test_a_subfolder_that_cannot_be_read_stops_no_other(
    unreadable: set[str], capsys: pytest.CaptureFixture[str]
) -> None:
    lay("arch/a.wav", "arch/lost+found/b.wav", "arch/z/c.wav")
    unreadable.add("arch/lost+found")
    found = named_recordings(["arch"], nothing)
    assert [one.name for one in found.named] == ["arch/a.wav", "arch/z/c.wav"]
    assert [(item.name, item.verdict) for item in found.refused] == [("arch/lost+found", "failed")]
    assert "arch/lost+found: cannot be read: Permission denied" in capsys.readouterr().err


def test_a_folder_that_was_typed_and_cannot_be_read_is_a_mistake(unreadable: set[str]) -> None:
    lay("arch/a.wav")
    unreadable.add("arch")
    with pytest.raises(UsageProblem, match="arch: cannot be read: Permission denied"):
        named_recordings(["arch"], nothing)


def test_a_file_in_a_folder_that_is_named_too_counts_once() -> None:
    lay("box/01.wav")
    assert len(named_recordings(["box/01.wav", "box"], nothing).named) == 1


@pytest.mark.parametrize(
    "names,folders",
    [
        (["cd1/01.wav", "./cd2/01.wav", "x.wav"], ["cd1", "cd2", ""]),
        (["/m/a/cd1/01.wav", "/m/a/cd2/01.wav"], ["cd1", "cd2"]),
        (["/m/a/01.wav"], [""]),
        (["/m/a/01.wav", "cd1/x.wav"], ["", "cd1"]),
        (["s3://b/x/cd1/01.wav", "s3://b/x/cd2/01.wav", "s3://c/y/z/01.wav"], ["cd1", "cd2", ""]),
        (["s3://b/x/01.wav", "s3://b"], ["", ""]),
        (["a/../../up/x.wav", "../down/x.wav"], ["up", "down"]),
    ],
)
def test_the_names_of_a_list_are_mirrored(names: list[str], folders: list[str]) -> None:
    assert [one.folder for one in mirrored(names)] == folders


@pytest.mark.parametrize(
    "names,folders",
    [
        (["AM/cd1", "AM/cd2/", "AM/x.wav"], ["AM/cd1", "AM/cd2", "AM"]),
        (["."], [""]),
        (["../AM/cd1", "../AM/cd2"], ["cd1", "cd2"]),
        (["../AM"], ["AM"]),
        ([".."], ["top"]),
        (["s3://b/x/cd1/", "s3://b/x/cd2/", "s3://b/x/y/1.wav"], ["cd1", "cd2", "y"]),
        (["s3://b/"], ["b"]),
        (["s3://b/a/1.wav", "s3://b/a/../../../c/2.wav"], ["", "c"]),
    ],
)
def test_a_folder_in_a_list_keeps_its_name(
    here: Path, monkeypatch: pytest.MonkeyPatch, names: list[str], folders: list[str]
) -> None:
    lay("top/AM/cd1/01.wav", "top/AM/cd2/01.wav", "top/sub/AM/cd1/01.wav", "top/sub/AM/cd2/01.wav")
    monkeypatch.chdir(here / "top" / "sub")
    assert [one.folder for one in mirrored(names)] == folders


def test_the_recordings_of_folders_in_a_list_are_below_their_names() -> None:
    lay("AM/cd1/01.wav", "AM/cd2/01.wav")
    found = named_recordings(["-"], lambda: OnStdin(("AM/cd1", "AM/cd2"), recording=False))
    assert written(found.named) == ["out/AM/cd1/01.srt", "out/AM/cd2/01.srt"]


def test_no_name_of_a_list_leaves_the_output_folder() -> None:
    for one in mirrored(["../../etc/x.wav", "a/../../b/../../x.wav", "x.wav", "/etc/y.wav"]):
        assert not one.folder.startswith(("/", ".."))


# ---------------------------------------------------------------- names of outputs


def test_one_stem_in_one_folder_keeps_the_full_name_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Named("talk.wav"), Named("talk.mp3"), Named("other.wav"), Named("cd1/talk.wav", "cd1")]
    assert written(found) == ["out/talk.wav.srt", "out/talk.mp3.srt", "out/other.srt", "out/cd1/talk.srt"]
    message = capsys.readouterr().err
    assert "talk.mp3, talk.wav" in message
    assert "other" not in message
    assert "talk.mp3.txt" in message


def test_a_full_name_that_is_the_stem_of_another_makes_that_full_too() -> None:
    found = [Named("talk.wav"), Named("talk.mp3"), Named("talk.wav.mkv")]
    assert written(found) == ["out/talk.wav.srt", "out/talk.mp3.srt", "out/talk.wav.mkv.srt"]


def test_equal_names_for_one_folder_are_refused() -> None:
    with pytest.raises(UsageProblem, match=r"a/talk.wav and b/talk.wav would both write talk\.wav\.txt"):
        written([Named("a/talk.wav"), Named("b/talk.wav")])


def test_outputs_may_be_beside_the_recordings() -> None:
    found = [Named("cd1/01.wav"), Named("x.wav"), Named("cd1/01.mp3")]
    assert written(found, output_names.BESIDE) == ["cd1/01.wav.srt", "x.srt", "cd1/01.mp3.srt"]


def test_a_name_that_is_too_long_for_one_format_is_refused_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    long = Named("x" * 251 + ".wav")
    outputs, without = outputs_of([long, Named("talk.wav")], "out", ("txt", "json"))
    assert list(outputs) == ["talk.wav"]
    assert "its .json would have a name of 256 bytes, and at most 255 are possible" in without[0].summary
    assert "256 bytes" in capsys.readouterr().err
    assert outputs_of([long], "out", ("txt",))[1] == []


def test_a_recording_of_which_all_outputs_exist_can_be_left_out() -> None:
    lay("out/a.srt", "out/a.txt", "out/b.srt")
    outputs, _ = outputs_of([Named("a.wav"), Named("b.wav")], "out", ("srt", "txt"))
    assert existing(outputs) == {"a.wav"}


@pytest.mark.parametrize("template", ["{stem}.{language}.{ext}", "{language}-{stem}.{language}.{ext}"])
def test_a_name_with_the_language_twice_or_in_braces_exists_in_any_language(template: str) -> None:
    lay(*(f"out/{template.format(stem='a{language}', language='pt', ext=extension)}" for extension in ("srt", "txt")))
    outputs, _ = outputs_of([Named("a{language}.wav"), Named("b.wav")], "out", ("srt",), CaptionOptions(None, template))
    assert existing(outputs) == {"a{language}.wav"}


@pytest.mark.parametrize(
    "template, recording, refused",
    [
        ("{stem}.{language}.{ext}", "talk.en.srt", True),
        ("{stem}.{language}.{ext}", "talk.yue.txt", True),
        ("{stem}.{language}.{ext}", "talk.english.srt", False),
        ("{stem}.{language}.{ext}", "talk.en.vtt", False),
        ("{stem}.{language}.{ext}", "other.en.srt", False),
        ("{stem}.{language}.{ext}", "sub/talk.en.srt", False),
        ("{language}-{stem}.{ext}", "pt-talk.srt", True),
        ("{stem}.{language}.{language}.{ext}", "talk.en.pt.srt", False),
        ("{stem}.{ext}", "talk.en.vtt", False),
    ],
)
def test_a_recording_is_not_replaced_by_an_output_in_any_language(template: str, recording: str, refused: bool) -> None:
    lay("talk.wav", recording)
    named, captions = [Named("talk.wav"), Named(recording)], CaptionOptions(None, template)
    if refused:
        with pytest.raises(
            UsageProblem, match=rf"{re.escape(recording)} is one of the given files: the transcript of talk\.wav would"
        ):
            outputs_of(named, ".", ("srt", "txt"), captions)
    else:
        assert len(outputs_of(named, ".", ("srt", "txt"), captions)[0]) == 2


def test_the_length_of_a_name_counts_the_longest_code_of_a_language() -> None:
    captions = CaptionOptions(None, "{stem}.{language}.{ext}")
    assert len(outputs_of([Named("x" * 247 + ".wav")], "out", ("srt",), captions)[0]) == 1
    assert "256 bytes" in outputs_of([Named("x" * 248 + ".wav")], "out", ("srt",), captions)[1][0].summary


def test_outputs_with_the_language_in_their_names_exist_in_any_language() -> None:
    lay("out/a.pt.srt", "out/b.txt", "out/c.und.srt", "out/d.long.srt", "out/e.pt.txt")
    captions = CaptionOptions(None, "{stem}.{language}.{ext}")
    names = [Named(f"{stem}.wav") for stem in "abcde"]
    outputs, _ = outputs_of(names, "out", ("srt",), captions)
    assert existing(outputs) == {"a.wav", "c.wav"}
    plain, _ = outputs_of(names, "elsewhere", ("srt",), captions)
    assert existing(plain) == frozenset()


def test_many_objects_are_found_at_the_same_time_and_kept_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)
    names = [f"s3://media/{number}.wav" for number in range(8)]

    def find(name: str) -> source.Found:
        together.wait(timeout=20)
        if name == names[3]:
            raise MediaProblem(f"{name}: no such object")
        return source.Found(size_bytes=int(name[11]), source=None)

    monkeypatch.setattr(source, "find", find)
    found, without = find_all(names)
    assert [(name, one.size_bytes) for name, one in found.items()] == [
        (name, number) for number, name in enumerate(names) if number != 3
    ]
    assert [one.name for one in without] == [names[3]]


def test_outputs_in_a_bucket_are_looked_up_at_the_same_time(monkeypatch: pytest.MonkeyPatch) -> None:
    together = threading.Barrier(4)
    outputs = {str(number): Output(base=f"s3://media/{number}", formats=("txt",)) for number in range(8)}

    def exists(output: Output, extension: Format) -> bool:
        together.wait(timeout=20)
        return output.base.endswith("7")

    monkeypatch.setattr(output_names, "_exists", exists)
    assert existing(outputs) == {"7"}
