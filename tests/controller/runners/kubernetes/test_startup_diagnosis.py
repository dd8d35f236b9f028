"""The diagnosis of Jobs that do not start: the cause, what to do, and how long it is waited for."""

import json
from pathlib import Path
from typing import Any

import pytest

from controller.domain.failures import FailureClass
from controller.runners.kubernetes.labels import CONTAINER
from controller.runners.kubernetes.startup_diagnosis import StartupProblem, refused, startup_problem

DATA = Path(__file__).parents[3] / "data" / "kubernetes"
NOW = 1_770_112_800_000
MINUTE = 60_000
HOUR = 3_600_000
IMAGE = "use an image of this project (--chunk-image, --intake-image)"
KEYS = "create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or correct --s3-secret or --s3-ca"
PUSH = "push it, or correct --chunk-image or --intake-image"
SIZES = "see `kubectl describe nodes`; adapt --job-memory, --threads, --gpus or --gpu-resource"
CLAIM = "see `kubectl describe pvc`: many nodes need ReadOnlyMany or ReadWriteMany"
MOUNT = "see `kubectl describe pvc` and the storage driver's log"
UNCORDON = "`kubectl uncordon NODE` lets jobs run there again"
TAINTS = f"`kubectl describe nodes | grep -A3 Taints` shows them: add a --toleration; if it is cordoned, {UNCORDON}"
NO_KEYS = "a Secret or ConfigMap of the job does not exist, or lacks a key"
UNKNOWN_IMAGE = "the registry does not have the image"

CASES: dict[str, tuple[FailureClass, str, str, int | None]] = {
    "quota": (
        FailureClass.CREATE_DENIED_QUOTA,
        "the namespace's quota is used up",
        "it continues when other pods end; see `kubectl describe resourcequota`, or lower --max-parallel",
        None,
    ),
    "quota-wants-limits": (
        FailureClass.CREATE_DENIED_ADMISSION,
        "the namespace's quota requires requests or limits that jobs do not set",
        "create a LimitRange with defaults: it sets them for every pod",
        0,
    ),
    "pod-security": (
        FailureClass.CREATE_DENIED_ADMISSION,
        "the namespace's Pod Security level forbids the pod",
        "the jobs meet the level `restricted`: remove the option that violates it",
        0,
    ),
    "policy": (
        FailureClass.CREATE_DENIED_ADMISSION,
        "a policy of the cluster refuses it",
        "the message names the policy: ask the cluster's administrator",
        0,
    ),
    "webhook-away": (
        FailureClass.CREATE_DENIED_ADMISSION,
        "the cluster cannot check it now",
        "the message names what is unavailable: ask the cluster's administrator",
        5 * MINUTE,
    ),
    "network-not-ready": (
        FailureClass.UNKNOWN,
        "its node cannot create the container",
        "see `kubectl describe` of the pod and of its node",
        5 * MINUTE,
    ),
    "limit-range": (
        FailureClass.CREATE_DENIED_ADMISSION,
        "a LimitRange of the namespace forbids the pod",
        "see `kubectl describe limitrange`; adapt it, --threads or --job-memory",
        0,
    ),
    "no-service-account": (
        FailureClass.CONFIG,
        "the ServiceAccount does not exist",
        "create it, or correct --service-account",
        MINUTE,
    ),
    "no-priority-class": (
        FailureClass.CONFIG,
        "the PriorityClass does not exist",
        "see `kubectl get priorityclass`, and correct --priority-class",
        MINUTE,
    ),
    "no-runtime-class": (
        FailureClass.CONFIG,
        "the RuntimeClass does not exist",
        "see `kubectl get runtimeclass`, and correct --runtime-class",
        MINUTE,
    ),
    "gpus-busy": (FailureClass.UNSCHEDULABLE_RESOURCES, "no node has enough free resources for it", SIZES, None),
    "gpus-nowhere": (
        FailureClass.UNSCHEDULABLE_RESOURCES,
        "no node has enough free resources for it",
        SIZES,
        15 * MINUTE,
    ),
    "node-away": (FailureClass.UNSCHEDULABLE_RESOURCES, "no node has enough free resources for it", SIZES, 15 * MINUTE),
    "node-away-by-name": (
        FailureClass.UNSCHEDULABLE_RESOURCES,
        "no node has enough free resources for it",
        SIZES,
        HOUR,
    ),
    "nodes-cordoned": (
        FailureClass.UNSCHEDULABLE_TAINT,
        "every node that could run it is cordoned",
        f"`kubectl get nodes` shows SchedulingDisabled; {UNCORDON}",
        HOUR,
    ),
    "tainted": (
        FailureClass.UNSCHEDULABLE_TAINT,
        "every node that could run it is tainted or cordoned",
        TAINTS,
        15 * MINUTE,
    ),
    "no-matching-node": (
        FailureClass.UNSCHEDULABLE_AFFINITY,
        "no node matches its node selector or affinity",
        "see `kubectl get nodes --show-labels`, and correct --node-selector; nodes where its GPU failed are excluded",
        15 * MINUTE,
    ),
    "no-claim": (
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the PersistentVolumeClaim with the models does not exist",
        "create it, or correct --model-claim",
        MINUTE,
    ),
    "claim-unbound": (
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the PersistentVolumeClaim with the models has no volume yet",
        "see `kubectl describe pvc`: it needs a StorageClass, or a volume that fits",
        5 * MINUTE,
    ),
    "volume-elsewhere": (
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the volume with the models cannot be used on a free node",
        CLAIM,
        5 * MINUTE,
    ),
    "volume-not-mounted": (FailureClass.UNSCHEDULABLE_VOLUME, "its node cannot mount a volume", MOUNT, 5 * MINUTE),
    "volume-attached-elsewhere": (
        FailureClass.UNSCHEDULABLE_VOLUME,
        "its node cannot mount a volume",
        MOUNT,
        5 * MINUTE,
    ),
    "image-not-here": (
        FailureClass.IMAGE_PULL,
        "the image is not on the node, and may not be pulled",
        "load it on every node, or change --image-pull-policy",
        MINUTE,
    ),
    "image-name": (
        FailureClass.IMAGE_PULL,
        "the image's name is not valid",
        "correct --chunk-image or --intake-image",
        0,
    ),
    "image-unknown": (FailureClass.IMAGE_PULL, UNKNOWN_IMAGE, PUSH, MINUTE),
    "image-unknown-backing-off": (FailureClass.IMAGE_PULL, UNKNOWN_IMAGE, PUSH, MINUTE),
    "image-private": (
        FailureClass.IMAGE_PULL,
        "the registry refuses the image",
        "give a Secret for it (--image-pull-secret)",
        MINUTE,
    ),
    "registry-away": (
        FailureClass.IMAGE_PULL,
        "the image cannot be pulled",
        "check its name (--chunk-image, --intake-image) and the node's connection to the registry",
        5 * MINUTE,
    ),
    "no-secret": (FailureClass.CONFIG, NO_KEYS, KEYS, MINUTE),
    "secret-lacks-key": (FailureClass.CONFIG, NO_KEYS, KEYS, MINUTE),
    "no-configmap": (FailureClass.CONFIG, NO_KEYS, KEYS, MINUTE),
    "image-is-root": (FailureClass.CONFIG, "the image would run as root", IMAGE, 0),
    "container-cannot-be-made": (
        FailureClass.UNKNOWN,
        "its node cannot create the container",
        "see `kubectl describe` of the pod and of its node",
        5 * MINUTE,
    ),
    "runtime-not-on-node": (
        FailureClass.CONFIG,
        "its node does not have the runtime that the RuntimeClass names",
        "correct --runtime-class, or install the runtime on that node",
        5 * MINUTE,
    ),
}


def case(name: str, folder: str = "pending") -> Any:
    return json.loads((DATA / folder / f"{name}.json").read_text(encoding="utf-8"))


def judged(it: Any, *, before: StartupProblem | None = None, now_ms: int = NOW) -> StartupProblem | None:
    return startup_problem(it["job"], it["pod"], it["events"], before=before, now_ms=now_ms)


def problem(name: str, *, before: StartupProblem | None = None, now_ms: int = NOW) -> StartupProblem:
    found = judged(case(name), before=before, now_ms=now_ms)
    assert found is not None
    return found


def test_every_recorded_wait_is_tested() -> None:
    assert CASES.keys() == {path.stem for path in (DATA / "pending").iterdir()}


@pytest.mark.parametrize("name,expected", CASES.items(), ids=CASES)
def test_a_wait_has_a_class_a_summary_advice_and_a_limit(
    name: str, expected: tuple[FailureClass, str, str, int | None]
) -> None:
    found = problem(name)
    summary, _, message = found.diagnosis.summary.partition(": ")
    assert (found.diagnosis.failure, summary, found.diagnosis.advice, found.patience_ms) == expected
    assert message
    assert found.since_ms == NOW


@pytest.mark.parametrize("name", [path.stem for path in (DATA / "phases").iterdir() if path.stem != "resumed"])
def test_a_job_on_its_way_waits_for_nothing(name: str) -> None:
    assert judged(case(name, "phases")) is None


@pytest.mark.parametrize(
    "name,trouble", [("created-suspended", "quota"), ("failed", "quota"), ("running", "volume-not-mounted")]
)
def test_a_problem_that_is_over_is_not_reported(name: str, trouble: str) -> None:
    it = case(name, "phases")
    it["events"] = case(trouble)["events"]
    assert judged(it) is None


@pytest.mark.parametrize("name", ["claim-unbound", "volume-elsewhere"])
def test_the_claim_that_is_waited_for_is_named(name: str) -> None:
    it = case(name)
    claim = {"name": "models", "persistentVolumeClaim": {"claimName": "team-models"}}
    it["pod"].setdefault("spec", {})["volumes"] = [{"name": "tmp", "emptyDir": {}}, claim]
    found = judged(it)
    assert found is not None
    assert "`kubectl describe pvc team-models`" in found.diagnosis.advice


@pytest.mark.parametrize("reason", ["FailedMount", "FailedAttachVolume", "FailedMapVolume"])
def test_a_volume_that_cannot_be_mounted_is_found_by_events_alone(reason: str) -> None:
    it = case("volume-not-mounted")
    it["events"][0]["reason"] = reason
    found = judged(it)
    assert found is not None
    assert found.diagnosis.failure is FailureClass.UNSCHEDULABLE_VOLUME


def test_a_job_that_left_its_queue_may_wait_for_resources() -> None:
    found = judged(case("resumed", "phases"))
    assert found is not None
    assert found.patience_ms is None


@pytest.mark.parametrize("name", [path.stem for path in (DATA / "ended").iterdir() if path.stem != "job-and-pod-gone"])
def test_a_job_that_has_ended_waits_for_nothing(name: str) -> None:
    assert judged(case(name, "ended")) is None


def test_the_same_problem_has_the_same_summary_for_every_chunk() -> None:
    one, other = case("quota"), case("quota")
    other["events"][0]["message"] = other["events"][0]["message"].replace("c00007", "c00008")
    first, second = judged(one), judged(other)
    assert first is not None
    assert second is not None
    assert first.diagnosis.summary == second.diagnosis.summary
    assert first.diagnosis.details != second.diagnosis.details


def test_the_last_of_several_events_is_used() -> None:
    it = case("quota")
    later = {**it["events"][0], "message": "no PriorityClass with name x was found"}
    it["events"].insert(0, {**later, "lastTimestamp": "2026-02-03T10:09:00Z"})
    it["events"].append({**later, "message": "violates PodSecurity", "lastTimestamp": None, "eventTime": None})
    found = judged(it)
    assert found is not None
    assert found.diagnosis.summary.startswith("the PriorityClass")


def test_the_time_of_an_event_of_the_newer_api_is_read() -> None:
    it = case("quota")
    newer = {**it["events"][0], "message": "no PriorityClass with name x was found", "lastTimestamp": None}
    it["events"].insert(0, {**newer, "eventTime": "2026-02-03T10:09:00.123456Z"})
    found = judged(it)
    assert found is not None
    assert found.diagnosis.failure is FailureClass.CONFIG


@pytest.mark.parametrize("reason", ["ImageInspectError", "RegistryUnavailable", "SignatureValidationFailed"])
def test_every_image_error_is_an_image_pull_failure(reason: str) -> None:
    it = case("registry-away")
    it["pod"]["status"]["containerStatuses"][0]["state"]["waiting"] = {"reason": reason}
    found = judged(it)
    assert found is not None
    assert found.diagnosis.failure is FailureClass.IMAGE_PULL


@pytest.mark.parametrize("reason", ["ContainerCreating", "PodInitializing"])
def test_unrelated_events_are_no_problem(reason: str) -> None:
    it = case("creating", "phases")
    it["pod"]["status"]["containerStatuses"][0]["state"]["waiting"]["reason"] = reason
    it["events"].append({"reason": "Failed", "type": "Warning", "message": "Error: secret not found"})
    assert judged(it) is None


def test_a_long_message_is_cut() -> None:
    it = case("gpus-busy")
    scheduled = it["pod"]["status"]["conditions"][0]
    scheduled["message"] = "1 Insufficient cpu, " * 1000 + scheduled["message"]
    found = judged(it)
    assert found is not None
    assert found.patience_ms is None
    assert len(found.diagnosis.summary) < 600
    assert all(len(line) <= 500 for line in found.diagnosis.details)


# ---------------------------------------------------------------- how long it has waited


def test_a_wait_is_counted_from_when_it_was_first_seen() -> None:
    first = problem("registry-away", now_ms=NOW)
    second = problem("registry-away", before=first, now_ms=NOW + MINUTE)
    assert second.since_ms == NOW
    assert [second.over(at) for at in (NOW, NOW + 5 * MINUTE - 1, NOW + 5 * MINUTE)] == [False, False, True]


def test_two_reasons_of_the_same_problem_are_one_wait() -> None:
    first = problem("registry-away", now_ms=NOW)
    second = problem("image-unknown-backing-off", before=first, now_ms=NOW + MINUTE)
    assert (second.since_ms, second.over(NOW + MINUTE)) == (NOW, True)


def test_another_problem_is_another_wait() -> None:
    first = problem("registry-away", now_ms=NOW)
    assert problem("no-secret", before=first, now_ms=NOW + MINUTE).since_ms == NOW + MINUTE


def test_a_wait_in_a_busy_cluster_does_not_count_when_its_nodes_become_unavailable() -> None:
    busy = problem("gpus-busy", now_ms=NOW)
    assert not busy.over(NOW + 1000 * HOUR)
    missing = problem("gpus-nowhere", before=busy, now_ms=NOW + 5 * HOUR)
    assert (missing.since_ms, missing.over(NOW + 5 * HOUR)) == (NOW + 5 * HOUR, False)


def test_a_permanent_problem_ends_the_wait_at_once() -> None:
    assert problem("pod-security").over(NOW)


# ---------------------------------------------------------------- what the API server refuses


@pytest.mark.parametrize(
    "message,failure,patience_ms",
    [
        (
            'jobs.batch "x" is forbidden: exceeded quota: jobs, requested: count/jobs.batch=1, used: 9, limited: 9',
            FailureClass.CREATE_DENIED_QUOTA,
            None,
        ),
        (
            'jobs.batch is forbidden: User "u" cannot create resource "jobs" in API group "batch" in the namespace "n"',
            FailureClass.CREATE_DENIED_RBAC,
            0,
        ),
        (
            (
                'jobs.batch "x" is forbidden: cannot set blockOwnerDeletion if an ownerReference refers to a resource'
                " you can't set finalizers on: , <nil>"
            ),
            FailureClass.CREATE_DENIED_RBAC,
            0,
        ),
        (
            'admission webhook "policy.example" denied the request: the Job is invalid',
            FailureClass.CREATE_DENIED_ADMISSION,
            0,
        ),
        (
            "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'images' denied request: no",
            FailureClass.CREATE_DENIED_ADMISSION,
            0,
        ),
        (
            'jobs.batch "x" is forbidden: unable to create new content in namespace n because it is being terminated',
            FailureClass.CREATE_DENIED_ADMISSION,
            MINUTE,
        ),
        ('namespaces "speech" not found', FailureClass.CONFIG, 0),
        ("etcdserver: request timed out", FailureClass.CREATE_DENIED_ADMISSION, 5 * MINUTE),
        (
            'Operation cannot be fulfilled on resourcequotas "q": the object has been modified',
            FailureClass.CREATE_DENIED_ADMISSION,
            5 * MINUTE,
        ),
        ("status unknown for quota: q, resources: pods", FailureClass.CREATE_DENIED_ADMISSION, 5 * MINUTE),
        (
            'Job.batch "x" is invalid: spec.template.spec.containers[0].resources.requests: Invalid value: "2000Mi"',
            FailureClass.CONFIG,
            0,
        ),
    ],
)
def test_a_refusal_is_classified_by_its_message(message: str, failure: FailureClass, patience_ms: int | None) -> None:
    found = refused(message, before=None, now_ms=NOW)
    assert (found.diagnosis.failure, found.patience_ms, found.since_ms) == (failure, patience_ms, NOW)
    assert found.diagnosis.summary.endswith(message)
    assert found.diagnosis.advice


def test_a_refusal_that_is_repeated_is_one_wait() -> None:
    message = 'pods "x" is forbidden: error looking up service account n/s: serviceaccount "s" not found'
    first = refused(message, before=None, now_ms=NOW)
    again = refused(message, before=first, now_ms=NOW + MINUTE)
    assert (first.over(NOW), again.over(NOW + MINUTE)) == (False, True)


def test_an_image_pull_back_off_has_the_summary_of_the_failed_pull() -> None:
    cause = 'failed to pull and unpack image "x": dial tcp: no such host'
    tries = [
        {"reason": "ErrImagePull", "message": cause},
        {"reason": "ImagePullBackOff", "message": f'Back-off pulling image "x": ErrImagePull: {cause}'},
    ]
    summaries = set()
    for waiting in tries:
        status = {"phase": "Pending", "containerStatuses": [{"name": CONTAINER, "state": {"waiting": waiting}}]}
        found = startup_problem({"status": {"active": 1}}, {"status": status}, [], before=None, now_ms=NOW)
        assert found is not None
        summaries.add(found.diagnosis.summary)
    assert summaries == {f"the image cannot be pulled: ErrImagePull: {cause}"}
