"""Names in an inbox, and the keys of what is known of them.

Touches: nothing. What is known of an object is in the key of its record, so that one listing of the records shows all
of it. Records are in the same order as the objects themselves: both listings are read side by side, a page at a time.

    inbox-state/<prefix>/objects/<path, encoded>!<record>
    inbox-state/<prefix>/ended/<request>-<round>  its end is to be delivered
    inbox-state/<prefix>/cursor.json              where the last look at a large inbox stopped
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal, NamedTuple, cast

from chunk_job.contract import sha256_hex
from chunk_job.store.base import StoredObject

ROOT = "inbox-state/"
SIDECAR_SUFFIX = ".stenofleet.yaml"
FOLDER_SIDECAR = "stenofleet.yaml"
ERROR_SUFFIX = "error.json"
LONGEST_PATH = 450
"""Of an object below the inbox, in bytes: its record's key is longer, and S3 takes no more than 1,024."""
NOBODY = "0" * 26
"""In place of the id of a request, where there is none."""
NO_OPTIONS = "0" * 16

State = Literal["submitted", "done", "failed", "sidecar"]

_PIECE = 160
"""Longest part of a record's key: with the record, a file system takes it as a name."""
_TEMPORARY = re.compile(
    r"(?i)[.~].*|.*~|.*\.(?:part|partial|tmp|temp|crdownload|download|filepart|swp)|thumbs\.db|desktop\.ini", re.DOTALL
)
_RECORD = re.compile(
    r"inbox-state/[a-z0-9-]{1,40}/objects/([0-9a-v/]+)!([0-9a-f]{16})-([0-9a-f]{16})-(\d{1,12})"
    r"-(submitted|done|failed|sidecar)-([0-9a-hjkmnp-tv-z]{26})"
)
_ENDED = re.compile(r"inbox-state/[a-z0-9-]{1,40}/ended/([0-9a-hjkmnp-tv-z]{26})-(\d{3})")


class Version(NamedTuple):
    """One version of an object in an inbox."""

    content: str
    """Changes with the content: of its size and its ETag, or its size and its time."""
    modified_s: int


def version_of(entry: StoredObject) -> Version:
    """Return which version of an object a listing shows."""
    # The times of a store are those of its uploads; for files they are all there is.
    changes = entry.revision or repr(entry.modified_s)
    return Version(sha256_hex(f"{entry.size_bytes}\0{changes}".encode())[:16], max(0, int(entry.modified_s)))


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is known of one version of an object."""

    path: str
    content: str
    modified_s: int
    options: str
    """Digest of the options that it was transcribed with."""
    state: State
    request: str

    def is_of(self, version: Version) -> bool:
        """Whether nothing is left to do for this version, if the options are the same.

        After a failure, another upload of the same content is another try.
        """
        same_time = self.state != "failed" or self.modified_s == version.modified_s
        return self.content == version.content and same_time


@dataclass(frozen=True)
class StateKeys:
    """The keys of the inbox of one tenant."""

    prefix: str

    @property
    def home(self) -> str:
        return f"{ROOT}{self.prefix}/"

    @property
    def objects(self) -> str:
        """Prefix of all records."""
        return f"{self.home}objects/"

    @property
    def ended(self) -> str:
        """Prefix of the ends that are to be delivered."""
        return f"{self.home}ended/"

    @property
    def cursor(self) -> str:
        return f"{self.home}cursor.json"

    def end(self, request: str, retries: int) -> str:
        """The end of this round of a request is to be delivered, as long as this object exists."""
        return f"{self.ended}{request}-{retries:03d}"

    def before(self, path: str) -> str:
        """A key before the records of an object, and of all whose paths begin with its path."""
        return f"{self.objects}{_pieces(path)}" if path else ""

    def after(self, path: str) -> str:
        """A key after the records of an object, and before those of the next one."""
        return f"{self.objects}{_pieces(path)}!~"

    def record(self, record: Record) -> str:
        """The key of a record."""
        found = (record.content, record.options, record.modified_s, record.state, record.request)
        return f"{self.objects}{_pieces(record.path)}!{'-'.join(map(str, found))}"


def encoded(path: str) -> str:
    """Return a path in 32 characters that every store takes, in an order that is that of the paths."""
    # Not every name of a file is valid text.
    raw = base64.b32hexencode(path.encode("utf-8", "surrogatepass"))
    return raw.decode().rstrip("=").lower()


def decoded(text: str) -> str | None:
    """Return the path that :func:`encoded` has made a text of; None for any other text."""
    try:
        raw = base64.b32hexdecode(text.upper() + "=" * (-len(text) % 8))
        return raw.decode("utf-8", "surrogatepass")
    except (binascii.Error, ValueError):
        return None


def parse_record(key: str) -> Record | None:
    """Parse the key of a record; None for any other key."""
    found = _RECORD.fullmatch(key)
    path = decoded(found[1].replace("/", "")) if found else None
    if found is None or not path:
        return None
    state = cast("State", found[5])
    return Record(
        path=path, content=found[2], options=found[3], modified_s=int(found[4]), state=state, request=found[6]
    )


class Ended(NamedTuple):
    """A round of a request whose end is to be delivered."""

    request: str
    retries: int


def parse_ended(key: str) -> Ended | None:
    """Return whose end is to be delivered by a key below :attr:`StateKeys.ended`; None for any other key."""
    found = _ENDED.fullmatch(key)
    return Ended(found[1], int(found[2])) if found else None


def is_left_alone(path: str) -> bool:
    """Whether a name says that this is not a recording: hidden, temporary, or made by a file manager."""
    return any(_TEMPORARY.fullmatch(part) for part in path.split("/"))


def is_sidecar(path: str) -> bool:
    """Whether an object has options for others."""
    return path.endswith(SIDECAR_SUFFIX) or is_folder_sidecar(path)


def is_folder_sidecar(path: str) -> bool:
    """Whether an object has the options of a folder."""
    return path.rpartition("/")[2] == FOLDER_SIDECAR


def folder_of(path: str) -> str:
    """Return the folder of an object with a slash at its end; empty for the inbox itself."""
    above, slash, _ = path.rpartition("/")
    return above + slash


def stem_of(path: str) -> str:
    """Return a path without the extension of its name."""
    return f"{folder_of(path)}{PurePosixPath(path).stem}"


def sidecars_of(path: str) -> Iterator[str]:
    """Yield the own sidecars of a recording that may exist, the one that counts first."""
    for name in dict.fromkeys([path, stem_of(path)]):
        for form in forms_of(name):
            yield f"{form}{SIDECAR_SUFFIX}"


def forms_of(path: str) -> Iterable[str]:
    """Return a path with its name in each Unicode form, as it is first: a sidecar may be written on another system."""
    folder, name = folder_of(path), path.rpartition("/")[2]
    if name.isascii():
        return (path,)
    return dict.fromkeys([path, *(folder + unicodedata.normalize(form, name) for form in ("NFC", "NFD"))])


def folders_of(path: str) -> Iterator[str]:
    """Yield the folder of an object and all above it, the nearest first."""
    folder = folder_of(path)
    while folder:
        yield folder
        folder = folder_of(folder.removesuffix("/"))
    yield ""


def shown(path: str) -> str:
    """Return a path for messages and documents: without what is not valid text."""
    return path.encode("utf-8", "replace").decode()


def _pieces(path: str) -> str:
    text = encoded(path)
    return "/".join(text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
