"""The view of a run from its documents: what is known of it, and nothing that is not."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest

from controller.domain.attempt_documents import AttemptPhase, Attempts, AttemptTimes
from controller.domain.documents import Evidence, StoredState
from controller.reports.build import MOST_CHUNKS, MOST_LINES, RunDocuments, build
from controller.reports.run_view import ChunkView
from tests import fakes
from tests.shown_runs import CHUNK_MS, ShownRun

PLAN = fakes.plan(10_000, 20_000, 30_000, offset_ms=40)


def documents(state: StoredState = "running", **known: Any) -> RunDocuments:
    return RunDocuments(run=fakes.RUN, state=state, plan=PLAN, **known)


def attempts(*times: AttemptTimes) -> Attempts:
    return Attempts(run=fakes.RUN, began_ms=0, done_before_ms=0, attempts=times)


def live(phase: AttemptPhase, **changes: Any) -> Attempts:
    return attempts(AttemptTimes(span=0, attempt=1, phase=phase, **changes))


def failed(span: int | None = 0, attempt: int = 1, **changes: Any) -> Evidence:
    evidence = Evidence(
        run=fakes.RUN, round="0000cafe", span=span, attempt=attempt, failure="NATIVE_CRASH", summary="it crashed",
        advice="look", details=("a", "b"), ended_ms=1, node="n1",
    )  # fmt: skip
    return evidence.model_copy(update=changes)


def first(of: RunDocuments) -> ChunkView:
    return build(of).grid.chunks[0]


@pytest.mark.parametrize(
    "of,state",
    [
        (documents(), "waiting"),
        (documents(winners={0: 1}), "done"),
        (documents(winners={0: 2}, evidence=(failed(),)), "done"),
        (documents(evidence=(failed(),)), "retry"),
        (documents(attempts=live("queued")), "queued"),
        (documents(attempts=live("starting")), "starting"),
        (documents(attempts=live("running")), "running"),
        (documents(attempts=live("ending")), "running"),
        (documents(attempts=live("ended")), "waiting"),
        (documents(attempts=live("gone"), evidence=(failed(),)), "retry"),
        # Jobs of a run that nobody works on are of no interest.
        (documents("interrupted", attempts=live("running")), "waiting"),
        # It is resumed: another attempt is made.
        (documents("interrupted", evidence=(failed(),)), "retry"),
        (documents("failed", outcome=ShownRun().outcome("failed"), evidence=(failed(),)), "lost"),
        (documents("failed", outcome=ShownRun().outcome("failed")), "waiting"),
        (documents("partial", outcome=ShownRun().outcome("partial")), "lost"),
    ],
)
def test_the_state_of_a_chunk(of: RunDocuments, state: str) -> None:
    view = build(of)
    assert view.grid.chunks[0].state == state
    assert view.grid.counts[view.grid.chunks[0].mark] >= 1


def test_what_is_not_known_is_absent() -> None:
    view = build(RunDocuments(run=fakes.RUN, state="interrupted"))
    header = view.header
    assert (header.duration_ms, header.took_ms, header.compute_ms, header.words, header.left_ms) == (None,) * 5
    assert (header.speed, header.useful_share, header.language, header.command) == (None, None, "", "")
    assert (view.sound, view.timeline, view.grid.chunks) == (None, None, ())
    chunk = first(documents())
    assert (chunk.job_ms, chunk.speed, chunk.speech_ms, chunk.words, chunk.progress) == (None,) * 5


def test_places_can_be_left_out() -> None:
    place = "/store/uploads/news/1/talk.mp4"
    record = fakes.record(name="talk.mp4", model="/models/own")
    request = fakes.request(record)
    request = request.model_copy(update={"source": request.source.model_copy(update={"uri": f"file://{place}"})})
    said = f"{place}: is not media; file://{place}; /models/own is fine"
    of = documents(record=record, request=request, evidence=(failed(summary=said, details=(said,)),))
    assert "/store/" in repr(build(of))
    view = build(dataclasses.replace(of, places=False))
    assert "/store/" not in repr(view)
    assert "/models/" not in repr(view)
    (failure,) = view.grid.chunks[0].failures
    assert failure.summary == failure.lines[0] == "talk.mp4: is not media; talk.mp4; own is fine"
    assert view.header.command == "stenofleet transcribe talk.mp4 --model own --language en"


@pytest.mark.parametrize(
    "model,shown",
    [("large-v3", "large-v3"), ("/models/our-own/", "our-own"), ("org/model", "org/model"), ("/", "/")],
)
def test_a_folder_with_a_model_is_shown_by_its_name(model: str, shown: str) -> None:
    assert build(documents(record=fakes.record(model=model))).header.model == shown


def test_times_are_those_of_the_media() -> None:
    view = build(documents())
    assert [(chunk.start_ms, chunk.end_ms) for chunk in view.grid.chunks][1] == (10_040, 20_040)
    assert view.sound
    assert [(cut.at_ms, cut.chunk) for cut in view.sound.cuts] == [(10_040, 1), (20_040, 2)]
    assert view.header.duration_ms == 30_040


def test_failures_for_the_same_reason_in_succession_are_one() -> None:
    of = documents(
        evidence=(
            failed(attempt=3, failure="CUDA_OOM", summary="full"),
            failed(attempt=1),
            failed(attempt=2, node="n2", details=tuple(map(str, range(2 * MOST_LINES)))),
            failed(None, 1, summary="cut short"),
        )
    )
    view = build(of)
    crash, full = view.grid.chunks[0].failures
    assert (crash.attempts, crash.nodes, len(crash.lines), crash.lines[-1]) == ((1, 2), ("n1", "n2"), MOST_LINES, "39")
    assert (full.attempts, full.failure) == ((3,), "CUDA_OOM")
    assert [one.summary for one in view.grid.intake] == ["cut short"]
    assert view.grid.chunks[0].attempts == 3


def test_the_time_that_is_left_counts_from_when_this_process_began() -> None:
    run = ShownRun(chunks=10, done=4)
    status = run.status("running")
    noted = run.attempts().model_copy(update={"done_before_ms": 2 * CHUNK_MS, "began_ms": status.updated_ms - 60_000})
    of = RunDocuments(run=fakes.RUN, state="running", plan=run.plan, status=status, attempts=noted)
    # Two chunks in a minute, and six are left.
    assert build(of).header.left_ms == 180_000
    for changed in (
        {"status": status.model_copy(update={"planned": False})},
        {"attempts": noted.model_copy(update={"done_before_ms": 4 * CHUNK_MS})},
        {"state": "interrupted"},
    ):
        assert build(RunDocuments(**{**vars(of), **changed})).header.left_ms is None


def strings(value: object) -> Iterator[str]:
    """Every text in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for each in (*value, *value.values()) for text in strings(each))
    elif isinstance(value, list | tuple):
        yield from (text for each in value for text in strings(each))


def test_texts_are_printable_and_without_secrets() -> None:
    hostile = "\x1b[31m\u202e\x00 https://me:secret@host/"
    record = fakes.record(name="a\u202eb\n.mp4", model=hostile).model_copy(update={"versions": {hostile: hostile}})
    view = build(
        documents(
            record=record,
            request=fakes.request(record),
            evidence=(failed(summary=hostile, advice=hostile, details=(hostile,), node="n"),),
            attempts=live("queued", waits_for=hostile),
            outcome=ShownRun().outcome("failed", summary=hostile, advice=hostile),
        )
    )
    found = list(strings(dataclasses.asdict(view)))
    assert len([text for text in found if "***@host" in text]) >= 9
    assert not [text for text in found if "secret" in text or not text.isprintable()]
    assert view.header.name == "a\\u202eb\\n.mp4"


def test_of_many_chunks_those_are_shown_that_have_something_to_say() -> None:
    many = fakes.plan(*range(1_000, 1_000 * (MOST_CHUNKS + 101), 1_000))
    lost = failed(MOST_CHUNKS + 50)
    of = RunDocuments(run=fakes.RUN, state="running", plan=many, evidence=(lost,), winners={0: 1})
    grid = build(of).grid
    assert (len(grid.chunks), grid.left_out) == (MOST_CHUNKS, 100)
    assert MOST_CHUNKS + 50 in [chunk.index for chunk in grid.chunks]
    assert sum(grid.counts.values()) == MOST_CHUNKS + 100
