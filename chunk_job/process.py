"""The manners of a job's process: its lifeline, its termination message, its leaving.

Touches: standard streams, a pipe, exit. Chunk job and intake job are watched by the same eyes, so they share this.
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
"""Kubernetes cuts a termination message after so much."""


class JobArgumentParser(argparse.ArgumentParser):
    """An argument parser whose errors are the job's USAGE exit code."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        log.error("%s: %s", self.prog, message)
        leave(ExitCode.USAGE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options every job has, whoever starts it."""
    parser.add_argument("--store", help="URL of the store that holds the task")
    parser.add_argument("--task", metavar="KEY", help="object key of the task document")
    parser.add_argument("--task-sha256", metavar="HEX", help="digest the task must have")
    parser.add_argument(
        "--termination-log", type=Path, metavar="FILE", help="where the termination message go on failure"
    )
    parser.add_argument("--lifeline", type=int, metavar="FD", help="a pipe from the parent; exit when it closes")


class _OneLine(logging.Formatter):
    """A record as one line, printable and masked: it may hold file names and what tools say, and a log is read on a
    terminal. Only a traceback keeps its line breaks.
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
    """Plain lines on stderr, and only ours: libraries would log what was said."""
    if sys.stderr is None:
        # By hand it may be closed; then there are no words, and the work is the same.
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123, SIM115
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_OneLine("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("stenofleet").setLevel(logging.INFO)
    threading.excepthook = _log_trace


def print_data(line: str) -> None:
    """Write a line of data to stdout. Raises :class:`JobError` where that is closed."""
    if sys.stdout is None:
        raise JobError(ExitCode.CONFIG, "stdout is closed", "give it a place: > FILE")
    sys.stdout.write(f"{printable(line)}\n")


def hold_lifeline(descriptor: int | None) -> None:
    """Leave as soon as the parent is gone. It never writes to this pipe; its death closes it, however it died."""
    if descriptor is None:
        return

    def hold() -> None:
        os.read(descriptor, 1)
        log.error("the parent process is gone: leaving")
        leave(ExitCode.TEMPORARY)

    threading.Thread(target=hold, daemon=True).start()


def work(do: Callable[[], None], termination_log: Path | None) -> ExitCode:
    """Do the job; a failure becomes an exit code and termination message."""
    try:
        do()
    except JobError as error:
        failure = error
    except MemoryError:
        failure = JobError(ExitCode.BUG, "out of memory", "give the job more memory or make the chunks shorter")
    except Exception as error:
        # The last line of defence: whatever it is gets a name and a trace.
        log.exception("an unexpected error")
        failure = JobError(ExitCode.BUG, f"{type(error).__name__}: {error}", "this is a bug: report it with the log")
    else:
        return ExitCode.DONE
    log.error("%s%s", failure.summary, f": {failure.advice}" if failure.advice else "")
    if termination_log:
        try:
            termination_log.write_bytes(_termination_message(failure))
        except OSError as error:
            log.error("no termination message: %s", error)  # noqa: TRY400 (the failure itself is told above)
    return failure.code


def _termination_message(failure: JobError) -> bytes:
    """As much of it as Kubernetes keeps: cut in the middle it would be no document. It is printed by kubectl, too."""
    document = b""
    texts = (shown(failure.summary), shown(failure.advice))
    for limit in (1900, 800, 300):
        parts = [text.encode()[:limit].decode(errors="ignore") for text in texts]
        document = JobFailure(code=failure.code, summary=parts[0], advice=parts[1]).encode()
        if len(document) <= _TERMINATION_MESSAGE_BYTES:
            break
    return document


def leave(code: int) -> NoReturn:
    """Flush and go, without the interpreter's teardown: there is where native libraries crash or hang."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError:
            code = code or ExitCode.BUG
    os._exit(code)
