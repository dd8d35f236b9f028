"""The run requests of the service: a queue in the store, from which this replica takes what no other works on.

Touches: the store, media objects (to identify them), threads, the clock.

Data flow: entries of the queue → chosen, fairly between tenants → identified → taken by the loop → ended. The loop
never waits for the store here: it only adds to lists, and a thread records the ends. A request is claimed from its
choice until its end is recorded. Everything can be repeated: whoever takes a request after a crash finds in the store
how far it came.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import MappingProxyType

from chunk_job.errors import DocumentInvalid, JobError
from chunk_job.store.base import Store, StoreDenied
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.keys import RunKeys
from controller.domain.progress import NO_TOTALS, Progress, Totals
from controller.domain.service_documents import ServiceRequest
from controller.domain.service_keys import CANCELS, QUEUE, QueueEntry, RequestKey, parse_cancel, parse_entry
from controller.domain.shares import Share
from controller.errors import EnvironmentProblem, MediaProblem, StenofleetError
from controller.service.choosing import Chooser
from controller.service.queue_counts import QueueCounts
from controller.service.recording import Claimed, OnEnd, Recorder
from controller.service.replicas import Replicas
from controller.service.requests import RequestStore

POLL_S = 1.0
IDLE_S = 3.0
"""The pause between two polls while nothing is queued: every listing of a bucket costs money."""
_REST = 4.0
"""The least pause, in times of what the last look into the queue took: under load, something wakes it all the time."""
_AHEAD = 8
"""Requests that are identified and wait for the loop."""
_ENDING_S = 0.5
"""How long one look ends requests that were cancelled before they began: a tenant may cancel thousands at once."""
_MOST_UNREADABLE = 1_000

_LOG = logging.getLogger(__name__)

MakeRunRequest = Callable[[ServiceRequest, int, Share], RunRequest]
"""Identifies the recording of a request. Arguments: the request, its number of retries, its share."""
ShareOf = Callable[[ServiceRequest], Share]


class ServiceQueue:
    """The requests that the loop of this replica works on."""

    def __init__(
        self,
        store: Store,
        *,
        replicas: Replicas,
        make: MakeRunRequest,
        share_of: ShareOf,
        on_end: OnEnd,
        max_parallel: int,
        now_ms: Callable[[], int],
    ) -> None:
        """*on_end* is called with each recorded end before the request leaves the queue; it may come several times."""
        self._store = store
        self._requests = RequestStore(store)
        self._replicas = replicas
        self._make = make
        self._share_of = share_of
        self._recorder = Recorder(self._requests, on_end, now_ms)
        self._chooser = Chooser(replicas.is_mine, max_parallel=max_parallel)
        self._now_ms = now_ms
        self.counts = QueueCounts()
        self._claimed: dict[str, Claimed] = {}
        """By id."""
        self._by_run: dict[str, str] = {}
        self._ready: deque[tuple[str, RunRequest]] = deque()
        self._unreadable: set[RequestKey] = set()
        """Requests that were reported as not readable."""
        self._changed = threading.Condition()
        """Protects all fields above: the loop and the threads share them."""
        self._closed = False
        self._unfinished = False
        """Whether the last look left some of the requests that were cancelled to the next one."""
        self._woken = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=2, thread_name_prefix="identify")
        self._thread = threading.Thread(target=self._keep, name="queue", daemon=True)

    # ------------------------------------------------------------ for the loop

    taken: Mapping[str, object] = MappingProxyType({})

    def take(self, most: int) -> Sequence[RunRequest]:
        """Return up to *most* requests whose recordings are identified."""
        with self._changed:
            taken = [self._ready.popleft()[1] for _ in range(min(most, len(self._ready)))]
        if taken:
            self._woken.set()
        return taken

    def wait(self, seconds: float) -> None:
        """Wait until another request is identified, at most *seconds*."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._closed, timeout=seconds)

    def unknown(self) -> Sequence[Progress]:
        """Return nothing: requests are never given up together."""
        return ()

    def progress(self) -> tuple[Sequence[Progress], Totals]:
        """Return nothing: requests that wait have no progress."""
        return (), NO_TOTALS

    @property
    def exhausted(self) -> bool:
        """Whether no request will come any more."""
        return self._closed

    def ended(self, outcome: RunOutcome) -> None:
        """Record the end of a run."""
        if claimed := self._of_run(outcome.run):
            self._recorder.ended(claimed, outcome)
            self._woken.set()

    def message(self, run: str, text: str) -> None:
        """Record an event of a run for people."""
        if claimed := self._of_run(run):
            self._recorder.message(claimed, text)

    def _of_run(self, run: str) -> Claimed | None:
        with self._changed:
            return self._claimed.get(self._by_run.get(run, ""))

    # ------------------------------------------------------------ for the API

    def accepted(self, prefix: str) -> None:
        """Look into the queue now: a request of this tenant was put into it."""
        self.counts.accepted(prefix)
        self._woken.set()

    def wake(self) -> None:
        """Look into the queue now: a request is to be cancelled."""
        self._woken.set()

    # ------------------------------------------------------------ the thread

    def start(self) -> None:
        """Poll the queue in a thread, until :meth:`close`."""
        self._thread.start()

    def close(self, *, timeout_s: float = 5.0) -> None:
        """Record what has ended, and stop. Other replicas take the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._woken.set()
        self._thread.join(timeout=timeout_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _keep(self) -> None:
        look_s = least_s = 0.0
        while not self._closed:
            self._try(self._record)
            if (began_s := time.monotonic()) >= look_s:
                self._try(self._look)
                look_s = (now_s := time.monotonic()) + (POLL_S if self.counts.by_tenant else IDLE_S)
                least_s = now_s + _REST * (now_s - began_s)
                if self._unfinished:
                    look_s = now_s
            if self._woken.wait(max(0.0, look_s - time.monotonic())):
                self._woken.clear()
                look_s = min(look_s, least_s)
        self._try(self._record)

    def _record(self) -> None:
        self._recorder.record(self._recorded)

    def _try(self, do: Callable[[], None]) -> None:
        try:
            do()
        except JobError as error:
            _LOG.warning("the queue cannot be read: %s", error.summary)
        except Exception:  # noqa: BLE001 (without this thread the service does nothing)
            _LOG.exception("the queue cannot be read")

    def poll(self) -> None:
        """Record ends and events, and choose requests. Raises what the store raises."""
        self._record()
        self._look()

    def _look(self) -> None:
        self._unfinished = False
        self.counts.begin()
        entries = [entry for item in self._store.list(QUEUE) if (entry := parse_entry(item.key))]
        with self._changed:
            claimed = frozenset(self._claimed)
        self.counts.listed(entries, claimed)
        elsewhere = self._replicas.elsewhere()
        taken = elsewhere | claimed
        free = [entry for entry in entries if entry.request.id not in taken]
        cancelled = self._cancel({entry.request for entry in free}, elsewhere)
        for entry in self._chosen([entry for entry in free if entry.request not in cancelled]):
            with self._skipping_unreadable(entry.request):
                self._begin(entry)
        self._publish()

    def _chosen(self, free: Sequence[QueueEntry]) -> list[QueueEntry]:
        with self._changed:
            claimed = Counter(one.key.prefix for one in self._claimed.values())
            room = _AHEAD - len(self._ready) - sum(1 for one in self._claimed.values() if not one.run)
        return self._chooser.chosen(free, claimed, room, now_s=time.monotonic())

    @contextlib.contextmanager
    def _skipping_unreadable(self, key: RequestKey) -> Iterator[None]:
        """Leave a request whose objects cannot be read: a later version may have written them. The others continue."""
        try:
            yield
        except DocumentInvalid as error:
            if key not in self._unreadable and len(self._unreadable) < _MOST_UNREADABLE:
                self._unreadable.add(key)
                _LOG.error("request %s is left in the queue: %s", key.id, error.summary)

    def _begin(self, entry: QueueEntry) -> None:
        """Claim a request and identify its recording, or finish what another replica began to record."""
        request = self._requests.request(entry.request)
        if request is None:
            # An entry without a request: it was deleted by a person, or while it was tried again.
            self._requests.remove_left(entry)
            return
        if (request.priority, request.created_ms) != (entry.priority, entry.created_ms):
            self._requests.remove_duplicate(entry)
            return
        retries = self._requests.retries(entry.request)
        if entry.retries != retries:
            # Of an earlier try: written by a process that was suspended.
            self._store.delete(entry.key)
            return
        if end := self._requests.ended(entry.request, retries):
            self._recorder.finish(request, end)
            return
        claimed = Claimed(key=entry.request, request=request, retries=retries)
        with self._changed:
            self._claimed[request.id] = claimed
        self._pool.submit(self._identify, claimed)

    def _identify(self, claimed: Claimed) -> None:
        request = claimed.request
        try:
            run_request = self._make(request, claimed.retries, self._share_of(request))
            self._started(claimed, run_request)
        except MediaProblem as error:
            # That the service may not read it is not the recording's fault.
            self._refuse(claimed, error, environment=isinstance(error.__cause__, StoreDenied))
        except (JobError, EnvironmentProblem) as error:
            _LOG.warning("request %s: cannot be identified now: %s", request.id, error.summary)
            self._later(claimed, error)
        except Exception as error:  # noqa: BLE001 (a bug that one request meets ends only that request)
            _LOG.exception("request %s: cannot be identified", request.id)
            problem = StenofleetError(f"a bug: {type(error).__name__}", "please report it with the service's log")
            self._refuse(claimed, problem, environment=True)

    def _started(self, claimed: Claimed, run_request: RunRequest) -> None:
        run = run_request.record.run
        now_ms, retries = self._now_ms(), claimed.retries
        self._requests.put_state(claimed.request, "running", retries=retries, run=run, now_ms=now_ms)
        self._requests.events.add(
            claimed.key, "started", "started", retries=retries, now_ms=now_ms, status="running", run=run
        )
        with self._changed:
            claimed.run = run
            self._by_run[run] = claimed.request.id
            self._ready.append((claimed.request.id, run_request))
            self._changed.notify_all()

    def _refuse(self, claimed: Claimed, error: StenofleetError, *, environment: bool) -> None:
        outcome = RunOutcome(
            run="",
            name=claimed.request.name,
            verdict="failed",
            summary=error.summary,
            advice=error.advice,
            environment=environment,
        )
        self._recorder.ended(claimed, outcome)
        self._woken.set()

    def _later(self, claimed: Claimed, error: JobError | EnvironmentProblem) -> None:
        """Identify the recording again after a pause. Until then the request counts for nothing."""
        if self._chooser.postpone(claimed.request.id, now_s=time.monotonic()):
            with self._changed:
                self._claimed.pop(claimed.request.id, None)
        else:
            self._refuse(claimed, StenofleetError(error.summary, error.advice), environment=True)

    def _cancel(self, free: Collection[RequestKey], elsewhere: Collection[str]) -> Collection[RequestKey]:
        """Cancel the runs of this replica's requests, and end requests without a worker, as clients asked.

        Returns which of the *free* ones have ended, or end in the next look: it continues then.
        """
        ended: set[RequestKey] = set()
        until_s = time.monotonic() + _ENDING_S
        for item in self._store.list(CANCELS):
            named = parse_cancel(item.key)
            if named is None or named[0].id in elsewhere:
                continue
            key, retries = named
            with self._changed:
                claimed = self._claimed.get(key.id)
            if claimed and claimed.retries == retries:
                # Again at every poll: a run that is opened now drops the cancel of its last round.
                if claimed.run and self._store.stat(cancel := RunKeys(claimed.run).cancel) is None:
                    self._store.put(cancel, b"")
            elif self._replicas.is_mine(key.id):
                if key in free and ended and time.monotonic() > until_s:
                    self._unfinished = True
                    ended.add(key)
                    continue
                with self._skipping_unreadable(key):
                    if key in free and self._end_waiting(key, retries):
                        ended.add(key)
                    self._requests.drop_old_cancel(key, retries)
        return ended

    def _end_waiting(self, key: RequestKey, retries: int) -> bool:
        """End a request that nobody works on. Returns False if it has begun."""
        found = self._requests.find(key)
        # One that is running was given up by a replica just now: its run is cancelled when it was taken.
        if found is None or found.status != "queued" or found.retries != retries:
            return False
        request = found.request
        outcome = RunOutcome(run="", name=request.name, verdict="cancelled", summary="cancelled before it began")
        end = self._requests.end(request, found.retries, outcome, now_ms=self._now_ms())
        self._recorder.finish(request, end)
        return True

    def _recorded(self, request_id: str) -> None:
        with self._changed:
            claimed = self._claimed.pop(request_id, None)
            if claimed and claimed.run:
                self._by_run.pop(claimed.run, None)

    def _publish(self) -> None:
        with self._changed:
            self._replicas.claim(self._claimed, self._by_run)
