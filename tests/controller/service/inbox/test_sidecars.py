"""Sidecars: the options of the API in YAML, and what is wrong with one is said with its place."""

import pytest

from controller.service.inbox.sidecars import PLAIN, parsed

PT = b"options:\n  language: pt\n  beam_size: 3\noutput_formats: [txt, vtt]\nlabels: {case: '7'}\npriority: 2\n"


def test_fields_are_those_of_a_request() -> None:
    found = parsed(PT, "talk.stenofleet.yaml")
    assert found.problem is None
    assert found.fields == {
        "options": {"language": "pt", "beam_size": 3},
        "output_formats": ["txt", "vtt"],
        "labels": {"case": "7"},
        "priority": 2,
    }


def test_another_layout_is_the_same_request() -> None:
    other = (
        b"# comment\npriority: 2\nlabels: {'case': \"7\"}\noptions: {beam_size: 3, language: pt}\n"
        b"output_formats:\n- txt\n- vtt\n"
    )
    assert parsed(other, "x").digest == parsed(PT, "x").digest
    assert parsed(PT.replace(b"pt", b"es"), "x").digest != parsed(PT, "x").digest
    for nothing in (b"", b"# nothing\n", b"{}", b"output_formats: [txt, srt, json]"):
        assert parsed(nothing, "x") == PLAIN


def test_norwegian_is_a_language_and_a_date_a_text() -> None:
    assert parsed(b"options: {language: no}", "x").fields["options"] == {"language": "no"}
    assert parsed(b"labels: {day: 2024-01-31}", "x").fields["labels"] == {"day": "2024-01-31"}


@pytest.mark.parametrize(
    "data, said",
    [
        (b"options: {beam: 3}", "options.beam: is not known here"),
        (b"options: {beam_size: many}", "options.beam_size: "),
        (b"source: s3://other/secret.wav", "source: is not known here"),
        (b"options: {language: pt", "line 1, column "),
        (b"options: {language: pt}\noptions: {}", "line 2: 'options' is there twice"),
        (b"a: &a [x, x]\nb: [*a, *a]", "line 2: references (*name) are not supported"),
        (b"!!python/object/apply:os.system [id]", "line 1, column 1"),
        (b"[" * 60_000, "is not YAML of a simple form"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (b"- talk", "must be an object"),
        (b"priority: .inf", "priority: "),
    ],
)
def test_what_is_wrong_is_said_with_its_place(data: bytes, said: str) -> None:
    found = parsed(data, "talk.stenofleet.yaml")
    assert found.problem
    assert found.problem.document.detail.startswith(f"talk.stenofleet.yaml: {said}")
    assert "language: pt" in found.problem.document.advice
