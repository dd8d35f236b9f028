"""The runs of a tenant: submitted, listed, cancelled, tried again, and their transcripts.

Touches: the network (through ``http``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO
from urllib.parse import urlencode

from chunk_job.errors import DocumentInvalid
from controller.client.http import Connection, Refused
from controller.client.replies import Run, RunLine, RunPage, parsed
from controller.domain.documents import Report
from controller.transcript.model import Transcript

_PAGE = 200


class Runs:
    """The runs that a token may see. Every method raises the errors of ``Connection.send``."""

    def __init__(self, service: Connection) -> None:
        self._service = service

    def submit(self, submission: dict[str, Any], key: str) -> Run:
        """Submit a run. The same *key* again: the same run."""
        headers = {"Idempotency-Key": key}
        return parsed(Run, self._service.send("POST", "/v1/runs", document=submission, headers=headers))

    def labelled(self, label: str) -> Iterator[RunLine]:
        """Yield the runs with a label ``NAME=VALUE``, the newest first, a page at a time."""
        cursor: str | None = ""
        while cursor is not None:
            query = urlencode({"label": label, "limit": _PAGE, "cursor": cursor})
            page = parsed(RunPage, self._service.send("GET", f"/v1/runs?{query}"))
            yield from page.runs
            cursor = page.next_cursor

    def get(self, run_id: str) -> Run:
        """The run."""
        return parsed(Run, self._service.send("GET", f"/v1/runs/{run_id}"))

    def cancel(self, run_id: str) -> bool:
        """Ask for the end of a run. Returns False if it has ended."""
        return self._ask(run_id, "cancel")

    def retry(self, run_id: str) -> bool:
        """Try a run again that has ended. Returns False if it is complete, or was deleted."""
        return self._ask(run_id, "retry")

    def _ask(self, run_id: str, what: str) -> bool:
        try:
            self._service.send("POST", f"/v1/runs/{run_id}:{what}")
        except Refused as error:
            if error.status == 404 or (error.status == 409 and error.name in ("ended", "complete")):
                return False
            raise
        return True

    def report(self, run_id: str) -> Report | None:
        """The measurements of a run that has ended; None if there are none, or not as this version knows them."""
        try:
            reply = self._service.send("GET", f"/v1/runs/{run_id}/report", most_bytes=Report.max_bytes)
            return Report.decode(reply.data)
        except Refused as error:
            if error.status not in (404, 409):
                raise
        except DocumentInvalid:
            pass
        return None

    def download(self, run_id: str, file: BinaryIO) -> None:
        """Write the transcript of a run to *file*, as JSON."""
        most = Transcript.max_bytes
        self._service.send("GET", f"/v1/runs/{run_id}/result?format=json", into=file, most_bytes=most)
