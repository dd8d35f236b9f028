"""Reads why Jobs ended: events and the end of the log, of several Jobs in parallel, for a limited time per tick.

Touches: Kubernetes (through ``api``), a few threads that only read. A log comes from the pod's node. If the node is
dead, each request ends with a time-out. Done one after the other in the loop, this would stop all other runs.
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
"""Jobs that are read in parallel. ``api`` keeps a connection open for each."""

_WAIT_S = 1.0
"""How long one tick waits for the reads that it started. Nearly all replies arrive within this time."""

_TRIES = 3
"""After this many tries, missing parts count as empty. The pod's status still has the job's termination message."""

_LOG_LINES = 60


@dataclass(kw_only=True)
class _Read:
    """The data about the end of one Job. While *busy*, only the thread that reads it changes it."""

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
    """Why Jobs ended without a result, by uid. Each is read once, and kept until :meth:`drop`."""

    api: Api
    _reads: dict[str, _Read] = field(default_factory=dict)
    _begun: list[_Read] = field(default_factory=list)
    _waiting: queue.SimpleQueue[_Read | None] = field(default_factory=queue.SimpleQueue)
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _readers: list[threading.Thread] = field(default_factory=list)

    def begin(self, uid: str, name: str, pod: Document | None) -> None:
        """Start to read why the Job *name* ended, unless this was started or done before."""
        with self._changed:
            read = self._reads.setdefault(uid, _Read(name=name, pod=pod))
            if read.busy or read.over:
                return
            read.pod = pod
            if pod_status.container_state(pod, "terminated").get("exitCode") == 0:
                # Only the store knows whether there is a result: events and log add nothing.
                read.events, read.log = [], []
                return
            read.busy = True
        self._begun.append(read)
        if len(self._readers) < _READERS:
            # Daemon threads: a command that ends does not wait for an unreachable node.
            self._readers.append(threading.Thread(target=self._work, name="end-causes", daemon=True))
            self._readers[-1].start()
        self._waiting.put(read)

    def wait(self) -> None:
        """Wait for a limited time for the reads started since the last wait. The others are ready at a later tick."""
        begun, self._begun = self._begun, []
        with self._changed:
            self._changed.wait_for(lambda: not any(read.busy for read in begun), timeout=_WAIT_S)

    def of(self, uid: str, document: Document, pod: Document | None) -> Diagnosis | None:
        """Why the Job ended; None while this is being read. *document* and *pod*: their last known states.

        Raises unexpected exceptions of the reading threads.
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
        """Drop all except those of the uids *known*."""
        self._reads = {uid: read for uid, read in self._reads.items() if uid in known}

    def close(self) -> None:
        """Stop the threads, each after its current read."""
        for _ in self._readers:
            self._waiting.put(None)

    def _work(self) -> None:
        while (read := self._waiting.get()) is not None:
            error = None
            try:
                self._read(read)
            except Exception as unknown:  # noqa: BLE001 - the loop raises it; this thread continues
                error = unknown
            with self._changed:
                read.error = error
                read.tries += 1
                read.busy = False
                self._changed.notify_all()

    def _read(self, read: _Read) -> None:
        """Try once to read each missing part. They are independent: an unreachable node has no log, but has events."""
        if read.events is None:
            read.events = self._events(read.name, read.pod)
        if read.log is None:
            pod = read.pod
            read.log = self.api.log(pod["metadata"]["name"], CONTAINER, lines=_LOG_LINES) if pod else []

    def _events(self, name: str, pod: Document | None) -> list[Document] | None:
        """Events of a Job and its pod, by name: not every event has a uid. None: the server is unavailable."""
        try:
            of_job = about(self.api, f"involvedObject.kind=Job,involvedObject.name={name}")
            if pod is not None:
                of_pod = about(self.api, f"involvedObject.kind=Pod,involvedObject.name={pod['metadata']['name']}")
            else:
                # The name of an unknown pod is the name of its Job with a suffix.
                found = about(self.api, "involvedObject.kind=Pod")
                of_pod = [event for event in found if is_about(event, name, None)]
        except ClusterUnavailable:
            return None
        return [*of_job, *of_pod]


def about(api: Api, selected: str) -> list[Document]:
    """The events that a field selector selects. Empty without permission to read them: they are optional evidence.

    Raises :class:`ClusterUnavailable`.
    """
    try:
        return list(api.find("events", exact=True, fieldSelector=selected)["items"])
    except Reply:
        return []


def is_about(event: Document, job: str, pod: Document | None) -> bool:
    """Whether an event is about the Job *job* or about *pod*. *pod* None: about any pod of the Job."""
    about = event["involvedObject"]
    kind, name = about.get("kind"), str(about.get("name", ""))
    if kind == "Pod" and pod is None:
        return name.startswith(f"{job}-")
    return name == (job if kind == "Job" else pod["metadata"]["name"] if kind == "Pod" and pod else None)
