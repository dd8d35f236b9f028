"""Uploaded recordings: objects of the service's own store, until their run is complete.

Touches: the store.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from chunk_job.store.base import Store
from chunk_job.store.files import FileStore
from controller.domain import stored_documents
from controller.domain.service_documents import Upload
from controller.domain.service_keys import upload_home, uploads_of

_RECORD = "upload.json"


class UploadStore:
    """The uploads of all tenants."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, prefix: str, upload: str) -> Upload | None:
        """Return an upload of this tenant; None if there is none."""
        found = stored_documents.valid(self._store, Upload, f"{upload_home(prefix, upload)}{_RECORD}")
        return found if found and (found.tenant, found.id) == (prefix, upload) else None

    def put(self, upload: Upload) -> None:
        """Store the record of an upload."""
        self._store.put(f"{upload_home(upload.tenant, upload.id)}{_RECORD}", upload.encode())

    def put_media(self, upload: Upload, path: Path) -> None:
        """Store all of the recording, then its record: it is complete."""
        self._store.put_file(media_key(upload), path)
        self.put(upload.model_copy(update={"complete": True}))

    def remove(self, prefix: str, upload: str) -> None:
        """Delete the recording and its record, which is deleted last."""
        home = upload_home(prefix, upload)
        for entry in sorted(self._store.list(home), key=lambda entry: entry.key == f"{home}{_RECORD}"):
            self._store.delete(entry.key)

    def stored_bytes(self, prefix: str) -> int:
        """Return how much the uploads of a tenant take."""
        return sum(entry.size_bytes for entry in self._store.list(uploads_of(prefix)))

    def uri(self, upload: Upload) -> str:
        """Return the URI of the recording, for the intake."""
        key = media_key(upload)
        if isinstance(self._store, FileStore):
            return (self._store.root / key).as_uri()
        return f"{self._store.url}/{key}"


def media_key(upload: Upload) -> str:
    """Return the key of the recording. Of its name only a plain suffix is used, as a hint for ffmpeg."""
    suffix = PurePosixPath(upload.name).suffix
    plain = suffix if len(suffix) < 8 and suffix[1:].isalnum() and suffix.isascii() else ""
    return f"{upload_home(upload.tenant, upload.id)}media{plain}"
