"""A runner with one Kubernetes Job per job. Same verbs as every runner.

Touches: Kubernetes (through ``kube`` and ``lease``). Truth is what the server lists by label; what is remembered
between two looks is only what a list can no longer tell: a pod's last state, and since when something has been stuck.
A recording on this machine is cut on this machine, and only its chunks travel.
"""

from __future__ import annotations

import contextlib
import http
import random
import time
from collections.abc import Iterator
from dataclasses import replace

from controller import pods
from controller.diagnose import Diagnosis
from controller.edges import Runner
from controller.ended import from_cluster
from controller.errors import ClusterUnavailable, RunProblem
from controller.kube import Api, Reply
from controller.labels import CONTAINER, Identity, identity, job_name, lease_name, same_task, selector
from controller.lease import Leases
from controller.manifest import JobOptions, job_document
from controller.pending import Stuck, pending, refused
from controller.pods import Document
from controller.state import Job, JobView

TICK_S = 3.0
_SETTLE_S = 0.3
"""Pods often end together: so long more of them are waited for before a look."""

_LOG_LINES = 60
_SWEEPS = 30


class ClusterRunner:
    """Jobs of one namespace of one cluster."""

    kind = "kubernetes"
    tick_s = TICK_S
    burst = 20

    def __init__(self, api: Api, options: JobOptions, *, here: Runner) -> None:
        """*here* cuts the recordings that lie on this machine."""
        self._api = api
        self._options = options
        self._here = here
        self._leases = Leases(api)
        self._known: dict[str, tuple[Identity, str]] = {}
        self._refused: dict[str, tuple[Job, Stuck]] = {}
        self._pods: dict[str, Document] = {}
        self._stuck: dict[str, Stuck] = {}
        self._ends: dict[str, Diagnosis] = {}
        self._deleted: dict[str, str] = {}
        self._warnings: list[Document] | None = None
        self._version = ""

    def lead(self, run: str) -> bool:
        """Whether this process works on *run*: the cluster's Lease decides, and on one machine the lock too."""
        return self._here.lead(run) and self._leases.lead(run)

    def place(self, run: str) -> str:
        """The Lease: who held it before us has lost it."""
        return self._leases.uid(run)

    def cancelled(self, run: str) -> bool:
        """Whether its Lease was deleted, as ``kubectl delete lease`` does to end a run and all its Jobs."""
        return self._leases.gone(run)

    def submit(self, job: Job) -> None:
        """Create the Job, or adopt the one that has its name and its task."""
        if job.media_uri.startswith("file:"):
            self._here.submit(job)
            return
        try:
            made = self._api.create("jobs", job_document(job, self._options, self._leases.owner(job.run)))
        except Reply as reply:
            if reply.status == http.HTTPStatus.CONFLICT:
                self._adopt(job)
            else:
                name = job_name(job)
                before = self._refused[name][1] if name in self._refused else None
                self._refused[name] = (job, refused(reply.message, before=before, now_ms=_now_ms()))
        else:
            self._remember(made)

    def observe(self) -> list[JobView]:
        """Every Job of the runs that are led, the vanished among them, and what runs on this machine."""
        return [*self._observe(), *self._here.observe()]

    def wait(self, seconds: float) -> None:
        """Watch pods for so long, or until one of them ends: what is deleted is seen in no list any more."""
        end_s = time.monotonic() + seconds * random.uniform(0.8, 1.2)
        if self._version and self._leases.runs:
            asked = {"resourceVersion": self._version, "labelSelector": selector(self._leases.runs)}
            with contextlib.closing(self._api.watch("pods", seconds=max(1, round(seconds)), **asked)) as events:
                for event in events:
                    pod = event.get("object", {})
                    if event.get("type") in ("ADDED", "MODIFIED", "DELETED"):
                        self._keep(pod)
                        if event["type"] == "DELETED" or pods.container_state(pod, "terminated"):
                            end_s = min(end_s, time.monotonic() + _SETTLE_S)
                    if time.monotonic() >= end_s:
                        return
        time.sleep(max(0.0, min(end_s - time.monotonic(), seconds)))

    def delete(self, view: JobView) -> None:
        """Delete the Job and its pod; one that is gone, or of another attempt by now, is no error."""
        if view.name in self._refused:
            del self._refused[view.name]
            return
        if view.name not in self._known:
            self._here.delete(view)
            return
        self._leases.owner(view.run)
        self._api.delete("jobs", view.name, uid=view.uid)
        self._deleted[view.uid] = view.run
        del self._known[view.name]

    def forget(self, run: str) -> None:
        """Somebody else leads it now: its Jobs are theirs, and only what runs on this machine is stopped."""
        self._known = {name: known for name, known in self._known.items() if known[0].run != run}
        self._refused = {name: known for name, known in self._refused.items() if known[0].run != run}
        self._deleted = {uid: of for uid, of in self._deleted.items() if of != run}
        self._here.forget(run)

    def release(self, run: str) -> None:
        """The run has ended: its Lease goes, and with it whatever Job is left."""
        self.forget(run)
        self._leases.release(run, ended=True)
        self._here.release(run)

    def close(self, *, leave: bool) -> None:
        """Leave the Jobs to the next controller, who finds them by their labels."""
        self._leases.close()
        self._here.close(leave=leave)

    def _adopt(self, job: Job) -> None:
        name = job_name(job)
        found = self._api.get("jobs", name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return  # the next look finds its name free
        if same_task(found, job):
            self._remember(found)
        elif identity(found) == Identity(job.run, job.span, job.attempt):
            # Of a round whose evidence was cleaned away: its task is not ours any more.
            self._api.delete("jobs", name, uid=found["metadata"]["uid"])
        else:
            raise RunProblem(
                f"{self._api.namespace} has a Job {name} that is not stenofleet's",
                "delete it, or give stenofleet a namespace of its own (--namespace)",
            )

    def _remember(self, document: Document) -> None:
        whose = identity(document)
        if whose is not None:
            self._known[document["metadata"]["name"]] = (whose, document["metadata"]["uid"])

    def _observe(self) -> Iterator[JobView]:
        if not self._leases.runs:
            return
        self._warnings = None
        found = self._listed(exact=False)
        if any(uid not in found for _, uid in self._known.values()):
            # This server may not have heard of it yet. One question to all of them before it counts as gone.
            found = self._listed(exact=True)
            for run in {whose.run for whose, uid in self._known.values() if uid not in found}:
                # Its Lease deleted, all of them are gone: a cancel, and nobody's failure.
                self._leases.look(run)
        self._read_pods()
        for document in found.values():
            self._remember(document)
        for name, (whose, uid) in self._known.items():
            yield self._view(whose, name, uid, found.get(uid, {}))
        for place, (name, (job, _)) in enumerate(list(self._refused.items())):
            yield self._refused_view(name, job, again=place < self.burst)
        self._forget({uid for _, uid in self._known.values()})

    def _listed(self, *, exact: bool) -> dict[str, Document]:
        """Our Jobs by uid, but for those that we deleted."""
        answer = self._api.find("jobs", exact=exact, labelSelector=selector(self._leases.runs))
        return {
            document["metadata"]["uid"]: document
            for document in answer["items"]
            if document["metadata"]["uid"] not in self._deleted and identity(document) is not None
        }

    def _read_pods(self) -> None:
        answer = self._api.find("pods", exact=False, labelSelector=selector(self._leases.runs))
        self._version = str(answer["metadata"]["resourceVersion"])
        for pod in answer["items"]:
            self._keep(pod)

    def _keep(self, pod: Document) -> None:
        uid = _job_uid(pod)
        self._pods[uid] = pods.newest(pod, self._pods.get(uid))

    def _view(self, whose: Identity, name: str, uid: str, document: Document) -> JobView:
        pod = self._pods.get(uid)
        if document and pod and pods.taken_back(document, pod):
            del self._pods[uid]
            pod = None
        now_ms = _now_ms()
        view = JobView(
            run=whose.run,
            span=whose.span,
            attempt=whose.attempt,
            name=name,
            uid=uid,
            phase=pods.phase(document, pod) if document else "ended",
            since_ms=pods.since_ms(document, pod) if document else now_ms,
            node=pods.node(pod),
            lost=pods.looks_lost(document, pod) if document else False,
        )
        if view.phase == "ended":
            return replace(view, diagnosis=self._end(name, uid, document, pod))
        stuck = self._pending(name, uid, document, pod, now_ms)
        if stuck is None:
            return view
        if stuck.over(now_ms):
            return replace(view, phase="ended", diagnosis=replace(stuck.diagnosis, node=pods.node(pod)))
        return replace(view, waits_for=_told(stuck))

    def _refused_view(self, name: str, job: Job, *, again: bool) -> JobView:
        """A Job that the server would not take: asked *again*, until it takes it or patience is over."""
        stuck = self._refused[name][1]
        view = JobView(
            run=job.run,
            span=job.span,
            attempt=job.attempt,
            name=name,
            uid="",
            phase="queued",
            since_ms=stuck.since_ms,
            waits_for=_told(stuck),
        )
        if stuck.over(_now_ms()):
            return replace(view, phase="ended", diagnosis=stuck.diagnosis)
        if again:
            self.submit(job)
            if name in self._known:
                del self._refused[name]
        return view

    def _pending(self, name: str, uid: str, document: Document, pod: Document | None, now_ms: int) -> Stuck | None:
        before = self._stuck.get(uid)
        # What starts within the first seconds, runs or waits in a queue needs no events read for it.
        young = now_ms - pods.to_ms(document["metadata"]["creationTimestamp"]) < 2 * TICK_S * 1000
        on_its_way = pods.phase(document, pod) in ("queued", "starting") and not pods.suspended(document)
        events = self._warned(name, pod) if on_its_way and not young else []
        stuck = pending(document, pod, events, before=before, now_ms=now_ms)
        if stuck is None:
            self._stuck.pop(uid, None)
        else:
            self._stuck[uid] = stuck
        return stuck

    def _end(self, name: str, uid: str, document: Document, pod: Document | None) -> Diagnosis:
        """Why it ended without a result, read once: whether there is one only the store knows."""
        if uid not in self._ends:
            ended = pods.container_state(pod, "terminated")
            if ended.get("exitCode") == 0:
                events, log = [], []
            else:
                events = list(self._events(name, pod))
                log = self._api.log(pod["metadata"]["name"], CONTAINER, lines=_LOG_LINES) if pod else []
            why = from_cluster(document, pod, events, log)
            self._ends[uid] = replace(why, node=pods.node(pod))
        return self._ends[uid]

    def _warned(self, name: str, pod: Document | None) -> list[Document]:
        """Warnings about a Job that does not start and its pod, out of one list a look for all such Jobs."""
        if self._warnings is None:
            try:
                self._warnings = self._about("type=Warning")
            except ClusterUnavailable:
                self._warnings = []  # all else of this look is worth more
        return [event for event in self._warnings if _is_about(event, name, pod)]

    def _events(self, name: str, pod: Document | None) -> Iterator[Document]:
        """Of a Job and its pod, by their names: not every event says an uid."""
        yield from self._about(f"involvedObject.kind=Job,involvedObject.name={name}")
        if pod is not None:
            yield from self._about(f"involvedObject.kind=Pod,involvedObject.name={pod['metadata']['name']}")
            return
        # A pod that was never seen has its Job's name, and something more.
        yield from (event for event in self._about("involvedObject.kind=Pod") if _is_about(event, name, None))

    def _about(self, selected: str) -> list[Document]:
        try:
            return list(self._api.find("events", exact=True, fieldSelector=selected)["items"])
        except Reply:
            return []  # evidence is welcome, never needed

    def _forget(self, known: set[str]) -> None:
        for kept in (self._pods, self._stuck, self._ends):
            for uid in [uid for uid in kept if uid not in known]:
                del kept[uid]


def sweep(api: Api, run: str) -> list[str]:
    """Delete whatever of *run* is on the cluster; the pods that still end. A lost node's pods do so for long."""
    lease = api.get("leases", lease_name(run))
    if lease is not None:
        # All Jobs belong to it. They are deleted by name as well: collecting takes its time.
        api.delete("leases", lease_name(run), uid=lease["metadata"]["uid"])
    for job in api.find("jobs", exact=True, labelSelector=selector([run]))["items"]:
        api.delete("jobs", job["metadata"]["name"], uid=job["metadata"]["uid"])
    left: list[Document] = []
    for _ in range(_SWEEPS):
        left = api.find("pods", exact=True, labelSelector=selector([run]))["items"]
        if all(pod["metadata"].get("deletionTimestamp") for pod in left):
            break
        time.sleep(1)
    return [str(pod["metadata"]["name"]) for pod in left]


def _told(stuck: Stuck) -> str:
    return f"{stuck.diagnosis.summary}; {stuck.diagnosis.advice}"


def _is_about(event: Document, job: str, pod: Document | None) -> bool:
    """Whether an event is of the Job *job* or of *pod*: any pod of it, where None was ever seen."""
    about = event["involvedObject"]
    kind, name = about.get("kind"), str(about.get("name", ""))
    if kind == "Pod" and pod is None:
        return name.startswith(f"{job}-")
    return name == (job if kind == "Job" else pod["metadata"]["name"] if kind == "Pod" and pod else None)


def _job_uid(pod: Document) -> str:
    return str((pod.get("metadata", {}).get("labels") or {}).get("batch.kubernetes.io/controller-uid", ""))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
