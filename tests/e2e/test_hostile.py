"""Hostile media: no other file is read, no socket is connected, memory and length are bounded, the file is named."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

import pytest

from controller.intake import sandbox
from controller.intake.demuxers import ALLOWED
from tests import false_claims, hostile, speech
from tests.examine import Finding, examine
from tests.pipeline import SMALL, Workplace
from tests.trace import trace

pytestmark = [pytest.mark.process, pytest.mark.hostile]

FUZZ_SEED = 4
FUZZ_FILES = 30

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="strace and limits are Linux'")


class Listener:
    """A server on this machine that counts connections, and closes them."""

    def __init__(self) -> None:
        self.calls = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            caller, _ = self._socket.accept()
            with caller:
                if caller.recv(3) == b"end":
                    return
                self.calls += 1

    def close(self) -> None:
        with socket.create_connection(("127.0.0.1", self.port)) as last:
            last.sendall(b"end")
        self._thread.join()
        self._socket.close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, bytes]:
    return hostile.write_honest(tmp_path_factory.mktemp("honest"))


@pytest.fixture
def canary(workplace: Workplace) -> Path:
    return speech.write_wav(workplace.folder / "canary.wav", speech.silence(1))


def written(folder: Path, files: Iterator[tuple[str, bytes]], start: str = "") -> list[Path]:
    """The files whose names begin with *start*, written to *folder*."""
    paths = []
    for name, data in files:
        if name.startswith(start):
            (folder / name).write_bytes(data)
            paths.append(folder / name)
    assert paths
    return paths


# ---------------------------------------------------------------- other files, other machines


def check_reach(workplace: Workplace, listener: Listener, files: list[str]) -> str:
    """Plan *files* under strace: each tool opens only its file, no process the canary or a socket. Returns stderr."""
    command = [sys.executable, "-P", "-m", "controller", "plan", "--", *files]
    traced = trace(command, cwd=workplace.folder, env=workplace.environment())
    wanted = {os.path.join(workplace.folder, name) for name in files}  # noqa: PTH118 - byte for byte as the command makes it
    assert len(traced.tools) >= len(files)
    met: set[str] = set()
    for pid in traced.tools:
        opened = traced.opened.get(pid, frozenset())
        assert len(opened) == 1, opened
        met |= opened
    assert met == wanted
    everything = frozenset().union(*traced.opened.values()) - wanted - set(files)
    assert not [path for path in everything if "canary.wav" in path]
    assert traced.sockets == ()
    assert listener.calls == 0
    assert "Traceback" not in traced.err
    return traced.err


REFUSED = ("it names other files", "is in a format without sound", "is not media that ffmpeg can read")


@linux
@pytest.mark.parametrize("start", ["file", "n", "protocol"])
def test_a_file_that_names_others_is_the_only_one_read(
    workplace: Workplace, canary: Path, listener: Listener, start: str
) -> None:
    paths = written(workplace.folder, hostile.redirectors(canary, listener.port), start)
    messages = check_reach(workplace, listener, [path.name for path in paths])
    for path in paths:
        (line,) = [line for line in messages.splitlines() if line.startswith(f"{path}: ")]
        assert any(reason in line for reason in REFUSED), line
    assert "0x" not in messages


@linux
def test_a_container_that_refers_to_others_is_the_only_one_read(
    workplace: Workplace, canary: Path, listener: Listener, honest: Mapping[str, bytes]
) -> None:
    paths = written(workplace.folder, hostile.referrers(honest, canary))
    check_reach(workplace, listener, [path.name for path in paths])


@linux
@pytest.mark.parametrize("part", range(2))
def test_no_allowed_demuxer_opens_another_file(
    workplace: Workplace, canary: Path, listener: Listener, honest: Mapping[str, bytes], part: int
) -> None:
    """Each demuxer alone reads text that names other files, and containers that do: also if it was not asked to."""
    texts = written(workplace.folder, hostile.redirectors(canary, listener.port), "file-")
    containers = written(workplace.folder, hostile.referrers(honest, canary))
    names = [path.name for path in (texts[0], containers[0])]
    options = [part for name, value in sandbox.INPUT_OPTIONS.items() for part in (f"-{name}", value)]
    demuxers = ALLOWED.split(",")[part::2]
    probes = [(demuxer, name) for demuxer in demuxers for name in names]
    # A shell would be a process more, and a trace for each demuxer costs more than the demuxer.
    command = [sys.executable, "-c", RUN_ALL, json.dumps(options), json.dumps(probes)]
    traced = trace(command, cwd=workplace.folder)
    assert len(traced.tools) == len(probes)
    opened = {pid: traced.opened.get(pid, frozenset()) - set(names) for pid in traced.tools}
    assert not any(opened.values()), [
        (probe, opened[pid]) for probe, pid in zip(probes, sorted(opened), strict=True) if opened[pid]
    ]
    assert (traced.sockets, listener.calls) == ((), 0)


RUN_ALL = """
import json, subprocess, sys
options, probes = map(json.loads, sys.argv[1:])
for demuxer, name in probes:
    subprocess.run(["ffprobe", "-v", "quiet", *options, "-f", demuxer, "-i", f"file:{name}"], timeout=60)
"""


@linux
def test_a_name_that_reads_as_a_protocol_is_a_name(workplace: Workplace, canary: Path, listener: Listener) -> None:
    (workplace.folder / "http:").mkdir()
    for name in hostile.NAMES:
        speech.write_wav(workplace.folder / name, speech.silence(1, noise_db=-60))
    (line,) = check_reach(workplace, listener, list(hostile.NAMES)).splitlines()
    assert line.startswith("times are estimated for ")


@linux
@pytest.mark.parametrize(
    "name,options",
    [
        ("file-hls.m3u8", ()),
        ("file-hls.mp4", ("-f", "hls")),
        ("near-concat.ffconcat", ()),
        ("file-concat.wav", ("-safe", "0")),
        ("protocol0.ffconcat", ("-safe", "0")),
        ("net-hls.m3u8", ()),
        ("dref-alias.mov", ("-enable_drefs", "1", "-use_absolute_path", "1")),
    ],
)
def test_without_the_sandbox_the_same_files_open_other_files(
    workplace: Workplace,
    canary: Path,
    listener: Listener,
    honest: Mapping[str, bytes],
    name: str,
    options: tuple[str, ...],
) -> None:
    """Without the sandbox the tools do open other files, so the tests above can detect it."""
    written(workplace.folder, hostile.redirectors(canary, listener.port))
    written(workplace.folder, hostile.referrers(honest, canary))
    protocols = ("-protocol_whitelist", "file,http,tcp,subfile,crypto,data")
    traced = trace(["ffprobe", "-v", "error", *protocols, *options, "-i", name], cwd=workplace.folder)
    reached = any("canary.wav" in path for paths in traced.opened.values() for path in paths)
    assert reached or (listener.calls and traced.sockets), traced.err


# ---------------------------------------------------------------- more than a file can hold


def check(paths: list[Path]) -> dict[str, Finding]:
    findings = examine(paths)
    assert [finding.name for finding in findings] == [path.name for path in paths]
    faults = {path: list(finding.faults(path)) for finding, path in zip(findings, paths, strict=True)}
    assert not {path: found for path, found in faults.items() if found}
    return {finding.name: finding for finding in findings}


ENDLESS = "far more than a file of its size can hold"
LYING: Mapping[str, str | int] = {
    "rate1.wav": ENDLESS,
    "flac-1hz.flac": ENDLESS,
    "rate2147483647.wav": "needs more than 512 MiB at once",
    "sttsffffffff.m4a": "needs more than 512 MiB at once",
    "stcoffffffff.m4a": "needs more than 512 MiB at once",
    "channels65535.wav": "is not media that ffmpeg can read",
    "channels255.wav": "no audio could be decoded",
    "language.opus": "ffprobe was ended by SIGXFSZ",
    "page.mp4": "is not media that ffmpeg can read",
    "cover.mp3": 2_000,
    "size2880000000.wav": 1_000,
    "size4294967295.wav": 1_000,
    "size0.wav": 1_000,
    "tag.mp3": 2_000,
}
"""The expected outcome of some files: a part of the refusal, or the duration in milliseconds."""


@linux
def test_a_wrong_header_is_not_believed(tmp_path: Path, honest: Mapping[str, bytes]) -> None:
    findings = check(written(tmp_path, false_claims.false_claims(honest)))
    for name, wanted in LYING.items():
        finding = findings[name]
        assert (finding.duration_ms == wanted) if isinstance(wanted, int) else (wanted in finding.message), finding


JUMPS = {"1.mkv": 3601, "2.mkv": 2, "10000.mkv": 2, "10000.ts": 2}
"""Hours between the first and the second half of a recording, and the resulting seconds."""


def jump(path: Path, seconds: int) -> Path:
    """Two seconds of stereo, and *seconds* between their time stamps."""
    step = f"asetpts='PTS+if(gt(T,1),{seconds}/TB,0)'"
    source = ["-f", "lavfi", "-i", "sine=d=2:r=48000"]
    subprocess.run(["ffmpeg", "-v", "error", *source, "-af", step, "-ac", "2", "-c:a", "aac", path], check=True)
    return path


@linux
def test_time_stamps_that_jump_for_years_make_no_silence_and_those_of_an_hour_do(tmp_path: Path) -> None:
    paths = [jump(tmp_path / name, int(name.split(".")[0]) * 3600 - 1) for name in JUMPS]
    findings = check(paths)
    lengths_s = {name: round((finding.duration_ms or 0) / 1000) for name, finding in findings.items()}
    assert lengths_s == JUMPS
    # Of a stereo track, an hour of the mix and of one channel, in floating point.
    assert max(finding.peak_mb for finding in findings.values()) < 900


@linux
def test_an_hour_of_silence_in_a_small_file_is_cut_like_any_other(tmp_path: Path) -> None:
    path = tmp_path / "silence.flac"
    source = ["-f", "lavfi", "-i", "anullsrc=r=8000:cl=mono:d=3600"]
    subprocess.run(["ffmpeg", "-v", "error", *source, path], check=True)
    assert path.stat().st_size < 1_000_000
    finding = check([path])[path.name]
    assert finding.duration_ms == 3_600_000
    assert finding.peak_mb < 200


@linux
def test_one_of_many_tracks_is_read_and_some_are_listed(workplace: Workplace) -> None:
    wav = speech.write_wav(workplace.folder / "a.wav", speech.silence(1, noise_db=-60))
    tracks = [part for _ in range(200) for part in ("-map", "0")]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", wav, *tracks, "-c", "copy", workplace.folder / "many.mka"], check=True
    )
    assert workplace.run("plan", "many.mka", "--audio-track", "199").code == 0
    ended = workplace.run("plan", "many.mka", "--audio-track", "200")
    assert ended.code == 5
    assert "many.mka: has no audio track 200\n  use --audio-track with one of: 0 (pcm_s16le, default), 1 " in ended.err
    assert "7 (pcm_s16le), … up to 199\n" in ended.err


@linux
def test_a_device_and_an_empty_terabyte_are_refused(workplace: Workplace) -> None:
    (workplace.folder / "zero.wav").symlink_to("/dev/zero")
    with (workplace.folder / "sparse.mp4").open("wb") as sparse:
        sparse.truncate(1 << 40)
    ended = workplace.run("plan", "zero.wav", "sparse.mp4")
    assert ended.code == 5
    assert "zero.wav: is not a regular file" in ended.err
    assert f"{workplace.folder}/sparse.mp4: is not media that ffmpeg can read" in ended.err


@linux
def test_a_bomb_fails_alone_and_leaves_nothing(workplace: Workplace, honest: Mapping[str, bytes]) -> None:
    written(workplace.folder, false_claims.false_claims(honest), "rate2147483647.wav")
    speech.write_wav(workplace.folder / "good.wav", speech.silence(2, noise_db=-60))
    ended = workplace.transcribe("rate2147483647.wav", "good.wav", *SMALL)
    assert ended.code == 4
    assert "rate2147483647.wav: ffmpeg needs more than 512 MiB at once for it" in ended.err
    assert "convert it to WAV or FLAC" in ended.err
    assert "Traceback" not in ended.err
    assert {name.split(".")[0] for name in workplace.outputs} == {"good"}
    assert workplace.leftovers() == []
    assert not list(workplace.store.root.glob("work/*/audio/*"))


# ---------------------------------------------------------------- files that were broken


@linux
@pytest.mark.parametrize("half", [0, 1])
def test_a_broken_file_is_refused_or_read_within_bounds(tmp_path: Path, honest: Mapping[str, bytes], half: int) -> None:
    """``make soak`` does this with other seeds for longer."""
    files = islice(hostile.broken(honest, FUZZ_SEED), half, FUZZ_FILES, 2)
    check(written(tmp_path, files))
