"""A runner with one Kubernetes Job per job. It has the methods of every runner.

Touches: Kubernetes (through ``api`` and the Leases). The server's lists by label are the source of truth. Between two
polls this module keeps only data that no list contains: the last state of a pod, how long a state has lasted, and which
Jobs were deleted. A recording on this machine is cut on this machine, and only its chunks are uploaded.
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
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.labels import Identity, identity, job_name, lease_name, same_task, selector
from controller.runners.kubernetes.manifest import Owner, job_document
from controller.runners.kubernetes.observed import Ages, Deleted
from controller.runners.kubernetes.pod_status import Document
from controller.runners.kubernetes.refused_jobs import Refusals
from controller.runners.kubernetes.startup_diagnosis import StartupProblem, startup_problem

TICK_S = 3.0
_MORE_ENDS_S = 0.3
"""Pods often end together: how long to wait for more of them, in seconds, before the next poll."""
_RESERVE_S = 1.0
"""The pause between two polls while this process leads no run, in seconds."""

_SWEEPS = 30


class RunLeases(Protocol):
    """The Leases of the runs that this process leads. They own the Jobs of these runs."""

    @property
    def runs(self) -> Sequence[str]:
        """The runs that this process leads."""

    def owner(self, run: str) -> Owner:
        """The owner of the run's Jobs. Raises :class:`ClusterUnavailable` if the Lease has expired."""

    def recheck(self, run: str) -> None:
        """Renew the run's Lease now, because it may have been deleted or taken over."""

    def cancelled(self, run: str) -> bool:
        """Whether the run's Lease was deleted, and with it all of its Jobs."""


class ClusterRunner:
    """Jobs of one namespace of one cluster."""

    kind = "kubernetes"
    jobs_stay = True
    tick_s = TICK_S
    burst = 20

    def __init__(
        self, api: Api, options: JobOptions, *, here: Runner, leases: RunLeases, leadership: Leadership
    ) -> None:
        """*here* cuts the recordings of this machine. *leases* own the Jobs; they are a part of *leadership*."""
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
        """Create the Job, or adopt an existing one with the same name and task."""
        if job.needs_this_machine:
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
        """All Jobs of the led runs, including deleted ones, and the jobs on this machine."""
        return [*self._observe(), *self._here.observe()]

    def wait(self, seconds: float) -> None:
        """Watch pods for about *seconds*, or until one of them ends. Deleted pods are in no list, only in the watch."""
        end_s = time.monotonic() + seconds * random.uniform(0.8, 1.2)
        if self._version and self._leases.runs:
            query = {"resourceVersion": self._version, "labelSelector": selector(self._leases.runs)}
            with contextlib.closing(self._api.watch("pods", seconds=max(1, round(seconds)), **query)) as events:
                for event in events:
                    pod = event.get("object", {})
                    if event.get("type") in ("ADDED", "MODIFIED", "DELETED"):
                        self._keep(pod)
                        if event["type"] == "DELETED" or pod_status.container_state(pod, "terminated"):
                            end_s = min(end_s, time.monotonic() + _MORE_ENDS_S)
                    if time.monotonic() >= end_s:
                        return
        # In reserve: a Lease that has expired is taken soon.
        most_s = seconds if self._leases.runs else min(seconds, _RESERVE_S)
        time.sleep(max(0.0, min(end_s - time.monotonic(), most_s)))

    def delete(self, view: JobView) -> None:
        """Delete the Job and its pod. No error if it was deleted, or if its name now has a Job of another attempt."""
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
        """Another process leads the run now: keep its Jobs on the cluster, and stop only its jobs on this machine."""
        self._known = {name: known for name, known in self._known.items() if known[0].run != run}
        self._refused.drop_run(run)
        self._deleted.drop(run)
        self._here.abandon(run)

    def release(self, run: str) -> None:
        """The run has ended. Its remaining objects are deleted with its Lease."""
        self.abandon(run)
        self._here.release(run)

    def close(self, *, leave: bool) -> None:
        """Stop without deleting Jobs on the cluster. The next controller finds them by their labels."""
        self._ends.close()
        self._here.close(leave=leave)

    def _adopt(self, job: Job) -> None:
        name = job_name(job)
        found = self._api.get("jobs", name)
        if found is None or found["metadata"].get("deletionTimestamp"):
            return  # the name is free at the next poll
        if same_task(found, job):
            self._remember(found)
        elif identity(found) == Identity(job.run, job.span, job.attempt):
            # A Job of an older round whose evidence was removed: it has another task.
            self._remove(job.run, name, found["metadata"]["uid"])
        else:
            raise RunProblem(
                f"{self._api.namespace} has a Job {name} that stenofleet did not create",
                "delete it, or use a separate namespace for stenofleet (--namespace)",
            )

    def _remove(self, run: str, name: str, uid: str) -> None:
        self._api.delete("jobs", name, uid=uid)
        self._deleted.add(uid, run, _now_s())
        self._refused.hurry()  # the quota that it used is free again

    def _remember(self, document: Document) -> None:
        found = identity(document)
        if found is not None:
            name, uid = document["metadata"]["name"], document["metadata"]["uid"]
            self._known[name] = (found, uid)
            self._ages.know(uid, _now_s())

    def _observe(self) -> Iterator[JobView]:
        if not self._leases.runs:
            return
        self._warnings = None
        found = self._listed(exact=False)
        if any(uid not in found for _, uid in self._known.values()):
            # The server's cache may be old. A Job counts as deleted only if an exact list does not contain it.
            found = self._listed(exact=True)
            for run in {job.run for job, uid in self._known.values() if uid not in found}:
                # If the Lease was deleted too, the run was cancelled, and no job has failed.
                self._leases.recheck(run)
        self._read_pods()
        for document in found.values():
            self._remember(document)
        views = [self._view(job, name, uid, found.get(uid, {})) for name, (job, uid) in self._known.items()]
        self._ends.wait()
        yield from (self._explained(view, found.get(view.uid, {})) for view in views)
        self._post_again()
        yield from (_refused_view(job, problem) for job, problem in self._refused)
        self._drop_old({uid for _, uid in self._known.values()})

    def _listed(self, *, exact: bool) -> dict[str, Document]:
        """Our Jobs by uid, except those that this process deleted."""
        reply = self._api.find("jobs", exact=exact, labelSelector=selector(self._leases.runs))
        listed = {document["metadata"]["uid"]: document for document in reply["items"]}
        self._deleted.listed(listed, _now_s())
        return {uid: job for uid, job in listed.items() if uid not in self._deleted and identity(job) is not None}

    def _read_pods(self) -> None:
        reply = self._api.find("pods", exact=False, labelSelector=selector(self._leases.runs))
        self._version = str(reply["metadata"]["resourceVersion"])
        for pod in reply["items"]:
            self._keep(pod)

    def _keep(self, pod: Document) -> None:
        uid = _job_uid(pod)
        self._pods[uid] = pod_status.newest(pod, self._pods.get(uid))

    def _view(self, job: Identity, name: str, uid: str, document: Document) -> JobView:
        pod = self._pods.get(uid)
        if document and pod and pod_status.taken_back(document, pod):
            del self._pods[uid]
            pod = None
        phase = pod_status.phase(document, pod) if document else "ended"
        age = self._ages.saw(uid, phase, _now_s())
        now_ms = _now_ms()
        view = JobView(
            run=job.run,
            span=job.span,
            attempt=job.attempt,
            name=name,
            uid=uid,
            phase=phase,
            since_ms=now_ms - round(1000 * age.in_phase_s),
            node=pod_status.node(pod),
            pull_ms=pod_status.pull_ms(pod),
            ran_ms=pod_status.ran_ms(pod),
            gpu=pod_status.has_gpu(document),
            lost=pod_status.looks_lost(document, pod) if document else False,
        )
        if phase == "ended":
            self._ends.begin(uid, name, pod)
            return view
        # No events are read for a young Job: it usually starts within the first seconds.
        problem = self._startup_problem_of(name, uid, document, pod, now_ms, young=age.known_s < 2 * TICK_S)
        if problem is None:
            return view
        if problem.over(now_ms):
            return replace(view, phase="ended", diagnosis=replace(problem.diagnosis, node=view.node))
        return replace(view, waits_for=_sentence(problem))

    def _explained(self, view: JobView, document: Document) -> JobView:
        """*view* with its diagnosis, if the Job has ended. While the cause is being read, its phase is ``ending``."""
        if view.phase != "ended" or view.diagnosis is not None:
            return view
        why = self._ends.of(view.uid, document, self._pods.get(view.uid))
        return replace(view, phase="ended" if why else "ending", diagnosis=why)

    def _post_again(self) -> None:
        """Post one Job of each failure class. If it is accepted, post the others too, until one is refused again."""
        for jobs in self._refused.due(_now_ms()):
            for job in jobs[: self.burst]:
                if self._leases.cancelled(job.run):
                    break  # the cluster would delete the Job at once
                self._post(job)
                name = job_name(job)
                if name not in self._known:
                    break
                self._refused.taken(name)

    def _startup_problem_of(
        self, name: str, uid: str, document: Document, pod: Document | None, now_ms: int, *, young: bool
    ) -> StartupProblem | None:
        before = self._problems.get(uid)
        # No events are needed either for a Job that is running or waits in a queue.
        on_its_way = pod_status.phase(document, pod) in ("queued", "starting") and not pod_status.suspended(document)
        events = self._warned(name, pod) if on_its_way and not young else []
        problem = startup_problem(document, pod, events, before=before, now_ms=now_ms)
        if problem is None:
            self._problems.pop(uid, None)
        else:
            self._problems[uid] = problem
        return problem

    def _warned(self, name: str, pod: Document | None) -> list[Document]:
        """Warnings about a Job that does not start and its pod, from one list per poll for all such Jobs."""
        if self._warnings is None:
            try:
                self._warnings = about(self._api, "type=Warning")
            except ClusterUnavailable:
                self._warnings = []  # warnings are optional: continue the poll without them
        return [event for event in self._warnings if is_about(event, name, pod)]

    def _drop_old(self, known: set[str]) -> None:
        self._pods = {uid: pod for uid, pod in self._pods.items() if uid in known}
        self._problems = {uid: problem for uid, problem in self._problems.items() if uid in known}
        self._ends.drop(known)
        self._ages.drop(known)


def sweep(api: Api, run: str) -> list[str]:
    """Delete all objects of *run* on the cluster. Returns the pods that are still ending, as on a lost node."""
    lease = api.get("leases", lease_name(run))
    if lease is not None:
        # The Lease owns all Jobs. They are also deleted by name, because garbage collection is slow.
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


def _sentence(problem: StartupProblem) -> str:
    return f"{problem.diagnosis.summary}; {problem.diagnosis.advice}"


def _refused_view(job: Job, problem: StartupProblem) -> JobView:
    """The view of a refused Job: queued, or ended if it has waited too long."""
    view = JobView(
        run=job.run,
        span=job.span,
        attempt=job.attempt,
        name=job_name(job),
        uid="",
        phase="queued",
        since_ms=problem.since_ms,
        waits_for=_sentence(problem),
    )
    return replace(view, phase="ended", diagnosis=problem.diagnosis) if problem.over(_now_ms()) else view


def _job_uid(pod: Document) -> str:
    return str((pod.get("metadata", {}).get("labels") or {}).get("batch.kubernetes.io/controller-uid", ""))


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _now_s() -> float:
    """Seconds of the monotonic clock, which is used to measure ages."""
    return time.monotonic()
