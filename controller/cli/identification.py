"""Identifies the run of each recording, in a thread that is a few recordings ahead of the work.

Touches: media (reads files to identify them), a thread.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from controller.cli.execute import refused
from controller.domain.documents import Source
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.progress import Progress, progress
from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.known_files import KnownFiles

_AHEAD = 8
"""Recordings that are identified in advance: reading a file of a gigabyte takes a few seconds."""


class Identification:
    """The runs of the named recordings, in order. A file is read shortly before its run is needed."""

    def __init__(
        self,
        found: Mapping[str, source.Found],
        request: Callable[[str, Source], RunRequest],
        *,
        known: KnownFiles,
        keep: Callable[[RunRequest], bool],
    ) -> None:
        """*request*: makes the run request for a recording of this name and content.

        *keep*: called with every request that is taken, with all outputs of its run, until it returns False.
        """
        self._found = dict(found)
        self._request = request
        self._known = known
        self._keep: Callable[[RunRequest], bool] | None = keep
        self._ready: deque[tuple[str, RunRequest]] = deque()
        self._reading = ""
        self._unknown = {name: self._progress(name, one.size_bytes) for name, one in found.items()}
        """The progress of each, kept: there may be ten thousand, and every tick asks for all."""
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        """Protects all fields above: the loop and the thread share them."""
        self.refused: list[RunOutcome] = []
        """Files that are not recordings."""
        self.taken: dict[str, RunRequest] = {}
        """The requests already taken, by run id; with all outputs if a run came several times."""
        threading.Thread(target=self._identify, args=(list(found),), name="identify", daemon=True).start()

    def take(self, most: int) -> Sequence[RunRequest]:
        """Return up to *most* identified requests. Raises an unexpected error of the thread."""
        with self._changed:
            if self._error is not None:
                raise self._error
            taken = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
            for name, _ in taken:
                self._drop(name)
        for _, run_request in taken:
            before = self.taken.get(run_request.record.run)
            whole = self.taken[run_request.record.run] = joined(before, run_request) if before else run_request
            if self._keep and not self._keep(whole):
                self._keep = None
        return [run_request for _, run_request in taken]

    def wait(self, seconds: float) -> None:
        """Wait until another recording is identified, at most *seconds*."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._error or not self._found, timeout=seconds)

    def unknown(self) -> Sequence[Progress]:
        """Return the progress of the recordings whose requests were not taken yet."""
        with self._changed:
            return list(self._unknown.values())

    def _progress(self, name: str, size_bytes: int) -> Progress:
        return progress(
            None,
            name=name.rpartition("/")[2],
            run="",
            size_bytes=size_bytes,
            seen="identifying" if name == self._reading else "waiting",
            floor=0.0,
        )

    @property
    def exhausted(self) -> bool:
        """Whether all requests were taken; files that are not recordings do not count."""
        with self._changed:
            return not self._found and self._error is None

    def _drop(self, name: str) -> None:
        del self._found[name], self._unknown[name]
        self._changed.notify_all()

    def _read(self, name: str) -> None:
        """Show that *name* is being read now; empty: none is."""
        before, self._reading = self._reading, name
        for changed in {before, name} & self._unknown.keys():
            self._unknown[changed] = self._progress(changed, self._found[changed].size_bytes)

    def _identify(self, names: Sequence[str]) -> None:
        try:
            for name in names:
                self._identify_one(name)
        except BaseException as error:  # noqa: BLE001 (raised again in `take`)
            with self._changed:
                self._error = error
                self._changed.notify_all()

    def _identify_one(self, name: str) -> None:
        with self._changed:
            self._changed.wait_for(lambda: len(self._ready) < _AHEAD)
            self._read(name)
            found = self._found[name].source
        try:
            run_request = self._request(name, found or source.inspect(name, self._known))
        except MediaProblem as error:
            with self._changed:
                self._drop(name)
                self.refused.append(refused(name, error))
            return
        with self._changed:
            self._ready.append((name, run_request))
            self._read("")
            self._changed.notify_all()


def joined(known: RunRequest, run_request: RunRequest) -> RunRequest:
    """Combine two requests of one run (equal content and options, other file names): with the outputs of both."""
    outputs = known.request.outputs + run_request.request.outputs
    return replace(known, request=known.request.model_copy(update={"outputs": outputs}))
