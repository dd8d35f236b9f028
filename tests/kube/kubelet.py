"""Simulates the programs that run Jobs on a cluster: scheduler, kubelets and the Job controller, one step at each tick.

A process and its reported state are separate: on a lost node the process continues, and its end is reported when the
node returns, if it does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from controller.runners.kubernetes.labels import CONTAINER
from tests.kube.server import Server
from tests.kube.wire import Object

SILENT_S = 20.0
"""Seconds after which the pods of a lost node are marked as not ready …"""
EVICTED_S = 50.0
"""… and deleted, as far as the server can."""

_UID = "batch.kubernetes.io/controller-uid"
_OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, kw_only=True)
class Life:
    """How a pod ends. *exit_code* None: it runs until it is removed. *message* is its termination message."""

    starts_s: float = 1.0
    runs_s: float = 4.0
    exit_code: int | None = 0
    message: str = ""


@dataclass(kw_only=True)
class _Process:
    """The process in a pod, independent of the state that the server knows."""

    pod: str
    uid: str
    job: Object
    node: str
    life: Life
    started: str
    ends_s: float
    done: bool = False


class Kubelet:
    """Runs the Jobs of a server."""

    def __init__(
        self,
        server: Server,
        *,
        life: Callable[[Object], Life] = lambda job: Life(),
        works: Callable[[Object], None] = lambda job: None,
        nodes: Sequence[str] = ("node-1", "node-2"),
    ) -> None:
        """*life* gives the outcome of a Job; *works* is called when its process ends."""
        self.server = server
        self.nodes = nodes
        self._life = life
        self._works = works
        self._processes: dict[str, _Process] = {}
        self._since_s: dict[str, float] = {}
        self._had_pod: set[str] = set()
        self._lost_s: dict[str, float] = {}

    def tick(self) -> None:
        """One step of every component, at the time of the server's clock."""
        for job in self.server.objects("jobs"):
            self._control(job)
        for pod in self.server.objects("pods"):
            self._place(pod)
        for uid, process in list(self._processes.items()):
            if self._run(process):
                del self._processes[uid]
        for node, since_s in self._lost_s.items():
            self._mark(node, self.server.clock.s - since_s)

    def lose(self, node: str) -> None:
        """The node becomes unreachable; its processes continue."""
        if node not in self._lost_s:
            self._lost_s[node] = self.server.clock.s
            self.server.lost_nodes.add(node)

    def recover(self, node: str) -> None:
        """The node is reachable again: deleted pods end, the others continue or report their end."""
        if self._lost_s.pop(node, None) is None:
            return
        self.server.lost_nodes.discard(node)
        for pod in self._pods_on(node):
            if "deletionTimestamp" in pod["metadata"]:
                self.server.remove("pods", pod["metadata"]["name"])
            elif pod["status"]["phase"] == "Running":
                _set(pod, "Ready", "True")
                self.server.put("pods", pod)

    def lives(self, job: str) -> bool:
        """Whether a process of the Job of that name works and the server has no reason to doubt it."""
        named = [process for process in self._processes.values() if process.job["metadata"]["name"] == job]
        return any(not process.done and process.node not in self._lost_s for process in named)

    # ---------------------------------------------------------------- the Job controller

    def _control(self, job: Object) -> None:
        status = job.setdefault("status", {})
        pod = next((it for it in self.server.objects("pods") if _job_uid(it) == job["metadata"]["uid"]), None)
        decided = next((kind for kind in ("SuccessCriteriaMet", "FailureTarget") if _has(job, kind)), None)
        over = pod is not None and pod["status"]["phase"] in _OVER
        if decided:
            if pod is None or over:
                status |= {"terminating": 0}
                _set(job, "Complete" if decided == "SuccessCriteriaMet" else "Failed", "True", "BackoffLimitExceeded")
        elif job["spec"].get("suspend"):
            _set(job, "Suspended", "True", "JobSuspended")
        elif pod is None and job["metadata"]["uid"] not in self._had_pod:
            self._had_pod.add(job["metadata"]["uid"])
            self._make_pod(job)
            status |= {"startTime": self.server.now(), "active": 1, "ready": 0}
        elif pod is not None and pod["status"]["phase"] == "Succeeded":
            status |= {"active": 0, "ready": 0, "succeeded": 1}
            _set(job, "SuccessCriteriaMet", "True", "CompletionsReached")
        elif pod is None or over or "deletionTimestamp" in pod["metadata"]:
            status |= {"active": 0, "ready": 0, "failed": 1, "terminating": int(pod is not None and not over)}
            _set(job, "FailureTarget", "True", "BackoffLimitExceeded")
        else:
            status |= {"ready": int(_has(pod, "Ready"))}
        self.server.put("jobs", job)

    def _make_pod(self, job: Object) -> None:
        meta = job["metadata"]
        labels = {**job["spec"]["template"]["metadata"].get("labels", {}), _UID: meta["uid"]}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": f"{meta['name']}-{meta['uid'][-5:]}",
                "labels": labels,
                "ownerReferences": [{"uid": meta["uid"]}],
            },
            "spec": job["spec"]["template"]["spec"],
            "status": {"phase": "Pending"},
        }
        self._since_s[self.server.put("pods", document)["metadata"]["uid"]] = self.server.clock.s

    # ---------------------------------------------------------------- scheduler and kubelets

    def _place(self, pod: Object) -> None:
        """Assign a node to the pod; start its process there."""
        uid, now_s = pod["metadata"]["uid"], self.server.clock.s
        job = next((it for it in self.server.objects("jobs") if it["metadata"]["uid"] == _job_uid(pod)), None)
        if job is None or pod["status"]["phase"] != "Pending" or "deletionTimestamp" in pod["metadata"]:
            return
        node = pod["spec"].get("nodeName")
        if node is None:
            free = [node for node in self.nodes if node not in self._lost_s and not pod["spec"].get("nodeSelector")]
            if not free:
                _set(pod, "PodScheduled", "False", "Unschedulable", "0/2 nodes are available: 2 were unschedulable.")
            else:
                pod["spec"]["nodeName"] = min(free, key=lambda one: len(self._pods_on(one)))
                pod["status"]["startTime"] = self.server.now()
                _set(pod, "PodScheduled", "True")
            self.server.put("pods", pod)
            return
        life = self._life(job)
        if node in self._lost_s or now_s - self._since_s[uid] < life.starts_s:
            return
        runs_s = float("inf") if life.exit_code is None else life.runs_s
        name = pod["metadata"]["name"]
        started = self.server.now()
        self._processes[uid] = _Process(
            pod=name, uid=uid, job=job, node=node, life=life, started=started, ends_s=now_s + runs_s
        )
        pod["status"] |= {"phase": "Running", "containerStatuses": [_container("running", startedAt=started)]}
        _set(pod, "Ready", "True")
        self.server.put("pods", pod)

    def _run(self, process: _Process) -> bool:
        """Advance the process; whether the kubelet is done with it."""
        reachable = process.node not in self._lost_s
        pod = next((it for it in self.server.objects("pods") if it["metadata"]["uid"] == process.uid), None)
        if reachable and pod is None:
            return True  # its pod was deleted
        if not process.done and self.server.clock.s >= process.ends_s:
            process.done = True
            self._works(process.job)
        if not process.done or not reachable or pod is None:
            return False
        life = process.life
        times = {"startedAt": process.started, "finishedAt": self.server.now()}
        ended = _container("terminated", exitCode=life.exit_code, message=life.message, **times)
        pod["status"] |= {"phase": "Failed" if life.exit_code else "Succeeded", "containerStatuses": [ended]}
        _set(pod, "Ready", "False", "PodFailed" if life.exit_code else "PodCompleted")
        self.server.put("pods", pod)
        return True

    def _mark(self, node: str, away_s: float) -> None:
        """Mark the pods of a silent node, as the node controller does."""
        for pod in self._pods_on(node):
            if pod["status"]["phase"] in _OVER or "deletionTimestamp" in pod["metadata"]:
                continue
            if away_s >= SILENT_S and _has(pod, "Ready"):
                _set(pod, "Ready", "False")
                self.server.put("pods", pod)
            elif away_s >= EVICTED_S:
                _set(pod, "DisruptionTarget", "True", "DeletionByTaintManager")
                self.server.put("pods", pod)
                self.server.remove("pods", pod["metadata"]["name"])

    def _pods_on(self, node: str) -> list[Object]:
        return [pod for pod in self.server.objects("pods") if pod["spec"].get("nodeName") == node]


def _job_uid(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(_UID, ""))


def _container(state: str, **more: Any) -> Object:
    return {"name": CONTAINER, "state": {state: {key: value for key, value in more.items() if value != ""}}}


def _has(document: Object, kind: str) -> bool:
    conditions = document.get("status", {}).get("conditions") or []
    return any(it["type"] == kind and it["status"] == "True" for it in conditions)


def _set(document: Object, kind: str, status: str, reason: str = "", message: str = "") -> None:
    """Set this condition, in place of the one of the same type."""
    condition = {"type": kind, "status": status} | ({"reason": reason} if reason else {})
    kept = [it for it in document["status"].get("conditions") or [] if it["type"] != kind]
    document["status"]["conditions"] = [*kept, condition | ({"message": message} if message else {})]
