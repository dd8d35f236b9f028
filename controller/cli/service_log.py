"""The log of the service, as lines for people or JSON for programs.

Touches: the log, stderr (through ``terminal``).
"""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Callable
from typing import Any

import click

from chunk_job.errors import JobError
from chunk_job.text import printable
from controller.cli.terminal import print_message
from controller.errors import EnvironmentProblem, Interrupted, StenofleetError

_LOG = logging.getLogger(__name__)


def errors_in_log(command: Callable[..., int]) -> Callable[..., int]:
    """Make *command* log its errors, if the log is read by programs: each of its lines is a JSON object."""

    @functools.wraps(command)
    def logged(**options: Any) -> int:
        _log_to_stderr(options["log_format"])
        try:
            return command(**options)
        except Exception as error:
            if options["log_format"] == "text" or isinstance(error, click.ClickException):
                raise
            return _logged(error)

    return logged


def _logged(error: Exception) -> int:
    """Log the error that ends this process, and return the exit code."""
    if isinstance(error, Interrupted):
        _LOG.info(error.summary)
        return error.exit_code
    if isinstance(error, (StenofleetError, JobError)):
        _LOG.error("%s; %s", error.summary, error.advice)
        return error.exit_code if isinstance(error, StenofleetError) else EnvironmentProblem.exit_code
    _LOG.critical("a bug", exc_info=error)
    return StenofleetError.exit_code


class _Json(logging.Formatter):
    """One JSON object for each message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        found = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            found["exception"] = self.formatException(record.exc_info)
        return json.dumps(found, ensure_ascii=True)


class _Text(logging.Formatter):
    """A line for people: the time of day in UTC, and the level if it is not that of plain information."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
        self.converter = time.gmtime

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 (the library's name)
        """Return the line."""
        level = "" if record.levelno == logging.INFO else f"{record.levelname.lower()}: "
        return f"{record.asctime} {level}{record.message}"


class _Lines(logging.Handler):
    """Writes lines to stderr, escaped: they may contain text of clients."""

    def __init__(self, *, as_json: bool) -> None:
        super().__init__(logging.INFO)
        self._as_json = as_json
        self.setFormatter(_Json() if as_json else _Text())

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message."""
        text = self.format(record)
        print_message(text if self._as_json else printable(text))


def _log_to_stderr(log_format: str) -> None:
    logging.basicConfig(level=logging.INFO, handlers=[_Lines(as_json=log_format == "json")], force=True)
    for noisy in ("httpx", "urllib3", "kubernetes", "uvicorn"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
