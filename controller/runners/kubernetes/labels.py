"""Names, labels and selectors of a run's Kubernetes objects: all of them are written and parsed here.

Touches: nothing. A name depends only on run, span and attempt. So two controllers, or one that never received the
server's reply, use the same name for the same Job.
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
"""Name of stenofleet's only container in a pod. A service mesh may add its own containers."""

_NAME = "stenofleet"
_INTAKE = "intake"


class Identity(NamedTuple):
    """Run, span and attempt of a Job. *span* None: an intake."""

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
    """Labels of a run's Lease."""
    return {"app.kubernetes.io/name": _NAME, "app.kubernetes.io/managed-by": _NAME, RUN: _checked(run)}


def labels_of(job: Job, *, version: str) -> dict[str, str]:
    """Labels of a Job and its pod. *version*: that of this program."""
    return {
        "app.kubernetes.io/name": _NAME,
        "app.kubernetes.io/part-of": _NAME,
        "app.kubernetes.io/component": _INTAKE if job.span is None else "chunk",
        "app.kubernetes.io/managed-by": _NAME,
        # A version may contain a plus sign, a label may not.
        "app.kubernetes.io/version": re.sub(r"[^0-9A-Za-z_.-]", "-", version)[:63].strip("-_."),
        RUN: _checked(job.run),
        CHUNK: _INTAKE if job.span is None else f"{job.span:05d}",
        ATTEMPT: str(job.attempt),
    }


def annotations_of(job: Job) -> dict[str, str]:
    """Annotations of a Job with its task. They are compared before the Job is adopted."""
    return {TASK: job.task_key, TASK_SHA256: job.task_sha256}


def identity(document: Mapping[str, Any]) -> Identity | None:
    """Identity of a Job or pod from its labels; None if it is not stenofleet's."""
    found = document.get("metadata", {}).get("labels") or {}
    run, chunk, attempt = (str(found.get(key, "")) for key in (RUN, CHUNK, ATTEMPT))
    if not is_run(run) or not re.fullmatch(r"[1-9][0-9]{0,5}", attempt):
        return None
    if chunk != _INTAKE and not re.fullmatch(r"[0-9]{5,7}", chunk):
        return None
    return Identity(run, None if chunk == _INTAKE else int(chunk), int(attempt))


def same_task(document: Mapping[str, Any], job: Job) -> bool:
    """Whether the Job *document* has the task of *job*. Then it can be adopted."""
    found = document.get("metadata", {}).get("annotations") or {}
    mine = Identity(job.run, job.span, job.attempt)
    return identity(document) == mine and found.get(TASK_SHA256) == job.task_sha256


def _checked(run: str) -> str:
    """Return *run*. Raises :class:`ValueError` if it is not a run id: it is used in names and selectors."""
    if not is_run(run):
        raise ValueError(f"not a run id: {run!r}")
    return run
