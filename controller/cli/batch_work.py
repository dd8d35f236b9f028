"""Works on a batch: for ``batch submit``, ``resume`` and ``retry``.

Touches: signals, the terminal, the store (through other modules).
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from chunk_job.text import printable
from controller.cli import kubernetes, output_options
from controller.cli import options as shared
from controller.cli.batch_entries import Workplace, request_of
from controller.cli.batch_known import Known
from controller.cli.batch_requests import BatchRequests, Begun
from controller.cli.batch_verdict import counted
from controller.cli.event_lines import EventLines
from controller.cli.execute import SystemClock, execute, report_one
from controller.cli.models import ensure_model
from controller.cli.terminal import print_message
from controller.domain import stored_documents
from controller.domain.batches import BatchEnd, BatchEntry, Shard
from controller.domain.documents import Outcome, Report, Source
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.keys import RunKeys
from controller.errors import EnvironmentProblem
from controller.orchestrator.loop import within
from controller.reports.cost import Prices
from controller.runs.batches import BatchStore

_LEAVE_S = 2.0
_MOST_CHARACTERS = 8_000


@dataclass(frozen=True, kw_only=True)
class Work:
    """How a command works on a batch."""

    shard: Shard
    most_failures: int | None
    prices: Prices
    quiet: bool
    as_json: bool
    null: bool
    events: EventLines | None = None


def work(known: Known, how: Work, clock: SystemClock, folder: Path, options: Mapping[str, Any]) -> None:
    """Work on the recordings of a batch that have not ended in a round, and keep *known* up to date.

    *folder*: where its relative names begin. *options*: those of ``run_options.work_options``, and of the cluster.

    Raises :class:`Interrupted`, :class:`UsageProblem` and :class:`EnvironmentProblem`: also if nothing more was begun
    because every other recording would fail too.
    """
    batches, batch, worker = BatchStore(known.store), known.record.id, secrets.token_hex(8)
    say_alive = partial(batches.say_alive, batch, worker, host=printable(os.uname().nodename), shard=how.shard)
    try:
        # Before the model is fetched, which may take a while: who waits for the batch must see that somebody begins.
        with contextlib.suppress(JobError):
            say_alive()
        _work(known, how, clock, folder, options, say_alive)
    finally:
        within(_LEAVE_S, partial(_quietly, partial(batches.leave, batch, worker)))


def _work(
    known: Known,
    how: Work,
    clock: SystemClock,
    folder: Path,
    options: Mapping[str, Any],
    say_alive: Callable[[], None],
) -> None:
    store, record, round_ = known.store, known.record, known.round
    batches = BatchStore(store)
    given = dict(options)
    runner = given.pop("runner")
    cluster, rest = kubernetes.divided(given, runner)
    jobs = kubernetes.jobs_at_once(rest["max_parallel"], cluster=bool(cluster))
    wanted = record.options
    if not cluster:
        ensure_model(wanted.model, download=rest["download"])
        # Of this machine, which may be another one than that of the submission.
        wanted = wanted.model_copy(update={"cpu_threads": max(1, shared.cores() // jobs)})
    workplace = kubernetes.runner_of(store, wanted, scratch=rest["scratch_dir"], cluster=cluster)
    policy = shared.retry_policy(
        store,
        wanted,
        max_attempts=rest["max_attempts"],
        max_disruptions=rest["max_disruptions"],
        store_patience=rest["store_patience"],
    )
    place = Workplace(folder=folder, rules=output_options.output_rules(overwrite=rest["overwrite"], store=store))

    def say(outcome: RunOutcome) -> None:
        if how.events:
            how.events.recording(outcome)
        report_one(outcome, as_json=how.as_json, quiet=how.quiet, null=how.null)

    def request(entry: BatchEntry, src: Source) -> RunRequest:
        # The round makes a verdict final for it, also after a crash.
        return request_of(record, entry, src, place, wanted, f"{record.id}-{round_}")

    requests = BatchRequests(
        store,
        record,
        round_,
        place,
        shard=how.shard,
        request=request,
        describe=partial(_end, store),
        on_end=known.ended,
        on_refused=say,
        known=shared.known_files(),
        most_failures=how.most_failures,
        at_once=jobs,
        patience_s=policy.store_patience_ms / 1000,
        say_alive=say_alive,
    )

    def on_end(outcome: RunOutcome) -> None:
        requests.end(outcome)
        say(outcome)

    try:
        execute(
            requests,
            store,
            workplace,
            policy=policy,
            max_parallel=jobs,
            quiet=how.quiet or how.as_json,
            prices=how.prices,
            on_end=on_end,
            batch=record.id,
            events=how.events,
            clock=clock,
        )
    finally:
        within(_LEAVE_S, partial(_quietly, requests.flush))
    if not requests.stopped or requests.cancelled:
        return
    batches.stop(record.id, round_)
    if cause := requests.environment.cause:
        how_to = f"the same command again, or stenofleet batch resume {record.id}, tries again what failed so"
        raise EnvironmentProblem(
            f"batch {record.id}: no others were begun, because they would fail too: {cause.summary}",
            f"{cause.advice}; then {how_to}" if cause.advice else how_to,
        )
    print_message(f"batch {record.id}: {counted(requests.failures)} failed: no others were begun")


def _quietly(do: Callable[[], None]) -> None:
    with contextlib.suppress(JobError):
        do()


def _end(store: Store, begun: Begun, outcome: RunOutcome) -> BatchEnd:
    """The document of how a recording ended. Raises :class:`StoreUnavailable`."""
    keys = RunKeys(outcome.run) if outcome.run else None
    transcribed = outcome.verdict in ("complete", "partial")
    report = stored_documents.valid(store, Report, keys.report) if keys and transcribed else None
    failed = keys if outcome.verdict == "failed" else None
    ended = stored_documents.valid(store, Outcome, failed.marker("failed")) if failed else None
    devices = set(report.devices) if report else set[str]()
    return BatchEnd(
        number=begun.entry.number,
        verdict=outcome.verdict,
        run_id=outcome.run,
        identity=begun.identity,
        known=begun.known and outcome.verdict == "complete",
        failure=ended.failure if ended else "",
        environment=outcome.environment,
        summary=_valid(outcome.summary),
        advice=_valid(outcome.advice),
        warnings=tuple(_valid(warning) for warning in outcome.warnings[:1_000]),
        audio_s=report.audio_s if report else None,
        compute_s=report.compute_s if report else None,
        device=devices.pop() if len(devices) == 1 else "",
    )


def _valid(text: str) -> str:
    """A message for a document: names in it may have bytes that are not UTF-8."""
    return text.encode("utf-8", "replace").decode()[:_MOST_CHARACTERS]
