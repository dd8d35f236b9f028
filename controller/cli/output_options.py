"""Options about output files, and when an existing one is replaced."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from chunk_job.store.base import Store
from controller.cli import option_values
from controller.cli import options as shared
from controller.cli.name_lists import OnStdin, read_stdin
from controller.cli.output_names import BESIDE
from controller.cli.recordings import Recordings, named_recordings
from controller.cli.stdin_copy import StdinCopy
from controller.errors import EnvironmentProblem, UsageProblem
from controller.runs.fetched_transcripts import FetchedTranscripts
from controller.runs.outputs import existing_output
from controller.runs.protection import OutputRules
from controller.runs.written_files import WrittenFiles

_HEAD_BYTES = 4_096

overwrite_option = shared.option(
    "--overwrite", is_flag=True, help="Also replace outputs that were changed since they were written."
)

skip_option = shared.option(
    "--skip-existing", is_flag=True, help="Leave out recordings of which all outputs exist, whatever their content."
)
print_options = shared.together(
    shared.null_option,
    shared.json_option,
    shared.option("-q", "--quiet", is_flag=True, help="No progress."),
)
"""What is printed about runs."""
name_option = shared.option(
    "--name",
    "stdin_name",
    default="stdin",
    show_default=True,
    callback=option_values.text(least=1, most=200),
    metavar="NAME",
    help="File name of a recording on stdin.",
)


def recordings(
    files: Sequence[str], *, stdin_name: str, folder: str, scratch: Path | None, cluster: bool, quiet: bool
) -> Recordings:
    """Return what the arguments of ``transcribe`` name.

    Raises :class:`UsageProblem`, and :class:`EnvironmentProblem` if a recording on stdin cannot be copied.
    """
    copies: list[StdinCopy] = []

    def stdin() -> OnStdin:
        if stdin_name in (".", "..") or "/" in stdin_name or "\0" in stdin_name:
            raise UsageProblem(f"--name: {stdin_name!r} is not a file name", "give a name without a folder")
        copies.append(StdinCopy(stdin_home(scratch)))
        click.get_current_context().call_on_close(copies[0].close)
        there = read_stdin(copies[0].folder, stdin_name)
        if there.recording and folder == BESIDE:
            raise UsageProblem("-o source: a recording on stdin is in no folder", "name a folder with -o FOLDER")
        if there.recording and cluster:
            raise UsageProblem(
                "a recording on stdin is not transcribed on a cluster: its jobs cannot read it",
                "upload it first, and give its address: stenofleet transcribe --runner kubernetes s3://bucket/key",
            )
        return there

    found = named_recordings(files, stdin, quiet=quiet)
    found.copy = copies[0] if copies else None
    return found


def stdin_home(scratch: Path | None = None) -> Path:
    """Where a recording on stdin is copied to: /tmp may be in memory."""
    try:
        return scratch.absolute() if scratch else shared.state_home() / ".local" / "stdin"
    except EnvironmentProblem:
        return Path(tempfile.gettempdir())


def output_rules(*, overwrite: bool, store: Store | None) -> OutputRules:
    """Return when outputs are replaced. What was written before is known from the home folder and a remote *store*."""
    several = store if store and store.remote else None
    try:
        written = WrittenFiles(shared.state_home(), several)
    except EnvironmentProblem:
        written = WrittenFiles(None, several)
    return OutputRules(overwrite=overwrite, written=written)


def fetched_transcripts() -> FetchedTranscripts:
    """Return what is known of the transcripts of a service that were written on this machine."""
    try:
        return FetchedTranscripts(shared.state_home())
    except EnvironmentProblem:
        return FetchedTranscripts(None)


def check_replaced(path: str, what: str, ours: Callable[[bytes], bool], *, overwrite: bool) -> None:
    """Check that *path* may be written. *ours*: whether a file with this beginning is a *what* of stenofleet.

    Raises :class:`UsageProblem` for another file, and :class:`StoreUnavailable`.
    """
    if overwrite:
        return
    with existing_output(path) as file:
        if file is not None and not ours(file.read(_HEAD_BYTES)):
            raise UsageProblem(
                f"{path}: exists, and is no {what} of stenofleet", "name another file, or add --overwrite"
            )
