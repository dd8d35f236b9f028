"""Writes an evaluation as one HTML file that needs nothing else, as the report of a run is.

Touches: the templates and assets of this package. Everything from outside goes through templates that escape it.
"""

from __future__ import annotations

from collections.abc import Iterator

from controller.evaluation.documents import Evaluation, headline
from controller.reports.figures import between, percent
from controller.reports.html import asset, document, environment

GENERATOR = '<meta name="generator" content="stenofleet evaluate">'
"""Near the beginning of each page."""


def page(found: Evaluation) -> Iterator[str]:
    """The page, a part at a time."""
    yield from document(
        environment().get_template("evaluation.html"),
        style=asset("report.css") + asset("evaluation.css"),
        found=found,
        headline=headline(found),
        percent=percent,
        between=between,
    )
