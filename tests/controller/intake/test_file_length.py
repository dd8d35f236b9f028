"""Files that hold less than their header claims, honest streams, and joined files: which of them give a warning."""

from pathlib import Path

import pytest

from controller.domain.plan import PlanOptions
from controller.intake import file_length, source
from tests.clicks import ffmpeg
from tests.dry_runs import plan_only

pytestmark = pytest.mark.process

TONE = ("-f", "lavfi", "-i", "sine=440:d=30")
BEEP = ("-f", "lavfi", "-i", "sine=440:d=10")
SHORT = "s before the end in its header: check that it is complete"


def warnings(path: Path) -> list[str]:
    """The warnings of the intake about a file."""
    return list(plan_only(source.inspect(str(path)), PlanOptions(), audio_track=None).warnings)


def missing_s(path: Path) -> float | None:
    """How many seconds are missing according to the warning about the length."""
    found = [warning for warning in warnings(path) if SHORT in warning]
    return float(found[0].split()[3]) if found else None


CUT_OFF = {
    "a.wav": (),
    "two channels.wav": ("-ac", "2", "-ar", "44100", "-c:a", "pcm_s24le"),
    "with a list.wav": ("-metadata", "title=" + "x" * 3_000),
    "rf64.wav": ("-rf64", "always"),
    "a.w64": (),
    "a.caf": (),
    "a.aiff": (),
    "a.au": (),
    "a.avi": ("-c:a", "pcm_s16le"),
    "a.wma": ("-c:a", "wmav2"),
    "a.flac": (),
    "a.mka": ("-c:a", "flac"),
    "a.mp3": ("-b:a", "64k"),
    "a.wv": (),
}


@pytest.mark.hostile
@pytest.mark.parametrize("name", CUT_OFF)
def test_a_file_with_a_part_of_what_its_header_claims_gives_a_warning(tmp_path: Path, name: str) -> None:
    ffmpeg(*TONE, *CUT_OFF[name], path := tmp_path / name)
    assert not [warning for warning in warnings(path) if SHORT in warning]
    whole = path.read_bytes()
    for part in (6, 2):
        path.write_bytes(whole[: len(whole) // part])
        assert missing_s(path) == pytest.approx(30 - 30 / part, abs=2.5)


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A WAV file."""
    ffmpeg(*BEEP, "-fflags", "+bitexact", path := tmp_path_factory.mktemp("stream") / "stream.wav")
    return path.read_bytes()


@pytest.mark.parametrize(
    "head",
    [
        b"RIFF\xff\xff\xff\xff",
        b"RIFF\0\0\0\0",
        b"RIFF\x24\xf0\xff\x7f",
        b"RIFF\xff\xff\xff\x7f",
    ],
)
@pytest.mark.parametrize(
    "data", [b"data\xff\xff\xff\xff", b"data\0\0\0\0", b"data\0\xf0\xff\x7f", b"data\xff\xff\xff\x7f"]
)
def test_a_wav_whose_writer_did_not_know_its_size_gives_no_warning(
    tmp_path: Path, stream: bytes, head: bytes, data: bytes
) -> None:
    at = stream.index(b"data")
    (path := tmp_path / "stream.wav").write_bytes(head + stream[8:at] + data + stream[at + 8 :])
    assert warnings(path) == []


@pytest.mark.parametrize("name", ["wav", "au", "caf", "flac", "asf", "avi", "matroska"])
def test_a_file_written_into_a_pipe_gives_no_warning(tmp_path: Path, name: str) -> None:
    """A program that cannot go back leaves the sizes as they were at the begin."""
    codec = ["-c:a", "wmav2"] if name == "asf" else []
    ffmpeg(*TONE, *codec, "-f", name, "-seekable", "0", path := tmp_path / f"a.{name}")
    assert warnings(path) == []


PARTS = {
    "tagged.mp3": ("-metadata", "title=one"),
    "plain.mp3": ("-write_xing", "0", "-id3v2_version", "0"),
    "other rate.mp3": ("-ar", "48000"),
    "with an old tag.mp3": ("-write_id3v1", "1", "-metadata", "title=two"),
}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("parts")
    for name, options in PARTS.items():
        ffmpeg(*BEEP, *options, folder / name)
    return {name: (folder / name).read_bytes() for name in PARTS}


@pytest.mark.parametrize("second", PARTS)
@pytest.mark.parametrize("first", PARTS)
def test_joined_mp3_files_lose_nothing_and_give_no_warning(
    tmp_path: Path, parts: dict[str, bytes], first: str, second: str
) -> None:
    joined = tmp_path / "joined.mp3"
    joined.write_bytes(b"".join(parts[name] for name in (first, second, first)))
    plan = plan_only(source.inspect(str(joined)), PlanOptions(), audio_track=None)
    assert plan.duration_ms == pytest.approx(30_000, abs=300)
    # What another rate changes is not what the file has lost.
    assert [warning for warning in plan.warnings if "sample rate" not in warning] == []
    assert len(plan.warnings) == ("other rate.mp3" in (first, second) and first != second)


@pytest.mark.parametrize("name", ["a.flv", "a.wmv", "a.nut", "a.mkv"])
def test_pictures_that_last_longer_than_the_sound_promise_nothing(tmp_path: Path, name: str) -> None:
    picture = ("-f", "lavfi", "-i", "testsrc=s=64x64:r=5:d=30")
    codec = {"a.flv": "flv", "a.wmv": "wmv2"}.get(name, "mpeg4")
    ffmpeg(*picture, "-f", "lavfi", "-i", "sine=440:d=7", "-c:v", codec, "-ar", "44100", path := tmp_path / name)
    assert warnings(path) == []


def test_damage_in_a_joined_mp3_still_gives_a_warning(tmp_path: Path) -> None:
    ffmpeg(*TONE, part := tmp_path / "a.mp3")
    whole = part.read_bytes()
    damaged = bytearray(whole + whole)
    damaged[len(whole) // 3 : len(whole) // 3 + 3_000] = b"\xff" * 3_000
    (joined := tmp_path / "joined.mp3").write_bytes(damaged)
    assert any("ffmpeg reported errors" in warning for warning in warnings(joined))


def test_tags_are_found_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where two pieces of the file meet."""
    monkeypatch.setattr(file_length, "_PIECE_BYTES", 64)
    tag = b"ID3\x04\x00\x00\x00\x00\x00\x0a"
    for at in range(200):
        (path := tmp_path / "a.mp3").write_bytes(tag + b"x" * at + tag + b"y" * 100)
        assert list(file_length.inner_tags(path)) == [len(tag) + at]
