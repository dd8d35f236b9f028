"""Runs on a cluster with random disturbances: none is lost, nothing is done twice, nothing is left.

The invariants of an active run are checked by ``world.py``: a Job for a span whose result is there, two Jobs that
work on one span, a change without the Lease. A seed gives one schedule, so a failing test fails again.
"""

import http
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest

from controller.domain.keys import RunKeys
from controller.runners.kubernetes.manifest import Owner, job_document
from tests import fakes
from tests.kube import cases
from tests.kube import world as worlds
from tests.kube.kubelet import Life
from tests.kube.programs import WITH_RESULT
from tests.kube.wire import Refusal, Request, no_answer
from tests.kube.world import World

KEYS = RunKeys(fakes.RUN)
CONTROLLERS = 25
"""The maximum number of commands until the run has ended, as each may be stopped."""

RESTART_S = 5.0
MEMORY = next((folder for folder in ("/dev/shm",) if Path(folder).is_dir()), None)
"""A folder in memory, if the machine has one."""

QUIET_S = 400.0
"""Seconds after which there are no more disturbances."""


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """A disturbance. *which* selects the target, *lasts_s* is the duration; some kinds use neither."""

    kind: str
    at_s: int
    which: int
    lasts_s: int


def kill(world: World, it: Disturbance) -> None:
    if alive := world.alive():
        world.kill(alive[it.which % len(alive)])


def stop(world: World, it: Disturbance) -> None:
    for one in world.alive()[it.which :]:
        one.asked_to_stop = 15


def sleep(world: World, it: Disturbance) -> None:
    if alive := world.alive():
        alive[it.which % len(alive)].asleep_until_s = world.s + it.lasts_s


def freeze(world: World, it: Disturbance) -> None:
    if alive := world.alive():
        alive[it.which % len(alive)].freezes_s = it.lasts_s


def leave_over(world: World, it: Disturbance) -> None:
    """A Job of an older round with another task than the present one."""
    job = replace(cases.chunk(it.which, sha256="1" * 64), task_key=KEYS.task(it.which))
    taken = {one["metadata"]["name"] for one in world.server.objects("jobs")}
    for lease in world.server.objects("leases"):
        owner = Owner(name=lease["metadata"]["name"], uid=lease["metadata"]["uid"])
        document = job_document(job, cases.OPTIONS, owner)
        if document["metadata"]["name"] not in taken:
            world.server.put("jobs", document)


def start(world: World, it: Disturbance) -> None:
    if world.alive():
        world.start()


def lose_node(world: World, it: Disturbance) -> None:
    node = world.kubelet.nodes[it.which % 2]
    world.kubelet.lose(node)
    world.at(world.s + 3 * it.lasts_s, lambda: world.kubelet.recover(node))


def delete_pod(world: World, it: Disturbance) -> None:
    if pods := world.server.objects("pods"):
        world.server.remove("pods", pods[it.which % len(pods)]["metadata"]["name"])


def delete_job(world: World, it: Disturbance) -> None:
    if jobs := world.server.objects("jobs"):
        world.server.remove("jobs", jobs[it.which % len(jobs)]["metadata"]["name"])


def refuse(status: http.HTTPStatus) -> Callable[[World, Disturbance], None]:
    """Refuse some or all requests with this status."""

    def disturb(world: World, it: Disturbance) -> None:
        asked: list[Request] = []

        def answer(request: Request) -> None:
            asked.append(request)
            if len(asked) % (it.which + 1) == 0:
                raise Refusal(status, "disturbed", retry_after_s=it.which or None)

        world.disturb = answer
        world.at(world.s + it.lasts_s, lambda: setattr(world, "disturb", lambda request: None))

    return disturb


def lose_requests(world: World, it: Disturbance) -> None:
    def lose(request: Request) -> None:
        raise no_answer()

    world.disturb = lose
    world.at(world.s + it.lasts_s, lambda: setattr(world, "disturb", lambda request: None))


def lose_answers(world: World, it: Disturbance) -> None:
    """Do requests without an answer, mainly changes."""

    def lose(request: Request) -> None:
        if request.verb in ("create", "update", "delete") or it.which == 0:
            raise no_answer()

    world.disturb_answer = lose
    world.at(world.s + it.lasts_s, lambda: setattr(world, "disturb_answer", lambda request: None))


def lag(world: World, it: Disturbance) -> None:
    world.server.lag(behind=True)
    world.at(world.s + it.lasts_s, lambda: world.server.lag(behind=False))


def spoil_watch(world: World, it: Disturbance) -> None:
    world.server.delay_s = lambda event: (0.5, 2.0, float("inf"), float("inf"))[it.which]
    world.at(world.s + it.lasts_s, lambda: setattr(world.server, "delay_s", lambda event: 0.0))


def compact(world: World, it: Disturbance) -> None:
    for second in range(it.lasts_s):
        world.at(world.s + second, world.server.compact)


def fill_quota(world: World, it: Disturbance) -> None:
    world.server.quota = it.which
    world.at(world.s + it.lasts_s, lambda: setattr(world.server, "quota", None))


KINDS: Mapping[str, Callable[[World, Disturbance], None]] = {
    "kill": kill,
    "stop": stop,
    "sleep": sleep,
    "freeze": freeze,
    "leave over": leave_over,
    "start": start,
    "lose node": lose_node,
    "delete pod": delete_pod,
    "delete job": delete_job,
    "429": refuse(http.HTTPStatus.TOO_MANY_REQUESTS),
    "500": refuse(http.HTTPStatus.INTERNAL_SERVER_ERROR),
    "lose requests": lose_requests,
    "lose answers": lose_answers,
    "lag": lag,
    "watch": spoil_watch,
    "compact": compact,
    "quota": fill_quota,
}
THEMES: Mapping[str, tuple[str, ...]] = {
    "anything": tuple(KINDS),
    "two controllers": ("start", "freeze", "sleep", "kill", "stop", "start", "freeze", "delete pod"),
    "a bad server": ("429", "500", "lose requests", "lose answers", "lag", "watch", "compact", "kill", "leave over"),
    "a bad cluster": ("lose node", "delete pod", "delete job", "quota", "lag", "kill"),
}
LIVES = (
    Life(exit_code=139),
    Life(exit_code=139, message=WITH_RESULT),
    Life(exit_code=None),
    Life(runs_s=30),
    Life(runs_s=90),
    Life(starts_s=30),
)
SEEDS = 12


def schedule(seed: str, kinds: Sequence[str]) -> tuple[dict[tuple[int | None, int], Life], list[Disturbance]]:
    """The outcomes of some jobs, and the disturbances meanwhile."""
    chance = random.Random(seed)
    fates = {
        (chance.choice((None, 0, 1, 2)), chance.randint(1, 2)): chance.choice(LIVES)
        for _ in range(chance.randint(0, 5))
    }
    disturbed = [
        Disturbance(
            kind=chance.choice(kinds),
            at_s=chance.randint(0, 80),
            which=chance.randint(0, 3),
            lasts_s=chance.randint(1, 60),
        )
        for _ in range(chance.randint(2, 10))
    ]
    return fates, disturbed


def verdicts(world: World) -> list[str]:
    return [ended.verdict for one in world.controllers for ended in one.ended]


@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("theme", THEMES)
def test_a_disturbed_run_ends_complete_and_nothing_is_done_twice_or_left(theme: str, seed: int) -> None:
    random.seed(f"{theme} {seed}")  # the code under test draws random numbers
    fates, disturbed = schedule(f"{theme} {seed}", THEMES[theme])
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder, worlds.world(Path(folder), fates) as world:
        world.programs.usual = Life(runs_s=12)
        for it in disturbed:
            world.at(it.at_s, partial(KINDS[it.kind], world, it))
        while "complete" not in verdicts(world) and len(world.controllers) < CONTROLLERS:
            world.start()
            world.run()
            world.let_pass(RESTART_S)
        world.let_pass(QUIET_S)
        assert set(verdicts(world)) == {"complete"}
        assert world.store.stat(KEYS.marker("complete"))
        assert [job["metadata"]["name"] for job in world.server.objects("jobs")] == []
        assert world.server.objects("pods") == []
        # A command waits only for a server that it has reached once.
        assert {one.problem for one in world.controllers if one.reporter.shown} <= {"", "interrupted"}
        # Who is killed, or meets a server that does not answer, cannot release its Lease …
        if not any(one.killed or one.ended_s in world.failed_s for one in world.controllers):
            assert world.server.objects("leases") == []
        created = list(world.rules.created)
        assert verdict_of_one_more(world) == ["complete"]
        assert world.rules.created == created, "a run that is complete costs nothing"
        assert world.server.objects("leases") == [], "… but the same command given again does"
        assert world.rules.broken == []


def verdict_of_one_more(world: World) -> list[str]:
    """The verdict of the same command, given again."""
    world.start()
    world.run()
    return verdicts(world)[-1:]
