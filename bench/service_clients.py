"""Clients of ``bench.service``: each submits runs, asks for their state, and follows their events through all kills."""

import asyncio
import collections
import contextlib
import json
import random
import secrets
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

ENDED = ("complete", "partial", "failed", "cancelled")
POLL_S = 2.0
"""How often each client asks for one of its runs."""
_SECONDS = 30


@dataclass
class Watched:
    """What a client has seen of one run."""

    status: str = ""
    events: list[str] = field(default_factory=list)
    """The ids, in the order in which they came."""
    resumed: int = 0
    followed: bool = False
    """Whether it followed the events to the end."""


@dataclass
class Seen:
    """What all clients have seen."""

    runs: dict[str, Watched] = field(default_factory=dict)
    """The accepted ones, by id."""
    latencies_s: list[float] = field(default_factory=list)
    """Of the answers to GET /v1/runs/{id}."""
    submitted_s: list[float] = field(default_factory=list)
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    """Documented answers to try again later, by status and type."""
    errors: collections.Counter[str] = field(default_factory=collections.Counter)
    """Every other answer that is no success."""
    broken: int = 0
    """Connections that a kill broke, or that nobody accepted."""

    @property
    def open(self) -> int:
        """How many runs have not ended."""
        return sum(1 for run in self.runs.values() if run.status not in ENDED)


async def run_clients(ports: Sequence[int], *, clients: int, queued: int, until_s: float, patience_s: float) -> Seen:
    """Run all clients. *queued*: how many runs are open at the same time. *until_s*: no new ones after it."""
    seen = Seen()
    trust = ssl.create_default_context()
    ends_s = until_s + patience_s + _SECONDS
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(ends_s), asyncio.TaskGroup() as tasks:
            for number in range(clients):
                mine = queued // clients + (number < queued % clients)
                # The pool of httpx goes through all its connections for each request: each client has its own.
                http = httpx.AsyncClient(timeout=_SECONDS, verify=trust, trust_env=False)
                tasks.create_task(_Client(http, seen, ports, until_s=until_s, patience_s=patience_s).run(mine))
    return seen


class _Client:
    """One client: it takes one of the replicas for a request, and another one if that is away."""

    def __init__(
        self, http: httpx.AsyncClient, seen: Seen, ports: Sequence[int], *, until_s: float, patience_s: float
    ) -> None:
        self.seen = seen
        self._http, self._ports = http, ports
        self._until_s, self._patience_s = until_s, patience_s

    async def run(self, mine: int) -> None:
        """Keep *mine* runs open."""
        await asyncio.sleep(random.random() * 3)
        # One stream of events at a time. It gets what has happened before from the start.
        stream = asyncio.Lock()
        async with self._http, asyncio.TaskGroup() as tasks:
            for _ in range(mine):
                tasks.create_task(self._runs_in_turn(stream, POLL_S * mine))

    async def _runs_in_turn(self, stream: asyncio.Lock, poll_s: float) -> None:
        while time.monotonic() < self._until_s:
            run_id = await self._submit()
            if run_id is None:
                return
            watched = self.seen.runs[run_id] = Watched()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._poll(run_id, watched, poll_s))
                tasks.create_task(self._follow(run_id, watched, stream))

    async def _submit(self) -> str | None:
        key = secrets.token_hex(16)
        while not self._given_up():
            began_s = time.monotonic()
            reply = await self._ask(
                "POST", "/v1/runs", headers={"Idempotency-Key": key}, files={"file": ("a.wav", key.encode())}
            )
            if reply is not None and reply.status_code == 202:
                self.seen.submitted_s.append(time.monotonic() - began_s)
                return str(reply.json()["id"])
            await self._rest(reply)
        return None

    async def _poll(self, run_id: str, watched: Watched, poll_s: float) -> None:
        while not self._given_up():
            await asyncio.sleep(poll_s * (0.5 + random.random()))
            began_s = time.monotonic()
            reply = await self._ask("GET", f"/v1/runs/{run_id}")
            if reply is not None and reply.status_code == 200:
                self.seen.latencies_s.append(time.monotonic() - began_s)
                watched.status = reply.json()["status"]
                if watched.status in ENDED:
                    return
            else:
                await self._rest(reply)

    async def _follow(self, run_id: str, watched: Watched, stream: asyncio.Lock) -> None:
        """Follow the events to the end of the run; some connections are closed by the client on the way."""
        while not self._given_up():
            async with stream:
                if await self._followed(run_id, watched):
                    return
            watched.resumed += 1
            await asyncio.sleep(random.random())

    async def _followed(self, run_id: str, watched: Watched) -> bool:
        """Follow the events over one connection. Returns whether the run has ended."""
        headers = {"Last-Event-ID": watched.events[-1]} if watched.events else {}
        hang_up = random.random() < 0.3
        port = random.choice(self._ports)
        try:
            async with self._http.stream(
                "GET", f"http://127.0.0.1:{port}/v1/runs/{run_id}/events", headers=headers
            ) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    self._count(reply)
                    return False
                return await self._read(reply, watched, hang_up=hang_up)
        except httpx.HTTPError:
            self.seen.broken += 1
            return False

    @staticmethod
    async def _read(reply: httpx.Response, watched: Watched, *, hang_up: bool) -> bool:
        """Read events until the run has ended (True), or the connection is closed."""
        event_id, kind = "", ""
        async for line in reply.aiter_lines():
            name, _, value = line.partition(": ")
            match name:
                case "id":
                    event_id = value
                case "event":
                    kind = value
                case "" if kind:
                    if event_id:
                        watched.events.append(event_id)
                    if kind == "ended":
                        watched.followed = True
                        return True
                    if hang_up and random.random() < 0.5:
                        return False
                    event_id, kind = "", ""
        return False

    async def _ask(self, method: str, path: str, **more: Any) -> httpx.Response | None:
        """Ask a replica, and another one if it is away. None: all are."""
        for port in random.sample(self._ports, len(self._ports)):
            try:
                reply = await self._http.request(method, f"http://127.0.0.1:{port}{path}", **more)
            except httpx.HTTPError:
                self.seen.broken += 1
                continue
            if reply.status_code >= 300:
                self._count(reply)
            return reply
        return None

    def _count(self, reply: httpx.Response) -> None:
        kind = "no problem document"
        if reply.headers.get("content-type") == "application/problem+json":
            kind = json.loads(reply.text)["type"].rpartition(":")[2]
        where = self.seen.refused if reply.status_code in (429, 503) else self.seen.errors
        where[f"{reply.status_code} {kind}"] += 1

    @staticmethod
    async def _rest(reply: httpx.Response | None) -> None:
        wait_s = float(reply.headers.get("Retry-After", 1)) if reply is not None else 1.0
        await asyncio.sleep(min(wait_s, 5.0) * (0.5 + random.random()))

    def _given_up(self) -> bool:
        return time.monotonic() > self._until_s + self._patience_s
