"""Options of ``plan`` about what the recordings would take.

Touches: the store (through ``stored_documents``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from chunk_job.errors import JobError
from controller.cli import options as shared
from controller.cli.option_values import Fraction
from controller.domain import stored_documents
from controller.domain.documents import Report
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan
from controller.errors import UsageProblem
from controller.reports.cost import amount
from controller.reports.estimate import Estimate, JobSpeed, estimate, speed_of
from controller.reports.figures import took
from controller.runs.lookup import existing_run

_F = TypeVar("_F", bound=Callable[..., Any])


def estimate_options(command: _F) -> _F:
    """Add the options."""
    return shared.together(
        shared.option(
            "--like",
            metavar="RUN",
            help="Estimate time: as fast as the jobs of this earlier run, with the same model and GPU.",
        ),
        shared.option(
            "--speed",
            type=Fraction(0.01, 100_000),
            metavar="TIMES",
            help="Estimate time: how many times faster than real time a job decodes.",
        ),
        shared.option(
            "--job-overhead",
            type=Fraction(0, 3_600),
            metavar="SECONDS",
            help="With --speed: time of each job for starting and its model.  [default: 10]",
        ),
        shared.store_option,
    )(command)


def taken_speed(options: dict[str, Any]) -> JobSpeed | None:
    """Take what the options of this module say out of *options*; None: nothing is to be estimated.

    Raises :class:`UsageProblem` if the earlier run says nothing of its speed.
    """
    like, speed, overhead, store = (options.pop(name) for name in ("like", "speed", "job_overhead", "store"))
    if like is not None and speed is not None:
        raise UsageProblem("--like and --speed contradict each other", "leave one of them out")
    if overhead is not None and speed is None:
        raise UsageProblem("--job-overhead: is only for --speed", "add --speed TIMES, or leave it out")
    if speed is not None:
        return JobSpeed(times_real_time=speed, overhead_s=10.0 if overhead is None else overhead)
    return None if like is None else _speed_of_run(like, store)


def _speed_of_run(run: str, url: str | None) -> JobSpeed:
    opened = shared.store_at(url)
    found = existing_run(opened, run)
    try:
        report = stored_documents.valid(opened, Report, RunKeys(found).report)
    except JobError as error:
        raise UsageProblem(f"--like: {error.summary}", error.advice) from error
    speed = speed_of(report) if report else None
    if speed is None:
        raise UsageProblem(f"--like: run {found} has no times of jobs", "name a run that is complete, or give --speed")
    return speed


def estimates(
    plans: Mapping[str, Plan], speed: JobSpeed | None, *, at_once: int, hour_price: float | None
) -> dict[str, Estimate]:
    """Return what each recording would take by itself with this many jobs *at_once*."""
    if speed is None:
        return {}
    return {
        name: estimate(
            (span.end_ms - span.start_ms for span in plan.spans), speed, at_once=at_once, hour_price=hour_price
        )
        for name, plan in plans.items()
    }


def together(plans: Mapping[str, Plan], speed: JobSpeed, *, at_once: int, hour_price: float | None) -> Estimate:
    """Return what all recordings of a command would take: they share its jobs."""
    chunks_ms = (span.end_ms - span.start_ms for plan in plans.values() for span in plan.spans)
    return estimate(chunks_ms, speed, at_once=at_once, hour_price=hour_price)


def line(found: Estimate, *, at_once: int) -> str:
    """Return a sentence for people."""
    jobs = f"{found.jobs:,} job{'' if found.jobs == 1 else 's'}"
    price = "" if found.cost is None else f", for {amount(found.cost)}"
    return (
        f"about {took(round(1000 * found.job_s))} of job time in {jobs},"
        f" {took(round(1000 * found.wall_s))} with {at_once} at once{price}"
    )


def facts(found: Estimate) -> dict[str, Any]:
    """Return it for JSON, in seconds."""
    digits = {"job_s": 1, "wall_s": 1, "cost": 4}
    known = {name: value for name, value in dataclasses.asdict(found).items() if value is not None}
    return {name: round(value, digits.get(name)) for name, value in known.items()}
