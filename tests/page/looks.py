"""How a view must look in every appearance: axe-core finds nothing, nothing is cut off at the side, and a picture.

Touches: files in ``build/pages``, which people look at.
"""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Page

from tests.page.browser import NARROW, WIDE
from tests.testbed import axe

PICTURES = Path(os.environ.get("STENOFLEET_TEST_PICTURES") or Path(__file__).parents[2] / "build" / "pages")
RULES = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
_HIGHEST = 6_000
"""Pixels of a picture: more cannot be looked at."""


class Look(NamedTuple):
    """An appearance: the size of the window, and what the user has set in the system."""

    size: tuple[int, int]
    media: Mapping[str, Any]


LOOKS: Mapping[str, Look] = {
    "wide": Look(WIDE, {}),
    "narrow": Look(NARROW, {}),
    "dark": Look(WIDE, {"color_scheme": "dark"}),
    "contrast": Look(WIDE, {"forced_colors": "active"}),
}
USUAL: Mapping[str, Any] = {"color_scheme": "light", "forced_colors": "none", "reduced_motion": "reduce"}
"""In the other tests, things may move."""


def check_looks(page: Page, name: str, looks: Sequence[str] = tuple(LOOKS), *, trim: str = "") -> None:
    """Check the open page in each of *looks*; pictures have *name*.

    *trim*: a selector of elements that are removed before: axe-core takes minutes for the words of ten hours. Then the
    pictures are those of the window, and of the page as it was.
    """
    wrong = []
    if trim:
        for look in looks:
            set_look(page, look)
            picture(page, f"{name}-{look}", whole=False)
        page.evaluate("(some) => document.querySelectorAll(some).forEach((one) => one.remove())", trim)
    else:
        lay_out_all(page)
    for look in looks:
        set_look(page, look)
        if not trim:
            picture(page, f"{name}-{look}")
        # The system chooses the colours then, and axe-core sees those of the page.
        found = [] if look == "contrast" else violations(page)
        wrong += [f"{look}: {one}" for one in (*found, *cut_off(page), *moving(page))]
    set_look(page, "wide")
    assert not wrong, "\n".join(wrong)


def set_look(page: Page, look: str) -> None:
    """Change the appearance of an open page."""
    size, media = LOOKS[look]
    page.emulate_media(**{**USUAL, **media})
    page.set_viewport_size({"width": size[0], "height": size[1]})


def lay_out_all(page: Page) -> None:
    """Lay out also what is far outside of the window, so that pictures show it."""
    page.evaluate(
        """() => {
          const sheet = new CSSStyleSheet();
          sheet.replaceSync("* { content-visibility: visible !important }");
          document.adoptedStyleSheets.push(sheet);
        }"""
    )


def picture(page: Page, name: str, *, whole: bool = True) -> None:
    """Write a picture of the window, or of the *whole* page from its beginning."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    if not whole:
        page.screenshot(path=PICTURES / f"{name}.png")
        return
    width, height = page.evaluate("[document.documentElement.clientWidth, document.documentElement.scrollHeight]")
    clip: Any = {"x": 0, "y": 0, "width": width, "height": min(height, _HIGHEST)}
    page.screenshot(path=PICTURES / f"{name}.png", full_page=True, clip=clip, animations="allow")


@cache
def _rules() -> str:
    return axe.fetch().read_text(encoding="utf-8")


def results(page: Page) -> Mapping[str, Any]:
    """What axe-core says of the page as it is now."""
    if not page.evaluate("'axe' in window"):
        # By the debugger, which the page's policy does not stop.
        page.evaluate(_rules())
    found: Mapping[str, Any] = page.evaluate(
        "(tags) => axe.run({runOnly: tags, resultTypes: ['violations', 'incomplete']})", RULES
    )
    return found


def violations(page: Page) -> Sequence[str]:
    """The violations of WCAG 2.2 AA that axe-core finds, a line each."""
    return [
        f"{rule['id']}: {rule['help']}: {node['target']} {node['html'][:200]}"
        for rule in results(page)["violations"]
        for node in rule["nodes"][:3]
    ]


def cut_off(page: Page) -> Sequence[str]:
    """Whether readers must scroll to the side: what is wider than the window, outside of what scrolls by itself."""
    found: Sequence[str] = page.evaluate(
        """() => {
          const root = document.documentElement, wide = root.clientWidth;
          if (root.scrollWidth <= wide) return [];
          const out = Array.from(document.body.querySelectorAll("*"))
            .filter((one) => one.getBoundingClientRect().right > wide + 1
              || (one.scrollWidth > wide + 1 && getComputedStyle(one).overflowX === "visible"))
            .map((one) => `wider than the window: ${one.tagName} ${one.id} ${one.className}`);
          return out.length ? out.reverse().slice(0, 8) : ["wider than the window"];
        }"""
    )
    return found


def moving(page: Page) -> Sequence[str]:
    """What moves by itself: the user wants that nothing does."""
    found: Sequence[str] = page.evaluate(
        """() => document.getAnimations()
          .filter((one) => one.playState === "running" && Number(one.effect?.getComputedTiming().duration) > 50)
          .map((one) => `moves: ${one.effect.target?.tagName} ${one.animationName ?? one.transitionProperty}`)"""
    )
    return found
