"""Requests to the transcription service, which are repeated while it does not answer.

Touches: the network, environment (proxies, certificates), the clock. The token is sent only to the address that the
command names: no redirect is followed, and addresses of the store get none. It is in no message.
"""

from __future__ import annotations

import itertools
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import certifi
from urllib3 import BaseHTTPResponse, PoolManager, ProxyManager, Timeout, make_headers
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from chunk_job.text import masked, printable
from controller.client.bodies import Body, FormWithFile
from controller.errors import EnvironmentProblem, UsageProblem

CONNECT_S, READ_S = 10.0, 120.0
MOST_JSON_BYTES = 64 << 20
_MOST_ERROR_BYTES = 1 << 20
_PIECE_BYTES = 256 << 10
_CONNECTIONS = 16
_FIRST_S, _LONGEST_S = 0.5, 15.0
_SAY_S = 30.0
"""Between two lines about a service that does not answer."""
_LONGEST_RETRY_AFTER_S = 120.0


class Refused(EnvironmentProblem):
    """The service has answered that it does not carry out a request."""

    def __init__(self, status: int, name: str, summary: str, advice: str = "") -> None:
        """*status*: of HTTP. *name*: the class of the problem, as ``upload-expired``; empty if it gives none."""
        super().__init__(summary, advice)
        self.status, self.name = status, name


class Closed(Exception):
    """The command ends: nothing more is sent."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer. *data* is empty if the body was written to a file."""

    status: int
    retry_after_s: float | None
    data: bytes = field(repr=False)

    def json(self) -> Any:
        """The parsed body. Raises :class:`EnvironmentProblem` if it is no JSON."""
        try:
            return json.loads(self.data)
        except (ValueError, RecursionError):
            raise EnvironmentProblem("the answer is no JSON", "check --server: is it a stenofleet service?") from None


def checked_url(typed: str) -> str:
    """The address of a service without a slash at its end. Raises :class:`UsageProblem`."""
    parts = urlsplit(typed)
    try:
        valid = parts.scheme in ("http", "https") and parts.hostname and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid or "@" in parts.netloc or parts.query or parts.fragment or not typed.isprintable() or " " in typed:
        # It is not repeated: it may contain a password.
        raise UsageProblem(
            "--server: is not the address of a service", "write https://HOST or http://HOST:PORT, without a user"
        )
    return typed.rstrip("/").removesuffix("/v1")


def is_local(url: str) -> bool:
    """Whether the address is one of this machine."""
    host = urlsplit(url).hostname or ""
    return host == "localhost" or host.endswith(".localhost") or host == "::1" or host.startswith("127.")


class Connection:
    """The connections to one service. May be used by several threads."""

    def __init__(self, url: str, token: str = "", *, patience_s: float, say: Callable[[str], None]) -> None:
        """*url*: of :func:`checked_url`. *patience_s*: how long one request may be without success.

        *say*: prints a line for people. Raises :class:`EnvironmentProblem` if there are no certificates.
        """
        self.url, self._token, self._patience_s, self._say = url, token, patience_s, say
        bundle = os.environ.get("SSL_CERT_FILE")
        if bundle and not Path(bundle).is_file():
            raise EnvironmentProblem(f"no file {bundle}", "correct SSL_CERT_FILE")
        self._tls = {"cert_reqs": "CERT_REQUIRED", "ca_certs": bundle or certifi.where()}
        self._pools: dict[str, PoolManager] = {}
        self._lock = threading.Lock()
        """Protects the pools, and when it was said that the service is waited for."""
        self._said_s = -_SAY_S
        self._closed = threading.Event()

    def close(self) -> None:
        """End all requests at their next wait or piece."""
        self._closed.set()

    def pause(self, seconds: float) -> None:
        """Wait. Raises :class:`Closed`."""
        if self._closed.wait(seconds):
            raise Closed

    def send(
        self,
        method: str,
        address: str,
        *,
        document: Any = None,
        body: Callable[[], Body] | None = None,
        headers: Mapping[str, str] | None = None,
        into: BinaryIO | None = None,
        most_bytes: int = MOST_JSON_BYTES,
    ) -> Reply:
        """Make a request, again while the service does not answer or is busy, and return the answer (2xx).

        *address*: a path of the service; or a URL elsewhere, which gets no token. *document*: the body as JSON.
        *body*: makes a body that is read while it is sent. *into*: gets the body of the answer, from its beginning.

        Raises :class:`Refused` for 4xx, :class:`EnvironmentProblem` after the patience, and :class:`Closed`.
        """
        since_s, pause_s = _now_s(), _FIRST_S
        for number in itertools.count():
            wait_s: float | None = None
            problem: EnvironmentProblem
            try:
                reply = self._once(method, address, document, body, headers or {}, into, most_bytes)
                if reply.status < 300:
                    return reply
                problem = self._problem(reply, address)
                if reply.status != 429 and reply.status < 500:
                    raise problem
                wait_s = reply.retry_after_s
            except HTTPError as error:
                problem = self._lost(error, address)
            wait_s = pause_s if wait_s is None else min(wait_s, _LONGEST_RETRY_AFTER_S)
            if _now_s() + wait_s - since_s > self._patience_s:
                raise problem
            if number:
                # Not at once: a connection that was kept open for long is often closed, and a rate is exceeded briefly.
                self._say_waiting(problem.summary)
            self.pause(wait_s)
            pause_s = min(2 * pause_s, _LONGEST_S)
        raise AssertionError

    def _once(
        self,
        method: str,
        address: str,
        document: Any,
        body: Callable[[], Body] | None,
        headers: Mapping[str, str],
        into: BinaryIO | None,
        most_bytes: int,
    ) -> Reply:
        if self._closed.is_set():
            raise Closed
        own = address.startswith("/")
        fields = {"User-Agent": "stenofleet", **headers}
        if own and self._token:
            fields["Authorization"] = f"Bearer {self._token}"
        sent: Any = None
        if document is not None:
            sent, fields["Content-Type"] = json.dumps(document).encode(), "application/json"
        elif body is not None:
            sent = body()
            fields["Content-Length"] = str(sent.size_bytes)
            fields["Content-Type"] = sent.content_type if isinstance(sent, FormWithFile) else "application/octet-stream"
        url = f"{self.url}{address}" if own else address
        response = self._pool(url).request(
            method, url, body=sent, headers=fields, preload_content=False, redirect=False, retries=False
        )
        try:
            return _read(response, into, most_bytes)
        except BaseException:
            # The rest of this answer is of no use, nor is its connection.
            response.close()
            raise
        finally:
            response.release_conn()

    def _pool(self, url: str) -> PoolManager:
        """The pool for the scheme and the host of *url*, through the proxy that the environment names for it."""
        parts = urlsplit(url)
        proxy = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
        with self._lock:
            if (found := self._pools.get(proxy or "")) is None:
                found = self._pools[proxy or ""] = self._made(proxy)
        return found

    def _made(self, proxy: str | None) -> PoolManager:
        options: dict[str, Any] = {
            **self._tls, "maxsize": _CONNECTIONS, "timeout": Timeout(connect=CONNECT_S, read=READ_S)
        }  # fmt: skip
        if proxy is None:
            return PoolManager(**options)
        parts = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        user = parts.netloc.rpartition("@")[0]
        if parts.scheme not in ("http", "https"):
            raise EnvironmentProblem("the proxy in the environment is not one for HTTP", "correct HTTPS_PROXY")
        headers = make_headers(proxy_basic_auth=user) if user else None
        return ProxyManager(parts.geturl(), proxy_headers=headers, **options)

    def _problem(self, reply: Reply, address: str) -> Refused:
        """What an answer says that is not 2xx."""
        try:
            found = json.loads(reply.data)
        except (ValueError, RecursionError):
            found = None
        known = found if isinstance(found, dict) else {}
        name = str(known.get("type", "")).rpartition(":")[2][:100]
        detail, advice = (printable(str(known.get(key, "")))[:2_000] for key in ("detail", "advice"))
        where = self.url if address.startswith("/") else f"the store of {self.url}"
        if reply.status == 401:
            what = "does not accept the token" if self._token else "wants a token"
            advice = "give a token of this service: --token-file FILE, or STENOFLEET_TOKEN"
            return Refused(401, name, f"{where}: {what} (HTTP 401)", advice)
        if reply.status == 403:
            advice = advice or "ask the operator of the service what this tenant may do"
            return Refused(403, name, f"{where}: not allowed (HTTP 403){f': {detail}' if detail else ''}", advice)
        if 300 <= reply.status < 400:
            advice = "give the address to which it redirects as --server: a token is not sent to another address"
            return Refused(reply.status, name, f"{where}: answers with a redirect (HTTP {reply.status})", advice)
        if not detail and reply.status == 404:
            advice = "check --server: is it a stenofleet service?"
        return Refused(reply.status, name, f"{where}: HTTP {reply.status}{f': {detail}' if detail else ''}", advice)

    def _lost(self, error: HTTPError, address: str) -> EnvironmentProblem:
        """Return the problem of a connection. One that stays is raised."""
        cause = error.reason if isinstance(error, MaxRetryError) and error.reason else error
        where = self.url if address.startswith("/") else f"the store of {self.url}"
        reason = cause.args[0] if isinstance(cause, SSLError) and cause.args else None
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise EnvironmentProblem(
                f"{where}: its certificate is not valid: {printable(reason.verify_message)}",
                "if its authority is your own, name its certificate: SSL_CERT_FILE=FILE",
            ) from None
        # The text of urllib3 has the object in front, and may have the whole URL of a form.
        text = masked(printable(str(cause))).rpartition(">: ")[2].rpartition("): ")[2][:300]
        return EnvironmentProblem(f"{where}: does not answer: {text}", "check --server and the network; then try again")

    def _say_waiting(self, why: str) -> None:
        now_s = _now_s()
        with self._lock:
            due, self._said_s = now_s >= self._said_s + _SAY_S, now_s
        if due:
            self._say(f"{why}; waiting for up to {self._patience_s:.0f} s")


def _read(response: BaseHTTPResponse, into: BinaryIO | None, most_bytes: int) -> Reply:
    """Read an answer. Raises :class:`HTTPError` if it ends early, and :class:`EnvironmentProblem` if it is too long."""
    wanted = into if into and response.status < 300 else None
    limit = most_bytes if response.status < 300 else _MOST_ERROR_BYTES
    if wanted:
        wanted.seek(0)
        wanted.truncate()
    pieces, size = [], 0
    for piece in response.stream(_PIECE_BYTES):
        size += len(piece)
        if size > limit:
            raise EnvironmentProblem("the answer is too long", "check --server: is it a stenofleet service?")
        if wanted:
            wanted.write(piece)
        else:
            pieces.append(piece)
    after = response.headers.get("Retry-After", "")
    return Reply(
        status=response.status,
        retry_after_s=float(after) if after.isascii() and after.isdigit() and len(after) < 9 else None,
        data=b"".join(pieces),
    )


def _now_s() -> float:
    return time.monotonic()
