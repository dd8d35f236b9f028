"""What ``serve`` refuses and reports before it serves, and how its log is written."""

import logging
from pathlib import Path

import pytest

from controller.cli.serve import _endpoint, _warn_of_missing_tokens
from controller.cli.service_log import _Lines
from controller.errors import UsageProblem
from controller.service.tenants import Tenants


@pytest.mark.parametrize(
    "url,found",
    [
        ("", ""),
        ("https://s3.example", "https://s3.example"),
        ("http://127.0.0.1:9000/", "http://127.0.0.1:9000"),
        ("https://example.com/s3/", "https://example.com/s3"),
    ],
)
def test_the_address_for_uploads_is_that_of_a_server(url: str, found: str) -> None:
    assert _endpoint(url) == found


@pytest.mark.parametrize(
    "url",
    [
        "s3.example",
        "s3://bucket",
        "ftp://s3.example",
        "https://",
        "https://user:secret@s3.example",
        "https://s3.example/?x=1",
        "https://s3.example/#x",
        "https://[::1",
        "https://s3.example/\n",
    ],
)
def test_another_address_for_uploads_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(UsageProblem) as caught:
        _endpoint(url)
    assert "secret" not in f"{caught.value.summary} {caught.value.advice}"


def test_a_line_of_the_log_has_its_time_and_no_name_of_a_module() -> None:
    handler = _Lines(as_json=False)
    lines = []
    for level in (logging.INFO, logging.WARNING):
        record = logging.LogRecord("controller.service.serving", level, "", 0, "request %s has ended", ("7",), None)
        record.created = 0.0
        lines.append(handler.format(record))
    assert lines == [
        "1970-01-01T00:00:00Z request 7 has ended",
        "1970-01-01T00:00:00Z warning: request 7 has ended",
    ]


def test_a_tenant_that_nobody_can_be_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text(f'[tenants.a]\n[tenants.b]\ntokens = ["sha256:{"0" * 64}"]\n')
    _warn_of_missing_tokens(Tenants(file).all)
    assert caplog.messages == ["tenant a has no tokens, so nobody can use it: stenofleet token makes one"]
