"""The stored runs of recordings that ``--skip-existing`` leaves out: quality gates measure them like all others.

Touches: media (reads files to identify them), the store, the terminal.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path

from chunk_job.store.base import Store
from controller.cli.terminal import print_message
from controller.domain.documents import Source
from controller.domain.interfaces import RunOutcome, RunRequest, RunVerdict
from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.known_files import KnownFiles
from controller.runs.lookup import AT_ONCE, in_parallel, of_each, read_run

_TRANSCRIBED: tuple[RunVerdict, ...] = ("complete", "partial")


def skipped_runs(
    names: Collection[str],
    request: Callable[[str, Source], RunRequest],
    store: Store,
    known: KnownFiles,
    *,
    quiet: bool = False,
) -> list[RunOutcome]:
    """Return how the runs of these recordings ended, without those that the store does not have.

    *request*: makes the run request for a recording of this name and content. A run that another command started with
    other options is not found. Raises :class:`StoreUnavailable`.
    """
    if names and not quiet:
        # Files of an hour are read, if this machine does not know them.
        print_message(f"looking for the runs of {len(names)} skipped, which the quality gates measure")
    listed = sorted(names)
    find = partial(_run, request=request, known=known)
    # Each object is a request to its store.
    remote = any(map(source.is_object, listed))
    each = in_parallel(find, listed, at_once=AT_ONCE) if remote else map(find, listed)
    runs = {name: run for name, run in zip(listed, each, strict=True) if run}
    ended = of_each(store, partial(_end, store), runs.values())
    return [
        RunOutcome(
            run=run,
            name=name.rpartition("/")[2],
            verdict=end,
            summary="skipped: all its outputs exist",
            source=name if source.is_object(name) else str(Path(name).absolute()),
        )
        for (name, run), end in zip(runs.items(), ended, strict=True)
        if end
    ]


def _run(name: str, *, request: Callable[[str, Source], RunRequest], known: KnownFiles) -> str:
    """Its run; empty: it is no recording any more."""
    try:
        return request(name, source.inspect(name, known)).record.run
    except MediaProblem:
        return ""


def _end(store: Store, run: str) -> RunVerdict | None:
    """How it ended, if it has a transcript."""
    found = read_run(store, run)
    return next((verdict for verdict in _TRANSCRIBED if found and found.end == verdict), None)
