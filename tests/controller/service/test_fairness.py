"""A long recording delays a short one by less than one chunk, and a tenant with much work no other tenant."""

from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.files import FileStore
from controller.domain.jobs import Job
from tests.controller.service.running import Running, running, tenants_file
from tests.fakes import JobBehaviour, cut
from tests.pipeline import until

pytestmark = pytest.mark.process

LONG, SHORT = 200, 1


def chunks_of(service: Running, run: str) -> list[int]:
    """Where in the order of all started chunk jobs those of *run* are."""
    started = [job for job in service.runner.submitted if job.span is not None]
    return [at for at, job in enumerate(started) if job.run == run]


def started_between(service: Running, run: str, since: int) -> int:
    """How many chunk jobs of others were started after the first *since*, before the first one of *run*."""
    return chunks_of(service, run)[0] - since


def lengths(job: Job) -> tuple[int, ...]:
    return (10_000,) * (LONG if job.media_bytes > 10 else SHORT)


def by_size(service: Running) -> None:
    """The intake cuts a large recording into many chunks, and a small one into one."""
    runner = service.runner
    leave = runner._leave

    def leave_by_size(played: Any) -> None:
        if played.job.span is None:
            cut(runner.store, played.job, lengths(played.job))
        else:
            leave(played)

    runner._leave = leave_by_size  # type: ignore[method-assign]


def slow(_: Job) -> JobBehaviour:
    return JobBehaviour(leaves="result", takes_ms=100)


def submitted(service: Running, data: bytes, headers: dict[str, str] | None = None) -> str:
    reply = service.client.post("/v1/runs", files={"file": ("a.wav", data)}, headers=headers or {})
    assert reply.status_code == 202, reply.text
    found: str = reply.json()["id"]
    return found


def test_a_short_recording_waits_for_no_more_than_the_chunks_that_run(store: FileStore) -> None:
    with running(store, script=slow, max_parallel=4) as service:
        by_size(service)
        long = service.wait_for(submitted(service, b"x" * 99), "running")
        until(lambda: len(chunks_of(service, long["run"])) >= 8, "the long one uses all slots")
        short = service.wait_for(submitted(service, b"x"), "complete")
        before_cut = next(
            at for at, job in enumerate(service.runner.submitted) if job.run == short["run"] and job.span is None
        )
        since = sum(1 for job in service.runner.submitted[:before_cut] if job.span is not None)
        # While it is cut, and until a chunk ends: four jobs at once, each ends once in the meantime, at most twice.
        assert started_between(service, short["run"], since) <= 2 * 4
        assert service.client.get(f"/v1/runs/{long['id']}").json()["status"] == "running"
        service.client.post(f"/v1/runs/{long['id']}:cancel")
        service.wait_for(long["id"], "cancelled")


def test_tenants_share_by_weight_whatever_they_have_queued(store: FileStore, tmp_path: Path) -> None:
    path, headers = tenants_file(tmp_path, much="weight = 1", little="weight = 3")
    with running(store, script=slow, max_parallel=4, tenants=path) as service:
        by_size(service)
        many = [submitted(service, b"x" * 99, headers["much"]) for _ in range(8)]
        first = service.wait_for(many[0], "running", **headers["much"])
        until(lambda: len(chunks_of(service, first["run"])) >= 1, "begun")
        other = service.wait_for(submitted(service, b"x" * 99, headers["little"]), "running", **headers["little"])
        until(lambda: len(chunks_of(service, other["run"])) >= 40, "the other one has had ten rounds")
        began, end = chunks_of(service, other["run"])[0], chunks_of(service, other["run"])[39]
        share = 40 / (end - began + 1)
        assert 0.65 < share < 0.85
        for run_id, who in [*((one, "much") for one in many), (other["id"], "little")]:
            service.client.post(f"/v1/runs/{run_id}:cancel", headers=headers[who])
        for run_id in many:
            service.wait_for(run_id, "cancelled", **headers["much"])
