"""Speak the corpus with espeak-ng and keep it as log-mel frames, to be laid into training windows.

    python -m controller.demo.recipe.speech_bank ENGLISH PORTUGUESE NAME FIRST_SEED

The first two are numbers of sentences, rounded down to whole blocks of 200; the speech goes to NAME.npy, what
is spoken in it to NAME.json.
"""

import json
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from faster_whisper.feature_extractor import FeatureExtractor
from scipy.signal import resample_poly

from controller.demo.recipe.corpus import NUMBER, Language, sentence

Floats = npt.NDArray[np.float32]
Frames = npt.NDArray[np.float16]
Entry = tuple[Language, str, str, int, int]
"""An utterance: language, text, voice, number of frames, and its run of counted numbers (0: none)."""

VARIANTS = """
+m1 +m2 +m3 +m4 +m5 +m6 +m7 +f1 +f2 +f3 +f4 +f5
+Alex +Andrea +David +Linda +Max +Michael +Pedro +Annie
""".split()  # noqa: SIM905 - a word list reads best as text
VOICES: dict[Language, list[str]] = {
    "en": ["en-us", "en-us", "en-gb", "en-gb-x-rp"],
    "pt": ["pt-br", "pt-br", "pt"],
}
WAV_HEADER_BYTES = 44
BLOCK = 200  # sentences to a process and a seed


def speak(text: str, voice: str, speed: int, pitch: int) -> Floats:
    """Speak a text: samples between -1 and 1 at 16 kHz, without silence at the ends."""
    command = ["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "--stdout", text]
    raw = subprocess.run(command, capture_output=True, check=True).stdout[WAV_HEADER_BYTES:]
    pcm = np.frombuffer(raw[: len(raw) // 2 * 2], dtype="<i2").astype(np.float32) / 32768
    sound: Floats = resample_poly(pcm, 320, 441).astype(np.float32)
    loud = np.abs(sound) > 0.01
    if not loud.any():
        return sound
    return sound[np.argmax(loud) : len(sound) - np.argmax(loud[::-1])]


def log_mel(extractor: FeatureExtractor, sound: Floats) -> Frames:
    """Whisper's log10-mel frames, but neither clamped nor scaled: windows are mixed before that is done."""
    hann = np.hanning(extractor.n_fft + 1)[:-1].astype("float32")
    spectrum = extractor.stft(sound, extractor.n_fft, extractor.hop_length, window=hann, return_complex=True).astype(
        "complex64"
    )
    power = np.abs(spectrum[..., :-1]) ** 2
    frames: Frames = np.log10(np.clip(extractor.mel_filters @ power, 1e-10, None)).astype(np.float16)
    return frames


def speak_block(block: tuple[int, Language, int]) -> tuple[Frames, list[Entry]]:
    """Speak some sentences, now and then eight numbers counted upward by one voice instead."""
    seed, language, sentences = block
    rng = random.Random(seed)
    extractor = FeatureExtractor()
    frames: list[Frames] = []
    entries: list[Entry] = []
    run, left, at = 0, 0, 0
    voice, speed, pitch = "", 0, 0
    for _ in range(sentences):
        if left == 0:
            voice = rng.choice(VOICES[language]) + rng.choice(["", *VARIANTS])
            speed, pitch = rng.randint(120, 210), rng.randint(25, 75)
            if rng.random() < 0.06:
                run, left, at = run + 1, 8, int(10 ** rng.uniform(0, 3.7))
        counted = left > 0
        words = NUMBER[language](at) if counted else sentence(language, rng)
        if counted:
            left, at = left - 1, at + 1
        text = " ".join(words)
        mel = log_mel(extractor, np.pad(speak(text, voice, speed, pitch), (80, 80)))
        frames.append(mel)
        entries.append((language, text, voice, mel.shape[1], seed * 100 + run if counted else 0))
    return np.concatenate(frames, 1), entries


def main(english: int, portuguese: int, name: str, first_seed: int) -> None:
    """Fill a bank with two processes."""
    blocks: list[tuple[int, Language, int]] = [
        *((first_seed + i, "en", BLOCK) for i in range(english // BLOCK)),
        *((first_seed + 5000 + i, "pt", BLOCK) for i in range(portuguese // BLOCK)),
    ]
    frames: list[Frames] = []
    entries: list[Entry] = []
    with ProcessPoolExecutor(2) as pool:
        for done, (mel, spoken) in enumerate(pool.map(speak_block, blocks), 1):
            frames.append(mel)
            entries += spoken
            print(f"{done}/{len(blocks)}", flush=True)
    np.save(f"{name}.npy", np.concatenate(frames, 1).T.copy())
    Path(f"{name}.json").write_text(json.dumps(entries))
    print("frames", sum(entry[3] for entry in entries))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
