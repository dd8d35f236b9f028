"""A story read aloud, for models that understand any words, and the comparison of two transcripts of it.

The texts are ``tests/data/reading.*.txt``, one sentence a line. espeak-ng reads them, so everything needs only wheels.
Whisper base understands its English well (4 % wrong words). In Portuguese it hears a *d* where espeak-ng says an *r*
between vowels, and a vowel after an *r* that ends a syllable, so that text avoids both (16 % wrong words, else 41 %).
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import jiwer
import numpy as np

from controller.demo.recipe.corpus import Language
from tests.speech import EDGE_MS, SAMPLES_PER_MS, Pcm, Script, Tape, TimedWord, Utterance, normalise, say, silence

Voice = tuple[str, int, int]
"""espeak-ng's name, words a minute, pitch. No variant with breath (f2, f3): its noise differs between processes."""

VOICES: dict[Language, tuple[Voice, ...]] = {
    "en": (("en-us", 155, 50), ("en-us+f1", 145, 50), ("en-us+m3", 150, 45)),
    "pt": (("pt-br", 130, 50), ("pt-br", 125, 42), ("pt-br", 135, 58)),
}
_LINES_A_VOICE = 4
_DATA = Path(__file__).parent / "data"


def sentences(language: Language) -> list[str]:
    """The sentences of the story."""
    return (_DATA / f"reading.{language}.txt").read_text(encoding="utf-8").splitlines()


def read_aloud(
    language: Language,
    *,
    lines: slice = slice(None),
    turn: int = 0,
    pause_ms: tuple[int, int] = (250, 1_100),
    seed: int = 0,
) -> Tape:
    """Some sentences of the story, an utterance each; the voice changes every four, and *turn* sets the first one."""
    rng = random.Random(seed)
    parts: list[Pcm] = [silence(EDGE_MS / 1000)]
    utterances: list[Utterance] = []
    at = EDGE_MS
    for number, text in enumerate(sentences(language)[lines]):
        voice, speed, pitch = VOICES[language][(turn + number // _LINES_A_VOICE) % len(VOICES[language])]
        spoken, gap = say(text, voice=voice, speed=speed, pitch=pitch), rng.randint(*pause_ms)
        end = at + len(spoken) // SAMPLES_PER_MS
        utterances.append(Utterance(start_ms=at, end_ms=end, words=tuple(text.split())))
        parts += [spoken, silence(gap / 1000)]
        at = end + gap
    pcm = with_faint_noise(np.concatenate(parts), seed)
    return Tape(language=language, utterances=tuple(utterances), duration_ms=len(pcm) // SAMPLES_PER_MS, pcm=pcm)


def with_faint_noise(pcm: Pcm, seed: int = 0) -> Pcm:
    """With white noise of 60 dB below full scale: recordings have no digital silence."""
    sound = pcm + 32.8 * np.random.default_rng(seed).standard_normal(len(pcm))
    return np.clip(np.rint(sound), -32768, 32767).astype(np.int16)


def joined(tapes: Sequence[Tape]) -> Tape:
    """The tapes one after the other."""
    utterances: list[Utterance] = []
    at = 0
    for one in tapes:
        utterances += [
            Utterance(start_ms=at + each.start_ms, end_ms=at + each.end_ms, words=each.words) for each in one.utterances
        ]
        at += one.duration_ms
    pcm = np.concatenate([one.pcm for one in tapes])
    return Tape(language=tapes[0].language, utterances=tuple(utterances), duration_ms=at, pcm=pcm)


def edits_by_utterance(said: Script, text: str) -> list[int]:
    """The number of missing, wrong and added words of a transcript in each utterance.

    An added word belongs to the utterance of the spoken word after it.
    """
    tokens = [
        (token, number) for number, each in enumerate(said.utterances) for token in normalise(" ".join(each.words))
    ]
    counts = [0] * len(said.utterances)
    heard = normalise(text)
    if not heard:
        return [sum(number == each for _, each in tokens) for number in range(len(counts))]
    (chunks,) = jiwer.process_words(" ".join(token for token, _ in tokens), " ".join(heard)).alignments
    for chunk in chunks:
        if chunk.type == "insert":
            counts[tokens[min(chunk.ref_start_idx, len(tokens) - 1)][1]] += chunk.hyp_end_idx - chunk.hyp_start_idx
        elif chunk.type != "equal":
            for _, number in tokens[chunk.ref_start_idx : chunk.ref_end_idx]:
                counts[number] += 1
    return counts


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Word error rates of two transcripts of the same speech, and their difference, all in percent.

    *low* and *high*: the 95 % interval of the difference by a bootstrap over the utterances.
    """

    words: int
    before: float
    after: float
    low: float
    high: float

    @property
    def points(self) -> float:
        return self.after - self.before


def compared(pairs: Sequence[tuple[Script, str, str]]) -> Comparison:
    """Compare the second text with the first, over several scripts."""
    before = np.concatenate([edits_by_utterance(said, text) for said, text, _ in pairs])
    after = np.concatenate([edits_by_utterance(said, text) for said, _, text in pairs])
    words = np.concatenate([[len(normalise(" ".join(u.words))) for u in said.utterances] for said, _, _ in pairs])
    drawn = np.random.default_rng(0).integers(0, len(words), (4_000, len(words)))
    shares = 100 * (after - before)[drawn].sum(axis=1) / words[drawn].sum(axis=1)
    low, high = np.percentile(shares, [2.5, 97.5])
    total = int(words.sum())
    return Comparison(
        words=total,
        before=100 * int(before.sum()) / total,
        after=100 * int(after.sum()) / total,
        low=float(low),
        high=float(high),
    )


def times_off_ms(said: Script, heard: Sequence[TimedWord]) -> list[int]:
    """For every word that was transcribed correctly: by how much its middle is later than where it was spoken.

    The spoken times are accurate to about 0.2 s.
    """
    spoken = _tokens(word for utterance in said.utterances for word in utterance.word_times())
    found = _tokens(heard)
    (chunks,) = jiwer.process_words(
        " ".join(token for token, *_ in spoken), " ".join(token for token, *_ in found)
    ).alignments
    pairs = [
        (spoken[chunk.ref_start_idx + number], found[chunk.hyp_start_idx + number])
        for chunk in chunks
        if chunk.type == "equal"
        for number in range(chunk.ref_end_idx - chunk.ref_start_idx)
    ]
    return [(b[1] + b[2] - a[1] - a[2]) // 2 for a, b in pairs]


def _tokens(words: Iterable[TimedWord]) -> list[TimedWord]:
    return [(token, start, end) for word, start, end in words for token in normalise(word)]


def longest_run(text: str) -> int:
    """The most times that a phrase of up to 20 words is said in direct succession."""
    words = normalise(text)
    most = 1 if words else 0
    for period in range(1, 21):
        same = 0
        for earlier, later in zip(words, words[period:], strict=False):
            same = same + 1 if earlier == later else 0
            most = max(most, 1 + same // period)
    return most
