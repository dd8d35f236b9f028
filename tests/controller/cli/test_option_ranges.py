"""Numbers on the command line: each has two bounds, and a number beyond them is a usage error that names the option."""

import os
import re
from dataclasses import replace
from pathlib import Path

import click
import pytest

from chunk_job.contract import TranscribeOptions
from controller import cli
from controller.cli import options as shared
from controller.cli.option_values import SMALLEST_STEP, parse_clips
from controller.domain.jobs import Job
from controller.domain.plan import PlanOptions
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.manifest import Owner, job_document

NUMBERS = {
    (command, option.opts[0]): option
    for command, options in cli.all_options()
    for option in options
    if isinstance(option.type, click.types.IntParamType | click.types.FloatParamType)
}
DIFFERENT = list(
    {(name, str(found.type), found.callback): (command, name) for (command, name), found in NUMBERS.items()}.values()
)
"""Each declaration once: commands share most of their options."""
OPTIONS = pytest.mark.parametrize("command,option", DIFFERENT, ids=map(" ".join, DIFFERENT))
BEYOND = ("1000000000000000000000000000000", "-1000000000000000000000000000000", "9" * 5000)
NO_NUMBERS = ("nan", "inf", "-inf", "1e400", "0x10", "")

pytestmark = pytest.mark.usefixtures("working_folder")


def bounded(kind: object) -> bool:
    """Whether there is a smallest and a largest number, and other numbers are refused, not clamped."""
    if not isinstance(kind, click.IntRange | click.FloatRange):
        return False
    return kind.min is not None and kind.max is not None and not kind.clamp


def test_every_number_has_two_bounds() -> None:
    assert len(NUMBERS) > 20
    assert [option for option, found in NUMBERS.items() if not bounded(found.type)] == []


@OPTIONS
@pytest.mark.parametrize("value", BEYOND, ids=["high", "low", "long"])
def test_a_number_beyond_its_bounds_is_a_usage_error_that_names_the_option(
    command: str, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command.split(), f"{option}={value}"]) == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err


@OPTIONS
@pytest.mark.parametrize("value", NO_NUMBERS)
def test_a_value_that_is_no_number_is_a_usage_error_too(
    command: str, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([*command.split(), f"{option}={value}"]) == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err


@OPTIONS
def test_variables_and_the_projects_file_have_the_same_bounds(
    command: str, option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [item.name or "" for item in commands()[command].params if isinstance(item, click.Argument)]
    Path("stenofleet.toml").write_text(f"{option[2:]} = 1{'0' * 15}\n", encoding="utf-8")
    assert cli.run([*command.split(), *arguments]) == 2
    wrong = "is (not in the range|none of .* or a number from)"
    assert re.search(rf"\bstenofleet\.toml: {option[2:]}: [\d.]+ {wrong}", capsys.readouterr().err)
    Path("stenofleet.toml").unlink()
    monkeypatch.setenv(str(NUMBERS[command, option].envvar), f"1{'0' * 30}")
    assert cli.run([*command.split(), *arguments]) == 2
    assert f"Invalid value for '{option}'" in capsys.readouterr().err


def commands() -> dict[str, click.Command]:
    return dict(cli.leaves())


def most(command: str, option: str) -> int:
    """The largest number that an option takes."""
    kind = NUMBERS[command, option].type
    assert isinstance(kind, click.IntRange)
    assert isinstance(kind.max, int)
    return kind.max


def test_the_largest_numbers_make_documents_that_are_valid() -> None:
    chunk_s, threshold_s = most("transcribe", "--chunk-duration"), most("transcribe", "--chunking-threshold")
    assert chunk_s == threshold_s == 3_600_000
    plan = PlanOptions(threshold_ms=1000 * threshold_s, chunk_ms=1000 * chunk_s)
    assert PlanOptions.decode(plan.encode()) == plan
    memory, scratch = most("transcribe", "--job-memory"), most("transcribe", "--job-scratch")
    options = JobOptions(
        chunk_image="chunk", intake_image="intake", store_url="s3://b/p", version="0", device="cpu",
        memory_mb=memory, scratch_mb=scratch, gpus=most("transcribe", "--gpus"),
    )  # fmt: skip
    attempts = most("transcribe", "--max-attempts") + most("transcribe", "--max-disruptions")
    job = Job(
        run="0" * 16, span=0, attempt=attempts, task_key="t", task_sha256="0" * 64, audio_ms=plan.chunk_ms,
        memory_factor=1.5,
    )  # fmt: skip
    pod = job_document(job, options, Owner(name="o", uid="u"))["spec"]["template"]["spec"]
    limits = pod["containers"][0]["resources"]["limits"]
    # Kubernetes keeps a deadline in 32 bits, and bytes in 64.
    assert pod["activeDeadlineSeconds"] < 1 << 31
    for name in ("memory", "ephemeral-storage"):
        assert int(limits[name].removesuffix("Mi")) << 20 < 1 << 63
    assert job_document(replace(job, attempt=1), options, Owner(name="o", uid="u"))["spec"]


@pytest.mark.parametrize("step", ["1e-7", "0.0099999", "5e-324"])
def test_a_step_that_never_ends_the_fallback_is_refused(step: str, capsys: pytest.CaptureFixture[str]) -> None:
    option = "--temperature-increment-on-fallback"
    assert cli.run(["transcribe", f"{option}={step}"]) == 2
    message = capsys.readouterr().err
    assert f"Invalid value for '{option}'" in message
    assert "use 0 for no fallback" in message


@pytest.mark.parametrize("first", [0.0, 0.005, 1.0])
@pytest.mark.parametrize("step", [0.0, SMALLEST_STEP, 0.2, 1.0])
def test_the_fallback_has_an_end(first: float, step: float) -> None:
    wanted = shared.transcribe_options(
        model="tiny", temperature=first, temperature_increment_on_fallback=step, threads=1, jobs=1
    )
    assert len(wanted.temperature) <= 101
    assert wanted.temperature[-1] <= 1
    assert len(set(wanted.temperature)) == len(wanted.temperature)


DECODING = {
    "vad_threshold": ("0.25", 0.25),
    "vad_min_silence_duration_ms": ("160", 160),
    "no_speech_threshold": ("1", 1.0),
    "logprob_threshold": ("-0.5", -0.5),
    "compression_ratio_threshold": ("2", 2.0),
}


@pytest.mark.parametrize("field", DECODING)
def test_options_of_the_decoding_have_the_bounds_and_the_default_of_their_field(field: str) -> None:
    found = NUMBERS["transcribe", f"--{field.replace('_', '-')}"]
    known = TranscribeOptions.model_fields[field]
    kind = found.type
    assert isinstance(kind, click.IntRange | click.FloatRange)
    assert found.default == known.default
    assert kind.min is not None
    assert kind.max is not None
    for value in (kind.min, kind.max):
        assert getattr(TranscribeOptions.model_validate({field: value}), field) == value
    step = 1 if isinstance(kind, click.IntRange) else 1e-6
    for value in (kind.min - step, kind.max + step):
        with pytest.raises(ValueError, match=field):
            TranscribeOptions.model_validate({field: value})


@pytest.mark.parametrize("option", ["--batch-size", "--chunk-duration"])
def test_a_number_or_auto_names_both(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value in ("many", "-1", "Auto"):
        assert cli.run(["transcribe", f"{option}={value}"]) == 2
        assert "is none of auto or a number from" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed,message",
    [
        ("5,5", "a clip ends at 5 s, not after its start at 5 s"),
        ("5,4", "a clip ends at 4 s, not after its start at 5 s"),
        ("1.0001,1.0004", "a clip ends at 1 s, not after its start at 1 s"),
        ("0,10,9.999,20", "a clip starts at 9.999 s, before the end of the one before it at 10 s"),
        ("50,60,0,10", "a clip starts at 0 s, before the end of the one before it at 60 s"),
        ("-1,5", "-1 is not between 0 and 3600000 seconds"),
        ("nan,5", "nan is not between"),
        ("5,inf", "inf is not between"),
        ("3600001", "3600001 is not between"),
        ("a,b", "'a' is not a number of seconds: write START,END,START,END,…"),
        ("1:30,2:00", "'1:30' is not a number"),
        ("5,,6", "'' is not a number"),
        (",".join(map(str, range(2001))), "2001 times: at most 1000 clips"),
    ],
)
@pytest.mark.parametrize("command", ["transcribe", "plan"])
def test_clips_that_cannot_be_are_usage_errors(
    command: str, typed: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run([command, "a.wav", f"--clip-timestamps={typed}"]) == 2
    assert f"Invalid value for '--clip-timestamps': {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "typed,clips",
    [
        ("", []),
        ("0", []),
        ("0.0004", []),
        ("5", [(5000, None)]),
        ("1.2345,2", [(1234, 2000)]),
        (" 0, 10 ,20,30.5,40", [(0, 10_000), (20_000, 30_500), (40_000, None)]),
        ("0,10,10,20,20", []),
        ("5,10,10,20,30,40", [(5000, 20_000), (30_000, 40_000)]),
        (
            ",".join(str(3 * i + j) for i in range(1000) for j in (0, 2)),
            [(3000 * i, 3000 * i + 2000) for i in range(1000)],
        ),
    ],
)
def test_clips_are_seconds_to_the_millisecond(typed: str, clips: list[tuple[int, int | None]]) -> None:
    found = parse_clips(click.Context(cli.stenofleet), click.Option(["--x"]), typed)
    assert [(clip.start_ms, clip.end_ms) for clip in found] == clips
    plan = PlanOptions(clips=found)
    assert PlanOptions.decode(plan.encode()) == plan


TEXTS = {"--model": 4096, "--initial-prompt": 64_000, "--hotwords": 64_000}


@pytest.mark.parametrize("option", TEXTS)
def test_a_text_that_no_document_can_hold_is_refused(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    for value, message in (
        (os.fsdecode(b"a\xffb"), "it is not UTF-8"),
        ("é" * (TEXTS[option] + 1), f"it has {TEXTS[option] + 1} characters"),
    ):
        assert cli.run(["transcribe", option, value]) == 2
        assert f"Invalid value for '{option}': {message}" in capsys.readouterr().err
    # The only problem is the missing file.
    for value in ("Zürich – ¿qué? 東京 🎙", "é" * TEXTS[option]):
        assert cli.run(["transcribe", option, value]) == 2
        assert "Missing argument" in capsys.readouterr().err


def test_a_model_has_a_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["transcribe", "--model", ""]) == 2
    assert "Invalid value for '--model': it has 0 characters" in capsys.readouterr().err


def test_the_longest_texts_make_documents_that_are_valid() -> None:
    long = {name[2:].replace("-", "_"): "é" * most for name, most in TEXTS.items()}
    wanted = TranscribeOptions(**long)  # type: ignore[arg-type]
    assert TranscribeOptions.decode(wanted.encode()) == wanted


def test_a_job_keeps_the_variable_that_names_its_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["transcribe", "--job-env", "POD_UID=other"]) == 2
    assert "Invalid value for '--job-env': POD_UID is set for each job" in capsys.readouterr().err
