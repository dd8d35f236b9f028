"""How a job fails: exit codes, and the exceptions that carry them.

Touches: nothing. ``controller.errors`` has the errors that the command line reports; docs/errors.md explains both.
"""

from __future__ import annotations

from enum import IntEnum

from chunk_job.text import masked


class ExitCode(IntEnum):
    """How a job says what went wrong. Hints for the diagnosis, never proof of success: the result object is that."""

    DONE = 0
    USAGE = 64
    BAD_INPUT = 65
    INPUT_MISSING = 66
    STORE_UNAVAILABLE = 69
    BUG = 70
    TEMPORARY = 75
    ACCESS_DENIED = 77
    CONFIG = 78
    CUDA_OOM = 80
    GPU_UNHEALTHY = 81
    MODEL = 82
    DECODE = 83
    CHUNK_DAMAGED = 84
    """The chunk's task or audio in the store is gone, or is not what the job was started for."""
    STORE_FULL = 85
    """The store is a folder, and its disk or this user's quota is full: waiting does not help."""
    TERMINATED = 143


class JobError(Exception):
    """A failure a job can name: its exit code, what happened, and what to do about it."""

    def __init__(self, code: ExitCode, summary: str, advice: str = "") -> None:
        # Here, so that what people typed into a URL reaches no log, document or termination message.
        self.code, self.summary, self.advice = code, masked(summary), masked(advice)
        super().__init__(self.summary)


class DocumentInvalid(JobError):
    """Bytes that should be a document and are not."""

    def __init__(self, summary: str) -> None:
        super().__init__(ExitCode.BAD_INPUT, summary)


def other_version(what: str) -> JobError:
    """A document that is the very one this job was made for, and that it does not know."""
    return JobError(
        ExitCode.CONFIG,
        f"{what}: written by another version of stenofleet",
        "give the controller and its jobs images of one version (--chunk-image, --intake-image)",
    )
