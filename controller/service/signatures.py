"""The keys of webhooks, and the signature of a request to a receiver.

Touches: the key file, which is read again when it has changed. The signature is an HMAC with SHA-256 of the time, the
id of the delivery and the body, so that neither can be changed and an old request cannot be sent again later.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

from controller.errors import EnvironmentProblem, UsageProblem

DELIVERY = "Stenofleet-Delivery"
TIMESTAMP = "Stenofleet-Timestamp"
KEY_ID = "Stenofleet-Key-Id"
SIGNATURE = "Stenofleet-Signature"
TOLERANCE_S = 300
"""How much the time of a request may differ from the receiver's clock."""
_MAX_FILE = 1 << 20
_SHORTEST = 16
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERSION = "v1="

log = logging.getLogger(__name__)


class WebhookNotConfigured(UsageProblem):
    """The service has no key to sign callbacks with."""

    def __init__(self) -> None:
        super().__init__(
            "this service sends no callbacks", "submit the run without callback_url, or ask the operator for a key"
        )


class SignatureInvalid(Exception):
    """The request was not signed with a known key, was changed, or is too old."""


@dataclass(frozen=True)
class Key:
    """A key: its public name and its secret."""

    id: str
    secret: bytes


@dataclass(frozen=True)
class _KeySet:
    """The current key of everybody, and of the tenants that have their own, by prefix."""

    common: Key | None
    own: Mapping[str, Key]


class WebhookKeys:
    """The keys of a file. A tenant may have its own ones; the others share the common ones."""

    def __init__(self, path: Path | None) -> None:
        """*path*: the key file; None if callbacks are not configured.

        Raises :class:`EnvironmentProblem` if it cannot be read or is not valid.
        """
        self._path = path
        self._lock = Lock()
        self._state: object = None
        self._keys = _KeySet(None, {})
        if path:
            self._state = _state(path)
            self._keys = _read(path)

    def current(self, prefix: str) -> Key:
        """Return the key with which callbacks of the tenant with this *prefix* are signed now.

        Raises :class:`WebhookNotConfigured`.
        """
        with self._lock:
            if self._path:
                self._read_again(self._path)
            key = self._keys.own.get(prefix, self._keys.common)
        if key is None:
            raise WebhookNotConfigured
        return key

    def _read_again(self, path: Path) -> None:
        try:
            state: object = _state(path)
        except EnvironmentProblem:
            state = None
        if state == self._state:
            return
        # Noted before it is read: a file that is not valid is reported once.
        self._state = state
        try:
            self._keys = _read(path)
        except EnvironmentProblem as problem:
            log.warning("%s: the keys that were read before stay in use", problem)
        else:
            log.info("the webhook keys were read again: %s", path)


def sign(key: Key, delivery_id: str, body: bytes, now_s: int) -> dict[str, str]:
    """Return the headers of a request with this *body* that is sent at *now_s*, in seconds since the epoch."""
    digest = _digest(key.secret, str(now_s), delivery_id, body)
    return {DELIVERY: delivery_id, TIMESTAMP: str(now_s), KEY_ID: key.id, SIGNATURE: f"{_VERSION}{digest}"}


def verify(headers: Mapping[str, str], body: bytes, secrets: Mapping[str, bytes], now_s: float) -> str:
    """Check a request as a receiver does, and return the id of the delivery.

    *secrets*: by key id. *now_s*: the receiver's time, in seconds since the epoch. Raises :class:`SignatureInvalid`.
    """
    given = {name.lower(): value for name, value in headers.items()}
    sent, delivery_id = given.get(TIMESTAMP.lower(), ""), given.get(DELIVERY.lower(), "")
    secret = secrets.get(given.get(KEY_ID.lower(), ""))
    if secret is None:
        raise SignatureInvalid("the key is not known")
    expected = f"{_VERSION}{_digest(secret, sent, delivery_id, body)}"
    if not hmac.compare_digest(expected.encode(), given.get(SIGNATURE.lower(), "").encode()):
        raise SignatureInvalid("the signature does not match")
    # A valid signature is of a time that this project wrote, so it is a number.
    if abs(now_s - int(sent)) > TOLERANCE_S:
        raise SignatureInvalid("the request is too old, or the clocks differ")
    return delivery_id


def _digest(secret: bytes, sent: str, delivery_id: str, body: bytes) -> str:
    return hmac.new(secret, f"{sent}.{delivery_id}.".encode() + body, hashlib.sha256).hexdigest()


def _state(path: Path) -> object:
    """A value that changes with the file, also where a mounted Secret replaces it by a link to another one."""
    try:
        status = path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def _read(path: Path) -> _KeySet:
    """Read the file. Raises :class:`EnvironmentProblem`, never with a secret in its text."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise _invalid(path, f"it is larger than {_MAX_FILE} bytes")
        table = tomllib.loads(data.decode())
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        # The parser's message may contain a part of the file.
        raise _invalid(path, "it is not a TOML file") from error
    tenants = table.pop("tenants", {})
    if not isinstance(tenants, dict):
        raise _invalid(path, "tenants is not a table")
    common = _current(path, table) if table or not tenants else None
    return _KeySet(common, {prefix: _current(path, each) for prefix, each in tenants.items()})


def _unreadable(path: Path, error: OSError) -> EnvironmentProblem:
    why = error.strerror or os.strerror(error.errno or 0)
    return EnvironmentProblem(
        f"{path}: the file of webhook keys cannot be read: {why}", "check --webhook-keys, and the mount of its Secret"
    )


def _invalid(path: Path, why: str) -> EnvironmentProblem:
    return EnvironmentProblem(
        f"{path}: the file of webhook keys cannot be used: {why}",
        'write current = "ID", and below it [keys] with ID = "SECRET": openssl rand -hex 32 makes a secret',
    )


def _current(path: Path, table: Any) -> Key:
    """The current key of a *table* with ``keys`` and ``current``. Every key of it is checked."""
    if not isinstance(table, dict) or set(table) != {"keys", "current"} or not isinstance(table["keys"], dict):
        raise _invalid(path, "a table keys and the id of the current one are expected, and nothing else")
    for key_id, secret in table["keys"].items():
        if not _KEY_ID.fullmatch(key_id):
            raise _invalid(path, "a key id has other characters than A-Z a-z 0-9 . _ -, or more than 64")
        if not isinstance(secret, str) or len(secret.encode()) < _SHORTEST:
            raise _invalid(path, f"the secret of key {key_id} is shorter than {_SHORTEST} bytes")
    current = table["current"]
    if not isinstance(current, str) or current not in table["keys"]:
        raise _invalid(path, "current is not the id of one of the keys")
    return Key(current, table["keys"][current].encode())
