"""Two controller pods of one Job: the cost of losing one, and the effect of their verdicts on the Job."""

import contextlib
import time

import pytest

from chunk_job import crashpoint
from controller.errors import EnvironmentProblem
from tests.cluster.deployment import CHUNKED, PATIENCE_S, Deployment, exit_code, started
from tests.cluster.site import RENDEZVOUS, until

pytestmark = pytest.mark.timeout(600)

FEW = CHUNKED | {"STENOFLEET_CHUNK_DURATION": "40"}
"""Five chunks: each takes a pod."""
LAST = 4
HELD = FEW | {"STENOFLEET_JOB_ENV": f"{crashpoint.VARIABLE}=chunk.loaded.{LAST:05d}.a1=hold:{RENDEZVOUS}"}
"""The last chunk's first attempt is held until the test releases it."""

DELETIONS = 5
DELETIONS_COST_S = 120
LOST_NODE_COSTS_S = 60


def leader(deployment: Deployment, *, but: str = "", seconds: float = PATIENCE_S) -> str:
    """The holder of the Lease, when it is another one than *but*."""
    until(lambda: deployment.leader() not in ("", but), "a controller leads", patience_s=seconds)
    return deployment.leader()


def held(deployment: Deployment) -> str:
    """The pod of the chunk that is held, once it runs."""

    def running() -> list[str]:
        return [str(pod["metadata"]["name"]) for pod in deployment.chunk_pods(LAST) if started(pod)]

    until(running, "the last chunk is held", patience_s=PATIENCE_S)
    return running()[0]


def let_go(deployment: Deployment) -> None:
    pod = held(deployment)

    def released() -> bool:
        # It runs, but may not have reached the crash point.
        with contextlib.suppress(RuntimeError):
            deployment.kubectl("exec", pod, "--", "rm", RENDEZVOUS)
            return True
        return False

    until(released, "the last chunk is held", patience_s=PATIENCE_S)


def both(deployment: Deployment) -> None:
    until(lambda: len(deployment.logs()) == 2, "both controllers run", patience_s=PATIENCE_S)


def test_five_deleted_controllers_cost_less_than_two_minutes(deployment: Deployment) -> None:
    deployment.edit(**HELD)
    deployment.apply()
    leads = leader(deployment)
    held(deployment)
    costs = []
    for _ in range(DELETIONS):
        begun_s = time.monotonic()
        pod = deployment.pod_of(leads)["metadata"]["name"]
        deployment.kubectl("delete", "pod", pod, "--wait=false")
        leads = leader(deployment, but=leads)
        costs.append(time.monotonic() - begun_s)
    let_go(deployment)
    deployment.ends("stenofleet", "Complete")
    print("without a leader after each deletion:", ", ".join(f"{cost:.1f} s" for cost in costs))
    print(f"all {DELETIONS} deletions: {sum(costs):.1f} s")
    assert sum(costs) < DELETIONS_COST_S
    assert len(deployment.results()) == LAST + 1, "no chunk was computed twice"
    assert deployment.objects("transcripts/")


@pytest.mark.alone
def test_a_lost_node_with_the_controller_costs_less_than_a_minute(deployment: Deployment, lost: list[str]) -> None:
    deployment.edit(**HELD)
    deployment.apply()
    leads = leader(deployment)
    both(deployment)
    held(deployment)
    places = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in deployment.pods("controller")}
    assert len(set(places.values())) == 2, places
    lost.append(deployment.pod_of(leads)["spec"]["nodeName"])
    begun_s = time.monotonic()
    deployment.cluster.lose(lost[0])
    leader(deployment, but=leads)
    cost_s = time.monotonic() - begun_s
    print(f"without a leader after the loss of its node: {cost_s:.1f} s")
    assert cost_s < LOST_NODE_COSTS_S
    (chunk,) = [pod for pod in deployment.chunk_pods(LAST) if pod["metadata"]["name"] == held(deployment)]
    if chunk["spec"]["nodeName"] not in lost:
        let_go(deployment)
    until(lambda: deployment.conditions("stenofleet").get("SuccessCriteriaMet"), "it is done", patience_s=PATIENCE_S)
    assert deployment.objects("transcripts/")
    deployment.cluster.regain(lost[0])
    deployment.ends("stenofleet", "Complete")


def test_both_pods_give_the_same_verdict(deployment: Deployment) -> None:
    crash = f"{crashpoint.VARIABLE}=chunk.transcribed.00003.a1=exit"
    deployment.edit(**FEW, STENOFLEET_JOB_ENV=crash, STENOFLEET_MAX_ATTEMPTS="1")
    deployment.apply()
    leader(deployment)
    both(deployment)
    assert deployment.ends("stenofleet", "Failed")["Failed"] == "PodFailurePolicy"
    verdicts = deployment.verdicts()
    assert set(verdicts.values()) == {5}
    # A failed Job's other pod is removed, perhaps before its log is read.
    logs = [log for name, log in deployment.logs().items() if name in verdicts]
    assert logs
    assert all("chunk 3 failed 1 time" in log for log in logs)


def test_what_is_fixed_after_the_verdict_is_tried_again_in_a_new_round(deployment: Deployment) -> None:
    deployment.edit(**CHUNKED)
    deployment.apply()
    leader(deployment)
    limit = {"type": "Container", "max": {"memory": "100Mi"}}
    begun_s = time.monotonic()
    deployment.cluster.apply(
        deployment.namespace,
        {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "small"}, "spec": {"limits": [limit]}},
    )

    def gave_up() -> bool:
        return EnvironmentProblem.exit_code in [exit_code(pod) for pod in deployment.pods("controller")]

    until(gave_up, "the round has failed", patience_s=PATIENCE_S)
    print(f"given up after {time.monotonic() - begun_s:.1f} s of a LimitRange")
    deployment.kubectl("delete", "limitrange", "small")
    begun_s = time.monotonic()
    deployment.ends("stenofleet", "Complete")
    print(f"complete {time.monotonic() - begun_s:.1f} s after it was lost")
    assert deployment.objects("transcripts/")


def test_a_deleted_lease_is_a_cancel_for_both(deployment: Deployment) -> None:
    deployment.edit(**HELD)
    deployment.apply()
    leader(deployment)
    both(deployment)
    held(deployment)
    deployment.kubectl("delete", "lease", "--all")
    assert deployment.ends("stenofleet", "Failed")["Failed"] == "PodFailurePolicy"
    assert set(deployment.verdicts().values()) == {8}
