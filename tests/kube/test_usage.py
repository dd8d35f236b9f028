"""The ledger of runs on a cluster in memory: what is paid are the times of their pods, whoever watched them."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from controller.domain.usage_documents import RunUsage
from controller.reports.stored_usage import stored_usage
from tests import fakes
from tests.kube import world as worlds
from tests.kube.kubelet import Life
from tests.kube.programs import WITH_RESULT
from tests.kube.world import World

USUAL = Life()
STEP_S = 1.5
"""For each time of a pod: a step of the simulation, and a second, to which nodes round."""


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds.world(tmp_path) as world:
        yield world


def used(world: World) -> RunUsage:
    found = stored_usage(world.store, fakes.RUN)
    assert found
    return found.usage


def paid(found: float | None, *lives: Life) -> bool:
    """Whether the time of these pods is paid, with their images."""
    expected_s = sum(life.starts_s + life.runs_s for life in lives)
    return found is not None and abs(found - expected_s) <= 2 * STEP_S * len(lives)


def test_pods_are_paid_with_their_images_and_the_intake_has_no_gpu(world: World) -> None:
    slow = Life(starts_s=40, runs_s=20)
    world.programs.fates = {(0, 1): slow, (1, 1): Life(exit_code=139), (2, 1): Life(exit_code=139, message=WITH_RESULT)}
    world.start()
    world.run()
    found = used(world)
    assert (found.state, found.attempts, found.failed_attempts) == ("complete", 5, 1)
    assert found.unknown.keys() <= {"gpu_s", "cpu_s"} | {"useful_s", "startup_s", "kernels_s", "commit_s"}
    assert found.pull_s == pytest.approx(40 + 4, abs=5 * STEP_S)
    assert paid(found.gpu_s, slow, *[USUAL] * 3)
    assert paid(found.cpu_s, USUAL)
    assert found.paid_s == (found.gpu_s or 0) + (found.cpu_s or 0)
    assert paid(found.failed_s, USUAL)
    assert found.transcribed_s == found.audio_s == 30


def test_a_job_that_ends_while_no_controller_watches_is_paid_as_long_as_it_ran(world: World) -> None:
    long = Life(runs_s=60)
    world.programs.fates = {(0, 1): long, (1, 1): Life(runs_s=60, exit_code=139)}
    one = world.start()
    world.at(30, lambda: world.kill(one))
    world.run()
    world.let_pass(600)
    world.start()
    world.run()
    found = used(world)
    assert (found.attempts, found.failed_attempts) == (5, 1)
    assert "paid_s" not in found.unknown
    assert paid(found.paid_s, long, long, *[USUAL] * 3)


def test_a_standby_continues_the_ledger_of_a_killed_leader(world: World) -> None:
    long = Life(runs_s=60)
    world.programs.fates = {(0, 1): long}
    one = world.start()
    world.start()
    world.at(20, lambda: world.kill(one))
    world.run()
    found = used(world)
    assert (found.attempts, found.failed_attempts) == (4, 0)
    assert "paid_s" not in found.unknown
    assert paid(found.paid_s, long, *[USUAL] * 3)


def test_what_was_on_a_lost_node_is_paid_until_its_pod_is_gone(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=900)}
    world.start()
    for node in world.kubelet.nodes:
        world.at(20, partial(world.kubelet.lose, node))
        world.at(300, partial(world.kubelet.recover, node))
    world.run()
    found = used(world)
    assert found.state == "complete"
    assert (found.failed_attempts, found.failed_s or 0) >= (1, 30), (
        "a silent node is marked as lost after half a minute"
    )
    assert found.paid_s is not None
    assert found.failed_s is not None
    # Chunk 2 has its result, and nobody can stop its job: it is paid until the controller gives it up.
    assert found.paid_s - found.failed_s == pytest.approx(3 * 5 + 23, abs=8 * STEP_S)
