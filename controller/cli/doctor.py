"""``doctor``: checks one by one everything that a first run needs, and then transcribes a sample.

Touches: the store, the cluster, and one probe run in the real loop; the objects of the probe are removed.
"""

from __future__ import annotations

import dataclasses
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from chunk_job.contract import ChunkResult, TranscribeOptions
from chunk_job.errors import JobError
from chunk_job.store.base import Store
from chunk_job.text import json_line, printable
from controller import demo
from controller.cli import kubernetes
from controller.cli import options as shared
from controller.cli.execute import SystemClock
from controller.cli.models import ensure_model
from controller.cli.probe_checks import Check, probe_checks
from controller.cli.sections import Sectioned
from controller.cli.terminal import print_data, print_message
from controller.domain import stored_documents
from controller.domain.jobs import Job
from controller.domain.keys import RunKeys
from controller.domain.output import Output
from controller.domain.plan import PlanOptions
from controller.domain.policy import RetryPolicy
from controller.domain.progress import NO_TOTALS, Progress, Totals
from controller.errors import Interrupted, StenofleetError
from controller.intake import source
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import InOrder
from controller.runners.kubernetes.manifest import Owner, job_document
from controller.runs.lookup import remove_run
from controller.runs.outputs import base_of
from controller.runs.run_requests import make_run_request


@click.command("doctor", cls=Sectioned)
@kubernetes.runner_option
@shared.model_options
@shared.option(
    "--timeout",
    type=click.IntRange(10, 604_800),
    default=900,
    show_default=True,
    metavar="SECONDS",
    help="For the probe, including the time to pull the image and load the model.",
)
@shared.download_option
@shared.store_option
@shared.json_option
@kubernetes.options  # fmt: skip
def doctor_command(*, runner: str, timeout: int, download: bool, store: str | None, as_json: bool, **rest: Any) -> int:
    """Check whether a run would work: store, cluster, rights, image, GPU, model, and the transcript of a sample.

    Use the same options for model, device, store and cluster as for transcribe. It leaves no changes, except a model
    that --download fetches.
    """
    cluster, model = kubernetes.divided(rest, runner)
    if cluster:
        # Else a probe would leave its kernels in the store.
        cluster = {**cluster, "kernels_in_store": False}
    wanted = shared.transcribe_options(jobs=0 if cluster else 1, **model)
    opened = shared.store_at(store)
    checks: list[Check] = []
    if cluster:
        wanted = kubernetes.on_gpus(wanted)
    for check in _checks(opened, wanted, cluster, download=download, timeout_s=timeout):
        checks.append(check)
        if not as_json:
            print_message(f"{'ok  ' if check.well else 'FAIL'}  {check.name}: {check.found}")
            if check.fix:
                print_message("      " + check.fix.replace("\n", "\n      "))
    if as_json:
        print_data(json_line({"checks": [dataclasses.asdict(check) for check in checks]}), exact=True)
    return 0 if all(check.well for check in checks) else 3


def _checks(
    store: Store, wanted: TranscribeOptions, cluster: kubernetes.Settings | None, *, download: bool, timeout_s: int
) -> Iterator[Check]:
    """Yield the checks in order; stop if the following ones depend on a failed one."""
    found = [_checked("store", lambda: _store(store))]
    yield found[-1]
    if cluster is not None:
        for check in _cluster_checks(store, wanted, cluster):
            found.append(check)
            yield check
    else:
        found.append(_checked("model", lambda: _model(wanted, download=download)))
        yield found[-1]
    if all(check.well for check in found):
        results: list[ChunkResult] = []
        yield _checked("probe", lambda: _probe(store, wanted, cluster, results, timeout_s=timeout_s))
        for result in results:
            yield from probe_checks(result.engine, result.usage, on_cluster=cluster is not None)


def _checked(name: str, check: Callable[[], str]) -> Check:
    try:
        return Check(name=name, well=True, found=check())
    except Interrupted:
        raise
    except (JobError, StenofleetError) as error:
        return Check(name=name, well=False, found=error.summary, fix=error.advice)


def _store(store: Store) -> str:
    """Use each operation of the store once."""
    key, data = f"doctor/{secrets.token_hex(8)}", secrets.token_bytes(64)
    store.put(key, data)
    same = store.get(key) == data and [entry.key for entry in store.list("doctor/") if entry.key == key] == [key]
    store.delete(key)
    if not same or store.stat(key):
        raise StenofleetError(f"{store.url} does not return what was written", "use another store")
    return f"{store.url}: write, read, list and delete work"


def _model(wanted: TranscribeOptions, *, download: bool) -> str:
    ensure_model(wanted.model, download=download)
    return f"{wanted.model} is installed"


def _cluster_checks(store: Store, wanted: TranscribeOptions, cluster: kubernetes.Settings) -> Iterator[Check]:
    try:
        api = kubernetes.api_of(cluster)
        options = kubernetes.job_options_of(store, wanted, namespace=api.namespace, cluster=cluster)
        version = api.version()
    except StenofleetError as error:
        yield Check(name="cluster", well=False, found=error.summary, fix=error.advice)
        return
    yield Check(name="cluster", well=True, found=f"Kubernetes {version} at {api.server}, namespace {api.namespace}")
    yield _checked("rights", lambda: _rights(api))
    for name, document in (
        ("chunk job", job_document(_job(0), options, _NOBODY)),
        ("intake job", job_document(_job(None), options, _NOBODY)),
    ):
        yield _checked(name, lambda document=document: _accepted(api, document))  # type: ignore[misc]


_NOBODY = Owner(name="sf-doctor", uid="00000000-0000-0000-0000-000000000000")


def _job(span: int | None) -> Job:
    return Job(run="0" * 16, span=span, attempt=1, task_key="none", task_sha256="0" * 64)


def _rights(api: Any) -> str:
    from controller.runners.kubernetes.api import PERMISSIONS

    missing = []
    for permission in PERMISSIONS:
        verbs = [verb for verb in permission.verbs if not api.allowed(permission.group, permission.resource, verb)]
        if verbs:
            missing.append((permission, verbs))
    if not missing:
        return f"all {sum(len(permission.verbs) for permission in PERMISSIONS)} of the Role in k8s/"
    lacking = ", ".join(f"{'/'.join(verbs)} {permission.resource}" for permission, verbs in missing)
    rules = "\n".join(
        f'- {{apiGroups: ["{permission.group}"], resources: [{permission.resource}], verbs: [{", ".join(verbs)}]}}'
        for permission, verbs in missing
    )
    raise StenofleetError(
        f"this identity may not {lacking} in namespace {api.namespace}",
        f"have these rules added to its Role (all of them: k8s/base/rbac.yaml):\n{rules}",
    )


def _accepted(api: Any, document: dict[str, Any]) -> str:
    """Submit a Job with dry run; the API server does not create it."""
    from controller.runners.kubernetes.api import Reply
    from controller.runners.kubernetes.startup_diagnosis import refused

    try:
        warnings = api.try_create("jobs", document)
    except Reply as reply:
        why = refused(reply.message, before=None, now_ms=0).diagnosis
        raise StenofleetError(why.summary, why.advice) from reply
    if warnings:
        raise StenofleetError(
            "; ".join(warnings), "the pods of this Job would be refused: see the options of transcribe"
        )
    image = document["spec"]["template"]["spec"]["containers"][0]["image"]
    return f"the server accepts it (image {image})"


def _probe(
    store: Store,
    wanted: TranscribeOptions,
    cluster: kubernetes.Settings | None,
    results: list[ChunkResult],
    *,
    timeout_s: int,
) -> str:
    """Transcribe three minutes of known speech in the real loop; return its first words and the engine.

    It is one chunk, because most jobs are, and those of whole files use another compute type. Its result is added to
    *results*.
    """
    began_s = time.monotonic()  # noqa: TID251 (only printed)
    with tempfile.TemporaryDirectory(prefix="stenofleet-doctor-") as folder:
        run_request = make_run_request(
            source.inspect(demo.SAMPLE),
            Output(base=base_of(folder, "probe"), formats=("txt",)),
            plan=PlanOptions(threshold_ms=0),
            options=wanted,
            audio_track=None,
            on_chunk_failure="fail",
            keep_chunks=False,
            salt=secrets.token_hex(8),
        )
        run = run_request.record.run
        try:
            (ended,) = run_loop(
                KnownRequests([run_request]),
                store=store,
                runner=kubernetes.runner_of(store, wanted, scratch=None, cluster=cluster),
                policy=RetryPolicy(max_attempts=1, max_disruptions=2),
                slots=InOrder(1),
                reporter=_EventsOnly(),
                clock=SystemClock(limit_s=timeout_s),
            )
            if ended.verdict != "complete":
                raise StenofleetError(ended.summary, ended.advice)
            result = _result(store, run)
            words = (Path(folder) / "probe.txt").read_text(encoding="utf-8").split()
        except Interrupted as error:
            if error.exit_code != 128 + signal.SIGALRM:
                raise
            raise StenofleetError(
                f"no transcript within {timeout_s} s",
                "see above what it waits for and what to do; if it only needs more time: --timeout",
            ) from None
        finally:
            if cluster is not None:
                from controller.runners.kubernetes.runner import sweep

                sweep(kubernetes.api_of(cluster), run)
            remove_run(store, run)
    if not words:
        raise StenofleetError(
            "the model transcribed no word of three minutes of clear English",
            "check --model and --language; try another --compute-type",
        )
    results.append(result)
    engine = result.engine
    first_words = printable(" ".join(words[:6]))
    took_s = time.monotonic() - began_s  # noqa: TID251 (as above)
    where = f"{engine.device} ({engine.compute_type}, {engine.isa})"
    return f"{wanted.model} transcribed {first_words!r} on {where} after {took_s:.0f} s"


def _result(store: Store, run: str) -> ChunkResult:
    results = (stored_documents.valid(store, ChunkResult, entry.key) for entry in store.list(RunKeys(run).results))
    result = next((result for result in results if result), None)
    if result is None:
        raise StenofleetError("the probe's result is missing from the store", "check who else writes to it")
    return result


class _EventsOnly:
    """Prints events, but no progress."""

    def event(self, name: str, text: str, *, run: str = "") -> None:
        del run
        print_message(f"      {name}: {text}")

    def show(self, runs: Sequence[Progress], others: Totals = NO_TOTALS) -> None:
        del runs, others
