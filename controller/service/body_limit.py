"""A limit for the size of bodies, which counts what comes and not what a header says.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controller.service.problems import Problem


class _TooLarge(Exception):
    """The body has more bytes than allowed."""


class BodyLimit:
    """Answers 413 to a request whose body is too large, as soon as that is known."""

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
        if declared.isdigit() and int(declared[:20]) > most:
            await _refused(most)(scope, receive, send)
            return
        await _Limited(self._app, most).run(scope, receive, send)


class _Limited:
    """One request with a limit."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most
        self._received = 0
        self._begun = False

    async def run(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def limited() -> Message:
            message = await receive()
            self._received += len(message.get("body", b""))
            if self._received > self._most:
                raise _TooLarge
            return message

        async def watched(message: Message) -> None:
            self._begun = True
            await send(message)

        try:
            await self._app(scope, limited, watched)
        except _TooLarge:
            if not self._begun:
                await _refused(self._most)(scope, receive, send)


def _refused(most: int) -> ASGIApp:
    problem = Problem(
        413, "too-large", f"the body has more than {most} bytes", "upload large recordings: POST /v1/uploads"
    )
    problem.headers["Connection"] = "close"
    return problem.response()
