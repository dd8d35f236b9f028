"""Runs the service in one process: the loop in the main thread, the HTTP server and the queue in others.

Touches: sockets, threads, the clock, the log.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import uvicorn
from prometheus_client import start_http_server

from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.documents import Report
from controller.domain.interfaces import Clock, Runner, RunRequest
from controller.domain.keys import RunKeys
from controller.domain.policy import RetryPolicy
from controller.domain.progress import NO_TOTALS, Progress, Totals
from controller.domain.service_documents import PART_BYTES, RequestEnd, ServiceRequest
from controller.domain.service_keys import replica_key
from controller.domain.shares import Share
from controller.domain.webhook_documents import run_ended
from controller.errors import UsageProblem
from controller.intake import source
from controller.orchestrator.held_slots import HeldSlots
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import Shared
from controller.reports.cost import NO_PRICES, Prices
from controller.reports.stored_report import StoredReports
from controller.runs.corrected_files import CorrectionStore
from controller.runs.protection import OutputRules
from controller.runs.run_requests import make_run_request
from controller.runs.written_files import WrittenFiles
from controller.service.addresses import CallbackRefused
from controller.service.answers import Answers
from controller.service.app import create_app
from controller.service.connections import Connection, Silent, listening_socket, no_port
from controller.service.context import Service
from controller.service.forms import Receiving
from controller.service.identity import Identity
from controller.service.inbox.delivery import note_end
from controller.service.inbox.noted import Noted
from controller.service.inbox.places import NO_INBOX, InboxSettings, check_no_link
from controller.service.inbox.thread import InboxThread
from controller.service.limits import OpenStreams, RequestRates
from controller.service.metrics import Metrics, RequestMetrics
from controller.service.outbox import Outbox
from controller.service.queue import ServiceQueue
from controller.service.replicas import Replicas
from controller.service.requests import RequestStore
from controller.service.signatures import WebhookKeys
from controller.service.submissions import Defaults
from controller.service.sweeper import Sweeper
from controller.service.tenants import Tenants
from controller.service.upload_completion import Completions
from controller.service.uploads import UploadStore
from controller.service.webhooks import Deliverer, WebhookThread

ANSWER_WITHIN_S = 55.0
"""Below the minute after which many proxies end a request."""
SWITCH_S = 0.0005
"""A thread that waits for the interpreter gets it after this time. Each answer needs it several times, for instance
after each call of the system, and Python's own 5 ms would be added to each while another thread computes."""
_STUCK_S = 120.0
"""A loop that has not ticked for this time hangs. Opening a large run and a merge take seconds."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What an operator sets for one replica."""

    host: str
    port: int
    metrics_port: int
    """0: none."""
    max_parallel: int
    """Of all replicas together."""
    most_form_bytes: int
    shutdown_grace_s: int
    defaults: Defaults
    part_bytes: int = PART_BYTES
    """Length of the parts of uploads."""
    upload_endpoint: str = ""
    """Where clients reach the server of the store; empty: where this process does."""
    inbox: InboxSettings = NO_INBOX
    prices: Prices = NO_PRICES
    has_api: bool = True
    """Whether it answers HTTP requests."""


@dataclass(frozen=True, kw_only=True)
class Access:
    """Who may use the service, and the keys of its webhooks."""

    tenants: Tenants
    identity: Identity
    keys: WebhookKeys


class Server:
    """One replica of the service."""

    def __init__(
        self, settings: Settings, access: Access, *, store: Store, runner: Runner, policy: RetryPolicy, clock: Clock
    ) -> None:
        self._settings, self._access = settings, access
        self._store, self._runner, self._policy, self._clock = store, runner, policy, clock
        self._ticked_s = time.monotonic()
        self._ending = False
        self._http: uvicorn.Server | None = None
        self.port = 0
        """Where it listens, as soon as it does."""
        self._outbox = Outbox(store)
        self._uploads = UploadStore(store)
        self._slots = HeldSlots(settings.max_parallel, now_s=time.monotonic)
        self.replicas = Replicas(store, self._slots, observe=runner.leadership.observe, jobs_stay=runner.jobs_stay)
        self.queue = ServiceQueue(
            store,
            replicas=self.replicas,
            make=self._run_request,
            share_of=self._share,
            on_end=self._ended,
            max_parallel=settings.max_parallel,
            now_ms=clock.now_ms,
        )
        self.metrics = Metrics(
            depths=lambda: self.queue.counts.by_tenant,
            oldest_wait_s=lambda: self.queue.counts.oldest_wait_s(clock.now_ms()),
        )
        deliverer = Deliverer(
            self._outbox, access.keys, self.replicas.is_mine, self._webhook_hosts, observe=self.metrics.webhook
        )
        self._webhooks = WebhookThread(deliverer, clock.now_ms)
        self._answers = Answers(store)
        self._sweeper = Sweeper(self._uploads, self._answers, self.replicas.is_mine, clock.now_ms)
        self.completions = Completions(self._uploads, clock.now_ms)
        self._noted = Noted(settings.inbox, access.tenants)
        service = self._service()
        self._inbox = InboxThread(service, is_mine=self.replicas.is_mine, metrics=self.metrics)
        self.app = create_app(service)
        self.app.add_middleware(RequestMetrics, metrics=self.metrics)

    def run(self) -> None:
        """Serve until a signal comes.

        Raises :class:`~controller.errors.Interrupted` then, :class:`~controller.errors.EnvironmentProblem` if it cannot
        listen, and what the store raises if it cannot be used at the start.
        """
        with contextlib.ExitStack() as closing:
            closing.callback(sys.setswitchinterval, sys.getswitchinterval())
            sys.setswitchinterval(SWITCH_S)
            # Closed in the reverse order: the requests are given back before anything that may take long.
            closing.callback(self._webhooks.stop)
            closing.callback(self._sweeper.close)
            closing.callback(self._inbox.close)
            # A store that cannot be used, for want of a key for instance, is reported before anybody can connect.
            self._store.stat(replica_key(self.replicas.name))
            if self._settings.has_api:
                self._listen(closing)
            self.replicas.renew()
            self.replicas.start()
            closing.callback(self.replicas.close)
            self.queue.start()
            closing.callback(self.queue.close)
            self._webhooks.start()
            self._sweeper.start()
            self._inbox.start()
            closing.callback(self._end)
            run_loop(
                self.queue,
                store=self._store,
                runner=self._runner,
                policy=self._policy,
                slots=Shared(self._slots),
                reporter=self,
                clock=self._clock,
                on_end=self.queue.ended,
                reports=StoredReports(self._store, places=False, prices=self._settings.prices),
            )

    # ------------------------------------------------------------ for the loop

    def event(self, name: str, text: str, *, run: str = "") -> None:
        """Log an event, and record it for the clients of its run."""
        _LOG.info("%s: %s", name, text)
        if run:
            self.queue.message(run, text)

    def show(self, runs: Sequence[Progress], others: Totals = NO_TOTALS) -> None:
        """Note that the loop has ticked."""
        del others
        self._ticked_s = time.monotonic()
        self.metrics.showed(runs)

    # ------------------------------------------------------------ its parts

    def problem(self) -> str:
        """Return why this replica does not work now; empty if it does."""
        if self._ending:
            return "this process ends"
        return "" if time.monotonic() - self._ticked_s < _STUCK_S else "the loop does not continue"

    def _end(self) -> None:
        self._ending = True
        if left := sum(self.queue.counts.by_tenant.values()):
            _LOG.info("ends: runs that any process with the same --store resumes: %d", left)
        if self._http:
            # It answers what it has, while the rest of this process ends.
            self._http.should_exit = True

    def _service(self) -> Service:
        return Service(
            store=self._store,
            requests=RequestStore(self._store),
            uploads=self._uploads,
            corrections=CorrectionStore(self._store),
            answers=self._answers,
            completions=self.completions,
            queue=self.queue,
            identity=self._access.identity,
            rates=RequestRates(),
            streams=OpenStreams(),
            receiving=Receiving(),
            defaults=self._settings.defaults,
            keys=self._access.keys,
            outbox=self._outbox,
            noted=self._noted,
            now_ms=self._clock.now_ms,
            problem=self.problem,
            most_form_bytes=self._settings.most_form_bytes,
            part_bytes=self._settings.part_bytes,
            upload_endpoint=self._settings.upload_endpoint,
            answer_within_s=ANSWER_WITHIN_S,
            prices=self._settings.prices,
        )

    def _listen(self, closing: contextlib.ExitStack) -> None:
        settings = self._settings
        opened = listening_socket(settings.host, settings.port)
        closing.callback(opened.close)
        if settings.metrics_port:
            try:
                metrics, thread = start_http_server(settings.metrics_port, settings.host, self.metrics.registry)
            except OSError as error:
                raise no_port(settings.host, settings.metrics_port, error, "--metrics-port") from error
            closing.callback(thread.join, 1.0)
            closing.callback(metrics.server_close)
            closing.callback(metrics.shutdown)
        self._http = server = uvicorn.Server(
            uvicorn.Config(
                self.app,
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                ws="none",
                http=partial(Connection, Silent()),  # type: ignore[arg-type]
                timeout_graceful_shutdown=settings.shutdown_grace_s,
            )
        )
        thread = threading.Thread(target=server.run, kwargs={"sockets": [opened]}, name="http", daemon=True)
        thread.start()

        def stop() -> None:
            server.should_exit = True
            thread.join(timeout=settings.shutdown_grace_s + 2)

        closing.callback(stop)
        host, self.port = opened.getsockname()[:2]
        defaults = settings.defaults
        _LOG.info(
            "listening on http://%s:%d, store %s, models: %s, jobs at once: %d",
            f"[{host}]" if ":" in host else host, self.port, self._store.url, ", ".join(defaults.models), defaults.jobs,
        )  # fmt: skip

    def _run_request(self, request: ServiceRequest, retries: int, share: Share) -> RunRequest:
        """Identify the recording of a request. Raises what the identification raises."""
        found = source.inspect_uri(request.source)
        if request.inbox:
            # After it was read: a person may have put a link in its place since it was listed.
            check_no_link(request)
        return make_run_request(
            found,
            request.output,
            plan=request.plan,
            options=request.options,
            audio_track=request.audio_track,
            on_chunk_failure=request.on_chunk_failure,
            keep_chunks=request.keep_chunks,
            rendition=request.rendition,
            # Runs of different requests share nothing: what one tenant has transcribed is no business of another.
            salt=f"{request.tenant}/{request.id}",
            round_id=f"{request.id}.{retries}",
            rules=OutputRules(written=WrittenFiles(None, self._store)),
            name=request.name,
            share=share,
        )

    def _share(self, request: ServiceRequest) -> Share:
        found = next((one for one in self._access.tenants.all if one.prefix == request.tenant), None)
        return Share(
            group=request.tenant,
            weight=found.weight if found else 1,
            most_live=found.max_live_chunks if found else None,
            priority=request.priority,
        )

    def _webhook_hosts(self, prefix: str) -> Sequence[str]:
        return next((one.webhook_hosts for one in self._access.tenants.all if one.prefix == prefix), ())

    def _ended(self, request: ServiceRequest, end: RequestEnd) -> None:
        """Do what follows a recorded end. May be called again after a crash."""
        report = stored_documents.valid(self._store, Report, RunKeys(end.run_id).report) if end.run_id else None
        self.metrics.ended(end.status, report)
        why = f": {end.summary}" if end.status in ("partial", "failed") else ""
        _LOG.info("request %s has ended: %s%s", request.id, end.status, why)
        if request.inbox:
            note_end(self._store, request, end)
            self._noted.ended(request, end)
        if request.callback_url:
            with contextlib.suppress(CallbackRefused):  # it was checked when the request was accepted
                data = run_ended(request, end)
                self._outbox.add(request.tenant, request.callback_url, data, ended_ms=end.ended_ms)


def check_ports(port: int, metrics_port: int) -> None:
    """Raises :class:`UsageProblem` if both are the same."""
    if metrics_port and port == metrics_port:
        raise UsageProblem(f"--port and --metrics-port are both {port}", "choose another --metrics-port")
