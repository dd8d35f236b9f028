"""What may be done next in a run.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chunk_job.contract import Language
from controller.domain.failures import Diagnosis
from controller.domain.jobs import Attempt, JobView


@dataclass(frozen=True, kw_only=True)
class Submit(Attempt):
    """Start a job."""

    degradation_level: int = 0
    """How many steps cheaper its options are."""


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Remove a job, keeping the evidence first where there is a failure."""

    view: JobView
    failure: Diagnosis | None = None


@dataclass(frozen=True, kw_only=True)
class PinLanguage:
    """Freeze the run's language from the language candidates: no span had enough speech to decide alone."""

    language: Language


@dataclass(frozen=True, kw_only=True)
class Finish:
    """The run is over, for this round. *lost* are the spans without a result."""

    verdict: Literal["complete", "partial", "failed", "cancelled"]
    lost: tuple[int, ...] = ()
    summary: str = ""
    advice: str = ""
    failure: str = ""
    """Class of the failure that decided it; empty where none did."""


Action = Submit | Delete | PinLanguage | Finish
