"""Limits that a transcript must keep: quality gates of a command in CI.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, fields

from controller.domain.captions import Profile
from controller.evaluation.documents import RecordingErrors
from controller.reports.cost import amount
from controller.reports.run_view import CaptionFindings, RunView


@dataclass(frozen=True, kw_only=True)
class Gates:
    """The limits; None: no such limit."""

    min_coverage: float | None = None
    """The least part of the recording in chunks that were transcribed, from 0 to 1."""
    min_confidence: float | None = None
    """The least average probability of the words, from 0 to 1."""
    max_rtf: float | None = None
    """The most time of the jobs for one second of the recording, in seconds."""
    max_cost: float | None = None
    """The most that the jobs of a recording may cost, in the currency of the prices."""
    max_wer: float | None = None
    """The most errors for each word of the reference."""
    captions_profile: Profile | None = None
    """The style whose limits no caption may break."""

    def __bool__(self) -> bool:
        return any(getattr(self, one.name) is not None for one in fields(self))


@dataclass(frozen=True, kw_only=True)
class Measures:
    """What was measured only for gates."""

    errors: RecordingErrors | None = None
    """None: it is not known how the transcript differs from its reference."""
    why: str = "it was not compared with a reference"
    """Why the errors are not known."""
    captions: CaptionFindings | None = None


NO_MEASURES = Measures()


@dataclass(frozen=True, kw_only=True)
class GateResult:
    """Whether a recording keeps a limit."""

    gate: str
    """The option that sets the limit."""
    limit: float
    found: float | None
    """None: not known."""
    kept: bool
    text: str
    """A sentence for people."""
    profile: Profile | None = None
    """The style that sets the limits of captions."""

    @property
    def title(self) -> str:
        """The option as it was typed."""
        return f"{self.gate} {self.profile or f'{self.limit:g}'}"


def judge(gates: Gates, view: RunView, measures: Measures = NO_MEASURES) -> tuple[GateResult, ...]:
    """Whether a run that has a transcript keeps each limit. What is not known keeps none."""
    return (*_judged(gates, view), *_measured(gates, measures))


def unmeasured(gates: Gates, why: str) -> tuple[GateResult, ...]:
    """The result for a run of which nothing can be measured: it keeps no limit. *why*: for people."""
    limits = {one.name: getattr(gates, one.name) for one in fields(gates)}
    return tuple(
        GateResult(
            gate=f"--{name.replace('_', '-')}",
            limit=0 if name == "captions_profile" else limit,
            found=None,
            kept=False,
            text=f"it cannot be measured: {why}",
            profile=limit if name == "captions_profile" else None,
        )
        for name, limit in limits.items()
        if limit is not None
    )


def judge_errors(limit: float, errors: RecordingErrors | None, why: str = "") -> GateResult:
    """Whether a transcript has at most *limit* errors for each word. *why*: the errors are not known."""
    found = errors.words.rate if errors else None
    kept = found is not None and found <= limit
    characters = errors is not None and errors.unit == "characters"
    name = "character error rate (its script has no spaces between words)" if characters else "word error rate"
    known = f"cannot be measured ({why})" if found is None else f"is {100 * found:.2f} %"
    text = f"its {name} {known}, {_against(found, kept, 'not above', 'above')} {100 * limit:g} %"
    return GateResult(gate="--max-wer", limit=limit, found=found, kept=kept, text=text)


def _measured(gates: Gates, measures: Measures) -> Iterator[GateResult]:
    if gates.max_wer is not None:
        yield judge_errors(gates.max_wer, measures.errors, measures.why)
    if gates.captions_profile is not None:
        yield _captions(gates.captions_profile, measures.captions)


def _captions(profile: Profile, found: CaptionFindings | None) -> GateResult:
    if found is None:
        text = f"its captions cannot be measured, and none may break the profile {profile}"
        return GateResult(gate="--captions-profile", limit=0, found=None, kept=False, text=text, profile=profile)
    rules = ", ".join(f"{count} {what}" for what, count in found.rules)
    text = (
        f"{found.broken} of its {found.captions} captions break the profile {profile}{f' ({rules})' if rules else ''}"
    )
    kept = not found.broken
    return GateResult(
        gate="--captions-profile", limit=0, found=float(found.broken), kept=kept, text=text, profile=profile
    )


def _judged(gates: Gates, view: RunView) -> Iterator[GateResult]:
    if gates.min_coverage is not None:
        yield _at_least(
            "--min-coverage", gates.min_coverage, _coverage(view), "the part of the recording that was transcribed"
        )
    if gates.min_confidence is not None:
        confidence = view.header.confidence
        # A recording without words has no word that may be wrong.
        found = 1.0 if view.header.words == 0 else confidence
        yield _at_least("--min-confidence", gates.min_confidence, found, "the average probability of its words")
    if gates.max_rtf is not None:
        yield _rtf(gates.max_rtf, view)
    if gates.max_cost is not None:
        yield _cost(gates.max_cost, view)


def _at_least(gate: str, limit: float, found: float | None, what: str) -> GateResult:
    kept = found is not None and found >= limit
    known = "not known" if found is None else f"{100 * found:.2f} %"
    text = f"{what} is {known}, {_against(found, kept, 'not below', 'below')} {100 * limit:g} %"
    return GateResult(gate=gate, limit=limit, found=_rounded(found), kept=kept, text=text)


def _rtf(limit: float, view: RunView) -> GateResult:
    took_ms, duration_ms = view.header.compute_ms, view.header.duration_ms
    found = took_ms / duration_ms if took_ms is not None and duration_ms else None
    kept = found is not None and found <= limit
    known = "not known" if found is None else f"{found:.4f} s"
    text = f"the job time for a second of the recording is {known}, {_against(found, kept, 'not above', 'above')}"
    return GateResult(gate="--max-rtf", limit=limit, found=_rounded(found), kept=kept, text=f"{text} {limit:g} s")


def _cost(limit: float, view: RunView) -> GateResult:
    found = view.header.cost
    kept = found is not None and found <= limit
    known = f"not known{_no_price(view.header.devices)}" if found is None else amount(found)
    text = f"the cost of its jobs is {known}, {_against(found, kept, 'not above', 'above')} {amount(limit)}"
    return GateResult(gate="--max-cost", limit=limit, found=_rounded(found), kept=kept, text=text)


def _no_price(devices: Collection[str]) -> str:
    """Why the cost of jobs on these devices is not known."""
    on_gpu = {device == "cuda" for device in devices}
    if len(on_gpu) > 1:
        return " (some ran on a GPU and others did not: no price is that of both)"
    if not on_gpu:
        return ""
    where, option = ("on a GPU", "--gpu-hour-price") if on_gpu.pop() else ("without a GPU", "--cpu-hour-price")
    return f" (they ran {where}: it takes {option})"


def _coverage(view: RunView) -> float | None:
    """The part of the recording without the chunks that failed; a cut recording has at least one chunk."""
    # Without its transcript, it is not known which chunks are missing there.
    if view.sound is None or not view.sound.duration_ms or view.header.words is None:
        return None
    lost_ms = sum(end - start for start, end in view.sound.gaps)
    # As one division, its result is the number that people type: 1 - 0.07 is less than 0.93.
    return (view.sound.duration_ms - lost_ms) / view.sound.duration_ms


def _against(found: float | None, kept: bool, well: str, badly: str) -> str:  # noqa: FBT001 (used only here)
    """How the value stands to its limit."""
    return "and the limit is" if found is None else well if kept else badly


def _rounded(found: float | None) -> float | None:
    return None if found is None else round(found, 6)
