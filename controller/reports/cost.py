"""What the compute time of a run costs.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

_HOUR_MS = 3_600_000


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What an hour of one job costs, with everything that it has, in any currency; None: not known."""

    gpu_hour: float | None = None
    """Of a job on a GPU."""
    cpu_hour: float | None = None
    """Of a job without a GPU."""

    def of(self, devices: Collection[str]) -> float | None:
        """The price of an hour of a job on these devices; None: not known, or jobs had different ones."""
        on_gpu = {device == "cuda" for device in devices}
        if len(on_gpu) != 1:
            return None
        return self.gpu_hour if on_gpu.pop() else self.cpu_hour


NO_PRICES = Prices()


def cost(compute_ms: int | None, hour_price: float | None) -> float | None:
    """The cost of *compute_ms* of jobs; None: not known."""
    return None if compute_ms is None or hour_price is None else compute_ms / _HOUR_MS * hour_price


def amount(value: float) -> str:
    """Format an amount of money: two digits after the point, of a small one its first two."""
    return f"{value:.2f}" if value >= 0.1 or value == 0 else f"{value:.2g}"
