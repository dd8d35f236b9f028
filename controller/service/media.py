"""What a player plays of a run: the recording where browsers can play it, else its rendition.

Of a recording in a format without an index, the rendition comes first.

Touches: the store, media objects in S3.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from chunk_job.errors import JobError
from chunk_job.store.base import Store, StoredObject, StoreUnavailable
from chunk_job.store.open_store import open_store
from controller.domain import stored_documents
from controller.domain.documents import Request
from controller.domain.keys import RunKeys
from controller.domain.playback import RENDITION_TYPE, MediaType, Playback
from controller.intake.source import object_identity
from controller.service.context import Service
from controller.service.problems import Problem
from controller.service.request_reader import FoundRequest
from controller.service.sources import SourceRefused, checked_source
from controller.service.tenant import Tenant
from controller.service.uploads import media_key

LINK_VALID_S = 3600
"""How long a link to an object can be used."""
_BUCKETS = 32
_WITHOUT_INDEX = frozenset[str]({"audio/aac", "audio/mpeg"})
"""In these recordings, a player that jumps to a time misses it by seconds if their bit rate varies."""


@runtime_checkable
class Linking(Protocol):
    """A store from which clients can read objects themselves."""

    def link(self, key: str, *, media_type: str, valid_s: int, endpoint: str) -> str:
        """Return a URL of the object. *endpoint*: where clients reach the server; empty: where this process does."""


@dataclass(frozen=True, kw_only=True)
class Playable:
    """An object that browsers play."""

    store: Store
    entry: StoredObject
    media_type: MediaType


class _Gone(Exception):
    """The recording cannot be played. The message says why, and continues after a comma."""


def playable(service: Service, tenant: Tenant, found: FoundRequest) -> Playable:
    """Return what to play of a request. Raises :class:`Problem`, which says why there is nothing."""
    run = found.end.run_id if found.end else found.state.run_id
    known = stored_documents.valid(service.store, Playback, RunKeys(run).playback) if run else None
    if run is None or known is None:
        why = "it was never read" if found.end else "it is not read yet"
        raise _nothing(f"it is not known what can be played of the recording: {why}")
    reasons = {}
    order = (_rendition, _recording) if known.media_type in _WITHOUT_INDEX else (_recording, _rendition)
    for find in order:
        try:
            return find(service, tenant, found, known)
        except _Gone as gone:
            reasons[find] = str(gone)
    raise _nothing(f"{reasons[_recording]}; {reasons[_rendition]}")


def _recording(service: Service, tenant: Tenant, found: FoundRequest, known: Playback) -> Playable:
    if not known.media_type:
        raise _Gone("browsers do not play the recording")
    if found.request.upload:
        upload = service.uploads.find(tenant.prefix, found.request.upload)
        entry = service.store.stat(media_key(upload)) if upload else None
        if entry is None:
            raise _Gone("the upload was deleted when its run was complete")
        return Playable(store=service.store, entry=entry, media_type=known.media_type)
    try:
        uri = checked_source(found.request.source, tenant.sources, service.store.url)
    except SourceRefused:
        # The rules may have changed since the run was accepted.
        raise _Gone("this tenant may not name the source of the run any more") from None
    store, entry = _object(uri)
    request = stored_documents.valid(service.store, Request, RunKeys(known.run).request)
    if request is None or (request.source.uri, request.source.identity) != (uri, object_identity(entry)):
        raise _Gone("the recording was changed after it was transcribed")
    return Playable(store=store, entry=entry, media_type=known.media_type)


def _object(uri: str) -> tuple[Store, StoredObject]:
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    try:
        store = _bucket(bucket)
        entry = store.stat(key)
    except StoreUnavailable:
        raise
    except JobError:
        raise _Gone("this service may not read the recording any more") from None
    if entry is None:
        raise _Gone("the recording was deleted")
    return store, entry


@functools.lru_cache(maxsize=_BUCKETS)
def _bucket(name: str) -> Store:
    """The store of a bucket. Kept, because each has connections and reads certificates."""
    return open_store(f"s3://{name}")


def _rendition(service: Service, _: Tenant, __: FoundRequest, known: Playback) -> Playable:
    entry = service.store.stat(RunKeys(known.run).rendition) if known.rendition else None
    if entry is None:
        raise _Gone("it has no rendition")
    return Playable(store=service.store, entry=entry, media_type=RENDITION_TYPE)


def _nothing(why: str) -> Problem:
    return Problem(
        404, "no-media", why, "start a new run with the option rendition: it keeps a small audio file for players"
    )
