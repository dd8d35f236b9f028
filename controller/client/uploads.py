"""Sends files to the transcription service in parts, and continues what was interrupted, on any machine.

Touches: the network (through ``http``), the files that are sent. The name of an upload is made of the batch, the entry
and a digest of the file: so whoever sends the same file for the same entry finds the parts that are there.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from pydantic import BaseModel, ConfigDict, Field

from chunk_job.sampled_digest import add_samples
from controller.client.bodies import Body, FilePart, FormWithFile
from controller.client.http import Connection, Refused
from controller.client.replies import parsed
from controller.errors import MediaProblem

_SAMPLE_BYTES = 16 << 10
_WHOLE_BYTES = 64 * _SAMPLE_BYTES
"""A file up to this size is read completely for its digest."""
_POLL_S = 2.0
_MOST_BEGINNINGS = 3
"""An upload that has expired, or that somebody has deleted, is begun again."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore")

    number: int
    offset: int = Field(ge=0)
    size_bytes: int = Field(ge=1)
    method: str
    url: str
    fields: dict[str, str] = Field(default_factory=dict)


class _Upload(BaseModel):
    model_config = ConfigDict(extra="ignore")

    id: str = Field(pattern="^[0-9a-z]{26}$")
    name: str
    size_bytes: int
    status: str
    parts: list[_Part] = Field(default_factory=list)


class _Uploads(BaseModel):
    model_config = ConfigDict(extra="ignore")

    uploads: list[_Upload]


class Uploads:
    """The uploads of one batch. May be used by several threads."""

    def __init__(self, service: Connection, batch: str, *, on_part: Callable[[int], None]) -> None:
        """*on_part*: called with the bytes of each part that was sent. Raises the errors of ``Connection.send``."""
        self._service, self._batch, self._on_part = service, batch, on_part
        begun = parsed(_Uploads, service.send("GET", "/v1/uploads")).uploads
        self._begun: Mapping[str, _Upload] = {one.name: one for one in begun if one.name.startswith(batch)}
        self._lock = threading.Lock()
        """A tenant begins one upload after the other."""

    def send(self, number: int, path: Path, *, again: bool = False) -> str:
        """Send the file of an entry, or what is missing of it, and return the id of its complete upload.

        *again*: not with an upload that was begun before. Raises :class:`MediaProblem` if the file cannot be read or
        changes meanwhile, and the errors of ``Connection.send``.
        """
        try:
            with path.open("rb") as file:
                before = os.fstat(file.fileno())
                if not before.st_size:
                    raise MediaProblem(f"{path}: is empty (0 bytes)", "check the file")
                name = self._name(number, path, file, before.st_size)
                upload = self._complete(file, name, before.st_size, known=None if again else self._begun.get(name))
                after = os.fstat(file.fileno())
        except OSError as error:
            raise MediaProblem(f"{path}: {error.strerror}", "check the file, and that you may read it") from error
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            self.delete(upload)
            raise MediaProblem(f"{path}: was changed while it was sent", "submit it when it is complete")
        return upload

    def delete(self, upload: str) -> None:
        """Delete an upload that is of no use. If it is gone, that is no error."""
        try:
            self._service.send("DELETE", f"/v1/uploads/{upload}")
        except Refused as error:
            if error.status not in (404, 409):
                raise

    def _name(self, number: int, path: Path, file: BinaryIO, size_bytes: int) -> str:
        digest = hashlib.sha256(f"{size_bytes}\0".encode())
        if size_bytes <= _WHOLE_BYTES:
            digest.update(file.read())
        else:
            add_samples(digest, file, size_bytes=size_bytes, sample_bytes=_SAMPLE_BYTES)
        suffix = PurePosixPath(path.name).suffix
        plain = suffix if len(suffix) < 8 and suffix[1:].isalnum() and suffix.isascii() else ""
        return f"{self._batch}-{number:07d}-{digest.hexdigest()[:16]}{plain}"

    def _complete(self, file: BinaryIO, name: str, size_bytes: int, *, known: _Upload | None) -> str:
        """Send what is missing until the upload is complete."""
        last: Refused | None = None
        for _ in range(_MOST_BEGINNINGS):
            upload = known if known and known.size_bytes == size_bytes else self._begin(name, size_bytes)
            known = None
            try:
                self._send_missing(file, upload.id)
                return upload.id
            except Refused as error:
                if not (error.status == 404 or error.name == "upload-expired"):
                    raise
                last = error
        assert last is not None
        raise last

    def _begin(self, name: str, size_bytes: int) -> _Upload:
        with self._lock:
            return self._view("POST", "/v1/uploads", {"name": name, "size_bytes": size_bytes})

    def _send_missing(self, file: BinaryIO, upload_id: str) -> None:
        without_success = 0
        while True:
            upload = self._view("GET", f"/v1/uploads/{upload_id}")
            if upload.status == "complete":
                return
            try:
                for part in upload.parts:
                    self._send_part(file, part)
                    without_success = 0
            except Refused:
                # A form has expired, or another process has completed the upload: it is looked at again.
                without_success += 1
                if without_success == _MOST_BEGINNINGS:
                    raise
                continue
            if upload.parts:
                # The answer names only the first parts that are missing.
                continue
            reply = self._service.send("POST", f"/v1/uploads/{upload_id}:complete")
            if reply.status != 202:
                return
            self._service.pause(min(reply.retry_after_s or _POLL_S, _POLL_S))

    def _send_part(self, file: BinaryIO, part: _Part) -> None:
        def body() -> Body:
            piece = FilePart(file, part.offset, part.size_bytes)
            return FormWithFile(part.fields, piece) if part.method == "POST" else piece

        self._service.send("POST" if part.method == "POST" else "PUT", part.url, body=body)
        self._on_part(part.size_bytes)

    def _view(self, method: str, path: str, document: object = None) -> _Upload:
        return parsed(_Upload, self._service.send(method, path, document=document))
