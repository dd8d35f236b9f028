"""The cost of a run: the time of its jobs, at the price of an hour of one of them."""

from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller import cli
from controller.reports.cost import Prices, amount, cost
from controller.reports.stored_report import StoredReports
from tests import fakes
from tests.shown_runs import KEYS, ShownRun
from tests.terminals import terminal

BOTH = Prices(gpu_hour=2.5, cpu_hour=0.25)


@pytest.mark.parametrize(
    "prices,devices,price",
    [
        (BOTH, ("cuda",), 2.5),
        (BOTH, ("cpu",), 0.25),
        # How long each kind worked is not known.
        (BOTH, ("cpu", "cuda"), None),
        (BOTH, (), None),
        (Prices(gpu_hour=2.5), ("cpu",), None),
        (Prices(gpu_hour=0), ("cuda",), 0),
        (Prices(), ("cuda",), None),
    ],
)
def test_the_price_is_that_of_the_device(prices: Prices, devices: tuple[str, ...], price: float | None) -> None:
    assert prices.of(devices) == price


@pytest.mark.parametrize(
    "compute_ms,price,total",
    [(3_600_000, 2.5, 2.5), (90_000, 2.0, 0.05), (0, 2.5, 0), (None, 2.5, None), (3_600_000, None, None)],
)
def test_an_hour_of_jobs_costs_its_price(compute_ms: int | None, price: float | None, total: float | None) -> None:
    assert cost(compute_ms, price) == total


@pytest.mark.parametrize(
    "value,text", [(0, "0.00"), (12.345, "12.35"), (1_234_567.0, "1234567.00"), (0.1, "0.10"), (0.00514, "0.0051")]
)
def test_amounts(value: float, text: str) -> None:
    assert amount(value) == text


COST = "<dt>Cost</dt><dd>0.17 <small>at 2.50 an hour</small></dd>"
"""Of four minutes on a GPU."""


def test_a_report_has_the_cost_where_there_is_a_price(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    run = ShownRun(words=40)
    run.put(store, "complete")

    def page(*options: str) -> str:
        target = tmp_path / "a.html"
        assert cli.run(["report", fakes.RUN, "--store", store.url, "-o", str(target), *options]) == 0
        return target.read_text(encoding="utf-8")

    assert COST in page("--gpu-hour-price", "2.5")
    assert "<dt>Cost</dt>" not in page()
    assert "<dt>Cost</dt>" not in page("--cpu-hour-price", "2.5")
    StoredReports(store, prices=BOTH).write(run.outcome("complete"), run.transcript())
    assert COST in store.get(KEYS.report_page).decode()


@pytest.mark.parametrize("price", ["-1", "nan", "free", "1e7"])
def test_a_price_is_a_number(price: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["report", fakes.RUN, f"--gpu-hour-price={price}"]) == 2
    assert "--gpu-hour-price" in capsys.readouterr().err


@pytest.mark.process
def test_a_terminal_shows_it_from_the_settings(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    ShownRun(words=40).put(store, "complete")
    with terminal("watch", KEYS.run, "--store", store.url, STENOFLEET_GPU_HOUR_PRICE="2.5") as screen:
        assert screen.ended() == 0
        assert "cost 0.17 (at 2.50 an hour)" in "\n".join(screen.left_behind)
