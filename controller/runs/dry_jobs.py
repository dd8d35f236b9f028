"""The first jobs of a run, as they would be started: from its request and a dry run of its intake.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from chunk_job.contract import sha256_hex
from controller.domain.actions import Submit
from controller.domain.dry_run import DryRun
from controller.domain.interfaces import RunRequest
from controller.domain.jobs import Job
from controller.domain.keys import RunKeys
from controller.domain.tasks import chunk_task, intake_task, intake_task_key, job_of


def first_jobs(run_request: RunRequest, dry: DryRun) -> Iterator[Job]:
    """Yield the intake and the first attempt of each chunk."""
    record, request = run_request.record, run_request.request
    digest = sha256_hex(intake_task(request))
    key = intake_task_key(request, digest)
    yield job_of(Submit(span=None, attempt=1), request, task_key=key, task_sha256=digest)
    plan = dry.plan
    for chunk in dry.chunks:
        span = chunk.span
        task = chunk_task(
            record,
            span.index,
            audio_ms=span.audio_ms,
            pcm_sha256=chunk.pcm_sha256,
            direct=plan.direct,
            channels=plan.channels,
        )
        yield job_of(
            Submit(span=span.index, attempt=1),
            request,
            task_key=RunKeys(record.run).task(span.index),
            task_sha256=sha256_hex(task.encode()),
            audio_ms=task.audio_ms * task.channels,
        )
