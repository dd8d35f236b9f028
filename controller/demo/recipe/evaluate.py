"""Measure a model folder: word errors, language and times on unseen sentences, in five voices.

    python -m controller.demo.recipe.evaluate FOLDER [COMPUTE_TYPE]

Each recording is transcribed twice: one window after the other with time stamps, as faster-whisper does by default,
and without time stamps in a batch of windows cut in pauses.
"""

import random
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from faster_whisper import BatchedInferencePipeline, WhisperModel
from faster_whisper.transcribe import Segment, TranscriptionInfo

from controller.demo.recipe.corpus import Language, Words, sentence
from controller.demo.recipe.speech_bank import Floats, speak

RATE_HZ = 16_000
WINDOW_SECONDS = 30
FRAME = 160
"""Samples in which a window's end is looked for."""
VOICES: dict[Language, list[str]] = {"en": ["en-us", "en-gb+m3", "en-us+f2"], "pt": ["pt-br", "pt-br+f1"]}
PAUSES: dict[str, tuple[float, float]] = {"sentences": (0.3, 1.2), "dense": (0.01, 0.08)}
Found = tuple[Iterable[Segment], TranscriptionInfo]


@dataclass(frozen=True, kw_only=True)
class Spoken:
    """A test recording: its sound, its words and the seconds at which its utterances start."""

    sound: Floats
    words: Words
    starts: list[float]


def record(
    language: Language, voice: str, rng: random.Random, seconds: int = 70, pauses: tuple[float, float] = (0.3, 1.2)
) -> Spoken:
    """Speak sentences with pauses until the recording is long enough, and add a little noise."""
    parts, words, starts, samples = [np.zeros(8000, np.float32)], [], [], 8000
    while samples < seconds * RATE_HZ:
        text = sentence(language, rng)
        spoken = speak(" ".join(text), voice, 165, 50)
        pause = np.zeros(int(rng.uniform(*pauses) * RATE_HZ), np.float32)
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


def windows(sound: Floats) -> list[dict[str, float]]:
    """Cut a recording in the longest pause of the second half of each window; return seconds."""
    frames = sound[: len(sound) // FRAME * FRAME].reshape(-1, FRAME)
    loud = np.sqrt((frames**2).mean(1)) > 0.005
    longest = WINDOW_SECONDS * RATE_HZ // FRAME
    cuts = [0]
    while len(frames) - cuts[-1] > longest:
        first = cuts[-1] + longest // 2
        edges = [first, *(first + np.flatnonzero(loud[first : cuts[-1] + longest])), cuts[-1] + longest]
        length, at = max((end - start, start) for start, end in pairwise(edges))
        cuts.append(int(at + length // 2))
    seconds = [*(cut * FRAME / RATE_HZ for cut in cuts), len(sound) / RATE_HZ]
    return [{"start": start, "end": end} for start, end in pairwise(seconds)]


def with_stamps(model: WhisperModel, sound: Floats) -> Found:
    """Decode one window after the other; each starts where the time stamps of the one before end."""
    return model.transcribe(sound, beam_size=5, word_timestamps=True, condition_on_previous_text=False)


def without_stamps(model: WhisperModel, sound: Floats) -> Found:
    """Decode windows cut in pauses, side by side."""
    return BatchedInferencePipeline(model).transcribe(
        sound, beam_size=5, word_timestamps=True, without_timestamps=True, clip_timestamps=windows(sound), batch_size=8
    )


MODES: dict[str, Callable[[WhisperModel, Floats], Found]] = {
    "with stamps": with_stamps,
    "without stamps": without_stamps,
}


def evaluate(model: WhisperModel, tape: Spoken, mode: str) -> str:
    """Transcribe one test recording and return the figures as one line."""
    began = time.time()
    found, info = MODES[mode](model, tape.sound)
    segments = list(found)
    took = time.time() - began
    transcribed = " ".join(segment.text for segment in segments).replace(".", "").split()
    times = np.array([word.start for segment in segments for word in segment.words or []] or [0.0])
    late = np.median([np.abs(times - start).min() for start in tape.starts])
    return (
        f"{mode}: detected {info.language} ({info.language_probability:.2f}), "
        f"WER {word_distance(tape.words, transcribed) / len(tape.words):.3f} of {len(tape.words)} words, "
        f"median error of starts {late:.2f} s, {took:.1f} s for {len(tape.sound) / RATE_HZ:.0f} s"
    )


def main(folder: str, compute_type: str = "int8") -> None:
    """Evaluate a model folder in every voice, in both modes."""
    model = WhisperModel(folder, device="cpu", compute_type=compute_type, cpu_threads=2)
    rng = random.Random(5)
    for kind, pauses in PAUSES.items():
        for language, voices in VOICES.items():
            for voice in voices:
                tape = record(language, voice, rng, pauses=pauses)
                for mode in MODES:
                    print(f"{kind} {language} {voice} {evaluate(model, tape, mode)}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
