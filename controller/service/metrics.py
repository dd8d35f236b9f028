"""Metrics of the service for Prometheus: of requests, runs, chunks, webhooks. No label contains an id.

Touches: the clock.
"""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.domain.documents import Report
from controller.domain.progress import ENDED, Progress

_STAGES = {
    "startup": "startup_s",
    "download": "fetch_s",
    "model_load": "load_s",
    "kernels": "kernels_s",
    "decode": "transcribe_s",
    "upload": "commit_s",
}
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE"})
"""A client can invent others, and each would be a series."""
_SECONDS = (0.1, 0.3, 1, 3, 10, 30, 100, 300, 1_000, 3_000)
_LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class _InboxSeries:
    """The series of all inboxes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        common: dict[str, Any] = {"labelnames": ["tenant"], "registry": registry}
        self.lists = Counter("stenofleet_inbox_list_requests", "Requests to list the inbox and its records.", **common)
        self.submitted = Counter("stenofleet_inbox_submitted", "Recordings submitted from the inbox.", **common)
        self.objects = Gauge("stenofleet_inbox_objects", "Objects at the last complete look.", **common)
        self.seconds = Gauge("stenofleet_inbox_pass_seconds", "Time of the last complete look.", **common)


class InboxMetrics:
    """The metrics of one inbox."""

    def __init__(self, series: _InboxSeries, tenant: str) -> None:
        self._series, self._tenant = series, tenant

    def submit(self) -> None:
        """Count a recording that was submitted."""
        self._series.submitted.labels(self._tenant).inc()

    def looked(self, lists: int, objects: int | None, seconds: float) -> None:
        """Count the requests of a look. *objects*, *seconds*: of the last complete one; None: there was none yet."""
        self._series.lists.labels(self._tenant).inc(lists)
        if objects is not None:
            self._series.objects.labels(self._tenant).set(objects)
            self._series.seconds.labels(self._tenant).set(seconds)


class Metrics:
    """All metrics of one replica."""

    def __init__(self, *, depths: Callable[[], Mapping[str, int]], oldest_wait_s: Callable[[], float]) -> None:
        """*depths*: requests that have not ended, by tenant. *oldest_wait_s*: how long the oldest one waits."""
        self.registry = CollectorRegistry(auto_describe=True)
        common: dict[str, Any] = {"registry": self.registry}
        self._depths = depths
        self._tenants: set[str] = set()
        """Those that had requests: a series that vanishes looks like an outage."""
        self._runs = Counter("stenofleet_runs", "Runs that ended.", ["outcome"], **common)
        self._chunks = Counter("stenofleet_chunks", "Chunks of runs that ended.", ["outcome"], **common)
        self._attempts = Counter("stenofleet_chunk_attempts", "Attempts at chunks, by failure.", ["reason"], **common)
        self._stages = Histogram(
            "stenofleet_chunk_stage_seconds", "Time of chunk jobs.", ["stage"], buckets=_SECONDS, **common
        )
        self._audio = Counter("stenofleet_audio_seconds", "Audio that was transcribed.", **common)
        self._compute = Counter("stenofleet_job_seconds", "Time of chunk jobs with a result.", **common)
        self._active = Gauge("stenofleet_jobs_active", "Jobs that run or start, of this replica.", **common)
        self._open = Gauge("stenofleet_runs_active", "Runs that this replica works on.", **common)
        self._queued = Gauge("stenofleet_queue_runs", "Requests that have not ended.", ["tenant"], **common)
        pending = Gauge("stenofleet_pending_seconds", "Wait of the oldest request without a worker.", **common)
        pending.set_function(oldest_wait_s)
        self._webhooks = Counter("stenofleet_webhook_attempts", "Attempts to send an event.", ["outcome"], **common)
        self._requests = Counter(
            "stenofleet_http_requests", "Requests to the API.", ["method", "route", "status"], **common
        )
        self._latency = Histogram(
            "stenofleet_http_request_seconds", "Time to the first byte.", ["route"], buckets=_LATENCIES, **common
        )
        self._inbox = _InboxSeries(self.registry)
        build = Gauge("stenofleet_build_info", "Always 1.", ["version"], **common)
        build.labels(importlib.metadata.version("stenofleet")).set(1)

    def showed(self, runs: Sequence[Progress]) -> None:
        """Take the progress of one tick."""
        self._active.set(sum(run.running for run in runs if run.state not in ENDED))
        self._open.set(sum(1 for run in runs if run.state not in ENDED))
        depths = self._depths()
        for tenant in self._tenants - depths.keys():
            self._queued.labels(tenant).set(0)
        self._tenants |= depths.keys()
        for tenant, number in depths.items():
            self._queued.labels(tenant).set(number)

    def ended(self, outcome: str, report: Report | None) -> None:
        """Count a run that ended. *report*: its measurements; None if it has none."""
        self._runs.labels(outcome).inc()
        if report is None:
            return
        self._audio.inc(report.audio_s)
        self._compute.inc(report.compute_s)
        for span in report.spans:
            done = span.attempts > len(span.failures)
            self._chunks.labels("done" if done else "lost").inc()
            for failure in span.failures:
                self._attempts.labels(failure).inc()
            if done:
                self._attempts.labels("none").inc()
                for stage, name in _STAGES.items():
                    self._stages.labels(stage).observe(getattr(span, name))

    def webhook(self, outcome: str) -> None:
        """Count an attempt to send an event."""
        self._webhooks.labels(outcome).inc()

    def inbox_of(self, tenant: str) -> InboxMetrics:
        """Return the metrics of one inbox."""
        return InboxMetrics(self._inbox, tenant)

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request to the API."""
        self._requests.labels(method, route, str(status)).inc()
        self._latency.labels(route).observe(seconds)


class RequestMetrics:
    """Counts requests, as ASGI middleware."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began_s = time.monotonic()

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The template of the path: ids would make a new series each.
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if route != "other" and scope["method"] in _METHODS else "other"
                self._metrics.answered(method, route, message["status"], time.monotonic() - began_s)
            await send(message)

        await self._app(scope, receive, watched)
