"""The formats of ffmpeg: those that hold sound are probed and decoded, and the others are refused by their name."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from controller.errors import MediaProblem
from controller.intake.decoder import decode
from controller.intake.demuxers import ALLOWED, refusal
from controller.intake.probe import probe
from tests.clicks import ffmpeg

pytestmark = pytest.mark.process

SECONDS = 2
TONE = ("-f", "lavfi", "-i", f"sine=frequency=440:duration={SECONDS}:sample_rate=48000")
PICTURE = ("-f", "lavfi", "-i", f"color=size=720x576:rate=25:duration={SECONDS}")
AMOUNT = pytest.approx(SECONDS * 16_000, rel=0.05)

MADE = {
    "g722": ("-ar", "16000", "-ac", "1"),
    "g723_1": ("-ar", "8000", "-ac", "1", "-b:a", "6300", "-f", "g723_1"),
    "adx": (),
    "alp": ("-ar", "22050", "-ac", "1", "-f", "alp"),
    "apm": (),
    "aptx": (),
    # ffmpeg 5.1 gives its packets times that are half as long again.
    "aptxhd": (),
    "ast": (),
    "caf": (),
    "dts": ("-ac", "2", "-strict", "-2"),
    "ircam": ("-f", "ircam"),
    "kvag": ("-f", "kvag"),
    "latm": ("-c:a", "aac"),
    "mlp": ("-strict", "-2"),
    "mmf": ("-ar", "8000"),
    "rso": ("-ar", "8000", "-ac", "1"),
    "sbc": (),
    "sox": (),
    "tta": (),
    "voc": (),
    "w64": (),
    "wv": (),
}
"""Arguments with which ffmpeg writes a file with this extension."""


def samples(path: Path, *, errors: str = "") -> int:
    """How many samples are decoded, of which some are loud. *errors*: what ffmpeg says in the end."""
    media = probe(str(path))
    with decode(str(path), media.track(None)) as decoder:
        blocks = list(decoder.blocks())
    assert decoder.errors_so_far() == errors
    assert np.abs(np.concatenate(blocks).astype(int)).max() > 500
    return sum(len(block) for block in blocks)


@pytest.mark.parametrize("extension", MADE)
def test_a_format_of_sound_is_decoded(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"talk.{extension}"
    ffmpeg(*TONE, *MADE[extension], path)
    assert samples(path) == AMOUNT


@pytest.mark.parametrize("extension", ["aud", "roq"])
def test_a_format_of_games_is_decoded(tmp_path: Path, extension: str) -> None:
    path = tmp_path / f"talk.{extension}"
    ffmpeg(*TONE, "-ar", "22050", "-ac", "1", path)
    # ffmpeg's readers of these formats call the end of the file an error.
    assert samples(path, errors="Input/output error") == AMOUNT


def test_a_camera_tape_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "talk.dv"
    ffmpeg(*TONE, *PICTURE, "-target", "pal-dv", "-ac", "2", path)
    assert samples(path) == AMOUNT


def pcm(rate_hz: int) -> bytes:
    """A tone as 16-bit little-endian samples."""
    output = ("-ar", str(rate_hz), "-ac", "1", "-f", "s16le", "-")
    return subprocess.run(["ffmpeg", "-v", "error", *TONE, *output], check=True, capture_output=True).stdout


def test_the_headers_of_speech_corpora_are_read(tmp_path: Path) -> None:
    fields = (
        "channel_count -i 1", f"sample_count -i {SECONDS * 16_000}", "sample_rate -i 16000", "sample_n_bytes -i 2",
        "sample_byte_format -s2 01", "sample_sig_bits -i 16", "sample_coding -s3 pcm", "end_head",
    )  # fmt: skip
    header = "NIST_1A\n   1024\n" + "".join(f"{field}\n" for field in fields)
    path = tmp_path / "talk.sph"
    path.write_bytes(header.encode().ljust(1024) + pcm(16_000))
    assert samples(path) == AMOUNT


def test_the_recordings_of_a_telephone_exchange_are_read(tmp_path: Path) -> None:
    path = tmp_path / "talk.sln"
    path.write_bytes(pcm(8_000))
    assert samples(path) == AMOUNT


def test_a_format_without_a_header_is_refused_with_how_to_convert_it(tmp_path: Path) -> None:
    path = tmp_path / "talk.dfpwm"
    ffmpeg(*TONE, "-ar", "48000", "-ac", "1", path)
    with pytest.raises(MediaProblem, match=r"samples without a header \(dfpwm\)") as raised:
        probe(str(path))
    assert "ffmpeg -f dfpwm -ar 8000 -ac 1" in raised.value.advice


def test_samples_without_a_header_are_refused_with_how_to_convert_them(tmp_path: Path) -> None:
    path = tmp_path / "talk.sw"
    path.write_bytes(pcm(8_000))
    with pytest.raises(MediaProblem, match=r"samples without a header \(s16le\)") as raised:
        probe(str(path))
    assert "ffmpeg -f s16le -ar 8000 -ac 1 -i FILE -c:a flac FILE.flac" in raised.value.advice


@pytest.mark.parametrize(
    "name,message",
    [
        ("list.m3u8", r"a playlist or a script \(hls\): it names other files"),
        ("list.ffconcat", r"a playlist or a script \(concat\)"),
        ("talk.srt", r"a format without sound \(srt\)"),
    ],
)
def test_what_names_other_files_is_refused(tmp_path: Path, name: str, message: str) -> None:
    text = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nother.ts\n#EXT-X-ENDLIST\n",
        "list.ffconcat": "ffconcat version 1.0\nfile 'other.wav'\n",
        "talk.srt": "1\n00:00:00,000 --> 00:00:01,000\nHello\n\n",
    }
    path = tmp_path / name
    path.write_text(text[name], encoding="utf-8")
    with pytest.raises(MediaProblem, match=message) as raised:
        probe(str(path))
    assert "convert" not in raised.value.advice


def test_another_format_is_named_with_how_to_convert_it() -> None:
    assert refusal("libgme") == (
        "is in a format that is not read here (libgme)",
        "if you trust it, convert it: ffmpeg -i FILE -vn -c:a flac FILE.flac",
    )


FORBIDDEN = """
    concat dash hls imf image2 image2pipe lavfi mlv sdp rtsp rtp sap vobsub webm_dash_manifest tty ffmetadata sbg srt
    webvtt ass tedcaptions mpjpeg alsa pulse x11grab fbdev v4l2 kmsgrab jack oss openal libcdio data
"""


def test_nothing_that_opens_other_files_or_devices_is_allowed() -> None:
    names = ALLOWED.split(",")
    assert not set(FORBIDDEN.split()) & set(names)
    assert names == sorted(set(names))
    assert not [name for name in names if name.endswith("_pipe")]
