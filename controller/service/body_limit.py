"""Limits for bodies: their size, by what comes and not by what a header says, and the time that a client may take.

Touches: the clock.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.service.problems import Problem, too_large

SILENT_S = 30.0
"""How long a client may send nothing of its body; and how long a short body may take."""
LEAST_BYTES_PER_S = 16_384
"""Of what is longer: 128 kbit/s."""
LINGER_S = 5.0
"""How long the rest of a body is read after an error was sent: else the client may not get to see the error."""


class _Refused(Exception):
    """The body is too large, or comes too slowly."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.problem = problem


class BodyLimit:
    """Answers 413 to a request whose body is too large, as soon as that is known, and 408 to one that is too slow."""

    def __init__(self, app: ASGIApp, most: Callable[[str, str], int]) -> None:
        """*most*: the largest body for a path and a content type, in bytes."""
        self._app = app
        self._most = most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        most = self._most(scope["path"], headers.get(b"content-type", b"").decode("latin-1").lower())
        declared = headers.get(b"content-length", b"0")
        body = _Body(receive, send, most, comes=b"transfer-encoding" in headers or declared.strip(b"0") != b"")
        if declared.isdigit() and int(declared[:20]) > most:
            await _refused(too_large("body", most)).response()(scope, body.receive, body.send)
            return
        try:
            await self._app(scope, body.receive, body.send)
        except _Refused as error:
            if not body.answered:
                await _refused(error.problem).response()(scope, body.receive, body.send)


class _Body:
    """The body of one request."""

    def __init__(self, receive: Receive, send: Send, most: int, *, comes: bool) -> None:
        """*comes*: whether there is one."""
        self._receive = receive
        self._send = send
        self._most = most
        self._comes = comes
        """Whether more of it comes."""
        self._received = 0
        self._waited_s = 0.0
        self._failed = False
        self.answered = False
        """Whether the response has begun."""

    async def receive(self) -> Message:
        """Return the next part. Raises :class:`_Refused`."""
        if not self._comes:
            # From here on, only the end of the connection is waited for.
            return await self._receive()
        allowed_s = SILENT_S + self._received / LEAST_BYTES_PER_S - self._waited_s
        began_s = time.monotonic()
        try:
            message = await asyncio.wait_for(self._next(), min(SILENT_S, allowed_s))
        except TimeoutError:
            raise _Refused(_too_slow()) from None
        # Not the time that this process takes.
        self._waited_s += time.monotonic() - began_s
        if self._received > self._most:
            raise _Refused(too_large("body", self._most))
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the response. The last one of an error waits until the client has stopped sending."""
        if message["type"] == "http.response.start":
            self.answered, self._failed = True, message["status"] >= 400
        elif self._failed and self._comes and not message.get("more_body", False):
            await self._send({**message, "more_body": True})
            await self._linger()
            message = {**message, "body": b""}
        await self._send(message)

    async def _next(self) -> Message:
        message = await self._receive()
        self._received += len(message.get("body", b""))
        self._comes = message["type"] == "http.request" and message.get("more_body", False)
        return message

    async def _linger(self) -> None:
        # A connection that is closed with data unread is reset, and what was sent to the client is lost.
        try:
            async with asyncio.timeout(LINGER_S):
                while self._comes:
                    await self._next()
        except TimeoutError:
            pass


def _refused(problem: Problem) -> Problem:
    problem.headers["Connection"] = "close"
    return problem


def _too_slow() -> Problem:
    return Problem(408, "too-slow", f"nothing came for {SILENT_S:.0f} s, or too little", "send it again, or in parts")
