"""A store that somebody else may write to, and commands that use it: real objects, jobs by script.

Used by every test of this folder on files and on MinIO.
"""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from chunk_job.store import Store
from controller.decide import RetryPolicy
from controller.edges import Settled, Ticket
from controller.keys import RunKeys
from controller.records import Format, RunRecord
from controller.run import drive
from tests import fakes
from tests.fakes import FakeClock, FakeRunner, Recorder, Script

KEYS = RunKeys(fakes.RUN)
OTHER = RunKeys("f" * 16)
FORMATS: tuple[Format, ...] = ("txt", "srt", "vtt", "tsv", "json")


class Scene:
    """One store with one output folder."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.out = folder / "out"
        self.clock = FakeClock()
        self.reporter = Recorder()
        self.chunks_ms: tuple[int, ...] = (10_000, 10_000, 10_000)
        self.runner = FakeRunner(store, self.clock)

    def ticket(self, record: RunRecord | None = None, *, gaps: bool = False) -> Ticket:
        """What a person asks for: every format, in the output folder."""
        record = record or fakes.record()
        base = self.out / record.run
        wishes = fakes.request(record, base, formats=FORMATS, on_chunk_failure="gap" if gaps else "fail")
        return Ticket(record=record, request=wishes)

    def command(
        self,
        *tickets: Ticket,
        script: Script | None = None,
        meanwhile: Callable[[int], None] = lambda _: None,
    ) -> list[Settled]:
        """One command from its start to its end."""
        self.reporter = Recorder()
        self.runner = FakeRunner(self.store, self.clock, script, on_wait=meanwhile, chunks_ms=self.chunks_ms)
        return drive(
            tickets or [self.ticket()],
            store=self.store,
            runner=self.runner,
            policy=RetryPolicy(backoff_ms=0),
            window=4,
            reporter=self.reporter,
            clock=self.clock,
        )

    def objects(self) -> dict[str, bytes]:
        """Everything in the store."""
        return {entry.key: self.store.get(entry.key) for entry in self.store.list("")}

    def lay(self, objects: Mapping[str, bytes], *, without: Iterable[str] = ()) -> None:
        """Make the store hold exactly these objects, but for some."""
        wanted = {key: data for key, data in objects.items() if key not in set(without)}
        for key in [entry.key for entry in self.store.list("") if entry.key not in wanted]:
            self.store.delete(key)
        for key, data in wanted.items():
            self.store.put(key, data)

    def outputs(self) -> dict[str, bytes]:
        """Every file of the output folder."""
        return {path.name: path.read_bytes() for path in sorted(self.out.iterdir())} if self.out.exists() else {}
