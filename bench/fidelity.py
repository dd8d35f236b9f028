"""The effect of cuts on words: recordings with known words, transcribed cut and uncut, compared around every cut.

    python -m bench.fidelity [--minutes 15] [--only NAME]
    python -m bench.fidelity --drift 10

A word is *wrong* near a cut if the alignment with the spoken words has an edit within three seconds of the cut. The
demonstration model also makes errors without cuts, at the edges of its windows. So errors are also counted at the same
positions in a transcript of the uncut file, and the result is the difference.
"""

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import jiwer
import numpy as np

from bench.common import WHOLE, machine, table, transcribe
from controller.demo.recipe.corpus import Language
from controller.domain.plan import PlanOptions
from controller.transcript.model import Transcript
from tests import clicks
from tests.sounds import breath, music, noise
from tests.speech import Pcm, Script, Tape, TimedWord, normalise, seam_errors, tape, write_wav

NEAR_MS = 3_000
ANY_PAUSE = PlanOptions(threshold_ms=0, chunk_ms=20_000)
# No quiet part is long enough to be a pause or a dip, and the window is one hop: every cut is exactly at a grid point.
FORCED = PlanOptions(threshold_ms=0, chunk_ms=15_000, window_ms=20, pause_ms=600_000, dip_ms=600_000)
FIXED = FORCED.model_copy(update={"pad_ms": 0})

Voice = tuple[Language, str]


@dataclass(frozen=True, kw_only=True)
class Case:
    """Recordings of one kind, with one kind of cut. *inside*: only cuts inside an utterance count."""

    name: str
    plan: PlanOptions
    voices: tuple[Voice, ...]
    inside: bool = False
    dirty: Callable[[Pcm, np.random.Generator], Pcm] | None = None


EN: tuple[Voice, ...] = (("en", "en-us"), ("en", "en+m3"), ("en", "en-us+f2"))
PT: tuple[Voice, ...] = (("pt", "pt-br"), ("pt", "pt-br+f1"))


CASES = (
    Case(name="pauses, English", plan=ANY_PAUSE, voices=EN),
    Case(name="pauses, Portuguese", plan=ANY_PAUSE, voices=PT),
    Case(name="pauses, noise 12 dB under", plan=ANY_PAUSE, voices=EN, dirty=noise),
    Case(name="pauses, music 18 dB under", plan=ANY_PAUSE, voices=EN, dirty=music),
    Case(name="pauses, breaths", plan=ANY_PAUSE, voices=EN, dirty=breath),
    Case(name="forced in sentences, 2 s padding", plan=FORCED, voices=(*EN, *PT), inside=True),
    Case(name="fixed in sentences, no padding (naive)", plan=FIXED, voices=(EN[0], PT[0]), inside=True),
)


@dataclass(frozen=True, kw_only=True)
class Around:
    """The counts at one position, in the transcripts of the uncut and of the cut file."""

    whole: int
    cut: int

    @property
    def more(self) -> int:
        return self.cut - self.whole


@dataclass(kw_only=True)
class Tally:
    """Counts of a case: one entry per cut (``wrong``, ``seams``) or per span (``edits``, ``words``)."""

    in_pauses: int = 0
    wrong: list[Around] = field(default_factory=list)
    seams: list[Around] = field(default_factory=list)
    edits: list[Around] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    tails_lost: int = 0
    recordings: int = 0


def measure(case: Case, minutes: float, folder: Path) -> Tally:
    """Create, transcribe and compare all recordings of the case."""
    tally = Tally()
    for number, (language, voice) in enumerate(case.voices):
        said = tape(seconds=60 * minutes, seed=100 + number, language=language, voice=voice)
        sound = case.dirty(said.pcm, np.random.default_rng(number)) if case.dirty else said.pcm
        media = write_wav(folder / f"{number}.wav", sound)
        cut, plan = transcribe(media, case.plan, language=language)
        whole, _ = transcribe(media, WHOLE, language=language)
        every = [span.end_ms for span in plan.spans[:-1]]
        cuts = [at for at in every if inside(said, at)] if case.inside else every
        compare(tally, said, whole, cut, cuts=cuts, spans=[(span.start_ms, span.end_ms) for span in plan.spans])
        print(f"{case.name}: {voice}: {len(cuts)} cuts", file=sys.stderr, flush=True)
    return tally


def compare(
    tally: Tally, said: Tape, whole: Transcript, cut: Transcript, *, cuts: list[int], spans: list[tuple[int, int]]
) -> None:
    """Add the errors of the two transcripts of one recording, around every cut and within every span."""
    edits_whole, edits_cut = edits(said, whole), edits(said, cut)
    tally.recordings += 1
    tally.in_pauses += sum(not inside(said, at, margin_ms=0) for at in cuts)
    tally.tails_lost += last_word(cut) != last_word(said) == last_word(whole)
    for at in cuts:
        tally.wrong.append(Around(whole=near(edits_whole, at), cut=near(edits_cut, at)))
        tally.seams.append(Around(whole=seam_count(said, at, whole), cut=seam_count(said, at, cut)))
    for span in spans:
        tally.words.append(begun_in(spoken(said), span))
        tally.edits.append(Around(whole=begun_in(edits_whole, span), cut=begun_in(edits_cut, span)))


def inside(said: Tape, at_ms: int, *, margin_ms: int = 100) -> bool:
    """Whether there is speech at this position."""
    return any(item.start_ms + margin_ms < at_ms < item.end_ms - margin_ms for item in said.utterances)


def heard(transcript: Transcript) -> list[TimedWord]:
    """The words of a transcript with their times."""
    return [
        (word["word"], word["start_ms"], word["end_ms"]) for segment in transcript.segments for word in segment.words
    ]


def spoken(said: Script) -> list[TimedWord]:
    """The spoken words with their approximate times."""
    return [word for utterance in said.utterances for word in utterance.word_times()]


def last_word(text: Script | Transcript) -> list[str]:
    """The word in normalised form, for comparison; empty if there is none."""
    return normalise(text.words[-1] if isinstance(text, Script) else text.text)[-1:]


def seam_count(said: Script, at_ms: int, transcript: Transcript) -> int:
    """Words lost or doubled near a cut."""
    found = seam_errors(said.utterances, [at_ms], heard(transcript), window_ms=NEAR_MS)
    return len(found.lost) + len(found.doubled)


def edits(said: Script, transcript: Transcript) -> list[TimedWord]:
    """All words that are missing, wrong or added."""
    wanted, got = (
        [(token, start, end) for word, start, end in words for token in normalise(word)]
        for words in (spoken(said), heard(transcript))
    )
    (chunks,) = jiwer.process_words(" ".join(w[0] for w in wanted), " ".join(w[0] for w in got)).alignments
    found: list[TimedWord] = []
    for chunk in chunks:
        if chunk.type in ("delete", "substitute"):
            found += wanted[chunk.ref_start_idx : chunk.ref_end_idx]
        elif chunk.type == "insert":
            found += got[chunk.hyp_start_idx : chunk.hyp_end_idx]
    return found


def near(words: list[TimedWord], at_ms: int) -> int:
    """The number of words within three seconds of a cut."""
    return sum(start - NEAR_MS <= at_ms <= end + NEAR_MS for _, start, end in words)


def begun_in(words: list[TimedWord], span: tuple[int, int]) -> int:
    """The number of words that begin in an interval."""
    return sum(span[0] <= start < span[1] for _, start, _ in words)


def interval(places: list[Around], weights: list[int]) -> tuple[float, float, float]:
    """Additional errors of the cut transcript per unit of weight, with a 95 % interval (bootstrap over positions)."""
    more, weight = np.array([place.more for place in places]), np.array(weights)
    drawn = np.random.default_rng(0).integers(0, len(places), (4000, len(places)))
    low, high = np.percentile(more[drawn].sum(axis=1) / weight[drawn].sum(axis=1), [2.5, 97.5])
    return more.sum() / weight.sum(), float(low), float(high)


def row(case: Case, tally: Tally) -> list[str]:
    """One line of the table."""
    words, ones = sum(tally.words), [1] * len(tally.wrong)
    wer_whole, wer_cut = (100 * sum(of) / words for of in zip(*((e.whole, e.cut) for e in tally.edits), strict=True))
    return [
        case.name,
        str(len(ones)),
        f"{100 * tally.in_pauses / len(ones):.0f} %",
        f"{wer_whole:.2f} → {wer_cut:.2f} %",
        "{:+.2f} ({:+.2f} … {:+.2f})".format(*(100 * part for part in interval(tally.edits, tally.words))),
        changed(tally.wrong),
        "{:+.3f} ({:+.3f} … {:+.3f})".format(*interval(tally.wrong, ones)),
        changed(tally.seams),
        "{:+.3f} ({:+.3f} … {:+.3f})".format(*interval(tally.seams, ones)),
        f"{tally.tails_lost} of {tally.recordings}",
    ]


def changed(places: list[Around]) -> str:
    """The total difference from the uncut to the cut file."""
    return f"{sum(place.whole for place in places)} → {sum(place.cut for place in places)}"


def drift(hours: int) -> None:
    """Print the time errors of the clicks of a long recording, for every chunk."""
    rows = []
    for kind in ("mp3", "m4a"):
        with tempfile.TemporaryDirectory(prefix="stenofleet-drift-") as folder:
            path = clicks.long_recording(Path(folder) / f"long.{kind}", hours=hours)
            shown = clicks.cut(path, Path(folder), PlanOptions(threshold_ms=0))
        off_ms = [1000 * (at - 5 - 600 * number) for number, at in enumerate(shown.times_s)]
        lost = shown.plan.duration_ms - shown.samples / 16
        rows.append([kind, str(len(shown.plan.spans)), f"{min(off_ms):+.3f} … {max(off_ms):+.3f} ms", f"{lost:.2f} ms"])
    print(f"{machine()}, {hours} h\n")
    print(table(["format", "chunks", "clicks off by", "decoded, less all chunks"], rows))


def main() -> None:
    """Measure all cases and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=15, help="length of each recording")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    parser.add_argument(
        "--drift", type=int, metavar="HOURS", help="only measure the drift of clicks in this many hours"
    )
    arguments = parser.parse_args()
    if arguments.drift:
        drift(arguments.drift)
        return
    rows = []
    for case in CASES:
        if arguments.only in case.name:
            with tempfile.TemporaryDirectory(prefix="stenofleet-fidelity-") as folder:
                rows.append(row(case, measure(case, arguments.minutes, Path(folder))))
    print(f"{machine()}, {arguments.minutes:g} minutes a recording\n")
    header = ["case", "cuts", "in pauses", "WER, whole → cut", "points more", "wrong near cuts", "more a cut"]
    print(table([*header, "lost or doubled", "more a cut", "tails lost"], rows))


if __name__ == "__main__":
    main()
