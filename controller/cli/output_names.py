"""Decides before any work which files the transcript of each recording is written to.

Touches: output folders (whether names are too long for them, and which outputs exist).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from chunk_job.errors import JobError
from chunk_job.store.open_store import open_store
from chunk_job.text import masked_name, printable
from controller.cli.caption_options import NO_CAPTIONS, CaptionOptions
from controller.cli.execute import refused
from controller.cli.input_names import report_refused
from controller.cli.recordings import Named, Resolved
from controller.cli.same_files import SameFiles
from controller.cli.terminal import print_message
from controller.domain.interfaces import RunOutcome
from controller.domain.output import PLAIN_NAME, UNKNOWN_LANGUAGE, Format, Output
from controller.errors import EnvironmentProblem, MediaProblem, UsageProblem
from controller.intake import source
from controller.runs.lookup import AT_ONCE, in_parallel
from controller.runs.output_folders import check_folder
from controller.runs.outputs import base_of, file_of, output_path
from controller.runs.run_requests import output_stem

BESIDE = "source"
"""As an output folder: the folder of each recording."""

NO_BASES: Mapping[str, str] = {}
_MOST_LISTED = 10
_LONGEST_NAME = 255
_LONGEST_PATH = 4095
_LONGEST_KEY = 1024


def outputs_of(
    recordings: Sequence[Named],
    folder: str,
    formats: tuple[Format, ...],
    captions: CaptionOptions = NO_CAPTIONS,
) -> tuple[dict[str, Output], list[RunOutcome]]:
    """Return the output of each recording, and the recordings whose outputs cannot have a name, already reported.

    Recordings of one stem in one folder get outputs with their full names. Raises :class:`UsageProblem` if two would
    write the same files nevertheless, or if one would overwrite a recording.
    """
    bases = bases_of(recordings, folder)
    wanted = {
        name: Output(
            base=base,
            formats=formats,
            captions=captions.style,
            name_template=captions.names,
            speakers=captions.speakers,
        )
        for name, base in bases.items()
    }
    if wanted:
        check_no_recording(list(wanted), wanted.values(), next(iter(wanted.values())))
    outputs: dict[str, Output] = {}
    without: list[RunOutcome] = []
    for name, output in wanted.items():
        # A URL of another kind is refused later, with the reason.
        is_url = "://" in name and not source.is_object(name)
        if not is_url and (problem := too_long(name, output)):
            without.append(refused(name, problem))
            report_refused(without[-1])
        else:
            outputs[name] = output
    return outputs, without


def bases_of(recordings: Sequence[Named], folder: str, given: Mapping[str, str] = NO_BASES) -> dict[str, str]:
    """Return the base of the outputs of each recording by its name, and those *given* by what names them in messages.

    Raises :class:`UsageProblem` if two recordings would write the same files, or if *folder* cannot be used.
    """
    folders = {one.name: _folder_of(one, folder) for one in recordings}
    for one in sorted(set(folders.values())) if folder == BESIDE else [folder]:
        check_folder(one)
    same = SameFiles()
    bases = _bases(recordings, folders, same) | dict(given)
    _check_different(bases, same)
    return bases


def existing(outputs: dict[str, Output]) -> frozenset[str]:
    """Return the recordings of which every wanted output exists. Raises :class:`EnvironmentProblem`."""
    remote = any(source.is_object(output.base) for output in outputs.values())
    each = in_parallel(all_exist, outputs.values(), at_once=AT_ONCE) if remote else map(all_exist, outputs.values())
    return frozenset(name for name, exist in zip(outputs, each, strict=True) if exist)


def all_exist(output: Output) -> bool:
    """Return whether there is an output of every format. Raises :class:`EnvironmentProblem`."""
    return all(_exists(output, extension) for extension in output.formats)


def _exists(output: Output, extension: Format) -> bool:
    """Whether there is an output of one format, in any language if the name contains one."""
    path = file_of(output, extension)
    folder, _, name = path.rpartition("/")
    pattern = None
    if _has_language(output):
        one = output.model_copy(update={"formats": (extension,)})
        pattern = one.names_in_any_language(_stem_of(output))
    if not source.is_object(path):
        if pattern is None:
            return os.path.exists(path)  # noqa: PTH110 (a name may have any bytes)
        return os.path.isdir(folder) and any(map(pattern.fullmatch, os.listdir(folder)))  # noqa: PTH112
    try:
        store = open_store(folder)
        if pattern is None:
            return store.stat(name) is not None
        return any(pattern.fullmatch(entry.key) for entry in store.list(name.split("{language}", 1)[0]))
    except JobError as error:
        raise EnvironmentProblem(f"{path}: {error.summary}", error.advice) from error


def _has_language(output: Output) -> bool:
    return "{language}" in output.name_template


def _stem_of(output: Output) -> str:
    return output.base.rpartition("/")[2] if source.is_object(output.base) else source.local_path(output.base).name


def _folder_of(one: Named, folder: str) -> str:
    if folder == BESIDE:
        return one.name.rpartition("/")[0] if source.is_object(one.name) else str(Path(one.name).absolute().parent)
    if not one.folder:
        return folder
    return f"{folder.rstrip('/')}/{one.folder}" if source.is_object(folder) else os.path.join(folder, one.folder)  # noqa: PTH118


def _bases(recordings: Sequence[Named], folders: dict[str, str], same: SameFiles) -> dict[str, str]:
    """Return the base of each recording's outputs: its stem, or its full name where two have the same stem."""
    stems = {one.name: base_of(folders[one.name], output_stem(_uri(one.name))) for one in recordings}
    bases, full = stems, set[str]()
    while more := _clashing(bases, same) - full:
        full |= more
        whole = {name: base_of(folders[name], source.file_name(_uri(name)).name) for name in full}
        bases = stems | whole
    if full and not (unclear := _clashing(bases, same)):
        _print_full(sorted(full - unclear), bases)
    return bases


def _clashing(bases: dict[str, str], same: SameFiles) -> set[str]:
    keys = same.keys(bases.values())
    counts = Counter(keys)
    return {name for name, key in zip(bases, keys, strict=True) if counts[key] > 1}


def _print_full(names: Sequence[str], bases: dict[str, str]) -> None:
    some = ", ".join(masked_name(name) for name in names[:_MOST_LISTED])
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    example = output_path(bases[names[0]], "txt").rpartition("/")[2]
    print_message(
        printable(
            f"recordings with one stem keep their full names in those of their outputs, such as {example}: {some}{more}"
        )
    )


def _check_different(bases: dict[str, str], same: SameFiles) -> None:
    by_key: dict[str, str] = {}
    for (name, base), key in zip(bases.items(), same.keys(bases.values()), strict=True):
        if key in by_key:
            # The end of a URL that was typed may be a password.
            what = "the same files" if "@" in name else output_path(base, "txt").rpartition("/")[2]
            why = "" if base == bases[by_key[key]] else ": to their folder, names that differ so little are the same"
            raise UsageProblem(
                f"{masked_name(by_key[key])} and {masked_name(name)} would both write {what}{why}",
                "rename one, transcribe them with different --output-dir, or give their folder: it is mirrored",
            )
        by_key[key] = name


def check_no_recording(names: Sequence[str], outputs: Iterable[Output], like: Output) -> None:
    """Check that no output of a recording would overwrite one of the recordings.

    *outputs*: one for each of *names*, read once: there may be a hundred thousand. *like*: any of them. Raises
    :class:`UsageProblem`.
    """
    resolve = Resolved()
    media = {resolve.target(name) for name in names}
    like_outputs = [path for path in media if _may_be_output(path, like)]
    for name, output in zip(names, outputs, strict=True):
        in_any_language = _named_alike(output, like_outputs, resolve) if like_outputs else []
        for target in (*_targets(output).values(), *in_any_language):
            if resolve.target(target) in media:
                raise UsageProblem(
                    f"{target} is one of the given files: the transcript of {name} would overwrite it",
                    "name another --output-dir",
                )


def _may_be_output(path: str, like: Output) -> bool:
    """Whether a recording is named like an output in some language. All outputs of a command have one template."""
    return _has_language(like) and bool(like.names_in_any_language().fullmatch(path.rpartition("/")[2]))


def _named_alike(output: Output, recordings: Sequence[str], resolve: Resolved) -> list[str]:
    """The recordings that an output could replace: its language is only known at the end."""
    folder = resolve.name(file_of(output, output.formats[0])).rpartition("/")[0]
    names = output.names_in_any_language(_stem_of(output))
    return [path for path in recordings if names.fullmatch(path.removeprefix(f"{folder}/"))]


def _targets(output: Output) -> dict[Format, str]:
    """The paths of all formats, as for an unknown language. A plain base is decoded once: there may be ten thousand."""
    if output.name_template != PLAIN_NAME:
        return {extension: file_of(output, extension, UNKNOWN_LANGUAGE) for extension in output.formats}
    without = output_path(output.base, "txt").removesuffix("txt")
    return {extension: f"{without}{extension}" for extension in output.formats}


def too_long(name: str, output: Output) -> MediaProblem | None:
    """The problem of a recording whose outputs cannot have their names; None if they can."""
    why = _too_long(output)
    return MediaProblem(f"{masked_name(name)}: {why}", "rename it, or use --output-format") if why else None


def _too_long(output: Output) -> str:
    """Why the outputs cannot have these names; empty if they can. No code of a language is longer than ``und``."""
    for extension, path in _targets(output).items():
        if source.is_object(path):
            key = len(path.split("/", 3)[3].encode("utf-8", "surrogateescape"))
            if key > _LONGEST_KEY:
                return f"its .{extension} would have a key of {key} bytes, and at most {_LONGEST_KEY} are possible"
            continue
        raw = os.fsencode(path)
        last = len(raw.rpartition(b"/")[2])
        if last > _LONGEST_NAME:
            return f"its .{extension} would have a name of {last} bytes, and at most {_LONGEST_NAME} are possible"
        if len(raw) > _LONGEST_PATH:
            return f"its .{extension} would have a path of {len(raw)} bytes, and at most {_LONGEST_PATH} are possible"
    return ""


def _uri(name: str) -> str:
    return name if source.is_object(name) else Path(name).absolute().as_uri()
