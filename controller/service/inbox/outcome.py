"""What an outbox shows of a recording that was not transcribed: ``NAME.error.json``, until it is.

Touches: the outbox: files, S3.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
from collections.abc import Iterator
from pathlib import Path

from chunk_job.errors import JobError
from chunk_job.safe_files import write_whole
from chunk_job.store.base import StoreDenied, StoreUnavailable
from chunk_job.store.open_store import open_object
from controller.domain.service_documents import RequestEnd, iso
from controller.errors import EnvironmentProblem
from controller.intake.source import is_object
from controller.runs.outputs import output_path
from controller.service.inbox.names import ERROR_SUFFIX, shown
from controller.service.problem_types import URN
from controller.service.problems import Problem

_OF_NAMES = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.ENOTDIR, errno.EISDIR, errno.ELOOP})

_LOG = logging.getLogger(__name__)


def of_problem(path: str, problem: Problem, now_ms: int) -> bytes:
    """Return the document of a recording that was not accepted."""
    found = problem.document
    errors = [error.model_dump() for error in found.errors]
    return _document(path, found.type.removeprefix(URN), found.detail, found.advice, "", now_ms, errors=errors)


def of_end(path: str, end: RequestEnd) -> bytes:
    """Return the document of a run that failed or was cancelled."""
    cause = "not-possible-now" if end.environment else "not-transcribed"
    kind = "cancelled" if end.status == "cancelled" else end.failure or cause
    return _document(path, kind, end.summary or end.status, end.advice, end.id, end.ended_ms)


def _document(
    path: str, kind: str, summary: str, advice: str, run_id: str, time_ms: int, errors: object = None
) -> bytes:
    found = {
        "recording": shown(path),
        "class": kind,
        "summary": summary,
        "advice": advice,
        **({"errors": errors} if errors else {}),
        **({"run_id": run_id} if run_id else {}),
        "time": iso(time_ms),
        "tried_again": "when the recording or its sidecar changes",
    }
    return json.dumps(found, indent=2, ensure_ascii=False).encode("utf-8", "replace") + b"\n"


def put_error(base: str, data: bytes) -> None:
    """Write the error of the output *base*: a path, ``file://…`` or ``s3://…``.

    A name that no file or object can have is only logged. Raises :class:`EnvironmentProblem` and :class:`JobError` if
    it can be written later.
    """
    with _names_logged(base):
        target = output_path(base, ERROR_SUFFIX) if "://" in base else f"{base}.{ERROR_SUFFIX}"
        if is_object(target):
            store, key = open_object(target)
            store.put(key, data)
        else:
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            write_whole(Path(target), lambda file: file.write(data))


def remove_error(base: str) -> None:
    """Remove the error of the output *base*, if there is one. Raises the errors of :func:`put_error`."""
    with _names_logged(base):
        target = output_path(base, ERROR_SUFFIX)
        if is_object(target):
            store, key = open_object(target)
            store.delete(key)
        else:
            Path(target).unlink(missing_ok=True)


@contextlib.contextmanager
def _names_logged(base: str) -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, StoreDenied):
        raise
    except (JobError, ValueError) as error:
        _LOG.warning("outbox: %s: %s", shown(base), error)
    except OSError as error:
        if error.errno not in _OF_NAMES:
            raise EnvironmentProblem(f"{shown(base)}: {error.strerror}", "check the outbox") from error
        _LOG.warning("outbox: %s: %s", shown(base), error.strerror)
