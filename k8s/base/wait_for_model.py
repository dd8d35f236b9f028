# ruff: noqa: INP001 (a program of its own, mounted into the controller's pod)
"""Waits until the Job that fetches the model has ended: a chunk job that finds no model ends its run for good.

Runs before the controller, in its pod and with its rights. Touches: Kubernetes, through the controller's own door.
"""

import sys
import time

from controller.cli.terminal import print_message
from controller.errors import ClusterUnavailable, EnvironmentProblem
from controller.runners.kubernetes.api import Api, connect
from controller.runners.kubernetes.startup_diagnosis import startup_problem

_LOOK_EVERY_S = 3.0


def main(job: str) -> int:
    """0 when the Job *job* has fetched the model; otherwise 3, as of everything that the infrastructure lacks."""
    api = connect()
    print_message(f"waiting for the model: kubectl logs -f job/{job} shows how far it is")
    told = ""
    while not (how := ended(api, job)):
        why = why_not_started(api, job)
        if why and why != told:
            print_message(f"job/{job} waits: {why}")
            told = why
        time.sleep(_LOOK_EVERY_S)
    if "Failed" in how:
        print_message(f"the model could not be fetched: kubectl logs job/{job} says why")
        return EnvironmentProblem.exit_code
    return 0


def why_not_started(api: Api, name: str) -> str:
    """What keeps the Job's pod from getting a node, and what helps: a claim without a volume, say. Empty: nothing."""
    try:
        found = api.find("pods", labelSelector=f"batch.kubernetes.io/job-name={name}")["items"]
    except ClusterUnavailable:
        return ""
    stuck = [waits for pod in found if (waits := startup_problem({}, pod, [], before=None, now_ms=0))]
    return f"{stuck[0].diagnosis.summary}; {stuck[0].diagnosis.advice}" if stuck else ""


def ended(api: Api, name: str) -> set[str]:
    """What is said of the Job's end; nothing while it runs. One that is gone has done its work, or is not wanted."""
    try:
        job = api.get("jobs", name)
    except ClusterUnavailable as error:
        print_message(f"{error.summary}: asking again")
        return set()
    if job is None:
        return {"Complete"}
    conditions = job.get("status", {}).get("conditions") or ()
    return {found["type"] for found in conditions if found["status"] == "True"} & {"Complete", "Failed"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
