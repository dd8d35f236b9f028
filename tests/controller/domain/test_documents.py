"""The documents of a run are decoded as they were encoded, and invalid ones are refused."""

import json
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.document import Document
from chunk_job.errors import DocumentInvalid
from controller import errors
from controller.domain.documents import (
    Evidence,
    Outcome,
    Report,
    Request,
    Round,
    RunRecord,
    SpanReport,
    Status,
    StoredState,
    Verdict,
)
from controller.domain.keys import MARKERS
from tests.controller.domain.test_schema import EXAMPLES

OURS = {
    name: example for name, example in EXAMPLES.items() if type(example).__module__ == "controller.domain.documents"
}
texts = st.text(max_size=30)


@pytest.mark.parametrize("document", OURS.values(), ids=OURS)
def test_a_document_is_decoded_as_it_was_encoded(document: Document) -> None:
    again = type(document).decode(document.encode())
    assert again == document
    assert again.encode() == document.encode()


@pytest.mark.parametrize("document", OURS.values(), ids=OURS)
def test_a_document_of_another_kind_is_refused(document: Document) -> None:
    kinds = {type(other) for other in OURS.values()} - {type(document)}
    for kind in kinds:
        with pytest.raises(DocumentInvalid):
            kind.decode(document.encode())


@pytest.mark.parametrize("document", OURS.values(), ids=OURS)
def test_an_extra_or_missing_field_is_named(document: Document) -> None:
    raw = json.loads(document.encode())
    with pytest.raises(DocumentInvalid, match=f"^{type(document).__name__}: surprise: "):
        type(document).decode(json.dumps(raw | {"surprise": 1}).encode())
    for name, field in ((field.alias or name, field) for name, field in type(document).model_fields.items()):
        if field.is_required():
            less = {key: value for key, value in raw.items() if key != name}
            with pytest.raises(DocumentInvalid, match=f"^{type(document).__name__}: {name}: "):
                type(document).decode(json.dumps(less).encode())


@given(
    st.builds(
        Evidence,
        round=st.just("0000cafe"),
        span=st.none() | st.integers(0, 1000),
        attempt=st.integers(1, 1000),
        failure=st.sampled_from(["UNKNOWN", "DISRUPTED.node_lost"]),
        summary=texts,
        advice=texts,
        details=st.lists(texts, max_size=3).map(tuple),
        ended_ms=st.integers(0, 1 << 53),
    )
)
def test_any_evidence_is_decoded_as_it_was_encoded(evidence: Evidence) -> None:
    assert Evidence.decode(evidence.encode()) == evidence


def test_attempt_number_zero_is_refused() -> None:
    assert isinstance(EXAMPLES["evidence"], Evidence)
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Evidence.model_validate(EXAMPLES["evidence"].model_dump() | {"attempt": 0})


def test_a_verdict_has_a_marker_and_a_status_a_state() -> None:
    assert set(get_args(Verdict)) == MARKERS.keys()
    assert set(get_args(Status.model_fields["state"].annotation)) == set(get_args(StoredState))


def test_there_is_an_example_of_every_record() -> None:
    assert {type(example) for example in OURS.values()} >= {
        RunRecord,
        Request,
        Round,
        Evidence,
        Outcome,
        Report,
        Status,
    }
    assert SpanReport in {type(span) for example in OURS.values() for span in getattr(example, "spans", ())}


@pytest.mark.parametrize(
    "error,exit_code",
    [
        (errors.StenofleetError("s"), 1),
        (errors.UsageProblem("s"), 2),
        (errors.EnvironmentProblem("s"), 3),
        (errors.MediaProblem("s"), 5),
        (errors.PlanMismatch("s"), 5),
        (errors.Interrupted(2), 130),
        (errors.Interrupted(15), 143),
    ],
    ids=["a bug", "usage", "environment", "media", "mismatch", "ctrl-c", "sigterm"],
)
def test_an_error_has_an_exit_code_and_advice(error: errors.StenofleetError, exit_code: int) -> None:
    assert error.exit_code == exit_code
    assert isinstance(error, errors.StenofleetError)
    problem = errors.EnvironmentProblem("what", "do this")
    assert (str(problem), problem.summary, problem.advice) == ("what", "what", "do this")
