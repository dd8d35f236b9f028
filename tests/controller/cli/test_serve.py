"""What ``serve`` refuses before it serves."""

import pytest

from controller.cli.serve import _endpoint
from controller.errors import UsageProblem


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
