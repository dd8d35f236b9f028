"""Looks into the inbox of one tenant: what is new there is submitted, once.

Touches: the inbox, the store, the outbox. A look reads the listing of the inbox and that of the records beside it, and
nothing else of what is known already. It can be stopped anywhere: the id of a request follows from the object and its
version, so whoever submits it again finds the first one.
"""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from chunk_job.contract import sha256_hex
from chunk_job.errors import JobError
from chunk_job.store.base import StoredObject
from controller.domain import stored_documents
from controller.domain.service_documents import InboxCursor, ServiceRequest
from controller.domain.service_keys import RequestKey, idempotent_id
from controller.errors import EnvironmentProblem, StenofleetError
from controller.runs.outputs import base_of
from controller.service.context import Service
from controller.service.inbox import names, outcome
from controller.service.inbox.budget import Budget, Pause
from controller.service.inbox.delivery import Delivery
from controller.service.inbox.joining import Seen
from controller.service.inbox.names import NO_OPTIONS, NOBODY, Record, StateKeys, Version, version_of
from controller.service.inbox.places import InboxSettings, Place, checked
from controller.service.inbox.scanning import Listings, Passed, Scan
from controller.service.inbox.settling import Settling
from controller.service.inbox.sidecars import Resolved, Sidecars
from controller.service.limits import LimitExceeded
from controller.service.problems import Problem, invalid, problem_of
from controller.service.submissions import Submission
from controller.service.submitting import safe_name, submit_found

_AT_ONCE = 200
"""Requests that are submitted before other inboxes have their turn."""
_MOST_REFUSED = 1_000
_MOST_ACTIVE = 16
_PAGES_OF_ACTIVE = 4
"""A folder that needs more listings is not looked at more often than the others."""

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Changed:
    """The sidecar of a folder has changed: all that is in the folder is looked at with its new options."""

    number: int
    """Only a look with a higher number is complete."""
    before: tuple[Record, ...]
    after: Record | None
    """None: it was deleted."""


class TenantInbox:
    """The inbox of one tenant. Used by one thread."""

    def __init__(
        self,
        place: Place,
        service: Service,
        settings: InboxSettings,
        *,
        now_s: Callable[[], float],
        submitted: Callable[[], None] = lambda: None,
        is_closed: Callable[[], bool] = lambda: False,
    ) -> None:
        """*submitted* is called for each new request. *is_closed*: whether to stop.

        Raises :class:`UsageProblem` for places that cannot be used.
        """
        self.place = place
        self._service = service
        self._now_s = now_s
        self._submitted, self._is_closed = submitted, is_closed
        checked(place.inbox, place.outbox, service.store)
        inbox, self._keys = place.open(), StateKeys(place.tenant.prefix)
        self._settling = Settling(0.0 if inbox.remote else settings.settle_s, now_s)
        self.budget = Budget(settings.lists_per_minute, now_s)
        self._listings = Listings(inbox, service.store, self._keys, self.budget)
        self._sidecars = Sidecars(inbox)
        self.delivery = Delivery(service.store, self._keys, self._listings, service.queue.wake)
        self._scan: Scan | None = None
        self._number = 0
        self._may_have_cursor = True
        self._refused: set[str] = set()
        self._changed: dict[str, _Changed] = {}
        """By folder."""
        self._active: OrderedDict[str, None] = OrderedDict()
        """Folders in which something was new, the latest last."""
        self._left = 0
        self.passed: Passed | None = None
        """The last complete look."""
        _LOG.info("inbox of %s: %s, outbox %s", self._keys.prefix, place.inbox, place.outbox)

    # ------------------------------------------------------------ turns

    def look_at(self, path: str) -> None:
        """Look at a single object. Raises :class:`Pause`, and the errors of the store and of the inbox."""
        self._sidecars.forget()
        self._handle(self._listings.of(path))

    def turn(self) -> bool:
        """Continue the look at everything. Returns whether to come back at once.

        Raises the errors of the store and of the inbox.
        """
        self._left = _AT_ONCE
        self._sidecars.forget()
        try:
            if self._scan and self._scan.cursor:
                self._look_at_active()
            self._look_at_all()
        except Pause as pause:
            return pause.at_once
        return False

    def _look_at_all(self) -> None:
        scan = self._scan = self._scan or self._first()
        try:
            self._go_on(scan)
        except Pause:
            self._may_have_cursor = True
            self._service.store.put(self._keys.cursor, InboxCursor(path=names.encoded(scan.cursor)).encode())
            raise
        self._scan = None
        self.passed = Passed(scan.objects, self._now_s() - scan.began_s)
        if self._may_have_cursor:
            self._service.store.delete(self._keys.cursor)
            self._may_have_cursor = False
            found = (self._keys.prefix, self.passed.objects, self.passed.seconds, self.budget.spent)
            _LOG.info("inbox of %s: looked at %d objects in %.0f s; %d requests to list so far", *found)
        self._settling.forget_before(scan.number)

    def _first(self) -> Scan:
        scan = self._new("")
        if scan.number == 1:
            stopped = stored_documents.valid(self._service.store, InboxCursor, self._keys.cursor)
            if stopped and (path := names.decoded(stopped.path)):
                scan.cursor, scan.is_whole = path, False
        return scan

    def _new(self, prefix: str) -> Scan:
        self._number += 1
        return Scan(prefix, self._number, self._now_s())

    def _look_at_active(self) -> None:
        """Look at folders in which something was new, before the long look at everything continues."""
        for folder in reversed(list(self._active)):
            scan = self._new(folder)
            scan.most_pages = _PAGES_OF_ACTIVE
            try:
                self._go_on(scan)
            except Pause as pause:
                if pause.at_once or self.budget.is_spent:
                    raise
                del self._active[folder]

    def _go_on(self, scan: Scan) -> None:
        for seen in self._listings.rest(scan):
            if self._left <= 0 or self._is_closed():
                raise Pause(at_once=True)
            self._handle(seen, scan.number)
            scan.objects += seen.entry is not None
            scan.cursor = seen.path
        for folder, changed in list(self._changed.items()):
            if scan.is_whole and folder.startswith(scan.prefix) and changed.number < scan.number:
                self.delivery.replace(changed.before, changed.after)
                del self._changed[folder]

    # ------------------------------------------------------------ one object

    def _handle(self, seen: Seen, number: int = 0) -> None:
        """*number*: of the look; 0: it is for this object alone."""
        path, entry = seen.path, seen.entry
        if names.is_left_alone(path):
            return
        if len(path.encode("utf-8", "surrogatepass")) > names.LONGEST_PATH:
            self._refuse_name(path)
        elif names.is_sidecar(path):
            self._handle_sidecar(seen, number)
        elif entry is None:
            # It was deleted. What is running continues.
            self.delivery.replace(seen.records, None)
        else:
            self._handle_recording(path, entry, seen.records, number)

    def _handle_recording(
        self, path: str, entry: StoredObject, records: tuple[Record, ...], number: int, *, again: bool = False
    ) -> None:
        """*again*: its options may have changed."""
        version = version_of(entry)
        known = _latest([record for record in records if record.is_of(version)])
        again = again or any(path.startswith(folder) for folder in self._changed)
        if known and not again:
            if len(records) > 1:
                self.delivery.supersede(records, known)
            return
        if not known and not self._settling.is_complete(path, version, number or self._number):
            return
        resolved = self._sidecars.of(path)
        if known and known.options == resolved.digest:
            return
        self._left -= 1
        self._active[names.folder_of(path)] = None
        self._active.move_to_end(names.folder_of(path))
        while len(self._active) > _MOST_ACTIVE:
            self._active.popitem(last=False)
        self._submit(path, version, resolved, records)

    def _submit(self, path: str, version: Version, resolved: Resolved, before: tuple[Record, ...]) -> None:
        uri = self.place.uri(path)
        # With the request before, so that going back to older options or content is another request.
        what = (uri, version.content, str(version.modified_s), resolved.digest)
        ids = [self._request_id(*what, each.request) for each in before] or [self._request_id(*what, "")]
        if submitted := next((each for each in before if each.request in ids), None):
            # By a process that was killed before it deleted the other records.
            self.delivery.supersede(before, submitted)
            return
        request_id = ids[0]
        record = Record(
            path=path, content=version.content, modified_s=version.modified_s, options=resolved.digest,
            state="submitted", request=request_id,
        )  # fmt: skip
        try:
            request = self._accepted(path, uri, resolved, request_id)
        except LimitExceeded as error:
            _LOG.info("inbox of %s: waits: %s", self._keys.prefix, error.summary)
            raise Pause(at_once=False) from error
        except (Problem, StenofleetError) as error:
            if self._refuse(path, problem_of(error)):
                failed = Record(**{**vars(record), "state": "failed", "request": NOBODY})
                self.delivery.supersede(before, failed)
            return
        self._submitted()
        self.delivery.supersede(before, record)
        # It may have ended before its record was there, even long ago.
        found = self._service.requests.find(RequestKey(request.tenant, request.id))
        if found and found.end:
            self.delivery.settle(path, request, found.end)

    def _request_id(self, *parts: str) -> str:
        digest = sha256_hex("\0".join(parts).encode())
        return idempotent_id(self._keys.prefix, f"inbox {digest}")

    def _accepted(self, path: str, uri: str, resolved: Resolved, request_id: str) -> ServiceRequest:
        """Submit a recording. Raises what makes it refused."""
        if resolved.problem:
            raise resolved.problem
        base = base_of(self.place.folder(path), path.rpartition("/")[2])
        body = {"source": uri, **resolved.fields}
        try:
            submission = Submission.model_validate_json(json.dumps(body))
        except ValidationError as error:
            raise invalid(error, body=body) from None
        return submit_found(
            self._service,
            self.place.tenant,
            submission,
            request_id=request_id,
            name=safe_name(path),
            base=base,
            inbox=names.encoded(path),
        )

    def _refuse(self, path: str, problem: Problem) -> bool:
        """Say in the outbox why an object is not transcribed. Returns False if the outbox does not take it now."""
        found = problem.document
        _LOG.warning("inbox of %s: %s: %s", self._keys.prefix, names.shown(path), found.detail)
        data = outcome.of_problem(path, problem, self._service.now_ms())
        try:
            outcome.put_error(f"{self.place.outbox}/{path}", data)
        except (JobError, EnvironmentProblem) as refused:
            # Without a record, the object is looked at again.
            _LOG.warning("inbox of %s: %s", self._keys.prefix, refused.summary)
            return False
        return True

    def _refuse_name(self, path: str) -> None:
        if path not in self._refused and len(self._refused) < _MOST_REFUSED:
            self._refused.add(path)
            limit = f"its path has more than {names.LONGEST_PATH} bytes"
            self._refuse(path, Problem(422, "not-possible", limit, "give it a shorter name"))

    # ------------------------------------------------------------ sidecars

    def _handle_sidecar(self, seen: Seen, number: int) -> None:
        """Look again at what a sidecar is for, if it has changed."""
        path, entry, records = seen
        after = None
        if entry:
            version = version_of(entry)
            if any(record.content == version.content for record in records) or not self._settling.is_complete(
                path, version, number or self._number
            ):
                return
            after = Record(
                path=path, content=version.content, modified_s=version.modified_s, options=NO_OPTIONS,
                state="sidecar", request=NOBODY,
            )  # fmt: skip
        if not names.is_folder_sidecar(path):
            for stem in names.forms_of(path.removesuffix(names.SIDECAR_SUFFIX)):
                for each in (stem, *self._listings.named_like(stem)):
                    self._look_again(each)
            self.delivery.replace(records, after)
            return
        folder = names.folder_of(path)
        known = self._changed.get(folder)
        if known is None or known.after != after:
            self._changed[folder] = _Changed(self._number, records, after)

    def _look_again(self, path: str) -> None:
        seen = self._listings.of(path)
        if seen.entry and not names.is_sidecar(path) and not names.is_left_alone(path):
            self._handle_recording(path, seen.entry, seen.records, 0, again=True)


def _latest(records: Sequence[Record]) -> Record | None:
    """Return the record that counts: one that has ended, if there are several."""
    return min(records, key=lambda record: record.state == "submitted", default=None)
