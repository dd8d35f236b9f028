"""Failures of a job: exit codes, and the exceptions that have them.

Touches: nothing. ``controller.errors`` has the errors that the command line reports, and
docs/reference/errors.md explains both.
"""

from __future__ import annotations

from enum import IntEnum

from chunk_job.text import masked


class ExitCode(IntEnum):
    """Exit codes of a job. They help the diagnosis, but 0 does not prove success: only a result object does."""

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
    """The chunk's task or audio in the store is missing, or is not the one that the job was started for."""
    STORE_FULL = 85
    """The store is a folder, and its disk or this user's quota is full: waiting does not help."""
    MODEL_DAMAGED = 86
    """The model's files do not match its manifest: the same for each attempt."""
    TERMINATED = 143


class JobError(Exception):
    """A failure with a known cause: its exit code, what happened, and what to do."""

    def __init__(self, code: ExitCode, summary: str, advice: str = "") -> None:
        # Masked here, so that secrets in URLs reach no log, document or termination message.
        self.code, self.summary, self.advice = code, masked(summary), masked(advice)
        super().__init__(self.summary)


class DocumentInvalid(JobError):
    """The bytes are not a valid document."""

    def __init__(self, summary: str) -> None:
        super().__init__(ExitCode.BAD_INPUT, summary)


def other_version(what: str) -> JobError:
    """The error for a document with the expected digest that this version cannot parse."""
    return JobError(
        ExitCode.CONFIG,
        f"{what}: written by another version of stenofleet",
        "use images of the same version for the controller and its jobs (--chunk-image, --intake-image)",
    )
