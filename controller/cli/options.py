"""Options that several commands share, and their conversion into typed values.

Touches: environment (the default place of the store), the processors that this process may use, names of devices.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, TypeVar

import click

from chunk_job.contract import TranscribeOptions
from chunk_job.cores import usable
from chunk_job.errors import ExitCode, JobError
from chunk_job.names import COMPUTE_TYPES
from chunk_job.store.base import Store
from chunk_job.store.files import FileStore
from chunk_job.store.open_store import open_store
from controller.cli.devices import device_of
from controller.cli.glossary import parse_glossary
from controller.cli.option_values import (
    LARGEST_BATCH,
    MOST_AUDIO_S,
    Count,
    Device,
    Fraction,
    Limit,
    Place,
    WordOrNumber,
    parse_batch_size,
    parse_clips,
    parse_formats,
    parse_language,
    parse_model,
    parse_step,
    text,
)
from controller.cli.switches import Switch
from controller.cli.terminal import print_message
from controller.cli.whisper_options import whisper_options
from controller.domain.chunk_length import auto_length
from controller.domain.plan import ChannelChoice, Clip, PlanOptions
from controller.domain.policy import RetryPolicy
from controller.errors import EnvironmentProblem, UsageProblem
from controller.intake.known_files import KnownFiles
from controller.leadership.file_lock import FileLocks
from controller.runners.folders import Home
from controller.runners.local import LocalRunner
from controller.runs.local_requests import LocalRequests

cores = usable
"""Processors that this process may use."""

_NO_HOME = "give --store file:///FOLDER, or set XDG_STATE_HOME to a folder that you may write to"

_F = TypeVar("_F", bound=Callable[..., Any])

CLUSTER_THREADS = 2
"""CPU threads of a job on a cluster: with a GPU, the CPU only prepares its input."""


def option(*names: str, **attributes: Any) -> Callable[[_F], _F]:
    """Make a click option that is also read from ``STENOFLEET_<NAME>``."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    attributes.setdefault("envvar", f"STENOFLEET_{long[2:].replace('-', '_').upper()}")
    return click.option(*names, **attributes)


def together(*decorators: Callable[[_F], _F]) -> Callable[[_F], _F]:
    """Combine several decorators, in reading order."""

    def decorate(function: _F) -> _F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


store_option = option(
    "--store", metavar="URL", help="Where runs are kept (default: file://$XDG_STATE_HOME/stenofleet)."
)
parallel_option = option(
    "--max-parallel",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Jobs at once (default: cores / 4, at least 1; on a cluster 16).",
)
attempts_options = together(
    option("--max-attempts", type=click.IntRange(1, 1000), default=3, show_default=True,
           help="Attempts of a failing chunk."),
    option("--max-disruptions", type=click.IntRange(0, 10_000), default=20, show_default=True,
           help="How often disruptions (preemption, lost node, …) may end a chunk's job."),
)  # fmt: skip
patience_option = option(
    "--store-patience",
    type=click.IntRange(0, 365 * 24 * 3600),
    metavar="SECONDS",
    help="How long to wait for a store or cluster that becomes unavailable (default: 600; a folder 0).",
)
rendition_option = option(
    "--rendition", is_flag=True, help="Keep a small audio file (MP3) of each recording in the store, for players."
)
scratch_option = option(
    "--scratch-dir",
    type=Place(path_type=Path),
    metavar="DIR",
    help="Temporary files of running jobs, including s3:// media (default: in the store's or the state folder).",
)
output_option = option(
    "-o", "--output-dir", "--output", type=Place(), default=".", metavar="DIR|s3://…", help="Default: here."
)
download_option = option("--download", is_flag=True, help="Fetch the model from the hub if it is missing.")
null_option = option("-0", "--null", is_flag=True, help="A NUL after each path on stdout, for xargs -0.")
json_option = option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
formats_option = option(
    "-f",
    "--output-format",
    "formats",
    default="all",
    callback=parse_formats,
    show_default=True,
    help="txt, srt, vtt, tsv, json: one, several with commas, or all; ass and lrc only by name.",
)
model_option = option(
    "--model", callback=parse_model, default="medium", show_default=True, metavar="NAME|FOLDER|s3://…",
    help="Whisper model.",
)  # fmt: skip
device_option = option(
    "--device", type=Device(), default="auto", show_default=True,
    help="cuda fails without a GPU.",
)  # fmt: skip
language_option = option("--language", callback=parse_language, help="Code or English name (default: detected).")
model_options = together(
    model_option,
    language_option,
    option("--task", type=click.Choice(["transcribe", "translate"]), default="transcribe", show_default=True,
           help="translate: to English."),
    device_option,
    option("--compute-type", type=click.Choice(COMPUTE_TYPES), default="auto", show_default=True,
           help="auto: int8 for chunks; whole files float16 on a GPU, int8 on a CPU."),
    option("--beam-size", type=Count(1, 32, none=1), default=5, show_default=True, help="Beams of the search."),
    option("--temperature", type=Fraction(0, 1), default=0.0, show_default=True, help="First temperature."),
    option("--temperature-increment-on-fallback", type=Limit(0, 1, none=0), callback=parse_step, default=0.2,
           show_default=True, help="Step of the fallback when a window decodes badly; 0: no fallback."),
    option("--no-speech-threshold", type=Limit(0, 1, none=1), default=0.6, show_default=True,
           help="A less certain window with a higher probability of silence has no text."),
    option("--logprob-threshold", type=Limit(-1000, 1000, none=-1000), default=-1.0, show_default=True,
           help="A window with a lower average log probability decodes badly."),
    option("--compression-ratio-threshold", type=Limit(0, 1000, none=1000), default=2.4, show_default=True,
           help="A window whose text compresses better decodes badly."),
    option("--batch-size", type=WordOrNumber("auto", least=0, most=LARGEST_BATCH), callback=parse_batch_size,
           default="auto", show_default=True, metavar="auto|N",
           help="Windows decoded together; auto: the fastest on the device; 0: one by one."),
    option("--vad-filter", cls=Switch, default=True, show_default=True, help="Skip audio without speech."),
    option("--vad-threshold", type=Fraction(0, 1), default=0.5, show_default=True,
           help="Probability from which audio is speech."),
    option("--vad-min-silence-duration-ms", type=click.IntRange(0, 600_000), default=2000, show_default=True,
           metavar="MS", help="Shortest silence that is skipped."),
    option("--condition-on-previous-text", cls=Switch, default=False, show_default=True,
           help="Use the text before a window as context."),
    option("--initial-prompt", callback=text(most=64_000), help="Text before the first window of each chunk."),
    option("--hotwords", callback=text(most=64_000), help="Words to expect."),
    option("--glossary", callback=parse_glossary, metavar="FILE", help="Terms to expect: one per line, = sounds like."),
    option("--threads", type=Count(1, 256, zero_is_none=True), help="CPU threads of one job (default: cores / jobs)."),
    whisper_options,
)  # fmt: skip
cut_options = together(
    option("--chunk-duration", type=WordOrNumber("auto", least=10, most=MOST_AUDIO_S), default=720, show_default=True,
           metavar="auto|SECONDS", help="Wanted length of a chunk; auto: by recording, jobs at once and device."),
    option("--chunking-threshold", type=click.IntRange(0, MOST_AUDIO_S), default=2400, show_default=True,
           metavar="SECONDS", help="Shorter files (and below 500 MB) are not cut."),
    option("--clip-timestamps", "clips", callback=parse_clips, default="", metavar="START,END,…",
           help="Only these parts, in seconds; a last START without END: to the end."),
    option("--audio-track", type=click.IntRange(0, 9999), metavar="N", help="Audio stream, counted from 0."),
    option("--channels", type=WordOrNumber("mix", "split", least=1, most=1_000), default="mix", show_default=True,
           metavar="mix|split|N", help="split: each by itself, with its own speaker; N: one channel, from 1 on."),
)  # fmt: skip


def _is_folder(model: Path) -> bool:
    try:
        return model.is_dir()
    except OSError as error:
        raise UsageProblem(
            f"--model {model}: the system cannot look it up: {error.strerror}", "check its name and its permissions"
        ) from error


def transcribe_options(
    *,
    model: str,
    temperature: float,
    temperature_increment_on_fallback: float,
    threads: int | None,
    jobs: int,
    **same: Any,
) -> TranscribeOptions:
    """Return the model options as one document. *same*: fields with the same names as their options.

    *jobs*: number of jobs that share this machine; 0: they run elsewhere.
    """
    folder = Path(os.path.expanduser(model))  # noqa: PTH111 (without a home "~" stays as it is)
    step = temperature_increment_on_fallback
    temperatures = [temperature]
    while step and temperatures[-1] + step <= 1.0 + 1e-6:
        temperatures.append(round(temperatures[-1] + step, 6))
    wanted = TranscribeOptions(
        # Absolute, because jobs have another working folder than this command.
        model=str(folder.absolute()) if jobs and _is_folder(folder) else model,
        temperature=tuple(temperatures),
        cpu_threads=threads or (max(1, cores() // jobs) if jobs else CLUSTER_THREADS),
        **same,
    )
    if wanted.sequential and isinstance(wanted.batch_size, int):
        why = "--task translate" if wanted.task == "translate" else "--condition-on-previous-text True"
        print_message(f"--batch-size {wanted.batch_size} is not used: with {why}, windows are decoded one by one")
    return wanted


def plan_options(
    wanted: TranscribeOptions,
    *,
    chunk_duration: Literal["auto"] | int,
    chunking_threshold: int,
    clips: tuple[Clip, ...],
    channels: ChannelChoice,
    jobs: int,
    cluster: bool,
) -> PlanOptions:
    """Return when to cut. *jobs*: at once for one recording; they count only for an automatic length."""
    cut: dict[str, Any] = {"threshold_ms": chunking_threshold * 1000, "clips": clips, "channels": channels}
    if chunk_duration == "auto":
        return PlanOptions(
            **cut, auto=auto_length(wanted, device=device_of(wanted), jobs=max(1, jobs), cluster=cluster)
        )
    return PlanOptions(**cut, chunk_ms=chunk_duration * 1000)


def retry_policy(
    store: Store, wanted: TranscribeOptions, *, max_attempts: int, max_disruptions: int, store_patience: int | None
) -> RetryPolicy:
    """Return the retry limits of a command."""
    default_s = 600 if store.remote else 0
    return RetryPolicy(
        max_attempts=max_attempts,
        max_disruptions=max_disruptions,
        deadline_factor=4 if wanted.device == "cuda" else RetryPolicy.deadline_factor,
        store_patience_ms=1000 * (default_s if store_patience is None else store_patience),
    )


def store_at(url: str | None) -> Store:
    """Open the store at *url*, or the default store.

    Raises :class:`UsageProblem` for an invalid URL, and :class:`EnvironmentProblem` if credentials or certificates are
    missing. A folder that other users can access is made private if this user has the right to do that.
    """
    if not url:
        _check_makeable(state_home())
    try:
        opened = open_store(_folder_url(url) if url else state_home().as_uri())
    except JobError as error:
        problem = UsageProblem if error.code is ExitCode.USAGE else EnvironmentProblem
        raise problem(error.summary, error.advice) from error
    if isinstance(opened, FileStore) and (changed := opened.keep_private()):
        print_message(changed)
    return opened


def _folder_url(url: str) -> str:
    """The URL of a folder that is given as a path (``/folder``, ``./folder``, ``~/folder``); anything else as it is."""
    is_path = url in (".", "..", "~") or url.startswith(("/", "./", "../", "~/"))
    return Path(url).expanduser().absolute().as_uri() if is_path else url


def runner_for(store: Store, scratch: Path | None = None) -> LocalRunner:
    """Return the local runner. If the store is a folder, its locks are there, so that all its users share them."""
    folder = (store.root if isinstance(store, FileStore) else state_home()) / ".local"
    home = Home(folder, scratch and scratch.absolute())
    return LocalRunner(store.url, home, FileLocks(home))


def local_requests() -> LocalRequests:
    """Return the requests kept on this machine for this user; without a home folder, none are kept."""
    try:
        return LocalRequests(state_home())
    except EnvironmentProblem:
        return LocalRequests(None)


def known_files() -> KnownFiles:
    """Return the files that were identified before on this machine; without a home folder, none are kept."""
    try:
        return KnownFiles(state_home())
    except EnvironmentProblem:
        return KnownFiles(None)


def state_home() -> Path:
    """Return ``$XDG_STATE_HOME/stenofleet``. Raises :class:`EnvironmentProblem` for a user without a home folder."""
    base = os.environ.get("XDG_STATE_HOME")  # noqa: TID251 (where this user keeps state)
    try:
        return (Path(base) if base else Path.home() / ".local" / "state").absolute() / "stenofleet"
    except RuntimeError:
        raise EnvironmentProblem("this user has no home folder to keep runs in", _NO_HOME) from None


def _check_makeable(folder: Path) -> None:
    """Raises :class:`EnvironmentProblem` if *folder* does not exist and cannot be made."""
    # Imported here: only needed by commands without --store.
    import tempfile

    try:
        if not folder.exists():
            with tempfile.TemporaryFile(dir=next(path for path in folder.parents if path.exists())):
                return
    except OSError as error:
        raise EnvironmentProblem(f"{folder}: runs cannot be kept there: {error.strerror}", _NO_HOME) from error
