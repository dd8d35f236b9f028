"""The simulated programs in the pods: they cut and transcribe, or fail as a test requires."""

from collections.abc import Callable, Mapping

from chunk_job.contract import sha256_hex
from chunk_job.store.base import Store
from controller.domain.jobs import Job
from controller.runners.kubernetes.labels import TASK, TASK_SHA256, identity
from tests import fakes
from tests.kube.kubelet import Life
from tests.kube.wire import Object

CHUNKS_MS = (10_000, 10_000, 10_000)
WITH_RESULT = "its result is there"
"""The message of a program that fails after its result was committed."""


class Programs:
    """The programs of all Jobs: how each ends and what it leaves in the store."""

    def __init__(
        self, store: Store, fates: Mapping[tuple[int | None, int], Life], *, committed: Callable[[int], None]
    ) -> None:
        """*fates* by span and attempt; *committed* is called with the span of each valid result."""
        self.fates = dict(fates)
        self.usual = Life()
        """The outcome of every other Job: success."""
        self._store = store
        self._committed = committed

    def life(self, document: Object) -> Life:
        """The outcome of this Job."""
        who = identity(document)
        assert who
        return self.fates.get((who.span, who.attempt), self.usual)

    def work(self, document: Object) -> None:
        """Write to the store what the program leaves at its end."""
        who, notes = identity(document), document["metadata"]["annotations"]
        assert who
        life = self.life(document)
        task = self._store.get(notes[TASK]) if self._store.stat(notes[TASK]) else b""
        if (life.exit_code and life.message != WITH_RESULT) or sha256_hex(task) != notes[TASK_SHA256]:
            return
        job = Job(run=who.run, span=who.span, attempt=who.attempt, task_key=notes[TASK], task_sha256=notes[TASK_SHA256])
        if job.span is None:
            fakes.cut(self._store, job, CHUNKS_MS)
        else:
            fakes.answer(self._store, job, fakes.DONE, task)
            self._committed(job.span)
