"""Which objects a tenant may name as a source, and where its outputs may go.

Touches: nothing. No store is asked, so neither a message nor the time of an answer says whether an object exists.
Addresses are compared as text, part by part: nothing in them is decoded or resolved, and what a server could resolve
in another way is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from controller.errors import StenofleetError

EVERYWHERE = "s3://"
"""The prefix that allows every bucket."""

_SCHEME = "s3://"
_MOST_KEY_BYTES = 1024
_BUCKET = re.compile(r"[a-z0-9](?:[a-z0-9]|[.-](?=[a-z0-9-])){1,61}[a-z0-9]", re.ASCII)
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+", re.ASCII)
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")

_SHAPE = "write s3://bucket/key: a bucket in lower case, and the key as it is in the bucket, without percent-encoding"

_FILE = (
    "send a file of your own as a form (curl -F file=@talk.mp3) or as an upload (POST /v1/uploads); a source is "
    "s3://bucket/key"
)


class SourceRefused(StenofleetError):
    """An address that this tenant may not name. The message does not say whether there is an object."""


class _Address(NamedTuple):
    bucket: str
    parts: tuple[str, ...]
    """The parts of the key; empty: the whole bucket."""

    def contains(self, other: _Address) -> bool:
        """Whether *other* is this address or below it."""
        return self.bucket == other.bucket and self.parts == other.parts[: len(self.parts)]


def checked_source(uri: str, allowed: Sequence[str], store_url: str) -> str:
    """Return *uri* if it names an object under one of the *allowed* prefixes, and outside of the service's own store.

    Raises :class:`SourceRefused`.
    """
    address = _address(uri, "source")
    if not address.parts or uri.endswith("/"):
        raise SourceRefused("the source names no object", _SHAPE)
    if not any(_covers(prefix, uri, address) for prefix in allowed) or _in_store(address, store_url):
        raise SourceRefused(
            "this tenant may not name this source", f"upload the recording, or use {_where(allowed, 'an object')}"
        )
    return uri


def checked_output(uri: str, allowed: Sequence[str], store_url: str) -> str:
    """Return the folder *uri* without a slash at its end, if it is one of the *allowed* prefixes or below it.

    Raises :class:`SourceRefused`.
    """
    address = _address(uri, "output")
    # A store's URL has no such characters.
    if "?" in uri or "#" in uri:
        raise SourceRefused("the output contains ? or #", "use a folder without these characters")
    folder = uri.rstrip("/")
    if not any(_covers(prefix, f"{folder}/", address) for prefix in allowed) or _in_store(address, store_url):
        raise SourceRefused(
            "this tenant may not name this output",
            f"leave it out, and get the results from the API; or use {_where(allowed, 'a folder')}",
        )
    return folder


def is_below(place: str, folder: str) -> bool:
    """Whether an address or a path is *folder* or below it."""
    return f"{place.rstrip('/')}/".startswith(f"{folder.rstrip('/')}/")


def is_apart(place: str, others: Sequence[str]) -> bool:
    """Whether none of the *others* is in a folder, and it is in none of them."""
    return not any(is_below(other, place) or is_below(place, other) for other in others)


def is_prefix(text: str) -> bool:
    """Whether *text* can be an allowed prefix: ``s3://`` for every bucket, ``s3://bucket/`` or ``s3://bucket/folder/``.

    Without a slash at the end it means the same folder, and also the one object with this name.
    """
    if text == EVERYWHERE:
        return True
    try:
        _address(text, "prefix")
    except SourceRefused:
        return False
    return "?" not in text and "#" not in text


def _covers(prefix: str, uri: str, address: _Address) -> bool:
    """Whether the *uri*, with its parts in *address*, is under the *prefix*."""
    if prefix == EVERYWHERE:
        return True
    # A prefix with a slash at its end does not cover an object that has the name of the folder.
    return _address(prefix, "prefix").contains(address) and (not prefix.endswith("/") or uri.startswith(prefix))


def _in_store(address: _Address, store_url: str) -> bool:
    """Whether the address is in the store of the service, which contains the runs of all tenants."""
    bucket, _, prefix = store_url.removeprefix(_SCHEME).partition("/")
    store = _Address(bucket, tuple(part for part in prefix.split("/") if part))
    return store_url.startswith(_SCHEME) and store.contains(address)


def _where(allowed: Sequence[str], what: str) -> str:
    if not allowed:
        return f"{what} in a bucket that the operator of the service has allowed for this tenant: there is none"
    return f"{what} under {' or '.join(allowed)}; the store of the service itself is never allowed"


def _address(uri: str, what: str) -> _Address:
    """Parse an address of S3. The message repeats nothing of it: it may contain a secret."""
    if not uri.startswith(_SCHEME):
        raise SourceRefused(f"the {what} is not an address in S3", _FILE if what == "source" else _SHAPE)
    if not uri.isprintable() or "\\" in uri or _ENCODED.search(uri):
        raise SourceRefused(f"the {what} contains control characters, a backslash or percent-encoding", _SHAPE)
    bucket, _, key = uri.removeprefix(_SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket) or _IPV4.fullmatch(bucket):
        raise SourceRefused(f"the {what} has no valid name of a bucket", _SHAPE)
    if len(key.encode()) > _MOST_KEY_BYTES:
        raise SourceRefused(f"the {what} has a key of more than {_MOST_KEY_BYTES} bytes", _SHAPE)
    parts = tuple(key.removesuffix("/").split("/")) if key else ()
    if any(not part or part.startswith(".") for part in parts):
        raise SourceRefused(
            f"the {what} has an empty part, or a part that begins with a dot", "copy the recording to another key"
        )
    return _Address(bucket, parts)
