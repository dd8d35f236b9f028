"""The actions that can be next in a run.

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
    """Start a job for this attempt."""

    degradation_level: int = 0
    """Degradation steps of its options."""


@dataclass(frozen=True, kw_only=True)
class Delete:
    """Delete a job; if there is a failure, store its evidence first."""

    view: JobView
    failure: Diagnosis | None = None


@dataclass(frozen=True, kw_only=True)
class PinLanguage:
    """Freeze the run's language from the language candidates: no span alone had enough speech to decide it."""

    language: Language


@dataclass(frozen=True, kw_only=True)
class Finish:
    """End this round of the run. *lost* are the spans without a result."""

    verdict: Literal["complete", "partial", "failed", "cancelled"]
    lost: tuple[int, ...] = ()
    summary: str = ""
    advice: str = ""
    failure: str = ""
    """Class of the failure that decided the verdict; empty if none did."""


Action = Submit | Delete | PinLanguage | Finish
