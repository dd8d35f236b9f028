"""Options with the price of an hour of a job, for the cost of a run in its reports.

Touches: nothing.
"""

from __future__ import annotations

from typing import Any

from controller.cli.option_values import Fraction
from controller.cli.options import option, together
from controller.reports.cost import Prices

_MOST = 1_000_000

price_options = together(
    option("--gpu-hour-price", type=Fraction(0, _MOST), metavar="PRICE",
           help="Of an hour of a job on a GPU: then reports show the cost of a run."),
    option("--cpu-hour-price", type=Fraction(0, _MOST), metavar="PRICE", help="The same without a GPU."),
)  # fmt: skip
"""Options of commands that show a run."""


def taken_prices(values: dict[str, Any]) -> Prices:
    """Remove the options from *values*, and return the prices."""
    return Prices(gpu_hour=values.pop("gpu_hour_price"), cpu_hour=values.pop("cpu_hour_price"))
