"""One HTTP POST to a checked address, with a limit for its total time.

Touches: the network, the clock. No redirect is followed, no proxy is used, and of a response only the status is kept:
its text may come from a service that the tenant must not read.
"""

from __future__ import annotations

import contextlib
import io
import socket
import ssl
import time
from collections.abc import Mapping, Sequence
from http.client import HTTPException, HTTPResponse
from typing import cast

from controller.service.addresses import Address, Target

CONNECT_S = 5.0
TOTAL_S = 15.0
MAX_RESPONSE = 64 << 10
"""Bytes of a response's body that are read (and dropped), so that the receiver sees no connection reset."""
_MOST_RECEIVED = 2 * MAX_RESPONSE
_MOST_ADDRESSES = 4


class NotDelivered(Exception):
    """The receiver did not accept the request. The text is for the tenant."""


class _Received(io.RawIOBase):
    """The bytes from a socket until a deadline, and at most ``_MOST_RECEIVED``."""

    def __init__(self, connected: socket.socket, deadline_s: float) -> None:
        self._socket = connected
        self._deadline_s = deadline_s
        self._left = _MOST_RECEIVED

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override] # any writable buffer
        if not self._left:
            return 0
        self._socket.settimeout(_left_s(self._deadline_s))
        size = self._socket.recv_into(buffer[: self._left])
        self._left -= size
        return size


class _Source:
    """What :class:`HTTPResponse` uses of a socket."""

    def __init__(self, received: _Received) -> None:
        self._received = received

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self._received)


def post(
    target: Target,
    addresses: Sequence[Address],
    headers: Mapping[str, str],
    body: bytes,
    trust: ssl.SSLContext,
) -> int:
    """Send *body* to *target* at one of *addresses*, and return the status of the response.

    Takes at most ``TOTAL_S``. Raises :class:`NotDelivered` if there is no response.
    """
    deadline_s = time.monotonic() + TOTAL_S
    try:
        with contextlib.closing(_connect(target, addresses, trust, deadline_s)) as connected:
            _send(connected, _request(target, headers, body), deadline_s)
            return _status(connected, deadline_s)
    except TimeoutError as error:
        raise NotDelivered(f"no response within {TOTAL_S:.0f} seconds") from error
    except ssl.SSLCertVerificationError as error:
        raise NotDelivered(f"the certificate is not valid: {error.verify_message}") from error
    except ssl.SSLError as error:
        raise NotDelivered(f"TLS failed: {error.reason or 'the connection was closed'}") from error
    except OSError as error:
        raise NotDelivered(f"the connection failed: {_reason(error)}") from error
    except (HTTPException, ValueError) as error:
        raise NotDelivered("the response is not valid HTTP") from error


def _connect(target: Target, addresses: Sequence[Address], trust: ssl.SSLContext, deadline_s: float) -> socket.socket:
    connected = _first_connection(addresses[:_MOST_ADDRESSES], target.port)
    if target.scheme == "http":
        return connected
    # The handshake as a whole has this time limit. If it fails, the socket is closed.
    connected.settimeout(_left_s(deadline_s))
    return trust.wrap_socket(connected, server_hostname=target.host)


def _first_connection(addresses: Sequence[Address], port: int) -> socket.socket:
    """Connect to the first address that accepts, in ``CONNECT_S`` altogether. Raises :class:`NotDelivered`."""
    end_s = time.monotonic() + CONNECT_S
    reason = ""
    for index, address in enumerate(addresses):
        connecting = socket.socket(socket.AF_INET6 if address.version == 6 else socket.AF_INET, socket.SOCK_STREAM)
        try:
            # An address that does not answer must leave time for the others.
            connecting.settimeout(max(0.1, (end_s - time.monotonic()) / (len(addresses) - index)))
            connecting.connect((str(address), port))
            return connecting
        except OSError as error:
            connecting.close()
            reason = f"no answer in {CONNECT_S:.0f} seconds" if isinstance(error, TimeoutError) else _reason(error)
    raise NotDelivered(f"no connection: {reason}")


def _request(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [
        f"POST {target.path} HTTP/1.1",
        f"Host: {target.authority}",
        *(f"{name}: {value}" for name, value in headers.items()),
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode("ascii") + body


def _send(connected: socket.socket, data: bytes, deadline_s: float) -> None:
    left = memoryview(data)
    while left:
        connected.settimeout(_left_s(deadline_s))
        left = left[connected.send(left) :]


def _status(connected: socket.socket, deadline_s: float) -> int:
    source = _Source(_Received(connected, deadline_s))
    response = HTTPResponse(cast("socket.socket", source), method="POST")
    with contextlib.closing(response):
        response.begin()
        with contextlib.suppress(OSError, HTTPException, ValueError):
            response.read(MAX_RESPONSE)
        return response.status


def _reason(error: OSError) -> str:
    return error.strerror or "it was closed"


def _left_s(deadline_s: float) -> float:
    """Seconds until *deadline_s*. Raises :class:`TimeoutError`."""
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError
    return left_s
