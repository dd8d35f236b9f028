"""A running service for tests: its real threads, queue, loop and HTTP application over a real store.

Only jobs are simulated.
"""

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

from chunk_job.contract import TranscribeOptions
from chunk_job.store.base import Store
from controller.domain.interfaces import Clock, Leadership, Runner
from controller.domain.jobs import Job
from controller.domain.plan import PlanOptions
from controller.domain.policy import RetryPolicy
from controller.domain.service_documents import PART_BYTES
from controller.errors import Interrupted
from controller.service.identity import Identity
from controller.service.inbox.places import NO_INBOX, InboxSettings
from controller.service.serving import Access, Server, Settings
from controller.service.signatures import WebhookKeys
from controller.service.submissions import Defaults
from controller.service.tenants import Tenants
from controller.service.tokens import digest_of
from tests.fakes import FakeRunner, JobBehaviour, Script, SimulatedJob
from tests.pipeline import until

LOCAL = "http://127.0.0.1"
DEFAULTS = Defaults(
    options=TranscribeOptions(model="tiny"),
    plan=PlanOptions(),
    models={"tiny": "tiny", "small": "small"},
    temperature_step=0.2,
    auto_chunks=False,
    device="cpu",
    jobs=2,
    cluster=False,
)


class LiveClock:
    """The real time, and a signal that a test sends."""

    def __init__(self) -> None:
        self._asked: Future[int] = Future()
        self._waiting = ThreadPoolExecutor(max_workers=1, thread_name_prefix="clock")

    @property
    def asked_to_stop(self) -> int | None:
        return self._asked.result() if self._asked.done() else None

    @asked_to_stop.setter
    def asked_to_stop(self, number: int) -> None:
        if not self._asked.done():
            self._asked.set_result(number)

    @property
    def at_ms(self) -> int:
        return self.now_ms()

    @at_ms.setter
    def at_ms(self, _: int) -> None:
        """The time goes on by itself."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def signal(self) -> int | None:
        return self.asked_to_stop

    def rest(self, wait: Callable[[], None]) -> None:
        """Call *wait*; the signal ends it, as with the clock of the command line."""
        waiting = self._waiting.submit(wait)
        either: tuple[Future[Any], ...] = (waiting, self._asked)
        futures.wait(either, return_when=futures.FIRST_COMPLETED)
        if waiting.done():
            waiting.result()


class LiveRunner(FakeRunner):
    """Simulated jobs in real time."""

    tick_s = 0.02

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)
        self.on_wait(self.waits)


class LedRunner(LiveRunner):
    """Simulated jobs of one of several replicas, which end with its process. The real leadership decides who has a run.

    It keeps nothing of jobs that were deleted.
    """

    tick_s = 1.0
    """As on a cluster."""

    def __init__(
        self,
        store: Store,
        clock: LiveClock,
        leadership: Leadership,
        *,
        takes_ms: int,
        chunks: int,
        started: Callable[[Job], None],
    ) -> None:
        """*started* is called with each job at its start."""
        super().__init__(store, clock, quick(takes_ms), chunks_ms=(10_000,) * chunks)  # type: ignore[arg-type]
        self.leadership = leadership  # type: ignore[assignment]
        self._started = started
        self._numbers = itertools.count()

    def submit(self, job: Job) -> None:
        self._started(job)
        task = self.store.get(job.task_key) if self.store.stat(job.task_key) else b""
        name = f"{job.run} {next(self._numbers)}"
        self._jobs[name] = SimulatedJob(job=job, behaviour=self.script(job), since_ms=self.clock.now_ms(), task=task)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def release(self, run: str) -> None:
        self.abandon(run)


@dataclass(kw_only=True)
class Running:
    """One replica."""

    server: Server
    runner: LiveRunner
    clock: LiveClock
    client: TestClient
    store: Store

    @property
    def address(self) -> str:
        """Where its real HTTP server listens."""
        return f"http://127.0.0.1:{self.server.port}"

    def wait_for(self, run_id: str, *statuses: str, **headers: str) -> dict[str, Any]:
        """The run, as soon as it has one of these states."""
        wanted = statuses or ("complete", "partial", "failed", "cancelled")
        found: dict[str, Any] = {}

        def has_status() -> bool:
            nonlocal found
            found = self.client.get(f"/v1/runs/{run_id}", headers=headers).json()
            return found["status"] in wanted

        until(has_status, f"{run_id} is {' or '.join(wanted)}")
        return found

    def end_jobs(self) -> None:
        """The jobs that run end now, and later ones soon."""
        self.runner.script = quick()
        for played in list(self.runner._jobs.values()):
            played.behaviour = replace(played.behaviour, takes_ms=0)

    def wait_until_gone(self, prefix: str) -> None:
        """Wait until the store has nothing under *prefix*. The end of a run is visible before its upload is deleted."""
        until(lambda: not list(self.store.list(prefix)), f"nothing is left in {prefix}")

    def submit(self, name: str = "a.wav", *, headers: dict[str, str] | None = None, **request: Any) -> dict[str, Any]:
        """Submit a recording in a form."""
        reply = self.client.post(
            "/v1/runs", files={"file": (name, b"sound")}, data={"request": json.dumps(request)}, headers=headers or {}
        )
        assert reply.status_code == 202, reply.text
        found: dict[str, Any] = reply.json()
        return found


def server_of(
    store: Store,
    runner: Runner,
    clock: Clock,
    *,
    port: int = 0,
    tenants: Path | None = None,
    webhook_keys: Path | None = None,
    max_parallel: int = 2,
    most_form_bytes: int = 1 << 20,
    part_bytes: int = PART_BYTES,
    upload_endpoint: str = "",
    inbox: InboxSettings = NO_INBOX,
) -> Server:
    """A replica with this runner, which does not run yet."""
    who = Tenants(tenants)
    return Server(
        Settings(
            host="127.0.0.1",
            port=port,
            metrics_port=0,
            max_parallel=max_parallel,
            most_form_bytes=most_form_bytes,
            shutdown_grace_s=1,
            defaults=DEFAULTS,
            part_bytes=part_bytes,
            upload_endpoint=upload_endpoint,
            inbox=inbox,
        ),
        Access(tenants=who, identity=Identity(who), keys=WebhookKeys(webhook_keys)),
        store=store,
        runner=runner,
        policy=RetryPolicy(backoff_ms=0, store_patience_ms=10**9),
        clock=clock,
    )


@contextlib.contextmanager
def running(
    store: Store,
    *,
    script: Script | None = None,
    tenants: Path | None = None,
    webhook_keys: Path | None = None,
    max_parallel: int = 2,
    takes_ms: int = 20,
    chunks_ms: tuple[int, ...] = (10_000,),
    most_form_bytes: int = 1 << 20,
    part_bytes: int = PART_BYTES,
    upload_endpoint: str = "",
    inbox: InboxSettings = NO_INBOX,
    port: int = 0,
) -> Iterator[Running]:
    """A replica that serves *store* until the end of the context."""
    clock = LiveClock()
    runner = LiveRunner(store, clock, script or quick(takes_ms), chunks_ms=chunks_ms)  # type: ignore[arg-type]
    server = server_of(
        store,
        runner,
        clock,
        tenants=tenants,
        webhook_keys=webhook_keys,
        max_parallel=max_parallel,
        most_form_bytes=most_form_bytes,
        part_bytes=part_bytes,
        upload_endpoint=upload_endpoint,
        inbox=inbox,
        port=port,
    )
    errors: list[BaseException] = []

    def work() -> None:
        try:
            server.run()
        except Interrupted:
            pass
        except BaseException as error:  # noqa: BLE001 (raised again by the test)
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        while not server.port and thread.is_alive():
            time.sleep(0.01)
        with TestClient(server.app, base_url=LOCAL, client=("127.0.0.1", 1)) as client:
            yield Running(server=server, runner=runner, clock=clock, client=client, store=store)
    finally:
        clock.asked_to_stop = 15
        thread.join(timeout=20)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


def quick(takes_ms: int = 20) -> Script:
    """Jobs that succeed after *takes_ms*."""
    return lambda _: JobBehaviour(leaves="result", takes_ms=takes_ms)


def tenants_file(folder: Path, **tables: str) -> tuple[Path, dict[str, dict[str, str]]]:
    """A tenants file with a token for each tenant; *tables*: more lines of each. Returns the headers of each tenant."""
    text, headers = "", {}
    for name, lines in tables.items():
        token = f"stf_{name}_token"
        text += f'[tenants.{name}]\ntokens = ["sha256:{digest_of(token).hex()}"]\n{lines}\n'
        headers[name] = {"Authorization": f"Bearer {token}"}
    path = folder / "tenants.toml"
    path.write_text(text)
    return path, headers
