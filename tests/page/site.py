"""A real ``stenofleet serve`` on a folder, for pages: with real runs of the demo model, and with runs to look at.

Touches: processes, sockets on loopback, a folder.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Page

from controller import demo
from controller.domain.documents import StoredState, Verdict
from controller.domain.interfaces import RunOutcome
from controller.domain.service_keys import id_of
from controller.reports.stored_report import write_report
from controller.service.requests import RequestStore
from controller.service.tokens import digest_of
from tests import fakes, pipeline, speech
from tests.page.browser import Windows
from tests.shown_runs import ShownRun

HELD_CHUNK = 4
"""Of recordings with more chunks than the short one: its first attempt waits until :meth:`Held.go_on`."""
HELD_OF = 9
"""Chunks of the recording of which one is held."""
_LIMITS = "requests_per_second = 1000.0\n"
_DAY_MS = 86_400_000
OPTIONS = (
    *("--model", str(demo.MODEL), "--batch-size", "0", "--language", "en", "--rendition"),
    *("--max-parallel", "2", "--threads", "1", "--chunk-duration", "20", "--chunking-threshold", "0"),
)


class Held:
    """A real run of which one chunk is not done before the test says so."""

    def __init__(self, run: str, here: Path) -> None:
        self.run, self._here = run, here
        self.gone = False
        """The test has deleted it."""

    def go_on(self) -> None:
        """Let the chunk go on, as soon as it waits."""
        pipeline.until(self._here.exists, "a chunk is held")
        self._here.unlink()

    def stopped(self) -> None:
        """The job that waited was stopped: its next one waits too."""
        self._here.unlink()

    def leave(self) -> None:
        """Let all go on."""
        self._here.unlink(missing_ok=True)


class Site:
    """The service, and what a test puts into its store."""

    def __init__(self, workplace: pipeline.Workplace, short: Path) -> None:
        """*short*: a recording of a few chunks, which none of is held."""
        self._workplace, self._short = workplace, short
        self._known: dict[str, str] = {}
        self._here = workplace.folder / "here"
        self._requests = RequestStore(workplace.store)
        self.tokens = {tenant: f"stf_{tenant}_token" for tenant in ("news", "empty", "archive")}
        tenants = workplace.folder / "tenants.toml"
        tenants.write_text(
            "".join(
                f'[tenants.{name}]\ntokens = ["sha256:{digest_of(token).hex()}"]\n{_LIMITS}'
                for name, token in self.tokens.items()
            )
        )
        hold = f"chunk.transcribed.{HELD_CHUNK:05d}.a1=hold:{self._here}"
        self.process = workplace.start(
            *("serve", "--store", workplace.store.url, "--port", "0", "--tenants", str(tenants), *OPTIONS), crash=hold
        )
        self.process.wait_for_output("listening on http://")
        found = re.search(r"listening on (http://(127\.0\.0\.1:\d+))", self.process.err)
        assert found
        self.url, self.host = found[1], found[2]

    def client(self, tenant: str = "news") -> httpx.Client:
        """A client of the API."""
        headers = {"Authorization": f"Bearer {self.tokens[tenant]}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=pipeline.PATIENCE_S)

    # ------------------------------------------------------------ real runs

    def submit(self, media: Path, *, name: str = "", labels: Mapping[str, str] | None = None) -> str:
        """Submit a recording in a form; returns the id of its run."""
        with self.client() as client, media.open("rb") as file:
            form = {"request": json.dumps({"labels": dict(labels or {})})}
            reply = client.post("/v1/runs", files={"file": (name or media.name, file)}, data=form)
        assert reply.status_code == 202, reply.text
        run: str = reply.json()["id"]
        return run

    def wait_for(self, run: str, *statuses: str) -> dict[str, Any]:
        """The run, as soon as it has one of these states."""
        found: dict[str, Any] = {}
        with self.client() as client:

            def has_one() -> bool:
                found.update(client.get(f"/v1/runs/{run}").json())
                return found["status"] in statuses

            pipeline.until(has_one, f"{run} is {statuses}", pause_s=0.1)
        return found

    def complete(self) -> str:
        """A real run that is complete: three chunks, with a waveform and a rendition."""
        if "real" not in self._known:
            self._known["real"] = self.submit(self._short, name="talk.wav", labels={"show": "morning"})
            self.wait_for(self._known["real"], "complete")
        return self._known["real"]

    def damaged(self) -> str:
        """A real run that failed: what was sent is no recording."""
        if "damaged" not in self._known:
            broken = self._workplace.folder / "broken.mp3"
            broken.write_bytes(b"no sound at all " * 4_000)
            self._known["damaged"] = self.submit(broken)
            self.wait_for(self._known["damaged"], "failed")
        return self._known["damaged"]

    @contextlib.contextmanager
    def held(self) -> Iterator[Held]:
        """A real run that runs, until the test or the end of the block lets it go on."""
        held = Held(self.submit(demo.SAMPLE, name="harbor.wav"), self._here)
        try:
            pipeline.until(self._here.exists, "a chunk is held")
            yield held
        finally:
            held.leave()
            if not held.gone:
                self.wait_for(held.run, "complete", "cancelled", "failed")

    # ------------------------------------------------------------ runs to look at

    def shown(self, name: str, run: ShownRun, state: StoredState, **request: Any) -> str:
        """A run of the tenant *news* with the documents of *run*; put there once for each run."""
        if name not in self._known:
            run.put(self._workplace.store, state)
            run.put_waveform(self._workplace.store)
            write_report(self._workplace.store, run.run, str(self._workplace.store.root / run.keys.report_page))
            verdict: Any = state
            end = RunOutcome(run=run.run, name=run.record.name, verdict=verdict, **_said(run, verdict))
            options = {"options": run.record.options, "name": run.record.name, **request}
            self._known[name] = self.put(name, end, **options)
        return self._known[name]

    def put(self, key: str, end: RunOutcome, **changes: Any) -> str:
        """A request that has ended so."""
        now_ms = time.time_ns() // 1_000_000
        made: dict[str, Any] = {"tenant": "news", "created_ms": now_ms - _DAY_MS, "callback_url": "", **changes}
        request = fakes.service_request(id=request_id(key), **made)
        self._requests.accept(request)
        ended = self._requests.end(request, 0, end, now_ms=request.created_ms + 150_000)
        self._requests.announce(request, ended)
        self._requests.leave_queue(request, ended)
        return request.id

    # ------------------------------------------------------------ windows

    def window(self, windows: Windows, **options: Any) -> Page:
        """A window of a person who has not signed in."""
        windows.faults.hosts.add(self.host)
        return windows.open(base_url=self.url, **options)

    def signed_in(self, windows: Windows, tenant: str = "news", **options: Any) -> Page:
        """A window of a person who has signed in."""
        page = self.window(windows, **options)
        page.context.add_cookies(
            [{"name": "stenofleet_token", "value": self.tokens[tenant], "url": self.url, "sameSite": "Strict"}]
        )
        return page


def request_id(name: str) -> str:
    """The id of the request that tests call so."""
    return id_of(hashlib.sha256(name.encode()).digest())


def run_id(name: str) -> str:
    """The run of the store that tests call so."""
    return hashlib.sha256(name.encode()).hexdigest()[:16]


def _said(run: ShownRun, verdict: Verdict) -> dict[str, Any]:
    ended = run.outcome(verdict)
    return {"summary": ended.summary, "advice": ended.advice, "warnings": run.summary().warnings}


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Site]:
    """A service in a new *folder*, until the end of the block."""
    workplace = pipeline.Workplace(folder)
    short = speech.write_wav(folder / "talk.wav", speech.tape(seconds=45, seed=3))
    try:
        yield Site(workplace, short)
    finally:
        workplace.clear()
