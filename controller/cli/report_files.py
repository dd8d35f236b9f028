"""Writes what later steps of a pipeline read: JUnit XML, variables, the last event.

Touches: these files, what the CI system shows (through ``ci``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace

from chunk_job.errors import JobError
from chunk_job.store.base import Store
from chunk_job.text import printable
from controller.cli import ci
from controller.cli.checks import Checks
from controller.cli.event_lines import EventLines
from controller.cli.judging import Checked
from controller.cli.terminal import print_message
from controller.errors import StenofleetError, exit_code_of
from controller.runs.outputs import write_text


@contextlib.contextmanager
def reporting_early_errors(checks: Checks) -> Iterator[None]:
    """Write the reports of a command that an error ends before :func:`checking` begins: in its options, the model."""
    try:
        yield
    except (StenofleetError, JobError):
        if not checks.began.is_set():
            # What ended the command is its last message, whatever becomes of the reports.
            with contextlib.suppress(StenofleetError, JobError), checking(checks, None, ()):
                raise
        raise


@contextlib.contextmanager
def checking(checks: Checks, store: Store | None, names: Iterable[str]) -> Iterator[Checked]:
    """Check the outcomes that are added in the block. At its end, also by an error, write the reports.

    *names*: of all recordings. Raises :class:`EnvironmentProblem` if a report cannot be written.
    """
    checks.began.set()
    events = EventLines(checks.events) if checks.events else None
    every = tuple(names)
    checked = Checked(store=store, checks=checks, names=every if checks.junit else (), events=events)
    try:
        yield checked
    except BaseException as error:
        if isinstance(error, StenofleetError | JobError):
            checked.code = exit_code_of(error)
            checked.problem = error
        if every:
            checked.left = max(0, len(every) - len(checked.outcomes))
        # What ended the command is its exit code and its last message, whatever becomes of the reports.
        for problem in _write(checked, is_final=True):
            print_message(printable(problem.summary))
        raise
    if problems := _write(checked):
        raise problems[0]


def checking_batch(checks: Checks, store: Store | None) -> contextlib.AbstractContextManager[Checked]:
    """As :func:`checking`, for a command that keeps no outcomes, and writes the report in JUnit XML itself."""
    return checking(replace(checks, junit=None), store, ())


def _write(checked: Checked, *, is_final: bool = False) -> list[StenofleetError | JobError]:
    """Write the reports, each even if another one cannot be written, and tell the CI system.

    Returns why some could not be written: this is the exit code, unless that *is_final*.
    """
    problems: list[StenofleetError | JobError] = []
    for write in (_write_junit, _write_dotenv, _write_end):
        try:
            write(checked)
        except (StenofleetError, JobError) as error:
            if not is_final:
                checked.code = exit_code_of(error)
            problems.append(error)
    ci.publish(checked.conclusion)
    return problems


def _write_junit(checked: Checked) -> None:
    if checked.checks.junit:
        from controller.reports import junit

        junit.write(checked.checks.junit, checked.suites())


def _write_dotenv(checked: Checked) -> None:
    if checked.checks.dotenv:
        write_text(checked.checks.dotenv, ci.dotenv(checked.conclusion))


def _write_end(checked: Checked) -> None:
    if checked.events:
        checked.events.end(checked.conclusion)
