"""Attempts that were killed together with their controller: whoever counts the failures of a run counts them too."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller import cli
from controller.cli.fitting import Space
from controller.cli.run_lines import picture
from controller.domain.attempt_documents import Attempts, AttemptTimes
from controller.domain.documents import Status
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.keys import RunKeys
from controller.domain.policy import RetryPolicy
from controller.errors import Interrupted
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import InOrder
from controller.reports import junit
from controller.reports.html import page
from controller.reports.run_view import RunView
from controller.reports.stored_report import stored_view
from tests import fakes
from tests.fakes import START_MS, FakeClock, FakeRunner, JournalStore, Recorder, scripted

KEYS = RunKeys(fakes.RUN)
LOST_MS = 90_000


def noted(*spans: int | None, phase: Any = "running") -> Attempts:
    """What a controller noted last that was killed while these spans had a job."""
    times = tuple(
        AttemptTimes(
            span=span, attempt=1, phase=phase, job="1-2", submitted_ms=START_MS - LOST_MS, running_ms=START_MS - LOST_MS
        )
        for span in spans
    )
    return Attempts(run=fakes.RUN, began_ms=1, done_before_ms=0, observed_ms=START_MS, attempts=times)


@pytest.fixture
def store(tmp_path: Path) -> JournalStore:
    """With a run whose first controller died with the intake and two jobs, and whose next one saw a job fail."""
    store, clock, record = JournalStore(tmp_path / "store"), FakeClock(), fakes.record()
    store.put(KEYS.attempts, noted(None, 0, 1).encode())
    (ended,) = run_loop(
        KnownRequests([RunRequest(record=record, request=fakes.request(record))]),
        store=store,
        runner=FakeRunner(store, clock, scripted({(1, 1): fakes.CRASH})),
        policy=RetryPolicy(backoff_ms=0),
        slots=InOrder(2),
        reporter=Recorder(),
        clock=clock,
    )
    assert ended.verdict == "complete"
    return store


@pytest.fixture
def view(store: JournalStore) -> RunView:
    found = stored_view(store, fakes.RUN)
    assert found is not None
    return found


def said(store: JournalStore, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    """The JSON document of a command."""
    assert cli.run([*arguments, "--store", store.url]) == 0
    return json.loads(capsys.readouterr().out)


def test_all_commands_and_the_page_count_the_same_failures(
    store: JournalStore, view: RunView, capsys: pytest.CaptureFixture[str]
) -> None:
    (used,) = said(store, capsys, "usage", fakes.RUN, "--output", "json")["runs"]
    assert (used["attempts"], used["failed_attempts"]) == (8, 4)
    assert said(store, capsys, "status", fakes.RUN, "--json")["failures"] == 4
    (listed,) = said(store, capsys, "list", "--json")["runs"]
    assert listed["failures"] == 4
    assert view.header.failures == 4
    assert [(chunk.attempts, chunk.lost_attempts, chunk.mark) for chunk in view.grid.chunks] == [
        (2, 1, "again"),
        (3, 1, "again"),
        (1, 0, "done"),
    ]
    assert view.grid.lost_intakes == 1


def test_explain_names_them_and_the_time_that_they_took(
    store: JournalStore, capsys: pytest.CaptureFixture[str]
) -> None:
    causes = said(store, capsys, "explain", fakes.RUN, "--json")["causes"]
    (lost,) = [cause for cause in causes if "lost" in cause["summary"]]
    assert lost["summary"] == "3 attempts were lost with their controller: nobody saw the end"
    assert lost["evidence"][:2] == ["of 2 chunks: 0, 1", "of the cutting of the recording"]
    assert lost["evidence"][2].endswith("% of the critical path")
    assert any(cause["summary"].startswith("NATIVE_CRASH") for cause in causes)


def test_the_timeline_shows_until_when_they_were_seen(view: RunView) -> None:
    """Chunk 1 has a lost attempt and a failed one of the same number."""
    assert view.timeline is not None
    bars = [bar for row in view.timeline.rows for bar in row.bars]
    assert [bar.end_ms - bar.start_ms for bar in bars if bar.kind == "unseen"] == [LOST_MS] * 3
    assert len([bar for bar in bars if bar.kind == "failed"]) == 1


def test_page_terminal_and_junit_tell_of_them(view: RunView) -> None:
    shown = " ".join("".join(page(view, None)).split())
    for what in ("Cutting", "Chunk 0", "Chunk 1"):
        assert f"<h3>{what}</h3> <p>1 attempt was lost with its controller: nobody saw the end.</p>" in shown
    lines = [line.plain for line in picture([view], Space(width=100, height=80))]
    for what in ("cutting", "chunk 0", "chunk 1"):
        assert f"✕ {what}: 1 attempt was lost with its controller" in lines
    outcome = RunOutcome(name="talk.mp4", run=fakes.RUN, verdict="complete", summary="", advice="", files=())
    first, second, third = (case.system_out for case in junit.suite(outcome, view))
    assert (first, third) == ("1 attempt was lost with its controller", None)
    assert second.splitlines()[0] == first
    assert "attempt 1 failed (NATIVE_CRASH)" in second.splitlines()[1]


def test_the_view_of_a_run_counts_those_that_an_earlier_version_left_out_of_its_status(store: JournalStore) -> None:
    before = Status.decode(store.get(KEYS.status))
    store.put(KEYS.status, before.model_copy(update={"failures": 1}).encode())
    view = stored_view(store, fakes.RUN)
    assert view is not None
    assert view.header.failures == 4


def test_logs_says_that_they_left_none(store: JournalStore, capsys: pytest.CaptureFixture[str]) -> None:
    for key in [entry.key for entry in store.list(KEYS.failures)]:
        store.delete(key)
    assert cli.run(["logs", fakes.RUN, "--store", store.url]) == 0
    assert "has failed; 3 attempts were lost with their controller" in capsys.readouterr().err


def test_one_that_nobody_followed_yet_counts_once(store: JournalStore) -> None:
    store.put(KEYS.attempts, noted(2, phase="gone").encode())
    view = stored_view(store, fakes.RUN)
    assert view is not None
    assert (view.grid.chunks[2].attempts, view.grid.chunks[2].lost_attempts) == (1, 1)


def test_a_job_that_a_signal_stops_before_it_was_observed_is_not_lost(tmp_path: Path) -> None:
    store, clock, record = JournalStore(tmp_path / "store"), FakeClock(), fakes.record()

    def stop(_: int) -> None:
        clock.asked_to_stop = 2

    runner = FakeRunner(store, clock, scripted({}), on_wait=stop)
    runner.jobs_stay = False
    with pytest.raises(Interrupted):
        run_loop(
            KnownRequests([RunRequest(record=record, request=fakes.request(record))]),
            store=store,
            runner=runner,
            policy=RetryPolicy(),
            slots=InOrder(2),
            reporter=Recorder(),
            clock=clock,
        )
    (one,) = Attempts.decode(store.get(KEYS.attempts)).attempts
    assert (one.span, one.phase, one.job) == (None, "ended", "")
