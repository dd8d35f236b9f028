"""Who works on a run whose store is shared by machines: an object that its leader renews.

Touches: the store, a thread. A runner's own lock keeps apart the commands of one place (a machine, a cluster). Between
places only the store is shared, and neither conditional puts nor clocks can be relied on: so a claim is put, left alone
for a moment and read back, and a leader is given up for dead after so many looks of ours in which it renewed nothing. A
store that answers late can make two leaders for a few seconds. That costs work done twice and no word of a transcript:
results are kept by attempt, and the lowest valid one wins. What a leader holds is renewed by a thread too: opening a
large run, a merge or a slow server may keep its loop busy for longer than a follower waits.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Callable
from typing import Literal

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from controller.domain import stored_documents
from controller.domain.documents import Lead
from controller.domain.keys import RunKeys

Standing = Literal["leading", "following", "undecided"]

LOOK_MS = 1_000
RENEW_MS = 3_000
LOOKS = 20
"""Seven renewals missed: a leader so long silent is dead, asleep, or cut off from the store."""


class StoreLead:
    """The lead of one run, as this process sees it."""

    def __init__(self, store: Store, run: str, place: str) -> None:
        """*place* is whom the runner's lock keeps apart; that lock must be held whenever this is asked."""
        self._store = store
        self._key = RunKeys(run).lead
        self._mine = Lead(run=run, owner=secrets.token_hex(8), place=place, beat=0)
        self._standing: Standing = "undecided"
        self._seen: Lead | None = None
        self._looks = 0
        self._due_ms = 0
        self._lock = threading.Lock()
        """Of everything above: the loop and the thread that renews share it."""

    def ask(self, now_ms: int) -> Standing:
        """Claim, renew or watch, as it is due. A leader that finds another one in its place leads no more."""
        with self._lock:
            # A clock that was set back must not make a leader silent.
            if not 0 < self._due_ms - now_ms <= RENEW_MS:
                self._standing, pause_ms = self._look()
                self._due_ms = now_ms + pause_ms
            return self._standing

    def renew(self) -> None:
        """Renew it where it is held, whatever the loop does meanwhile. Raises what the store raises."""
        with self._lock:
            if self._standing == "leading":
                self._standing, _ = self._look()

    def release(self) -> None:
        """Let the next one lead at once."""
        with self._lock:
            self._standing, self._due_ms = "undecided", 0
            found = self._read()
            if found and found.owner == self._mine.owner:
                self._store.delete(self._key)

    def held_elsewhere(self, wait: Callable[[float], None]) -> bool:
        """Whether somebody else renews it, without a claim of our own; takes as long as it takes to be sure."""
        while (found := self._read()) and (seen := self._watch(found)) != "free":
            if seen == "renewed":
                return True
            wait(LOOK_MS / 1000)
        return False

    def _look(self) -> tuple[Standing, int]:
        """What we are now, and after how many ms to look again."""
        found = self._read()
        if found.owner == self._mine.owner if found else self._standing == "leading":
            self._put()
            return "leading", RENEW_MS
        seen = self._watch(found) if found else "free"
        if seen == "free":
            self._put()
            return "undecided", LOOK_MS
        other = seen == "renewed" or self._standing == "leading"
        return "following" if other else self._standing, LOOK_MS

    def _watch(self, found: Lead) -> Literal["free", "renewed", "silent"]:
        """Free: its holder was of our place, whose lock we have, or has not renewed it for long."""
        before, self._seen = self._seen, found
        self._looks = self._looks + 1 if found == before else 0
        if found.place == self._mine.place or self._looks >= LOOKS:
            return "free"
        return "silent" if before is None or self._looks else "renewed"

    def _put(self) -> None:
        self._mine = self._mine.model_copy(update={"beat": self._mine.beat + 1})
        self._store.put(self._key, self._mine.encode())

    def _read(self) -> Lead | None:
        return stored_documents.valid(self._store, Lead, self._key)


class LeadKeeper:
    """Renews the leads of one process by a thread, until it is closed."""

    def __init__(self) -> None:
        self._leads: list[StoreLead] = []
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def keep(self, lead: StoreLead) -> None:
        """Renew *lead* whenever it is held."""
        self._leads.append(lead)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="leads", daemon=True)
            self._thread.start()

    def drop(self, lead: StoreLead) -> None:
        """Renew *lead* no more."""
        self._leads.remove(lead)

    def close(self) -> None:
        """Renew none any more. A renewal that is under way is not waited for."""
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(RENEW_MS / 1000):
            for lead in list(self._leads):
                # A store that is away is the loop's to wait for; whoever acts asks the lead itself.
                with contextlib.suppress(JobError):
                    lead.renew()
