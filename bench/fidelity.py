"""What cutting does to words: recordings with known words, cut and whole, compared around every cut.

    python -m bench.fidelity [--minutes 12] [--only NAME]

A word is *wrong* near a cut where the alignment with the spoken words has an edit within three seconds of it. The
demonstration model errs by itself too, at the edges of its own windows: so the same places are counted in a transcript
of the whole file, and what counts is the difference.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jiwer
import numpy as np

from bench.common import WHOLE, machine, table, transcribe
from controller.plan import PlanOptions
from controller.transcript import Transcript
from tests.speech import HeardWord, Pcm, Script, Tape, normalise, seam_errors, tape, word_errors, write_wav

NEAR_MS = 3_000
ANY_PAUSE = PlanOptions(threshold_ms=0, chunk_ms=20_000)
# No run of quiet is long enough to be a pause or a dip, and the window is a hop: a cut at the grid, wherever it falls.
FORCED = PlanOptions(threshold_ms=0, chunk_ms=15_000, window_ms=20, pause_ms=600_000, dip_ms=600_000)
FIXED = FORCED.model_copy(update={"pad_ms": 0})

Voice = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Recordings of one kind, cut in one way. *inside*: only cuts inside an utterance count."""

    name: str
    plan: PlanOptions
    voices: tuple[Voice, ...]
    inside: bool = False
    dirty: Callable[[Pcm, np.random.Generator], Pcm] | None = None
    kind: Any = "sentences"


EN: tuple[Voice, ...] = (("en", "en-us"), ("en", "en+m3"), ("en", "en-us+f2"))
PT: tuple[Voice, ...] = (("pt", "pt-br"), ("pt", "pt-br+f1"))


def noise(pcm: Pcm, rng: np.random.Generator) -> Pcm:
    """Steady white noise 12 dB under the speech."""
    return mixed(pcm, rng.standard_normal(len(pcm)), under_db=12)


def music(pcm: Pcm, _: np.random.Generator) -> Pcm:
    """Three chords in turn, with a beat, 18 dB under the speech."""
    t = np.arange(len(pcm)) / 16_000
    chords = np.array([[220, 277, 330], [196, 247, 294], [174, 220, 262]])
    notes = chords[(t // 2).astype(int) % 3]
    bed = sum(np.sin(2 * np.pi * notes[:, voice] * t) for voice in range(3)) * (0.6 + 0.4 * np.exp(-6 * (t % 0.5)))
    return mixed(pcm, np.asarray(bed), under_db=18)


def breath(pcm: Pcm, rng: np.random.Generator) -> Pcm:
    """A breath of 0.4 s every three seconds, wherever it falls, 20 dB under the speech."""
    sound = np.zeros(len(pcm))
    shape = np.hanning(6400)
    for begin in range(8_000, len(pcm) - 6400, 48_000):
        sound[begin : begin + 6400] = shape * np.convolve(rng.standard_normal(6400), np.ones(4) / 4, "same")
    return mixed(pcm, sound, under_db=20, active=np.abs(sound) > 0)


def mixed(pcm: Pcm, other: np.ndarray[Any, Any], *, under_db: float, active: Any = slice(None)) -> Pcm:
    """*other* under the speech by so many dB, both measured where they sound."""
    speech = pcm.astype(float)
    loud = speech[np.abs(speech) > 600]
    gain = np.sqrt(np.mean(loud**2)) / np.sqrt(np.mean(other[active] ** 2)) * 10 ** (-under_db / 20)
    whole: Pcm = np.clip(np.rint(speech + gain * other), -32768, 32767).astype(np.int16)
    return whole


CASES = (
    Case(name="pauses, English", plan=ANY_PAUSE, voices=EN),
    Case(name="pauses, Portuguese", plan=ANY_PAUSE, voices=PT),
    Case(name="pauses, noise 12 dB under", plan=ANY_PAUSE, voices=EN[:1], dirty=noise),
    Case(name="pauses, music 18 dB under", plan=ANY_PAUSE, voices=EN[1:2], dirty=music),
    Case(name="pauses, breaths", plan=ANY_PAUSE, voices=EN[2:], dirty=breath),
    Case(name="forced in sentences, 2 s padding", plan=FORCED, voices=(*EN, *PT), inside=True),
    Case(name="fixed in sentences, no padding (naive)", plan=FIXED, voices=(EN[0], PT[0]), inside=True),
)


@dataclass(kw_only=True)
class Tally:
    """Sums over the recordings of a case."""

    cuts: int = 0
    in_pauses: int = 0
    words: int = 0
    errors_whole: float = 0
    errors_cut: float = 0
    near_whole: int = 0
    near_cut: int = 0
    seams_whole: int = 0
    seams_cut: int = 0
    tails_lost: int = 0
    recordings: int = 0


def measure(case: Case, minutes: float, folder: Path) -> Tally:
    """Make, transcribe and compare every recording of the case."""
    tally = Tally()
    for number, (language, voice) in enumerate(case.voices):
        said = tape(seconds=60 * minutes, seed=100 + number, language=language, voice=voice, kind=case.kind)  # type: ignore[arg-type]
        sound = case.dirty(said.pcm, np.random.default_rng(number)) if case.dirty else said.pcm
        media = write_wav(folder / f"{number}.wav", sound)
        cut, plan = transcribe(media, case.plan, language=language)
        whole, _ = transcribe(media, WHOLE, language=language)
        every = [span.end_ms for span in plan.spans[:-1]]
        cuts = [at for at in every if inside(said, at)] if case.inside else every
        tally.cuts += len(cuts)
        tally.in_pauses += sum(not inside(said, at, margin_ms=0) for at in cuts)
        tally.recordings += 1
        tally.words += len(said.words)
        tally.errors_whole += word_errors(said.words, whole.text).wer * len(said.words)
        tally.errors_cut += word_errors(said.words, cut.text).wer * len(said.words)
        tally.near_whole += wrong_near(said, cuts, whole)
        tally.near_cut += wrong_near(said, cuts, cut)
        tally.seams_whole += seam_count(said, cuts, whole)
        tally.seams_cut += seam_count(said, cuts, cut)
        tally.tails_lost += normalise(cut.text)[-1:] != normalise(said.words[-1])[-1:] and (
            normalise(whole.text)[-1:] == normalise(said.words[-1])[-1:]
        )
        print(f"{case.name}: {voice}: {len(cuts)} cuts", file=sys.stderr, flush=True)
    return tally


def inside(said: Tape, at_ms: int, *, margin_ms: int = 100) -> bool:
    """Whether somebody is speaking there."""
    return any(item.start_ms + margin_ms < at_ms < item.end_ms - margin_ms for item in said.utterances)


def heard(transcript: Transcript) -> list[HeardWord]:
    """Its words with their times."""
    return [
        (word["word"], word["start_ms"], word["end_ms"]) for segment in transcript.segments for word in segment.words
    ]


def seam_count(said: Script, cuts: list[int], transcript: Transcript) -> int:
    """Words lost or doubled near the cuts."""
    found = seam_errors(said.utterances, cuts, heard(transcript), window_ms=NEAR_MS)
    return len(found.lost) + len(found.doubled)


def wrong_near(said: Script, cuts: list[int], transcript: Transcript) -> int:
    """Edits within three seconds of a cut."""
    spoken = [(token, start, end) for word, start, end in _said(said) for token in normalise(word)]
    tokens = [(token, start, end) for word, start, end in heard(transcript) for token in normalise(word)]
    (chunks,) = jiwer.process_words(" ".join(w[0] for w in spoken), " ".join(w[0] for w in tokens)).alignments
    edits = 0
    for chunk in chunks:
        if chunk.type in ("delete", "substitute"):
            edits += sum(_near(word, cuts) for word in spoken[chunk.ref_start_idx : chunk.ref_end_idx])
        elif chunk.type == "insert":
            edits += sum(_near(word, cuts) for word in tokens[chunk.hyp_start_idx : chunk.hyp_end_idx])
    return edits


def _said(said: Script) -> Iterator[HeardWord]:
    for utterance in said.utterances:
        yield from utterance.word_times()


def _near(word: HeardWord, cuts: list[int]) -> bool:
    return any(word[1] - NEAR_MS <= at <= word[2] + NEAR_MS for at in cuts)


def row(case: Case, tally: Tally) -> list[str]:
    """One line of the table."""
    per_cut = 1 / max(tally.cuts, 1)
    return [
        case.name,
        str(tally.cuts),
        f"{100 * tally.in_pauses * per_cut:.0f} %",
        f"{100 * tally.errors_whole / tally.words:.2f} %",
        f"{100 * tally.errors_cut / tally.words:.2f} %",
        f"{tally.near_whole} → {tally.near_cut}",
        f"{(tally.near_cut - tally.near_whole) * per_cut:+.3f}",
        f"{tally.seams_whole} → {tally.seams_cut}",
        f"{(tally.seams_cut - tally.seams_whole) * per_cut:+.3f}",
        f"{tally.tails_lost} of {tally.recordings}",
    ]


def main() -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=12, help="length of each recording")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    arguments = parser.parse_args()
    rows = []
    for case in CASES:
        if arguments.only in case.name:
            with tempfile.TemporaryDirectory(prefix="stenofleet-fidelity-") as folder:
                rows.append(row(case, measure(case, arguments.minutes, Path(folder))))
    print(f"{machine()}, {arguments.minutes:g} minutes a recording\n")
    header = ["case", "cuts", "in pauses", "WER whole", "WER cut", "wrong near cuts, whole → cut", "more a cut"]
    print(table([*header, "lost or doubled, whole → cut", "more a cut", "tails lost"], rows))


if __name__ == "__main__":
    main()
