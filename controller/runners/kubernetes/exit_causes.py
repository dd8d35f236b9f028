"""Reads why Jobs ended: the events and the log's end of several Jobs at a time, for a bounded time a tick.

Touches: Kubernetes (through ``kube``), a few threads that only read. A log is asked of the pod's node, and a dead node
makes each of its pods wait for the time-out: one after the other, in the loop, that would stop all other runs.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Collection
from dataclasses import dataclass, field, replace

from controller.domain.failures import Diagnosis
from controller.errors import ClusterUnavailable
from controller.runners.kubernetes import pod_status
from controller.runners.kubernetes.api import Api, Reply
from controller.runners.kubernetes.exit_diagnosis import from_cluster
from controller.runners.kubernetes.labels import CONTAINER
from controller.runners.kubernetes.pod_status import Document

_READERS = 8
"""Jobs that are read at the same time; ``kube`` keeps connections for as many."""

_WAIT_S = 1.0
"""How long one tick waits for what it began to read: nearly every answer comes within this."""

_TRIES = 3
"""After so many the rest counts as not there: the pod's own status holds the job's termination message."""

_LOG_LINES = 60


@dataclass(kw_only=True)
class _Read:
    """What is known of one end. While it is *busy*, only the thread that reads it changes it."""

    name: str
    pod: Document | None
    events: list[Document] | None = None
    log: list[str] | None = None
    tries: int = 0
    busy: bool = False
    diagnosis: Diagnosis | None = None
    error: Exception | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more will be read."""
        return not self.busy and (self.tries >= _TRIES or (self.events is not None and self.log is not None))


@dataclass
class EndCauses:
    """Why Jobs ended without a result, by their uids. Each is read once, and kept until it is forgotten."""

    api: Api
    _reads: dict[str, _Read] = field(default_factory=dict)
    _begun: list[_Read] = field(default_factory=list)
    _waiting: queue.SimpleQueue[_Read | None] = field(default_factory=queue.SimpleQueue)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _readers: list[threading.Thread] = field(default_factory=list)

    def begin(self, uid: str, name: str, pod: Document | None) -> None:
        """Have the end of the Job *name* read, unless it is being read or has been."""
        with self._changed:
            read = self._reads.setdefault(uid, _Read(name=name, pod=pod))
            if read.busy or read.over:
                return
            read.pod = pod
            if pod_status.container_state(pod, "terminated").get("exitCode") == 0:
                # Whether there is a result only the store knows: no event and no log adds to that.
                read.events, read.log = [], []
                return
            read.busy = True
        self._begun.append(read)
        if len(self._readers) < _READERS:
            # Daemons: a command that ends does not wait for a node that is silent.
            self._readers.append(threading.Thread(target=self._work, name="end-causes", daemon=True))
            self._readers[-1].start()
        self._waiting.put(read)

    def wait(self) -> None:
        """Wait, for a bounded time, for what was begun since the last wait; the rest is there at a later tick."""
        begun, self._begun = self._begun, []
        with self._changed:
            self._changed.wait_for(lambda: not any(read.busy for read in begun), timeout=_WAIT_S)

    def of(self, uid: str, document: Document, pod: Document | None) -> Diagnosis | None:
        """Why the Job ended; None while that is being read. *document* and *pod* are as last seen.

        Raises what a reading thread met and nobody foresaw.
        """
        with self._changed:
            read = self._reads[uid]
            error, read.error = read.error, None
            if error is not None:
                raise error
            if not read.over:
                return None
        if read.diagnosis is None:
            why = from_cluster(document, pod, read.events or [], read.log or [])
            read.diagnosis = replace(why, node=pod_status.node(pod))
        return read.diagnosis

    def drop(self, known: Collection[str]) -> None:
        """Drop all but those of the uids *known*."""
        self._reads = {uid: read for uid, read in self._reads.items() if uid in known}

    def close(self) -> None:
        """Let the threads end, each after what it reads now."""
        for _ in self._readers:
            self._waiting.put(None)

    def _work(self) -> None:
        while (read := self._waiting.get()) is not None:
            error = None
            try:
                self._read(read)
            except Exception as unknown:  # noqa: BLE001 - kept for the loop, which raises it; the next end is read all the same
                error = unknown
            with self._changed:
                read.error = error
                read.tries += 1
                read.busy = False
                self._changed.notify_all()

    def _read(self, read: _Read) -> None:
        """One try of what is still missing, each for itself: a node that is silent hides no event."""
        if read.events is None:
            read.events = self._events(read.name, read.pod)
        if read.log is None:
            pod = read.pod
            read.log = self.api.log(pod["metadata"]["name"], CONTAINER, lines=_LOG_LINES) if pod else []

    def _events(self, name: str, pod: Document | None) -> list[Document] | None:
        """Of a Job and its pod, by their names: not every event has their uids. None: the server cannot serve now."""
        try:
            of_job = about(self.api, f"involvedObject.kind=Job,involvedObject.name={name}")
            if pod is not None:
                of_pod = about(self.api, f"involvedObject.kind=Pod,involvedObject.name={pod['metadata']['name']}")
            else:
                # A pod that was never seen has its Job's name, and something more.
                found = about(self.api, "involvedObject.kind=Pod")
                of_pod = [event for event in found if is_about(event, name, None)]
        except ClusterUnavailable:
            return None
        return [*of_job, *of_pod]


def about(api: Api, selected: str) -> list[Document]:
    """The events that a field selector selects; none where they may not be read: evidence is welcome, never needed.

    Raises :class:`ClusterUnavailable`.
    """
    try:
        return list(api.find("events", exact=True, fieldSelector=selected)["items"])
    except Reply:
        return []


def is_about(event: Document, job: str, pod: Document | None) -> bool:
    """Whether an event is of the Job *job* or of *pod*: any pod of it, where None was ever seen."""
    about = event["involvedObject"]
    kind, name = about.get("kind"), str(about.get("name", ""))
    if kind == "Pod" and pod is None:
        return name.startswith(f"{job}-")
    return name == (job if kind == "Job" else pod["metadata"]["name"] if kind == "Pod" and pod else None)
