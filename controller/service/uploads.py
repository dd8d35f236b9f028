"""Uploaded recordings: objects of the service's own store, until their run is complete.

Touches: the store, temporary files (parts that come to the service).

Data flow: an entry reserves the bytes of an upload → its parts are stored, each as one object → composed to the
recording → its record says that it is complete. Where clients can reach the store, they send parts to it themselves,
with forms that the service has signed. Such a form cannot be revoked: so an entry remains until the last one has
expired, and then everything is deleted that does not belong to a complete upload. The entry of a recording that came in
a form of a run remains until that run is accepted. Of an upload that no run uses, an entry remains until it is deleted.
An upload is that of one request: of the one whose text is stored beside it, which is written only if none is there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Protocol, runtime_checkable

from chunk_job.store.base import ObjectMissing, Store
from chunk_job.store.files import FileStore
from controller.domain import stored_documents
from controller.domain.service_documents import ServiceRequest, Upload
from controller.domain.service_keys import (
    INCOMPLETE,
    RequestKey,
    RequestKeys,
    UploadEntry,
    incomplete_of,
    parse_part,
    parse_upload_entry,
    part_key,
    parts_of,
    upload_entry,
    upload_home,
    upload_of,
    uploads_of,
)

LIVES_MS = 24 * 3600 * 1000
"""A client has this time to complete an upload."""
USED_WITHIN_MS = 2 * LIVES_MS
"""After its beginning. A complete upload that is that of no run is deleted then."""
FORM_VALID_MS = 3600 * 1000
_SPARE_MS = 2 * FORM_VALID_MS
"""Before anything is deleted: what has begun in time may end, and clocks differ."""
_RECORD = "upload.json"
_BOUND = "used-by.json"
"""The request that it belongs to. Deleted after the record: who writes a new one then finds that the record is gone."""


@runtime_checkable
class Composing(Protocol):
    """A store that makes one object of several."""

    def compose(self, key: str, parts: Sequence[str]) -> None:
        """Store the objects *parts*, one after the other, as one object. Raises :class:`ObjectMissing`."""


@runtime_checkable
class Presigning(Protocol):
    """A store to which clients can send objects themselves."""

    def post_form(self, key: str, *, size_bytes: int, until_ms: int) -> tuple[str, Mapping[str, str]]:
        """Return the URL and the fields of a form that stores an object of exactly *size_bytes*, until then."""


class UploadStore:
    """The uploads of all tenants."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @property
    def presigning(self) -> Presigning | None:
        """The store, if clients send parts to it themselves; None: they send them to the service."""
        return self._store if isinstance(self._store, Presigning) else None

    def find(self, prefix: str, upload: str) -> Upload | None:
        """Return an upload of this tenant; None if there is none."""
        found = stored_documents.valid(self._store, Upload, f"{upload_home(prefix, upload)}{_RECORD}")
        return found if found and (found.tenant, found.id) == (prefix, upload) else None

    def reserved(self, prefix: str) -> Mapping[str, int]:
        """Return the reserved bytes of each upload that is not complete, and of each that was deleted just now."""
        entries = self._entries(incomplete_of(prefix))
        return {entry.upload: entry.reserved_bytes for entry in entries if entry.reserved_bytes}

    def stored_bytes(self, prefix: str) -> int:
        """Return how much the uploads of a tenant take, with what is reserved."""
        reserved = self.reserved(prefix)
        # Parts of the others count too: they may come after their upload was completed.
        return sum(reserved.values()) + sum(
            item.size_bytes
            for item in self._store.list(uploads_of(prefix))
            if not item.key.endswith((f"/{_RECORD}", f"/{_BOUND}")) and upload_of(item.key) not in reserved
        )

    def create(self, upload: Upload) -> None:
        """Reserve the bytes of a new upload, and store its record."""
        self._store.put(_entry(upload, upload.created_ms + LIVES_MS, upload.size_bytes), b"")
        self._put(upload)

    def put_media(self, upload: Upload, path: Path) -> None:
        """Store all of the recording, then its record: it is complete. :meth:`release` follows when a run has it."""
        self._store.put(_entry(upload, upload.created_ms + LIVES_MS, upload.size_bytes), b"")
        self._store.put_file(media_key(upload), path)
        self._put(upload.model_copy(update={"complete": True}))

    def release(self, upload: Upload) -> None:
        """Note that a run has the recording that :meth:`put_media` stored, or that it was deleted."""
        self._store.delete(_entry(upload, upload.created_ms + LIVES_MS, upload.size_bytes))

    def put_part(self, upload: Upload, number: int, path: Path) -> None:
        """Store a part that came to the service."""
        self._store.put_file(part_key(upload.tenant, upload.id, number), path)

    def missing(self, upload: Upload) -> Sequence[int]:
        """Return the numbers of the parts that are still to come. A part with another length does not count."""
        if upload.complete:
            return ()
        found = {
            number
            for item in self._store.list(parts_of(upload.tenant, upload.id))
            if (number := parse_part(item.key)) and item.size_bytes == upload.bytes_of(number)
        }
        return [number for number in range(1, upload.part_count + 1) if number not in found]

    def complete(self, upload: Upload, *, now_ms: int) -> None:
        """Make the recording of the parts, which are all there. Raises :class:`ObjectMissing` if they are not.

        If it is interrupted, it can be repeated until the parts are deleted, which is the last step.
        """
        parts = [part_key(upload.tenant, upload.id, number) for number in range(1, upload.part_count + 1)]
        assert isinstance(self._store, Composing)
        self._store.compose(media_key(upload), parts)
        if self.find(upload.tenant, upload.id) is None:
            # It was deleted meanwhile.
            self.remove(upload.tenant, upload.id)
            raise ObjectMissing(media_key(upload))
        self._put(upload.model_copy(update={"complete": True}))
        self._close(upload, now_ms + FORM_VALID_MS, reserved_bytes=0)
        self._delete_all(parts_of(upload.tenant, upload.id))

    def remove(self, prefix: str, upload: str) -> None:
        """Delete the recording, then its record, then what says whose it is."""
        home = upload_home(prefix, upload)
        last = [f"{home}{_RECORD}", f"{home}{_BOUND}"]
        found = [item.key for item in self._store.list(home)]
        for key in sorted(found, key=lambda key: last.index(key) if key in last else -1):
            self._store.delete(key)

    def give_up(self, upload: Upload, *, now_ms: int) -> None:
        """Delete an upload that is not complete. Its bytes are reserved as long as a form for a part is valid."""
        self._close(upload, now_ms + FORM_VALID_MS, reserved_bytes=upload.size_bytes)
        self.remove(upload.tenant, upload.id)

    def over(self, *, now_ms: int) -> Sequence[UploadEntry]:
        """Return the last entry of each upload of which no part can come any more."""
        last = {(entry.prefix, entry.upload): entry for entry in self._entries(INCOMPLETE)}
        return [entry for entry in last.values() if entry.until_ms + _SPARE_MS < now_ms]

    def clean(self, entry: UploadEntry) -> None:
        """Delete what is left of an upload that is over: everything, unless it is complete. Its entries go last.

        One that is complete but that of no run has another entry, after which everything is deleted.
        """
        upload = self.find(entry.prefix, entry.upload)
        used = upload is not None and upload.complete and self._is_used(upload)
        used_until_ms = upload.created_ms + USED_WITHIN_MS if upload and upload.complete else 0
        if used or entry.until_ms < used_until_ms:
            self._delete_all(parts_of(entry.prefix, entry.upload))
        else:
            self.remove(entry.prefix, entry.upload)
        if upload and not used and entry.until_ms < used_until_ms:
            self._close(upload, used_until_ms, reserved_bytes=0)
            return
        for key in self._keys_of_entries(entry.prefix, entry.upload):
            self._store.delete(key)

    def uri(self, upload: Upload) -> str:
        """Return the URI of the recording, for the intake."""
        key = media_key(upload)
        if isinstance(self._store, FileStore):
            return (self._store.root / key).as_uri()
        return f"{self._store.url}/{key}"

    def bind(self, upload: Upload, request: ServiceRequest) -> ServiceRequest | None:
        """Make the upload that of *request*, unless it is that of another one. Returns the one that it belongs to.

        Of several processes that do this at the same time, one succeeds. None: the upload was deleted meanwhile.
        """
        key = f"{upload_home(upload.tenant, upload.id)}{_BOUND}"
        if not self._store.put_new(key, request.encode()):
            return self.bound(upload)
        if self.find(upload.tenant, upload.id) is None:
            self._store.delete(key)
            return None
        return request

    def bound(self, upload: Upload) -> ServiceRequest | None:
        """Return the request that the upload belongs to, which may not be accepted yet; None if there is none."""
        return stored_documents.valid(self._store, ServiceRequest, f"{upload_home(upload.tenant, upload.id)}{_BOUND}")

    def _is_used(self, upload: Upload) -> bool:
        """Whether the request that it belongs to was accepted, and is not deleted."""
        request = self.bound(upload)
        return (
            request is not None
            and self._store.stat(RequestKeys(RequestKey(upload.tenant, request.id)).request) is not None
        )

    def _put(self, upload: Upload) -> None:
        self._store.put(f"{upload_home(upload.tenant, upload.id)}{_RECORD}", upload.encode())

    def _close(self, upload: Upload, until_ms: int, *, reserved_bytes: int) -> None:
        """Replace the entries of an upload by one that remains until the forms for its parts have expired."""
        # Only those that were there before: another process may do the same, and one entry must remain.
        before = self._keys_of_entries(upload.tenant, upload.id)
        kept = _entry(upload, until_ms, reserved_bytes)
        self._store.put(kept, b"")
        for key in before:
            if key != kept:
                self._store.delete(key)

    def _keys_of_entries(self, prefix: str, upload: str) -> Sequence[str]:
        return [entry.key for entry in self._entries(incomplete_of(prefix)) if entry.upload == upload]

    def _delete_all(self, prefix: str) -> None:
        for item in self._store.list(prefix):
            self._store.delete(item.key)

    def _entries(self, prefix: str) -> Iterator[UploadEntry]:
        """Yield the entries, in the order of the time when they are over for each tenant."""
        for item in self._store.list(prefix):
            if entry := parse_upload_entry(item.key):
                yield entry


def media_key(upload: Upload) -> str:
    """Return the key of the recording. Of its name only a plain suffix is used, as a hint for ffmpeg."""
    suffix = PurePosixPath(upload.name).suffix
    plain = suffix if len(suffix) < 8 and suffix[1:].isalnum() and suffix.isascii() else ""
    return f"{upload_home(upload.tenant, upload.id)}media{plain}"


def _entry(upload: Upload, until_ms: int, reserved_bytes: int) -> str:
    return upload_entry(upload.tenant, upload.id, until_ms=until_ms, reserved_bytes=reserved_bytes)
