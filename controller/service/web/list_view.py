"""The runs of a tenant as the list shows them: those that fit a filter, a page at a time, with what is known of each.

Touches: the store. What is known of a run that has ended is kept in memory.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from chunk_job.contract import Language
from chunk_job.text import composed
from controller.domain import stored_documents
from controller.domain.documents import Status
from controller.domain.keys import RunKeys
from controller.domain.service_documents import ENDED_STATUSES, RequestState, RequestStatus
from controller.domain.service_keys import RequestKey, RequestKeys, index_of
from controller.runs.lookup import of_each
from controller.service.context import Service
from controller.service.tenant import Tenant

ON_PAGE = 25
MOST_SEARCHED = 1_000
"""Runs that one search looks at: each is an object of the store."""
_AT_ONCE = 100
_MOST_KEPT = 5_000


@dataclass(frozen=True, kw_only=True)
class Filter:
    """Which runs are shown. Empty: all."""

    text: str = ""
    """Words that must all be in the name, in the labels, or at the beginning of the id."""
    status: RequestStatus | None = None
    label: str = ""
    """``NAME=VALUE``, or ``NAME``."""

    @property
    def is_empty(self) -> bool:
        """Whether all runs are shown."""
        return not (self.text.strip() or self.status or self.label)

    def fits(self, state: RequestState) -> bool:
        """Whether a run is shown."""
        name, equals, value = self.label.partition("=")
        if self.status and state.status != self.status:
            return False
        if name and (name not in state.labels or (equals and state.labels[name] != value)):
            return False
        texts = [_plain(state.name), *(_plain(f"{key}={of}") for key, of in state.labels.items())]
        words = _plain(self.text).split()
        return all(state.id.startswith(word) or any(word in text for text in texts) for word in words)


def _plain(text: str) -> str:
    """What is compared: neither letter case nor the Unicode form of a name counts."""
    return composed(text).casefold()


class Facts(NamedTuple):
    """What the store has of a run."""

    percent: float | None = None
    length_ms: int | None = None
    language: str = ""


@dataclass(frozen=True, kw_only=True)
class ListedRun:
    """A run in the list."""

    id: str
    name: str
    status: RequestStatus
    labels: Mapping[str, str]
    created_ms: int
    facts: Facts

    @property
    def has_ended(self) -> bool:
        """Whether nothing of it changes any more by itself."""
        return self.status in ENDED_STATUSES


@dataclass(frozen=True, kw_only=True)
class ListedPage:
    """Some runs, the newest first."""

    runs: Sequence[ListedRun]
    next_cursor: str
    """For the next ones; empty: there are none."""
    searched: int
    """How many runs were looked at."""
    searched_until_ms: int | None
    """When the last of these was submitted."""

    @property
    def is_full(self) -> bool:
        """Whether no more runs were looked for."""
        return len(self.runs) == ON_PAGE

    @property
    def changes(self) -> bool:
        """Whether any of them has not ended."""
        return any(not run.has_ended for run in self.runs)


class RunList:
    """Lists runs."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._kept: OrderedDict[tuple[str, int], Facts] = OrderedDict()
        """By run and the time of its last change."""
        self._lock = threading.Lock()

    def page(self, tenant: Tenant, wanted: Filter, cursor: str = "") -> ListedPage:
        """Return the next runs that fit. Looks at MOST_SEARCHED at most. Raises :class:`StoreUnavailable`."""
        found: list[RequestState] = []
        searched, until_ms = 0, None
        while True:
            most = ON_PAGE if wanted.is_empty else _AT_ONCE
            states, cursor = self._service.requests.page(tenant.prefix, after=cursor, most=most)
            for state in states:
                searched, until_ms = searched + 1, state.created_ms
                if wanted.fits(state):
                    found.append(state)
                if len(found) == ON_PAGE:
                    if state is not states[-1]:
                        cursor = _cursor(tenant.prefix, state)
                    break
            if len(found) == ON_PAGE or not cursor or searched >= MOST_SEARCHED:
                break
        runs = of_each(self._service.store, lambda state: self._listed(tenant, state), found)
        return ListedPage(
            runs=tuple(runs),
            next_cursor=cursor,
            searched=searched,
            searched_until_ms=until_ms,
        )

    def _listed(self, tenant: Tenant, state: RequestState) -> ListedRun:
        return ListedRun(
            id=state.id,
            name=state.name,
            status=state.status,
            labels=state.labels,
            created_ms=state.created_ms,
            facts=self._facts(tenant, state),
        )

    def _facts(self, tenant: Tenant, state: RequestState) -> Facts:
        if state.run_id is None:
            return Facts()
        key = state.run_id, state.updated_ms
        with self._lock:
            if kept := self._kept.get(key):
                self._kept.move_to_end(key)
                return kept
        found = self._read(tenant, state, RunKeys(state.run_id))
        if state.status in ENDED_STATUSES:
            with self._lock:
                self._kept[key] = found
                while len(self._kept) > _MOST_KEPT:
                    self._kept.popitem(last=False)
        return found

    def _read(self, tenant: Tenant, state: RequestState, keys: RunKeys) -> Facts:
        store = self._service.store
        status = stored_documents.valid(store, Status, keys.status)
        request = self._service.requests.find(RequestKey(tenant.prefix, state.id))
        language = request.request.options.language if request else None
        if language is None:
            detected = stored_documents.valid(store, Language, keys.language)
            language = detected.language if detected else None
        return Facts(
            percent=status.percent if status and state.status == "running" else None,
            length_ms=(status.total_ms or None) if status and status.planned else None,
            language=language or "",
        )


def _cursor(prefix: str, state: RequestState) -> str:
    key = RequestKeys(RequestKey(prefix, state.id)).indexed(state.created_ms)
    return key.removeprefix(index_of(prefix))
