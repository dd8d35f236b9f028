"""Controllers, a cluster and a store in simulated time: the real loop, one thread for each controller.

Only one thread works at a time, until it sleeps; so the same disturbances always happen at the same moments.
The invariants (``rules``) are checked meanwhile.
"""

import contextlib
import heapq
import itertools
import os
import socket
import threading
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
from urllib3.exceptions import HTTPError

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.interfaces import RunOutcome, RunRequest, Stopped
from controller.domain.policy import RetryPolicy
from controller.errors import EnvironmentProblem, Interrupted
from controller.leadership import clock as lease_clock
from controller.leadership import kubernetes_lease as lease
from controller.leadership.kubernetes_lease import KubernetesLeases
from controller.orchestrator import loop
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.slots import InOrder
from controller.runners.kubernetes import exit_causes
from controller.runners.kubernetes import runner as runner_module
from controller.runners.kubernetes.exit_causes import EndCauses
from controller.runners.kubernetes.labels import lease_name
from tests import fakes
from tests.kube import cases
from tests.kube.invariants import Invariants
from tests.kube.kubelet import Kubelet, Life
from tests.kube.programs import Programs
from tests.kube.server import FakeApi, Server
from tests.kube.wire import Refusal, Request, no_answer
from tests.leading import cluster_runner

RUN = fakes.RUN
POLICY = RetryPolicy(
    max_attempts=20,
    max_disruptions=100,
    breaker=0,
    deadline_base_ms=120_000,
    deadline_factor=0,
    intake_deadline_ms=120_000,
    store_patience_ms=3_600_000,
)
_STEP_S = 0.5
_LONGEST_S = 3_000.0
_KILL = 9


class Controller:
    """One process that runs the loop over the run, until it ends or is killed."""

    def __init__(self, world: "World", name: str) -> None:
        self.world = world
        self.name = name
        self.reporter = fakes.Recorder()
        self.ended: list[RunOutcome] = []
        self.problem = ""
        self.crash: BaseException | None = None
        self.over = False
        self.ended_s = 0.0
        self.killed = False
        self.asleep_until_s = 0.0
        self.freezes_s = 0.0
        """Seconds that it sleeps once in the middle of its work, directly after a read."""
        self.asked_to_stop: int | None = None
        self.turn = _taken_lock()
        here = fakes.FakeRunner(world.store, fakes.FakeClock())
        self.runner = cluster_runner(FakeApi(world.server, sender=name), cases.OPTIONS, here=here)
        self.thread = threading.Thread(target=self._main, name=name, daemon=True)
        self.thread.start()

    @property
    def leases(self) -> KubernetesLeases:
        leases = self.runner._leases
        assert isinstance(leases, KubernetesLeases)
        return leases

    # The interface of a clock.

    def now_ms(self) -> int:
        return cases.now_ms(self.world)

    def signal(self) -> int | None:
        return self.asked_to_stop

    def rest(self, wait: Callable[[], None]) -> None:
        wait()

    def _main(self) -> None:
        self.turn.acquire()
        record = fakes.record()
        request = fakes.request(record)
        request = request.model_copy(update={"source": request.source.model_copy(update={"uri": "s3://in/talk.mp4"})})
        try:
            self.ended = loop.run_loop(
                KnownRequests([RunRequest(record=record, request=request)]),
                store=_Connection(self),
                runner=self.runner,
                policy=POLICY,
                slots=InOrder(2),
                reporter=self.reporter,
                clock=self,
            )
        except (Interrupted, EnvironmentProblem) as ended:
            self.problem = str(ended)
        except BaseException as error:  # noqa: BLE001 - the test raises it
            self.crash = error
        finally:
            self.over, self.ended_s = True, self.world.s
            self.world.baton.release()


class _Connection(FileStore):
    """The store of one process: a killed process puts nothing any more."""

    remote = True

    def __init__(self, controller: Controller) -> None:
        super().__init__(controller.world.folder)
        self._controller = controller

    def put(self, key: str, data: bytes) -> None:
        self._check()
        super().put(key, data)

    def delete(self, key: str) -> None:
        self._check()
        super().delete(key)

    def _check(self) -> None:
        if self._controller.killed:
            raise StoreUnavailable("this process is dead", "")


class World:
    """Everything, and the time."""

    def __init__(self, folder: Path, fates: Mapping[tuple[int | None, int], Life] | None = None) -> None:
        """*fates* by span and attempt; every other job succeeds."""
        self.s = 0.0
        self.folder = folder
        self.store = FileStore(folder)
        self.server = Server(self)
        self.rules = Invariants(self.server)
        self.programs = Programs(self.store, fates or {}, committed=self.rules.commit)
        self.kubelet = Kubelet(self.server, life=self.programs.life, works=self.programs.work)
        self.controllers: list[Controller] = []
        self.baton = _taken_lock()
        self.disturb: Callable[[Request], None] = lambda request: None
        """Called with every request, before it is done; may raise an error for it."""
        self.disturb_answer: Callable[[Request], None] = lambda request: None
        """Called with every request that was done; raises when its answer is lost."""
        self.failed_s: set[float] = set()
        """When requests failed."""
        self._queue: list[tuple[float, int, Controller | Callable[[], None]]] = []
        self._order = itertools.count()
        self._turn: Controller | None = None
        self.server.before = self._before
        self.server.after = self._after
        self.every(_STEP_S, self._tick)
        self.every(lease.RENEW_S, self._renew)

    # ---------------------------------------------------------------- operations of a test

    def start(self) -> Controller:
        """Start another controller."""
        one = Controller(self, f"controller-{len(self.controllers) + 1}")
        self.controllers.append(one)
        self._later(self.s, one)
        return one

    def at(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it at that time."""
        self._later(seconds, do)

    def every(self, seconds: float, do: Callable[[], None]) -> None:
        """Do it again and again."""

        def again() -> None:
            do()
            self._later(self.s + seconds, again)

        self._later(self.s + seconds, again)

    def alive(self) -> list[Controller]:
        return [one for one in self.controllers if not one.over]

    def kill(self, one: Controller) -> None:
        """End it as ``kill -9`` does: it has no effect any more."""
        one.killed = True
        self._later(self.s, one)

    def run(self, until_s: float = _LONGEST_S) -> None:
        """Let time pass until no controller works, or until *until_s*."""
        while self.alive() and self._queue and self._queue[0][0] <= until_s:
            self._step()

    def let_pass(self, seconds: float) -> None:
        """Let the time pass, whether or not a controller works."""
        end_s = self.s + seconds
        while self._queue and self._queue[0][0] <= end_s:
            self._step()

    def sleep(self, seconds: float) -> None:
        """Let the current controller sleep."""
        me = self._turn
        assert me, "only controllers sleep"
        self._later(self.s + max(seconds, 0.0), me)
        self.baton.release()
        me.turn.acquire()
        if me.killed:
            raise Stopped(_KILL)

    def close(self) -> None:
        """End all threads."""
        for one in self.alive():
            self.kill(one)
        while self.alive():
            self._step()
        for one in self.controllers:
            one.leases._over.set()

    # ---------------------------------------------------------------- time

    def _later(self, at_s: float, who: Controller | Callable[[], None]) -> None:
        heapq.heappush(self._queue, (at_s, next(self._order), who))

    def _step(self) -> None:
        at_s, _, who = heapq.heappop(self._queue)
        self.s = max(self.s, at_s)
        if not isinstance(who, Controller):
            who()
        elif who.asleep_until_s > self.s and not who.killed:
            self._later(who.asleep_until_s, who)
        elif not who.over:
            self._turn = who
            who.turn.release()
            self.baton.acquire()
            self._turn = None
            if who.crash:
                raise who.crash

    def _tick(self) -> None:
        self.kubelet.tick()
        self.rules.doubt_nodes()

    def _renew(self) -> None:
        for one in self.alive():
            if not one.killed and one.asleep_until_s <= self.s:
                with contextlib.suppress(Exception):
                    one.leases._renew_all()

    # ---------------------------------------------------------------- requests

    def _before(self, request: Request) -> None:
        sender = self._sender(request)
        if sender.killed:
            raise no_answer()
        with self._failing():
            self.disturb(request)
        self.rules.check_lease(request, lease_name(RUN), sender.leases._identity)

    def _after(self, request: Request) -> None:
        if (request.verb, request.kind) == ("create", "jobs"):
            self.rules.check_created(request.body)
        with self._failing():
            self.disturb_answer(request)
        sender = self._sender(request)
        # Not directly after or before a change: no code can prevent a change after a Lease that ran out meanwhile.
        if sender.freezes_s and sender.thread is threading.current_thread() and request.method == "GET":
            sender.asleep_until_s, sender.freezes_s = self.s + sender.freezes_s, 0.0
            self.sleep(0)

    def _sender(self, request: Request) -> Controller:
        return next(one for one in self.controllers if one.name == request.sender)

    @contextlib.contextmanager
    def _failing(self) -> Iterator[None]:
        try:
            yield
        except (HTTPError, Refusal):
            self.failed_s.add(self.s)
            raise


@contextlib.contextmanager
def world(folder: Path, fates: Mapping[tuple[int | None, int], Life] | None = None) -> Iterator[World]:
    """A world whose time is also that of the cluster runner."""
    with pytest.MonkeyPatch.context() as patch:
        here = World(folder, fates)
        clock = types.SimpleNamespace(
            sleep=here.sleep, monotonic=lambda: here.s, time_ns=lambda: cases.now_ms(here) * 1_000_000
        )
        patch.setattr(runner_module, "time", clock)
        patch.setattr(lease_clock, "now_s", lambda: here.s)
        patch.setattr(lease.KubernetesLeases, "_keep", lambda _: None)  # the world renews them, in its time
        patch.setattr(socket, "gethostname", lambda: "here")
        patch.setattr(os, "fsync", lambda _: None)
        # Ends are read by the loop's own thread: otherwise the order of requests would be random.
        patch.setattr(exit_causes, "_READERS", 0)
        patch.setattr(EndCauses, "wait", _read_here)
        try:
            yield here
        finally:
            here.close()


def _taken_lock() -> threading.Lock:
    """A lock that one thread waits for and another releases; much faster than a semaphore."""
    lock = threading.Lock()
    lock.acquire()
    return lock


def _read_here(ends: EndCauses) -> None:
    ends._begun.clear()
    ends._waiting.put(None)
    ends._work()
