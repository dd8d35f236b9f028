"""Who may use the service: the tenants of one file, with their tokens and limits.

Touches: the tenants file, the clock. The file is mounted from a Secret, so it can change at any time: it is read again
when its content has changed. No message contains a value of the file, because a token could be in it by mistake.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import re
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from controller.domain.service_keys import PREFIX_PATTERN
from controller.errors import UsageProblem
from controller.runs.opened_files import open_file
from controller.service.sources import is_apart
from controller.service.tenant import DEFAULT, Tenant
from controller.service.tokens import digest_of, parsed_digest

log = logging.getLogger(__name__)

RECHECK_S = 5.0
"""The file is read again when an answer would be older than this."""

MAX_BYTES = 1 << 20
"""A Secret is not larger."""
MAX_TENANTS = 1_000
MAX_TOKENS = 5_000
"""Of all tenants together: every request is compared with each of them."""
_MOST_NAMED = 20
"""In a line of the log."""

_PLAIN_KEY = re.compile(r"[a-z_]{1,30}", re.ASCII)
"""A key that can be repeated in a message: a token is longer."""
_POSITION = re.compile(r"\((at [a-z0-9, ]+)\)$", re.ASCII)
_MAX_DOTS = 1_000
"""Limit for one line: the parser's time grows with the square of the number of parts of a key."""


class _Read(NamedTuple):
    """What is known from one version of the file. It is replaced as a whole, so that no thread sees half of it."""

    tenants: tuple[Tenant, ...]
    by_name: Mapping[str, Tenant]
    by_prefix: Mapping[str, Tenant]
    digests: tuple[tuple[bytes, Tenant], ...]


class Tenants:
    """The tenants of a file, as it is now; or the one default tenant. Safe to use by several threads."""

    def __init__(self, path: Path | None = None, *, clock: Callable[[], float] = time.monotonic) -> None:
        """*path*: the tenants file; None: only the default tenant. *clock*: seconds.

        Raises :class:`UsageProblem` for a file that cannot be used.
        """
        self._path, self._clock = path, clock
        self._lock = threading.Lock()
        self._checked_s = clock()
        self._seen = b""
        """Digest of the content that was read last, also if it could not be used."""
        self._problem = ""
        if path is None:
            self._read = _indexed((DEFAULT,))
        else:
            data = _contents(path)
            self._read, self._seen = _indexed(parse(data, path)), hashlib.sha256(data).digest()

    @property
    def configured(self) -> bool:
        """Whether there is a tenants file; else nobody needs a token."""
        return self._path is not None

    @property
    def problem(self) -> str:
        """Why the file as it is now is not used, for an operator; empty: it is used."""
        self._current()
        return self._problem

    @property
    def all(self) -> tuple[Tenant, ...]:
        """All tenants, in the order of the file."""
        return self._current().tenants

    def by_name(self, name: str) -> Tenant | None:
        """Return the tenant with this name, if there is one."""
        return self._current().by_name.get(name)

    def by_prefix(self, prefix: str) -> Tenant | None:
        """Return the tenant whose objects have this prefix, if there is one."""
        return self._current().by_prefix.get(prefix)

    def by_token(self, token: str) -> Tenant | None:
        """Return the tenant that has this token, in a time that depends neither on which one nor on whether."""
        wanted, found = digest_of(token), None
        for digest, tenant in self._current().digests:
            if hmac.compare_digest(digest, wanted):
                found = tenant
        return found

    @property
    def is_due(self) -> bool:
        """Whether the next question reads the file."""
        return self._path is not None and self._clock() - self._checked_s >= RECHECK_S

    def refresh(self) -> None:
        """Read the file if that is due."""
        self._current()

    def _current(self) -> _Read:
        # A thread that comes while another one reads the file gets the version before.
        if self._path and self.is_due and self._lock.acquire(blocking=False):
            try:
                self._check(self._path)
            finally:
                self._lock.release()
        return self._read

    def _check(self, path: Path) -> None:
        self._checked_s = self._clock()
        try:
            data = _contents(path)
            digest = hashlib.sha256(data).digest()
            if digest == self._seen:
                return
            self._read, self._seen = _indexed(parse(data, path)), digest
        except UsageProblem as problem:
            self._keep(f"{problem.summary}; {problem.advice}")
        else:
            self._problem = ""
            log.info("%s: tenants read again: %s", path, _named(self._read.tenants))

    def _keep(self, problem: str) -> None:
        """Keep the tenants of before. Each problem is logged once."""
        # What is seen next is parsed again, also if it is what was there before.
        self._seen = b""
        if problem != self._problem:
            self._problem = problem
            log.error("the tenants are those of before: %s", problem)


def _named(tenants: Sequence[Tenant]) -> str:
    """Return the names of the tenants for a line of the log, or how many there are."""
    return ", ".join(one.name for one in tenants) if len(tenants) <= _MOST_NAMED else str(len(tenants))


def parse(data: bytes, path: Path) -> tuple[Tenant, ...]:
    """Parse the content of the tenants file at *path*. Raises :class:`UsageProblem`, which contains no value of it."""
    document = _document(data, path)
    if unknown := [_plain(key) for key in document if key != "tenants"]:
        raise UsageProblem(f"{path}: {unknown[0]} is not known", "write one table [tenants.NAME] for each tenant")
    tables = document.get("tenants")
    if not isinstance(tables, dict) or not tables:
        raise UsageProblem(f"{path}: has no tenants", "write one table [tenants.NAME] for each tenant")
    if len(tables) > MAX_TENANTS:
        raise UsageProblem(f"{path}: has {len(tables)} tenants", f"allowed: {MAX_TENANTS}")
    tenants = tuple(_tenant(number, name, table, path) for number, (name, table) in enumerate(tables.items(), 1))
    _check_together(tenants, path)
    return tenants


def _document(data: bytes, path: Path) -> dict[str, Any]:
    try:
        text = data.decode()
        if any(line.count(".") > _MAX_DOTS for line in text.split("\n")):
            raise RecursionError
        return tomllib.loads(text)
    except (RecursionError, ValueError) as error:
        # Only the position: the parser's messages repeat parts of the file.
        found = _POSITION.search(str(error))
        where = f" ({found[1]})" if found else ""
        raise UsageProblem(
            f"{path}: is not valid TOML{where}", "text is in quotes, lists are in [ ], and each key is there once"
        ) from None


def _tenant(number: int, name: str, table: object, path: Path) -> Tenant:
    if not re.fullmatch(PREFIX_PATTERN, name):
        raise UsageProblem(
            f"{path}: tenant {number} in the file: its name is not valid",
            "allowed: 1 to 40 lower-case letters, digits, and hyphens that are neither first nor last",
        )
    where = f"{path}: tenant {name}"
    if not isinstance(table, dict):
        raise UsageProblem(f"{where}: is not a table", f"write [tenants.{name}], and its keys below it")
    if unknown := [key for key in table if key == "name" or key not in Tenant.model_fields]:
        known = ", ".join(key for key in Tenant.model_fields if key != "name")
        raise UsageProblem(f"{where}: {_plain(unknown[0])} is not known", f"allowed: {known}")
    try:
        return Tenant.model_validate({"prefix": name} | table | {"name": name})
    except ValidationError as error:
        key, *rest = error.errors(include_url=False, include_input=False, include_context=False)[0]["loc"]
        entry = f", entry {int(rest[0]) + 1}" if rest and isinstance(rest[0], int) else ""
        allowed = Tenant.model_fields[str(key)].description
        raise UsageProblem(f"{where}: {key}{entry}: not a valid value", f"allowed: {allowed}") from None


def _check_together(tenants: tuple[Tenant, ...], path: Path) -> None:
    """Raises :class:`UsageProblem` for what two tenants cannot share."""
    if (count := sum(len(tenant.tokens) for tenant in tenants)) > MAX_TOKENS:
        raise UsageProblem(f"{path}: the tenants have {count} tokens together", f"allowed: {MAX_TOKENS}")
    _check_inboxes(tenants, path)
    prefixes = Counter(tenant.prefix for tenant in tenants)
    tokens = Counter(token for tenant in tenants for token in tenant.tokens)
    for tenant in tenants:
        if prefixes[tenant.prefix] > 1:
            raise UsageProblem(
                f"{path}: tenant {tenant.name}: prefix: another tenant has the same", "give each tenant its own prefix"
            )
        for number, token in enumerate(tenant.tokens, 1):
            if tokens[token] > 1:
                raise UsageProblem(
                    f"{path}: tenant {tenant.name}: tokens, entry {number}: is there twice in the file",
                    "give each tenant its own tokens: stenofleet token makes one",
                )


def _check_inboxes(tenants: tuple[Tenant, ...], path: Path) -> None:
    """Raises :class:`UsageProblem` for inboxes that are not separate from others and from all outboxes."""
    having = [tenant for tenant in tenants if tenant.inbox or tenant.outbox]
    for tenant in having:
        if not (tenant.inbox and tenant.outbox):
            raise UsageProblem(f"{path}: tenant {tenant.name}: inbox and outbox belong together", "give both, or none")
        others = [one.outbox for one in having] + [one.inbox for one in having if one is not tenant]
        if not is_apart(tenant.inbox, others):
            where = f"{path}: tenant {tenant.name}: inbox"
            raise UsageProblem(f"{where}: another one or an outbox is in it, or it is in one", "use separate folders")


def _plain(key: str) -> str:
    """Return a key of the file for a message; not what it is, if it may be a token."""
    return key if _PLAIN_KEY.fullmatch(key) else "a key"


def _indexed(tenants: tuple[Tenant, ...]) -> _Read:
    return _Read(
        tenants=tenants,
        by_name={tenant.name: tenant for tenant in tenants},
        by_prefix={tenant.prefix: tenant for tenant in tenants},
        digests=tuple((parsed_digest(token), tenant) for tenant in tenants for token in tenant.tokens),
    )


def _contents(path: Path) -> bytes:
    try:
        with open_file(path, max_bytes=MAX_BYTES) as file:
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageProblem(
            f"{path}: the tenants file cannot be read: {error.strerror}", "check --tenants, and the mount of its Secret"
        ) from None
