"""``demo``: the whole pipeline on the included sample, with one job killed on purpose."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
import time
from pathlib import Path

import click

from chunk_job import crashpoint
from controller import demo
from controller.cli import options as shared
from controller.cli.execute import execute
from controller.cli.option_values import Place
from controller.cli.terminal import print_message, write_path
from controller.domain.output import Output
from controller.domain.plan import PlanOptions
from controller.domain.policy import RetryPolicy
from controller.errors import EnvironmentProblem
from controller.evaluation.measure import Files, compare
from controller.evaluation.words import Text, of_lines
from controller.intake import source
from controller.orchestrator.command_runs import KnownRequests
from controller.runs.run_requests import make_run_request
from controller.transcript.formats import FORMATS

_CHUNK_MS = 40_000
_WORKERS = 2
_KILLED = "chunk.transcribed.00001.a1"


@click.command("demo")
@shared.option(
    "-o",
    "--output-dir",
    "--output",
    type=Place(path_type=Path),
    default=Path("stenofleet-demo"),
    show_default=True,
)
@shared.store_option
def demo_command(output_dir: Path, *, store: str | None) -> int:
    """Transcribe three minutes of synthetic speech in five chunks with two jobs; kill one; print the word error rate.

    The model is only a demonstration: it knows number words, letters, colours and similar words.
    """
    began_s = time.monotonic()  # noqa: TID251 (only printed)
    options = shared.transcribe_options(
        model=str(demo.MODEL),
        temperature=0.0,
        temperature_increment_on_fallback=0.2,
        threads=max(1, shared.cores() // _WORKERS),
        jobs=_WORKERS,
        # This small model finds its place in a window best by time stamps: see its README.
        batch_size="sequential",
    )
    run_request = make_run_request(
        source.inspect(demo.SAMPLE),
        Output(base=(output_dir.absolute() / demo.SAMPLE.stem).as_uri(), formats=tuple(FORMATS)),
        plan=PlanOptions(threshold_ms=0, chunk_ms=_CHUNK_MS),
        options=options,
        audio_track=None,
        on_chunk_failure="fail",
        keep_chunks=False,
        # Every demo is a new run: a finished run would not be transcribed again.
        salt=secrets.token_hex(8),
    )
    print_message("stenofleet demo: a small demonstration model, three minutes of synthetic speech, two workers.")
    print_message(
        "The job of chunk 1 will be killed (SIGKILL) in its first attempt, just before it can commit its result."
    )
    os.environ[crashpoint.VARIABLE] = f"{_KILLED}=kill"  # noqa: TID251 (its jobs read it)
    opened = shared.store_at(store)
    ended = execute(
        KnownRequests([run_request]),
        opened,
        shared.runner_for(opened),
        policy=RetryPolicy(),
        max_parallel=_WORKERS,
        quiet=False,
    )[0]
    if ended.verdict != "complete":
        raise EnvironmentProblem(f"the demo failed: {ended.summary}", ended.advice)
    took_s = time.monotonic() - began_s  # noqa: TID251 (as above)
    print_message(f"\nDone in {took_s:.0f} s (run {ended.run}). The transcript:")
    for file in ended.files:
        write_path(file)
    text = next(Path(file) for file in ended.files if file.endswith(".txt")).read_text(encoding="utf-8")
    rate = _word_error_rate(demo.SAMPLE_TEXT.read_text(encoding="utf-8"), text)
    print_message(f"Word error rate against the sample's known text: {100 * rate:.1f} %")
    # `make demo` installs it next to its Python, which may not be on the PATH.
    beside = Path(sys.executable).with_name("stenofleet")
    program = "stenofleet" if shutil.which("stenofleet") else os.path.relpath(beside)
    print_message(f"\nNext: {program} transcribe YOUR-FILE --model small --download")
    return 0


def _word_error_rate(spoken: str, transcribed: str) -> float:
    reference, transcript = (Text(words=of_lines(text)) for text in (spoken, transcribed))
    rate = compare(reference, transcript, Files("sample", "transcript", "sample")).errors.words.rate
    assert rate is not None, "the sample has words"
    return rate
