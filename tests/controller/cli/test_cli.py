"""The command line without the work: options from four sources, and an exit code for every usage error."""

import errno
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import controller.cli
from chunk_job import cores
from chunk_job.contract import TranscribeOptions
from chunk_job.store.files import FileStore
from controller import cli, demo
from controller.cli import devices, execute, requests, transcribe
from controller.cli import options as shared
from controller.domain.documents import Outcome, Status
from controller.domain.interfaces import RunOutcome, RunRequest, RunRequests
from controller.domain.keys import RunKeys
from controller.domain.output import Output
from controller.domain.plan import PlanOptions
from controller.errors import EnvironmentProblem, Interrupted
from controller.intake import source
from controller.runners import local
from controller.runs import run_requests
from controller.transcript.formats import FORMATS
from controller.transcript.merge import merge
from controller.transcript.model import Transcript
from tests import clicks, fakes, pipeline, speech

RUNS = ("aaaa000000000000", "aaaa111111111111", "bbbb000000000000")


@dataclass(frozen=True)
class CommandResult:
    """The result of a command in this process."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class CommandLine:
    """The command line in this process, its store and its folder."""

    capture: pytest.CaptureFixture[str]
    store: FileStore

    def __call__(self, *arguments: str | Path) -> CommandResult:
        code = controller.cli.run([os.fspath(argument) for argument in arguments])
        message = self.capture.readouterr()
        return CommandResult(code, message.out, message.err)


@pytest.fixture
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: FileStore
) -> CommandLine:
    for name in os.environ:
        if name.startswith("STENOFLEET"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return CommandLine(capsys, store)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The requests of ``transcribe``, which are not executed."""
    seen: list[dict[str, Any]] = []

    def execute(requests: Any, store: Any, runner: Any, **rest: Any) -> list[Any]:
        seen.append({"run_requests": fakes.taken(requests), "store": store, **rest})
        return []

    monkeypatch.setattr(transcribe, "execute", execute)
    return seen


@pytest.fixture
def talk(command_line: CommandLine) -> Path:
    return speech.write_wav(Path("talk.wav"), speech.silence(1))


def options_of(asked: list[dict[str, Any]]) -> TranscribeOptions:
    (run_request,) = asked[-1]["run_requests"]
    found: TranscribeOptions = run_request.record.options
    return found


def put_run(store: FileStore, run: str, *, state: Any = "running", name: str = "talk.mp4", marker: Any = None) -> None:
    """A run as the loop leaves it in the store."""
    keys = RunKeys(run)
    store.put(keys.record, fakes.record(run, name=name).encode())
    status = Status(
        run=run, name=name, state=state, percent=42.0, spans_done=1, spans_known=3, planned=False, failures=2,
        updated_ms=2**52,
    )  # fmt: skip
    store.put(keys.status, status.encode())
    if marker:
        outcome = Outcome(run=run, verdict=marker, round="0000cafe", summary="so it was", advice="do this")
        store.put(keys.marker(marker), outcome.encode())


# ---------------------------------------------------------------- help, versions, completion


COMMANDS = dict.fromkeys([(), *((name,) for name in cli._COMMANDS), *(tuple(name.split()) for name, _ in cli.leaves())])


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_every_command_has_help(command_line: CommandLine, command: tuple[str, ...], flag: str) -> None:
    result = command_line(*command, flag)
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("Usage: stenofleet")


def test_help_names_all_commands_and_exit_codes(command_line: CommandLine) -> None:
    result = command_line("--help")
    assert set(cli.SHORT_HELP) == set(cli._COMMANDS)
    for name in cli._COMMANDS:
        assert re.search(rf"^  {name}\s+\S", result.out, re.MULTILINE)
    assert "Exit codes: 0 all written" in result.out


def test_every_option_of_the_table_exists_with_its_default(command_line: CommandLine) -> None:
    table = (Path(cli.__file__).parents[2] / "docs" / "how-to" / "transcribe.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(--[a-z-]+)", table, re.MULTILINE)
    assert len(named) > 10
    message = command_line("transcribe", "--help").out
    assert [name for name in named if not re.search(rf"{name}\b", message)] == []


def test_versions_are_printed(command_line: CommandLine) -> None:
    facts = json.loads(command_line("version", "--json").out)
    assert {"stenofleet", "faster-whisper", "ctranslate2", "python", "ffmpeg"} <= facts.keys()
    assert command_line("version").out.splitlines()[0].split() == ["stenofleet", facts["stenofleet"]]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.process
def test_completion_is_a_script_for_the_shell(command_line: CommandLine, shell: str) -> None:
    result = command_line("completion", shell)
    assert result.code == 0
    assert "_STENOFLEET_COMPLETE" in result.out


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    "arguments,message",
    [
        (("nonsense",), "No such command 'nonsense'"),
        (("transcirbe", "a"), "No such command 'transcirbe'. Did you mean 'transcribe'?"),
        (("lst",), "Did you mean 'list'?"),
        (("transcribe", "a", "--modle", "tiny"), "'--model'"),
        (("transcribe", "a", "--model", "large-v3-trubo"), "is large-v3-turbo meant? known names: "),
        (("transcribe", "a", "--model", "Tiny"), "is tiny meant?"),
        (("transcribe",), "Missing argument 'FILE"),
        (("transcribe", "a", "--nonsense"), "No such option"),
        (("transcribe", "a", "--temprature", "1"), "No such option '--temprature'. Did you mean '--temperature'?\n"),
        (("transcribe", "a", "--wordtimes"), "No such option '--wordtimes'.\n"),
        (("transcribe", "a", "--language", "klingon"), "Whisper knows no language 'klingon': use a code like pt"),
        (("transcribe", "a", "--language", "Portugese"), "Whisper knows no language 'Portugese': is Portuguese meant?"),
        (("transcribe", "a", "-f", "doc"), "no format 'doc'"),
        (("transcribe", "a", "-f", ""), "no format"),
        (("transcribe", "a", "--max-parallel", "0"), "0 is not in the range"),
        (("transcribe", "a", "--chunk-duration", "9"), "'9' is none of auto or a number from 10 to"),
        (("transcribe", "a", "--beam-size", "many"), "is not a valid integer"),
        (("transcribe", "a", "--temperature", "2"), "2.0 is not in the range"),
        (("transcribe", "a", "--device", "tpu"), "is not one of"),
        (("transcribe", "a", "--compute-type", "int4"), "is not one of"),
        (("transcribe", "a", "--on-chunk-failure", "ignore"), "is not one of"),
        (("transcribe", "a", "--store", "http://host"), "'http://host' is not the URL of a store"),
        (("transcribe", "a", "--model", "largest"), "no model 'largest'"),
        (("completion", "tcsh"), "is not one of"),
        (("status", "cccc"), "no run cccc"),
        (("status", "aaaa"), "aaaa is the beginning of 2 runs"),
        (("resume", "cccc"), "no run cccc"),
        (("cancel", "cccc"), "no run cccc"),
        (("clean",), "give the runs to remove, or --all"),
        (("clean", "bbbb", "--all"), "give the runs to remove, or --all"),
        (("clean", "cccc", "--yes"), "no run cccc"),
        (("render", "missing.json"), "missing.json: No such file or directory"),
        (("render", "bbbb000000000000"), "has no transcript yet"),
        (("render", "cccc000000000000"), "no run cccc000000000000"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_mistake_in_the_command_is_exit_code_two_and_starts_nothing(
    command_line: CommandLine, arguments: tuple[str, ...], message: str
) -> None:
    for run in RUNS:
        put_run(command_line.store, run)
    before = sorted(entry.key for entry in command_line.store.list(""))
    result = command_line(*arguments)
    assert result.code == 2, result
    assert message in result.err
    assert result.out == ""
    assert sorted(entry.key for entry in command_line.store.list("")) == before


def test_a_bug_is_reported_as_one(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError("by a test")

    monkeypatch.setattr(shared, "store_at", broken)
    result = command_line("list")
    assert result.code == 1
    assert "ZeroDivisionError: by a test" in result.err
    assert "this is a bug" in result.err


@pytest.mark.parametrize(
    "typed,message",
    [
        ("tlak.mp4", "tlak.mp4: no such file; is talk.mp4 meant?\n  check the name\n"),
        ("TALK.mp4", "; is talk.mp4 meant?"),
        ("talk", "; is talk.mp4 meant?"),
        ("talk.mp3", "; is talk.mp4 meant?"),
        ("sub/tlak.wav", "; is sub/talk.wav meant?"),
        ("lecture.mp4", "lecture.mp4: no such file\n  check the name\n"),
        ("x.mp4", "x.mp4: no such file\n"),
        ("gone/talk.mp4", "gone/talk.mp4: no such file\n"),
        ("empty.wav", "empty.wav: is empty (0 bytes)"),
        ("—language", "—language: no such file\n  if an option is meant, it begins with two hyphens: --language\n"),
        ("–model", "–model: no such file\n  if an option is meant, it begins with two hyphens: --model\n"),
    ],
)
@pytest.mark.parametrize("command", ["transcribe", "plan"])
def test_a_missing_recording_is_reported_with_similar_names(
    command_line: CommandLine, asked: list[dict[str, Any]], typed: str, message: str, command: str
) -> None:
    Path("sub").mkdir()
    for name in ("talk.mp4", "y.mp4", "sub/talk.wav"):
        Path(name).write_bytes(b"x")
    Path("empty.wav").touch()
    result = command_line(command, typed)
    assert (result.code, result.out, asked) == (5, "", [])
    assert message in result.err
    assert "model" not in result.err.replace(message, ""), "the missing default model is not the error here"


def test_names_are_checked_before_the_model_is_searched_or_fetched(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(reference: str, *, download: bool) -> None:
        raise EnvironmentProblem(f"model {reference} is not here", "get it")

    monkeypatch.setattr(local, "resolve_model", fetch)
    result = command_line("transcribe", "tlak.wav", talk, "--model", "tiny", "--download")
    assert (result.code, asked) == (3, [])
    assert result.err.index("is talk.wav meant?") < result.err.index("fetching model") < result.err.index("is not here")
    result = command_line("transcribe", "tlak.wav", talk, "--model", "largest")
    assert result.code == 2
    assert result.err.index("is talk.wav meant?") < result.err.index("no model 'largest'")


def test_files_reported_before_the_work_are_named_again_at_the_end(
    command_line: CommandLine, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def execute(requests: RunRequests, *_: Any, **__: Any) -> list[RunOutcome]:
        return [
            RunOutcome(run=one.record.run, name=one.record.name, verdict="complete", summary="done")
            for one in fakes.taken(requests)
        ]

    monkeypatch.setattr(transcribe, "execute", execute)
    missing = [f"x{number}.wav" for number in range(12)]
    result = command_line("transcribe", *missing, talk, *MODEL)
    assert result.code == 4
    assert result.err.count("\nx3.wav: no such file") == 1
    assert result.err.splitlines()[-7:] == [
        "ended: 1 complete, 12 failed (complete ones of equal content count once)",
        "  12 failed: no such file",
        *(f"    {name}" for name in missing[:3]),
        "    and 9 more",
        "  each is in a message of its own above; --json lists all of them in one document",
    ]
    assert command_line("transcribe", "x.wav", talk, *MODEL).err.endswith("1 of 2 not transcribed: x.wav\n")
    document = json.loads(command_line("transcribe", *missing, talk, *MODEL, "--json").out)
    assert [run["verdict"] for run in document["runs"]] == ["failed"] * 12 + ["complete"]


def test_an_empty_list_on_stdin_is_a_mistake(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(os.devnull).open(encoding="utf-8") as nothing:
        monkeypatch.setattr("sys.stdin", nothing)
        result = command_line("transcribe", "-", *pipeline.SMALL)
    assert result.code == 2
    assert "the list on stdin is empty" in result.err


# ---------------------------------------------------------------- where an option comes from


MODEL = ("--model", str(demo.MODEL))


@pytest.mark.parametrize(
    "file,variable,flag,beams",
    [
        ("", "", (), 5),
        ("beam-size = 2\n", "", (), 2),
        ("beam_size = 2\n", "3", (), 3),
        ("beam-size = 2\n", "3", ("--beam-size", "4"), 4),
        ("", "3", (), 3),
        ("", "3", ("--beam_size", "4"), 4),
    ],
)
def test_a_flag_wins_over_the_environment_and_that_over_the_file(
    command_line: CommandLine,
    asked: list[dict[str, Any]],
    talk: Path,
    monkeypatch: pytest.MonkeyPatch,
    file: str,
    variable: str,
    flag: tuple[str, ...],
    beams: int,
) -> None:
    if file:
        Path("stenofleet.toml").write_text(file, encoding="utf-8")
    if variable:
        monkeypatch.setenv("STENOFLEET_BEAM_SIZE", variable)
    assert command_line("transcribe", talk, *MODEL, *flag).code == 0
    assert options_of(asked).beam_size == beams


@pytest.mark.parametrize(
    "text,message",
    [
        ("beam = 5\n", "stenofleet.toml: no such option: beam"),
        ("beam-size = \n", "stenofleet.toml: "),
        ('beam-size = "many"\n', "is not a valid integer"),
        ("\xff", "stenofleet.toml: "),
    ],
)
def test_an_invalid_settings_file_is_reported(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, text: str, message: str
) -> None:
    Path("stenofleet.toml").write_bytes(text.encode("latin-1"))
    result = command_line("transcribe", talk, *MODEL)
    assert result.code == 2
    assert message in result.err
    assert asked == []


@pytest.mark.parametrize("command", ["serve", "transcribe"])
def test_a_wrong_name_in_the_settings_file_names_the_help_of_the_command(
    command_line: CommandLine, command: str
) -> None:
    Path("stenofleet.toml").write_text("beam = 5\n", encoding="utf-8")
    assert f"see stenofleet {command} --help" in command_line(command).err


def test_the_file_knows_options_by_the_names_people_type(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    Path("stenofleet.toml").write_text('output-format = "srt,vtt"\njson = true\n', encoding="utf-8")
    result = command_line("transcribe", talk, *MODEL)
    assert json.loads(result.out)["exit_code"] == 0
    assert asked[0]["run_requests"][0].request.outputs[0].formats == ("srt", "vtt")


def test_force_is_an_option_of_the_environment_too(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STENOFLEET_FORCE", "1")
    for _ in range(2):
        command_line("transcribe", talk, *MODEL)
    first, second = (seen["run_requests"][0].record.run for seen in asked)
    assert first != second


def test_force_counts_once_for_a_command_that_is_started_again_in_its_round(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    for round_id in ("one", "one", "another"):
        command_line("transcribe", talk, *MODEL, "--force", "--round", round_id)
    first, again, other = (seen["run_requests"][0].record.run for seen in asked)
    assert first == again != other


def test_a_variable_that_is_no_option_is_reported(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STENOFLEET_MODEL", "STENOFLEET_JOB_MEMORY", "STENOFLEET_TIMEOUT", "STENOFLEET_SERVICE_HOST"):
        monkeypatch.setenv(name, "1")
    assert command_line("list").err == f"no runs in {command_line.store.url}\n"
    monkeypatch.setenv("STENOFLEET_CHUNK_DURATOIN", "60")
    result = command_line("list")
    assert (result.code, result.err.splitlines()[0]) == (
        0,
        "stenofleet: ignored, no such option: STENOFLEET_CHUNK_DURATOIN",
    )


@pytest.mark.parametrize(
    "command", [("transcribe", "talk.wav", "--queue", "x"), ("cancel", "aaaa", "--namespace", "x")], ids=" ".join
)
def test_a_cluster_option_on_the_command_line_needs_a_cluster(
    command_line: CommandLine, talk: Path, command: tuple[str, ...]
) -> None:
    result = command_line(*command)
    assert result.code == 2
    assert f"{command[2]}: only for jobs on a cluster, but jobs run here" in result.err
    assert "--runner kubernetes" in result.err


def test_a_cluster_setting_is_ignored_without_a_cluster(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STENOFLEET_QUEUE", "x")
    assert command_line("transcribe", talk, *MODEL).code == 0


@pytest.mark.parametrize("name", ["vad_threshold", "vad-min-silence-duration-ms", "no_speech-threshold"])
def test_options_of_the_decoding_are_those_of_whisper(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, name: str
) -> None:
    field = name.replace("-", "_")
    for arguments in ((), (f"--{name}", "1")):
        assert command_line("transcribe", talk, *MODEL, *arguments).code == 0
    default, changed = (seen["run_requests"][0].record for seen in asked)
    assert changed.options == default.options.model_copy(update={field: 1})
    assert changed.run != default.run


def test_options_of_the_decoding_at_their_default_do_not_change_the_run(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    given = (
        *("--vad-threshold", "0.5", "--vad-min-silence-duration-ms", "2000", "--no-speech-threshold", "0.6"),
        *("--logprob-threshold", "-1", "--compression-ratio-threshold", "2.4", "--batch-size", "auto"),
    )
    for arguments in ((), given):
        assert command_line("transcribe", talk, *MODEL, *arguments).code == 0
    first, second = (seen["run_requests"][0].record.run for seen in asked)
    assert first == second


def runs(asked: list[dict[str, Any]]) -> list[str]:
    return [seen["run_requests"][0].record.run for seen in asked]


def test_clips_make_another_run_unless_they_are_the_whole_recording(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    for typed in ("", "0", "0,10", "0.0,10.0", "0,10,20", "0,5,5,10"):
        assert command_line("transcribe", talk, *MODEL, "--clip_timestamps", typed).code == 0
    whole, zero, first, again, more, joined = runs(asked)
    assert whole == zero
    assert first == again == joined
    assert len({whole, first, more}) == 3


def test_an_automatic_chunk_length_is_the_same_run_with_another_number_of_jobs(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    for arguments in ((), ("--chunk-duration", "720")):
        assert command_line("transcribe", talk, *MODEL, *arguments).code == 0
    for jobs in ("1", "8"):
        auto = ("--chunk-duration", "auto", "--max-parallel", jobs, "--device", "cuda")
        assert command_line("transcribe", talk, *MODEL, *auto).code == 0
    default, given, one, eight = runs(asked)
    assert default == given != one == eight
    plans = [seen["run_requests"][0].record.plan for seen in asked]
    assert [plan.auto and (plan.auto.parallel_jobs, plan.auto.speed) for plan in plans] == [
        *(None, None),
        *((1, 400), (8, 400)),
    ]
    assert {plan.chunk_ms for plan in plans} == {720_000}


def test_the_jobs_of_a_command_are_shared_by_its_recordings(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    other = speech.write_wav(Path("other.wav"), speech.silence(2))
    auto = ("--chunk-duration", "auto", "--max-parallel", "5")
    assert command_line("transcribe", talk, other, *MODEL, *auto).code == 0
    assert [one.record.plan.auto.parallel_jobs for one in asked[-1]["run_requests"]] == [3, 3]


@pytest.mark.parametrize("gpu,overhead_ms", [(True, 5000), (False, 3000)])
def test_a_device_that_is_not_given_is_looked_for(
    command_line: CommandLine,
    asked: list[dict[str, Any]],
    talk: Path,
    monkeypatch: pytest.MonkeyPatch,
    gpu: bool,
    overhead_ms: int,
) -> None:
    monkeypatch.setattr(devices, "GPU_DEVICES", ("/missing", "/" if gpu else "/dev/no-gpu"))
    assert command_line("transcribe", talk, *MODEL, "--chunk-duration", "auto").code == 0
    assert asked[-1]["run_requests"][0].record.plan.auto.overhead_ms == overhead_ms


@pytest.mark.process
def test_the_plan_shows_the_chosen_length_and_the_clips(command_line: CommandLine) -> None:
    long = clicks.silence(Path("long.flac"), 3600)
    sizing = ("--chunk-duration", "auto", "--device", "cuda", "--max-parallel", "2")
    result = command_line("plan", long, *sizing)
    reason = (
        "2 chunks of 1800 s, 2 at once: at 400 times real time and 5 s beside it, jobs take about 14 s in all"
        " (24 s with 5 of 720 s)"
    )
    assert result.out.splitlines()[0] == "long.flac: 1:00:00, 2 chunks"
    assert result.out.splitlines()[3] == f"  {reason}"
    document = json.loads(command_line("plan", long, *sizing, "--json").out)["recordings"]["long.flac"]
    assert document["chosen"] == {"chunk_ms": pytest.approx(1_800_000, abs=100), "reason": reason}
    short = clicks.write(Path("short.wav"), np.zeros(120 * 8_000, np.int16), 8_000)
    clipped = command_line("plan", short, "--clip-timestamps", "10,70.5,100,110")
    first, *_, one, other, _ = clipped.out.splitlines()
    assert [first, one, other] == [
        "short.wav: 0:01:10, 2 chunks",
        "      0  0:00:10 - 0:01:10     60.50 s  end",
        "      1  0:01:40 - 0:01:50     10.00 s  end",
    ]
    costs = "at 400 times real time and 5 s beside it, jobs take about 19 s in all (23 s with 5 of at most 725 s)"
    of_both = command_line("plan", long, *sizing, "--clip-timestamps", "0,2900,3000,3400")
    assert of_both.out.splitlines()[0] == "long.flac: 0:55:00, 3 chunks"
    assert of_both.out.splitlines()[3] == f"  3 chunks of at most 1450 s from 2 clips, 2 at once: {costs}"
    behind = command_line("plan", short, "--clip-timestamps", "4000")
    assert (behind.code, behind.out) == (5, "")
    assert "before the clip that starts at 4000.000 s\n  correct --clip-timestamps" in behind.err


@pytest.mark.parametrize(
    "arguments,why",
    [
        (("--task", "translate"), "--task translate"),
        (("--condition-on-previous-text", "True"), "--condition-on-previous-text True"),
        ((), ""),
    ],
)
def test_a_batch_size_that_is_not_used_is_reported(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, arguments: tuple[str, ...], why: str
) -> None:
    result = command_line("transcribe", talk, *MODEL, *arguments, "--batch-size", "8")
    assert options_of(asked).sequential is bool(why)
    message = f"--batch-size 8 is not used: with {why}, windows are decoded one by one\n"
    assert (message in result.err) is bool(why)
    for size in ("0", "auto"):
        assert "is not used" not in command_line("transcribe", talk, *MODEL, *arguments, "--batch-size", size).err


def test_a_batch_size_is_auto_or_a_number(command_line: CommandLine, asked: list[dict[str, Any]], talk: Path) -> None:
    for typed, wanted in (("auto", "auto"), ("0", "sequential"), ("16", 16)):
        assert command_line("transcribe", talk, *MODEL, "--batch-size", typed).code == 0
        assert options_of(asked).batch_size == wanted
    Path("stenofleet.toml").write_text("batch-size = 8\n", encoding="utf-8")
    assert command_line("transcribe", talk, *MODEL).code == 0
    assert options_of(asked).batch_size == 8


def test_an_output_folder_without_write_permission_is_reported_before_any_work(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    result = command_line("transcribe", talk, *MODEL, "-o", "/proc/self/somewhere/new")
    assert (result.code, asked) == (3, [])
    assert "/proc/self/somewhere/new: cannot be written to: " in result.err
    assert "choose another folder: --output-dir" in result.err
    assert command_line("transcribe", talk, *MODEL, "-o", "out/of/here").code == 0
    assert not Path("out").exists()


class Stopped:
    """A loop that a signal ends after a number of its runs has begun."""

    def __init__(self, begun: int) -> None:
        self.begun = begun

    def __call__(self, requests: RunRequests, *, store: FileStore, **_: Any) -> list[Any]:
        while len(requests.taken) < self.begun and not requests.exhausted:
            requests.wait(1)
            for run_request in requests.take(self.begun - len(requests.taken)):
                store.put(run_request.request.record_key, run_request.record.encode())
        raise Interrupted(15)


@pytest.mark.parametrize("forced", [False, True])
def test_an_interrupted_command_prints_how_to_resume_the_runs_that_were_begun(
    command_line: CommandLine, talk: Path, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    files = [talk, *(speech.write_wav(Path(f"{number}.wav"), speech.silence(2 + number)) for number in range(12))]
    force = ["--force"] if forced else []
    monkeypatch.setattr(execute, "run_loop", Stopped(0))
    result = command_line("transcribe", *files, *MODEL, *force)
    assert result.err.splitlines()[0].endswith("run the same command again")
    monkeypatch.setattr(execute, "run_loop", Stopped(11))
    message = [
        text
        for text in command_line("transcribe", *files, *MODEL, *force).err.splitlines()
        if "stenofleet resume" in text
    ]
    begun = {entry.key.split("/")[1] for entry in command_line.store.list("runs/")}
    assert len(message) == (10 if forced else 0)
    assert {text.split()[4] for text in message} <= begun
    one = command_line("transcribe", talk, *MODEL, *force).err
    assert f"--store {command_line.store.url}" in one
    assert "to resume: stenofleet resume " in one


@pytest.mark.parametrize("folder", ["/nope", "./nope", "../nope", "~/nope"])
def test_a_missing_folder_is_not_looked_up_on_the_hub(command_line: CommandLine, talk: Path, folder: str) -> None:
    result = command_line("transcribe", talk, "--model", folder)
    assert result.code == 2
    assert f"no model '{folder}'" in result.err


def test_a_file_named_by_two_paths_counts_once(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    assert command_line("transcribe", talk, talk.parent / "x" / ".." / talk.name, *MODEL).code in (0, 2)
    (talk.parent / "x").mkdir()
    assert command_line("transcribe", talk, talk.parent / "x" / ".." / talk.name, *MODEL).code == 0
    assert len(asked[-1]["run_requests"]) == 1


def test_a_damaged_marker_does_not_hide_the_other_runs(command_line: CommandLine) -> None:
    put_run(command_line.store, RUNS[0])
    put_run(command_line.store, RUNS[1])
    command_line.store.put(f"runs/{RUNS[0]}/_SUCCESS", b"{")
    result = command_line("list", "--json")
    assert result.code == 0
    states = {run["run"]: run["state"] for run in json.loads(result.out)["runs"]}
    assert states[RUNS[0]] == "damaged"
    assert RUNS[1] in states


@pytest.mark.parametrize("command", [("list",), ("status", "aa"), ("resume", "aa"), ("cancel", "aa"), ("render", "aa")])
def test_an_unreadable_store_is_an_environment_problem(command_line: CommandLine, command: tuple[str, ...]) -> None:
    command_line.store.root.parent.mkdir(parents=True, exist_ok=True)
    command_line.store.root.symlink_to(command_line.store.root.name)
    result = command_line(*command)
    assert result.code == 3
    assert "bug" not in result.err


def test_the_settings_file_applies_to_every_command_with_the_option(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("STENOFLEET_STORE")
    Path("stenofleet.toml").write_text(f'store = "{command_line.store.url}"\nmodel = "tiny"\n', encoding="utf-8")
    put_run(command_line.store, RUNS[0])
    assert [run["run"] for run in json.loads(command_line("list", "--json").out)["runs"]] == [RUNS[0]]


def test_without_a_store_runs_are_kept_in_the_state_folder(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("STENOFLEET_STORE")
    home = Path(os.environ["XDG_STATE_HOME"]) / "stenofleet"
    assert command_line("list").err == f"no runs in {home.as_uri()}\n"


@pytest.mark.parametrize(
    "spelled,field,value",
    [
        (("--compute_type", "float32"), "compute_type", "float32"),
        (("--compute-type", "float32"), "compute_type", "float32"),
        (("--vad_filter", "False"), "vad_filter", False),
        (("--vad_filter", "true"), "vad_filter", True),
        (("--condition_on_previous_text", "True"), "condition_on_previous_text", True),
        (("--language", "Portuguese"), "language", "pt"),
        (("--language", "PT"), "language", "pt"),
        (("--language", "auto"), "language", None),
        (("--initial_prompt", "Alpha"), "initial_prompt", "Alpha"),
        (("--task", "translate"), "task", "translate"),
        (("--threads", "3"), "cpu_threads", 3),
        (("--temperature", "0"), "temperature", (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
        (("--temperature_increment_on_fallback", "0"), "temperature", (0.0,)),
        (("--temperature", "0.5", "--temperature-increment-on-fallback", "0.25"), "temperature", (0.5, 0.75, 1.0)),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) and isinstance(value[0], str) else "",
)
def test_whispers_spellings_keep_their_meaning(
    command_line: CommandLine,
    asked: list[dict[str, Any]],
    talk: Path,
    spelled: tuple[str, ...],
    field: str,
    value: object,
) -> None:
    assert command_line("transcribe", talk, *MODEL, *spelled).code == 0
    assert getattr(options_of(asked), field) == value


@pytest.mark.parametrize(
    "spelled,formats",
    [
        ((), tuple(FORMATS)),
        (("-f", "srt"), ("srt",)),
        (("--output_format", "vtt, txt,vtt"), ("vtt", "txt")),
        (("-f", "ALL"), tuple(FORMATS)),
    ],
)
def test_formats_are_all_or_those_that_are_named(
    command_line: CommandLine,
    asked: list[dict[str, Any]],
    talk: Path,
    spelled: tuple[str, ...],
    formats: tuple[str, ...],
) -> None:
    assert command_line("transcribe", talk, *MODEL, "--output_dir", "out", *spelled).code == 0
    (run_request,) = asked[0]["run_requests"]
    (output,) = run_request.request.outputs
    assert output.formats == formats
    assert source.local_path(output.base) == Path("out/talk").absolute()


@pytest.mark.parametrize(
    "changed",
    [
        ("--beam-size", "2"),
        ("--language", "en"),
        ("--initial-prompt", "x"),
        ("--chunk-duration", "700"),
        ("--chunking-threshold", "0"),
        ("--audio-track", "0"),
        ("--compute-type", "int8"),
        ("--force",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_options_that_change_the_transcript_give_another_run(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, changed: tuple[str, ...]
) -> None:
    command_line("transcribe", talk, *MODEL)
    command_line("transcribe", talk, *MODEL, *changed)
    assert asked[0]["run_requests"][0].record.run != asked[1]["run_requests"][0].record.run


@pytest.mark.parametrize(
    "changed",
    [
        ("--threads", "7"),
        ("--max-parallel", "5"),
        ("-o", "else"),
        ("-f", "srt"),
        ("--keep-chunks",),
        ("--rendition",),
        ("--gpu-hour-price", "2.5"),
        ("-q",),
    ],
    ids=lambda arguments: arguments[0],
)
def test_options_that_do_not_change_the_transcript_give_the_same_run(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, changed: tuple[str, ...]
) -> None:
    command_line("transcribe", talk, *MODEL)
    command_line("transcribe", talk, *MODEL, *changed)
    assert asked[0]["run_requests"][0].record.run == asked[1]["run_requests"][0].record.run
    assert [one["run_requests"][0].request.rendition for one in asked] == [False, changed == ("--rendition",)]


def test_a_file_named_twice_counts_once_and_equal_content_is_one_run(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path
) -> None:
    os.link(talk, "copy.wav")
    assert command_line("transcribe", talk, talk.absolute(), "copy.wav", *MODEL).code == 0
    (run_request,) = asked[0]["run_requests"]
    assert [Path(output.base).name for output in run_request.request.outputs] == ["talk", "copy"]


def test_a_quota_of_processors_bounds_jobs_and_threads(
    command_line: CommandLine, asked: list[dict[str, Any]], talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)
    monkeypatch.setattr(cores, "_quotas", lambda _: iter([8.0]))
    assert command_line("transcribe", talk, *MODEL).code == 0
    assert (asked[-1]["max_parallel"], options_of(asked).cpu_threads) == (2, 4)


# ---------------------------------------------------------------- runs in the store


def test_runs_are_listed_and_shown(command_line: CommandLine) -> None:
    put_run(command_line.store, RUNS[0])
    put_run(command_line.store, RUNS[1], state="complete", marker="complete", name="a\x1bb.mp4")
    put_run(command_line.store, RUNS[2], state="running", marker="failed")
    rows = [row.split() for row in command_line("list").out.splitlines()]
    assert [row[:2] for row in rows] == [[RUNS[0], "running"], [RUNS[1], "complete"], [RUNS[2], "failed"]]
    assert rows[1][-1] == "a\\x1bb.mp4"
    facts = json.loads(command_line("status", "bbbb", "--json").out)
    assert (facts["run"], facts["state"], facts["chunks"], facts["failures"]) == (RUNS[2], "failed", "1/3+", 2)
    assert (facts["summary"], facts["advice"]) == ("so it was", "do this")
    assert "summary      so it was" in command_line("status", "BBBB").out


def test_the_status_shows_paths_and_how_to_continue(command_line: CommandLine) -> None:
    put_run(command_line.store, RUNS[0], state="interrupted")
    request = fakes.request(fakes.record(RUNS[0]), Path("/out/talk"))
    command_line.store.put(RunKeys(RUNS[0]).request, request.encode())
    result = {row.split(None, 1)[0]: row.split(None, 1)[1] for row in command_line("status", RUNS[0]).out.splitlines()}
    assert result["recording"] == "file:///talk.mp4"
    assert result["outputs"] == "/out/talk.txt, /out/talk.json"
    assert result["advice"] == f"stenofleet resume {RUNS[0]} --store {command_line.store.url}"
    assert result["failures"] == f"2 (stenofleet explain {RUNS[0]})"
    assert "updated_ms" not in result
    facts = json.loads(command_line("status", RUNS[0], "--json").out)
    assert (facts["failures"], facts["outputs"]) == (2, ["/out/talk.txt", "/out/talk.json"])


def test_the_status_shows_which_share_of_the_jobs_time_was_useful(command_line: CommandLine) -> None:
    put_run(command_line.store, RUNS[0])
    assert "useful" not in command_line("status", RUNS[0]).out
    assert json.loads(command_line("status", RUNS[0], "--json").out)["useful_share"] is None
    key = RunKeys(RUNS[0]).status
    status = Status.decode(command_line.store.get(key)).model_copy(update={"useful_share": 0.426})
    command_line.store.put(key, status.encode())
    assert "useful       43% of the jobs' time is decoding and word times\n" in command_line("status", RUNS[0]).out
    assert json.loads(command_line("status", RUNS[0], "--json").out)["useful_share"] == 0.426


def test_a_run_whose_status_is_unreadable_is_still_listed(command_line: CommandLine) -> None:
    put_run(command_line.store, RUNS[0])
    command_line.store.put(RunKeys(RUNS[0]).status, b"{")
    assert json.loads(command_line("status", RUNS[0], "--json").out)["state"] == "interrupted"


def test_cancelling_leaves_a_mark_and_a_complete_run_alone(command_line: CommandLine) -> None:
    put_run(command_line.store, RUNS[0])
    put_run(command_line.store, RUNS[2], marker="complete")
    assert command_line("cancel", "aaaa").code == 0
    assert command_line.store.stat(RunKeys(RUNS[0]).cancel)
    result = command_line("cancel", "bbbb")
    assert (result.code, result.err) == (0, f"run {RUNS[2]} is complete already\n")
    assert not command_line.store.stat(RunKeys(RUNS[2]).cancel)


def test_cleaning_removes_the_named_run_and_nothing_else(command_line: CommandLine) -> None:
    for run in RUNS:
        put_run(command_line.store, run)
        command_line.store.put(f"work/{run}/tasks/00000.json", b"{}")
    assert command_line("clean", "bbbb", "--yes").code == 0
    assert {entry.key.split("/")[1] for entry in command_line.store.list("")} == set(RUNS[:2])
    result = command_line("clean", "--all", "--yes")
    assert (result.code, result.err) == (0, "removed 2 of 2 runs\n")
    assert list(command_line.store.list("")) == []


def test_cleaning_removes_files_of_killed_writers(command_line: CommandLine) -> None:
    put_run(command_line.store, RUNS[0])
    home = command_line.store.root / "runs" / RUNS[0]
    (home / ".0011.tmp").write_text("half a transcript")
    assert command_line("clean", RUNS[0], "--yes").code == 0
    assert not home.exists()


def test_cleaning_asks_first_and_accepts_a_no(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    put_run(command_line.store, RUNS[0])
    monkeypatch.setattr("click.termui.visible_prompt_func", lambda _: "n")
    result = command_line("clean", RUNS[0])
    assert (result.code, "--yes" in result.err) == (2, True)
    assert command_line.store.stat(RunKeys(RUNS[0]).record)


# ---------------------------------------------------------------- rendering


@pytest.fixture
def document() -> Transcript:
    record = fakes.record(name="talk.mp4")
    task = fakes.task(record, 0)
    transcribed = fakes.result(task, fakes.segment((" alpha", 0, 500), (" <bravo>", 500, 900)))
    return merge(fakes.plan(10_000), record, [transcribed])


def test_every_format_is_made_again_from_the_json(command_line: CommandLine, document: Transcript) -> None:
    Path("talk.json").write_text(FORMATS["json"](document), encoding="utf-8")
    result = command_line("render", "talk.json", "-o", "again")
    assert result.code == 0
    assert result.out.splitlines() == [str(Path(f"again/talk.{extension}").absolute()) for extension in FORMATS]
    for extension, render in FORMATS.items():
        assert Path(f"again/talk.{extension}").read_text(encoding="utf-8") == render(document)


def test_rendering_beside_the_json_does_not_touch_it(command_line: CommandLine, document: Transcript) -> None:
    Path("talk.json").write_text(FORMATS["json"](document), encoding="utf-8")
    before = Path("talk.json").stat()
    assert command_line("render", "talk.json").code == 0
    assert (Path("talk.json").stat().st_ino, Path("talk.json").stat().st_mtime_ns) == (
        before.st_ino,
        before.st_mtime_ns,
    )
    assert Path("talk.srt").exists()


def test_a_full_disk_leaves_the_earlier_rendering(
    command_line: CommandLine, document: Transcript, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("talk.json").write_bytes(document.encode())
    Path("talk.srt").write_text("before", encoding="utf-8")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    result = command_line("render", "talk.json", "-f", "srt", "--overwrite")
    assert result.code == 3
    assert "talk.srt: cannot be written: No space left on device" in result.err
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["talk.json", "talk.srt"]
    assert Path("talk.srt").read_text(encoding="utf-8") == "before"


def test_rendering_keeps_a_file_that_was_changed(command_line: CommandLine, document: Transcript) -> None:
    Path("talk.json").write_text(FORMATS["json"](document), encoding="utf-8")
    command_line("render", "talk.json", "-f", "srt,vtt")
    Path("talk.srt").write_text("CORRECTED", encoding="utf-8")
    result = command_line("render", "talk.json", "-f", "srt,vtt")
    assert (result.code, result.out) == (0, f"{Path('talk.vtt').absolute()}\n")
    assert f"warning: {Path('talk.srt').absolute()} is kept" in result.err
    assert Path("talk.srt").read_text(encoding="utf-8") == "CORRECTED"
    assert command_line("render", "talk.json", "-f", "srt", "--overwrite").code == 0
    assert Path("talk.srt").read_text(encoding="utf-8") == FORMATS["srt"](document)


def test_rendering_says_that_it_replaces_the_transcript_of_another_recording(
    command_line: CommandLine, document: Transcript
) -> None:
    said = []
    for identity, language in (("ab" * 32, "en"), ("cd" * 32, "de")):
        source = document.source.model_copy(update={"identity": identity})
        other = document.model_copy(update={"source": source, "language": language})
        Path("talk.json").write_text(FORMATS["json"](other), encoding="utf-8")
        said.append(command_line("render", "talk.json", "-f", "json", "-o", "out").err)
    warning = f"warning: {Path('out/talk.json').absolute()}: the transcript of another recording was here"
    assert [warning in text for text in said] == [False, True]


def test_a_run_is_rendered_from_the_store(command_line: CommandLine, document: Transcript) -> None:
    put_run(command_line.store, fakes.RUN)
    command_line.store.put(RunKeys(fakes.RUN).transcript("json"), FORMATS["json"](document).encode())
    assert command_line("render", fakes.RUN, "-f", "vtt").out == f"{Path(f'{fakes.RUN}.vtt').absolute()}\n"
    record = fakes.record()
    requests.keep_local(command_line.store, RunRequest(record=record, request=fakes.request(record)))
    assert command_line("render", fakes.RUN, "-f", "vtt").out == f"{Path('talk.vtt').absolute()}\n"
    assert Path("talk.vtt").read_text(encoding="utf-8") == FORMATS["vtt"](document)


WHISPERS: dict[str, Any] = {
    "text": " Good morning. How are you?",
    "segments": [
        {"id": 0, "seek": 0, "start": 0.0, "end": 1.5, "text": " Good morning.", "tokens": [1], "avg_logprob": -0.2},
        {"id": 1, "seek": 0, "start": 2, "end": 3.25, "text": " How are you?", "words": None, "speaker": "A"},
    ],
    "language": "en",
}


@pytest.mark.parametrize("words", [None, [{"word": " Good", "start": 0.1, "end": 0.4, "probability": 0.9}]])
def test_whispers_json_is_rendered_with_words_or_without(command_line: CommandLine, words: object) -> None:
    first, second = WHISPERS["segments"]
    whole = {**WHISPERS, "segments": [{**first, "words": words}, second]}
    Path("talk.json").write_text(json.dumps(whole), encoding="utf-8")
    result = command_line("render", "talk.json", "-o", "again")
    assert result.code == 0, result
    assert result.out.splitlines() == [str(Path(f"again/talk.{one}").absolute()) for one in FORMATS if one != "json"]
    assert Path("again/talk.txt").read_text(encoding="utf-8") == "Good morning.\nA: How are you?\n"
    assert "00:00:02,000 --> 00:00:03,250\nA: How are you?\n" in Path("again/talk.srt").read_text(encoding="utf-8")
    only = command_line("render", "talk.json", "-f", "json", "-o", "again")
    assert (only.code, only.out, Path("again/talk.json").exists()) == (2, "", False)
    assert "talk.json is Whisper's JSON" in only.err


@pytest.mark.parametrize(
    "start,problem",
    [
        ("null", "segments.0.start: Input should be a valid number"),
        ("-1", "segments.0.start: Input should be greater than or equal to 0"),
        ("NaN", "segments.0.start: Input should be"),
    ],
)
def test_a_mistake_in_whispers_json_is_named_as_that(command_line: CommandLine, start: str, problem: str) -> None:
    text = f'{{"text": "a", "segments": [{{"start": {start}, "end": 1.0, "text": "a"}}], "language": "en"}}'
    Path("talk.json").write_text(text, encoding="utf-8")
    result = command_line("render", "talk.json")
    assert result.code == 2
    assert f"talk.json is not a transcript of stenofleet or Whisper: {problem}" in result.err


@pytest.mark.parametrize("data", [b"", b"RIFF\x24\0\0\0WAVEfmt \xff", b"1\n00:00:01,000 --> 00:00:02,000\na\n"])
def test_a_file_without_json_is_named_as_that(command_line: CommandLine, data: bytes) -> None:
    Path("talk.wav").write_bytes(data)
    result = command_line("render", "talk.wav")
    assert result.code == 2
    assert "talk.wav is not JSON\n  give the .json file of a transcript\n" in result.err


@pytest.mark.parametrize("text", ["{}", '{"text": "whispers own"}', "[1]", '{"segments": [{"start": 0}]}'])
def test_a_file_that_is_no_transcript_is_reported(command_line: CommandLine, text: str) -> None:
    Path("talk.json").write_text(text, encoding="utf-8")
    result = command_line("render", "talk.json")
    assert result.code == 2
    assert "talk.json is not a transcript of stenofleet" in result.err


def test_an_output_folder_that_cannot_be_created_is_an_environment_problem(
    command_line: CommandLine, document: Transcript
) -> None:
    Path("talk.json").write_text(FORMATS["json"](document), encoding="utf-8")
    Path("file").touch()
    result = command_line("render", "talk.json", "-o", "file/sub")
    assert result.code == 3
    assert "cannot be written" in result.err


# ---------------------------------------------------------------- planning


@pytest.mark.process
def test_a_plan_prints_the_cuts_and_changes_nothing(command_line: CommandLine) -> None:
    speech.write_tape(Path("talk.wav"), seconds=64, seed=1)
    result = command_line("plan", "talk.wav", "--chunk-duration", "20", "--chunking-threshold", "0")
    assert result.code == 0
    first, _, _, *spans, _ = result.out.splitlines()
    assert first == "talk.wav: 0:01:04, 3 chunks"
    assert [row.split()[6] for row in spans] == ["pause", "pause", "end"]
    plans = json.loads(
        command_line("plan", "talk.wav", "--chunk_duration", "20", "--chunking-threshold", "0", "--json").out
    )
    plan = plans["recordings"]["talk.wav"]
    assert plan["duration_ms"] == 64_000
    assert len(plan["spans"]) == 3
    assert list(command_line.store.list("")) == []
    assert os.listdir() == ["talk.wav"]


@pytest.mark.process
def test_the_console_script_is_installed(tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("stenofleet")
    done = subprocess.run([script, "version"], capture_output=True, check=True, cwd=tmp_path, text=True)
    assert done.stdout.startswith("stenofleet")


def test_a_salt_makes_another_run_and_the_same_salt_the_same() -> None:
    runs = [
        run_requests.make_run_request(
            source.inspect(demo.SAMPLE),
            Output(base="file:///x", formats=("txt",)),
            plan=PlanOptions(),
            options=TranscribeOptions(),
            audio_track=None,
            on_chunk_failure="fail",
            keep_chunks=False,
            salt=salt,
        ).record.run
        for salt in ("a", "b", "a", "")
    ]
    assert runs[0] == runs[2]
    assert len(set(runs)) == 3


@pytest.mark.parametrize("url", ["s3://key:hush@bucket/x", "s3://[x", "s3://"])
def test_an_invalid_output_url_is_a_usage_error_and_not_repeated(
    command_line: CommandLine, talk: Path, url: str
) -> None:
    result = command_line("transcribe", talk, "-o", url)
    assert result.code == 2
    assert "hush" not in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("name", [".hidden.wav", "new\nline.wav"])
def test_a_name_that_no_object_can_have_is_refused_before_any_work(
    command_line: CommandLine, asked: list[dict[str, Any]], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.cli.output_names.check_folder", lambda _: None)
    speech.write_wav(Path(name), speech.silence(1))
    result = command_line("transcribe", name, "-o", "s3://bucket/x")
    assert (result.code, asked) == (2, [])
    assert "is not a valid object name" in result.err


@pytest.mark.parametrize("url", ["s3://[x/talk.wav", "s3://bucket//talk.wav", "s3://bucket/.a/talk.wav", "s3://bucket"])
def test_an_object_with_an_invalid_name_fails_only_that_recording(command_line: CommandLine, url: str) -> None:
    result = command_line("plan", url)
    assert result.code in (3, 5)
    assert "Traceback" not in result.err
    assert url.removeprefix("s3://")[:2] in result.err


def test_clean_finds_objects_of_an_abandoned_job(command_line: CommandLine) -> None:
    command_line.store.put(f"work/{fakes.RUN}/results/00000/a1-u.json", b"{}")
    assert command_line("list").out == ""
    assert command_line("clean", "--all", "--yes").code == 0
    assert list(command_line.store.list("")) == []


@pytest.mark.parametrize("typed", ["{folder}/mine", "./mine", "../here/mine", "~/mine"])
def test_a_store_may_be_given_as_the_path_of_a_folder(
    command_line: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, typed: str
) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    result = command_line("list", "--store", typed.format(folder=Path.cwd()))
    assert result.code == 0
    assert f"no runs in {(Path.cwd() / 'mine').as_uri()}" in result.err.replace("here/../", "")
