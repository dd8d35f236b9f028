"""Where the inbox and the outbox of each tenant are.

Touches: the names of files (whether they are links).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from chunk_job.errors import JobError
from chunk_job.store.base import Store, StoreDenied, StoredObject
from chunk_job.store.files import FileStore
from chunk_job.store.open_store import open_store
from controller.domain.service_documents import ServiceRequest
from controller.errors import MediaProblem, UsageProblem
from controller.intake.source import is_object, local_path
from controller.service.inbox.names import decoded
from controller.service.sources import is_apart, is_below
from controller.service.tenant import Tenant
from controller.service.tenants import Tenants

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class InboxSettings:
    """What an operator sets for all inboxes."""

    inbox: str = ""
    """``s3://bucket/folder`` or a folder; empty: only tenants that have one in the tenants file have an inbox.

    With a tenants file, each tenant has a folder of its own in it, with the name of its prefix.
    """
    outbox: str = ""
    poll_s: float = 10.0
    settle_s: float = 10.0
    """A file that has not changed for this time is complete. An object in S3 always is."""
    lists_per_minute: int = 60
    """Of each inbox in S3: requests to list objects."""


NO_INBOX = InboxSettings()


@dataclass(frozen=True, kw_only=True)
class Place:
    """The inbox and the outbox of one tenant."""

    tenant: Tenant
    inbox: str
    outbox: str

    def open(self) -> Store:
        """Return the store of the inbox. Raises :class:`JobError` for an address that cannot be used."""
        return open_store(self.inbox) if is_object(self.inbox) else _Folder(Path(self.inbox))

    def uri(self, path: str) -> str:
        """Return the URI of an object in the inbox."""
        return f"{self.inbox}/{path}" if is_object(self.inbox) else Path(self.inbox, path).absolute().as_uri()

    def folder(self, path: str) -> str:
        """Return the folder of the outbox in which the outputs of an object are."""
        return f"{self.outbox}/{path}".rpartition("/")[0]


class _Folder(FileStore):
    """A folder that people use: a subfolder that cannot be read does not hide the others."""

    def _scan(self, prefix: str, after: str) -> Sequence[StoredObject | str]:
        try:
            return super()._scan(prefix, after)
        except StoreDenied as error:
            _LOG.warning("inbox: %s", error.summary)
            return ()


def places(settings: InboxSettings, tenants: Tenants) -> Iterator[Place]:
    """Yield the place of each tenant that has an inbox."""
    for tenant in tenants.all:
        if tenant.inbox:
            yield Place(tenant=tenant, inbox=tenant.inbox.rstrip("/"), outbox=tenant.outbox.rstrip("/"))
        elif settings.inbox:
            below = f"/{tenant.prefix}" if tenants.configured else ""
            yield Place(tenant=tenant, inbox=settings.inbox + below, outbox=settings.outbox + below)


def check_no_link(request: ServiceRequest) -> None:
    """Raises :class:`MediaProblem` if a recording of an inbox is reached by a link: it could be anywhere."""
    if is_object(request.source):
        return
    path, below = local_path(request.source), PurePosixPath(decoded(request.inbox) or ".")
    root = os.path.realpath(path.parents[len(below.parts) - 1])
    if os.path.realpath(path) != os.path.join(root, below):  # noqa: PTH118 (a name may have any bytes)
        raise MediaProblem(f"{path}: is reached by a link", "put the recording itself into the inbox")


def checked(inbox: str, outbox: str, store: Store) -> tuple[str, str]:
    """Return the addresses of an inbox and an outbox as they are used. Raises :class:`UsageProblem`."""
    if bool(inbox) != bool(outbox):
        raise UsageProblem("an inbox and an outbox belong together", "give both: --inbox and --outbox")
    inbox, outbox = _address(inbox), _address(outbox)
    if inbox and not is_apart(inbox, [outbox]):
        raise UsageProblem(
            "the outbox and the inbox are not separate: outputs would be transcribed again",
            "use two folders of which none is in the other",
        )
    at = store.url if store.remote else str(Path(store.url.removeprefix("file://")))
    if inbox and is_below(at, inbox):
        raise UsageProblem("the store is in the inbox: its objects would be transcribed", "use another inbox")
    return inbox, outbox


def _address(text: str) -> str:
    if not text:
        return ""
    if not is_object(text):
        return str(Path(text).absolute())
    try:
        return open_store(text).url
    except JobError as error:
        raise UsageProblem(error.summary, error.advice) from error
