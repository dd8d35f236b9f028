"""Options of openai-whisper, whisper-ctranslate2 and their relatives that people paste, and that have no effect here.

Touches: the terminal. Most are accepted, with one line about why they are not used. An option whose purpose would be
lost (a diarization, a live transcription, another model) is a usage error that says what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from controller.cli.switches import Switch
from controller.cli.terminal import print_message

_F = TypeVar("_F", bound=Callable[..., Any])

MODEL_DIRECTORY = f"{__name__}.model_directory"
"""Where a context has the value of ``--model_directory``, which replaces that of ``--model``."""

_MAX_SHOWN = 100
"""Most characters of a value in a message."""

_SWITCH = click.Choice(("True", "False", "None"), case_sensitive=False)
"""The value of a switch in Whisper."""

_LATER_STEP = "the decoder has Whisper's default for it"
_NOT_LIVE = "only files are transcribed"
_NO_SPEAKERS = "there is no diarization; --channels split: a speaker for each channel"
_WORDS = "word times come from the alignment, and punctuation stays with its word"
_SPEECH = "use --vad-threshold and --vad-min-silence-duration-ms"

SWITCHES = {
    "word-timestamps": "json has the times of all words",
    "verbose": "progress is on stderr; --quiet for none",
    "fp16": "True is --compute-type float16, False is --compute-type float32",
    "batched": "windows are decoded in batches; --batch-size 0: one by one",
    "carry-initial-prompt": "--initial-prompt is given to every window of a batch",
    "local-files-only": "nothing is fetched without --download",
    "multilingual": "the language is detected once for a recording",
    "pretty-json": "json has one layout",
    "print-progress": "progress is on stderr; --quiet for none",
    "sentence": "segments read like sentences; --caption-profile netflix: lines that end where a phrase ends",
    "standard": "use --caption-profile netflix: two lines of up to 42 columns",
    "print-colors": "text is written to files; json has the probability of each word",
    "suppress-blank": _LATER_STEP,
}
"""Options that take True or False, with the reason why they are not used."""

VALUES = {
    "align-model": "word times come from the alignment of the Whisper model",
    "append-punctuations": _WORDS,
    "best-of": "5 texts are sampled at a temperature above 0",
    "chunk-length": "a window has up to 30 s; --chunk-duration is for the length of a job's audio",
    "chunk-size": "a window has up to 30 s; --chunk-duration is for the length of a job's audio",
    "device-index": "set CUDA_VISIBLE_DEVICES to choose a GPU",
    "hallucination-silence-threshold": "--vad-filter skips silence",
    "language-detection-segments": "the language is detected on the first 30 s of speech",
    "language-detection-threshold": "the language is detected on the first 30 s of speech",
    "length-penalty": _LATER_STEP,
    "model-dir": "models are kept in the hub's cache; set HF_HOME to move it",
    "live-input-device": _NOT_LIVE,
    "live-input-device-sample-rate": _NOT_LIVE,
    "live-volume-threshold": _NOT_LIVE,
    "no-repeat-ngram-size": "a phrase that repeats itself is found by --compression-ratio-threshold",
    "patience": _LATER_STEP,
    "prefix": "use --initial-prompt",
    "prepend-punctuations": _WORDS,
    "prompt-reset-on-temperature": _LATER_STEP,
    "repetition-penalty": "a phrase that repeats itself is found by --compression-ratio-threshold",
    "speaker-name": _NO_SPEAKERS,
    "speaker-num": _NO_SPEAKERS,
    "suppress-tokens": _LATER_STEP,
    "vad-max-speech-duration-s": _SPEECH,
    "vad-method": _SPEECH,
    "vad-min-speech-duration-ms": _SPEECH,
    "vad-speech-pad-ms": _SPEECH,
}
"""Options with another value, with the reason why they are not used."""

_DIARIZATION = (
    "there is no diarization: leave it out; if each person has a channel of the recording, use --channels split"
)

REFUSED = {
    "diarize": _DIARIZATION,
    "hf-token": _DIARIZATION,
    "live-transcribe": "only files are transcribed: record to a file first",
    "max-speakers": _DIARIZATION,
    "min-speakers": _DIARIZATION,
}
"""Options whose purpose would be lost, with what to do instead. Their default values (empty, False) are accepted."""

_BARE = {*SWITCHES, "diarize", "live-transcribe"}
"""Options that may be without a value."""

_SHORT = {"pretty-json": ["-p"]}


def whisper_options(function: _F) -> _F:
    """Declare all of them. They are hidden in the help, are no variables, and reach no function."""
    for names, kind, callback in (
        (SWITCHES, _SWITCH, _unused),
        (VALUES, click.STRING, _unused),
        (REFUSED, click.STRING, _refused),
    ):
        for name in names:
            bare: dict[str, Any] = {"cls": Switch, "default": None} if name in _BARE else {}
            click.option(
                *_SHORT.get(name, []),
                f"--{name}",
                type=kind,
                callback=callback,
                hidden=True,
                expose_value=False,
                **bare,
            )(function)
    return click.option("--model-directory", callback=_keep_directory, is_eager=True, hidden=True, expose_value=False)(
        function
    )


def _keep_directory(ctx: click.Context, _: click.Parameter, value: str | None) -> None:
    ctx.meta[MODEL_DIRECTORY] = value


def _unused(_: click.Context, option: click.Parameter, value: str | None) -> None:
    name = option.opts[-1]
    if value is None or (name == "--word-timestamps" and value == "True"):
        return
    why = (SWITCHES | VALUES)[name[2:]]
    print_message(f"{name} {value[:_MAX_SHOWN]} is not used: {why}")


def _refused(_: click.Context, option: click.Parameter, value: str | None) -> None:
    if value not in (None, "", "False", "None"):
        raise click.BadParameter(REFUSED[option.opts[0][2:]])
