"""The errors that users see.

Touches: nothing. One base class and a few subclasses, each with its exit code; each error has a summary and an advice
on what to do. Only ``cli`` exits.

    StenofleetError          1        a bug
    ├─ UsageProblem          2        the command contradicts itself or names something that does not exist
    ├─ EnvironmentProblem    3        this machine, the store or the cluster lacks something; never the media
    │  ├─ ClusterUnavailable          the API server is unavailable now; it may come back
    │  └─ RunProblem                  a problem of one run alone
    ├─ MediaProblem          5        this file cannot be transcribed as it is
    ├─ PlanMismatch          5        results that do not belong together
    └─ Interrupted           130/143  a signal; the run can be resumed
"""

from __future__ import annotations

from chunk_job.errors import JobError
from chunk_job.text import masked


class StenofleetError(Exception):
    """Base class of the errors that the command line reports: a summary and an advice on what to do."""

    exit_code = 1

    def __init__(self, summary: str, advice: str = "") -> None:
        # Masked here, so that secrets in a URL reach neither a terminal nor a document.
        self.summary, self.advice = masked(summary), masked(advice)
        super().__init__(self.summary)


class UsageProblem(StenofleetError):
    """The command itself is wrong; nothing was started."""

    exit_code = 2


class EnvironmentProblem(StenofleetError):
    """The machine, the store or the cluster lacks something; the media are not the cause."""

    exit_code = 3


class RunProblem(EnvironmentProblem):
    """A problem of one run that affects no other run."""


class ClusterUnavailable(EnvironmentProblem):
    """The API server cannot be reached or cannot process requests now."""

    def __init__(self, summary: str, advice: str = "", *, retry_after_s: int = 0, answered: bool = False) -> None:
        """*answered*: the server sent a response, so its address is right."""
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
    """Results that do not belong together: they have different plans or models."""

    exit_code = 5


def exit_code_of(error: StenofleetError | JobError) -> int:
    """Return the exit code of a command that *error* ends. One of the store is of the environment."""
    return error.exit_code if isinstance(error, StenofleetError) else EnvironmentProblem.exit_code
