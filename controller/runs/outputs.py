"""Writes the transcript to the output folder of the command: files or objects, each complete or absent.

Touches: output folders, and S3 (through ``chunk_job.store``).
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple

from chunk_job.errors import DocumentInvalid, JobError
from chunk_job.safe_files import write_whole
from chunk_job.store.base import MAX_BYTES, StoreUnavailable
from chunk_job.store.open_store import open_object
from controller.domain.documents import Request
from controller.domain.output import PLAIN_NAME, UNKNOWN_LANGUAGE, Format, Output
from controller.domain.written_output import Written
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake.source import is_object, local_path
from controller.runs.caption_files import captioned
from controller.runs.opened_files import digest_of, open_file
from controller.runs.protection import NO_RULES, OF_ANOTHER, OutputRules, decide
from controller.runs.speaker_files import with_speakers
from controller.runs.stored_transcript import MOST_WHOLE_BYTES, summary_of
from controller.runs.transcript_files import PrivateFolder, TranscriptFiles, disk_errors
from controller.transcript.formats import stated_gaps_s
from controller.transcript.model import TranscriptSummary, longest_transcript_bytes

_PIECE_BYTES = 1 << 20
_LONGEST_LINE = 1 << 16


def base_of(folder: str, stem: str) -> str:
    """The URI of the output files, without extension. *folder*: a path or ``s3://…``; *stem*: the file name.

    Raises :class:`UsageProblem` for a name that a file or object cannot have.
    """
    if not stem or stem in (".", "..") or "/" in stem or "\0" in stem:
        raise UsageProblem(f"{stem!r} is not a valid file name", "rename the recording")
    if is_object(folder):
        if not folder.isprintable():
            raise UsageProblem(f"{folder}: not a valid prefix for objects", "choose another --output-dir")
        if stem.startswith(".") or not stem.isprintable():
            raise UsageProblem(f"{stem!r} is not a valid object name", "rename the recording, or write to a folder")
        return f"{folder.rstrip('/')}/{stem}"
    return (Path(folder).absolute() / stem).as_uri()


def output_path(base: str, extension: str) -> str:
    """The path or object URL of one format."""
    if is_object(base):
        return f"{base}.{extension}"
    path = local_path(base)
    return str(path.with_name(f"{path.name}.{extension}"))


def file_of(output: Output, extension: str, language: str | None = "{language}") -> str:
    """The path or object URL of one format of an output; *language*: of the transcript, None if it has no speech."""
    language = language or UNKNOWN_LANGUAGE
    if output.name_template == PLAIN_NAME:
        return output_path(output.base, extension)
    if is_object(output.base):
        folder, _, stem = output.base.rpartition("/")
        return f"{folder}/{output.file_name(stem, extension, language)}"
    path = local_path(output.base)
    return str(path.with_name(output.file_name(path.name, extension, language)))


class WrittenOutputs(NamedTuple):
    """What became of the outputs of one run."""

    files: tuple[str, ...]
    """The paths that were written."""
    warnings: tuple[str, ...]
    """One sentence for each output that was left unchanged, or replaced the transcript of another recording."""
    problem: EnvironmentProblem | None
    """The first output that could not be written."""
    kept_files: tuple[str, ...] = ()
    """The paths of outputs that were left unchanged."""


def write_outputs(request: Request, transcript: TranscriptFiles, rules: OutputRules = NO_RULES) -> WrittenOutputs:
    """Copy every requested format to its output path. One that cannot be written does not stop the others.

    A transcript with gaps never replaces one of the same run that has fewer gaps, and no output replaces a file that a
    person has changed, unless the *rules* say so. Raises :class:`StoreUnavailable` if it has to be tried again.
    """
    found = _Found()
    for output in request.outputs:
        _write_output(output, transcript, rules, found)
    return found.result(_first_problem(request, found.problems))


def write_output_of(
    output: Output, transcript: TranscriptFiles, rules: OutputRules = NO_RULES
) -> tuple[WrittenOutputs, Mapping[Format, str]]:
    """Write one output as :func:`write_outputs` does, of a transcript that is not in the store of this command.

    Also returns the digest of the file of each format.
    """
    found = _Found()
    _write_output(output, transcript, rules, found)
    return found.result(next(iter(found.problems), None)), found.sha256


@dataclass
class _Found:
    """What became of outputs so far."""

    written: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept_files: list[str] = field(default_factory=list)
    problems: list[EnvironmentProblem] = field(default_factory=list)
    sha256: Mapping[Format, str] = field(default_factory=dict)
    """Of the files of the last output, by format."""

    def result(self, problem: EnvironmentProblem | None) -> WrittenOutputs:
        return WrittenOutputs(tuple(self.written), tuple(self.warnings), problem, tuple(self.kept_files))


def _write_output(output: Output, transcript: TranscriptFiles, rules: OutputRules, found: _Found) -> None:
    """Write every format of an output, and add what became of it to *found*."""
    better = _better_existing(output, transcript.summary) if transcript.summary.gaps else None
    if better:
        found.warnings.append(f"{better}: it and the files next to it are left unchanged")
        found.kept_files += [file_of(output, extension, transcript.summary.language) for extension in output.formats]
        return
    protected = _Protected(output, transcript, rules, output.formats)
    found.sha256 = protected.sha256
    for extension in output.formats:
        path = file_of(output, extension, transcript.summary.language)
        try:
            if why := protected.write(extension):
                found.warnings.append(why)
            (found.kept_files if why else found.written).append(path)
        except EnvironmentProblem as error:
            found.problems.append(error)
    if protected.replaced:
        found.warnings.append(protected.replaced)


class _Protected:
    """Writes the files of one output, and keeps those that a person has changed."""

    def __init__(
        self, output: Output, transcript: TranscriptFiles, rules: OutputRules, formats: Sequence[Format]
    ) -> None:
        self._rules = rules
        self._paths = {extension: file_of(output, extension, transcript.summary.language) for extension in formats}
        named = with_speakers(transcript, output.speakers)
        self._content = {extension: captioned(named, extension, output.captions) for extension in formats}
        self._named = named
        """Its files are removed with it."""
        self.sha256 = {extension: _digest(path) for extension, path in self._content.items()}
        before = rules.written.find(output.base) if rules.written else Written()
        recording = transcript.summary.source.known_identity
        self._of_others = {digest for digest, one in before.recordings.items() if recording and one != recording}
        self.replaced = ""
        """A sentence, if a file was the transcript of another recording."""
        # A file with a digest that this transcript has in the store is ours too.
        known, usual = before.sha256, transcript.sha256
        self._known = {extension: {*known.get(extension, ()), usual.get(extension, "")} for extension in formats}
        if rules.written:
            # Before the files change: a command that is killed while it writes them must recognize them later.
            rules.written.add(output.base, self.sha256, recording=recording)

    def write(self, extension: Format) -> str:
        """Write one file. Returns why an existing file is kept, else an empty string.

        Raises the errors of :func:`write_output`.
        """
        path = self._paths[extension]
        decision = decide(path, self.sha256[extension], self._known[extension], overwrite=self._rules.overwrite)
        if decision.target:
            write_output(decision.target, self._content[extension])
            if decision.replaces in self._of_others and not self.replaced:
                self.replaced = f"{path}: {OF_ANOTHER}"
        return decision.kept


def write_protected(
    output: Output, transcript: TranscriptFiles, rules: OutputRules, *, formats: Sequence[Format]
) -> tuple[dict[Format, str], str]:
    """Write some files of one output as :func:`write_outputs` does. Returns why files are kept, as sentences.

    Also returns a sentence if a file was the transcript of another recording.

    Raises the errors of :func:`write_output`.
    """
    protected = _Protected(output, transcript, rules, formats)
    kept = {extension: why for extension in formats if (why := protected.write(extension))}
    return kept, protected.replaced


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return digest_of(file)


def _first_problem(request: Request, problems: Sequence[EnvironmentProblem]) -> EnvironmentProblem | None:
    if not problems:
        return None
    more = f" (and {len(problems) - 1} more outputs)" if len(problems) > 1 else ""
    return EnvironmentProblem(
        f"{problems[0].summary}{more}",
        f"the transcript is in the store: stenofleet render {request.run} -o FOLDER writes it to another folder;"
        f" stenofleet resume {request.run} writes it here after the problem is fixed",
    )


def _better_existing(output: Output, transcript: TranscriptSummary) -> str | None:
    """Why an existing output may be better than *transcript*, which has gaps; None if it is not.

    The JSON file decides. Without one, a text file decides by its lines about gaps. It may belong to another run; then
    it is kept too.
    """
    limit = longest_transcript_bytes(transcript.duration_ms)
    path = file_of(output, "json", transcript.language)
    with existing_output(path, limit) as file:
        if file is not None:
            return _better_json(path, file, transcript)
    for extension in output.formats:
        path = file_of(output, extension, transcript.language)
        with existing_output(path, limit) as file:
            if file is not None and _gaps_in(file) < transcript.gaps_ms // 1000:
                return f"{path} has fewer gaps"
    return None


def _better_json(path: str, file: BinaryIO, transcript: TranscriptSummary) -> str | None:
    try:
        existing = summary_of(file)
    except StoreUnavailable:
        raise
    except (DocumentInvalid, OSError):
        # It may be a good one that another program has rewritten with other white space.
        if file.seek(0, os.SEEK_END) > MOST_WHOLE_BYTES:
            return f"{path} has another JSON layout and is too large to be compared"
        return None
    better = existing.same_run(transcript) and existing.gaps_ms < transcript.gaps_ms
    return f"{path} has fewer gaps" if better else None


def _gaps_in(file: BinaryIO) -> int:
    """The total length, in seconds, of the gaps that a file of any text format states."""
    with io.TextIOWrapper(file, encoding="utf-8", errors="replace") as text:
        return sum(map(stated_gaps_s, iter(lambda: text.readline(_LONGEST_LINE), "")))


@contextlib.contextmanager
def existing_output(path: str, limit: int = MAX_BYTES) -> Iterator[BinaryIO | None]:
    """The open file or object; None if it does not exist, cannot be read, or is longer than *limit* bytes."""
    file: BinaryIO | None = None
    try:
        if is_object(path):
            store, key = open_object(path)
            file = store.open(key, max_bytes=limit)
        else:
            file = open_file(Path(path), max_bytes=limit)
    except StoreUnavailable:
        raise
    except (JobError, OSError):
        yield None
        return
    with file:
        yield file


def write_output(path: str, source: Path) -> None:
    """Write the content of the file *source* to a file or object, completely or not at all.

    A device or a named pipe is written to, and never replaced: ``/dev/null`` stays what it is.
    Raises :class:`EnvironmentProblem` if it cannot be written, and :class:`StoreUnavailable` if S3 is temporarily
    unavailable.
    """
    try:
        if is_object(path):
            store, key = open_object(path)
            store.put_file(key, source)
        else:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            with source.open("rb") as data:
                if _is_device(path):
                    with Path(path).open("wb") as device:
                        shutil.copyfileobj(data, device, _PIECE_BYTES)
                else:
                    write_whole(Path(path), lambda file: shutil.copyfileobj(data, file, _PIECE_BYTES))
    except StoreUnavailable:
        raise
    except JobError as error:
        raise EnvironmentProblem(f"{path}: cannot be written: {error.summary}", error.advice) from error
    except OSError as error:
        raise EnvironmentProblem(f"{path}: cannot be written: {error.strerror}", "choose another folder") from error


def _is_device(path: str) -> bool:
    """Whether something is there that is neither a file nor a folder, such as ``/dev/stdout`` or a named pipe."""
    try:
        mode = os.stat(path).st_mode  # noqa: PTH116 (beside stat's functions)
    except OSError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def write_text(path: str, text: str) -> None:
    """Write a small file or object, as :func:`write_output` does, and with its errors."""
    with disk_errors("a report"):
        folder = PrivateFolder()
        fresh = folder.path / "report"
        fresh.write_text(text, encoding="utf-8")
    write_output(path, fresh)
