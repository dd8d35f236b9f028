"""Names, labels and selectors of a run's Kubernetes objects: every one is written and parsed here.

Touches: nothing. A name follows from run, span and attempt alone, so that two controllers, or one that never heard the
server's answer, mean the same Job.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from controller.domain.jobs import Job
from controller.domain.keys import is_run

RUN = "stenofleet.io/run"
CHUNK = "stenofleet.io/chunk"
ATTEMPT = "stenofleet.io/attempt"
TASK = "stenofleet.io/task"
TASK_SHA256 = "stenofleet.io/task-sha256"

CONTAINER = "job"
"""Name of a pod's one container of ours; a service mesh may add its own."""

_NAME = "stenofleet"
_INTAKE = "intake"


class Identity(NamedTuple):
    """Whose job it is. *span* None is the intake."""

    run: str
    span: int | None
    attempt: int


def lease_name(run: str) -> str:
    """Name of the run's Lease."""
    return f"sf-{_checked(run)}"


def job_name(job: Job) -> str:
    """Name of the Job of one attempt."""
    _checked(job.run)
    return job.name


def selector(runs: Sequence[str]) -> str:
    """Label selector of all Jobs and pods of these runs."""
    return f"{RUN} in ({','.join(map(_checked, runs))})"


def run_labels(run: str) -> dict[str, str]:
    """What a run's Lease is found by."""
    return {"app.kubernetes.io/name": _NAME, "app.kubernetes.io/managed-by": _NAME, RUN: _checked(run)}


def labels_of(job: Job, *, version: str) -> dict[str, str]:
    """What Job and pod are found by. *version* is this program's."""
    return {
        "app.kubernetes.io/name": _NAME,
        "app.kubernetes.io/part-of": _NAME,
        "app.kubernetes.io/component": _INTAKE if job.span is None else "chunk",
        "app.kubernetes.io/managed-by": _NAME,
        # A version may hold a plus, a label may not.
        "app.kubernetes.io/version": re.sub(r"[^0-9A-Za-z_.-]", "-", version)[:63].strip("-_."),
        RUN: _checked(job.run),
        CHUNK: _INTAKE if job.span is None else f"{job.span:05d}",
        ATTEMPT: str(job.attempt),
    }


def annotations_of(job: Job) -> dict[str, str]:
    """What the Job was told, to compare before it is adopted."""
    return {TASK: job.task_key, TASK_SHA256: job.task_sha256}


def identity(document: Mapping[str, Any]) -> Identity | None:
    """Whose Job or pod *document* is, by its labels; None where they are not ours."""
    found = document.get("metadata", {}).get("labels") or {}
    run, chunk, attempt = (str(found.get(key, "")) for key in (RUN, CHUNK, ATTEMPT))
    if not is_run(run) or not re.fullmatch(r"[1-9][0-9]{0,5}", attempt):
        return None
    if chunk != _INTAKE and not re.fullmatch(r"[0-9]{5,7}", chunk):
        return None
    return Identity(run, None if chunk == _INTAKE else int(chunk), int(attempt))


def same_task(document: Mapping[str, Any], job: Job) -> bool:
    """Whether the Job *document* works on *job*'s task: it may be adopted as if we had created it."""
    found = document.get("metadata", {}).get("annotations") or {}
    mine = Identity(job.run, job.span, job.attempt)
    return identity(document) == mine and found.get(TASK_SHA256) == job.task_sha256


def _checked(run: str) -> str:
    """*run*, which names what is created, listed and deleted. ValueError where it is no run id."""
    if not is_run(run):
        raise ValueError(f"not a run id: {run!r}")
    return run
