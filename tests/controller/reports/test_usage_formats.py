"""The ledger for people, spreadsheets and Prometheus: every figure, what is not known, hostile names."""

import csv
import io
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller.domain.usage_documents import RunUsage
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.usage import UsageDocuments, report, usage
from controller.reports.usage_formats import _FIGURES, _WORDS, csv_lines, lines, prometheus_lines
from tests import fakes
from tests.controller.reports.test_usage import CLUSTER, PRICES, used

HOSTILE = '=HYPERLINK("x",\n"a")\\ "} 1 # HELP'
UNKNOWN = usage(UsageDocuments(run="f" * 16, name="lost.mp4", tenant="", state="interrupted"))


def rows(*runs: RunUsage, prices: Prices = NO_PRICES) -> list[dict[str, str]]:
    text = "".join(f"{line}\r\n" for line in csv_lines(runs, prices))
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def samples(*runs: RunUsage, prices: Prices = NO_PRICES) -> list[Any]:
    text = "".join(f"{line}\n" for line in prometheus_lines(report(runs, prices)))
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def test_every_figure_has_words() -> None:
    assert set(_WORDS) == set(_FIGURES)


def test_csv_has_a_row_for_each_run_and_every_figure() -> None:
    first, second = rows(used(*CLUSTER, tenant="news"), UNKNOWN, prices=PRICES)
    assert list(first) == ["run", "name", "tenant", "state", *_FIGURES, "unknown"]
    assert (first["run"], first["name"], first["tenant"], first["state"]) == (
        fakes.RUN, "talk.mp4", "news", "complete",
    )  # fmt: skip
    assert (first["paid_s"], first["attempts"], first["unknown"]) == ("302.5", "8", "")
    assert (second["paid_s"], second["attempts"], second["cost"]) == ("unknown", "unknown", "unknown")
    assert "paid_s=1" in second["unknown"].split()
    assert rows(UNKNOWN)[0]["cost"] == "", "there is no price, so there is no cost"


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", HOSTILE])
def test_a_name_is_no_formula(name: str) -> None:
    (row,) = rows(used(*CLUSTER, name=name))
    assert not row["name"].lstrip().startswith(("=", "+", "-", "@"))
    assert row["name"].isprintable()
    assert row["run"] == fakes.RUN, "and no more columns"


def test_prometheus_has_what_is_known() -> None:
    found = samples(used(*CLUSTER, name=HOSTILE), UNKNOWN)
    paid = [one for one in found if one.name == "stenofleet_usage_paid_seconds"]
    assert [(one.labels["run"], one.value) for one in paid] == [(fakes.RUN, 302.5)]
    assert paid[0].labels["name"] == HOSTILE.replace("\n", "\\n")
    assert not [one for one in found if one.name == "stenofleet_usage_cost"], "there is no price"
    missing = {one.labels["figure"]: one.value for one in found if one.name == "stenofleet_usage_unknown_parts"}
    assert missing["paid_s"] == 1
    assert {one.labels["run"] for one in found} == {fakes.RUN, "f" * 16}


def test_each_metric_says_what_it_is_without_the_others() -> None:
    text = "".join(f"{line}\n" for line in prometheus_lines(report([used(*CLUSTER)], PRICES)))
    help_of = {
        one.name.removeprefix("stenofleet_usage_"): one.documentation for one in text_string_to_metric_families(text)
    }
    assert help_of["failed_attempts"] == "Of a run: failed attempts."
    assert help_of["cost_per_audio_hour"] == "Of a run: cost for an hour of audio that was transcribed."
    assert not [
        text for text in help_of.values() if text.startswith(("Of a run: of it", "Of a run: as ", "Of a run: on a"))
    ]
    assert len(set(help_of.values())) == len(help_of)


def test_people_see_one_run_or_a_table_and_the_sum() -> None:
    shown = list(lines(report([used(*CLUSTER)], PRICES)))
    assert shown[0] == f"talk.mp4: complete (run {fakes.RUN})"
    words = {line[:36].strip(): line[37:] for line in shown[1:]}
    assert words["paid: all time of all jobs"] == "5 min 02 s"
    assert words["useful: decoding, word times"] == "1 min 37 s"
    assert words["as a part of what is paid"] == "32%"
    assert words["cost"] == "0.26"
    assert "cost" not in {line[:36].strip() for line in lines(report([used(*CLUSTER)], NO_PRICES))}
    shown = list(lines(report([used(*CLUSTER), UNKNOWN], PRICES)))
    assert [line.split()[0] for line in shown[:3]] == ["run", fakes.RUN, "f" * 16]
    assert "unknown" in shown[2]
    words = {line[:36].strip(): line[37:] for line in shown[5:]}
    assert shown[4] == "2 runs"
    assert words["paid: all time of all jobs"] == "at least 5 min 02 s"
    assert words["times faster than real time"] == "unknown"
    assert shown[-1].startswith("at least, at most: ")
