"""Sends the webhooks that are due.

Touches: the store, the network, threads. A delivery is deleted after its receiver has accepted it: an event is sent at
least once, and a receiver recognizes a repeated one by its id.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from chunk_job.errors import DocumentInvalid, JobError
from controller.domain.webhook_documents import Delivery
from controller.service.addresses import (
    AddressRefused,
    AllowList,
    CallbackRefused,
    Lookup,
    check_callback,
    resolve,
    system_lookup,
)
from controller.service.attempt_queue import AT_ONCE, AttemptQueue
from controller.service.outbox import Move, Outbox, Pending, delivered, failed
from controller.service.posting import NotDelivered, post
from controller.service.signatures import WebhookKeys, WebhookNotConfigured, sign

PERIOD_S = 2.0
CONTENT_TYPE = "application/cloudevents+json"
_GONE = 410
_CHECK_MS = 600_000
"""How often duplicates are removed, which killed processes may leave."""
_EXPIRE_MS = 3_600_000
"""How often old dead deliveries are removed."""
_MOST_LOOKED_AT = 2_000
"""Deliveries of a tenant in one tick, of those that are due. The next tick continues after them."""
_MOST_REPORTED = 1_000

Outcome = Literal["delivered", "retried", "dead"]

log = logging.getLogger(__name__)


class _Failed(Exception):
    """An attempt failed. The text is for the tenant. *final*: there must be no other one."""

    def __init__(self, reason: str, *, final: bool = False) -> None:
        super().__init__(reason)
        self.final = final


@dataclass
class _Periodic:
    """Something that is done again and again."""

    period_ms: int
    done_ms: int | None = None
    """When it was done last; None: not yet."""

    def is_due(self, now_ms: int) -> bool:
        return self.done_ms is None or not 0 <= now_ms - self.done_ms < self.period_ms


class Deliverer:
    """Sends the deliveries that this replica is responsible for."""

    def __init__(
        self,
        outbox: Outbox,
        keys: WebhookKeys,
        mine: Callable[[str], bool],
        allowed: Callable[[str], Iterable[str]],
        *,
        trust: ssl.SSLContext | None = None,
        lookup: Lookup = system_lookup,
        observe: Callable[[Outcome], None] = lambda _: None,
    ) -> None:
        """*mine*: whether this replica sends the delivery with this id. *allowed*: by the prefix of a tenant, the hosts
        and networks that callbacks may be sent to although they are not public. *trust*: the authorities of https;
        default: those of the system. *observe*: called after each attempt, in its thread.
        """
        self._outbox = outbox
        self._keys = keys
        self._mine = mine
        self._allowed = allowed
        self._trust = trust or ssl.create_default_context()
        self._lookup = lookup
        self._observe = observe
        self._queue = AttemptQueue()
        self._pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="webhook")
        self._now_ms = 0
        """The time of the last tick."""
        self._checked = _Periodic(_CHECK_MS)
        self._expired = _Periodic(_EXPIRE_MS)
        self._looked_at: dict[str, Pending] = {}
        """By tenant: where the last tick stopped, if more is due."""
        self._unsettled: dict[Pending, Move] = {}
        """Changes that could not be stored. They are tried again, instead of sending the event again."""
        self._reported: set[Pending] = set()
        """Deliveries that cannot be read. They are kept: another version may have written them."""

    def tick(self, now_ms: int) -> None:
        """Take what is due at *now_ms*, in milliseconds since the epoch, and begin to send it.

        Returns without waiting for receivers. Raises what the store raises.
        """
        self._now_ms = now_ms
        check, expire = self._checked.is_due(now_ms), self._expired.is_due(now_ms)
        expired = expire
        for prefix in self._outbox.prefixes():
            if check:
                self._remove_duplicates(prefix)
            if expire:
                expired &= self._outbox.remove_expired(prefix, now_ms)
            if self._configured(prefix):
                self._take(prefix, now_ms)
        for each in (self._checked,) * check + (self._expired,) * expired:
            each.done_ms = now_ms

    def wait(self, timeout_s: float) -> bool:
        """Wait until everything that was taken has been tried. Returns False if *timeout_s* is over before."""
        return self._queue.wait(timeout_s)

    def close(self) -> None:
        """Begin no attempt any more, and wait for those that run: 15 seconds, and the resolution of a name."""
        self._queue.close()
        self._pool.shutdown()

    def _configured(self, prefix: str) -> bool:
        try:
            self._keys.current(prefix)
        except WebhookNotConfigured:
            # Its deliveries are kept until there is a key again.
            return False
        return True

    def _remove_duplicates(self, prefix: str) -> None:
        """Of deliveries with the same id, keep the one that is due last: it was written last."""
        found: dict[str, Pending] = {}
        for pending in self._outbox.pending(prefix):
            if self._mine(pending.id):
                if before := found.get(pending.id):
                    self._outbox.apply(Move((), (before.key,)))
                found[pending.id] = pending

    def _take(self, prefix: str, now_ms: int) -> None:
        before = self._looked_at.pop(prefix, None)
        for number, pending in enumerate(self._outbox.pending(prefix, after=before)):
            if pending.due_ms > now_ms:
                break
            if number == _MOST_LOOKED_AT or (self._mine(pending.id) and not self._queue.offer(pending)):
                # Many wait for a receiver that has enough, or the tenant has.
                if before:
                    self._looked_at[prefix] = before
                break
            before = pending
        self._start()

    def _start(self) -> None:
        while pending := self._queue.take():
            self._pool.submit(self._run, pending)

    def _run(self, pending: Pending) -> None:
        try:
            self._attempt(pending)
        except DocumentInvalid as error:
            self._report(pending, error)
        except JobError as error:
            log.warning("webhook %s: %s", pending.id, error)
        except Exception:
            log.exception("webhook %s", pending.id)
        finally:
            self._queue.done(pending)
            self._start()

    def _report(self, pending: Pending, error: DocumentInvalid) -> None:
        if pending not in self._reported and len(self._reported) < _MOST_REPORTED:
            self._reported.add(pending)
            log.warning("webhook %s is not sent: %s", pending.id, error)

    def _attempt(self, pending: Pending) -> None:
        if pending not in self._unsettled:
            delivery = self._outbox.read(pending)
            if not delivery:
                return
            self._unsettled[pending] = self._sent(delivery)
        self._outbox.apply(self._unsettled[pending])
        del self._unsettled[pending]

    def _sent(self, delivery: Delivery) -> Move:
        """Make one attempt, and return the change that follows."""
        try:
            self._send(delivery)
        except _Failed as error:
            return self._failed(delivery, str(error), final=error.final)
        except Exception:
            # Counts as an attempt: else it would be repeated with every tick.
            log.exception("webhook %s", delivery.id)
            return self._failed(delivery, "an internal error of the service", final=False)
        self._observe("delivered")
        return delivered(delivery)

    def _failed(self, delivery: Delivery, reason: str, *, final: bool) -> Move:
        move, outcome = failed(delivery, reason, self._now_ms, final=final)
        what = "has failed, and is sent again later" if outcome == "retried" else "has failed, and is not sent again"
        log.info("webhook %s %s: %s", delivery.id, what, reason)
        self._observe(outcome)
        return move

    def _send(self, delivery: Delivery) -> None:
        """Send the event once. Raises :class:`_Failed`."""
        allowed = AllowList.of(self._allowed(delivery.prefix))
        body = delivery.event.model_dump_json().encode()
        signature = sign(self._keys.current(delivery.prefix), delivery.id, body, self._now_ms // 1000)
        try:
            target = check_callback(delivery.url, allowed)
            addresses = resolve(target, allowed, self._lookup)
            headers = {"Content-Type": CONTENT_TYPE, "User-Agent": "stenofleet", **signature}
            status = post(target, addresses, headers, body, self._trust)
        except (CallbackRefused, NotDelivered) as error:
            raise _Failed(str(error)) from error
        except AddressRefused as error:
            log.info("webhook %s: %s", delivery.id, error)
            raise _Failed("the host of the callback URL is not known, or has an address that is not public") from error
        _check(status)


def _check(status: int) -> None:
    """Raises :class:`_Failed` for any *status* but 2xx."""
    if 300 <= status < 400:
        raise _Failed(f"the receiver responded with HTTP {status}: redirects are not followed")
    if not 200 <= status < 300:
        raise _Failed(f"the receiver responded with HTTP {status}", final=status == _GONE)


class WebhookThread:
    """Calls :meth:`Deliverer.tick` every two seconds."""

    def __init__(self, deliverer: Deliverer, now_ms: Callable[[], int], period_s: float = PERIOD_S) -> None:
        """*now_ms*: the time in milliseconds since the epoch."""
        self._deliverer = deliverer
        self._now_ms = now_ms
        self._period_s = period_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="webhooks", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End the thread after the attempts that run. What was not sent stays in the store."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        self._deliverer.close()

    def _loop(self) -> None:
        while not self._ended.is_set():
            try:
                self._deliverer.tick(self._now_ms())
            except JobError as error:
                log.warning("webhooks: %s", error)
            except Exception:
                # A thread that ended would send nothing until the next start of the service.
                log.exception("webhooks")
            self._ended.wait(self._period_s)
