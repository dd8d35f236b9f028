"""Reads documents from the store and checks their size and their run.

Touches: the store. Any program that can write to the store may have written them, so the controller decodes objects of
the store only here.
"""

from __future__ import annotations

from typing import TypeVar

from chunk_job.document import Document
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing, Store
from controller.domain.keys import run_of

_D = TypeVar("_D", bound=Document)


def parse(kind: type[_D], key: str, data: bytes) -> _D:
    """Return the document in *data*, which was read from *key*.

    Raises :class:`DocumentInvalid` if it is malformed, too long, or belongs to another run than *key*.
    """
    document = kind.decode(data)
    run = getattr(document, "run", None)
    if run is not None and run != run_of(key):
        raise DocumentInvalid(f"{key}: is a document of run {run}")
    return document


def read(store: Store, kind: type[_D], key: str) -> _D:
    """Return the document under *key*. Raises :class:`ObjectMissing` and :class:`DocumentInvalid`."""
    return parse(kind, key, store.get(key, max_bytes=kind.max_bytes))


def find(store: Store, kind: type[_D], key: str) -> _D | None:
    """Return the document under *key*; None if there is none. Raises :class:`DocumentInvalid`."""
    try:
        return read(store, kind, key)
    except ObjectMissing:
        return None


def valid(store: Store, kind: type[_D], key: str) -> _D | None:
    """Return the document under *key*; None if there is none or it is not valid."""
    try:
        return find(store, kind, key)
    except DocumentInvalid:
        return None
