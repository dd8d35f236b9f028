"""What a submission asks for, and what the operator has chosen for all runs."""

from dataclasses import replace

import pytest

from controller.service.submissions import Submission, request_of
from controller.service.tenant import DEFAULT
from tests.controller.service.running import DEFAULTS


@pytest.mark.parametrize("asked, language", [(None, "de"), ("auto", None), ("Auto", None), ("Portuguese", "pt")])
def test_a_request_can_have_its_language_detected_whatever_that_of_the_service_is(
    asked: str | None, language: str | None
) -> None:
    german = replace(DEFAULTS, options=DEFAULTS.options.model_copy(update={"language": "de"}))
    request = request_of(
        Submission.model_validate({"source": "s3://media/a.wav", "options": {"language": asked}}),
        tenant=DEFAULT,
        request_id="0" * 26,
        body_sha256="0" * 64,
        source="s3://media/a.wav",
        name="a.wav",
        defaults=german,
        now_ms=1,
    )
    assert request.options.language == language
