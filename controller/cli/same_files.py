"""Which outputs are the same files: some folders distinguish neither letter case nor the Unicode form of names.

Touches: output folders, where names differ only in that (creates and removes a file there).
"""

from __future__ import annotations

import contextlib
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from urllib.parse import unquote

from chunk_job.text import composed
from controller.intake import source

Rule = Callable[[str], str]
"""Makes equal what a folder does not distinguish."""
_WITHOUT_CASE: Rule = str.casefold
_WITHOUT_FORM: Rule = composed


class SameFiles:
    """Compares the bases of outputs. Each folder in which it matters is tried once."""

    def __init__(self) -> None:
        self._rules: dict[str, Sequence[Rule]] = {}

    def keys(self, bases: Iterable[str]) -> list[str]:
        """Return a text for each of the *bases* (URIs): those of one text are the same files."""
        listed = list(bases)
        alike: dict[str, set[str]] = defaultdict(set)
        for base in listed:
            alike[_plainest(base)].add(base)
        return [base if len(alike[_plainest(base)]) == 1 else self._key(base) for base in listed]

    def _key(self, base: str) -> str:
        if source.is_object(base):
            return base
        path = source.local_path(base)
        folder = _existing(path.parent)
        if str(folder) not in self._rules:
            self._rules[str(folder)] = rules_of(folder)
        name = str(path)
        for rule in self._rules[str(folder)]:
            name = rule(name)
        return name


def rules_of(folder: Path) -> Sequence[Rule]:
    """Return what a folder does not distinguish in names: a new file is looked for under other names."""
    start = f".stenofleet-{secrets.token_hex(8)}"
    tried: tuple[tuple[Rule, str, str], ...] = (
        (_WITHOUT_CASE, f"{start}-a", f"{start}-A"),
        (_WITHOUT_FORM, f"{start}-\N{LATIN SMALL LETTER E WITH ACUTE}", f"{start}-e\N{COMBINING ACUTE ACCENT}"),
    )
    return [rule for rule, name, other in tried if _are_one(folder / name, folder / other)]


def _are_one(path: Path, other: Path) -> bool:
    # Where nothing can be written, the outputs will say so.
    with contextlib.suppress(OSError):
        path.touch(exist_ok=False)
        try:
            return other.exists()
        finally:
            path.unlink()
    return False


def _existing(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def _plainest(base: str) -> str:
    return composed(unquote(base)).casefold()
