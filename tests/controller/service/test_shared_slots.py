"""Two replicas over one store: limits and fair shares are those of both together. Only jobs are simulated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.domain.jobs import Job
from controller.service import replicas
from tests.controller.service.running import Running, running, tenants_file
from tests.controller.service.test_fairness import by_size, chunks_of, submitted
from tests.fakes import JobBehaviour
from tests.pipeline import until

pytestmark = pytest.mark.process

SLOTS, MOST_OF_NEWS = 4, 2


class Pair:
    """Two replicas, and how many chunk jobs there were at most."""

    def __init__(self, *both: Running) -> None:
        self.both = both
        self.most = self.most_of_news = 0
        self.news: set[str] = set()
        self.started: list[Job] = []
        for one in both:
            by_size(one)
            self._count(one)

    def next_for(self, chosen: Running) -> None:
        """The requests that come now are taken by this replica."""
        for one in self.both:
            one.server.queue._chooser._is_mine = lambda _, mine=one is chosen: mine  # type: ignore[misc]

    def live(self) -> list[str]:
        """The runs of the chunk jobs that there are now."""
        jobs = [played for one in self.both for played in list(one.runner._jobs.values())]
        now_ms = self.both[0].clock.now_ms()
        return [
            played.job.run
            for played in jobs
            if played.job.span is not None and now_ms - played.since_ms < played.behaviour.takes_ms
        ]

    def _count(self, one: Running) -> None:
        submit = one.runner.submit

        def counted(job: Job) -> None:
            submit(job)
            if job.span is not None:
                self.started.append(job)
                live = self.live()
                self.most = max(self.most, len(live))
                self.most_of_news = max(self.most_of_news, sum(run in self.news for run in live))

        one.runner.submit = counted  # type: ignore[method-assign]


@pytest.fixture
def pair(store: FileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pair]:
    # Chunks of a test are shorter than real ones, and so are the pauses between two renewals.
    monkeypatch.setattr(replicas, "RENEW_S", 0.2)
    monkeypatch.setattr(replicas, "PAUSE_S", 0.05)
    path, _ = tenants_file(tmp_path, news=f"max_live_chunks = {MOST_OF_NEWS}", radio="")
    with (
        running(store, script=slow, tenants=path, max_parallel=SLOTS) as one,
        running(store, script=slow, tenants=path, max_parallel=SLOTS) as two,
    ):
        yield Pair(one, two)


def slow(job: Job) -> JobBehaviour:
    return JobBehaviour(leaves="result", takes_ms=20 if job.span is None else 300)


def headers(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer stf_{tenant}_token"}


def run_of(service: Running, tenant: str, data: bytes) -> tuple[str, str]:
    """The id of a request, and that of its run as soon as it has one."""
    request = submitted(service, data, headers(tenant))
    found = service.wait_for(request, "running", "complete", **headers(tenant))
    return request, found["run"]


def test_limits_count_over_both_and_a_short_run_of_one_gets_the_next_slot_that_a_long_run_of_the_other_leaves(
    pair: Pair,
) -> None:
    one, two = pair.both
    pair.next_for(one)
    _, long_run = run_of(one, "radio", b"x" * 99)
    until(lambda: len(pair.live()) == SLOTS, "the long one has all slots")
    pair.next_for(two)
    short, short_run = run_of(one, "radio", b"x")
    until(
        lambda: any(job.run == short_run for job in two.runner.submitted), "the other replica has begun the short one"
    )
    before = len(chunks_of(one, long_run))
    two.wait_for(short, "complete", **headers("radio"))
    first = next(at for at, job in enumerate(pair.started) if job.run == short_run)
    between = sum(1 for job in pair.started[:first] if job.run == long_run) - before
    # A round while it is cut, one while the other one is told, and one until a chunk ends; the long one has fifty.
    assert between <= 3 * SLOTS
    # Another tenant, with runs on both.
    for chosen in (one, two):
        pair.next_for(chosen)
        _, run = run_of(one, "news", b"x" * 99)
        pair.news.add(run)
    until(lambda: len(two.runner.submitted) > 12, "both tenants work on both replicas")
    assert {job.run for job in two.runner.submitted if job.span is not None} & pair.news
    assert pair.most == SLOTS
    assert pair.most_of_news == MOST_OF_NEWS
