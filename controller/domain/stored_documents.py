"""Reads documents from the store: no longer than their kind can be, and of the run whose key they lie under.

Touches: the store. Whoever may write to the store may have written them, so nothing else in the controller decodes what
it got there.
"""

from __future__ import annotations

from typing import TypeVar

from chunk_job.document import Document
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing, Store
from controller.domain.keys import run_of

_D = TypeVar("_D", bound=Document)


def parse(kind: type[_D], key: str, data: bytes) -> _D:
    """The document in *data*, which was got under *key*.

    Raises :class:`DocumentInvalid`: malformed, too long, or of another run than the one that *key* belongs to.
    """
    document = kind.decode(data)
    run = getattr(document, "run", None)
    if run is not None and run != run_of(key):
        raise DocumentInvalid(f"{key}: is a document of run {run}")
    return document


def read(store: Store, kind: type[_D], key: str) -> _D:
    """The document under *key*. Raises :class:`ObjectMissing`, and :class:`DocumentInvalid` as :func:`parse` does."""
    return parse(kind, key, store.get(key, max_bytes=kind.max_bytes))


def find(store: Store, kind: type[_D], key: str) -> _D | None:
    """The document under *key*; None where there is none. Raises :class:`DocumentInvalid`."""
    try:
        return read(store, kind, key)
    except ObjectMissing:
        return None


def valid(store: Store, kind: type[_D], key: str) -> _D | None:
    """The document under *key*; None where there is none that can be believed."""
    try:
        return find(store, kind, key)
    except DocumentInvalid:
        return None
