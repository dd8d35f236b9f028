"""The recordings that a command names: typed, in a list on stdin, in folders; and where each is in the output tree.

Touches: stdin, folders (through other modules).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chunk_job.text import masked_name, printable
from controller.cli.execute import refused
from controller.cli.folders import is_folder, recordings_in
from controller.cli.input_names import report_refused, spelled
from controller.cli.name_lists import OnStdin
from controller.cli.stdin_copy import StdinCopy
from controller.cli.terminal import print_message
from controller.domain.interfaces import RunOutcome
from controller.errors import MediaProblem, UsageProblem
from controller.intake.source import is_object


class Named(NamedTuple):
    """A recording that a command names."""

    name: str
    """A path or ``s3://bucket/key``."""
    folder: str = ""
    """Where its transcript is below the output folder: relative, empty for the output folder itself."""


@dataclass(kw_only=True)
class Recordings:
    """All recordings that a command names, each once."""

    named: list[Named] = field(default_factory=list)
    refused: list[RunOutcome] = field(default_factory=list)
    """Folders without recordings, and subfolders that cannot be read."""
    copy: StdinCopy | None = None
    """Of the recording on stdin."""

    def ended(self, code: int) -> int:
        """Return the exit *code* of the command: if all was transcribed, the copy is not needed any more."""
        if self.copy:
            self.copy.transcribed = code == 0
        return code


def named_recordings(files: Sequence[str], stdin: Callable[[], OnStdin], *, quiet: bool = False) -> Recordings:
    """Return what the arguments of a command name. ``-`` stands for the list, or for the recording, on *stdin*.

    Raises :class:`UsageProblem` if that is nothing, and the errors of *stdin*.
    """
    found = Recordings()
    seen: set[str] = set()
    resolve = Resolved()
    several = len(files) > 1
    for named in _expanded(files, stdin):
        below = named.folder
        if below == _TYPED:
            # Of several folders, each is mirrored below its own name.
            below = _folder_name(named.name) if several else ""
        try:
            for one in contents(Named(named.name, below), found.refused, quiet=quiet):
                if (resolved := resolve.name(one.name)) not in seen:
                    seen.add(resolved)
                    found.named.append(one)
        except MediaProblem as error:
            found.refused.append(refused(named.name, error))
    if not found.named and found.refused:
        raise UsageProblem(found.refused[0].summary, found.refused[0].advice)
    for item in found.refused:
        report_refused(item)
    return found


_TYPED = "\0typed"
"""Marks a folder that was typed, which no path can contain."""


def _expanded(files: Sequence[str], stdin: Callable[[], OnStdin]) -> Iterator[Named]:
    for file in files:
        if file != "-":
            name = spelled(file)
            yield Named(name, _TYPED if is_folder(name) else "")
            continue
        there = stdin()
        yield from (Named(there.names[0]),) if there.recording else mirrored(there.names)


def _folder_name(name: str) -> str:
    """The last part of a folder's path, never a dot or two: those stand for the folder to which they lead."""
    last = os.path.basename(name.rstrip("/"))  # noqa: PTH119 (a name may have any bytes)
    if is_object(name):
        return "" if last in (".", "..") else last
    return os.path.basename(os.path.realpath(name)) if last in ("", ".", "..") else last  # noqa: PTH119


def contents(named: Named, unreadable: list[RunOutcome], *, quiet: bool) -> Iterator[Named]:
    """Yield the recording, or those in the folder. Raises :class:`MediaProblem` if there are none in it.

    Subfolders that cannot be read are added to *unreadable*.
    """
    named = Named(spelled(named.name), named.folder)
    if not is_folder(named.name):
        yield named
        return
    inside, without = recordings_in(named.name)
    unreadable += [refused(folder, problem) for folder, problem in without]
    if not inside:
        raise MediaProblem(
            f"{masked_name(named.name)}: is a folder without audio or video files",
            "files with other suffixes are transcribed if they are named themselves",
        )
    if not quiet:
        print_message(printable(f"{named.name}: {len(inside)} recording{'s' if len(inside) > 1 else ''} found"))
    for path in inside:
        folder = _inside(os.path.join(named.folder, os.path.dirname(path)))  # noqa: PTH118, PTH120
        yield Named(os.path.join(named.name, path), folder)  # noqa: PTH118


def mirrored(names: Sequence[str]) -> list[Named]:
    """Return the names of a list with their folders in the output tree.

    Relative names keep their folders. Absolute ones, and those that begin above the working folder, keep what is below
    their common folder; objects likewise for each bucket. A folder in the list keeps its own name too.
    """
    roots: dict[str, list[str]] = {}
    for name in names:
        roots.setdefault(_root(name), []).append(_parent(name))
    common = {root: os.path.commonpath(folders) if root else "" for root, folders in roots.items()}
    return [Named(name, _listed(name, _below(_parent(name), common[_root(name)]))) for name in names]


def _listed(name: str, below: str) -> str:
    """Where a name of a list is in the output tree: in its folder *below*, or a folder at its own name in there."""
    return os.path.join(below, os.path.basename(_normal(name))) if is_folder(name) else below  # noqa: PTH118, PTH119


def _root(name: str) -> str:
    """What must be equal for two names to have a common folder; empty: the name is relative to the working folder."""
    if is_object(name):
        bucket, _, key = name.removeprefix("s3://").partition("/")
        # A name without a key is refused later. It must not widen the common folder of the others.
        return f"s3://{bucket}" if key else name + "\0"
    return "/" if _is_outside(name) else ""


def _is_outside(name: str) -> bool:
    return os.path.isabs(name) or os.path.normpath(name).split("/")[0] == ".."  # noqa: PTH117


def _parent(name: str) -> str:
    """The folder of a name: absolute, or below the working folder; of an object the prefix, as an absolute path."""
    return os.path.dirname(_normal(name))  # noqa: PTH120


def _normal(name: str) -> str:
    """The absolute path, or that below the working folder (empty: this folder itself); of an object ``/bucket/key``."""
    if is_object(name):
        return "/" + name.partition("://")[2].rstrip("/")
    normal = os.path.normpath(name)
    if normal == ".":
        return ""
    return os.path.abspath(normal) if _is_outside(name) else normal


def _below(folder: str, common: str) -> str:
    return _inside(os.path.relpath(folder, common) if common else folder)


def _inside(folder: str) -> str:
    """The same relative path, without parts that lead above its beginning: a key of an object may have them."""
    return os.path.normpath(f"/{folder}").lstrip("/")


class Resolved:
    """Names with their folders resolved. Each folder is resolved once: there may be ten thousand names in it."""

    def __init__(self) -> None:
        self._folders: dict[str, str] = {}

    def name(self, name: str) -> str:
        """Return *name* with its folder resolved. A link to a file counts as a different name."""
        if is_object(name):
            return name
        folder, last = os.path.split(name)
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], last)  # noqa: PTH118

    def target(self, name: str) -> str:
        """Return the path of the file to which *name* leads."""
        path = self.name(name)
        return os.path.realpath(path) if not is_object(name) and os.path.islink(path) else path  # noqa: PTH114
