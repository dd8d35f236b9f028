"""How long people wait for the page: first paint on slow links, a transcript of ten hours, scrolling through it.

    python -m bench.page [--times 5]

A real service on a folder, without load, and Chromium on this machine. The browser's own throttling slows the link:
each request waits for the latency, and all of them share the throughput. Nothing is cached, except where that is said.
"""

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from playwright.sync_api import Page, expect

from bench.tables import machine, table
from tests.page import shown
from tests.page.browser import Windows, chromium
from tests.page.site import Site, serving

_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
_NAVIGATION = """() => {
  const one = performance.getEntriesByType("navigation")[0];
  const all = performance.getEntriesByType("resource").concat(one);
  const sent = all.reduce((sum, each) => sum + each.transferSize, 0);
  return [one.domContentLoadedEventEnd, one.transferSize / 1000, sent / 1000];
}"""
_SCROLL = """() => new Promise((done) => {
  const times = [];
  let last = performance.now();
  const step = (now) => {
    times.push(now - last);
    last = now;
    scrollBy(0, 1500);
    if (times.length < 300) requestAnimationFrame(step); else done(times.slice(1));
  };
  requestAnimationFrame(step);
})"""


class Link(NamedTuple):
    """A link between browser and service."""

    name: str
    kbit_s: int
    latency_ms: int


LINKS = (Link("400 kbit/s, 400 ms", 400, 400), Link("1.6 Mbit/s, 150 ms", 1_600, 150))


def throttle(page: Page, link: Link) -> None:
    bytes_s = link.kbit_s * 1000 / 8
    client = page.context.new_cdp_session(page)
    client.send("Network.enable")
    conditions = {"latency": link.latency_ms, "downloadThroughput": bytes_s, "uploadThroughput": bytes_s}
    client.send("Network.emulateNetworkConditions", {"offline": False, **conditions})


class Opened(NamedTuple):
    """What a page took."""

    paint_ms: float
    ready_ms: float
    """The document is whole, and its scripts have run."""
    page_kb: float
    all_kb: float


def opened(site: Site, windows: Windows, place: str, link: Link | None, *, cached: bool = False) -> Opened:
    page = site.signed_in(windows)
    if cached:
        page.goto("/new")
    if link:
        throttle(page, link)
    page.goto(place)
    page.wait_for_function(f"() => {_PAINT} > 0")
    figures = page.evaluate(_NAVIGATION)
    paint = page.evaluate(_PAINT)
    page.context.close()
    return Opened(paint, *figures)


def median(all_of: Sequence[Opened]) -> Opened:
    return Opened(*(statistics.median(values) for values in zip(*all_of, strict=True)))


def written(what: str, link: str, one: Opened) -> Sequence[str]:
    return (
        what,
        link,
        f"{one.paint_ms / 1000:.2f} s",
        f"{one.ready_ms / 1000:.2f} s",
        f"{one.page_kb:.0f} KB",
        f"{one.all_kb:.0f} KB",
    )


def paints(site: Site, windows: Windows, times: int) -> None:
    rows = []
    views = {
        "list": "/",
        "new run": "/new",
        "a run": f"/runs/{site.complete()}",
        "ten hours": f"/runs/{shown.ten_hours(site)}",
    }
    for name, place in views.items():
        for link, cached in [*((link, cached) for link in LINKS for cached in (False, True)), (None, False)]:
            figures = median([opened(site, windows, place, link, cached=cached) for _ in range(times)])
            said = link.name if link else "none"
            rows.append(written(name, f"{said}{', files cached' if cached else ''}", figures))
            print(*rows[-1], flush=True)
    print(machine())
    print(table(["page", "throttled to", "first paint", "whole, scripts run", "its HTML", "all"], rows))


def scrolled(site: Site, windows: Windows) -> None:
    page = site.signed_in(windows)
    page.goto(f"/runs/{shown.ten_hours(site)}")
    expect(page.locator("#words li").last).to_be_attached()
    times: list[float] = sorted(page.evaluate(_SCROLL))
    share = sum(1 for time in times if time > 50) / len(times)
    print(
        f"Scrolling ten hours, 1,500 pixels a frame, 300 frames: median {times[len(times) // 2]:.0f} ms,"
        f" p95 {times[int(0.95 * len(times))]:.0f} ms, longest {times[-1]:.0f} ms, {100 * share:.0f} % over 50 ms"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=5, help="how often each page is opened; the median counts")
    options: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder, chromium() as browser, serving(Path(folder) / "site") as site:
        windows = Windows(browser)
        scrolled(site, windows)
        paints(site, windows, options.times)
        windows.close()
        if windows.faults.found:
            print("faults:", *windows.faults.found, sep="\n  ")


if __name__ == "__main__":
    main()
