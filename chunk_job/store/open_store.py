"""Opens the store of a URL.

Touches: nothing itself. ``s3://`` imports the S3 SDK, which takes a tenth of a second.
"""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from chunk_job.errors import ExitCode, JobError
from chunk_job.store.base import Store
from chunk_job.store.files import FileStore


def open_store(url: str) -> Store:
    """The store at *url*. Raises :class:`JobError`: USAGE for an invalid URL, CONFIG if a setting is missing."""
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FileStore(Path(unquote(parts.path)))
    if parts.scheme == "s3":
        from chunk_job.store.s3 import S3Store

        return S3Store(url)
    raise JobError(
        ExitCode.USAGE,
        f"{url!r} is not the URL of a store",
        "use file:///absolute/folder, for instance file:///var/lib/stenofleet, or s3://bucket/prefix",
    )


def open_object(url: str) -> tuple[Store, str]:
    """The store of the bucket of an object ``s3://bucket/key``, and its key there: any character may be in it.

    Raises the errors of :func:`open_store`.
    """
    bucket, _, key = url.removeprefix("s3://").partition("/")
    return open_store(f"s3://{bucket}"), key
