# ruff: noqa: INP001 (a program of its own, mounted into the controller's pod)
"""Waits until the Job that fetches the model has ended: a chunk job that finds no model ends its run for good.

Runs before the controller, in its pod and with its rights. Touches: Kubernetes, through the controller's own door.
"""

import sys
import time

from controller.cli.terminal import say
from controller.errors import ClusterUnavailable, EnvironmentProblem
from controller.runners.kubernetes.api import Api, connect

_LOOK_EVERY_S = 3.0


def main(job: str) -> int:
    """0 when the Job *job* has fetched the model; otherwise 3, as of everything that the infrastructure lacks."""
    api = connect()
    say(f"waiting for the model: kubectl logs -f job/{job} shows how far it is")
    while not (how := ended(api, job)):
        time.sleep(_LOOK_EVERY_S)
    if "Failed" in how:
        say(f"the model could not be fetched: kubectl logs job/{job} says why")
        return EnvironmentProblem.exit_code
    return 0


def ended(api: Api, name: str) -> set[str]:
    """What is said of the Job's end; nothing while it runs. One that is gone has done its work, or is not wanted."""
    try:
        job = api.get("jobs", name)
    except ClusterUnavailable as error:
        say(f"{error.summary}: asking again")
        return set()
    if job is None:
        return {"Complete"}
    conditions = job.get("status", {}).get("conditions") or ()
    return {found["type"] for found in conditions if found["status"] == "True"} & {"Complete", "Failed"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
