# ruff: noqa: INP001 (a separate program that is mounted into the controller's pod)
"""Waits until the Job that downloads the model has ended: without the model, a chunk job would fail the run.

Runs before the controller, in its pod and with its permissions. Touches: Kubernetes, through the controller's client.
"""

import sys
import time

from controller.cli.terminal import print_message
from controller.errors import ClusterUnavailable, EnvironmentProblem
from controller.runners.kubernetes.api import Api, connect
from controller.runners.kubernetes.startup_diagnosis import StartupProblem, startup_problem

_POLL_EVERY_S = 3.0
_LONGER_MS = 600_000
"""More patience than for a chunk job: volumes and images of a new namespace may be made by hand."""
_WITHOUT_GPUS = "where no node has a GPU, apply k8s/overlays/cpu; the resource's name is in k8s/base/model.yaml"


def main(job: str, appears_within_s: str = "0", without_gpus: str = _WITHOUT_GPUS) -> int:
    """Exit code: 0 if the Job *job* has downloaded the model; else 3, as for all problems of the infrastructure.

    *appears_within_s*: seconds, as text. Until then a missing Job may still be created; after them, and by default, it
    counts as a deleted one, which had downloaded the model. *without_gpus*: the advice if no node has a GPU.

    If the Job's pod does not start, it waits ten minutes longer than the controller waits for a chunk job, and any time
    for GPUs that others use.
    """
    api = connect()
    print_message(f"waiting for the model: kubectl logs -f job/{job} shows the progress")
    problem, printed = None, ""
    appears_until_ms = time.monotonic_ns() // 1_000_000 + round(float(appears_within_s) * 1000)
    while not (how := ended(api, job)):
        now_ms = time.monotonic_ns() // 1_000_000
        if how is None:
            if now_ms >= appears_until_ms:
                return 0
            time.sleep(_POLL_EVERY_S)
            continue
        problem = startup_problem_of(api, job, before=problem, now_ms=now_ms)
        why = explained(problem, without_gpus) if problem else ""
        if why and why != printed:
            print_message(f"job/{job} waits: {why}")
            printed = why
        if problem and problem.over(now_ms - _LONGER_MS):
            print_message(f"job/{job} has not started for too long: {why}")
            return EnvironmentProblem.exit_code
        time.sleep(_POLL_EVERY_S)
    if "Failed" in how:
        print_message(f"the model could not be downloaded: kubectl logs job/{job} shows the reason")
        return EnvironmentProblem.exit_code
    return 0


def startup_problem_of(api: Api, name: str, *, before: StartupProblem | None, now_ms: int) -> StartupProblem | None:
    """Why the Job's pod does not start, for example a claim without a volume, or no node with a GPU. None: no problem.

    *before*: the last result of this function.
    """
    try:
        found = api.find("pods", labelSelector=f"batch.kubernetes.io/job-name={name}")["items"]
    except ClusterUnavailable:
        return before
    problems = (startup_problem({}, pod, [], before=before, now_ms=now_ms) for pod in found)
    return next((problem for problem in problems if problem), None)


def explained(problem: StartupProblem, without_gpus: str) -> str:
    """What the problem is, and what to do."""
    why = problem.diagnosis
    advice = f"{why.advice}; {without_gpus}" if "nvidia.com/gpu" in why.summary else why.advice
    return f"{why.summary}; {advice}"


def ended(api: Api, name: str) -> set[str] | None:
    """The final conditions of the Job; empty while it runs, None if there is no such Job."""
    try:
        job = api.get("jobs", name)
    except ClusterUnavailable as error:
        print_message(f"{error.summary}: trying again")
        return set()
    if job is None:
        return None
    conditions = job.get("status", {}).get("conditions") or ()
    return {found["type"] for found in conditions if found["status"] == "True"} & {"Complete", "Failed"}


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
