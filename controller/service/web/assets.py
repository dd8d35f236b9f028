"""The files of our pages: styles, scripts, and those of others in ``assets/vendor``.

Touches: the files of this package and of the reports, read once.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
"""Other files are notes about them."""


@dataclass(frozen=True)
class Asset:
    """A file, and what a browser is sent."""

    media_type: str
    body: bytes
    packed: bytes


@cache
def assets() -> Mapping[str, Asset]:
    """All files by name. The styles of the reports are those of the page too."""
    found = dict(_found(files("controller.service.web") / "assets", ""))
    found["report.css"] = _asset("report.css", (files("controller.reports") / "assets" / "report.css").read_bytes())
    return dict(sorted(found.items()))


@cache
def version() -> str:
    """What all files together are: a part of their addresses, so that browsers may keep them."""
    digest = hashlib.sha256()
    for name, asset in assets().items():
        digest.update(f"{name}\0{len(asset.body)}\0".encode() + asset.body)
    return digest.hexdigest()[:16]


def asset_url(name: str) -> str:
    """Return the address of a file. Modules name each other by relative ones."""
    if name not in assets():
        raise KeyError(name)
    return f"/assets/{version()}/{name}"


def _found(folder: Traversable, path: str) -> Iterator[tuple[str, Asset]]:
    for entry in folder.iterdir():
        name = f"{path}{entry.name}"
        if entry.is_dir():
            yield from _found(entry, f"{name}/")
        elif any(name.endswith(end) for end in _TYPES):
            yield name, _asset(name, entry.read_bytes())


def _asset(name: str, body: bytes) -> Asset:
    return Asset(_TYPES[f".{name.rpartition('.')[2]}"], body, gzip.compress(body, mtime=0))
