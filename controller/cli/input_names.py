"""Names of recordings, looked at before anything costs time: which of them cannot be transcribed, and what is meant.

Touches: media (whether they are there, not what is in them), the folders that they should be in.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable
from pathlib import Path, PurePath

from chunk_job.names import near
from chunk_job.text import printable
from controller.cli.execute import indented, refused
from controller.cli.terminal import print_message
from controller.domain.interfaces import RunOutcome
from controller.errors import MediaProblem
from controller.intake import source

_MOST_HINTS = 10
_MOST_ENTRIES = 2_000
"""Of a folder: each is compared with the name, and a hint is not worth a second."""


def find_all(names: Iterable[str]) -> tuple[dict[str, source.Found], list[RunOutcome]]:
    """The names that may be recordings, with what is known of them without reading them, and those that are none.

    The latter are reported on stderr at once: before a model is looked for, and before hours of work on the others.
    Raises :class:`EnvironmentProblem` where S3 cannot be asked.
    """
    found: dict[str, source.Found] = {}
    without: list[RunOutcome] = []
    for name in names:
        try:
            found[name] = source.find(name)
        except MediaProblem as error:
            without.append(refused(name, hinted(name, error) if len(without) < _MOST_HINTS else error))
            report_refused(without[-1])
    return found, without


def report_refused(item: RunOutcome) -> None:
    """Write to stderr why a recording never became a run, and what to do."""
    print_message(printable(item.summary))
    if item.advice:
        print_message(indented(item.advice))


def hinted(name: str, error: MediaProblem) -> MediaProblem:
    """The same problem; of a file that is not there, with the name of one beside it that may be meant."""
    meant = _near(Path(name)) if isinstance(error, source.NoSuchFile) else ""
    return MediaProblem(f"{error.summary}; is {meant} meant?", error.advice) if meant else error


def _near(path: Path) -> str:
    """A file in the same folder whose name is nearly the same; empty where there is none."""
    try:
        with os.scandir(path.parent) as entries:
            names = [entry.name for entry in itertools.islice(entries, _MOST_ENTRIES) if entry.is_file()]
    except OSError:
        return ""
    # With the same extension every short name would be near.
    alike = [name for name in names if near(path.stem, [PurePath(name).stem])]
    found = near(path.name, alike)
    if not found:
        without_extension = [name for name in names if PurePath(name).stem == path.name]
        found = without_extension[0] if len(without_extension) == 1 else ""
    return str(path.with_name(found)) if found else ""
