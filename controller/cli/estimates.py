"""Options of ``plan`` about what the recordings would take.

Touches: the store (through ``stored_documents``).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Self, TypeVar

from chunk_job.contract import TranscribeOptions
from chunk_job.errors import JobError
from controller.cli import options as shared
from controller.cli.option_values import Fraction
from controller.domain import stored_documents
from controller.domain.chunk_length import Device, auto_length
from controller.domain.documents import Report
from controller.domain.keys import RunKeys
from controller.domain.plan import Plan
from controller.errors import UsageProblem
from controller.reports.cost import amount
from controller.reports.estimate import Estimate, JobSpeed, estimate, speed_of
from controller.reports.figures import took
from controller.runs.lookup import existing_run

Origin = Literal["run", "option", "table"]
"""From where a speed is: an earlier run, ``--speed``, or the measured figures for such a model and device."""

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


@dataclass(frozen=True, kw_only=True)
class Basis:
    """What estimates are made from."""

    speed: JobSpeed
    origin: Origin
    at_once: int
    """Jobs."""
    gpus: int
    """Of one job."""
    hour_price: float | None

    def of(self, plans: Iterable[Plan]) -> Estimate:
        """Return what these recordings would take together: they share the jobs of the command."""
        # With --channels split, a job decodes each channel by itself.
        chunks_ms = (plan.channels * span.audio_ms for plan in plans for span in plan.spans)
        return estimate(chunks_ms, self.speed, at_once=self.at_once, hour_price=self.hour_price, gpus=self.gpus)

    def line(self, found: Estimate) -> str:
        """Return a sentence for people."""
        jobs = f"{found.jobs:,} job{'' if found.jobs == 1 else 's'}"
        price = "" if found.cost is None else f", for {amount(found.cost)}"
        wall = took(round(1000 * found.wall_s))
        if found.gpu_s is None:
            return (
                f"about {took(round(1000 * found.job_s))} of job time in {jobs}, {wall} with {self.at_once} at once"
                f"{price}"
            )
        count = self.at_once * self.gpus
        gpus = f"{count:,} GPU{'' if count == 1 else 's'}"
        return f"about {found.gpu_s / 60:,.1f} GPU minutes in {jobs}, {wall} with {gpus}{price}"

    def reason(self) -> str:
        """Return why the figures may be far off; empty if they are based on a measured or given speed."""
        if self.origin != "table":
            return ""
        return (
            f"times are estimated for {self.speed.times_real_time:g} times real time and {self.speed.overhead_s:g} s of"
            " each job beside it, as measured elsewhere for such a model; --like RUN: as fast as an earlier run here"
        )

    def facts(self, found: Estimate) -> dict[str, Any]:
        """Return an estimate for JSON, in seconds."""
        digits = {"job_s": 1, "gpu_s": 1, "wall_s": 1, "cost": 4}
        known = {name: value for name, value in dataclasses.asdict(found).items() if value is not None}
        return {name: round(value, digits.get(name)) for name, value in known.items()}

    def speed_facts(self) -> dict[str, Any]:
        """Return for JSON what the estimates are based on."""
        given = {"times_real_time": round(self.speed.times_real_time, 2), "overhead_s": round(self.speed.overhead_s, 2)}
        return given | {"origin": self.origin, "jobs_at_once": self.at_once, "gpus_of_a_job": self.gpus}


@dataclass(frozen=True, kw_only=True)
class SpeedOptions:
    """What the options of this module say about the speed of a job."""

    like: str | None
    times: float | None
    overhead_s: float | None

    @classmethod
    def taken(cls, options: dict[str, Any]) -> Self:
        """Take them out of the *options* of a command. Raises :class:`UsageProblem` if they contradict each other."""
        taken = cls(like=options.pop("like"), times=options.pop("speed"), overhead_s=options.pop("job_overhead"))
        if taken.like is not None and taken.times is not None:
            raise UsageProblem("--like and --speed contradict each other", "leave one of them out")
        if taken.overhead_s is not None and taken.times is None:
            raise UsageProblem("--job-overhead: is only for --speed", "add --speed TIMES, or leave it out")
        return taken

    @property
    def origin(self) -> Origin:
        """From where the speed is."""
        if self.like is not None:
            return "run"
        return "table" if self.times is None else "option"

    def speed(self, store: str | None, wanted: TranscribeOptions, *, device: Device, cluster: bool) -> JobSpeed:
        """Return the speed of a job. *store*: URL of the store with the earlier run.

        Raises :class:`UsageProblem` if the earlier run has no times of jobs.
        """
        if self.like is not None:
            return _speed_of_run(self.like, store)
        if self.times is not None:
            return JobSpeed(times_real_time=self.times, overhead_s=10.0 if self.overhead_s is None else self.overhead_s)
        known = auto_length(wanted, device=device, jobs=1, cluster=cluster)
        return JobSpeed(times_real_time=known.speed, overhead_s=known.overhead_ms / 1000)


def _speed_of_run(run: str, url: str | None) -> JobSpeed:
    opened = shared.store_at(url)
    found = existing_run(opened, run)
    try:
        report = stored_documents.valid(opened, Report, RunKeys(found).report)
        plan = stored_documents.valid(opened, Plan, RunKeys(found).plan)
    except JobError as error:
        raise UsageProblem(f"--like: {error.summary}", error.advice) from error
    speed = speed_of(report, channels=plan.channels if plan else 1) if report else None
    if speed is None:
        raise UsageProblem(f"--like: run {found} has no times of jobs", "name a run that is complete, or give --speed")
    return speed
