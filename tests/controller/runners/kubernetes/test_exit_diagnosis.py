"""The diagnosis of ended Jobs: each way a Job can end, and which of several traces takes precedence."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunk_job.contract import JobFailure
from chunk_job.errors import ExitCode
from controller.domain.budgets import BUDGETS
from controller.domain.failures import Diagnosis, FailureClass
from controller.runners.kubernetes.exit_diagnosis import from_cluster
from tests import handbook

DATA = Path(__file__).parents[3] / "data" / "kubernetes" / "ended"
FREE = "costs no attempt"
AUDIT = f"{FREE}; the API server's audit log says who"
PRIORITY = f"{FREE}; a higher --priority-class keeps the place"
IMAGE = "use an image of this project (--chunk-image, --intake-image)"
STACK = "the log's last lines hold the Python stack; if it repeats, try another --compute-type"
MEMORY = "give jobs more memory (--job-memory), or use shorter chunks (--chunk-duration) or a smaller model"
DISK = "give jobs more disk space (--job-scratch)"

CASES: dict[str, tuple[FailureClass, str, str]] = {
    "termination-message": (
        FailureClass.CUDA_OOM,
        "CUDA out of memory",
        "use a smaller model or --compute-type int8",
    ),
    "termination-message-then-killed-for-memory": (
        FailureClass.CUDA_OOM,
        "CUDA out of memory",
        "use a smaller model or --compute-type int8",
    ),
    "beside-a-sidecar": (FailureClass.GPU_UNHEALTHY, "no CUDA device", "see the device plugin"),
    "ffmpeg-killed-for-memory": (FailureClass.OOM_KILLED, "the kernel killed it at its memory limit", MEMORY),
    "oom-killed": (FailureClass.OOM_KILLED, "the kernel killed it at its memory limit", MEMORY),
    "segmentation-fault": (
        FailureClass.NATIVE_CRASH,
        "native code crashed (Fatal Python error: Segmentation fault)",
        STACK,
    ),
    "abort": (FailureClass.NATIVE_CRASH, "native code crashed (exit code 134)", STACK),
    "pod-deleted-and-crashed": (FailureClass.NATIVE_CRASH, "native code crashed (exit code 139)", STACK),
    "exit-0-without-result": (
        FailureClass.NO_RESULT,
        "the process ended with exit code 0 but wrote no result",
        "see its log; check that --job-s3-endpoint is the same store as the one that this command uses",
    ),
    "deadline": (
        FailureClass.DEADLINE,
        "still running after 3780 s: stopped",
        "use a smaller model, shorter chunks (--chunk-duration), or a faster GPU",
    ),
    "deadline-while-pulling": (
        FailureClass.DEADLINE,
        "had not started after 3780 s: stopped",
        "pulling the image counts: see its events, pull it on every node beforehand, or give jobs more time",
    ),
    "job-deadline-set-by-another-client": (
        FailureClass.DEADLINE,
        "the Job's own deadline passed",
        "activeDeadlineSeconds was set on the Job, not by stenofleet: it also counts the time in the queue",
    ),
    "emptydir-over-its-limit": (
        FailureClass.EPHEMERAL_STORAGE,
        'it wrote more to its disk than its limit: Usage of EmptyDir volume "tmp" exceeds the limit "1280Mi".',
        DISK,
    ),
    "ephemeral-storage-over-its-limit": (
        FailureClass.EPHEMERAL_STORAGE,
        (
            "it wrote more to its disk than its limit: Pod ephemeral local storage usage exceeds the total limit of"
            " containers 1408Mi."
        ),
        DISK,
    ),
    "node-under-pressure": (
        FailureClass.DISRUPTED_EVICTED,
        (
            "its node ran out of a resource and evicted it: The node was low on resource: memory."
            " Threshold quantity: 100Mi, available: 71204Ki. Container job was using 3120404Ki, request is 2Gi,"
            " has larger consumption of memory."
        ),
        f"{FREE}; see the node's conditions in `kubectl describe node`",
    ),
    "node-is-full-after-all": (
        FailureClass.DISRUPTED_EVICTED,
        (
            "its node refused it: Pod was rejected: Node didn't have enough resource: nvidia.com/gpu, requested: 1,"
            " used: 2, capacity: 2"
        ),
        FREE,
    ),
    "preempted": (FailureClass.DISRUPTED_PREEMPTED, "a pod of higher priority took its place", PRIORITY),
    "pod-gone-preempted": (FailureClass.DISRUPTED_PREEMPTED, "a pod of higher priority took its place", PRIORITY),
    "critical-pod-came": (FailureClass.DISRUPTED_PREEMPTED, "its node preempted it for a critical pod", FREE),
    "drained": (
        FailureClass.DISRUPTED_DRAINED,
        "its node was drained",
        f"{FREE}; a PodDisruptionBudget makes drains wait",
    ),
    "node-shut-down": (FailureClass.DISRUPTED_DRAINED, "its node was shut down", FREE),
    "node-lost": (
        FailureClass.DISRUPTED_NODE_LOST,
        "its node was lost, or tainted NoExecute",
        f"{FREE}; see `kubectl describe node`",
    ),
    "node-removed-pod-gone": (
        FailureClass.DISRUPTED_NODE_LOST,
        "its node was lost, or tainted NoExecute",
        f"{FREE}; see `kubectl describe node`",
    ),
    "node-removed": (FailureClass.DISRUPTED_NODE_LOST, "its node was deleted", f"{FREE}; see `kubectl get nodes`"),
    "pod-deleted": (FailureClass.DISRUPTED_DELETED, "another client deleted its pod", AUDIT),
    "pod-deleted-and-left-with-0": (FailureClass.DISRUPTED_DELETED, "another client deleted its pod", AUDIT),
    "pod-force-deleted": (FailureClass.DISRUPTED_DELETED, "another client deleted its pod", AUDIT),
    "pod-gone": (FailureClass.DISRUPTED_DELETED, "another client deleted its pod", AUDIT),
    "job-gone": (FailureClass.DISRUPTED_DELETED, "another client deleted its pod", AUDIT),
    "job-and-pod-gone": (FailureClass.DISRUPTED_DELETED, "another client deleted its Job", AUDIT),
    "killed-on-its-node": (
        FailureClass.DISRUPTED_DELETED,
        "killed from outside (exit code 137), by an unknown cause",
        f"{FREE}; if it repeats, look for SystemOOM in `kubectl describe node`",
    ),
    "no-such-command": (
        FailureClass.CONFIG,
        (
            "its container could not start: failed to create containerd task: failed to create shim task: OCI runtime"
            " create failed: runc create failed: unable to start container process: exec:"
            ' "tini": executable file not found in $PATH: unknown'
        ),
        IMAGE,
    ),
    "no-such-program": (FailureClass.CONFIG, "its image does not contain the program (exit code 127)", IMAGE),
    "no-healthy-device": (
        FailureClass.GPU_UNHEALTHY,
        (
            "its node could not give it a device: Pod was rejected: Allocate failed due to no healthy devices present;"
            " cannot allocate unhealthy devices nvidia.com/gpu, which is unexpected"
        ),
        "see the device plugin's log on that node; another node is tried",
    ),
    "no-trace": (
        FailureClass.UNKNOWN,
        "it ended without any report",
        "see `kubectl describe` of its pod and node",
    ),
}


def case(name: str) -> Any:
    return json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))


def judged(end: Any) -> Diagnosis:
    return from_cluster(end["job"], end["pod"], end["events"], end["log"])


def terminated(end: Any) -> Any:
    return end["pod"]["status"]["containerStatuses"][0]["state"]["terminated"]


def disruption(end: Any) -> Any:
    return next(item for item in end["pod"]["status"]["conditions"] if item["type"] == "DisruptionTarget")


def test_every_recorded_end_has_an_expected_diagnosis() -> None:
    assert CASES.keys() == {path.stem for path in DATA.iterdir()}


@pytest.mark.parametrize("name,expected", CASES.items(), ids=CASES)
def test_an_end_has_a_class_a_line_and_advice(name: str, expected: tuple[FailureClass, str, str]) -> None:
    found = judged(case(name))
    assert (found.failure, found.summary, found.advice) == expected


@pytest.mark.parametrize("name", [name for name, (failure, *_) in CASES.items() if failure.startswith("DISRUPTED")])
def test_advice_that_promises_no_cost_matches_the_budget(name: str) -> None:
    found = judged(case(name))
    assert (BUDGETS[found.failure], found.advice.partition(";")[0]) == ("cluster", FREE)


# ---------------------------------------------------------------- exit codes

CODES: dict[int, FailureClass] = dict(handbook.exit_codes().items()) | {
    1: FailureClass.UNKNOWN,
    2: FailureClass.UNKNOWN,
    255: FailureClass.UNKNOWN,
}


@pytest.mark.parametrize("code,failure", CODES.items())
def test_an_exit_code_without_a_message_has_its_documented_class(code: int, failure: FailureClass) -> None:
    end = case("killed-on-its-node")
    terminated(end)["exitCode"] = code
    assert judged(end).failure is failure
    assert judged(end).summary == f"the process ended with exit code {code}"


@pytest.mark.parametrize("code", [132, 134, 135, 136, 139])
def test_five_exit_codes_are_native_crashes(code: int) -> None:
    end = case("killed-on-its-node")
    terminated(end)["exitCode"] = code
    assert judged(end).failure is FailureClass.NATIVE_CRASH


@pytest.mark.parametrize("code", [126, 127, 128])
def test_a_missing_program_is_an_image_problem(code: int) -> None:
    end = case("killed-on-its-node")
    terminated(end)["exitCode"] = code
    assert judged(end).failure is FailureClass.CONFIG


@pytest.mark.parametrize("code", sorted(CODES.keys() - {ExitCode.TERMINATED}))
def test_a_deleted_pod_whose_job_failed_first_keeps_that_failure(code: int) -> None:
    end = case("pod-deleted")
    terminated(end)["exitCode"] = code
    assert judged(end).failure is CODES[code]


# ---------------------------------------------------------------- which trace goes first


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        if name.startswith(("deadline", "emptydir", "node-under", "preempted", "drained", "pod-d"))
    ],
)
def test_a_termination_message_takes_precedence(name: str) -> None:
    end = case(name)
    message = JobFailure(code=ExitCode.MODEL, summary="no such model", advice="fetch it").encode().decode()
    statuses = end["pod"]["status"].setdefault("containerStatuses", [{"name": "job", "state": {}}])
    statuses[0]["state"] = {"terminated": {"exitCode": 82, "reason": "Error", "message": message}}
    found = judged(end)
    assert (found.failure, found.summary, found.advice) == (FailureClass.MODEL, "no such model", "fetch it")


@pytest.mark.parametrize("code", [ExitCode.BAD_INPUT, ExitCode.INPUT_MISSING, ExitCode.BUG, ExitCode.DECODE])
def test_a_kernel_oom_kill_takes_precedence_over_a_media_failure(code: ExitCode) -> None:
    end = case("oom-killed")
    terminated(end)["message"] = JobFailure(code=code, summary="broken", advice="").encode().decode()
    assert judged(end).failure is FailureClass.OOM_KILLED


def test_a_deadline_takes_precedence_over_the_container_status() -> None:
    end = case("deadline")
    terminated(end)["reason"] = "OOMKilled"
    assert judged(end).failure is FailureClass.DEADLINE


def test_an_oom_kill_takes_precedence_over_a_disruption() -> None:
    end = case("preempted")
    terminated(end)["reason"] = "OOMKilled"
    assert judged(end).failure is FailureClass.OOM_KILLED


@pytest.mark.parametrize("reason", ["Terminated", "NodeShutdown"])
def test_a_node_shutdown_is_recognised_by_the_reason_of_the_pod(reason: str) -> None:
    end = case("node-shut-down")
    end["pod"]["status"]["reason"] = reason
    assert judged(end).failure is FailureClass.DISRUPTED_DRAINED


def test_an_end_that_the_kubelet_did_not_see_is_unknown() -> None:
    end = case("killed-on-its-node")
    terminated(end)["reason"] = "ContainerStatusUnknown"
    assert judged(end).failure is FailureClass.UNKNOWN


@pytest.mark.parametrize("reason", ["StartError", "ContainerCannotRun"])
def test_a_container_that_could_not_start_is_recognised_with_any_exit_code(reason: str) -> None:
    end = case("killed-on-its-node")
    terminated(end)["reason"] = reason
    assert judged(end).failure is FailureClass.CONFIG


def test_a_disruption_takes_precedence_over_a_crash() -> None:
    end = case("drained")
    terminated(end)["exitCode"] = 139
    assert judged(end).failure is FailureClass.DISRUPTED_DRAINED


def test_a_disruption_of_an_unknown_kind_counts_as_deleted() -> None:
    end = case("drained")
    disruption(end)["reason"] = "DeletionByCat"
    assert judged(end).failure is FailureClass.DISRUPTED_DELETED


def test_a_disruption_that_was_called_off_is_ignored() -> None:
    end = case("drained")
    del end["pod"]["metadata"]["deletionTimestamp"]
    disruption(end)["status"] = "False"
    terminated(end)["exitCode"] = 139
    assert judged(end).failure is FailureClass.NATIVE_CRASH


@pytest.mark.parametrize(
    "reason,failure",
    [
        ("Preempted", FailureClass.DISRUPTED_PREEMPTED),
        ("Preempting", FailureClass.DISRUPTED_PREEMPTED),
        ("TaintManagerEviction", FailureClass.DISRUPTED_NODE_LOST),
        ("Evicted", FailureClass.DISRUPTED_EVICTED),
        ("NodeShutdown", FailureClass.DISRUPTED_DRAINED),
        ("Killing", FailureClass.DISRUPTED_DELETED),
    ],
)
def test_events_explain_the_end_of_a_deleted_pod(reason: str, failure: FailureClass) -> None:
    end = case("pod-gone")
    end["events"].append({"reason": reason, "type": "Normal", "message": ""})
    assert judged(end).failure is failure


@pytest.mark.parametrize("reason", ["OutOfcpu", "OutOfpods", "NodeAffinity"])
def test_a_node_that_refuses_a_pod_is_a_disruption(reason: str) -> None:
    end = case("node-is-full-after-all")
    end["pod"]["status"] |= {"reason": reason, "message": ""}
    found = judged(end)
    assert (found.failure, found.summary) == (FailureClass.DISRUPTED_EVICTED, f"its node refused it: {reason}")


# ---------------------------------------------------------------- evidence


def test_evidence_names_pod_node_container_conditions_events_and_log() -> None:
    assert judged(case("node-under-pressure")).details == (
        (
            "pod: Failed, Evicted, on gpu-1, The node was low on resource: memory. Threshold quantity: 100Mi,"
            " available: 71204Ki. Container job was using 3120404Ki, request is 2Gi, has larger"
            " consumption of memory."
        ),
        "container: exit code 137, ContainerStatusUnknown",
        "condition: DisruptionTarget, TerminationByKubelet, The node was low on resource: memory.",
        "condition: FailureTarget, BackoffLimitExceeded, Job has reached the specified backoff limit",
        "condition: Failed, BackoffLimitExceeded, Job has reached the specified backoff limit",
        "The container could not be located when the pod was terminated",
    )


def test_events_are_evidence_when_they_warn_or_explain_the_end() -> None:
    assert (
        "event: Preempted, Preempted by pod 596d5ebe-e162-48f2-89b8-a49067a87bcb on node gpu-1"
        in judged(case("pod-gone-preempted")).details
    )
    assert not any("SuccessfulCreate" in line for line in judged(case("pod-gone-preempted")).details)


def test_a_warning_is_evidence_whatever_its_reason() -> None:
    end = case("pod-gone")
    end["events"] = [{"reason": "SystemOOM", "type": "Warning", "message": "out of  memory"}]
    assert judged(end).details[-1] == "event: SystemOOM, out of memory"


def test_without_a_log_the_termination_message_is_evidence() -> None:
    details = judged(case("segmentation-fault")).details
    assert "Fatal Python error: Segmentation fault" in details
    assert '  File "/app/lib/python3.11/site-packages/chunk_job/model.py", line 301 in transcribe' in details


def test_with_a_log_its_last_lines_are_evidence() -> None:
    end = case("segmentation-fault")
    end["log"] = [f"line {number}" for number in range(100)]
    assert judged(end).details[-30:] == tuple(f"line {number}" for number in range(70, 100))
    assert "Fatal Python error: Segmentation fault" not in judged(end).details


def test_evidence_is_bounded() -> None:
    end = case("node-under-pressure")
    end["pod"]["status"]["message"] = "x" * 100_000
    end["events"] = [{"reason": "Failed", "type": "Warning", "message": "y" * 10_000}] * 1000
    end["log"] = ["z" * 10_000] * 1000
    found = judged(end)
    assert len(found.summary) < 600
    assert len(found.details) <= 60
    assert all(len(line) <= 500 for line in found.details)


@given(st.sampled_from(sorted(CASES)), st.data())
def test_a_missing_field_still_gives_a_diagnosis(name: str, data: st.DataObject) -> None:
    end = case(name)
    holders = [holder for holder in (end["job"], end["pod"]) if holder]
    if holders:
        status = data.draw(st.sampled_from(holders)).get("status", {})
        if status:
            del status[data.draw(st.sampled_from(sorted(status)))]
    before = copy.deepcopy(end)
    assert judged(end).summary
    assert end == before
