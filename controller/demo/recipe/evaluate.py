"""Measure a model folder: word errors, language and times on unseen sentences, in five voices.

python -m controller.demo.recipe.evaluate FOLDER [COMPUTE_TYPE]
"""

import random
import sys
import time
from dataclasses import dataclass

import numpy as np
from faster_whisper import WhisperModel

from controller.demo.recipe.corpus import Language, Words, sentence
from controller.demo.recipe.speech_bank import Floats, speak

RATE_HZ = 16_000
VOICES: dict[Language, list[str]] = {"en": ["en-us", "en-gb+m3", "en-us+f2"], "pt": ["pt-br", "pt-br+f1"]}


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A test recording: its sound, its words and the seconds at which its utterances start."""

    sound: Floats
    words: Words
    starts: list[float]


def record(language: Language, voice: str, rng: random.Random, seconds: int = 70) -> Spoken:
    """Speak sentences with pauses until the recording is long enough, and add a little noise."""
    parts, words, starts, samples = [np.zeros(8000, np.float32)], [], [], 8000
    while samples < seconds * RATE_HZ:
        text = sentence(language, rng)
        spoken = speak(" ".join(text), voice, 165, 50)
        pause = np.zeros(int(rng.uniform(0.3, 1.2) * RATE_HZ), np.float32)
        starts.append(samples / RATE_HZ)
        words += text
        parts += [spoken, pause]
        samples += len(spoken) + len(pause)
    noise = np.random.default_rng(0).normal(0, 0.001, samples).astype(np.float32)
    return Spoken(sound=np.concatenate(parts) + noise, words=words, starts=starts)


def word_distance(spoken: Words, transcribed: Words) -> int:
    """Return the Levenshtein distance in words."""
    above = list(range(len(transcribed) + 1))
    for row, word in enumerate(spoken, 1):
        below = [row]
        for column, other in enumerate(transcribed, 1):
            below.append(min(above[column] + 1, below[-1] + 1, above[column - 1] + (word != other)))
        above = below
    return above[-1]


def evaluate(model: WhisperModel, language: Language, voice: str, rng: random.Random) -> str:
    """Transcribe one test recording and return the figures as one line."""
    tape = record(language, voice, rng)
    began = time.time()
    found, info = model.transcribe(tape.sound, beam_size=5, word_timestamps=True, condition_on_previous_text=False)
    segments = list(found)
    took = time.time() - began
    transcribed = " ".join(segment.text for segment in segments).replace(".", "").split()
    times = np.array([word.start for segment in segments for word in segment.words or []] or [0.0])
    late = np.median([np.abs(times - start).min() for start in tape.starts])
    return (
        f"{language} {voice}: detected {info.language} ({info.language_probability:.2f}), "
        f"WER {word_distance(tape.words, transcribed) / len(tape.words):.3f} of {len(tape.words)} words, "
        f"median error of starts {late:.2f} s, {took:.1f} s for {len(tape.sound) / RATE_HZ:.0f} s"
    )


def main(folder: str, compute_type: str = "int8") -> None:
    """Evaluate a model folder in every voice."""
    model = WhisperModel(folder, device="cpu", compute_type=compute_type, cpu_threads=2)
    rng = random.Random(5)
    for language, voices in VOICES.items():
        for voice in voices:
            print(evaluate(model, language, voice, rng), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
