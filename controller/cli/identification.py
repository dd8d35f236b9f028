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
from controller.domain.output import Output
from controller.domain.progress import Progress, Totals, progress, totals_of_waiting
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
        self._unknown = sum((totals_of_waiting(one.size_bytes) for one in found.values()), Totals())
        """Of all that were not taken, kept: there may be ten thousand, and every tick asks for it."""
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        """Protects all fields above: the loop and the thread share them."""
        self.refused: list[RunOutcome] = []
        """Files that are not recordings."""
        self.taken: dict[str, tuple[Output, ...]] = {}
        """The outputs of the runs whose requests were taken; of all requests if a run came several times."""
        self.runs: dict[str, str] = {}
        """The run of each recording whose request was taken, by name."""
        threading.Thread(target=self._identify, args=(list(found),), name="identify", daemon=True).start()

    def take(self, most: int) -> Sequence[RunRequest]:
        """Return up to *most* identified requests. Raises an unexpected error of the thread."""
        with self._changed:
            if self._error is not None:
                raise self._error
            taken = [self._ready.popleft() for _ in range(min(most, len(self._ready)))]
            for name, _ in taken:
                self._drop(name)
        for name, run_request in taken:
            self.runs[name] = run_request.record.run
            outputs = self.taken.get(run_request.record.run, ()) + run_request.request.outputs
            self.taken[run_request.record.run] = outputs
            if self._keep and not self._keep(with_outputs(run_request, outputs)):
                self._keep = None
        return [run_request for _, run_request in taken]

    def wait(self, seconds: float) -> None:
        """Wait until another recording is identified, at most *seconds*."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._error or not self._found, timeout=seconds)

    def unknown(self) -> Sequence[Progress]:
        """Return the progress of the recordings whose requests were not taken yet."""
        with self._changed:
            return [self._progress(name) for name in self._found]

    def progress(self) -> tuple[Sequence[Progress], Totals]:
        """Return the progress of the recording that is being read, and the totals of the others."""
        with self._changed:
            if self._reading not in self._found:
                return (), self._unknown
            return [self._progress(self._reading)], self._unknown - self._size(self._reading)

    def _size(self, name: str) -> Totals:
        return totals_of_waiting(self._found[name].size_bytes)

    def _progress(self, name: str) -> Progress:
        return progress(
            None,
            name=name.rpartition("/")[2],
            run="",
            size_bytes=self._found[name].size_bytes,
            seen="identifying" if name == self._reading else "waiting",
            floor=0.0,
        )

    @property
    def exhausted(self) -> bool:
        """Whether all requests were taken; files that are not recordings do not count."""
        with self._changed:
            return not self._found and self._error is None

    def _drop(self, name: str) -> None:
        self._unknown -= self._size(name)
        del self._found[name]
        self._changed.notify_all()

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
            self._reading = name
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
            self._reading = ""
            self._changed.notify_all()


def with_outputs(run_request: RunRequest, outputs: tuple[Output, ...]) -> RunRequest:
    """Return the request of a run with the outputs of all its requests (equal content and options, other names)."""
    if outputs == run_request.request.outputs:
        return run_request
    return replace(run_request, request=run_request.request.model_copy(update={"outputs": outputs}))
