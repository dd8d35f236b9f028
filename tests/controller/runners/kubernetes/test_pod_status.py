"""Phases, times and silent nodes, from the documents of a Job and its pod."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.domain.jobs import Phase
from controller.runners.kubernetes.labels import CONTAINER
from controller.runners.kubernetes.pod_status import (
    Document,
    condition,
    container_state,
    has_gpu,
    looks_lost,
    newest,
    node,
    one_line,
    phase,
    pull_ms,
    ran_ms,
    started_at,
    suspended,
    taken_back,
    to_ms,
    why_not_running,
)

DATA = Path(__file__).parents[3] / "data" / "kubernetes"
CREATED_MS = 1_770_112_800_000

PHASES: dict[str, Phase] = {
    "created": "queued",
    "created-suspended": "queued",
    "resumed": "queued",
    "waiting-for-the-job-controller": "queued",
    "counted-before-its-pod-is-listed": "queued",
    "gated": "queued",
    "unscheduled": "queued",
    "scheduled": "starting",
    "creating": "starting",
    "running": "running",
    "silent-node": "running",
    "not-ready-for-a-reason": "running",
    "container-over-pod-not-yet": "running",
    "being-suspended": "queued",
    "suspended-while-running": "queued",
    "ended-before-the-job-knows": "ended",
    "ended-and-still-terminating": "ended",
    "succeeding": "ended",
    "complete": "ended",
    "failed": "ended",
}


def case(name: str, folder: str = "phases") -> tuple[Any, Any]:
    document = json.loads((DATA / folder / f"{name}.json").read_text(encoding="utf-8"))
    return document["job"], document["pod"]


def test_every_recorded_phase_is_tested() -> None:
    assert PHASES.keys() == {path.stem for path in (DATA / "phases").iterdir()}


@pytest.mark.parametrize("name,expected", PHASES.items(), ids=PHASES)
def test_a_recorded_job_has_its_phase(name: str, expected: Phase) -> None:
    assert phase(*case(name)) == expected


@pytest.mark.parametrize("name", [path.stem for path in (DATA / "ended").iterdir() if path.stem != "job-and-pod-gone"])
def test_every_recorded_end_has_the_phase_ended(name: str) -> None:
    assert phase(*case(name, "ended")) == "ended"


@pytest.mark.parametrize("kind", ["FailureTarget", "SuccessCriteriaMet", "Failed", "Complete"])
def test_any_of_four_true_conditions_ends_a_job(kind: str) -> None:
    job, pod = case("running")
    job["status"]["conditions"] = [{"type": kind, "status": "False"}]
    assert phase(job, pod) == "running"
    job["status"]["conditions"] = [{"type": "Suspended", "status": "True"}, {"type": kind, "status": "True"}]
    assert phase(job, pod) == "ended"


def test_a_job_without_a_status_is_queued() -> None:
    job, _ = case("created")
    del job["status"]
    assert phase(job, None) == "queued"


@pytest.mark.parametrize(
    "name,expected",
    [("created-suspended", True), ("being-suspended", True), ("resumed", False), ("running", False)],
)
def test_a_queue_holds_a_job_back_by_its_spec_or_its_condition(name: str, expected: bool) -> None:
    assert suspended(case(name)[0]) is expected


def test_a_job_that_is_held_back_only_by_its_condition_is_held_back() -> None:
    job, pod = case("created-suspended")
    job["spec"]["suspend"] = False
    assert phase(job, pod) == "queued"
    assert suspended(job)


@pytest.mark.parametrize("name", sorted(PHASES))
def test_a_pod_is_taken_back_only_by_a_queue(name: str) -> None:
    job, pod = case(name)
    if pod is not None:
        assert taken_back(job, pod) == ("suspended" in name)


def test_a_pod_from_before_its_job_was_resumed_does_not_end_the_job() -> None:
    job, pod = case("suspended-while-running")
    job["spec"]["suspend"] = False
    job["status"] |= {"startTime": "2026-02-03T10:00:20Z", "conditions": [{"type": "Suspended", "status": "False"}]}
    assert phase(job, pod) == "ended", "the pod itself has ended"
    assert taken_back(job, pod)
    # The clocks of the job controller and the API server may differ: a pod that is not being deleted is the Job's, and
    # so is any pod of a Job that was never suspended.
    kept = {**pod, "metadata": {**pod["metadata"]}}
    del kept["metadata"]["deletionTimestamp"]
    assert not taken_back(job, kept)
    job["status"]["conditions"] = []
    assert not taken_back(job, pod)


def test_the_later_of_two_pods_of_a_job_counts() -> None:
    _, first = case("suspended-while-running")
    _, second = case("running")
    second["metadata"] |= {"uid": "second", "creationTimestamp": "2026-02-03T10:00:20Z"}
    assert newest(first, None) is first
    assert newest(second, first) is newest(first, second) is second
    later = {**second, "status": {}}
    assert newest(later, second) is later, "of one pod, what came last"


@pytest.mark.parametrize("name", sorted(PHASES))
def test_only_a_running_pod_on_a_silent_node_counts_as_lost(name: str) -> None:
    assert looks_lost(*case(name)) == (name == "silent-node")


def test_a_node_that_is_back_is_not_lost() -> None:
    job, pod = case("silent-node")
    job["status"]["ready"] = 1
    assert not looks_lost(job, pod)


def test_work_began_when_the_container_did() -> None:
    assert started_at(case("creating")[1]) is None
    assert started_at(case("running")[1]) == "2026-02-03T10:00:02Z"


def test_a_container_without_a_status_never_began() -> None:
    _, pod = case("deadline-while-pulling", "ended")
    container_state(pod, "terminated")["startedAt"] = "1970-01-01T00:00:00Z"  # type: ignore[index]
    assert started_at(pod) is None


@pytest.mark.parametrize(
    "text,expected",
    [
        ("2026-02-03T10:00:00Z", CREATED_MS),
        ("2026-02-03T10:00:00.250000Z", CREATED_MS + 250),
        ("2026-02-03T11:00:00+01:00", CREATED_MS),
    ],
)
def test_times_are_read_to_the_millisecond_wherever_they_were_written(text: str, expected: int) -> None:
    assert to_ms(text) == expected


def test_a_pod_has_a_node_once_it_is_scheduled() -> None:
    assert node(case("running")[1]) == "gpu-1"
    assert node(case("unscheduled")[1]) == ""
    assert node(None) == ""


def test_a_missing_field_is_empty() -> None:
    assert condition(None, "Ready") == condition({}, "Ready") == condition({"status": {}}, "Ready") == {}
    assert container_state(None, "running") == container_state({"status": {}}, "running") == {}
    assert container_state({"status": {"containerStatuses": None}}, "running") == {}


def test_our_container_is_read_among_several() -> None:
    _, pod = case("beside-a-sidecar", "ended")
    assert container_state(pod, "running") == {}
    assert container_state(pod, "terminated")["exitCode"] == 81


def test_a_message_is_one_line_of_bounded_length() -> None:
    assert one_line(" a\n\tb  c ") == "a b c"
    assert one_line(None) == ""
    assert len(one_line("x " * 1000)) == 500


@pytest.mark.parametrize(
    "status,reason",
    [
        ({"phase": "Pending"}, "Pending"),
        (
            {
                "conditions": [
                    {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "no room"}
                ]
            },
            "Unschedulable: no room",
        ),
        (
            {"containerStatuses": [{"name": CONTAINER, "state": {"waiting": {"reason": "ContainerCreating"}}}]},
            "ContainerCreating",
        ),
        (
            {"containerStatuses": [{"name": CONTAINER, "state": {"terminated": {"exitCode": 80}}}]},
            "ended with exit code 80",
        ),
    ],
)
def test_the_reason_why_a_pod_does_not_run_is_the_servers_message(status: Document, reason: str) -> None:
    assert why_not_running({"status": status}) == reason


@pytest.mark.parametrize(
    "state,measured",
    [
        ({"waiting": {"reason": "ContainerCreating"}}, (None, None)),
        ({"running": {"startedAt": "2026-02-03T10:00:47Z"}}, (42_000, None)),
        (
            {"terminated": {"startedAt": "2026-02-03T10:00:47Z", "finishedAt": "2026-02-03T10:01:17Z"}},
            (42_000, 30_000),
        ),
        ({"terminated": {"startedAt": "2026-02-03T10:00:00Z", "finishedAt": "2026-02-03T09:59:00Z"}}, (0, 0)),
        (
            {"terminated": {"startedAt": "1970-01-01T00:00:00Z", "reason": "ContainerStatusUnknown"}},
            (None, None),
        ),
    ],
)
def test_what_the_node_measured(state: dict[str, Any], measured: tuple[int | None, int | None]) -> None:
    pod = {"status": {"startTime": "2026-02-03T10:00:05Z", "containerStatuses": [{"name": CONTAINER, "state": state}]}}
    assert (pull_ms(pod), ran_ms(pod)) == measured
    assert (pull_ms(None), ran_ms(None), pull_ms({"status": {}})) == (None, None, None)


@pytest.mark.parametrize(
    "limits,expected",
    [({"memory": "1Gi"}, False), ({"memory": "1Gi", "nvidia.com/mig-1g.10gb": "1"}, True), (None, None)],
)
def test_whether_a_job_has_a_gpu(limits: dict[str, str] | None, expected: bool | None) -> None:
    containers = [] if limits is None else [{"resources": {"limits": limits}}]
    assert has_gpu({"spec": {"template": {"spec": {"containers": containers}}}} if containers else {}) is expected
