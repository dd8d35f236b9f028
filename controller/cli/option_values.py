"""Values of options: checks what was typed, and converts it to typed values.

Touches: the terminal, for a value that is used in another way than it was typed; whether paths exist is looked up.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

import click

from chunk_job.names import LANGUAGE_ALIASES, LANGUAGES, language_code, mapped_language, near
from controller.cli.terminal import print_message
from controller.cli.whisper_options import MODEL_DIRECTORY
from controller.domain.output import Format
from controller.domain.plan import MOST_CLIPS, Clip
from controller.transcript.formats import FORMATS

SMALLEST_STEP = 0.01
"""Smallest increment of the fallback temperatures: each of them may decode a window once more."""

MOST_AUDIO_S = 1000 * 3600
"""The longest recording that is cut, in seconds."""

LARGEST_BATCH = 256
"""Most windows that are decoded together."""


class Fraction(click.FloatRange):
    """A number in a range. Rejects ``nan``, which click accepts in every range."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        return self.fail(f"{value} is not a number", param, ctx) if math.isnan(found) else found


class Limit(Fraction):
    """A number in a range, or Whisper's ``None``: the limit that has no effect."""

    def __init__(self, least: float, most: float, *, none: float) -> None:
        super().__init__(least, most)
        self._none = none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(self._none if value == "None" else value, param, ctx)


class Count(click.IntRange):
    """A whole number in a range, or Whisper's ``None``: the number that it stands for, or as if it was not given."""

    def __init__(self, least: int, most: int, *, none: int | None = None, zero_is_none: bool = False) -> None:
        super().__init__(least, most)
        self._none = none
        self._zero_is_none = zero_is_none

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "None" or (self._zero_is_none and value in ("0", 0)):
            return self._none
        return super().convert(value, param, ctx)


class WordOrNumber(click.IntRange):
    """One of some words, or a whole number in a range. Whisper's ``None`` is ``auto``, where that is one of them."""

    def __init__(self, *words: str, least: int, most: int) -> None:
        super().__init__(least, most)
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "None" and "auto" in self._words:
            return "auto"
        if value in self._words:
            return value
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = ", ".join(self._words)
            return self.fail(f"{value!r} is none of {words} or a number from {self.min} to {self.max}", param, ctx)


class Place(click.Path):
    """A file, a folder or a URL, there or not. Rejects a path that the system cannot look up, and says why.

    In a folder that this user may not enter, or with a name that is too long, each later look would fail.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        found = super().convert(value, param, ctx)
        if "://" in str(value):
            return found
        try:
            Path(value).exists()
        except OSError as error:
            self.fail(f"{value}: the system cannot look it up: {error.strerror}", param, ctx)
        return found


class Device(click.Choice[str]):
    """``auto``, ``cuda`` or ``cpu``. Prints a message for the names of PyTorch that can be mapped to one of them."""

    def __init__(self) -> None:
        super().__init__(("auto", "cuda", "cpu"))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "cuda:0":
            return "cuda"
        if value == "mps":
            print_message("--device mps: CTranslate2 does not use the GPUs of Apple: the CPU is used")
            return "cpu"
        if str(value).startswith("cuda:"):
            number = str(value).removeprefix("cuda:")[:10]
            return self.fail(f"{value!r}: use --device cuda, and set CUDA_VISIBLE_DEVICES={number}", param, ctx)
        return super().convert(value, param, ctx)


def parse_language(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
    """Parse a language code or an English name; ``auto`` means detection (None), as Whisper's ``None`` does.

    Prints a message for a name or a tag that Whisper has no language of its own for: ``Mandarin``, ``pt-BR``.
    """
    if value is None or value.lower() in ("auto", "none"):
        return None
    if code := language_code(value):
        return code
    if code := mapped_language(value):
        print_message(f"--language {value[:100]}: transcribed as {LANGUAGES[code].title()} ({code})")
        return code
    meant = near(value, (*LANGUAGES.values(), *LANGUAGE_ALIASES))
    hint = f"is {meant.title()} meant?" if meant else "use a code like pt or a name like Portuguese"
    raise click.BadParameter(f"Whisper knows no language {value!r}: {hint}")


def text(*, least: int = 0, most: int) -> Callable[[click.Context, click.Parameter, str | None], str | None]:
    """Return a callback that accepts only text that documents can hold: an argument can be any bytes of any length."""

    def check(_: click.Context, __: click.Parameter, value: str | None) -> str | None:
        if value is not None and not least <= len(value) <= most:
            raise click.BadParameter(f"it has {len(value)} characters, and may have {least} to {most}")
        if value and value.encode(errors="replace").decode() != value:
            raise click.BadParameter("it is not UTF-8")
        return value

    return check


def parse_model(ctx: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """Parse the name or the folder of a model; the folder of ``--model_directory`` comes first, as there."""
    return text(least=1, most=4096)(ctx, option, ctx.meta.get(MODEL_DIRECTORY) or value)


def parse_step(_: click.Context, __: click.Parameter, value: float) -> float:
    """Accept 0 or a large enough increment of the temperatures."""
    if 0 < value < SMALLEST_STEP:
        raise click.BadParameter(f"{value} is below {SMALLEST_STEP}: use 0 for no fallback")
    return value


def parse_batch_size(
    _: click.Context, __: click.Parameter, value: Literal["auto"] | int
) -> Literal["auto", "sequential"] | int:
    """Convert 0 to its name in documents: windows are decoded one after the other."""
    return value or "sequential"


def parse_clips(_: click.Context, __: click.Parameter, value: str) -> tuple[Clip, ...]:
    """Parse ``START,END,START,END,…`` in seconds; a last START without END is to the end of the recording.

    Clips that touch are one. All of the recording is the same as no clips.
    """
    times = [_parse_time_ms(part) for part in value.split(",")] if value else []
    if len(times) > 2 * MOST_CLIPS:
        raise click.BadParameter(f"{len(times)} times: at most {MOST_CLIPS} clips")
    clips: list[Clip] = []
    for start_ms, end_ms in itertools.zip_longest(times[::2], times[1::2]):
        if end_ms is not None and end_ms <= start_ms:
            raise click.BadParameter(
                f"a clip ends at {end_ms / 1000:g} s, not after its start at {start_ms / 1000:g} s"
            )
        before_ms = clips[-1].end_ms if clips else None
        if before_ms is not None and start_ms < before_ms:
            raise click.BadParameter(
                f"a clip starts at {start_ms / 1000:g} s, before the end of the one before it at {before_ms / 1000:g} s"
            )
        touches = before_ms == start_ms
        clips.append(Clip(start_ms=clips.pop().start_ms if touches else start_ms, end_ms=end_ms))
    return () if clips == [Clip(start_ms=0, end_ms=None)] else tuple(clips)


def _parse_time_ms(text: str) -> int:
    try:
        seconds = float(text)
    except ValueError:
        raise click.BadParameter(f"{text[:100]!r} is not a number of seconds: write START,END,START,END,…") from None
    if not 0 <= seconds <= MOST_AUDIO_S:
        raise click.BadParameter(f"{text[:100]} is not between 0 and {MOST_AUDIO_S} seconds")
    return round(seconds * 1000)


def parse_formats(_: click.Context, __: click.Parameter, value: str) -> tuple[Format, ...]:
    """Parse ``all``, or one or more formats separated by commas."""
    wanted = [part.strip().lower() for part in value.split(",") if part.strip()]
    if wanted == ["all"]:
        return tuple(FORMATS)
    formats: tuple[Format, ...] = get_args(Format)
    unknown = [part for part in wanted if part not in formats]
    if unknown or not wanted:
        raise click.BadParameter(f"no format {', '.join(unknown) or value!r}: use all, or some of {', '.join(formats)}")
    return tuple(known for part in dict.fromkeys(wanted) for known in formats if known == part)
