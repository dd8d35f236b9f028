"""A runner with one Kubernetes Job per job. Same verbs as every runner.

Touches: Kubernetes (through ``kube`` and ``lease``). Truth is what the server lists by label; what is remembered
between two looks is only what no list holds: a pod's last state, since when something has been so, what was deleted.
A recording on this machine is cut on this machine, and only its chunks travel.
"""

from __future__ import annotations

import contextlib
import http
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from controller.domain.interfaces import Leadership, Runner
from controller.domain.jobs import Job, JobView
from controller.errors import ClusterUnavailable, RunProblem
from controller.runners.kubernetes import pod_status
from controller.runners.kubernetes.api import Api, Reply
from controller.runners.kubernetes.exit_causes import EndCauses, about, is_about
from controller.runners.kubernetes.labels import Identity, identity, job_name, lease_name, same_task, selector
from controller.runners.kubernetes.manifest import JobOptions, Owner, job_document
from controller.runners.kubernetes.observed import Ages, Deleted
from controller.runners.kubernetes.pod_status import Document
from controller.runners.kubernetes.refused_jobs import Refusals
from controller.runners.kubernetes.startup_diagnosis import StartupProblem, startup_problem

TICK_S = 3.0
_SETTLE_S = 0.3
"""Pods often end together: so long more of them are waited for before a look."""

_SWEEPS = 30


class RunLeases(Protocol):
    """The Leases of the runs that this process leads: the owners of their Jobs."""

    @property
    def runs(self) -> Sequence[str]:
        """The runs that are led."""

    def owner(self, run: str) -> Owner:
        """What a Job of the run names as its owner. Raises :class:`ClusterUnavailable` where the Lease has lapsed."""

    def recheck(self, run: str) -> None:
        """Renew it now: there is reason to think that it was deleted or taken."""

    def cancelled(self, run: str) -> bool:
        """Whether it was deleted, and with it all of its Jobs."""


class ClusterRunner:
    """Jobs of one namespace of one cluster."""

    kind = "kubernetes"
    tick_s = TICK_S
    burst = 20

    def __init__(
        self, api: Api, options: JobOptions, *, here: Runner, leases: RunLeases, leadership: Leadership
    ) -> None:
        """*here* cuts the recordings that lie on this machine; *leases* own the Jobs, as a part of *leadership*."""
        self.leadership = leadership
        self._api = api
        self._options = options
        self._here = here
        self._leases = leases
        self._known: dict[str, tuple[Identity, str]] = {}
        self._refused = Refusals()
        self._pods: dict[str, Document] = {}
        self._problems: dict[str, StartupProblem] = {}
        self._ends = EndCauses(api)
        self._ages = Ages()
        self._deleted = Deleted()
        self._warnings: list[Document] | None = None
        self._version = ""

    def submit(self, job: Job) -> None:
        """Create the Job, or adopt the one that has its name and its task."""
        if job.media_uri.startswith("file:"):
            self._here.submit(job)
        elif not self._refused.hold_back(job, now_ms=_now_ms()):
            self._post(job)

    def _post(self, job: Job) -> None:
        try:
            made = self._api.create("jobs", job_document(job, self._options, self._leases.owner(job.run)))
        except Reply as reply:
            if reply.status == http.HTTPStatus.CONFLICT:
                self._adopt(job)
            else:
                self._refused.add(job, reply.message, now_ms=_now_ms())
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
                        if event["type"] == "DELETED" or pod_status.container_state(pod, "terminated"):
                            end_s = min(end_s, time.monotonic() + _SETTLE_S)
                    if time.monotonic() >= end_s:
                        return
        time.sleep(max(0.0, min(end_s - time.monotonic(), seconds)))

    def delete(self, view: JobView) -> None:
        """Delete the Job and its pod; one that is gone, or of another attempt by now, is no error."""
        if view.name in self._refused:
            self._refused.drop(view.name)
            return
        if view.name not in self._known:
            self._here.delete(view)
            return
        self._leases.owner(view.run)
        self._remove(view.run, view.name, view.uid)
        del self._known[view.name]

    def abandon(self, run: str) -> None:
        """Somebody else leads it now: its Jobs are theirs, and only what runs on this machine is stopped."""
        self._known = {name: known for name, known in self._known.items() if known[0].run != run}
        self._refused.drop_run(run)
        self._deleted.drop(run)
        self._here.abandon(run)

    def release(self, run: str) -> None:
        """The run has ended: what is left of it goes with its Lease."""
        self.abandon(run)
        self._here.release(run)

    def close(self, *, leave: bool) -> None:
        """Leave the Jobs to the next controller, who finds them by their labels."""
        self._ends.close()
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
            self._remove(job.run, name, found["metadata"]["uid"])
        else:
            raise RunProblem(
                f"{self._api.namespace} has a Job {name} that is not stenofleet's",
                "delete it, or give stenofleet a namespace of its own (--namespace)",
            )

    def _remove(self, run: str, name: str, uid: str) -> None:
        self._api.delete("jobs", name, uid=uid)
        self._deleted.add(uid, run, _now_s())
        self._refused.hurry()  # what it used of a quota is free

    def _remember(self, document: Document) -> None:
        whose = identity(document)
        if whose is not None:
            name, uid = document["metadata"]["name"], document["metadata"]["uid"]
            self._known[name] = (whose, uid)
            self._ages.know(uid, _now_s())

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
                self._leases.recheck(run)
        self._read_pods()
        for document in found.values():
            self._remember(document)
        views = [self._view(whose, name, uid, found.get(uid, {})) for name, (whose, uid) in self._known.items()]
        self._ends.wait()
        yield from (self._explained(view, found.get(view.uid, {})) for view in views)
        self._post_again()
        yield from (_refused_view(job, problem) for job, problem in self._refused)
        self._drop_old({uid for _, uid in self._known.values()})

    def _listed(self, *, exact: bool) -> dict[str, Document]:
        """Our Jobs by uid, but for those that we deleted."""
        answer = self._api.find("jobs", exact=exact, labelSelector=selector(self._leases.runs))
        listed = {document["metadata"]["uid"]: document for document in answer["items"]}
        self._deleted.listed(listed, _now_s())
        return {uid: job for uid, job in listed.items() if uid not in self._deleted and identity(job) is not None}

    def _read_pods(self) -> None:
        answer = self._api.find("pods", exact=False, labelSelector=selector(self._leases.runs))
        self._version = str(answer["metadata"]["resourceVersion"])
        for pod in answer["items"]:
            self._keep(pod)

    def _keep(self, pod: Document) -> None:
        uid = _job_uid(pod)
        self._pods[uid] = pod_status.newest(pod, self._pods.get(uid))

    def _view(self, whose: Identity, name: str, uid: str, document: Document) -> JobView:
        pod = self._pods.get(uid)
        if document and pod and pod_status.taken_back(document, pod):
            del self._pods[uid]
            pod = None
        phase = pod_status.phase(document, pod) if document else "ended"
        age = self._ages.saw(uid, phase, _now_s())
        now_ms = _now_ms()
        view = JobView(
            run=whose.run,
            span=whose.span,
            attempt=whose.attempt,
            name=name,
            uid=uid,
            phase=phase,
            since_ms=now_ms - round(1000 * age.in_phase_s),
            node=pod_status.node(pod),
            lost=pod_status.looks_lost(document, pod) if document else False,
        )
        if phase == "ended":
            self._ends.begin(uid, name, pod)
            return view
        # What starts within the first seconds needs no events read for it.
        problem = self._startup_problem_of(name, uid, document, pod, now_ms, young=age.known_s < 2 * TICK_S)
        if problem is None:
            return view
        if problem.over(now_ms):
            return replace(view, phase="ended", diagnosis=replace(problem.diagnosis, node=view.node))
        return replace(view, waits_for=_told(problem))

    def _explained(self, view: JobView, document: Document) -> JobView:
        """One that has ended, with why; one whose end is still being read has not ended for anybody else."""
        if view.phase != "ended" or view.diagnosis is not None:
            return view
        why = self._ends.of(view.uid, document, self._pods.get(view.uid))
        return replace(view, phase="ended" if why else "ending", diagnosis=why)

    def _post_again(self) -> None:
        """Post one of those that are refused alike; once it is taken, others too, until one is refused again."""
        for jobs in self._refused.due(_now_ms()):
            for job in jobs[: self.burst]:
                if self._leases.cancelled(job.run):
                    break  # what would belong to it is collected at once
                self._post(job)
                name = job_name(job)
                if name not in self._known:
                    break
                self._refused.taken(name)

    def _startup_problem_of(
        self, name: str, uid: str, document: Document, pod: Document | None, now_ms: int, *, young: bool
    ) -> StartupProblem | None:
        before = self._problems.get(uid)
        # Nor does what runs or waits in a queue.
        on_its_way = pod_status.phase(document, pod) in ("queued", "starting") and not pod_status.suspended(document)
        events = self._warned(name, pod) if on_its_way and not young else []
        problem = startup_problem(document, pod, events, before=before, now_ms=now_ms)
        if problem is None:
            self._problems.pop(uid, None)
        else:
            self._problems[uid] = problem
        return problem

    def _warned(self, name: str, pod: Document | None) -> list[Document]:
        """Warnings about a Job that does not start and its pod, out of one list a look for all such Jobs."""
        if self._warnings is None:
            try:
                self._warnings = about(self._api, "type=Warning")
            except ClusterUnavailable:
                self._warnings = []  # all else of this look is worth more
        return [event for event in self._warnings if is_about(event, name, pod)]

    def _drop_old(self, known: set[str]) -> None:
        self._pods = {uid: pod for uid, pod in self._pods.items() if uid in known}
        self._problems = {uid: problem for uid, problem in self._problems.items() if uid in known}
        self._ends.drop(known)
        self._ages.drop(known)


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


def _told(problem: StartupProblem) -> str:
    return f"{problem.diagnosis.summary}; {problem.diagnosis.advice}"


def _refused_view(job: Job, problem: StartupProblem) -> JobView:
    """A Job that the server would not take, until it takes it or patience is over."""
    view = JobView(
        run=job.run,
        span=job.span,
        attempt=job.attempt,
        name=job_name(job),
        uid="",
        phase="queued",
        since_ms=problem.since_ms,
        waits_for=_told(problem),
    )
    return replace(view, phase="ended", diagnosis=problem.diagnosis) if problem.over(_now_ms()) else view


def _job_uid(pod: Document) -> str:
    return str((pod.get("metadata", {}).get("labels") or {}).get("batch.kubernetes.io/controller-uid", ""))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _now_s() -> float:
    """By a clock that nobody sets: what ages are measured with."""
    return time.monotonic()
