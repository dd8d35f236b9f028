"""The command line of a run, read again by the command itself."""

import shlex
from pathlib import Path
from typing import Any

import pytest

from chunk_job.contract import TranscribeOptions
from controller import cli
from controller.cli import options as shared
from controller.cli.transcribe import transcribe_command
from controller.domain.plan import AutoLength, Clip, PlanOptions
from controller.reports.command_line import command_line
from tests import fakes

MODEL = (*TranscribeOptions.model_fields, "temperature_increment_on_fallback", "threads")


def read(line: str) -> tuple[TranscribeOptions, PlanOptions, dict[str, Any]]:
    """What ``stenofleet transcribe`` makes of a command line."""
    program, command, *arguments = shlex.split(line)
    assert (program, command) == ("stenofleet", "transcribe")
    parent = cli.stenofleet.make_context("stenofleet", ["transcribe"])
    typed = transcribe_command.make_context("transcribe", arguments, parent=parent).params
    options = shared.transcribe_options(jobs=0, **{name: typed[name] for name in MODEL if name in typed})
    cut = {name: typed[name] for name in ("chunk_duration", "chunking_threshold", "clips", "channels")}
    return options, shared.plan_options(options, **cut, jobs=1, cluster=False), typed


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"model": "large-v3", "language": "pt", "task": "translate", "device": "cuda", "compute_type": "float16"},
        {"beam_size": 1, "temperature": (0.0,), "batch_size": 8},
        {"temperature": (0.2, 0.4, 0.6, 0.8, 1.0), "batch_size": "sequential"},
        {"temperature": (0.0, 0.5, 1.0), "vad_filter": False, "vad_threshold": 0.35},
        {"vad_min_silence_duration_ms": 500, "no_speech_threshold": 0.9, "logprob_threshold": -2.5},
        {"compression_ratio_threshold": 3.0, "condition_on_previous_text": True},
        {"initial_prompt": "Ação: 'quoted' & \"more\" -- $HOME", "hotwords": "--x y"},
    ],
)
def test_the_options_of_the_model_are_those_of_the_run(options: dict[str, Any]) -> None:
    record = fakes.record().model_copy(update={"options": TranscribeOptions(**options)})
    found, _, _ = read(command_line(record, "/talks/one.mp4", None))
    assert found.identity() == record.options.identity()


@pytest.mark.parametrize(
    "plan,track",
    [
        (PlanOptions(), None),
        (PlanOptions(chunk_ms=3_600_000_000, threshold_ms=0), 3),
        (PlanOptions(clips=(Clip(start_ms=1_500, end_ms=90_000), Clip(start_ms=3_600_123, end_ms=None))), None),
        (PlanOptions(channels="split"), None),
        (PlanOptions(channels=2), 0),
        (PlanOptions(auto=AutoLength(parallel_jobs=1, speed=1.0, overhead_ms=1)), None),
    ],
)
def test_the_cuts_are_those_of_the_run(plan: PlanOptions, track: int | None) -> None:
    record = fakes.record().model_copy(update={"plan": plan, "audio_track": track})
    _, found, typed = read(command_line(record, "/talks/one.mp4", None))
    assert found.identity() == plan.identity()
    assert typed["audio_track"] == track


def test_what_the_command_wanted_of_the_run() -> None:
    record = fakes.record()
    request = fakes.request(record, Path("/out/talk"), on_chunk_failure="gap", keep_chunks=True)
    _, _, typed = read(command_line(record, "/talks/-a b;c.mp4", request))
    assert (typed["files"], typed["on_chunk_failure"], typed["keep_chunks"]) == (("/talks/-a b;c.mp4",), "gap", True)


def test_terms_stand_in_a_file_and_secrets_and_control_characters_nowhere() -> None:
    record = fakes.record(glossary=("Anna = Ana",), hotwords="\x1b[31m\u202e")
    line = command_line(record, "https://user:secret@host/a.mp4", None)
    assert "--glossary glossary.txt" in line
    assert "secret" not in line
    assert line.isprintable()
