"""Quality gates say nothing good about what they have not measured."""

from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from chunk_job.store.files import FileStore
from controller.cli.checks import Checks
from controller.cli.judging import Checked
from controller.domain.interfaces import RunOutcome
from controller.reports import junit
from controller.reports.cost import Prices
from controller.reports.gates import Gates
from tests import fakes

GATES = Gates(min_coverage=0.5, max_cost=2, captions_profile="netflix")


def complete() -> RunOutcome:
    return RunOutcome(run=fakes.RUN, name="talk.wav", verdict="complete", summary="transcribed")


def test_a_run_that_was_removed_before_it_is_measured_keeps_no_limit(store: FileStore) -> None:
    checked = Checked(store=store, checks=Checks(gates=GATES, prices=Prices(cpu_hour=1)), names=())
    (gates,) = checked.judge([complete()], ()).values()
    assert [(one.title, one.kept) for one in gates] == [
        ("--min-coverage 0.5", False),
        ("--max-cost 2", False),
        ("--captions-profile netflix", False),
    ]
    assert {one.text for one in gates} == {"it cannot be measured: its run is not in the store any more"}


@pytest.mark.parametrize("gates", [GATES, Gates()])
def test_recordings_that_are_left_out_are_said_to_be_unmeasured(
    store: FileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str], gates: Gates
) -> None:
    checked = Checked(store=store, checks=Checks(gates=gates), names=())
    checked.judge([], ["a.wav", "b.wav"])
    assert ("2 of the recordings were skipped, and not measured" in capsys.readouterr().err) == bool(gates)
    junit.write(str(tmp_path / "junit.xml"), checked.suites())
    reasons = {one.get("message") for one in ET.parse(tmp_path / "junit.xml").iter("skipped")}
    measured = ", and no quality gate has measured it" if gates else ""
    assert reasons == {f"all its outputs exist{measured}"}
