# ruff: noqa: INP001 (a separate program that is mounted into the controller's pod)
"""Waits until the Job that downloads the model has ended: without the model, a chunk job would fail the run.

Runs before the controller, in its pod and with its permissions. Touches: Kubernetes, through the controller's client.
"""

import sys
import time

from controller.cli.terminal import print_message
from controller.errors import ClusterUnavailable, EnvironmentProblem
from controller.runners.kubernetes.api import Api, connect
from controller.runners.kubernetes.startup_diagnosis import startup_problem

_POLL_EVERY_S = 3.0


def main(job: str) -> int:
    """Exit code: 0 if the Job *job* has downloaded the model; else 3, as for all problems of the infrastructure."""
    api = connect()
    print_message(f"waiting for the model: kubectl logs -f job/{job} shows the progress")
    printed = ""
    while not (how := ended(api, job)):
        why = why_not_started(api, job)
        if why and why != printed:
            print_message(f"job/{job} waits: {why}")
            printed = why
        time.sleep(_POLL_EVERY_S)
    if "Failed" in how:
        print_message(f"the model could not be downloaded: kubectl logs job/{job} shows the reason")
        return EnvironmentProblem.exit_code
    return 0


def why_not_started(api: Api, name: str) -> str:
    """Why the Job's pod does not start, for example a claim without a volume, and what to do. Empty: no problem."""
    try:
        found = api.find("pods", labelSelector=f"batch.kubernetes.io/job-name={name}")["items"]
    except ClusterUnavailable:
        return ""
    problems = [problem for pod in found if (problem := startup_problem({}, pod, [], before=None, now_ms=0))]
    return f"{problems[0].diagnosis.summary}; {problems[0].diagnosis.advice}" if problems else ""


def ended(api: Api, name: str) -> set[str]:
    """The final conditions of the Job; empty while it runs. A deleted Job counts as complete."""
    try:
        job = api.get("jobs", name)
    except ClusterUnavailable as error:
        print_message(f"{error.summary}: trying again")
        return set()
    if job is None:
        return {"Complete"}
    conditions = job.get("status", {}).get("conditions") or ()
    return {found["type"] for found in conditions if found["status"] == "True"} & {"Complete", "Failed"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
