"""Checks the names of recordings before expensive work: which cannot be transcribed, and which name may be meant.

Touches: media (whether they exist, not their content), the folders that contain them.
"""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath

from chunk_job.names import near
from chunk_job.text import composed, printable
from controller.cli.execute import indented, refused
from controller.cli.terminal import print_message
from controller.domain.interfaces import RunOutcome
from controller.errors import MediaProblem
from controller.intake import source
from controller.runs.lookup import AT_ONCE, in_parallel

_MOST_HINTS = 10
_MOST_ENTRIES = 2_000
"""Of a folder: each entry is compared with the name, and a hint must not take a second."""

_DASHES = tuple("‐‑‒–—―−")
"""What word processors and web pages write in place of hyphens."""


def find_all(names: Iterable[str]) -> tuple[dict[str, source.Found], list[RunOutcome]]:
    """Return the names that may be recordings, with what is known without reading them, and those that are not.

    The latter are reported on stderr at once: before a model is searched, and before hours of work on the others.
    Raises :class:`EnvironmentProblem` if S3 cannot be reached.
    """
    found: dict[str, source.Found] = {}
    without: list[RunOutcome] = []
    listed = list(names)
    # A thousand objects, one after the other, would need a minute before the first is worked on.
    remote = sum(map(source.is_object, listed)) > 1
    each = in_parallel(_find, listed, at_once=AT_ONCE) if remote else map(_find, listed)
    for name, one in zip(listed, each, strict=True):
        if isinstance(one, source.Found):
            found[name] = one
            continue
        without.append(refused(name, hinted(name, one) if len(without) < _MOST_HINTS else one))
        report_refused(without[-1])
    return found, without


def _find(name: str) -> source.Found | MediaProblem:
    try:
        return source.find(name)
    except MediaProblem as error:
        return error


def report_refused(item: RunOutcome) -> None:
    """Write to stderr why a recording did not become a run, and what to do."""
    print_message(printable(item.summary))
    if item.advice:
        print_message(indented(item.advice))


def spelled(name: str) -> str:
    """Return *name* as its file is called: a missing one in the other Unicode form, if its folder has just one such.

    A name that was typed, or written by a spreadsheet, has composed letters; files that come from macOS often have not.
    """
    if name.isascii() or source.is_object(name) or os.path.lexists(name):
        return name
    found = "/" if name.startswith("/") else ""
    try:
        for part in filter(None, name.split("/")):
            path = os.path.join(found, part)  # noqa: PTH118
            if not os.path.lexists(path):
                folder = found or "."
                other = _names_in(os.path.abspath(folder), os.stat(folder).st_mtime_ns).get(composed(part))  # noqa: PTH116
                if not other:
                    return name
                path = os.path.join(found, other)  # noqa: PTH118
            found = path
    except (OSError, ValueError):
        return name
    return found


@functools.lru_cache(maxsize=16)
def _names_in(folder: str, changed_ns: int) -> Mapping[str, str]:
    """The names in a folder that was last changed then, by their composed form; empty where several have one form."""
    del changed_ns
    found: dict[str, str] = {}
    for name in os.listdir(folder):
        found[composed(name)] = "" if composed(name) in found else name
    return found


def hinted(name: str, error: MediaProblem) -> MediaProblem:
    """Return the same problem; for a missing file, with the name of a similar file in its folder.

    A name with a dash in front may be an option from a web page, which made one dash of its two hyphens.
    """
    if isinstance(error, source.NoSuchFile) and name.startswith(_DASHES):
        option = f"--{name.lstrip(''.join(_DASHES))}"
        return MediaProblem(error.summary, f"if an option is meant, it begins with two hyphens: {option}")
    meant = _near(Path(name)) if isinstance(error, source.NoSuchFile) else ""
    return MediaProblem(f"{error.summary}; is {meant} meant?", error.advice) if meant else error


def _near(path: Path) -> str:
    """Return a file in the same folder with a similar name; empty if there is none."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_ENTRIES) if entry.is_file()]
    except OSError:
        return ""
    # Without the extension: otherwise all short names with the same extension would be similar.
    alike = [name for name in names if near(path.stem, [PurePath(name).stem])]
    found = near(path.name, alike)
    if not found:
        without_extension = [name for name in names if PurePath(name).stem == path.name]
        found = without_extension[0] if len(without_extension) == 1 else ""
    return str(path.with_name(found)) if found else ""
