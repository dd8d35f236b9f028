"""A store that an attacker may write to, and commands that use it: real objects, scripted jobs.

Used by every test of this folder on files and on MinIO.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from chunk_job.contract import ChunkResult, ChunkTask, Language
from chunk_job.document import Document
from chunk_job.store.base import Store
from controller.domain.attempt_documents import Attempts
from controller.domain.documents import (
    Evidence,
    Final,
    LeaseRecord,
    Outcome,
    Report,
    Request,
    Round,
    RunRecord,
    Status,
)
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.keys import RunKeys
from controller.domain.output import Format
from controller.domain.plan import Plan
from controller.domain.policy import RetryPolicy
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import InOrder
from controller.reports.stored_report import StoredReports
from controller.runs.written_files import WrittenFiles
from controller.transcript.model import Transcript
from tests import fakes
from tests.fakes import FakeClock, FakeRunner, Recorder, Script

KEYS = RunKeys(fakes.RUN)
OTHER = RunKeys("f" * 16)
FORMATS: tuple[Format, ...] = ("txt", "srt", "vtt", "tsv", "json")


class Scene:
    """A store and an output folder."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.out = folder / "out"
        self.written = WrittenFiles(folder / "home")
        self.clock = FakeClock()
        self.reporter = Recorder()
        self.chunks_ms: tuple[int, ...] = (10_000, 10_000, 10_000)
        self.runner = FakeRunner(store, self.clock)

    def run_request(self, record: RunRecord | None = None, *, gaps: bool = False) -> RunRequest:
        """The request of a user: every format, in the output folder."""
        record = record or fakes.record()
        base = self.out / record.run
        wishes = fakes.request(record, base, formats=FORMATS, on_chunk_failure="gap" if gaps else "fail")
        return RunRequest(record=record, request=wishes, written=self.written)

    def command(
        self,
        *run_requests: RunRequest,
        script: Script | None = None,
        meanwhile: Callable[[int], None] = lambda _: None,
    ) -> list[RunOutcome]:
        """One command from its start to its end."""
        self.reporter = Recorder()
        self.runner = FakeRunner(self.store, self.clock, script, on_wait=meanwhile, chunks_ms=self.chunks_ms)
        return run_loop(
            KnownRequests(run_requests or [self.run_request()]),
            store=self.store,
            runner=self.runner,
            policy=RetryPolicy(backoff_ms=0),
            slots=InOrder(4),
            reporter=self.reporter,
            clock=self.clock,
            reports=StoredReports(self.store),
        )

    def objects(self) -> dict[str, bytes]:
        """Everything in the store."""
        return {entry.key: self.store.get(entry.key) for entry in self.store.list("")}

    def lay(self, objects: Mapping[str, bytes], *, without: Iterable[str] = ()) -> None:
        """Replace the content of the store by these objects, except some."""
        wanted = {key: data for key, data in objects.items() if key not in set(without)}
        for key in [entry.key for entry in self.store.list("") if entry.key not in wanted]:
            self.store.delete(key)
        for key, data in wanted.items():
            self.store.put(key, data)

    def outputs(self) -> dict[str, bytes]:
        """Every file of the output folder."""
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())} if self.out.exists() else {}


# ---------------------------------------------------------------- the objects of a run


RESULT = f"{KEYS.results_of(0)}a1-u.json"
DOCUMENTS: dict[str, type[Document]] = {
    KEYS.record: RunRecord,
    KEYS.request: Request,
    KEYS.round: Round,
    KEYS.lease: LeaseRecord,
    KEYS.plan: Plan,
    KEYS.status: Status,
    KEYS.attempts: Attempts,
    KEYS.report: Report,
    KEYS.final: Final,
    KEYS.marker("complete"): Outcome,
    KEYS.transcript("json"): Transcript,
    KEYS.task(0): ChunkTask,
    KEYS.language: Language,
    KEYS.language_candidate(1): Language,
    RESULT: ChunkResult,
    KEYS.failure(1, 1, "0000cafe"): Evidence,
}
"""Every document of a run that a controller reads, by key."""


def unfinished(whole: dict[str, bytes]) -> dict[str, bytes]:
    """The run without its final objects, as a command works on it."""
    ended = [
        KEYS.marker("complete"),
        KEYS.final,
        *(KEYS.transcript(one) for one in ("txt", "srt", "vtt", "tsv", "json")),
    ]
    return {key: data for key, data in whole.items() if key not in ended}


def changed(data: bytes, **changes: Any) -> bytes:
    """A document's bytes with other values in some of its fields."""
    return json.dumps(json.loads(data) | changes).encode()
