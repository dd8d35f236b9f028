"""From where pages may get recordings, and where they may send them."""

import pytest

from controller.service.web.policy import headers


@pytest.mark.parametrize(
    "store,connect,media",
    [
        ("", "'self'", "'self'"),
        ("http://minio.example:9000", "'self' http://minio.example:9000", "'self' http://minio.example:9000"),
        # Uploads go to the store's own bucket alone; recordings may be in other buckets.
        (
            "https://media.s3.eu-west-1.amazonaws.com",
            "'self' https://media.s3.eu-west-1.amazonaws.com",
            "'self' https://*.s3.eu-west-1.amazonaws.com",
        ),
        ("https://s3.amazonaws.com", "'self' https://s3.amazonaws.com", "'self' https://s3.amazonaws.com"),
        ("https://media.example.com", "'self' https://media.example.com", "'self' https://media.example.com"),
    ],
)
def test_the_server_of_the_store_is_the_only_other_one(store: str, connect: str, media: str) -> None:
    policy = dict(part.partition(" ")[::2] for part in headers(store)["Content-Security-Policy"].split("; "))
    assert policy["connect-src"] == connect
    assert policy["media-src"] == media
    assert policy["default-src"] == "'none'"
