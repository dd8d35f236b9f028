"""What runs used, against sums made by hand."""

from typing import Any

import pytest

from chunk_job.contract import Usage
from controller.domain.attempt_documents import AttemptResult, Attempts, AttemptTimes
from controller.domain.documents import Report, SpanReport
from controller.domain.usage_documents import RunUsage
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.usage import COUNTS, SUMS, UsageDocuments, priced, report, summed, usage
from tests import fakes

PLAN = fakes.plan(10_000, 20_000, 30_000)
PRICES = Prices(gpu_hour=3.6, cpu_hour=0.36)


def result(device: str = "cuda", *, audio_s: int = 10, **parts_s: float) -> AttemptResult:
    """What a job measured, in seconds."""
    used = {f"{name}_ms": round(1000 * seconds) for name, seconds in parts_s.items()}
    usage = Usage(**{"fetch_ms": 0, "load_ms": 0, "transcribe_ms": 0, "cpu_threads": 2} | used)
    return AttemptResult(audio_ms=1000 * audio_s, speech_ms=800 * audio_s, device=device, usage=usage)


def attempt(span: int | None, number: int, phase: Any = "ended", **changes: Any) -> AttemptTimes:
    """One attempt; names in ``_s`` are seconds."""
    known = {
        (f"{name[:-2]}_ms" if name.endswith("_s") else name): (round(1000 * value) if name.endswith("_s") else value)
        for name, value in changes.items()
    }
    return AttemptTimes(span=span, attempt=number, phase=phase, job="u", **known)


def used(*attempts: AttemptTimes, prices: Prices = NO_PRICES, **changes: Any) -> RunUsage:
    """What a run with these attempts used."""
    log = Attempts(
        run=fakes.RUN, began_ms=0, done_before_ms=0, observed_ms=changes.pop("observed_ms", 100_000),
        left_out=changes.pop("left_out", 0), attempts=attempts,
    )  # fmt: skip
    of: dict[str, Any] = {"name": "talk.mp4", "tenant": "", "state": "complete", "attempts": log, "plan": PLAN}
    return priced(usage(UsageDocuments(**(of | {"run": fakes.RUN} | changes))), prices)


INTAKE = attempt(
    None, 1, submitted_s=0, starting_s=2, running_s=5, ended_s=45, pull_s=3, ran_s=40, gpu=False, node="cpu-1"
)  # fmt: skip
CLUSTER = (
    INTAKE,
    attempt(0, 1, ready_s=10, submitted_s=12, starting_s=14, running_s=21, ended_s=75, pull_s=6, ran_s=50, gpu=True,
            result=result(total=48, load=8, kernels=1, transcribe=38, decode=30, align=5)),
    # The image could not be pulled for a minute.
    attempt(1, 1, ready_s=10, submitted_s=12, starting_s=20, ended_s=80, gpu=True, failure="IMAGE_PULL"),
    attempt(1, 2, ready_s=80, submitted_s=90, starting_s=91, running_s=92, ended_s=125, pull_s=1, ran_s=30, gpu=True,
            failure="NATIVE_CRASH"),
    attempt(1, 3, ready_s=125, submitted_s=131, starting_s=135, running_s=136, ended_s=160, pull_s=0.5, ran_s=21,
            gpu=True, result=result(total=20, load=4, decode=10, align=2, transcribe=13)),
    attempt(2, 1, ready_s=10, submitted_s=12, ended_s=312, failure="CREATE_DENIED.quota"),
    # Its node was lost for a while. Then there were two results, and the first attempt counts.
    attempt(2, 2, ready_s=312, submitted_s=320, starting_s=320, running_s=320, ended_s=400, pull_s=0, gpu=True,
            result=result(total=60, load=5, decode=40, align=10, transcribe=52)),
    attempt(2, 3, ready_s=380, submitted_s=380, starting_s=385, running_s=386, ended_s=420, pull_s=1, ran_s=30,
            gpu=True, result=result(total=28, load=6, decode=20, align=1, transcribe=21)),
)  # fmt: skip


def test_all_attempts_are_paid_and_a_chunk_is_useful_once() -> None:
    found = used(*CLUSTER, prices=PRICES)
    assert found.unknown == {}
    assert (found.audio_s, found.transcribed_s, found.speech_s) == (30, 30, 24)
    assert found.queue_s == 2 + 4 + 10 + 11 + 10 + 302 + 8 + 5
    assert found.pull_s == 3 + 6 + 60 + 1 + 0.5 + 0 + 0 + 1
    assert (found.cut_s, found.load_s, found.kernels_s) == (40, 8 + 4 + 5 + 6, 1)
    assert found.transcribe_s == 38 + 13 + 52 + 21
    assert (found.attempts, found.failed_attempts, found.failed_s) == (8, 3, 60 + 31)
    assert found.gpu_s == 56 + 60 + 31 + 21.5 + 60 + 31
    assert found.cpu_s == 43
    assert found.paid_s == 302.5
    assert found.useful_s == 35 + 12 + 50
    assert (found.useful_share, found.realtime_factor) == (0.321, 0.099)
    assert found.cost == pytest.approx(0.2595 + 0.0043)
    assert found.cost_per_audio_hour == pytest.approx((0.2595 + 0.0043) * 120)
    assert found.unpriced_s == 0


@pytest.mark.parametrize(
    "one,state,paid_s,unknown",
    [
        # Killed with its controller: it was seen for the last time after 7 s.
        (attempt(0, 1, "gone", submitted_s=1, running_s=2, seen_s=9, pull_s=0, ran_s=6.9), "complete", 7, 1),
        # The same, but its result is there: the job has measured itself.
        (attempt(0, 1, "gone", submitted_s=1, running_s=2, seen_s=9, pull_s=0, result=result(total=8)),
         "complete", 8, 0),
        # It had ended while no controller watched: the node knows for how long it ran, or nobody does.
        (attempt(0, 1, submitted_s=1, running_s=2, seen_s=9, ended_s=900, pull_s=0, ran_s=30), "complete", 30, 0),
        (attempt(0, 1, submitted_s=1, running_s=2, seen_s=9, ended_s=900, pull_s=0), "complete", 7, 1),
        # It runs, as far as is known.
        (attempt(0, 1, "running", submitted_s=1, running_s=90, pull_s=0), "running", 10, 0),
        (attempt(0, 1, "running", submitted_s=1, running_s=90, pull_s=0), "interrupted", 10, 1),
        (attempt(0, 1, "starting", submitted_s=1, starting_s=90), "running", 10, 0),
        (attempt(0, 1, "queued", submitted_s=1), "running", 0, 0),
        # No node took it.
        (attempt(0, 1, submitted_s=1, ended_s=60, failure="UNSCHEDULABLE.taint"), "failed", 0, 0),
        (attempt(0, 1, submitted_s=1, ended_s=60), "cancelled", 0, 0),
        # Without the times of its pod, those of the controller count.
        (attempt(0, 1, submitted_s=1, starting_s=3, running_s=5, ended_s=60, failure="UNKNOWN"), "failed", 57, 0),
        (attempt(0, 1, submitted_s=1, ended_s=60, failure="DISRUPTED.node_lost"), "failed", None, 1),
        # In the store there is a failure of which nothing was noted.
        (attempt(0, 1, ended_s=60, failure="OOM_KILLED"), "failed", None, 1),
    ],
)  # fmt: skip
def test_what_is_paid_of_an_attempt(one: AttemptTimes, state: Any, paid_s: float | None, unknown: int) -> None:
    found = used(one, attempt(None, 1, submitted_s=0, ended_s=0, pull_s=0, ran_s=0), state=state, device="cuda")
    assert (found.gpu_s or None, found.unknown.get("gpu_s", 0)) == (paid_s or None, unknown)
    assert paid_s is None or found.paid_s == paid_s
    assert found.unknown.get("paid_s", 0) == unknown


@pytest.mark.parametrize(
    "attempts,device,expected",
    [
        ((attempt(0, 1, ran_s=5, pull_s=0, failure="UNKNOWN"),), "cuda", (5, 0, 0)),
        ((attempt(0, 1, ran_s=5, pull_s=0, failure="UNKNOWN"),), "cpu", (0, 5, 0)),
        ((attempt(0, 1, ran_s=5, pull_s=0, failure="UNKNOWN"),), "auto", (None, 0, 1)),
        # As the other jobs of the run.
        ((attempt(0, 1, ran_s=5, pull_s=0, failure="UNKNOWN"),
          attempt(0, 2, ran_s=9, pull_s=0, result=result("cpu", total=9))), "auto", (0, 14, 0)),
        ((attempt(0, 1, ran_s=5, pull_s=0, failure="UNKNOWN"),
          attempt(0, 2, ran_s=9, pull_s=0, result=result("cpu", total=9)),
          attempt(1, 1, ran_s=7, pull_s=0, result=result("cuda", total=7))), "auto", (7, 9, 1)),
    ],
)  # fmt: skip
def test_whether_a_failed_job_had_a_gpu(attempts: Any, device: str, expected: Any) -> None:
    cut = attempt(None, 1, submitted_s=0, ended_s=0, pull_s=0, ran_s=0)
    found = used(cut, *attempts, device=device, prices=PRICES)
    assert (found.gpu_s, found.cpu_s, found.unknown.get("gpu_s", 0)) == expected
    assert (found.unknown.get("cost", 0), found.cost is None) == (int(expected == (7, 9, 1)), expected[0] is None)


def test_of_a_run_of_an_earlier_version_the_times_of_its_winners_are_known() -> None:
    times: dict[str, Any] = {"load_s": 8.0, "transcribe_s": 38.0, "decode_s": 30.0, "align_s": 5.0, "total_s": 48.0}
    spans = (
        SpanReport(span=0, attempts=1, failures=(), audio_s=10, speech_s=8, **times),
        SpanReport(span=1, attempts=3, failures=("OOM_KILLED", "OOM_KILLED"), audio_s=10, speech_s=8, **times),
        SpanReport(span=2, attempts=1, failures=("OOM_KILLED",), audio_s=10, speech_s=0),
    )
    of = Report(
        run=fakes.RUN, verdict="partial", elapsed_s=1, audio_s=30, speech_s=16, compute_s=96, realtime_factor=0.3,
        devices=("cuda",), spans=spans,
    )  # fmt: skip
    found = used(attempts=None, report=of, state="partial", prices=Prices(gpu_hour=3.6))
    assert (found.attempts, found.failed_attempts, found.load_s, found.useful_s) == (5, 3, 16, 70)
    assert (found.paid_s, found.gpu_s, found.cpu_s) == (96, 96, None)
    assert (found.queue_s, found.pull_s, found.cut_s, found.failed_s) == (None, None, None, None)
    assert found.unknown["paid_s"] == 3 + 1
    assert found.unknown["attempts"] == 1
    assert found.cost == pytest.approx(0.096)
    assert found.transcribed_s == 20
    # Before 0.3, a job measured less.
    span = SpanReport(span=0, attempts=1, failures=(), audio_s=10, speech_s=8, load_s=8, transcribe_s=38)
    early = used(attempts=None, report=of.model_copy(update={"spans": (span,), "devices": ()}))
    assert (early.load_s, early.kernels_s, early.useful_s, early.paid_s, early.gpu_s) == (8, None, None, None, None)


def test_of_a_run_without_any_figures_nothing_is_known() -> None:
    found = used(attempts=None, plan=None, state="interrupted", prices=PRICES)
    assert {getattr(found, name) for name in (*SUMS, *COUNTS)} == {None}
    assert (found.cost, found.realtime_factor, found.useful_share) == (None, None, None)


def test_attempts_that_are_not_kept_are_not_known() -> None:
    found = used(*CLUSTER, left_out=5)
    assert (found.paid_s, found.unknown["paid_s"], found.unknown["attempts"]) == (302.5, 5, 5)


def test_a_run_that_is_being_cut_has_no_length_yet() -> None:
    found = used(INTAKE, CLUSTER[1], plan=None, state="running")
    assert (found.audio_s, found.transcribed_s) == (None, 10)


def test_a_sum_says_what_is_missing_in_it() -> None:
    whole, unknown = used(*CLUSTER), used(attempts=None, plan=None, state="interrupted", run="f" * 16)
    total = summed([whole, unknown, whole], PRICES)
    assert (total.runs, total.paid_s, total.unknown["paid_s"]) == (3, 605, 1)
    assert total.cost == pytest.approx(2 * 0.2638)
    assert total.unknown["cost"] == 1
    assert total.realtime_factor is None, "it is not known how much was transcribed"
    nothing = summed([], PRICES)
    assert (nothing.runs, nothing.paid_s, nothing.cost, nothing.unknown) == (0, 0, 0, {})


@pytest.mark.parametrize(
    "prices,expected",
    [
        (NO_PRICES, (None, None, None)),
        (Prices(gpu_hour=3.6), (0.2595, 43, 31.14)),
        (Prices(cpu_hour=0.36), (0.0043, 259.5, 0.516)),
        (Prices(gpu_hour=0, cpu_hour=0), (0, 0, 0)),
    ],
)
def test_what_has_no_price_is_not_in_the_cost(prices: Prices, expected: tuple[float | None, ...]) -> None:
    found = used(*CLUSTER, prices=prices)
    assert [found.cost, found.unpriced_s, found.cost_per_audio_hour] == [
        value if value is None else pytest.approx(value) for value in expected
    ]


def test_the_ledger_has_the_runs_of_each_tenant() -> None:
    runs = [used(*CLUSTER, tenant=tenant, run=f"{number:016x}") for number, tenant in enumerate(("", "news", "a", "a"))]
    of = report(runs, PRICES)
    assert [(one.tenant, one.runs, one.paid_s) for one in of.tenants] == [("a", 2, 605), ("news", 1, 302.5)]
    assert (of.total.runs, of.total.paid_s, len(of.runs)) == (4, 1210, 4)
