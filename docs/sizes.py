# ruff: noqa: INP001
"""Write the README's table of sizes and costs: estimates of the code for 100 hours of audio.

python docs/sizes.py
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from chunk_job.contract import TranscribeOptions
from controller.domain.chunk_length import Device, auto_length, choose
from controller.reports.estimate import Estimate, JobSpeed, estimate

README = Path(__file__).parents[1] / "README.md"
HOURS = 100
RECORDING_MS = 2 * 3_600_000
BEGIN, END = "<!-- sizes: written by docs/sizes.py -->\n", "<!-- end of sizes -->"
_CENTS = 0.1
_HEAD = (
    *("model", "hardware", "chunk jobs", "all of it takes", "time of all jobs, summed"),
    *("price of an hour", "cost", "for an hour of audio"),
)


@dataclass(frozen=True, kw_only=True)
class Case:
    """A row: a model on hardware."""

    model: str
    device: Device
    at_once: int
    hour_price: float
    """Of one job."""

    @property
    def hardware(self) -> str:
        """Return what does the work."""
        unit = "GPU" if self.device == "cuda" else "CPU job"
        return f"{self.at_once} {unit}{'s' if self.at_once > 1 else ''}"

    def expected(self) -> Estimate:
        """Return what ``stenofleet plan`` estimates for recordings of two hours, in chunks of the chosen length."""
        auto = auto_length(TranscribeOptions(model=self.model), device=self.device, jobs=self.at_once, cluster=True)
        recordings = HOURS * 3_600_000 // RECORDING_MS
        chunk_ms = choose(auto, [RECORDING_MS] * recordings).chunk_ms
        chunks = max(1, round(RECORDING_MS / chunk_ms))
        return estimate(
            [RECORDING_MS // chunks] * chunks * recordings,
            JobSpeed(times_real_time=auto.speed, overhead_s=auto.overhead_ms / 1000),
            at_once=self.at_once,
            hour_price=self.hour_price,
        )


CASES = (
    Case(model="large-v3-turbo", device="cuda", at_once=1, hour_price=2.5),
    Case(model="large-v3-turbo", device="cuda", at_once=16, hour_price=2.5),
    Case(model="large-v3", device="cuda", at_once=16, hour_price=2.5),
    Case(model="small", device="cpu", at_once=32, hour_price=0.2),
    Case(model="large-v3-turbo", device="cpu", at_once=32, hour_price=0.2),
)


def table() -> str:
    """Return the table."""
    lines = [
        f"| {' | '.join(_HEAD)} |",
        "|---" * len(_HEAD) + "|",
    ]
    for case in CASES:
        found = case.expected()
        cost = found.cost or 0.0
        cells = (
            f"`{case.model}`",
            case.hardware,
            str(found.jobs),
            _time(found.wall_s),
            _time(found.job_s),
            f"{case.hour_price:.2f}",
            f"{cost:.2f}",
            f"{cost / HOURS:.3f}" if cost / HOURS < _CENTS else f"{cost / HOURS:.2f}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "".join(f"{line}\n" for line in lines)


def _time(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{seconds / 3600:.1f} h"


def readme() -> str:
    """Return the README with the table."""
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise ValueError(f"README.md: no {BEGIN.strip()} … {END}")
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Write it."""
    README.write_text(readme(), encoding="utf-8")
    sys.stdout.write(f"{README}\n")


if __name__ == "__main__":
    main()
