"""The ffmpeg adapter: exact samples at the times of a player, and never those of another file."""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from controller.domain import plan
from controller.domain.plan import FLOOR_DB
from controller.errors import EnvironmentProblem, MediaProblem
from controller.intake import probe as probe_module
from controller.intake import sandbox
from controller.intake.decoder import BLOCK_SAMPLES, decode
from controller.intake.flac import FlacWriter, Pcm, levels
from controller.intake.probe import probe
from controller.intake.tracks import AudioTrack, Media
from tests import false_claims, pipeline, speech

RATE = speech.RATE_HZ


def clicks(seconds: int, *, every_s: int = 2) -> Pcm:
    """Silence with a click at every odd second, which shows any shift."""
    pcm = speech.silence(seconds)
    for second in range(1, seconds, every_s):
        pcm[second * RATE : second * RATE + 80] = 20_000
    return pcm


def onsets_ms(pcm: Pcm) -> list[float]:
    """The start times of clicks."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 5000)
    first = loud[np.concatenate([[True], np.diff(loud) > RATE // 2])] if len(loud) else loud
    return [at / RATE * 1000 for at in first.tolist()]


def decoded(path: Path, track: int | None = None) -> Pcm:
    with decode(str(path), probe(str(path)).track(track)) as decoder:
        blocks = list(decoder.blocks())
    return np.concatenate(blocks) if blocks else np.empty(0, np.int16)


# ---------------------------------------------------------------- samples


@pytest.mark.process
@pytest.mark.parametrize(
    "samples", [1, 319, RATE, BLOCK_SAMPLES - 1, BLOCK_SAMPLES, BLOCK_SAMPLES + 1, 2 * BLOCK_SAMPLES + 7]
)
def test_a_wav_is_decoded_to_the_sample(tmp_path: Path, samples: int) -> None:
    pcm = np.random.default_rng(samples).integers(-32768, 32767, samples).astype(np.int16)
    path = speech.write_wav(tmp_path / "a.wav", pcm)
    with decode(str(path), probe(str(path)).track(None)) as decoder:
        blocks = list(decoder.blocks())
    assert np.array_equal(np.concatenate(blocks), pcm)
    assert all(len(block) == BLOCK_SAMPLES for block in blocks[:-1])
    assert decoder.errors_so_far() == ""


@pytest.mark.process
@pytest.mark.parametrize(
    "name,options",
    [
        ("a.flac", ()),
        ("a.mp3", ("-b:a", "64k")),
        ("a.m4a", ("-c:a", "aac")),
        ("a.ogg", ("-c:a", "libopus")),
        ("a.webm", ("-c:a", "libopus")),
        ("a.mka", ("-c:a", "aac", "-ar", "48000")),
        ("a.ts", ("-c:a", "aac", "-ar", "48000")),
        ("a48.wav", ("-ar", "48000", "-ac", "2")),
        ("a8.wav", ("-ar", "8000", "-c:a", "pcm_mulaw")),
    ],
)
def test_times_do_not_drift_in_any_container(tmp_path: Path, name: str, options: tuple[str, ...]) -> None:
    path = speech.encode(clicks(40), tmp_path / name, *options)
    found = onsets_ms(decoded(path))
    assert len(found) == 20
    assert abs(found[0] - 1000) <= 50
    assert abs((found[-1] - found[0]) - 38_000) <= 1


@pytest.mark.process
def test_a_hole_in_the_time_stamps_becomes_silence(tmp_path: Path) -> None:
    """Two seconds of a file's packets are missing; the clicks after the hole keep their times."""
    hole = speech.encode(
        clicks(12), tmp_path / "hole.mkv", "-af", r"aselect=not(between(t\,4\,6))", "-c:a", "pcm_s16le"
    )
    assert hole.stat().st_size < 10.5 * 2 * RATE
    with_hole = onsets_ms(decoded(hole))
    assert [round(at / 1000) for at in with_hole] == [1, 3, 7, 9, 11]
    assert max(abs(at - 1000 * round(at / 1000)) for at in with_hole) <= 50


@pytest.mark.process
def test_the_wanted_track_is_decoded(tmp_path: Path) -> None:
    one, two = (speech.write_wav(tmp_path / f"{n}.wav", np.full(RATE, 1000 * n, np.int16)) for n in (1, 2))
    both = speech.encode(
        one, tmp_path / "both.mka", "-i", str(two), "-map", "0", "-map", "1", "-c:a", "pcm_s16le",
        "-disposition:a:0", "0", "-disposition:a:1", "default",
    )  # fmt: skip
    assert [int(decoded(both, number)[0]) for number in (0, 1, None)] == [1000, 2000, 2000]
    with pytest.raises(MediaProblem, match="has no audio track 2") as missing:
        probe(str(both)).track(2)
    assert missing.value.advice == "use --audio-track with one of: 0 (pcm_s16le), 1 (pcm_s16le, default)"


@pytest.mark.process
def test_damage_is_reported_and_the_rest_is_decoded(tmp_path: Path) -> None:
    path = speech.encode(clicks(20), tmp_path / "a.mp3", "-b:a", "64k")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 3000] = b"\xff" * 3000
    path.write_bytes(raw)
    with decode(str(path), probe(str(path)).track(None)) as decoder:
        samples = sum(map(len, decoder.blocks()))
    assert samples > 18 * RATE
    assert decoder.errors_so_far()
    assert str(path) not in decoder.errors_so_far()
    assert "0x" not in decoder.errors_so_far()


# ---------------------------------------------------------------- probing


@pytest.mark.process
def test_in_a_film_the_length_is_the_audios(tmp_path: Path) -> None:
    sound = speech.write_wav(tmp_path / "sound.wav", clicks(4))
    film = tmp_path / "film.mkv"
    picture = ["-f", "lavfi", "-i", "color=size=64x64:rate=5:duration=20"]
    subprocess.run(["ffmpeg", "-v", "error", *picture, "-i", str(sound), "-c:a", "flac", str(film)], check=True)
    found = probe(str(film))
    assert found.duration_ms == 20_000
    assert found.tracks[0].duration_ms == pytest.approx(4_000, abs=50)


@pytest.mark.process
def test_a_probe_gives_container_length_and_tracks(tmp_path: Path) -> None:
    path = speech.encode(clicks(3), tmp_path / "a.m4a", "-c:a", "aac", "-metadata:s:a:0", "language=por")
    found = probe(str(path))
    (track,) = found.tracks
    assert "mp4" in found.container
    assert abs((found.duration_ms or 0) - 3000) < 100
    assert (track.number, track.codec, track.language, track.default) == (0, "aac", "por", True)


PLAYLISTS = {
    "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{other}\n#EXT-X-ENDLIST\n",
    "list.ffconcat": "ffconcat version 1.0\nfile '{other}'\n",
    "list.mpd": (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" profiles="p">'
        '<Period><AdaptationSet><Representation id="1" mimeType="audio/wav" bandwidth="1">'
        "<BaseURL>{other}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    ),
    "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
}


@pytest.mark.process
@pytest.mark.parametrize("name", PLAYLISTS)
def test_a_playlist_opens_no_other_file(tmp_path: Path, name: str) -> None:
    other = speech.write_wav(tmp_path / "secret.wav", clicks(2))
    path = tmp_path / name
    path.write_text(PLAYLISTS[name].format(other=other.name))
    with pytest.raises(
        MediaProblem, match=r"it names other files|is in a format without sound|is not media that ffmpeg can read"
    ):
        probe(str(path))


@pytest.mark.process
@pytest.mark.parametrize("name", ["concat:secret.wav|secret.wav", "pipe:0", "-i", "%d.wav"])
def test_a_name_is_only_a_name(tmp_path: Path, name: str) -> None:
    path = speech.write_wav(tmp_path / name, clicks(2))
    assert len(decoded(path)) == 2 * RATE


@pytest.mark.parametrize("name", ["ffmpeg", "ffprobe"])
def test_a_missing_tool_is_an_environment_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentProblem, match=f"{name} is not on this machine") as missing:
        sandbox.found(name)
    assert "apt-get install ffmpeg" in missing.value.advice


@pytest.mark.process
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_ffmpeg_gets_nothing_of_our_environment_and_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("http_proxy", "http://proxy")
    path = speech.write_wav(tmp_path / "a.wav", speech.silence(300))
    with decode(str(path), probe(str(path)).track(None)) as decoder:
        next(decoder.blocks())
        process = Path("/proc", str(decoder._child.pid))
        assert (process / "comm").read_text() == "ffmpeg\n"
        names = {line.partition("=")[0] for line in (process / "environ").read_text().split("\0") if line}
        limits = {line[:26].strip(): line[26:].split()[0] for line in (process / "limits").read_text().splitlines()}
    assert names == {"LC_ALL", "PATH"}
    cpu_s = 60 + path.stat().st_size // 4096
    wanted = {"Max address space": 2 << 30, "Max cpu time": cpu_s, "Max file size": 0, "Max open files": 64}
    wanted |= {"Max core file size": 0}
    assert {name: int(limits[name]) for name in wanted} == wanted


@pytest.mark.parametrize(
    "text,ms",
    [("1.5", 1500), (None, None), ("N/A", None), ("nan", None), ("inf", None), ("-0.5", -500), ("1e300", None)],
)
def test_a_length_is_a_number_or_unknown(text: object, ms: int | None) -> None:
    assert probe_module._ms(text) == ms


def test_media_without_sound_have_no_track() -> None:
    with pytest.raises(MediaProblem, match="has no audio stream"):
        Media(container="mp4", begin_ms=0, duration_ms=None, tracks=()).track(None)


# ---------------------------------------------------------------- any output of ffprobe

DIGITS = ("9" * 400, "9" * 5000, "1" * 10_000)
ODD_NUMBERS: list[Any] = [
    None, True, {}, [], "", "N/A", "nan", "inf", "-inf", "1e400", 1e300, -1e300, float("nan"), float("inf"), 10**400,
    -(10**400), "1e9", "1.0000001e9", "-1000000001", *DIGITS, "-5", "\ud800", "٣", {"a": 1}, [1], -(2**63),
]  # fmt: skip
ODD_STAMPS: list[Any] = [
    *(f"{digits}:00:00.000000000" for digits in DIGITS), *(f"00:00:00.{digits}" for digits in DIGITS), "999999:59:59",
    "-1:00:00", "00:00", "1:2:3", "00:99:99", "00:00:nan", "\ud800:00:00", 5, 10**400, None, [], {}, [[["00:00:01"]]],
]  # fmt: skip
ODD_TEXTS: list[Any] = [None, 5, 10**400, [], {}, "", "x" * 10**6, "\x1b[2J", "\ud800", "a\nb", "\0", "é" * 100]


def name_of(value: object) -> str:
    """A short name for a long value."""
    text = ascii(value)
    return text if len(text) < 20 else f"{text[:12]}… {len(text)}"


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


def encoded(document: object) -> bytes:
    return json.dumps(document).encode()


def answered(raw: bytes) -> Media | None:
    """The media that ffprobe's output describes; None when it is a problem with the file."""
    try:
        found = probe_module._parse_probe(probe_module._parse_output(0, raw, b"", "/media/a.mka"))
    except MediaProblem:
        return None
    lengths = [found.duration_ms, *(track.duration_ms for track in found.tracks)]
    assert all(length is None or 0 <= length <= 2 * 10**12 for length in lengths)
    assert abs(found.begin_ms) <= 10**12
    texts = [found.container, *(word for track in found.tracks for word in (track.codec, track.language))]
    assert all(0 < len(word) <= 64 and word.isprintable() for word in texts)
    assert [track.number for track in found.tracks] == list(range(len(found.tracks)))
    with pytest.raises(MediaProblem) as missing:
        found.track(len(found.tracks))
    assert len(missing.value.advice) < 1000
    return found


def sound(**fields: Any) -> dict[str, Any]:
    return {"codec_type": "audio", "codec_name": "aac", **fields}


def of_one(**fields: Any) -> AudioTrack:
    found = answered(encoded({"streams": [sound(**fields)], "format": {"format_name": "matroska,webm"}}))
    assert found
    (track,) = found.tracks
    return track


leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([*ODD_NUMBERS, *ODD_STAMPS, *ODD_TEXTS])
)
any_json = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


def shaped(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A document with some of these fields, or another value."""
    return st.fixed_dictionaries({}, optional={name: kind | any_json for name, kind in fields.items()}) | any_json


answers = shaped(
    format=shaped(format_name=leaves, start_time=leaves, duration=leaves),
    streams=st.lists(
        shaped(
            codec_type=st.just("audio"),
            codec_name=leaves,
            duration=leaves,
            tags=shaped(language=leaves, DURATION=leaves),
            disposition=shaped(default=leaves),
        ),
        max_size=3,
    ),
    frames=st.lists(shaped(best_effort_timestamp_time=leaves), max_size=3),
)


@given(answers)
def test_any_document_of_ffprobe_gives_media_or_a_problem_with_the_file(document: object) -> None:
    found = answered(encoded(document))
    assert (found is None) == (not isinstance(document, dict))


@given(st.binary(max_size=50) | answers.map(lambda document: encoded(document)[:-1]))
def test_any_output_of_ffprobe_gives_media_or_a_problem_with_the_file(raw: bytes) -> None:
    answered(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"[]", b'"audio"', b"1", b'{"streams": [}', b"\xff\xfe", b'{"format": "\xff"}',
        b'{"a":' + b"9" * 5000 + b"}", nested(100_000).encode(), b'{"streams":' + nested(100_000).encode() + b"}",
    ],
    ids=name_of,
)  # fmt: skip
def test_output_that_is_no_document_is_a_problem_with_the_file(raw: bytes) -> None:
    with pytest.raises(MediaProblem, match="is not media that ffmpeg can read: ") as fault:
        probe_module._parse_output(0, raw, b"", "/media/a.mka")
    assert fault.value.advice == sandbox.INCOMPLETE


@pytest.mark.parametrize("nothing", [None, 5, "audio", [], {}, [None], [[]], ["audio"], [{"codec_type": "video"}]])
def test_fields_of_another_type_are_ignored(nothing: object) -> None:
    assert answered(encoded({"streams": nothing, "format": nothing})) == Media(
        container="unknown",
        begin_ms=0,
        duration_ms=None,
        tracks=(),
        has_pictures=nothing == [{"codec_type": "video"}],
    )
    plain = AudioTrack(number=0, codec="aac", language="und", duration_ms=None, default=False, has_layout=False)
    assert of_one(tags=nothing, disposition=nothing, duration=nothing if nothing != 5 else None) == plain


@pytest.mark.parametrize("number", ODD_NUMBERS, ids=name_of)
def test_times_are_plausible_or_unknown(number: object) -> None:
    answered(encoded({"streams": [sound(duration=number)], "format": {"start_time": number, "duration": number}}))


@pytest.mark.parametrize("stamp", ODD_STAMPS, ids=name_of)
@pytest.mark.parametrize("start", ["0", "-999999999", "999999999"])
def test_a_tag_gives_a_length_or_nothing(stamp: object, start: str) -> None:
    found = answered(encoded({"streams": [sound(tags={"DURATION": stamp})], "format": {"start_time": start}}))
    assert found
    if stamp not in ("00:99:99", *(f"00:00:00.{digits}" for digits in DIGITS)):
        assert found.tracks[0].duration_ms is None


@pytest.mark.parametrize(
    "stamp,ms", [("00:00:01.016000000", 1016), ("10:00:00.5", 36_000_500), ("01:02:03", 3_723_000)]
)
def test_a_tag_as_ffmpeg_writes_it_is_a_length(stamp: str, ms: int) -> None:
    assert of_one(tags={"DURATION": stamp}).duration_ms == ms


@pytest.mark.parametrize("word", ODD_TEXTS, ids=name_of)
def test_names_are_short_and_can_be_shown(word: object) -> None:
    found = of_one(codec_name=word, tags={"language": word})
    if not (isinstance(word, str) and word[:1] in {"x", "é"}):
        assert (found.codec, found.language) == ("unknown", "und")


@given(answers, st.sampled_from([-(10**12), -1, 0, 10**12]))
def test_a_beginning_is_never_before_the_recordings(document: Any, begin_ms: int) -> None:
    track = AudioTrack(number=0, codec="aac", language="und", duration_ms=None, default=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probe_module, "_ffprobe", lambda *_: document if isinstance(document, dict) else {})
        late_ms = probe_module.offset_ms(
            "/a", Media(container="", begin_ms=begin_ms, duration_ms=None, tracks=(track,)), track
        )
    assert 0 <= late_ms <= 2 * 10**12


@pytest.mark.process
@pytest.mark.parametrize("digits", [400, 5000])
def test_a_matroska_file_whose_tag_has_hundreds_of_digits_is_cut(tmp_path: Path, digits: int) -> None:
    honest = speech.encode(clicks(4), tmp_path / "honest.mka", "-fflags", "+bitexact")
    path = tmp_path / "liar.mka"
    path.write_bytes(false_claims.with_length_tag(honest.read_bytes(), "9" * digits + ":00:00.000000000"))
    raw = probe_module._ffprobe(str(path), "-show_entries", probe_module._ENTRIES)
    assert raw["streams"][0]["tags"]["DURATION"].startswith("9" * digits)
    found = probe(str(path))
    assert found.tracks[0].duration_ms is None
    assert len(decoded(path)) == pytest.approx(4 * RATE, abs=RATE // 10)


# ---------------------------------------------------------------- the sandbox


@pytest.mark.process
def test_an_ffmpeg_that_is_ended_is_an_error_and_not_a_short_recording(tmp_path: Path) -> None:
    path = speech.write_wav(tmp_path / "a.wav", speech.silence(300))
    with decode(str(path), probe(str(path)).track(None)) as decoder:
        blocks = decoder.blocks()
        next(blocks)
        # The signal of the CPU time limit, and that of a crash in a decoder.
        os.kill(decoder._child.pid, signal.SIGKILL)
        with pytest.raises(MediaProblem, match="ffmpeg was ended by SIGKILL") as ended:
            list(blocks)
    assert ended.value.advice == sandbox.CONVERT


@pytest.mark.process
def test_a_recording_is_at_most_as_long_as_its_size_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = speech.write_wav(tmp_path / "a.wav", speech.silence(90))
    monkeypatch.setattr(plan, "_LENGTH_CEILING_MS", 90_000)
    assert len(decoded(path)) == 90 * RATE
    monkeypatch.setattr(plan, "_LENGTH_CEILING_MS", 89_000)
    with pytest.raises(MediaProblem, match="does not end after 0 h, far more than a file of its size can hold"):
        decoded(path)


@pytest.mark.parametrize("size_bytes,hours", [(0, 1), (16 * 3600, 2), (1 << 30, 1000), (1 << 40, 1000)])
def test_a_file_may_be_an_hour_long_and_a_second_for_every_sixteen_bytes(size_bytes: int, hours: int) -> None:
    assert sandbox.longest_s(size_bytes) == hours * 3600


@pytest.mark.parametrize(
    "stderr,wanted",
    [
        (b"", "no reason given"),
        (b"file:/media/a\nb.wav: Invalid data\n", "Invalid data"),
        (b"[aac @ 0x55d0] [SWR @ 0x7f00] odd\n", "odd"),
        (b"one\ntwo\n\ntwo\n", "two"),
        (b"cannot open '/media/a\nb.wav'\n", "cannot open 'the file'"),
        (b"\xff" * 1000, "\ufffd" * 300),
    ],
)
def test_the_last_lines_of_a_tool_have_no_paths_and_no_addresses(stderr: bytes, wanted: str) -> None:
    assert sandbox.last_lines(stderr, "/media/a\nb.wav") == wanted


@pytest.mark.parametrize(
    "code,messages,reported",
    [
        (0, b"", None),
        (1, b"Invalid data", None),
        (0, b"Cannot allocate memory", None),
        (1, b"Cannot allocate memory", "needs more than 512 MiB at once"),
        (0, b"Failed to compensate for timestamp delta of 9.0", "needs more than 512 MiB at once"),
        (-11, b"", "was ended by SIGSEGV"),
    ],
)
def test_the_exit_of_a_tool_decides_whether_something_is_missing(
    code: int, messages: bytes, reported: str | None
) -> None:
    with pytest.raises(MediaProblem, match=reported) if reported else contextlib.nullcontext():
        sandbox.check_end("ffmpeg", code, messages)


def test_only_some_of_many_tracks_are_listed() -> None:
    about: dict[str, Any] = {"codec": "aac", "language": "x" * 1000, "duration_ms": None, "default": False}
    tracks = tuple(AudioTrack(number=number, **about) for number in range(200))
    media = Media(container="mp4", begin_ms=0, duration_ms=None, tracks=tracks)
    with pytest.raises(MediaProblem) as missing:
        media.track(200)
    assert missing.value.advice.startswith("use --audio-track with one of: 0 (aac, xxxxxxxx), ")
    assert missing.value.advice.endswith(", … up to 199")
    assert len(missing.value.advice) < 200


# ---------------------------------------------------------------- levels, FLAC


@pytest.mark.parametrize(
    "pcm,wanted",
    [
        (np.zeros(320, np.int16), [FLOOR_DB]),
        (np.full(640, -32768, np.int16), [0.0, 0.0]),
        (np.full(320, 3277, np.int16), [-20.0]),
        (np.full(480, 3277, np.int16), [-20.0, -20.0]),
        (np.full(1, 3277, np.int16), [-20.0]),
        (np.empty(0, np.int16), []),
    ],
    ids=["silence", "full", "tenth", "one and a half", "a sample", "nothing"],
)
def test_a_level_is_the_power_of_twenty_milliseconds(pcm: Pcm, wanted: list[float]) -> None:
    assert levels(pcm) == pytest.approx(wanted, abs=0.01)


def test_levels_do_not_depend_on_how_the_audio_is_cut_in_blocks() -> None:
    pcm = speech.tape(seconds=7, seed=3).pcm
    assert levels(pcm[: 5 * RATE]) + levels(pcm[5 * RATE :]) == levels(pcm)


def test_flac_holds_the_samples_and_their_digest(tmp_path: Path) -> None:
    pcm = speech.tape(seconds=3, seed=4).pcm
    flac, counted = FlacWriter(tmp_path / "a.flac"), FlacWriter(None)
    for part in np.array_split(pcm, 7):
        flac.write(part)
        counted.write(part)
    digest = hashlib.sha256(pcm.tobytes()).hexdigest()
    assert (flac.close(), counted.close()) == (digest, digest)
    assert flac.samples == counted.samples == len(pcm)
    read, rate = soundfile.read(tmp_path / "a.flac", dtype="int16")
    assert rate == RATE
    assert np.array_equal(read, pcm)


# ---------------------------------------------------------------- ffmpeg's life


@pytest.mark.process
def test_a_reader_that_stops_leaves_no_ffmpeg(tmp_path: Path) -> None:
    path = speech.write_wav(tmp_path / "a.wav", speech.silence(300))
    workplace = pipeline.Workplace(tmp_path)
    with decode(str(path), probe(str(path)).track(None)) as decoder:
        next(decoder.blocks())
        assert workplace.processes("ffmpeg")
    assert workplace.processes() == []


@pytest.mark.process
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="macOS has no parent-death signal")
def test_ffmpeg_ends_with_a_killed_reader(tmp_path: Path) -> None:
    path = speech.write_wav(tmp_path / "a.wav", speech.silence(300))
    workplace = pipeline.Workplace(tmp_path)
    code = (
        "import sys, time\n"
        "from controller.intake.decoder import decode\n"
        "from controller.intake.probe import probe\n"
        "path = sys.argv[1]\n"
        "with decode(path, probe(path).track(None)) as decoder:\n"
        "    next(decoder.blocks()); print('up', flush=True); time.sleep(100)\n"
    )
    with contextlib.ExitStack() as held:
        with subprocess.Popen([sys.executable, "-P", "-c", code, str(path)], stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            assert reader.stdout.readline() == b"up\n"
            assert workplace.processes("ffmpeg")
            # The pipe stays open: only the end of its parent ends ffmpeg.
            for descriptor in Path("/proc", str(reader.pid), "fd").iterdir():
                if str(descriptor.readlink()).startswith("pipe:"):
                    held.callback(os.close, os.open(descriptor, os.O_RDONLY | os.O_NONBLOCK))
            os.kill(reader.pid, signal.SIGKILL)
        workplace.quiet()
