"""Names and labels: the same in every process, valid for Kubernetes, and parsed as they were built."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.jobs import Job
from controller.runners.kubernetes import labels
from controller.runners.kubernetes.labels import (
    Identity,
    annotations_of,
    identity,
    job_name,
    labels_of,
    lease_name,
    run_labels,
    same_task,
    selector,
)

RUN = "0123456789abcdef"
LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?)?")
DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")

jobs = st.builds(
    Job,
    run=st.text("0123456789abcdef", min_size=16, max_size=16),
    span=st.none() | st.integers(0, 10**6),
    attempt=st.integers(1, 10**4),
    task_key=st.just("work/x"),
    task_sha256=st.just("ab" * 32),
)


def job(span: int | None = 42, attempt: int = 2, sha: str = "ab" * 32) -> Job:
    return Job(run=RUN, span=span, attempt=attempt, task_key="work/tasks/00042.json", task_sha256=sha)


def created(of: Job) -> dict[str, Any]:
    """The Job as the API server returns it, with fields of the server."""
    return {
        "metadata": {
            "name": job_name(of),
            "labels": {**labels_of(of, version="0.1.0"), "batch.kubernetes.io/job-name": job_name(of)},
            "annotations": {**annotations_of(of), "batch.kubernetes.io/job-tracking": ""},
        }
    }


@pytest.mark.parametrize(
    "span,attempt,name",
    [
        (42, 2, "sf-0123456789ab-c00042-a2"),
        (0, 1, "sf-0123456789ab-c00000-a1"),
        (123456, 21, "sf-0123456789ab-c123456-a21"),
        (None, 1, "sf-0123456789ab-intake-a1"),
    ],
)
def test_a_name_contains_run_chunk_and_attempt(span: int | None, attempt: int, name: str) -> None:
    assert job_name(job(span, attempt)) == name


def test_a_run_has_one_lease() -> None:
    assert lease_name(RUN) == "sf-0123456789abcdef"


def test_labels_state_the_kind_and_the_run() -> None:
    assert labels_of(job(), version="0.1.0") == {
        "app.kubernetes.io/name": "stenofleet",
        "app.kubernetes.io/part-of": "stenofleet",
        "app.kubernetes.io/component": "chunk",
        "app.kubernetes.io/managed-by": "stenofleet",
        "app.kubernetes.io/version": "0.1.0",
        "stenofleet.io/run": RUN,
        "stenofleet.io/chunk": "00042",
        "stenofleet.io/attempt": "2",
    }


def test_the_intake_differs_from_chunks_by_its_labels() -> None:
    found = labels_of(job(None), version="0.1.0")
    assert (found["app.kubernetes.io/component"], found["stenofleet.io/chunk"]) == ("intake", "intake")


@pytest.mark.parametrize("version", ["0.1.0+dirty.7", "1" * 100, "+", "2.0-", "é1"])
def test_any_version_makes_a_label(version: str) -> None:
    label = labels_of(job(), version=version)["app.kubernetes.io/version"]
    assert len(label) <= 63
    assert LABEL.fullmatch(label)


@given(jobs)
def test_names_and_labels_are_valid_and_read_back(of: Job) -> None:
    assert len(job_name(of)) <= 63
    assert DNS_LABEL.fullmatch(job_name(of))
    assert DNS_LABEL.fullmatch(lease_name(of.run))
    labels = labels_of(of, version="0.1.0")
    assert all(len(value) <= 63 and LABEL.fullmatch(value) for value in labels.values())
    assert identity(created(of)) == Identity(of.run, of.span, of.attempt)


@given(jobs, jobs)
def test_two_attempts_never_share_a_name(one: Job, other: Job) -> None:
    same = (one.run[:12], one.span, one.attempt) == (other.run[:12], other.span, other.attempt)
    assert (job_name(one) == job_name(other)) == same


def test_the_selector_matches_the_labels() -> None:
    key, _, values = selector([RUN, "f" * 16]).partition(" in ")
    assert labels_of(job(), version="0.1.0")[key] in values.strip("()").split(",")


NO_RUNS = (
    "", "x", "fedora", RUN[:-1], f"{RUN}0", RUN.upper(), f"{RUN}\n", f" {RUN}", "../../../../etc", "$(POD_UID)000000",
    "a),x notin (b123", "a,b,c,d,e,f,0123", "０123456789abcdef",
)  # fmt: skip
USES: dict[str, Callable[[str], object]] = {
    "lease_name": lease_name,
    "run_labels": run_labels,
    "selector": lambda run: selector([RUN, run]),
    "job_name": lambda run: job_name(replace(job(), run=run)),
    "job_name of an intake": lambda run: job_name(replace(job(None), run=run)),
    "labels_of": lambda run: labels_of(replace(job(), run=run), version="0.1.0"),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES)
@pytest.mark.parametrize("run", NO_RUNS, ids=repr)
def test_an_invalid_run_id_makes_no_name_label_or_selector(use: Callable[[str], object], run: str) -> None:
    use(RUN)
    with pytest.raises(ValueError, match=re.escape(f"not a run id: {run!r}")):
        use(run)


def test_every_function_that_takes_a_run_is_tested_with_invalid_ids() -> None:
    """The functions that build something; the two others read and compare objects of the server."""
    given = {
        name
        for name, found in vars(labels).items()
        if inspect.isfunction(found)
        and found.__module__ == labels.__name__
        and {"run", "runs", "job"} & inspect.signature(found).parameters.keys()
        and not name.startswith("_")
    }
    assert given - {"annotations_of", "same_task"} == {name.partition(" ")[0] for name in USES}


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {},
        {"stenofleet.io/run": RUN},
        {"stenofleet.io/run": "fedora", "stenofleet.io/chunk": "00001", "stenofleet.io/attempt": "1"},
        {"stenofleet.io/run": RUN, "stenofleet.io/chunk": "seven", "stenofleet.io/attempt": "1"},
        {"stenofleet.io/run": RUN, "stenofleet.io/chunk": "00001", "stenofleet.io/attempt": "0"},
        {"stenofleet.io/run": RUN, "stenofleet.io/chunk": "00001", "stenofleet.io/attempt": "²"},
    ],
)
def test_a_foreign_object_has_no_identity(labels: dict[str, str] | None) -> None:
    assert identity({"metadata": {"labels": labels}}) is None
    assert identity({"metadata": {}}) is None
    assert identity({}) is None


def test_a_job_with_the_same_task_is_ours() -> None:
    assert same_task(created(job()), job())


@pytest.mark.parametrize("other", [job(sha="cd" * 32), job(span=41), job(attempt=3), job(span=None)])
def test_a_job_with_another_task_or_store_is_not_ours(other: Job) -> None:
    assert not same_task(created(other), job())


def test_a_job_without_a_task_label_is_not_ours() -> None:
    stranger = created(job())
    stranger["metadata"]["annotations"] = None
    assert not same_task(stranger, job())
