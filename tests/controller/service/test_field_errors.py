"""What is wrong with a request is said in words, and with the names that the client wrote."""

import json
import re
from unittest.mock import patch

import pytest

from controller.domain.service_documents import LABEL_PATTERN
from controller.service.field_errors import _PATTERNS, FieldError
from controller.service.problems import Problem
from controller.service.submissions import parsed

FROM_THE_LIBRARY = re.compile(
    r"Input should|String should|List should|valid dictionary|literal\[|constrained|\[key\]|\^"
)


def errors_of(body: str) -> list[FieldError]:
    with pytest.raises(Problem) as found:
        parsed(body.encode())
    assert not FROM_THE_LIBRARY.search(bytes(found.value.response().body).decode())
    assert found.value.document.detail == found.value.document.errors[0].text()
    return found.value.document.errors


@pytest.mark.parametrize(
    "body, text",
    [
        ("", "the body: is not JSON: EOF while parsing a value at line 1 column 0"),
        ("[]", "the body: must be an object"),
        ("{}", "the body: give either source or upload, or send the recording itself in a form, as file"),
        ('{"source": 3}', "source: must be text"),
        ('{"source": "s3://b/k", "other": 3}', "other: is not known here"),
        ('{"source": "s3://b/k", "lables": {}}', "lables: is not known here: did you mean labels?"),
        ('{"source": "s3://b/k", "language": "pt"}', "language: is not known here: it belongs in options"),
        ('{"source": "s3://b/k", "priority": 10}', "priority: must be at most 9"),
        ('{"source": "s3://b/k", "priority": "5"}', "priority: must be a whole number"),
        ('{"source": "s3://b/k", "labels": {"int": 3}}', "labels.int: must be text"),
        ('{"source": "s3://b/k", "labels": {"a~/b!": "x"}}', f"labels.a~/b!: {_PATTERNS[LABEL_PATTERN]}"),
        ('{"source": "s3://b/k", "output_formats": []}', "output_formats: must not be empty"),
        (
            '{"source": "s3://b/k", "output_formats": ["txt", "doc"]}',
            "output_formats[1]: must be 'txt', 'srt', 'vtt', 'tsv', 'json', 'ass' or 'lrc'",
        ),
        ('{"upload": "x"}', "upload: must be an id of this service: 26 digits and lower-case letters"),
    ],
)
def test_an_error_in_a_submission_is_said_in_words(body: str, text: str) -> None:
    assert errors_of(body)[0].text() == text


@pytest.mark.parametrize(
    "options, text",
    [
        ({"beam_size": 0}, "beam_size: must be at least 1"),
        ({"langauge": "pt"}, "langauge: is not known here: did you mean language?"),
        ({"beam-size": 5}, "beam-size: is not known here: names have underscores"),
        ({"device": "cuda"}, "device: is not known here: the operator of the service chooses it"),
        ({"vad_filter": "yes"}, "vad_filter: must be true or false"),
        ({"glossary": "x"}, "glossary: must be a list"),
        ({"glossary": ["a", ""]}, "glossary[1]: must not be empty"),
        ({"batch_size": -1}, "batch_size: must be 'auto' or 'sequential', or be at least 0"),
        ({"chunk_duration": "3"}, "chunk_duration: must be 'auto', or be a whole number"),
        ({"channels": 0}, "channels: must be 'mix' or 'split', or be at least 1"),
        ({"hotwords": "x" * 64_001}, "hotwords: must have at most 64000 characters"),
    ],
)
def test_an_error_in_an_option_has_the_name_of_the_option(options: object, text: str) -> None:
    (error,) = errors_of(json.dumps({"source": "s3://b/k", "options": options}))
    assert error.text() == f"options.{text}"
    assert error.pointer.startswith(f"#/options/{next(iter(options))}" if isinstance(options, dict) else "#")


def test_many_unknown_names_have_no_similar_ones() -> None:
    body = {"source": "s3://b/k", "options": {f"langauge{number}": 1 for number in range(20_000)}}
    with patch("controller.service.field_errors.near", return_value="") as near:
        assert len(errors_of(json.dumps(body))) == 20
    assert near.call_count == 20


def test_a_field_of_a_form_has_its_own_name() -> None:
    for pointer, name in (
        ("#/options/language", "language"),
        ("#/options/initial_prompt", "prompt"),
        ("#/timestamp_granularities/0", "timestamp_granularities[]"),
        ("#/response_format", "response_format"),
    ):
        assert FieldError(pointer=pointer, detail="is wrong").of_form().text() == f"{name}: is wrong"
