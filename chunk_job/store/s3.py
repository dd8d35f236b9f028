"""Objects in S3, by the minio SDK: AWS, MinIO, Ceph and whatever else speaks their protocol.

Touches: the network, temporary files; through ``s3_client``, the environment. Imported by ``open_store`` for ``s3://``
alone: the SDK costs a process a tenth of a second. What the SDK and urllib3 raise ends here and is never chained to
what we raise: it holds requests, URLs with tokens in them, and the server's text.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

from minio.datatypes import Object
from minio.error import MinioException, S3Error
from urllib3 import BaseHTTPResponse
from urllib3.exceptions import HTTPError, ProtocolError

from chunk_job.errors import ExitCode, JobError
from chunk_job.store import s3_client, s3_errors
from chunk_job.store.base import MAX_BYTES, StoredObject, StoreUnavailable, copy_bounded

PART_BYTES = 16 << 20
"""Larger files go up in parts of this size, one after the other: so much of a file is in memory at once."""

_ROUNDS = 3

_T = TypeVar("_T")
_Headers = dict[str, str | list[str] | tuple[str]]

_NOT_ASKED = "an answer to another request"


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
        # On disk, because audio may be large, and without a name, so that nothing of it stays behind.
        try:
            with contextlib.ExitStack() as failing:
                file = failing.enter_context(tempfile.TemporaryFile())
                self._download(key, file, max_bytes)
                file.seek(0)
                failing.pop_all()
                return file
        except OSError as error:
            raise StoreUnavailable(
                f"no place for {key} in {tempfile.gettempdir()}: {error.strerror}",
                "free space there or set TMPDIR to another folder",
            ) from error

    def get_file(self, key: str, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        with path.open("xb") as file:
            self._download(key, file, max_bytes)

    def put(self, key: str, data: bytes) -> None:
        self._put(key, lambda: io.BytesIO(data), len(data))

    def put_file(self, key: str, path: Path) -> None:
        self._put(key, lambda: path.open("rb"), path.stat().st_size)

    def list(self, prefix: str) -> Iterator[StoredObject]:
        start = self._start(prefix)
        with self._failures(prefix):
            for entry in self._client.list_objects(bucket_name=self._bucket, prefix=start, recursive=True):
                key = str(entry.object_name).removeprefix(self._prefix)
                # Consoles mark folders by objects, and others may use the bucket: what cannot be a key is not ours.
                if _is_key(key):
                    yield _entry(key, entry)

    def folders(self, prefix: str) -> Iterator[str]:
        start = self._start(prefix)
        with self._failures(prefix):
            # Grouped by the server: a page holds a thousand folders, whatever lies in them.
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
                # The answer to a HEAD has no body to say why. A listing has, and tells a missing bucket from an object.
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
        """Endpoint and region, as this process has them."""
        return s3_client.environment()

    def sweep(self, prefix: str) -> None:
        """Nothing: parts of an upload that broke off are no objects, and the server drops them (``docs/store.md``)."""

    def _download(self, key: str, file: BinaryIO, max_bytes: int) -> None:
        """Fill the empty *file*. A body that breaks off is continued, if the object is still the same."""
        asked: _Headers = {}

        def copy(response: BaseHTTPResponse) -> None:
            if response.status == 200:
                # The whole object, also where a part was asked for and the server does not serve parts.
                file.seek(0)
                file.truncate()
            elif not _is_rest(response, asked, file.tell()):
                # The next round asks for the whole object.
                asked.clear()
                raise ProtocolError(_NOT_ASKED)
            try:
                _copy(response, file, key, max_bytes)
            finally:
                asked.clear()
                if (etag := response.headers.get("ETag")) and file.tell():
                    asked.update({"If-Match": etag, "Range": f"bytes={file.tell()}-"})

        self._fetch(key, copy, asked)

    def _fetch(self, key: str, read: Callable[[BaseHTTPResponse], _T], headers: _Headers | None = None) -> _T:
        """What *read* makes of the object's body. It may be called again, with the body that *headers* then ask for."""
        name = self._name(key)

        def fetch() -> _T:
            response = self._client.get_object(bucket_name=self._bucket, object_name=name, request_headers=headers)
            try:
                return read(response)
            finally:
                # Closed before its end, the connection is no use for another request; at its end it went back already.
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
        """Do it, again where urllib3 cannot: it repeats requests, but not a body that broke off on the way."""
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
        """Turn what the SDK raises into the store's words."""
        try:
            yield
        except (MinioException, HTTPError, ParseError, ValueError) as error:
            raise s3_errors.translate(error, key, self._where) from None

    def _start(self, prefix: str) -> str:
        """How the names of objects under *prefix* begin."""
        return f"{self._name(prefix.rstrip('/'))}/" if prefix else self._prefix

    def _name(self, key: str) -> str:
        if not _is_key(key):
            raise JobError(ExitCode.CONFIG, f"not an object key: {key!r}")
        return self._prefix + key


def _parse(url: str) -> tuple[str, str]:
    """Bucket and prefix of an ``s3://`` URL; a prefix ends with a slash or is empty."""
    parts = urlsplit(url)
    if "@" in parts.netloc:
        # Not repeated: it holds a secret.
        raise JobError(
            ExitCode.USAGE,
            "keys do not belong into the store's URL, where everybody sees them",
            "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and write s3://bucket/prefix",
        )
    prefix = parts.path.strip("/")
    if not parts.netloc or parts.query or parts.fragment or not (_is_key(prefix) or not prefix):
        raise JobError(ExitCode.USAGE, f"no bucket and prefix in {url!r}", "use s3://bucket or s3://bucket/prefix")
    return parts.netloc, f"{prefix}/" if prefix else ""


def _is_key(key: str) -> bool:
    """What the folder store can hold too: no part is empty or hidden, none leads upwards."""
    return not any(part.startswith(".") or not part for part in key.split("/"))


def _entry(key: str, entry: Object) -> StoredObject:
    # Whole seconds, which is all that a HEAD tells; a listing would know milliseconds.
    modified = entry.last_modified
    seconds = int(modified.timestamp()) if modified else 0
    return StoredObject(
        key=key,
        size_bytes=entry.size or 0,
        modified_s=float(seconds),
        revision=f"{entry.etag} {entry.version_id or ''}".strip(),
    )


def _copy(response: BaseHTTPResponse, file: BinaryIO, key: str, max_bytes: int) -> None:
    """Write the body to *file*, as :func:`copy_bounded` does: the bytes that are stored.

    They may have a Content-Encoding, which decodes a few to any number, and whoever may put an object can set it.
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
    """Whether this is the part from byte *start* on, of the object that was *asked* for."""
    part = response.headers.get("Content-Range", "")
    same = response.headers.get("ETag") == asked.get("If-Match", "")
    return response.status == 206 and same and part.startswith(f"bytes {start}-")
