"""Makes run requests of recordings: which run each of them is.

Touches: media (to identify them), the store (a run that is known).
"""

from __future__ import annotations

from typing import Any

from chunk_job.errors import JobError
from chunk_job.store.base import ObjectMissing, Store
from controller.cli import options as shared
from controller.cli.terminal import print_message
from controller.domain import stored_documents
from controller.domain.documents import LocalRequest, Request, RunRecord
from controller.domain.interfaces import RunRequest
from controller.domain.keys import RunKeys
from controller.domain.output import Format, Output
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake import source
from controller.runs.outputs import base_of, file_of
from controller.runs.run_requests import output_stem


def known_run_request(known: LocalRequest, output: Output | None) -> RunRequest:
    """Return the request of a run that was requested on this machine before; *output* replaces its outputs."""
    outputs = (output,) if output else known.request.outputs
    return RunRequest(record=known.record, request=known.request.model_copy(update={"outputs": outputs}))


def stored_run_request(store: Store, run: str, folder: str | None, formats: tuple[Format, ...]) -> RunRequest:
    """Return the request of a run that is only known from the store; a person must give the *folder* of its outputs.

    Raises :class:`UsageProblem` if there is no such run or no folder, and :class:`EnvironmentProblem` if the record or
    the recording does not match the run's id.
    """
    keys = RunKeys(run)
    try:
        record = stored_documents.read(store, RunRecord, keys.record)
        request = stored_documents.read(store, Request, keys.request)
    except ObjectMissing:
        raise UsageProblem(f"no run {run} in {store.url}", "see stenofleet list") from None
    except JobError as error:
        raise EnvironmentProblem(error.summary, error.advice) from error
    if record.hashed() != run:
        raise EnvironmentProblem(
            f"the record of run {run} does not match its id",
            "check who else writes to the store; a run that 0.1.0 started with --force cannot be resumed from here:"
            " start a new one with stenofleet transcribe",
        )
    if folder is None:
        places = sorted({file_of(output, extension) for output in request.outputs for extension in output.formats})
        raise UsageProblem(
            f"run {run} was not started on this machine: according to its store, it transcribes {request.source.uri}"
            f" with model {record.options.model}, to {', '.join(places[:5]) or 'no output'}",
            f"if that is right, give a folder for its transcript: stenofleet resume {run} -o FOLDER",
        )
    src = source.inspect_uri(request.source.uri)
    if src.identity != record.identity:
        raise EnvironmentProblem(
            f"{source.shown(src)} is not the recording of run {run}",
            "put the recording back where it was, or run the command that started the run",
        )
    output = Output(base=base_of(folder, output_stem(src.uri)), formats=formats, **same_files(request))
    request = request.model_copy(update={"source": src, "outputs": (output,)})
    return RunRequest(record=record, request=request)


def same_files(request: Request) -> dict[str, Any]:
    """Return the fields of an output that say how a request divides captions, and names files and speakers."""
    return request.outputs[0].model_dump(include={"captions", "name_template", "speakers"}) if request.outputs else {}


def keep_local(store: Store, run_request: RunRequest) -> bool:
    """Keep the request on this machine, for ``resume``. Prints a message and returns False if it cannot be kept."""
    document = LocalRequest(
        run=run_request.record.run, store=store.url, record=run_request.record, request=run_request.request
    )
    why = shared.local_requests().keep(document)
    if why:
        print_message(f"not kept on this machine ({why}): to resume a run, run this whole command again")
    return not why
