"""Training examples: windows of spoken utterances with pauses, noise and loudness, and their tokens.

The order of the random draws is part of the recipe.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from controller.demo.recipe.corpus import Language
from controller.demo.recipe.speech_bank import Entry, Floats, Frames
from controller.demo.recipe.vocabulary import TIME_STAMPS, Tokens

IGNORE = -100
"""The target of positions on which there is no loss, as torch's cross entropy has it."""
PREVIOUS_TEXT_TOKENS = 223  # as many as faster-whisper gives
FRAMES_PER_STAMP = 2  # a frame is 10 ms, a time stamp 20 ms


class Bank:
    """Utterances of speech_bank.py, memory-mapped."""

    def __init__(self, name: str) -> None:
        self.mel: Frames = np.load(f"{name}.npy", mmap_mode="r")
        self.entries: list[Entry] = [tuple(entry) for entry in json.loads(Path(f"{name}.json").read_text())]
        self.offsets = np.concatenate([[0], np.cumsum([entry[3] for entry in self.entries])])
        self.by_voice: dict[tuple[Language, str], list[int]] = {}
        self.by_language: dict[Language, list[int]] = {"en": [], "pt": []}
        self.counted: dict[Language, list[int]] = {"en": [], "pt": []}
        for i, (language, _, voice, _, run) in enumerate(self.entries):
            self.by_voice.setdefault((language, voice), []).append(i)
            self.by_language[language].append(i)
            if run:
                self.counted[language].append(i)

    def frames(self, i: int) -> Frames:
        """The log-mel frames of an utterance, one a row."""
        return self.mel[self.offsets[i] : self.offsets[i + 1]]

    def text(self, i: int) -> str:
        """The words of an utterance."""
        return self.entries[i][1]

    def next_number(self, i: int) -> int | None:
        """The utterance that counts on from this one, if there is one."""
        following = i + 1
        if i < 0 or following >= len(self.entries) or not self.entries[i][4]:
            return None
        return following if self.entries[following][4] == self.entries[i][4] else None


class Segment(NamedTuple):
    """An utterance in a window, in frames; `end` is None where the window cuts it off."""

    start: int
    end: int | None
    text: str


@dataclass(frozen=True, kw_only=True)
class Example:
    """A window and its target tokens: no loss before position `first`, no CTC if the last words are cut off."""

    mel: Floats
    ids: list[int]
    first: int
    ctc: list[int] | None


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Examples side by side."""

    mel: torch.Tensor
    ids: torch.Tensor
    targets: torch.Tensor
    ctc: list[list[int] | None]


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the utterances of one window are chosen and laid out."""

    pool: Sequence[int]
    gain: float
    counting: bool
    dense: bool


def _lay(
    bank: Bank, mel: Floats, start: int, style: Style, rng: random.Random, nr: np.random.Generator
) -> list[Segment]:
    """Lay utterances into an empty window until it is full; the last may be cut off."""
    segments: list[Segment] = []
    i, at = -1, start
    while True:
        following = bank.next_number(i) if style.counting else None
        i = rng.choice(style.pool) if following is None else following
        frames = bank.frames(i)
        end = at + len(frames)
        if at >= len(mel) - 10:
            return segments
        if end > len(mel):
            if rng.random() >= 0.5:
                mel[at:] = frames[: len(mel) - at].astype(np.float32) + style.gain
                segments.append(Segment(at, None, bank.text(i)))
            return segments
        mel[at:end] = frames.astype(np.float32) + style.gain
        segments.append(Segment(at, end, bank.text(i)))
        if style.dense:
            at = end + int(nr.exponential(4) + 1)
        else:
            at = end + int(rng.choice([nr.exponential(30) + 8, nr.exponential(90) + 20]))


def _finish(mel: Floats, gain: float, rng: random.Random, nr: np.random.Generator) -> Floats:
    """Mix noise in, then clamp and scale the frames as Whisper does."""
    power = 10.0**mel
    if rng.random() < 0.75:
        level = rng.uniform(-6.5, -2.2) + (gain if rng.random() < 0.5 else 0)
        tilt = np.linspace(0, rng.uniform(-2, 0.5), 80, dtype=np.float32)
        power += 10.0 ** (level + tilt) * nr.gamma(2.0, 0.5, power.shape).astype(np.float32)
    mixed = np.log10(np.maximum(power, 1e-10))
    finished: Floats = (np.maximum(mixed, mixed.max() - 8.0 + rng.uniform(0, 0.3)) + 4) / 4
    return finished


def _previous_text(bank: Bank, tokens: Tokens, language: Language, rng: random.Random) -> list[int]:
    """A prompt of unrelated sentences, with time stamps or without; often none."""
    if rng.random() >= 0.45:
        return []
    prompt, at, stamped = [tokens.previous], rng.randint(0, 60), rng.random() < 0.7
    last = TIME_STAMPS - 1
    for _ in range(rng.randint(1, 14)):
        ids = tokens.encode(bank.text(rng.choice(bank.by_language[language])))
        if stamped:
            end = min(last, at + 40 + 12 * len(ids))
            ids = [tokens.first_stamp + at, *ids, tokens.first_stamp + end]
            at = min(last, end + rng.randint(5, 60))
        if len(prompt) + len(ids) > PREVIOUS_TEXT_TOKENS:
            break
        prompt += ids
    return prompt


def _transcript(tokens: Tokens, segments: list[Segment], *, stamps: bool) -> tuple[list[int], list[int]]:
    """The tokens of the utterances, for the decoder and for CTC. Of one cut off only the start is known."""
    text_ids: list[int] = []
    ctc: list[int] = []
    for start, end, text in segments:
        opening = [tokens.first_stamp + start // FRAMES_PER_STAMP] if stamps else []
        if end is None:
            return text_ids + opening, ctc
        ids = tokens.encode(text)
        closing = tokens.first_stamp + min(end // FRAMES_PER_STAMP, TIME_STAMPS - 1)
        text_ids += [*opening, *ids, *([closing] if stamps else [])]
        ctc += [tokens.ctc[token] for token in ids]
    return text_ids, ctc


def window(
    bank: Bank, tokens: Tokens, frames: int, rng: random.Random, nr: np.random.Generator, no_stamps: float
) -> Example:
    """Draw one example of a given length, with a probability of *no_stamps* without time stamps."""
    language: Language = rng.choice(("en", "en", "pt"))
    length = frames if rng.random() < 0.6 else int(rng.uniform(0.15, 1.0) * frames)
    mel = np.full((length, 80), -10.0, np.float32)
    start = int(nr.exponential(40))
    silent = rng.random() < 0.04
    pool = bank.by_language[language]
    if rng.random() < 0.7:
        pool = bank.by_voice[rng.choice([key for key in bank.by_voice if key[0] == language])]
    gain = rng.uniform(-2.0, 0.3)
    counting, dense = rng.random() < 0.25, rng.random() < 0.35
    style = Style(pool=bank.counted[language] if counting else pool, gain=gain, counting=counting, dense=dense)
    segments = [] if silent else _lay(bank, mel, start, style, rng, nr)
    padded = np.zeros((frames, 80), np.float32)
    padded[:length] = _finish(mel, gain, rng, nr)

    stamps = rng.random() < 1 - no_stamps
    text_ids, ctc = _transcript(tokens, segments, stamps=stamps)
    head = [
        tokens.start,
        tokens.languages[language],
        tokens.transcribe,
        *([] if stamps else [tokens.no_stamps]),
    ]
    prompt = _previous_text(bank, tokens, language, rng)
    ids = [*prompt, *head, *text_ids, tokens.end] if segments else [*prompt, tokens.start, tokens.no_speech, tokens.end]
    cut = bool(segments) and segments[-1].end is None
    if cut and not stamps:
        ids.pop()  # the words cut off are not known: no loss on the end either
    dense_ids = [tokens.dense[token] for token in ids]
    return Example(mel=padded, ids=dense_ids, first=len(prompt), ctc=None if cut else ctc)


def batch(
    bank: Bank,
    tokens: Tokens,
    size: int,
    frames: int,
    rng: random.Random,
    nr: np.random.Generator,
    no_stamps: float = 0.25,
) -> Batch:
    """Draw a batch of examples; a part of *no_stamps* of them has no time stamps."""
    examples = [window(bank, tokens, frames, rng, nr, no_stamps) for _ in range(size)]
    longest = max(len(example.ids) for example in examples)
    ids: npt.NDArray[np.int64] = np.full((size, longest), tokens.dense[tokens.end])
    targets: npt.NDArray[np.int64] = np.full((size, longest), IGNORE)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = example.ids
        targets[row, example.first : len(example.ids) - 1] = example.ids[example.first + 1 :]
    return Batch(
        mel=torch.from_numpy(np.stack([example.mel for example in examples])).transpose(1, 2),
        ids=torch.from_numpy(ids),
        targets=torch.from_numpy(targets),
        ctc=[example.ctc for example in examples],
    )
