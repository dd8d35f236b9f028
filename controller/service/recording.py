"""Records events and ends of requests in the store, in the order in which they came.

Touches: the store. The loop must not wait for the store here: it only adds to lists, and the queue's thread writes
them to the store.
"""

from __future__ import annotations

import logging
import re
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from chunk_job.errors import JobError
from chunk_job.names import model_name
from chunk_job.store.base import StoreUnavailable
from controller.domain.interfaces import RunOutcome
from controller.domain.service_documents import RequestEnd, ServiceRequest
from controller.domain.service_keys import RequestKey
from controller.intake.source import is_object, local_path
from controller.service.requests import RequestStore

OnEnd = Callable[[ServiceRequest, RequestEnd], None]

_OF_THE_API = {
    "the same command resumes the run": "trying the run again (:retry) computes only what is missing",
    "the same command resumes it": "trying the run again (:retry) computes only what is missing",
    "run the same command again": "try the run again (:retry)",
    "run the command again": "try the run again (:retry)",
}
_OPTION = re.compile(r"--([a-z]+(?:-[a-z]+)*)\b")

_LOG = logging.getLogger(__name__)


@dataclass
class Claimed:
    """A request that this replica works on."""

    key: RequestKey
    request: ServiceRequest
    retries: int
    run: str = ""
    """Empty: its recording is not identified yet."""


def in_words_of_the_api(text: str, request: ServiceRequest) -> str:
    """Return a text about a request in the words of the API: names of its options, how to try again.

    An uploaded recording has its name instead of its place in the store, and a model its name instead of its folder.
    """
    text = _OPTION.sub(lambda found: found[1].replace("-", "_"), text)
    for typed, meant in _OF_THE_API.items():
        text = text.replace(typed, meant)
    text = text.replace(request.options.model, model_name(request.options.model))
    if not request.upload:
        return text
    place = request.source if is_object(request.source) else str(local_path(request.source))
    return text.replace(request.source, request.name).replace(place, request.name)


class Recorder:
    """What is to be recorded. It is kept until the store has it."""

    def __init__(self, requests: RequestStore, on_end: OnEnd, now_ms: Callable[[], int]) -> None:
        """*on_end* is called with each recorded end before the request leaves the queue; it may come several times."""
        self._requests = requests
        self._on_end = on_end
        self._now_ms = now_ms
        self._lock = threading.Lock()
        """Protects both lists."""
        self._messages: deque[tuple[Claimed, str]] = deque()
        self._outcomes: deque[tuple[Claimed, RunOutcome]] = deque()

    def message(self, claimed: Claimed, text: str) -> None:
        """Record an event for people."""
        with self._lock:
            self._messages.append((claimed, text))

    def ended(self, claimed: Claimed, outcome: RunOutcome) -> None:
        """Record how a request ended."""
        with self._lock:
            self._outcomes.append((claimed, outcome))

    def record(self, recorded: Callable[[str], None]) -> None:
        """Write everything to the store; *recorded* is called with the id of each request that has left the queue.

        Raises what the store raises. The rest is written by the next call. What the store refuses of one request
        delays no other one.
        """
        with self._lock:
            messages, outcomes = list(self._messages), list(self._outcomes)
        refused: dict[str, JobError] = {}
        for message in messages:
            if _done(partial(self._record_message, *message), message[0], refused):
                with self._lock:
                    self._messages.remove(message)
        for outcome in outcomes:
            if _done(partial(self._record_end, *outcome), outcome[0], refused):
                recorded(outcome[0].request.id)
                with self._lock:
                    self._outcomes.remove(outcome)
        for error in refused.values():
            raise error

    def _record_message(self, claimed: Claimed, text: str) -> bool:
        shown = in_words_of_the_api(text, claimed.request).encode(errors="replace").decode()
        try:
            self._requests.events.add(claimed.key, "message", shown, retries=claimed.retries, now_ms=self._now_ms())
        except JobError:
            raise
        except Exception:  # noqa: BLE001 (a message is not worth that all ends wait)
            _LOG.exception("request %s: a message cannot be recorded", claimed.request.id)
        return True

    def _record_end(self, claimed: Claimed, outcome: RunOutcome) -> bool:
        try:
            shown = replace(
                outcome,
                summary=in_words_of_the_api(outcome.summary, claimed.request),
                advice=in_words_of_the_api(outcome.advice, claimed.request),
                warnings=tuple(in_words_of_the_api(warning, claimed.request) for warning in outcome.warnings),
            )
            end = self._requests.end(claimed.request, claimed.retries, shown, now_ms=self._now_ms())
            self.finish(claimed.request, end)
        except JobError:
            raise
        except Exception:  # noqa: BLE001 (the ends of other requests must be recorded)
            _LOG.exception("request %s: its end cannot be recorded", claimed.request.id)
            return False
        return True

    def finish(self, request: ServiceRequest, end: RequestEnd) -> None:
        """Do everything that follows an end; the request leaves the queue last."""
        self._requests.announce(request, end)
        self._on_end(request, end)
        if end.status == "complete":
            self._requests.remove_upload(request)
        self._requests.leave_queue(request, end)


def _done(do: Callable[[], bool], claimed: Claimed, refused: dict[str, JobError]) -> bool:
    """Return what *do* returns; False if the store refuses it. Then nothing more of this request is written now.

    Raises :class:`StoreUnavailable`: nothing can be written.
    """
    if claimed.request.id in refused:
        return False
    try:
        return do()
    except StoreUnavailable:
        raise
    except JobError as error:
        refused[claimed.request.id] = error
        return False
