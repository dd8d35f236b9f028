"""Speech with known words: recordings (tapes) for the demonstration model, generated without root.

The engine is espeak-ng as the `espeakng_loader` wheel carries it (library and voices), called in process.
The words come from the demonstration model's own corpus, the only ones it understands.
Everything is a function of its arguments alone: the same call gives the same samples in any order.
"""

import ctypes
import random
import re
import subprocess
import wave
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import count, pairwise
from pathlib import Path
from typing import Literal, Required, TypedDict, Unpack

import espeakng_loader
import jiwer
import numpy as np
import numpy.typing as npt

from controller.demo.recipe.corpus import NUMBER, Language, Words, sentence

Pcm = npt.NDArray[np.int16]
Kind = Literal["sentences", "counting", "dense"]
TimedWord = tuple[str, int, int]
"""A word of a transcript: text, start and end in milliseconds."""

RATE_HZ = 16_000
SAMPLES_PER_MS = RATE_HZ // 1000
VOICES: dict[Language, str] = {"en": "en-us", "pt": "pt-br"}
PAUSES_MS: dict[Kind, tuple[int, int]] = {
    "sentences": (600, 1200),
    "counting": (600, 1200),
    "dense": (10, 80),
}
EDGE_MS = 500
"""Silence before the first utterance, and at least as much after the last."""


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """Words spoken without a pause, at [start_ms, end_ms) of a tape."""

    start_ms: int
    end_ms: int
    words: tuple[str, ...]

    def word_times(self) -> list[TimedWord]:
        """Share the utterance's time among its words by their letters: accurate to about 0.2 s."""
        letters = [len(word) for word in self.words]
        ends = self.start_ms + np.cumsum([0, *letters]) * (self.end_ms - self.start_ms) // sum(letters)
        return [(word, int(a), int(b)) for word, (a, b) in zip(self.words, pairwise(ends), strict=True)]


@dataclass(frozen=True, kw_only=True)
class Script:
    """The words of a tape and their times."""

    language: Language
    utterances: tuple[Utterance, ...]
    duration_ms: int

    @cached_property
    def words(self) -> tuple[str, ...]:
        """Every word of the tape, in order."""
        return tuple(word for utterance in self.utterances for word in utterance.words)


@dataclass(frozen=True, kw_only=True)
class Tape(Script):
    """A script with its sound: 16 kHz, mono."""

    pcm: Pcm


# --- the engine --------------------------------------------------

_SYNCHRONOUS, _DONT_EXIT, _UTF8, _SPEED, _PITCH = 2, 0x8000, 1, 1, 3  # names of espeak-ng's speak_lib.h
_SoundCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)


def _synthesise(text: str, voice: str, speed: int, pitch: int) -> tuple[Pcm, int]:
    """Speak in a library loaded afresh, and unloaded again; return the samples and their rate in hertz.

    espeak-ng keeps the phase of its oscillators in static variables: in a library that has spoken before, the
    same text sounds (and lasts) a little different. Loading costs less than a millisecond.
    """
    blocks: list[bytes] = []

    def keep(samples: int | None, length: int, _events: int | None) -> int:
        if samples is not None and length > 0:
            blocks.append(ctypes.string_at(samples, 2 * length))
        return 0

    callback = _SoundCallback(keep)
    engine = ctypes.CDLL(espeakng_loader.get_library_path())
    rate = engine.espeak_Initialize(_SYNCHRONOUS, 0, espeakng_loader.get_data_path().encode(), _DONT_EXIT)
    try:
        engine.espeak_SetSynthCallback(callback)
        if rate <= 0 or engine.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        engine.espeak_SetParameter(_SPEED, speed, 0)
        engine.espeak_SetParameter(_PITCH, pitch, 0)
        raw = text.encode()
        if engine.espeak_Synth(raw, len(raw) + 1, 0, 0, 0, _UTF8, None, None) != 0:
            raise RuntimeError(f"espeak-ng could not speak {text!r}")
    finally:
        engine.espeak_Terminate()
        ctypes.CDLL(None).dlclose(ctypes.c_void_p(engine._handle))
    return np.frombuffer(b"".join(blocks), np.int16), rate


def _clipped(sound: npt.NDArray[np.floating]) -> Pcm:
    whole: Pcm = np.clip(np.rint(sound), -32768, 32767).astype(np.int16)
    return whole


def _resample(pcm: Pcm, rate_hz: int) -> Pcm:
    """Bring a piece to 16 kHz through its spectrum, which keeps all below 8 kHz exactly."""
    divisor = int(np.gcd(rate_hz, RATE_HZ))
    old, new = rate_hz // divisor, RATE_HZ // divisor
    # Whole steps make the new length whole; the extra samples keep the end from ringing into the start.
    steps = -(-len(pcm) // old) + 4
    spectrum = np.fft.rfft(pcm, steps * old)[: steps * new // 2 + 1]
    sound = np.fft.irfft(spectrum, steps * new) * (new / old)
    return _clipped(sound)


@lru_cache(maxsize=2048)
def _spoken(text: str, voice: str, speed: int, pitch: int) -> Pcm:
    pcm = _resample(*_synthesise(text, voice, speed, pitch))
    loud = np.flatnonzero(np.abs(pcm.astype(np.int32)) > 328)  # 1 % of full scale, as the recipe trims
    if not len(loud):
        raise ValueError(f"there is no sound for {text!r}")
    first, samples = int(loud[0]), int(loud[-1] + 1 - loud[0])
    samples += -samples % SAMPLES_PER_MS  # whole milliseconds
    spoken = np.zeros(samples, np.int16)
    piece = pcm[first : first + samples]
    spoken[: len(piece)] = piece
    spoken.flags.writeable = False  # the cache hands the same array to everyone
    return spoken


def say(text: str, *, voice: str = "en-us", speed: int = 165, pitch: int = 50) -> Pcm:
    """Speak a text: 16 kHz mono, without silence at its ends, whole milliseconds long.

    The voice is one of espeak-ng's file names with an optional variant ("en-us", "pt-br+f1"), the speed is in
    words a minute, the pitch 0 to 99. The breath of some variants (f2, f3) is noise that differs between processes.
    The array is shared and read-only.
    """
    return _spoken(text, voice, speed, pitch)


# --- tapes -------------------------------------------------------


def _with_noise(pcm: Pcm, noise_db: float | None, rng: np.random.Generator) -> Pcm:
    """Add white noise of a level (RMS) in dB below full scale; None leaves the samples as they are."""
    if noise_db is None:
        return pcm
    level = np.float32(32768 * 10 ** (noise_db / 20))
    return _clipped(pcm + level * rng.standard_normal(len(pcm), np.float32))


def silence(seconds: float, noise_db: float | None = None) -> Pcm:
    """Digital silence, or white noise of a level in dB below full scale."""
    return _with_noise(np.zeros(round(seconds * RATE_HZ), np.int16), noise_db, np.random.default_rng(0))


def _texts(kind: Kind, language: Language, first: int, rng: random.Random) -> Iterator[Words]:
    if kind == "counting":
        yield from map(NUMBER[language], count(first))
    while True:
        yield sentence(language, rng)


class TapeOptions(TypedDict, total=False):
    """What `pieces`, `tape` and `write_tape` take; `pieces` has the defaults and the meanings."""

    seconds: Required[float]
    seed: int
    language: Language
    kind: Kind
    voice: str | None
    speed: int
    pitch: int
    pause_ms: tuple[int, int] | None
    noise_db: float | None
    first: int


def pieces(
    *,
    seconds: float,
    seed: int = 0,
    language: Language = "en",
    kind: Kind = "sentences",
    voice: str | None = None,
    speed: int = 165,
    pitch: int = 50,
    pause_ms: tuple[int, int] | None = None,
    noise_db: float | None = -60.0,
    first: int = 1,
) -> Iterator[tuple[Pcm, Utterance | None]]:
    """Speak a tape of a given length piece by piece: utterances, and the pauses between them (None).

    What no longer fits is silence. "counting" goes up from `first`, which makes lost and doubled words
    evident; "dense" has hardly a pause. `speed` is in words a minute, `pitch` 0 to 99; `pause_ms` are the
    bounds of the pauses; `noise_db` is steady white noise in dB below full scale, None for digital silence.
    """
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    duration_ms, pauses_ms = round(1000 * seconds), pause_ms or PAUSES_MS[kind]

    def pause(length_ms: int) -> tuple[Pcm, None]:
        return _with_noise(np.zeros(length_ms * SAMPLES_PER_MS, np.int16), noise_db, noise), None

    at, gap = 0, EDGE_MS
    for words in _texts(kind, language, first, rng):
        spoken = say(" ".join(words), voice=voice or VOICES[language], speed=speed, pitch=pitch)
        start, end = at + gap, at + gap + len(spoken) // SAMPLES_PER_MS
        if end > duration_ms - EDGE_MS:
            break
        yield pause(gap)
        utterance = Utterance(start_ms=start, end_ms=end, words=tuple(words))
        yield _with_noise(spoken, noise_db, noise), utterance
        at, gap = end, rng.randint(*pauses_ms)
    yield pause(duration_ms - at)


def tape(**options: Unpack[TapeOptions]) -> Tape:
    """Make a tape in memory."""
    parts = list(pieces(**options))
    pcm = np.concatenate([part for part, _ in parts])
    return Tape(
        language=options.get("language", "en"),
        utterances=tuple(utterance for _, utterance in parts if utterance),
        duration_ms=len(pcm) // SAMPLES_PER_MS,
        pcm=pcm,
    )


def write_tape(path: Path, **options: Unpack[TapeOptions]) -> Script:
    """Make a tape as a WAV file, in constant memory for any length, and return its script."""
    utterances: list[Utterance] = []
    samples = 0
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        for part, utterance in pieces(**options):
            file.writeframesraw(part.tobytes())
            samples += len(part)
            utterances += [utterance] if utterance else []
    return Script(
        language=options.get("language", "en"),
        utterances=tuple(utterances),
        duration_ms=samples // SAMPLES_PER_MS,
    )


def write_wav(path: Path, sound: Tape | Pcm) -> Path:
    """Write a tape, or bare samples, as a 16-bit mono WAV file of 16 kHz."""
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE_HZ, 0, "NONE", ""))
        file.writeframes((sound.pcm if isinstance(sound, Tape) else sound).tobytes())
    return path


def encode(sound: Tape | Pcm | Path, path: Path, *args: str) -> Path:
    """Turn samples, a tape or a media file into another format by ffmpeg; `args` are output options."""
    source, raw = ["-i", f"file:{sound}"], None
    if not isinstance(sound, Path):
        source = ["-f", "s16le", "-ar", str(RATE_HZ), "-ac", "1", "-i", "pipe:0"]
        raw = (sound.pcm if isinstance(sound, Tape) else sound).tobytes()
    command = [
        "ffmpeg",
        "-nostdin",
        "-hide_banner",
        "-loglevel",
        "error",
        "-y",
        *source,
        *args,
        f"file:{path}",
    ]
    subprocess.run(command, input=raw, check=True)
    return path


# --- comparing the script with a transcript ----------------------


def normalise(text: str) -> list[str]:
    """Split a text into lower-case words without punctuation; a hyphen separates words too."""
    return re.findall(r"\w+", text.lower())


@dataclass(frozen=True, kw_only=True)
class WordErrors:
    """How a transcript differs from the spoken words; `wer` is a share of the spoken words."""

    wer: float
    substitutions: int
    deletions: int
    insertions: int


def word_errors(reference: Sequence[str], hypothesis: str) -> WordErrors:
    """Count the wrong, missing and extra words of a transcript, letter case and punctuation aside."""
    found = jiwer.process_words(" ".join(normalise(" ".join(reference))), " ".join(normalise(hypothesis)))
    return WordErrors(
        wer=found.wer,
        substitutions=found.substitutions,
        deletions=found.deletions,
        insertions=found.insertions,
    )


@dataclass(frozen=True, kw_only=True)
class SeamErrors:
    """The words that are missing near cuts, and those that are doubled there."""

    lost: tuple[str, ...]
    doubled: tuple[str, ...]


def seam_errors(
    utterances: Sequence[Utterance],
    cuts_ms: Sequence[int],
    transcribed: Sequence[TimedWord],
    *,
    window_ms: int = 3000,
) -> SeamErrors:
    """Count what cutting did to the words within `window_ms` of the cuts.

    Lost is a word that has no counterpart in the transcript; doubled is an extra word which also stands among
    the nearest words before or after the extra run that it belongs to. A wrong word is neither.
    """
    spoken = [word for utterance in utterances for word in utterance.word_times()]
    tokens = [(token, start, end) for text, start, end in transcribed for token in normalise(text)]
    texts = [text for text, _, _ in tokens]

    def near(word: TimedWord) -> bool:
        return any(word[1] - window_ms <= cut <= word[2] + window_ms for cut in cuts_ms)

    lost: list[str] = []
    doubled: list[str] = []
    (chunks,) = jiwer.process_words(" ".join(text for text, _, _ in spoken), " ".join(texts)).alignments
    for chunk in chunks:
        if chunk.type == "delete":
            lost += [word[0] for word in spoken[chunk.ref_start_idx : chunk.ref_end_idx] if near(word)]
        elif chunk.type == "insert":
            first, end = chunk.hyp_start_idx, chunk.hyp_end_idx
            around = texts[max(0, 2 * first - end) : first] + texts[end : 2 * end - first]
            doubled += [word[0] for word in tokens[first:end] if near(word) and word[0] in around]
    return SeamErrors(lost=tuple(lost), doubled=tuple(doubled))
