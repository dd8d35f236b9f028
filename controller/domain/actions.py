"""The actions that can be next in a run.

Touches: nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from chunk_job.contract import Language
from controller.domain.failures import Diagnosis
from controller.domain.jobs import JobView


@dataclass(frozen=True, kw_only=True)
class Submit:
    """Start a job. *degradation_level*: degradation steps of its options; other fields are as in :class:`Job`."""

    span: int | None
    attempt: int
    degradation_level: int = 0
    memory_factor: float = 1.0
    avoid_nodes: tuple[str, ...] = ()
    only_elsewhere: bool = False


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
