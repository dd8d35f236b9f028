"""The lifecycle of a job's process: logging, the lifeline to its parent, the termination message, exit.

Touches: standard streams, a pipe, exit. Chunk jobs and intake jobs both use this module.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from chunk_job.contract import JobFailure
from chunk_job.errors import ExitCode, JobError
from chunk_job.text import masked, printable, shown

log = logging.getLogger("stenofleet.job")

_TERMINATION_MESSAGE_BYTES = 4096
"""Kubernetes cuts a termination message after this many bytes."""


class JobArgumentParser(argparse.ArgumentParser):
    """An argument parser that exits with the job's USAGE code on an error."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        log.error("%s: %s", self.prog, message)
        leave(ExitCode.USAGE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that every job has."""
    parser.add_argument("--store", help="URL of the store with the task")
    parser.add_argument("--task", metavar="KEY", help="object key of the task document")
    parser.add_argument("--task-sha256", metavar="HEX", help="digest the task must have")
    parser.add_argument(
        "--termination-log", type=Path, metavar="FILE", help="file for the termination message of a failure"
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help="a pipe from the parent; exit when it closes")


class _OneLine(logging.Formatter):
    """Formats a record as one line, printable and masked.

    It may contain file names and messages of other programs, and logs are read on a terminal. Only a traceback keeps
    its line breaks.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        return masked(printable(super().formatMessage(record)))

    def formatException(self, ei: Any) -> str:  # noqa: N802 (the library's name)
        return shown(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802 (the library's name)
        return shown(super().formatStack(stack_info))


def _log_trace(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None and ended.exc_type is not SystemExit:
        log.error("an unexpected error ended a thread", exc_info=ended.exc_value)


def start_logging() -> None:
    """Log plain lines to stderr, and of libraries only warnings: they would log the text of the recording."""
    if sys.stderr is None:
        # stderr may be closed. The job then works without a log.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("stenofleet").setLevel(logging.INFO)
    threading.excepthook = _log_trace


def print_data(line: str) -> None:
    """Write a line of data to stdout. Raises :class:`JobError` if stdout is closed."""
    if sys.stdout is None:
        raise JobError(ExitCode.CONFIG, "stdout is closed", "redirect it to a file: > FILE")
    sys.stdout.write(f"{printable(line)}\n")


def hold_lifeline(descriptor: int | None) -> None:
    """Exit as soon as the parent process ends. It never writes to this pipe; the pipe closes when the parent ends."""
    if descriptor is None:
        return

    def hold() -> None:
        os.read(descriptor, 1)
        log.error("the parent process has ended: exiting")
        leave(ExitCode.TEMPORARY)

    threading.Thread(target=hold, daemon=True).start()


def work(do: Callable[[], None], termination_log: Path | None) -> ExitCode:
    """Run the job. A failure becomes an exit code and a termination message."""
    try:
        do()
    except JobError as error:
        failure = error
    except MemoryError:
        failure = JobError(ExitCode.BUG, "out of memory", "give the job more memory or make the chunks shorter")
    except Exception as error:
        # Any other exception is a bug: report its type and its trace.
        log.exception("an unexpected error")
        failure = JobError(ExitCode.BUG, f"{type(error).__name__}: {error}", "this is a bug: report it with the log")
    else:
        return ExitCode.DONE
    log.error("%s%s", failure.summary, f": {failure.advice}" if failure.advice else "")
    if termination_log:
        try:
            termination_log.write_bytes(_termination_message(failure))
        except OSError as error:
            log.error("no termination message: %s", error)  # noqa: TRY400 (the failure itself is logged above)
    return failure.code


def _termination_message(failure: JobError) -> bytes:
    """The document with texts short enough that Kubernetes does not cut it. Printable, because kubectl shows it."""
    document = b""
    texts = (shown(failure.summary), shown(failure.advice))
    for limit in (1900, 800, 300):
        parts = [text.encode()[:limit].decode(errors="ignore") for text in texts]
        document = JobFailure(code=failure.code, summary=parts[0], advice=parts[1]).encode()
        if len(document) <= _TERMINATION_MESSAGE_BYTES:
            break
    return document


def leave(code: int) -> NoReturn:
    """Flush and exit without the interpreter's shutdown, in which native libraries can crash or hang."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            code = code or ExitCode.BUG
    os._exit(code)
