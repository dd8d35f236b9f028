"""The whole loop on a cluster in memory: its outcomes, and faults on the way."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from controller.domain.documents import Evidence
from controller.domain.keys import RunKeys
from controller.leadership.kubernetes_lease import DURATION_S
from controller.runners.kubernetes.labels import Identity, lease_name
from tests import fakes
from tests.kube import world as worlds
from tests.kube.kubelet import Life
from tests.kube.programs import WITH_RESULT
from tests.kube.world import Controller, World

RUN = fakes.RUN
KEYS = RunKeys(RUN)
CHUNKS = [Identity(RUN, span, 1) for span in range(3)]
INTAKE = Identity(RUN, None, 1)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with worlds.world(tmp_path) as world:
        yield world
        assert world.rules.broken == []


def failures(world: World) -> list[tuple[int | None, int, str]]:
    found = [Evidence.decode(world.store.get(entry.key)) for entry in world.store.list(KEYS.failures)]
    return [(item.span, item.attempt, item.failure) for item in found]


def is_clean(world: World) -> bool:
    """Whether nothing is left of the run on the cluster."""
    return not any(world.server.objects(kind) for kind in ("jobs", "leases", "pods"))


def verdicts(*controllers: Controller) -> list[str]:
    return [ended.verdict for one in controllers for ended in one.ended]


def test_a_run_is_cut_and_transcribed_by_jobs_and_nothing_is_left(world: World) -> None:
    one = world.start()
    world.run()
    assert verdicts(one) == ["complete"]
    assert world.rules.created == [INTAKE, *CHUNKS]
    assert is_clean(world)


def test_a_crash_costs_an_attempt_and_one_after_the_commit_costs_nothing(world: World) -> None:
    world.programs.fates = {(0, 1): Life(exit_code=139), (1, 1): Life(exit_code=139, message=WITH_RESULT)}
    one = world.start()
    world.run()
    assert verdicts(one) == ["complete"]
    assert failures(world) == [(0, 1, "NATIVE_CRASH")]
    assert sorted(who for who in world.rules.created if who.span is not None) == [
        (RUN, 0, 1),
        (RUN, 0, 2),
        (RUN, 1, 1),
        (RUN, 2, 1),
    ]


def test_a_killed_controller_leaves_its_jobs_to_the_next_one(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=60)}
    one = world.start()
    world.at(30, lambda: world.kill(one))
    world.run()
    assert world.server.objects("jobs")
    other = world.start()
    world.run()
    assert verdicts(one, other) == ["complete"]
    assert sorted(world.rules.created, key=str) == sorted([INTAKE, *CHUNKS], key=str), "each once"
    assert is_clean(world)


def test_a_controller_asked_to_stop_releases_its_lease_at_once(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=60)}
    one = world.start()
    world.at(30, lambda: setattr(one, "asked_to_stop", 15))
    world.run()
    stopped_s = world.s
    other = world.start()
    world.run(stopped_s + DURATION_S / 2)
    assert other.leases.runs == [RUN]
    world.run()
    assert verdicts(one, other) == ["complete"]


def test_one_of_two_controllers_works_and_the_other_takes_over_when_it_is_killed(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=60)}
    one, other = world.start(), world.start()
    world.at(20, lambda: world.kill(one))
    world.run()
    assert other.reporter.reported("is worked on by another process: following it")
    assert verdicts(other) == ["complete"]
    assert sorted(world.rules.created, key=str) == sorted([INTAKE, *CHUNKS], key=str), "each once"


def test_a_suspended_controller_that_was_replaced_changes_nothing_and_gives_the_same_verdict(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=90)}
    one, other = world.start(), world.start()
    world.at(20, lambda: setattr(one, "asleep_until_s", 60))
    world.run()
    assert verdicts(one, other) == ["complete", "complete"]
    assert is_clean(world)


def test_a_controller_suspended_until_the_run_ended_posts_no_refused_job_again(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=20, exit_code=139)}
    one, other = world.start(), world.start()
    world.at(15, lambda: setattr(world.server, "quota", 0))
    world.at(60, lambda: setattr(world.server, "quota", None))
    world.at(50, lambda: setattr(one, "asleep_until_s", 300))
    world.run()
    assert verdicts(other, one) == ["complete", "complete"]
    assert sum(who == Identity(RUN, 0, 2) for who in world.rules.created) == 1


def test_a_node_that_is_lost_costs_no_attempt_of_its_chunk(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=90)}
    one = world.start()
    world.at(20, lambda: world.kubelet.lose("node-1"))
    world.at(20, lambda: world.kubelet.lose("node-2"))
    world.at(300, lambda: world.kubelet.recover("node-1"))
    world.at(300, lambda: world.kubelet.recover("node-2"))
    world.run()
    assert verdicts(one) == ["complete"]
    assert {failure for _, _, failure in failures(world)} <= {"DISRUPTED.node_lost"}


def test_a_late_result_from_a_lost_node_is_found_before_its_chunk_is_tried_again(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=75), (1, 1): Life(runs_s=20)}
    one = world.start()
    for node in world.kubelet.nodes:
        world.at(14, partial(world.kubelet.lose, node))
        world.at(200, partial(world.kubelet.recover, node))
    world.at(20, lambda: setattr(world.server, "quota", 0))
    world.at(100, lambda: setattr(world.server, "quota", None))
    world.run()
    assert verdicts(one) == ["complete"]
    assert Identity(RUN, 0, 2) not in world.rules.created
    assert 80 < world.rules.committed[0] < 90


def test_a_deleted_pod_costs_no_attempt_and_a_deleted_job_neither(world: World) -> None:
    world.programs.fates = {(0, 1): Life(runs_s=60), (1, 1): Life(runs_s=60)}

    def delete() -> None:
        (_, pod) = world.server.objects("pods")
        world.server.remove("pods", pod["metadata"]["name"])
        (job, _) = world.server.objects("jobs")
        world.server.remove("jobs", job["metadata"]["name"])

    one = world.start()
    world.at(25, delete)
    world.run()
    assert verdicts(one) == ["complete"]
    assert sorted(failures(world)) == [(0, 1, "DISRUPTED.deleted"), (1, 1, "DISRUPTED.deleted")]


def test_a_deleted_lease_ends_the_run_and_all_of_its_jobs(world: World) -> None:
    world.programs.fates = {(0, 1): Life(exit_code=None)}
    one = world.start()
    world.at(25, lambda: world.server.remove("leases", lease_name(RUN)))
    world.run()
    assert verdicts(one) == ["cancelled"]
    assert failures(world) == []
    assert is_clean(world)


def test_a_quota_makes_jobs_wait_their_turn(world: World) -> None:
    world.server.quota = 1
    one = world.start()
    world.run()
    assert verdicts(one) == ["complete"]
    assert world.rules.created == [INTAKE, *CHUNKS]
    assert failures(world) == []


@pytest.mark.parametrize(
    "spoil",
    [
        lambda world: setattr(world.server, "delay_s", lambda event: float("inf")),
        lambda world: setattr(world.server, "delay_s", lambda event: 2.0),
        lambda world: world.every(1, world.server.compact),
    ],
    ids=["lost", "late", "expired"],
)
def test_a_watch_is_never_needed(world: World, spoil: Callable[[World], None]) -> None:
    spoil(world)
    one = world.start()
    world.run()
    assert verdicts(one) == ["complete"]
    assert world.rules.created == [INTAKE, *CHUNKS]
