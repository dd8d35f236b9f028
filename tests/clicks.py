"""Recordings with clicks at known times, and where the pipeline finds the clicks."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from controller.domain.plan import Plan, PlanOptions
from controller.intake.cutter import Cutter
from controller.intake.probe import probe
from tests.speech import Pcm

CUT = PlanOptions(threshold_ms=0, chunk_ms=10_000)
CLICK_S = 0.01


def clicks(rate_hz: int, *, seconds: float, first_s: float = 1.0, every_s: float = 2.0) -> Pcm:
    """Short tones in silence, with their centres at ``first_s + i * every_s``."""
    sound = np.zeros(round(seconds * rate_hz))
    length = round(CLICK_S * rate_hz)
    click = 20_000 * np.hanning(length) * np.sin(2 * np.pi * 1500 * np.arange(length) / rate_hz)
    for at_s in np.arange(first_s, seconds, every_s):
        begin = round(at_s * rate_hz) - length // 2
        sound[begin : begin + length] = click[: len(sound) - begin]
    return sound.astype(np.int16)


def write(path: Path, pcm: Pcm, rate_hz: int) -> Path:
    """A WAV file of any sample rate."""
    soundfile.write(path, pcm, rate_hz, subtype="PCM_16")
    return path


def middles(pcm: Pcm, rate_hz: int) -> list[float]:
    """The positions of the clicks in samples: the centres of their power, which codecs do not move."""
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 4000)
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > rate_hz // 5) + 1) if len(loud) else []
    return [float(np.average(group, weights=pcm[group].astype(float) ** 2)) for group in groups]


@dataclass(frozen=True, kw_only=True)
class CutResult:
    """The result of a cut: the clicks in media time, and the number of samples in the chunks without padding."""

    times_s: list[float]
    samples: int
    plan: Plan


def cut(path: Path, folder: Path, options: PlanOptions = CUT) -> CutResult:
    """Take a recording through probe, plan and cut; only one chunk is on disk at a time."""
    cutter = Cutter(path, probe(str(path)), options, audio_track=None)
    offsets, spans, samples = [], [], 0
    for chunk in cutter.chunks(folder, skip=frozenset()):
        assert chunk.audio
        pcm, rate_hz = soundfile.read(chunk.audio, dtype="int16")
        chunk.audio.unlink()
        at_ms, span = chunk.span.audio_start_ms, chunk.span
        clicks_ms = [at_ms + 1000 * middle / rate_hz for middle in middles(pcm, rate_hz)]
        offsets += [click for click in clicks_ms if span.start_ms <= click < span.end_ms]
        samples += len(pcm)
        spans.append(span)
    plan = cutter.plan("0" * 16, spans)
    return CutResult(times_s=[(plan.offset_ms + click) / 1000 for click in offsets], samples=samples, plan=plan)


def long_recording(path: Path, *, hours: int) -> Path:
    """A click every ten minutes, five seconds after the start of each; the rest is silence, which encodes fast."""
    part = write(path.with_suffix(".part.wav"), clicks(44_100, seconds=600, first_s=5, every_s=600), 44_100)
    source = ["-stream_loop", str(6 * hours - 1), "-i", f"file:{part}"]
    ffmpeg(*source, "-b:a", "32k", "-compression_level", "9", f"file:{path}")
    part.unlink()
    return path


def silence(path: Path, seconds: int) -> Path:
    """A FLAC file of this length that is made and decoded in a moment."""
    soundfile.write(path, np.zeros(seconds * 8_000, np.int16), 8_000, subtype="PCM_16")
    return path


def ffmpeg(*arguments: str | Path) -> None:
    """Run ffmpeg, which creates a file."""
    subprocess.run(["ffmpeg", "-nostdin", "-v", "error", "-y", *arguments], check=True)
