"""Sounds that are no speech, and speech under them: 16-bit samples, 16 kHz, mono."""

from typing import Any

import numpy as np

from tests.speech import RATE_HZ, Pcm

_LOUD = 600
"""Samples above this belong to speech, not to the silence around it."""


def noise(pcm: Pcm, rng: np.random.Generator) -> Pcm:
    """Constant white noise, 12 dB below the speech."""
    return mixed(pcm, rng.standard_normal(len(pcm)), under_db=12)


def music(pcm: Pcm, _: np.random.Generator) -> Pcm:
    """Three alternating chords with a rhythm, 18 dB below the speech."""
    return mixed(pcm, _chords(len(pcm)), under_db=18)


def breath(pcm: Pcm, rng: np.random.Generator) -> Pcm:
    """A breath of 0.4 s every three seconds, at any position, 20 dB below the speech."""
    sound = np.zeros(len(pcm))
    shape = np.hanning(6400)
    for begin in range(8_000, len(pcm) - 6400, 48_000):
        sound[begin : begin + 6400] = shape * np.convolve(rng.standard_normal(6400), np.ones(4) / 4, "same")
    return mixed(pcm, sound, under_db=20, active=np.abs(sound) > 0)


def telephone(pcm: Pcm, _: np.random.Generator) -> Pcm:
    """Only 300 to 3400 Hz."""
    spectrum = np.fft.rfft(pcm.astype(float))
    hertz = np.fft.rfftfreq(len(pcm), 1 / RATE_HZ)
    spectrum[(hertz < 300) | (hertz > 3_400)] = 0
    return _clipped(np.fft.irfft(spectrum, len(pcm)))


def mixed(pcm: Pcm, other: np.ndarray[Any, Any], *, under_db: float, active: Any = slice(None)) -> Pcm:
    """Add *other* at a level this many dB below the speech, both measured without their silence."""
    speech = pcm.astype(float)
    loud = speech[np.abs(speech) > _LOUD]
    gain = np.sqrt(np.mean(loud**2)) / np.sqrt(np.mean(other[active] ** 2)) * 10 ** (-under_db / 20)
    return _clipped(speech + gain * other)


def chords(seconds: float) -> Pcm:
    """Music alone: the chords of :func:`music`, 12 dB below full scale."""
    return _levelled(_chords(round(seconds * RATE_HZ)))


def hum(seconds: float) -> Pcm:
    """The hum of a mains supply: 50 Hz and 100 Hz, 12 dB below full scale."""
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return _levelled(np.sin(2 * np.pi * 50 * t) + 0.5 * np.sin(2 * np.pi * 100 * t))


def _chords(samples: int) -> np.ndarray[Any, Any]:
    t = np.arange(samples) / RATE_HZ
    notes = np.array([[220, 277, 330], [196, 247, 294], [174, 220, 262]])[(t // 2).astype(int) % 3]
    tones = sum(np.sin(2 * np.pi * notes[:, voice] * t) for voice in range(3))
    return np.asarray(tones * (0.6 + 0.4 * np.exp(-6 * (t % 0.5))))


def _levelled(sound: np.ndarray[Any, Any]) -> Pcm:
    """*sound* with its peak 12 dB below full scale."""
    return _clipped(sound / np.max(np.abs(sound)) * 32768 * 10 ** (-12 / 20))


def _clipped(sound: np.ndarray[Any, Any]) -> Pcm:
    whole: Pcm = np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
    return whole
