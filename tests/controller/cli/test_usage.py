"""``usage``: which runs it counts, and its four outputs."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chunk_job.store.files import FileStore
from controller import cli
from controller.domain.keys import RunKeys
from tests import fakes, quick_jobs
from tests.batch_machine import Machine, lay
from tests.shown_runs import HOSTILE_NAME, HostileRun, ShownRun

OTHER = "f" * 16
DATA = Path(__file__).parents[2] / "data" / "store-0.1.0"


@pytest.fixture
def store(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    """Two runs: one that is complete, whose chunk 1 failed once, and one of which an earlier version kept a report."""
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    opened = FileStore(tmp_path_factory.mktemp("store") / "runs")
    monkeypatch.setenv("STENOFLEET_STORE", opened.url)
    ShownRun(failed=(1,)).put(opened, "complete")
    ShownRun(run=OTHER).put(opened, "complete")
    opened.delete(RunKeys(OTHER).attempts)
    return opened


def printed(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.run(["usage", *arguments]) == 0
    return capfd.readouterr().out


def document(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(printed(capfd, "--output", "json", *arguments))
    return found


def test_named_runs_or_all_of_them_each_once(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    assert [run["run"] for run in document(capfd)["runs"]] == [fakes.RUN, OTHER]
    one = document(capfd, fakes.RUN, fakes.RUN[:6], fakes.RUN.upper())
    assert [run["run"] for run in one["runs"]] == [fakes.RUN]
    assert (one["total"]["attempts"], one["total"]["failed_attempts"], one["total"]["failed_s"]) == (7, 1, 25 + 4.5)
    assert one["tenants"] == []
    cli.run(["usage", "0" * 16])
    assert f"no run {'0' * 16} in {store.url}" in capfd.readouterr().err
    assert cli.run(["usage", "--tenant", "news"]) == 0
    assert capfd.readouterr().err == f"no runs of tenant news in {store.url}\n"


def test_a_store_without_runs(tmp_path_factory: pytest.TempPathFactory, capfd: pytest.CaptureFixture[str]) -> None:
    url = f"file://{tmp_path_factory.mktemp('empty')}"
    assert cli.run(["usage", "--store", url]) == 0
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", f"no runs in {url}\n")
    assert cli.run(["usage", "--store", url, "--output", "csv"]) == 0
    assert capfd.readouterr().out.count("\n") == 1, "the header"


def test_each_output_has_the_same_figures(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    prices = ("--gpu-hour-price", "3.6", "--cpu-hour-price", "0.36")
    of = document(capfd, *prices)
    (first, second), total = of["runs"], of["total"]
    assert first["paid_s"] == first["gpu_s"] + first["cpu_s"]
    # The intake waited 2 s, started in 7 s and cut for 81 s.
    assert (first["cpu_s"], first["cut_s"]) == (88, 81)
    assert second["queue_s"] is None
    assert second["gpu_s"] == 5 * 48
    assert second["cpu_s"] is None
    assert total["gpu_s"] == first["gpu_s"] + second["gpu_s"]
    assert total["cost"] == pytest.approx(total["gpu_s"] * 0.001 + 88 * 0.0001)
    text = printed(capfd, "--output", "csv", *prices)
    assert text.count("\r\n") == text.count("\n") == 3
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["paid_s"] for row in rows] == [str(first["paid_s"]), str(second["paid_s"])]
    assert rows[1]["queue_s"] == "unknown"
    families = text_string_to_metric_families(printed(capfd, "--output", "prometheus", *prices))
    samples = {one.name: one.samples for one in families}
    assert [one.value for one in samples["stenofleet_usage_cost"]] == [first["cost"], second["cost"]]
    assert [one.labels["run"] for one in samples["stenofleet_usage_queue_seconds"]] == [fakes.RUN]
    table = printed(capfd, *prices)
    assert table.splitlines()[0].split()[:3] == ["run", "audio", "paid"]
    assert "2 runs" in table


@pytest.mark.parametrize("output", ["table", "json", "csv", "prometheus"])
def test_a_hostile_name_stays_text(store: FileStore, capfd: pytest.CaptureFixture[str], output: str) -> None:
    HostileRun(run="e" * 16).put(store, "complete")
    text = printed(capfd, "--output", output, "e" * 16)
    assert "\x1b" not in text
    assert "\u202e" not in text
    if output == "json":
        assert json.loads(text)["runs"][0]["name"] == HOSTILE_NAME
    if output == "prometheus":
        list(text_string_to_metric_families(text))


def test_what_clean_removed_counts_until_clean_is_asked_to_forget_it(
    store: FileStore, capfd: pytest.CaptureFixture[str]
) -> None:
    before = document(capfd)["total"]
    assert cli.run(["clean", fakes.RUN, "--yes"]) == 0
    assert document(capfd)["total"] == before
    (row,) = document(capfd, fakes.RUN[:5])["runs"]
    assert (row["run"], row["name"], row["state"]) == (fakes.RUN, fakes.RUN, "removed")
    assert cli.run(["clean", "--all", "--yes"]) == 0
    assert document(capfd)["total"] == before
    text_string_to_metric_families(printed(capfd, "--output", "prometheus"))
    assert cli.run(["clean", fakes.RUN, "--yes"]) == 2
    assert cli.run(["clean", fakes.RUN, "--usage", "--yes"]) == 0
    assert [run["run"] for run in document(capfd)["runs"]] == [OTHER]
    assert cli.run(["clean", "--all", "--usage", "--yes"]) == 0
    assert list(store.list("")) == []


def test_output_is_never_read_from_a_file(store: FileStore, capfd: pytest.CaptureFixture[str]) -> None:
    """The file's ``output`` would be the file of ``report`` too."""
    with open("stenofleet.toml", "w", encoding="utf-8") as file:  # noqa: PTH123 (the folder of this test)
        file.write('output = "csv"\n')
    assert cli.run(["usage"]) == 2
    assert "output is never read from a file: each command means something else by it" in capfd.readouterr().err


def test_a_batch_has_the_runs_that_were_not_complete_before_it(
    working_folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(working_folder, capfd, monkeypatch)
    lay(Path("talks"), 2)
    assert machine.submit("talks/000.wav").code == 0
    before = machine.batch
    (Path("talks") / "copy.wav").write_bytes((Path("talks") / "001.wav").read_bytes())
    (Path("talks") / "broken.wav").write_bytes(quick_jobs.NOT_MEDIA)
    assert machine.submit("talks").code == 4
    (batch,) = {one["batch"] for one in json.loads(machine.run("list", "--json").out)["batches"]} - {before}
    url = str(working_folder / "store")
    of = document(capfd, "--batch", batch[:8], "--store", url)
    assert sorted(run["state"] for run in of["runs"]) == ["complete", "failed"], "copies are one run"
    # The recording of the first batch, one of two copies, and a recording that cannot be cut.
    assert (of["total"]["attempts"], of["total"]["failed_attempts"]) == (2 + 1, 1)
    assert document(capfd, "--store", url)["total"]["runs"] == 3
    assert cli.run(["usage", "--store", url, "--batch", "0" * 16]) == 2
    assert f"no batch {'0' * 16}" in capfd.readouterr().err
    assert cli.run(["usage", "--store", url, "--batch", batch, "0" * 16]) == 2
    assert "both runs and --batch are given" in capfd.readouterr().err


def test_a_store_of_the_first_version_has_nothing_that_is_known(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DATA, tmp_path / "store")
    (run,) = document(capfd, "--store", f"file://{tmp_path / 'store'}")["runs"]
    assert (run["state"], run["paid_s"], run["attempts"], run["cost"]) == ("interrupted", None, None, None)
