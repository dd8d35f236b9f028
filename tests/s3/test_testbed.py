"""The testbed's own S3 server: a bucket of a test is deleted, whatever still writes to it."""

import contextlib
import io
import threading
import time

import pytest

from tests.testbed.s3_server import Server

pytestmark = [pytest.mark.s3, pytest.mark.process]


def test_a_bucket_is_deleted_while_something_still_writes_to_it(server: Server) -> None:
    from minio.error import S3Error

    client = server.client()
    until_s = time.monotonic() + 1
    with server.bucket() as bucket:

        def write() -> None:
            count = 0
            with contextlib.suppress(S3Error):
                while time.monotonic() < until_s:
                    count += 1
                    client.put_object(bucket_name=bucket, object_name=f"late/{count}", data=io.BytesIO(b"x"), length=1)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
    assert not client.bucket_exists(bucket_name=bucket)
    writer.join()


def test_a_bucket_is_deleted_when_its_test_fails(server: Server) -> None:
    kept = []

    def fail() -> None:
        with server.bucket() as bucket:
            kept.append(bucket)
            raise AssertionError

    with pytest.raises(AssertionError):
        fail()
    assert not server.client().bucket_exists(bucket_name=kept[0])
