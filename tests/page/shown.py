"""The runs that the tests of pages look at."""

from collections.abc import Callable, Mapping

from tests.page.site import Site, run_id
from tests.shown_runs import MARKUP, HostileRun, ShownRun


def partial(site: Site) -> str:
    run = ShownRun(words=400, lost=(2,), warnings=("it may be wrong",), run=run_id("partial"))
    return site.shown("partial", run, "partial", labels={"show": "evening", "desk": "news"})


def failed(site: Site) -> str:
    run = ShownRun(lost=(1,), done=1, run=run_id("failed"), name="Interview 7.mov")
    return site.shown("failed", run, "failed")


def ten_hours(site: Site) -> str:
    run = ShownRun(chunks=50, words=90_000, failed=(7, 31), run=run_id("ten hours"), name="Council, whole day.mp4")
    return site.shown("ten hours", run, "complete")


def hostile(site: Site) -> str:
    labels = {"show": MARKUP}
    return site.shown("hostile", HostileRun(run=run_id("hostile")), "complete", labels=labels)


def silent(site: Site) -> str:
    run = ShownRun(chunks=1, words=0, run=run_id("silent"), name="Empty room.wav")
    return site.shown("silent", run, "complete")


RUNS: Mapping[str, Callable[[Site], str]] = {
    "complete": Site.complete,
    "partial": partial,
    "failed": failed,
    "damaged": Site.damaged,
    "hostile": hostile,
    "silent": silent,
}
