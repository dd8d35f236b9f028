"""What the inboxes are to look at before their next look at everything.

Touches: nothing. Used by several threads.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping

from controller.domain.service_documents import RequestEnd, ServiceRequest
from controller.service.inbox.names import Ended
from controller.service.inbox.places import InboxSettings, Place, places
from controller.service.tenants import Tenants

_MOST = 10_000
"""Of one tenant: what is forgotten is found by the next look at everything."""


class Noted:
    """Objects and ends of all tenants, and where their inboxes are."""

    def __init__(self, settings: InboxSettings, tenants: Tenants) -> None:
        self.settings = settings
        self._tenants = tenants
        self.woken = threading.Event()
        """Set when something was noted."""
        self._lock = threading.Lock()
        """Protects the rest."""
        self._paths: dict[str, OrderedDict[str, None]] = {}
        self._ends: dict[str, OrderedDict[Ended, None]] = {}

    def places(self) -> Mapping[str, Place]:
        """Return the places of all tenants that have an inbox, by prefix."""
        return {place.tenant.prefix: place for place in places(self.settings, self._tenants)}

    def place_of(self, prefix: str) -> Place | None:
        """Return the place of a tenant; None if it has no inbox."""
        return self.places().get(prefix)

    def note(self, prefix: str, path: str, *, wake: bool = True) -> bool:
        """Look at an object: at once, or without *wake* soon. Returns False if too many wait already."""
        with self._lock:
            paths = self._paths.setdefault(prefix, OrderedDict())
            if path not in paths and len(paths) >= _MOST:
                return False
            paths[path] = None
        if wake:
            self.woken.set()
        return True

    def ended(self, request: ServiceRequest, end: RequestEnd) -> None:
        """Deliver the end of a request at once. It is in the store already."""
        with self._lock:
            ends = self._ends.setdefault(request.tenant, OrderedDict())
            if len(ends) < _MOST:
                ends[Ended(request.id, end.retries)] = None
        self.woken.set()

    def has_paths(self) -> bool:
        """Whether any object waits."""
        with self._lock:
            return any(self._paths.values())

    def take_paths(self, prefix: str) -> list[str]:
        """Return all objects of a tenant, and forget them."""
        with self._lock:
            return list(self._paths.pop(prefix, ()))

    def take_ends(self, prefix: str) -> list[Ended]:
        """Return all ends of a tenant, and forget them."""
        with self._lock:
            return list(self._ends.pop(prefix, ()))
