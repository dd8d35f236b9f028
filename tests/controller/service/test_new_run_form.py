"""The form for new runs: each option of the API has one control, and what people type becomes what the API takes."""

import json
from dataclasses import replace
from typing import Any

import pytest
from starlette.datastructures import FormData

from controller.service.problems import Problem
from controller.service.submissions import RunOptions, Submission, parsed
from controller.service.tenant import DEFAULT, Tenant
from controller.service.web.new_form import (
    RECORDING,
    Control,
    addresses_of,
    at_field,
    first_controls,
    folded_groups,
    label_of,
    of_form,
    size,
    submission_of,
)
from tests.controller.service.running import DEFAULTS

_READER = Tenant(name="reader", prefix="reader", outputs=())


def controls(tenant: Tenant) -> list[str]:
    """The names of all controls."""
    folded = [one for group in folded_groups(DEFAULTS, tenant) for one in group.controls]
    return [one.name for one in (*first_controls(DEFAULTS, tenant), *folded)]


def test_each_field_of_a_submission_has_one_control() -> None:
    fields = {*Submission.model_fields} - RECORDING - {"options"}
    assert sorted(controls(DEFAULT)) == sorted({*fields, *(f"options.{name}" for name in RunOptions.model_fields)})


def test_names_of_options_are_labels_that_people_read() -> None:
    names = ("labels", "options.vad_min_silence_duration_ms", "options.logprob_threshold", "callback_url")
    labels = ["Labels", "VAD min silence duration (ms)", "Log probability threshold", "Callback URL"]
    assert [label_of(name) for name in names] == labels


def test_what_decides_how_it_is_decoded_is_together() -> None:
    groups = {one.name: group.title for group in folded_groups(DEFAULTS, DEFAULT) for one in group.controls}
    assert {groups[f"options.{name}"] for name in ("temperature_increment_on_fallback", "beam_size")} == {"Decoding"}
    assert {groups[f"options.{name}"] for name in ("audio_track", "rendition")} == {"The recording"}
    assert groups["priority"] == "The run and its outputs"


def test_a_language_of_the_service_can_be_replaced_by_detection() -> None:
    def control(language: str | None) -> Control:
        defaults = replace(DEFAULTS, options=DEFAULTS.options.model_copy(update={"language": language}))
        return next(one for one in first_controls(defaults, DEFAULT) if one.name == "options.language")

    assert (control(None).choices[0][0], control(None).default) == ("af", "Detected")
    assert (control("de").choices[0], control("de").default) == (("auto", "Detected"), "Default: German.")


def test_a_tenant_that_may_write_nowhere_is_asked_for_no_place() -> None:
    assert set(controls(DEFAULT)) - set(controls(_READER)) == {"output", "output_formats"}


def test_the_choices_are_those_of_the_api_and_of_the_service() -> None:
    known = {one.name: one for one in first_controls(DEFAULTS, DEFAULT)}
    known |= {one.name: one for group in folded_groups(DEFAULTS, DEFAULT) for one in group.controls}
    assert [value for value, _ in known["options.model"].choices] == ["tiny", "small"]
    assert known["options.model"].default == "Default: tiny."
    assert ("pt", "Portuguese") in known["options.language"].choices
    assert [value for value, _ in known["options.channels"].choices] == ["mix", "split"]
    assert [value for value, _ in known["output_formats"].choices][:2] == ["txt", "srt"]
    assert (known["options.beam_size"].least, known["options.beam_size"].most) == (1, 32)
    assert known["options.beam_size"].help.endswith("Default: 5.")


@pytest.mark.parametrize(
    "name, typed, meant",
    [
        ("options.language", "pt", "pt"),
        ("options.glossary", " Ebro \r\n\r\nTejo\n", ["Ebro", "Tejo"]),
        ("options.channels", "split", "split"),
        ("options.channels", " 2 ", 2),
        ("options.chunk_duration", "auto", "auto"),
        ("options.batch_size", "16", 16),
        ("options.clip_timestamps", "0, 12.5; 60 90", [0, 12.5, 60, 90]),
        ("options.temperature", "0.2", 0.2),
        ("options.beam_size", "3", 3),
        ("options.vad_filter", "false", False),
        ("options.initial_prompt", "First line\nsecond", "First line\nsecond"),
        ("options.compute_type", "int8", "int8"),
    ],
)
def test_what_is_typed_becomes_what_the_api_takes(name: str, typed: str, meant: Any) -> None:
    body = submission_of(FormData([(name, typed), ("key", "x"), ("source", "s3://b/k")]))
    assert body == {"options": {name.removeprefix("options."): meant}}
    accepted = parsed(json.dumps(body | {"source": "s3://b/k"}).encode())
    assert getattr(accepted.options, name.removeprefix("options.")) == meant


def test_what_belongs_to_the_run_is_outside_of_the_options() -> None:
    typed = [("labels", "case = 7\ndesk=a=b"), ("output_formats", "srt"), ("output_formats", "vtt"), ("priority", "3")]
    body = submission_of(FormData([*typed, ("callback_url", "https://a.example/"), ("options.task", "")]))
    assert body == {
        "labels": {"case": "7", "desk": "a=b"},
        "output_formats": ["srt", "vtt"],
        "priority": 3,
        "callback_url": "https://a.example/",
    }
    assert addresses_of(FormData([("source", " s3://a/b \n\ns3://c/d")])) == ["s3://a/b", "s3://c/d"]


def test_a_problem_without_fields_stays_as_it_is() -> None:
    problem = Problem(429, "limit-exceeded", "the limit is 1 runs", headers={"Retry-After": "60"})
    assert of_form(problem) is problem
    assert at_field("callback_url", "no").document.detail == "Callback URL: no"


@pytest.mark.parametrize(
    "count, text", [(0, "0 bytes"), (999, "999 bytes"), (1_500, "1.5 KB"), (25_000_000, "25 MB"), (10**13, "10 TB")]
)
def test_sizes_are_in_units_that_people_read(count: int, text: str) -> None:
    assert size(count) == text
