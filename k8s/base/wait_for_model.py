"""Waits until the Job that fetches the model has ended: a chunk job that finds no model ends its run for good.

Runs in the controller's pod, before the controller, with its rights. Touches: Kubernetes.
"""

import sys
import time

from controller.errors import ClusterUnavailable
from controller.kube import Api, connect

JOB = "stenofleet-model"
_LOOK_EVERY_S = 3.0


def ended(api: Api) -> set[str]:
    """The conditions that its end has; where the Job is gone, it has done its work or is not wanted."""
    job = api.get("jobs", JOB)
    if job is None:
        return {"Complete"}
    conditions = job.get("status", {}).get("conditions") or ()
    return {found["type"] for found in conditions if found["status"] == "True"} & {"Complete", "Failed"}


def main() -> int:
    """0 when the model is there; 3, as of every lack of the surroundings, when it could not be fetched."""
    api = connect()
    print(f"waiting for the model: kubectl logs -f job/{JOB} shows how far it is", flush=True)
    while True:
        try:
            how = ended(api)
        except ClusterUnavailable as error:
            print(f"{error.summary}: asking again", flush=True)
            how = set()
        if how:
            break
        time.sleep(_LOOK_EVERY_S)
    if "Failed" in how:
        print(f"the model could not be fetched: kubectl logs job/{JOB} says why", file=sys.stderr)
        return 3
    return 0


if __name__ == "__main__":
    sys.exit(main())
