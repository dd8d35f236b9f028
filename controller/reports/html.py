"""Writes a run as one HTML file that needs nothing else: no network, no other file.

Touches: the templates and assets of this package. Everything from outside goes through templates that escape it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files

import jinja2
from markupsafe import Markup

from chunk_job.text import printable
from controller.reports.cost import amount
from controller.reports.figures import clock, lost_attempts, moment, ticks, took
from controller.reports.marks import BAR_WORDS, CHUNK_STATES, RUN_STATES
from controller.reports.run_view import RunView, Waveform
from controller.reports.words import Block

_COLUMNS = 1_200
"""Most columns of a waveform."""
_THIN = "\N{NARROW NO-BREAK SPACE}"
_BUFFERED = 16
"""Parts of a page that are written at once."""


def page(view: RunView, blocks: Iterable[Block] | None) -> Iterator[str]:
    """The page of a run, a part at a time. *blocks*: of its transcript; None: it has none."""
    template = environment().get_template("report.html")
    yield from document(template, style=asset("report.css"), script=asset("report.js"), view=view, blocks=blocks)


def document(template: jinja2.Template, *, style: str, script: str = "", **values: object) -> Iterator[str]:
    """A page that needs no other file, a part at a time; its policy allows only this style and this script."""
    policy = "; ".join(
        (
            "default-src 'none'",
            f"style-src '{digest(style)}'",
            *([f"script-src '{digest(script)}'"] if script else ()),
            "base-uri 'none'",
            "form-action 'none'",
        )
    )
    stream = template.stream(
        policy=policy,
        # Our own files: they are put between the tags as they are, and their digests are those of these bytes.
        style=Markup(style),  # noqa: S704
        script=Markup(script),  # noqa: S704
        **values,
    )
    stream.enable_buffering(_BUFFERED)
    yield from stream


@cache
def environment() -> jinja2.Environment:
    """The templates of this package."""
    return made_environment("controller.reports")


def made_environment(*packages: str) -> jinja2.Environment:
    """The templates of *packages*: every value in them is escaped, and an unknown name is an error."""
    made = jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(package) for package in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals.update(RUN_STATES=RUN_STATES, CHUNK_STATES=CHUNK_STATES, BAR_WORDS=BAR_WORDS)
    made.filters.update(
        clock=clock,
        share=lambda part: f"{100 * part:.0f}{_THIN}%",
        times=lambda speed: f"{speed:.{0 if speed >= 20 else 1}f}{_THIN}×",
        took=took,
        lost_attempts=lost_attempts,
        number=lambda count: f"{count:,}".replace(",", _THIN),
        place=lambda at, total: f"{100 * at / total:.3f}".rstrip("0").rstrip("."),
        wave=wave,
        ticks=ticks,
        moment=moment,
        printable=printable,
        amount=amount,
    )
    return made


def digest(text: str) -> str:
    """How a content security policy names an inline style or script."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def wave(waveform: Waveform, duration_ms: int) -> str:
    """The path of a waveform in a box of 1000 by 100: at most 1200 columns, from the lowest to the highest sample."""
    samples = memoryview(waveform.steps).cast("b")[: 2 * -(-duration_ms // waveform.step_ms)]
    each = max(1, -(-len(samples) // 2 // _COLUMNS))
    whole = duration_ms / (waveform.step_ms * each) or 1
    path = []
    for column, at in enumerate(range(0, len(samples) - 1, 2 * each)):
        step = samples[at : at + 2 * each].tolist()
        top, length = 50 - max(step[1::2]) / 2.56, (max(step[1::2]) - min(step[::2])) / 2.56
        # A line, also in silence.
        path.append(f"M{1000 * (column + 0.5) / whole:.1f} {top:.1f}v{max(length, 1):.1f}")
    return "".join(path)


@cache
def asset(name: str) -> str:
    """A style or a script of this package."""
    return (files("controller.reports") / "assets" / name).read_text(encoding="utf-8")
