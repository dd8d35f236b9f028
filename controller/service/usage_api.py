"""``/v1/usage``: what the runs of a tenant used.

Touches: the store.
"""

from __future__ import annotations

import re
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import AwareDatetime, BaseModel, BeforeValidator, Field

from controller.domain.service_documents import iso
from controller.domain.usage_documents import UsageFigures
from controller.reports import ledger
from controller.reports.stored_usage import usages_of_period
from controller.reports.usage import summed
from controller.service.context import Caller, TheService
from controller.service.problems import Problem
from controller.service.runs_api import PROBLEMS
from controller.service.views import Time

MOST_RUNS = 1_000
"""Most runs of one answer: several objects of each are read."""
_LAST_MS = 10**13 - 1

_BEGIN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt]")

router = APIRouter(tags=["usage"])


def _no_number(text: str) -> str:
    """Raise :class:`ValueError` for a number, which would be taken as a time since the epoch."""
    if not _BEGIN.match(text):
        raise ValueError("is no time of RFC 3339, like 2026-11-01T00:00:00Z")
    return text


Moment = Annotated[AwareDatetime, BeforeValidator(_no_number)]


class PeriodUsage(BaseModel):
    """What the runs used that a tenant submitted in a period."""

    begin: Time | None = Field(alias="from", description="The begin of the period; null: that of all runs.")
    to: Time = Field(description="The end of the period, which is not in it.")
    submitted: int = Field(
        description="Runs that were submitted in it, also those that have used nothing yet, and those that were deleted"
        " and had used something."
    )
    usage: UsageFigures


@router.get("/v1/usage", responses=PROBLEMS, operation_id="getUsage")
def get_usage(
    service: TheService,
    tenant: Caller,
    begin: Annotated[Moment | None, Query(alias="from", description="Only runs submitted then or later.")] = None,
    end: Annotated[Moment | None, Query(alias="to", description="Only runs submitted before; default: now.")] = None,
) -> PeriodUsage:
    """Sum up what runs used in all their attempts, by the time at which they were submitted. At most 1000 runs.

    Figures are null if they are not known, or, as the cost, if the service has no price. Deleted runs are in it.
    """
    from_ms = _ms(begin.timestamp()) if begin else 0
    to_ms = _ms(end.timestamp()) if end else service.now_ms() + 1
    # In this order: a run that is deleted meanwhile is at least in the second list.
    states = service.requests.submitted(tenant.prefix, from_ms=from_ms, to_ms=to_ms, most=MOST_RUNS + 1)
    removed = ledger.submitted(service.store, tenant.prefix, from_ms=from_ms, to_ms=to_ms, most=MOST_RUNS + 1)
    if len(states) + len(removed) > MOST_RUNS:
        raise Problem(
            422,
            "invalid-request",
            f"more than {MOST_RUNS} runs were submitted in this period",
            "ask for shorter periods, with from and to, and add them up",
        )
    runs = {run for state in states for run in service.requests.runs(tenant.prefix, state)}
    deleted = {one.run for one in removed} - runs
    found = usages_of_period(service.store, runs, deleted, from_ms=from_ms, to_ms=to_ms)
    return PeriodUsage(
        **{"from": iso(from_ms) if begin else None},
        to=iso(to_ms),
        submitted=len(states) + len(deleted),
        usage=summed(list(found), service.prices),
    )


def _ms(seconds: float) -> int:
    return min(max(0, round(1000 * seconds)), _LAST_MS)
