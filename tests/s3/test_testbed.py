"""The testbed's own S3 server: a bucket of a test is deleted, whatever still writes to it."""

import contextlib
import io
import threading

import pytest

from tests.testbed.s3_server import Server, delete_bucket

pytestmark = [pytest.mark.s3, pytest.mark.process]


def test_a_bucket_is_deleted_while_something_still_writes_to_it(server: Server) -> None:
    from minio.error import S3Error

    client, deleted = server.client(), threading.Event()
    with server.bucket() as bucket:

        def write() -> None:
            with contextlib.suppress(S3Error):
                for count in range(1_000):
                    if deleted.is_set():
                        break
                    client.put_object(bucket_name=bucket, object_name=f"late/{count}", data=io.BytesIO(b"x"), length=1)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
    deleted.set()
    writer.join()
    # MinIO makes a bucket again for an object that it was receiving.
    with contextlib.suppress(S3Error):
        delete_bucket(client, bucket)
    assert not client.bucket_exists(bucket_name=bucket)


def test_a_bucket_is_deleted_when_its_test_fails(server: Server) -> None:
    kept = []

    def fail() -> None:
        with server.bucket() as bucket:
            kept.append(bucket)
            raise AssertionError

    with pytest.raises(AssertionError):
        fail()
    assert not server.client().bucket_exists(bucket_name=kept[0])
