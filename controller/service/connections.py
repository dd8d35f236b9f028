"""The socket of the HTTP server, and its connections: clients that say or read nothing take no place from others.

Touches: sockets.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from controller.errors import EnvironmentProblem
from controller.service.problems import busy

HEAD_WITHIN_S = 10.0
"""How long a client may take for the head of a request: since the connection was opened, or since the last response."""
READ_WITHIN_S = 30.0
LEAST_READ_BYTES = 64 << 10
"""So much of what is sent to it a client must read in this time: else it would keep a connection for any time, and the
temporary files of its transcript."""
MOST_SILENT = 600
"""Connections without a request. For one more, the one that has said nothing for the longest time is closed."""
MOST_CONNECTIONS = 900
"""More would use up the descriptors of a process, of which there are often 1,024: further requests get 503."""


class Silent:
    """The connections of a server that have no request, those that were silent for longest first."""

    def __init__(self, most: int = MOST_SILENT) -> None:
        self._most = most
        self._connections: dict[Connection, None] = {}

    def add(self, connection: Connection) -> None:
        """Note that a client may send a request now."""
        self._connections[connection] = None
        if len(self._connections) > self._most:
            next(iter(self._connections)).give_up()

    def discard(self, connection: Connection) -> None:
        """Note that it has sent one, or is gone."""
        self._connections.pop(connection, None)


class Connection(H11Protocol):
    """uvicorn's protocol, with a limit for the time that a client takes until it has sent the head of a request."""

    def __init__(self, silent: Silent, **given: Any) -> None:
        super().__init__(**given)
        self._silent = silent
        self._usual = self.app
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect()

    def connection_lost(self, exc: Exception | None) -> None:
        self._heard()
        self._read()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        self.app = busy().response() if len(self.connections) > MOST_CONNECTIONS else self._usual
        super().handle_events()
        if self._answers:
            self._heard()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        # Also while the client still sends a body that nobody reads.
        if not self._answers and not self.transport.is_closing():
            self._expect()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._read()

    def give_up(self) -> None:
        """Close the connection, whatever is still to be sent or received."""
        self._heard()
        self._read()
        self.transport.abort()

    @property
    def _answers(self) -> bool:
        """Whether a request is being answered."""
        # None before the first one, although its type does not say so.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _expect(self) -> None:
        self._heard()
        self._timer = self.loop.call_later(HEAD_WITHIN_S, self._said_nothing)
        self._silent.add(self)

    def _said_nothing(self) -> None:
        if self.transport.get_write_buffer_size():
            # It still reads the last response.
            self._timer = self.loop.call_later(HEAD_WITHIN_S, self._said_nothing)
        else:
            self.give_up()

    def _watch_reading(self) -> None:
        # Nothing is added before it has read nearly everything.
        left = self.transport.get_write_buffer_size()
        self._unread = self.loop.call_later(READ_WITHIN_S, self._reads, left)

    def _reads(self, before: int) -> None:
        if before - self.transport.get_write_buffer_size() < LEAST_READ_BYTES:
            self.give_up()
        else:
            self._watch_reading()

    def _read(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None

    def _heard(self) -> None:
        self._silent.discard(self)
        if self._timer:
            self._timer.cancel()
            self._timer = None


def listening_socket(host: str, port: int) -> socket.socket:
    """Listen on *host* and *port*. Raises :class:`EnvironmentProblem` if that is not possible."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        opened = socket.create_server((host.strip("[]"), port), family=family, backlog=2048)
        # Connections inherit it. asyncio sets it only for sockets that it opens itself; without it, the body of an
        # answer waits 40 ms for the client's acknowledgement of the head.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened
    except (OSError, OverflowError) as error:
        raise no_port(host, port, error) from error


def no_port(host: str, port: int, error: Exception, options: str = "--host or --port") -> EnvironmentProblem:
    """Return the problem of a port on which nothing can listen. *options*: those that choose it."""
    why = getattr(error, "strerror", None) or str(error)
    return EnvironmentProblem(f"cannot listen on {host}:{port}: {why}", f"choose another {options}")
