"""Commands for Whisper that are pasted: each option is used, or one line or an error says why it is not."""

import click
import pytest

from controller import cli
from controller.cli import whisper_options
from controller.cli.switches import CommandWithSwitches, Switch
from controller.cli.transcribe import transcribe_command
from controller.cli.whisper_options import REFUSED, SWITCHES, VALUES

OPENAI_WHISPER = [
    "model",
    "model_dir",
    "device",
    "output_dir",
    "output_format",
    "verbose",
    "task",
    "language",
    "temperature",
    "best_of",
    "beam_size",
    "patience",
    "length_penalty",
    "suppress_tokens",
    "initial_prompt",
    "carry_initial_prompt",
    "condition_on_previous_text",
    "fp16",
    "temperature_increment_on_fallback",
    "compression_ratio_threshold",
    "logprob_threshold",
    "no_speech_threshold",
    "word_timestamps",
    "prepend_punctuations",
    "append_punctuations",
    "threads",
    "clip_timestamps",
    "hallucination_silence_threshold",
    "highlight_words",
    "max_line_width",
    "max_line_count",
    "max_words_per_line",
]
"""Of version 20250625."""
WHISPER_CTRANSLATE2 = [
    "model",
    "batched",
    "batch_size",
    "model_directory",
    "model_dir",
    "local_files_only",
    "output_dir",
    "output_format",
    "pretty_json",
    "print_colors",
    "verbose",
    "device",
    "threads",
    "device_index",
    "compute_type",
    "task",
    "language",
    "multilingual",
    "temperature",
    "temperature_increment_on_fallback",
    "prompt_reset_on_temperature",
    "best_of",
    "beam_size",
    "patience",
    "length_penalty",
    "repetition_penalty",
    "no_repeat_ngram_size",
    "suppress_blank",
    "suppress_tokens",
    "initial_prompt",
    "prefix",
    "hotwords",
    "condition_on_previous_text",
    "compression_ratio_threshold",
    "logprob_threshold",
    "no_speech_threshold",
    "word_timestamps",
    "prepend_punctuations",
    "append_punctuations",
    "hallucination_silence_threshold",
    "vad_filter",
    "vad_threshold",
    "vad_min_speech_duration_ms",
    "vad_max_speech_duration_s",
    "vad_min_silence_duration_ms",
    "hf_token",
    "speaker_name",
    "live_transcribe",
    "live_volume_threshold",
    "live_input_device",
    "live_input_device_sample_rate",
    "speaker_num",
    "highlight_words",
    "max_line_width",
    "max_line_count",
    "max_words_per_line",
]
"""Of version 0.5.8."""

pytestmark = pytest.mark.usefixtures("working_folder")


def parsed(*arguments: str) -> dict[str, object]:
    """The parameters of ``transcribe`` with *arguments*, spelled with underscores."""
    return transcribe_command.make_context("transcribe", ["talk.wav", *arguments], parent=_parent()).params


def _parent() -> click.Context:
    return click.Context(cli.stenofleet, token_normalize_func=lambda token: token.replace("_", "-"))


def test_every_option_of_both_programs_is_known() -> None:
    known = {name for option in transcribe_command.params for name in option.opts}
    pasted = {f"--{name.replace('_', '-')}" for name in (*OPENAI_WHISPER, *WHISPER_CTRANSLATE2)}
    assert pasted - known == set()


def test_no_name_is_declared_twice() -> None:
    names = [name for option in transcribe_command.params for name in option.opts]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", [*SWITCHES, *VALUES])
def test_an_option_that_is_not_used_gives_one_line(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    value = "False" if name in SWITCHES else "5"
    before = parsed()
    capsys.readouterr()
    assert parsed(f"--{name.replace('-', '_')}", value) == before
    assert capsys.readouterr().err == f"--{name} {value} is not used: {(SWITCHES | VALUES)[name]}\n"


def test_word_times_are_always_made(capsys: pytest.CaptureFixture[str]) -> None:
    parsed("--word_timestamps", "True")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", SWITCHES)
def test_a_switch_does_not_take_the_recording_as_its_value(name: str) -> None:
    assert parsed(f"--{name}", "--task", "translate") == parsed("--task", "translate")
    assert parsed(f"--{name}", "other.wav") == parsed("other.wav")
    with pytest.raises(click.BadParameter, match="'maybe' is not one of"):
        parsed(f"--{name}=maybe")


@pytest.mark.parametrize("name", ["vad_filter", "condition_on_previous_text", "highlight_words"])
def test_a_bare_switch_is_on_and_takes_no_other_argument_as_its_value(name: str) -> None:
    for after in (["other.wav"], ["--language", "en"], ["-f", "txt"], []):
        assert parsed(f"--{name}", *after) == parsed(*after) | {name: True}
    for value, on in {"False": False, "no": False, "0": False, "True": True, "on": True}.items():
        assert parsed(f"--{name}", value, "other.wav") == parsed("other.wav") | {name: on}


def test_every_switch_belongs_to_a_command_that_knows_switches() -> None:
    for _, command in cli.leaves():
        switches = [option for option in command.params if isinstance(option, Switch)]
        assert not switches or isinstance(command, CommandWithSwitches)


@pytest.mark.parametrize(
    "typed,meant",
    [
        ("--lang", "No such option '--lang'. Did you mean '--language'?\n"),
        ("-m", "No such option '-m'. Did you mean '--model'?\n"),
        ("--model_path", "add --runner kubernetes; a model on this machine: --model FOLDER\n"),
    ],
)
def test_other_names_of_an_option_lead_to_it(typed: str, meant: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["transcribe", "talk.wav", typed, "x"]) == 2
    assert meant in capsys.readouterr().err


RELATIVES = {
    "--diarize": "Invalid value for '--diarize': there is no diarization",
    "--diarize --min_speakers 2": "Invalid value for '--diarize': there is no diarization",
    "--min_speakers 2": "Invalid value for '--min-speakers': there is no diarization",
    "--max_speakers 2": "--channels split",
    "--print_progress": "--print-progress True is not used: progress is on stderr",
    "--vad_method silero": "--vad-method silero is not used: use --vad-threshold",
    "--align_model X": "--align-model X is not used: word times",
    "--standard": "--standard True is not used: use --caption-profile netflix",
    "--sentence": "--sentence True is not used: segments read like sentences",
    "--chunk_size 30": "--chunk-size 30 is not used: a window has up to 30 s; --chunk-duration",
}


@pytest.mark.parametrize("line", RELATIVES)
def test_options_of_relatives_say_what_to_do(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["transcribe", *line.split(), "missing.wav"]) in (2, 5)
    assert RELATIVES[line] in capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSED)
def test_an_option_whose_purpose_would_be_lost_is_an_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["transcribe", "talk.wav", f"--{name}", "x"]) == 2
    assert f"Invalid value for '--{name}': {REFUSED[name]}" in capsys.readouterr().err


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("value", ["", "False"])
def test_the_default_of_such_an_option_is_accepted(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert parsed(f"--{name}={value}") == parsed()
    assert capsys.readouterr().err == ""


PASTED: dict[str, dict[str, object]] = {
    "--threads 0": {},
    "--threads None": {},
    "--beam_size None": {"beam_size": 1},
    "--batch_size None": {"batch_size": "auto"},
    "--max_line_width None --max_line_count None --max_words_per_line None": {},
    "--max_line_width 42 --max_line_count 2": {"max_line_width": 42, "max_line_count": 2},
    "--highlight_words True": {"highlight_words": True},
    "--highlight_words False": {},
    "--highlight_words=true": {"highlight_words": True},
    "--highlight-words": {"highlight_words": True},
    "--device cuda:0": {"device": "cuda"},
    "--device mps": {"device": "cpu"},
    "--model_directory ./ct2": {"model": "./ct2"},
    "--model_directory ./ct2 --model small": {"model": "./ct2"},
    "--model small --model_directory ./ct2": {"model": "./ct2"},
    "--model distil-large-v3 --language None": {"model": "distil-large-v3"},
    "-p True": {},
    "--pretty_json": {},
    "--temperature_increment_on_fallback None --best_of None": {"temperature_increment_on_fallback": 0},
    "--clip_timestamps 0 --suppress_tokens=": {},
    "--batched True --batch_size 16 --vad_filter True": {"batch_size": 16},
    "--initial_prompt Hello --verbose False --fp16 False": {"initial_prompt": "Hello"},
    "--hf_token= --speaker_num 2 --speaker_name SPEAKER": {},
}


@pytest.mark.parametrize("line", PASTED)
def test_lines_that_are_pasted_change_what_they_say(line: str) -> None:
    assert parsed(*line.split()) == parsed() | PASTED[line]


@pytest.mark.parametrize("before", [[], ["--"]])
def test_a_switch_without_a_value_leaves_the_recording_after_it(before: list[str]) -> None:
    context = transcribe_command.make_context("transcribe", ["--highlight-words", *before, "a.wav"], parent=_parent())
    assert (context.params["files"], context.params["highlight_words"]) == (("a.wav",), True)


def test_what_is_after_two_dashes_is_a_recording() -> None:
    context = transcribe_command.make_context("transcribe", ["--", "--highlight-words", "True"], parent=_parent())
    assert (context.params["files"], context.params["highlight_words"]) == (("--highlight-words", "True"), False)


def test_another_gpu_is_chosen_by_a_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["transcribe", "talk.wav", "--device", "cuda:1"]) == 2
    assert "'cuda:1': use --device cuda, and set CUDA_VISIBLE_DEVICES=1" in capsys.readouterr().err


def test_they_are_not_in_the_help() -> None:
    text = transcribe_command.get_help(click.Context(transcribe_command))
    assert "--best-of" not in text
    assert "--beam-size" in text


def test_a_long_value_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    parsed("--prefix", "x" * 5000)
    assert len(capsys.readouterr().err) < 2 * whisper_options._MAX_SHOWN


@pytest.mark.parametrize(
    "name,value",
    [
        ("temperature_increment_on_fallback", 0),
        ("no_speech_threshold", 1),
        ("logprob_threshold", -1000),
        ("compression_ratio_threshold", 1000),
    ],
)
def test_none_switches_a_limit_off(name: str, value: float) -> None:
    assert parsed(f"--{name}", "None")[name] == value


@pytest.mark.parametrize(
    "typed,code,message",
    [
        ("Mandarin", "zh", "--language Mandarin: transcribed as Chinese (zh)\n"),
        ("pt_BR", "pt", "--language pt_BR: transcribed as Portuguese (pt)\n"),
        ("Portuguese", "pt", ""),
        ("None", None, ""),
    ],
)
def test_a_language_that_is_mapped_gives_one_line(
    capsys: pytest.CaptureFixture[str], typed: str, code: str | None, message: str
) -> None:
    assert parsed("--language", typed)["language"] == code
    assert capsys.readouterr().err == message
