"""What can go wrong, as the user meets it.

Touches: nothing. One base, few leaves, each with the exit code of the command line and what to do. Only ``cli`` exits.

    StenofleetError          1        a bug
    ├─ UsageProblem          2        the command contradicts itself or names what does not exist
    ├─ EnvironmentProblem    3        something this machine, the store or the cluster lacks, never the media
    │  ├─ ClusterUnavailable          the API server cannot serve now, and may again
    │  └─ RunProblem                  it is in the way of one run alone
    ├─ MediaProblem          5        this file cannot be transcribed as it is
    ├─ PlanMismatch          5        results that do not belong together
    └─ Interrupted           130/143  a signal; the run can be resumed
"""

from __future__ import annotations

from chunk_job.text import masked


class StenofleetError(Exception):
    """Base of everything the command line reports: what happened, and what to do."""

    exit_code = 1

    def __init__(self, summary: str, advice: str = "") -> None:
        # Here, so that what people typed into a URL reaches neither a terminal nor a document.
        self.summary, self.advice = masked(summary), masked(advice)
        super().__init__(self.summary)


class UsageProblem(StenofleetError):
    """The command itself is wrong; nothing was started."""

    exit_code = 2


class EnvironmentProblem(StenofleetError):
    """The machine or the store lacks something; the media are not to blame."""

    exit_code = 3


class RunProblem(EnvironmentProblem):
    """Something that is in the way of one run, and of no other."""


class ClusterUnavailable(EnvironmentProblem):
    """The API server cannot be reached, or cannot serve now."""

    def __init__(self, summary: str, advice: str = "", *, retry_after_s: int = 0, answered: bool = False) -> None:
        """*answered*: by the server itself, in whatever words. So its address is right."""
        super().__init__(summary, advice or "check that the cluster is up and that this machine reaches its API server")
        self.retry_after_s = retry_after_s
        self.answered = answered


class MediaProblem(StenofleetError):
    """A media file that cannot be transcribed as it is."""

    exit_code = 5


class Interrupted(StenofleetError):
    """A signal ended the command; what was running can be resumed."""

    def __init__(self, signal_number: int) -> None:
        super().__init__("interrupted")
        self.exit_code = 128 + signal_number


class PlanMismatch(StenofleetError):
    """Results that do not belong together: another plan, or another model."""

    exit_code = 5
