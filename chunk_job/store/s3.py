"""Objects in S3, with the minio SDK: AWS, MinIO, Ceph and other servers with the S3 protocol.

Touches: the network, temporary files; through ``s3_client``, the environment. ``open_store`` imports it only for
``s3://``, because the SDK takes a tenth of a second. Exceptions of the SDK and urllib3 are translated here and never
chained: they contain requests, URLs with tokens, and the server's text.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import quote, urlsplit
from xml.etree.ElementTree import ParseError

from minio import Minio
from minio.commonconfig import ComposeSource
from minio.datatypes import Object, PostPolicy
from minio.error import MinioException, S3Error
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, ProtocolError

from chunk_job.errors import ExitCode, JobError
from chunk_job.store import s3_client, s3_errors
from chunk_job.store.base import MAX_BYTES, Sink, StoredObject, StoreUnavailable, copy_bounded

PART_BYTES = 16 << 20
"""Larger files are uploaded in parts of this size, one after the other. Only one part is in memory at once."""

_ROUNDS = 3

_T = TypeVar("_T")
_Headers = dict[str, str | list[str] | tuple[str]]

_NOT_ASKED = "a reply to another request"


class S3Store:
    """Objects under a prefix of one bucket. A put is one request, or a multipart upload that appears when complete."""

    remote = True

    def __init__(self, url: str) -> None:
        """*url* is ``s3://bucket`` or ``s3://bucket/prefix``. No request is made yet.

        Raises :class:`JobError` (CONFIG) for a URL or an environment that cannot work.
        """
        self._bucket, self._prefix = _parse(url)
        self.url = f"s3://{self._bucket}/{self._prefix}".rstrip("/")
        self._client, endpoint = s3_client.connect(self._bucket)
        self._clients_at: dict[str, Minio] = {}
        self._where = f"bucket {self._bucket} at {endpoint}"
        self._bucket_seen = False

    def get(self, key: str, *, max_bytes: int = 1 << 30) -> bytes:
        def read(response: BaseHTTPResponse) -> bytes:
            if response.status != 200:
                raise ProtocolError(_NOT_ASKED)
            data = io.BytesIO()
            _copy(response, data, key, max_bytes)
            return data.getvalue()

        return self._fetch(key, read)

    def open(self, key: str, *, max_bytes: int = MAX_BYTES) -> BinaryIO:
        # On disk, because audio may be large. Without a name, so that no file remains.
        try:
            with contextlib.ExitStack() as failing:
                file = failing.enter_context(tempfile.TemporaryFile())
                self.copy_to(key, file, max_bytes=max_bytes)
                file.seek(0)
                failing.pop_all()
                return file
        except OSError as error:
            raise StoreUnavailable(
                f"cannot write {key} to {tempfile.gettempdir()}: {error.strerror}",
                "free space there or set TMPDIR to another folder",
            ) from error

    def get_file(self, key: str, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        with path.open("xb") as file:
            self.copy_to(key, file, max_bytes=max_bytes)

    def put(self, key: str, data: bytes) -> None:
        self._put(key, lambda: io.BytesIO(data), len(data))

    def put_new(self, key: str, data: bytes) -> bool:
        name = self._name(key)

        def put() -> bool:
            try:
                # The public method has no such condition.
                self._client._put_object(self._bucket, name, data, {"If-None-Match": "*"})  # noqa: SLF001
            except S3Error as error:
                if error.code not in ("PreconditionFailed", "NotImplemented"):
                    raise
                # Without the condition, two processes that do it at the same moment may both succeed.
                if error.code == "PreconditionFailed" or self.stat(key):
                    return False
                self.put(key, data)
            return True

        return self._again(key, put)

    def put_file(self, key: str, path: Path) -> None:
        self._put(key, lambda: path.open("rb"), path.stat().st_size)

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Store the objects *parts*, one after the other, as one object. The server copies them.

        All but the last have at least 5 MiB. Raises :class:`ObjectMissing` with *key* if one of them is missing.
        """
        name = self._name(key)

        def compose() -> None:
            sources = [ComposeSource(self._bucket, self._name(part)) for part in parts]
            self._client.compose_object(self._bucket, name, sources)

        self._again(key, compose)

    def post_form(self, key: str, *, size_bytes: int, until_ms: int) -> tuple[str, Mapping[str, str]]:
        """Return the URL and the fields of a form with which anybody can store this object.

        The server accepts exactly *size_bytes* for it, until *until_ms* since the epoch.
        """
        name = self._name(key)
        policy = PostPolicy(self._bucket, datetime.fromtimestamp(until_ms / 1000, UTC))
        policy.add_equals_condition("key", name)
        policy.add_content_length_range_condition(size_bytes, size_bytes)
        with self._failures(key):
            fields = self._client.presigned_post_policy(policy)
            # Only to know how the bucket is addressed: by a path, or by a host of its own.
            at = self._client.presigned_get_object(bucket_name=self._bucket, object_name=name)
        return at.partition("?")[0].removesuffix(quote(name)), {"key": name, **fields}

    def link(self, key: str, *, media_type: str, valid_s: int, endpoint: str) -> str:
        """Return a URL with which anybody can read this object for *valid_s* seconds, as *media_type*.

        *endpoint*: where clients reach the server, because its name is signed; empty: where this process does.
        """
        name = self._name(key)
        reached = urlsplit(endpoint)
        with self._failures(key):
            found = self._client_at(f"{reached.scheme}://{reached.netloc}" if endpoint else "").presigned_get_object(
                bucket_name=self._bucket,
                object_name=name,
                expires=timedelta(seconds=valid_s),
                response_headers={"response-content-type": media_type, "response-cache-control": "no-store"},
            )
        # A proxy in front of the server may have it under a path of its own, which is not signed.
        signed = urlsplit(found)
        return signed._replace(path=f"{reached.path}{signed.path}").geturl()

    def _client_at(self, endpoint: str) -> Minio:
        """The client that reaches the server at *endpoint*; empty: where this process does."""
        if endpoint and endpoint not in self._clients_at:
            # Kept: it reads certificates, and may ask another server for credentials.
            self._clients_at[endpoint], _ = s3_client.connect(self._bucket, endpoint)
        return self._clients_at[endpoint] if endpoint else self._client

    def list(self, prefix: str, *, after: str = "") -> Iterator[StoredObject]:
        start = self._start(prefix)
        begin = self._name(after) if after else None
        with self._failures(prefix):
            for entry in self._client.list_objects(
                bucket_name=self._bucket, prefix=start, recursive=True, start_after=begin
            ):
                key = str(entry.object_name).removeprefix(self._prefix)
                # Skip names that are no valid keys: consoles create objects for folders, and others may use the bucket.
                if _is_key(key):
                    yield _entry(key, entry)

    def folders(self, prefix: str) -> Iterator[str]:
        start = self._start(prefix)
        with self._failures(prefix):
            # The server groups by folder: a page has a thousand folders, with any content.
            for entry in self._client.list_objects(bucket_name=self._bucket, prefix=start, recursive=False):
                name, slash, _ = str(entry.object_name).removeprefix(start).partition("/")
                if slash and _is_key(name):
                    yield name

    def stat(self, key: str) -> StoredObject | None:
        name = self._name(key)
        with self._failures(key):
            try:
                return _entry(key, self._client.stat_object(bucket_name=self._bucket, object_name=name))
            except S3Error as error:
                # The reply to a HEAD has no body with the reason. A listing shows whether the bucket or the object is
                # missing.
                if error.code != "NoSuchKey" or not self._bucket_seen:
                    next(iter(self._client.list_objects(bucket_name=self._bucket, prefix=name)), None)
                if error.code != "NoSuchKey":
                    raise
                self._bucket_seen = True
                return None

    def delete(self, key: str) -> None:
        name = self._name(key)
        with self._failures(key):
            self._client.remove_object(bucket_name=self._bucket, object_name=name)

    @property
    def environment(self) -> Mapping[str, str]:
        """Endpoint and region of this process."""
        return s3_client.environment()

    def sweep(self, prefix: str) -> None:
        """Does nothing: parts of an aborted upload are no objects; servers remove them (docs/reference/store.md)."""

    def copy_to(self, key: str, sink: Sink, *, max_bytes: int = MAX_BYTES) -> None:
        # An interrupted download is continued if the object is unchanged.
        asked: _Headers = {}

        def copy(response: BaseHTTPResponse) -> None:
            if response.status == 200:
                # The whole object. The server may send it although only a part was requested.
                sink.seek(0)
                sink.truncate()
            elif not _is_rest(response, asked, sink.tell()):
                # The next try requests the whole object.
                asked.clear()
                raise ProtocolError(_NOT_ASKED)
            try:
                _copy(response, sink, key, max_bytes)
            finally:
                asked.clear()
                if (etag := response.headers.get("ETag")) and sink.tell():
                    asked.update({"If-Match": etag, "Range": f"bytes={sink.tell()}-"})

        self._fetch(key, copy, asked)

    def _fetch(self, key: str, read: Callable[[BaseHTTPResponse], _T], headers: _Headers | None = None) -> _T:
        """Call *read* with the object's body and return its result. On a retry, *headers* are read again."""
        name = self._name(key)

        def fetch() -> _T:
            response = self._client.get_object(bucket_name=self._bucket, object_name=name, request_headers=headers)
            try:
                return read(response)
            finally:
                # If the body was not read completely, the connection cannot be used again. Else this has no effect.
                response.close()

        return self._again(key, fetch)

    def _put(self, key: str, source: Callable[[], BinaryIO], size_bytes: int) -> None:
        name = self._name(key)

        def upload() -> None:
            with source() as data:
                self._client.put_object(
                    bucket_name=self._bucket,
                    object_name=name,
                    data=data,
                    length=size_bytes,
                    part_size=PART_BYTES,
                    num_parallel_uploads=1,
                )

        self._again(key, upload)

    def _again(self, key: str, do: Callable[[], _T]) -> _T:
        """Call *do*, and retry it if a body was interrupted: urllib3 retries only requests."""
        for left in reversed(range(_ROUNDS)):
            with self._failures(key):
                try:
                    return do()
                except (HTTPError, S3Error) as error:
                    if not left or not s3_errors.is_passing(error):
                        raise
            time.sleep(s3_client.jittered(1.0))
        raise AssertionError("the last round returns or raises")

    @contextlib.contextmanager
    def _failures(self, key: str) -> Iterator[None]:
        """Translate exceptions of the SDK to the store's failures."""
        try:
            yield
        except (MinioException, HTTPError, ParseError, ValueError) as error:
            raise s3_errors.translate(error, key, self._where) from None

    def _start(self, prefix: str) -> str:
        """The common beginning of the names of objects under *prefix*."""
        return f"{self._name(prefix.rstrip('/'))}/" if prefix else self._prefix

    def _name(self, key: str) -> str:
        if not _is_key(key):
            raise JobError(ExitCode.CONFIG, f"not an object key: {key!r}")
        return self._prefix + key


def _parse(url: str) -> tuple[str, str]:
    """Bucket and prefix of an ``s3://`` URL. The prefix ends with a slash or is empty."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        # The URL is not repeated, because it contains a secret.
        raise JobError(
            ExitCode.USAGE,
            "keys do not belong in the store's URL, because other users can see it",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and write s3://bucket/prefix",
        )
    prefix = parts.path.strip("/")
    if not parts.netloc or parts.query or parts.fragment or not (_is_key(prefix) or not prefix):
        raise JobError(ExitCode.USAGE, f"no bucket and prefix in {url!r}", "use s3://bucket or s3://bucket/prefix")
    return parts.netloc, f"{prefix}/" if prefix else ""


def _is_key(key: str) -> bool:
    """Whether the folder store would accept the key too: no part is empty, hidden or ``..``."""
    return not any(part.startswith(".") or not part for part in key.split("/"))


def _entry(key: str, entry: Object) -> StoredObject:
    # Whole seconds: a HEAD has no more, only a listing has milliseconds.
    modified = entry.last_modified
    seconds = int(modified.timestamp()) if modified else 0
    return StoredObject(
        key=key,
        size_bytes=entry.size or 0,
        modified_s=float(seconds),
        revision=f"{entry.etag} {entry.version_id or ''}".strip(),
    )


def _copy(response: BaseHTTPResponse, file: Sink, key: str, max_bytes: int) -> None:
    """Write the stored bytes of the body to *file*, as :func:`copy_bounded` does.

    They are not decoded: everyone who can write an object can set a Content-Encoding that expands it to any size.
    """
    length = response.headers.get("Content-Length", "")
    copy_bounded(
        key,
        lambda size: response.read(size, decode_content=False),
        file,
        max_bytes=max_bytes,
        expected_bytes=int(length) if length.isdecimal() else 0,
    )


def _is_rest(response: BaseHTTPResponse, asked: _Headers, start: int) -> bool:
    """Whether the response is the rest, from byte *start*, of the object that was *asked* for."""
    part = response.headers.get("Content-Range", "")
    same = response.headers.get("ETag") == asked.get("If-Match", "")
    return response.status == 206 and same and part.startswith(f"bytes {start}-")
