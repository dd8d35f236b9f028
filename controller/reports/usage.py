"""What runs used: each of them from its documents, and sums over several of them.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from controller.domain.attempt_documents import AttemptResult, Attempts, AttemptTimes
from controller.domain.documents import Report, SpanReport, StoredState
from controller.domain.plan import Plan
from controller.domain.usage_documents import RunUsage, TenantUsage, UsageFigures, UsageReport
from controller.reports.attempt_usage import NOTHING, UNKNOWN, Amount, Look, exact, one_of, pulled, queued, ran
from controller.reports.cost import Prices, cost
from controller.runs.figures import useful_ms

SUMS = tuple(name for name in UsageFigures.model_fields if name.endswith("_s") and name != "unpriced_s")
"""Figures in seconds that are added up."""
COUNTS = ("attempts", "failed_attempts")
_OF_JOBS = tuple(name for name in SUMS if name not in ("audio_s", "transcribed_s", "speech_s"))
_MEASURED = ("startup", "fetch", "load", "kernels", "transcribe", "commit")
"""Figures that a job measures, without their units."""
_ALWAYS = frozenset({"fetch", "load", "transcribe"})
"""Those that jobs of versions before 0.3 measured."""

_Amounts = dict[str, Amount]
_F = TypeVar("_F", bound=UsageFigures)


@dataclass(frozen=True, kw_only=True)
class UsageDocuments:
    """What a store has of a run, as far as it says what the run used."""

    run: str
    name: str
    tenant: str
    state: StoredState
    device: str = "auto"
    """The device that was asked for."""
    plan: Plan | None = None
    attempts: Attempts | None = None
    report: Report | None = None


def usage(of: UsageDocuments) -> RunUsage:
    """Return what one run used, without prices: :func:`report` adds what follows from them."""
    found = of.attempts.attempts if of.attempts else ()
    reported = {one.span: one for one in of.report.spans} if of.report else {}
    winners = _winners(found)
    sums: _Amounts = {}
    look = Look(at_ms=of.attempts.observed_ms if of.attempts else None, working=of.state == "running")
    gpu = _gpu(of, found)
    for one in found:
        _add_attempt(sums, one, look, gpu=gpu)
    for result in winners.values():
        useful, total = useful_ms(result.usage)
        _add(sums, useful_s=exact(useful) if total else UNKNOWN, speech_s=exact(result.speech_ms))
    # What an earlier version did, which noted no attempts.
    noted = {one.span for one in found}
    early = [span for index, span in reported.items() if index not in winners]
    for span in early:
        _add_report(sums, span, gpu=gpu, is_noted=span.span in noted)
    if None not in noted and (found or reported or of.plan):
        _add(sums, **dict.fromkeys(("attempts", "queue_s", "pull_s", "cut_s", "paid_s", "cpu_s"), UNKNOWN))
    if of.attempts and of.attempts.left_out:
        _add(sums, **dict.fromkeys((*_OF_JOBS, *COUNTS), Amount(unknown=of.attempts.left_out)))
    answered = {index: result.audio_ms for index, result in winners.items()}
    answered |= {span.span: round(1000 * span.audio_s) for span in early if _has_result(span)}
    _add_audio(sums, of.plan, answered)
    if not found and not reported:
        sums |= dict.fromkeys((*_OF_JOBS, *COUNTS, "transcribed_s", "speech_s"), UNKNOWN)
    return RunUsage(run=of.run, name=of.name, tenant=of.tenant, state=of.state, **_figures({"runs": exact(1)} | sums))


def report(runs: Iterable[RunUsage], prices: Prices) -> UsageReport:
    """Return the ledger of these *runs*, each of which is there once."""
    rows = tuple(priced(run, prices) for run in runs)
    of_tenant: dict[str, list[RunUsage]] = {}
    for row in rows:
        if row.tenant:
            of_tenant.setdefault(row.tenant, []).append(row)
    return UsageReport(
        gpu_hour_price=prices.gpu_hour,
        cpu_hour_price=prices.cpu_hour,
        runs=rows,
        tenants=tuple(
            TenantUsage(tenant=tenant, **dict(summed(of_tenant[tenant], prices))) for tenant in sorted(of_tenant)
        ),
        total=summed(rows, prices),
    )


def summed(some: Sequence[UsageFigures], prices: Prices) -> UsageFigures:
    """Return the sum of *some* figures, and what it costs."""
    sums: _Amounts = {}
    for one in some:
        _add(sums, runs=exact(one.runs), **{name: _amount(one, name) for name in (*SUMS, *COUNTS)})
    return priced(UsageFigures(**_figures({"runs": NOTHING} | sums)), prices)


def priced(of: _F, prices: Prices) -> _F:
    """Return *of*, with the figures that follow from others and from *prices*."""
    money, unpriced_s, unknown = _cost(of, prices)
    hours = (of.transcribed_s or 0.0) / 3600
    changes: dict[str, Any] = {
        "realtime_factor": _ratio(of, "transcribed_s"),
        "useful_share": _share(_ratio(of, "useful_s")),
        "cost": money,
        "unpriced_s": unpriced_s,
        "cost_per_audio_hour": money / hours if money is not None and hours else None,
    }
    paid = of.unknown.get("paid_s", 0)
    unknowns = {"realtime_factor": paid, "useful_share": paid, "cost": unknown, "cost_per_audio_hour": unknown}
    left = {name: count for name, count in unknowns.items() if count and changes[name] is not None}
    return of.model_copy(update=changes | {"unknown": dict(of.unknown) | left})


# ------------------------------------------------------------ one run


def _winners(found: Iterable[AttemptTimes]) -> Mapping[int, AttemptResult]:
    """Span → what its lowest attempt with a valid result measured."""
    winners: dict[int, AttemptTimes] = {}
    for one in found:
        if one.span is not None and one.result and not one.failure:
            known = winners.get(one.span)
            if known is None or one.attempt < known.attempt:
                winners[one.span] = one
    return {span: one.result for span, one in sorted(winners.items()) if one.result}


def _gpu(of: UsageDocuments, found: Iterable[AttemptTimes]) -> bool | None:
    """Whether jobs of which it is not known had a GPU, as all others of the run; None: not known."""
    if of.device in ("cuda", "cpu"):
        return of.device == "cuda"
    devices = {one.result.device for one in found if one.result} | set(of.report.devices if of.report else ())
    return devices == {"cuda"} if devices in ({"cuda"}, {"cpu"}) else None


def _add_attempt(sums: _Amounts, one: AttemptTimes, look: Look, *, gpu: bool | None) -> None:
    pull, run = pulled(one, look), ran(one, look)
    paid = one_of(pull, run)
    device = one.result.device if one.result else ""
    on_gpu = one.gpu if one.gpu is not None else device == "cuda" if device in ("cuda", "cpu") else gpu
    _add(sums, attempts=exact(1), queue_s=queued(one, look), pull_s=pull)
    _add_paid(sums, paid, on_gpu=False if one.span is None else on_gpu)
    if one.span is None:
        _add(sums, cut_s=run)
    if one.failed:
        _add(sums, failed_attempts=exact(1), failed_s=paid)
    if one.result:
        used = one.result.usage
        for name in _MEASURED:
            known = used.total_ms or name in _ALWAYS
            _add(sums, **{f"{name}_s": exact(getattr(used, f"{name}_ms")) if known else UNKNOWN})


def _add_paid(sums: _Amounts, paid: Amount, *, on_gpu: bool | None) -> None:
    _add(sums, paid_s=paid)
    if on_gpu is None and (paid.value or paid.unknown):
        _add(sums, gpu_s=UNKNOWN, cpu_s=UNKNOWN)
    elif on_gpu is not None:
        _add(sums, **{"gpu_s" if on_gpu else "cpu_s": paid})


def _has_result(span: SpanReport) -> bool:
    return bool(span.total_s or span.transcribe_s)


def _add_report(sums: _Amounts, span: SpanReport, *, gpu: bool | None, is_noted: bool) -> None:
    """Add what a report says of a span. *is_noted*: its attempts are known, so that only its parts are missing."""
    total_ms = round(1000 * span.total_s)
    if not is_noted:
        failed = Amount(unknown=len(span.failures))
        _add(
            sums,
            attempts=exact(span.attempts),
            failed_attempts=exact(len(span.failures)),
            queue_s=Amount(unknown=span.attempts),
            pull_s=Amount(unknown=span.attempts),
            failed_s=failed,
        )
        job = (exact(total_ms) if total_ms else UNKNOWN) if _has_result(span) else NOTHING
        _add_paid(sums, job + failed, on_gpu=gpu)
    if not _has_result(span):
        return
    for name in _MEASURED:
        known = total_ms or name in _ALWAYS
        _add(sums, **{f"{name}_s": exact(round(1000 * getattr(span, f"{name}_s"))) if known else UNKNOWN})
    useful = min(round(1000 * (span.decode_s + span.align_s)), total_ms)
    _add(sums, useful_s=exact(useful) if total_ms else UNKNOWN, speech_s=exact(round(1000 * span.speech_s)))


def _add_audio(sums: _Amounts, plan: Plan | None, answered: Mapping[int, int]) -> None:
    """Add the length of the recording, and of what is transcribed. *answered*: span → length of its chunk."""
    if plan is None:
        _add(sums, audio_s=UNKNOWN, transcribed_s=exact(sum(answered.values())))
        return
    # Chunks overlap at forced cuts: their spans do not.
    lengths = {span.index: span.end_ms - span.start_ms for span in plan.spans}
    done_ms = sum(length for index, length in lengths.items() if index in answered)
    _add(sums, audio_s=exact(sum(lengths.values())), transcribed_s=exact(done_ms))


# ------------------------------------------------------------ sums


def _add(sums: _Amounts, **amounts: Amount) -> None:
    for name, amount in amounts.items():
        sums[name] = sums.get(name, NOTHING) + amount


def _amount(of: UsageFigures, name: str) -> Amount:
    value: float | None = getattr(of, name)
    scale = 1 if name in COUNTS else 1000
    known = 0 if value is None else 1
    return Amount(value=round(scale * (value or 0)), known=known, unknown=of.unknown.get(name, 0))


def _figures(sums: Mapping[str, Amount]) -> dict[str, Any]:
    """The fields of a document with these sums; what has no part is 0."""
    found: dict[str, Any] = {"runs": sums["runs"].value}
    unknown = {}
    for name in (*SUMS, *COUNTS):
        amount = sums.get(name, NOTHING)
        found[name] = None if not amount.is_known else amount.value if name in COUNTS else amount.value / 1000
        if amount.unknown:
            unknown[name] = amount.unknown
    return found | {"unknown": unknown}


def _ratio(of: UsageFigures, name: str) -> float | None:
    """A figure as a part of the time that was paid. None: not known, or one that is not a limit."""
    value: float | None = getattr(of, name)
    if value is None or not of.paid_s or of.unknown.get(name):
        return None
    return round(value / of.paid_s, 3)


def _share(ratio: float | None) -> float | None:
    return None if ratio is None else min(1.0, ratio)


def _cost(of: UsageFigures, prices: Prices) -> tuple[float | None, float | None, int]:
    """What the paid time costs, how much of it has no price, and how many of its parts are not known."""
    kinds = [(of.gpu_s, prices.gpu_hour), (of.cpu_s, prices.cpu_hour)]
    unknown = max(of.unknown.get("gpu_s", 0), of.unknown.get("cpu_s", 0))
    if prices.gpu_hour is None and prices.cpu_hour is None:
        return None, None, 0
    unpriced_s = round(sum(seconds or 0.0 for seconds, price in kinds if price is None), 3)
    costs = [cost(round(1000 * seconds), price) for seconds, price in kinds if seconds and price is not None]
    if costs:
        return sum(filter(None, costs)), unpriced_s, unknown
    nothing_paid = of.paid_s == 0 and not unknown
    return 0.0 if nothing_paid else None, unpriced_s, unknown
