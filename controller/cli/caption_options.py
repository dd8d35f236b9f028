"""Options of captions, and their conversion into a style.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import click
from pydantic import TypeAdapter, ValidationError

from chunk_job.segment import MOST_CHANNELS, Speaker
from controller.cli.option_values import Count, Fraction
from controller.cli.options import option, together
from controller.cli.switches import Switch
from controller.domain.captions import NARROWEST, PROFILES, WIDEST, CaptionStyle, Profile
from controller.domain.output import PLAIN_NAME, checked_template
from controller.domain.plan import ChannelChoice
from controller.errors import UsageProblem


class CaptionOptions(NamedTuple):
    """What the options choose."""

    style: CaptionStyle | None
    """None: the cues are the model's segments."""
    names: str
    """The template of the names of all files."""
    speakers: tuple[str, ...] = ()
    """Names of the speakers of channel 1, 2, …"""


_F = TypeVar("_F", bound=Callable[..., Any])

NO_CAPTIONS = CaptionOptions(None, PLAIN_NAME)


def _parse_template(_: click.Context, __: click.Parameter, value: str) -> str:
    try:
        return checked_template(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def _parse_speakers(_: click.Context, __: click.Parameter, value: str | None) -> tuple[str, ...]:
    """Parse names with commas between them."""
    names = tuple(" ".join(name.split()) for name in value.split(",")) if value is not None else ()
    if len(names) > MOST_CHANNELS:
        raise click.BadParameter(f"{len(names)} names: at most {MOST_CHANNELS} channels are transcribed one by one")
    try:
        return TypeAdapter(tuple[Speaker, ...]).validate_python(names)
    except ValidationError as error:
        place = error.errors()[0]["loc"][0]
        raise click.BadParameter(
            f"name {int(place) + 1} of {len(names)} is empty, too long, or has control characters: write NAME,NAME,…"
        ) from None


def check_speakers(captions: CaptionOptions, channels: ChannelChoice) -> None:
    """Raise :class:`UsageProblem` for names of speakers whose channels are mixed."""
    if captions.speakers and channels != "split":
        raise UsageProblem(
            f"--speaker-names: with --channels {channels}, the speakers are not told apart", "add --channels split"
        )


def _limits(declare: Callable[..., Callable[[Any], Any]]) -> Callable[[_F], _F]:
    return together(
        declare("--max-line-width", type=Count(NARROWEST, WIDEST), metavar="N",
                help="Columns of a line; wide characters take two."),
        declare("--max-line-count", type=Count(1, 4), metavar="N", help="Lines of a cue."),
        declare("--max-words-per-line", type=Count(1, WIDEST), metavar="N", help="Words of a line."),
        declare("--max-cue-duration", type=Fraction(0.5, 60), metavar="SECONDS", help="Longest display of a cue."),
        declare("--min-cue-duration", type=Fraction(0.02, 60), metavar="SECONDS", help="Shortest display of a cue."),
        declare("--max-cps", type=Fraction(1, 1000), metavar="N", help="Wanted reading speed, in columns per second."),
        declare("--min-gap", type=Fraction(0, 10), metavar="SECONDS", help="Shortest time between two cues."),
    )  # fmt: skip


limit_options = _limits(click.option)
"""The limits as options of a check: a setting for ``transcribe`` must not change what a check of a file finds."""

caption_options = together(
    option("--caption-profile", type=click.Choice(list(PROFILES)), default="whisper", show_default=True,
           help="Cues of srt, vtt, ass and lrc. whisper: as the model's segments; broadcast: 37 columns × 2 lines;"
           " netflix: 42 × 2. The next options change its limits."),
    _limits(option),
    option("--highlight-words", cls=Switch, help="Mark each word while it is spoken."),
    option("--name-template", callback=_parse_template, default=PLAIN_NAME, show_default=True, metavar="TEMPLATE",
           help="Names of the files; {language} is the code of the transcript's language, und without speech."),
    option("--speaker-names", callback=_parse_speakers, metavar="NAME,NAME,…",
           help="Names of the speakers of channel 1, 2, …, with --channels split (default: Speaker 1, …)."),
)  # fmt: skip
"""Options of commands that write captions."""

NAMES = (
    "caption_profile", "max_line_width", "max_line_count", "max_words_per_line", "max_cue_duration",
    "min_cue_duration", "max_cps", "min_gap", "highlight_words",
)  # fmt: skip
_MS = {"max_cue_duration": "max_cue_ms", "min_cue_duration": "min_cue_ms", "min_gap": "min_gap_ms"}


def taken(values: dict[str, Any]) -> CaptionOptions:
    """Remove the options of captions from *values*, and return what they choose.

    Raises :class:`UsageProblem` if the limits contradict each other.
    """
    return CaptionOptions(_taken_style(values), values.pop("name_template"), values.pop("speaker_names"))


def _taken_style(values: dict[str, Any]) -> CaptionStyle | None:
    own = {name: values.pop(name) for name in NAMES}
    profile: Profile = own.pop("caption_profile")
    if profile == "whisper" and not _given(own):
        return None
    return style_of(profile, own, "change --caption-profile or the limits after it (see --help)")


def style_of(profile: Profile, own: dict[str, Any], advice: str) -> CaptionStyle:
    """A profile with the limits that are given. Raises :class:`UsageProblem` if they contradict each other."""
    try:
        return CaptionStyle.model_validate(PROFILES[profile].model_dump() | _given(own))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        message = first["msg"].removeprefix("Value error, ")
        where = ".".join(map(str, first["loc"]))
        raise UsageProblem(f"captions: {where}{': ' if where else ''}{message}", advice) from None


def _given(own: dict[str, Any]) -> dict[str, Any]:
    """The fields of a style that options set."""
    return {
        _MS.get(name, name): round(value * 1000) if name in _MS else value
        for name, value in own.items()
        if value is not None and value is not False
    }
