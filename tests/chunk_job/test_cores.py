"""Processors by affinity and by the quotas of control groups, in trees of files like the kernel's."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from chunk_job import cores

CGROUPS = "sys/fs/cgroup"


@pytest.fixture(autouse=True)
def sixty_four(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)), raising=False)


def lay(root: Path, mine: str, files: Mapping[str, str]) -> Path:
    """A machine whose process is in the groups *mine*, with these *files* below the mount."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(mine)
    for name, text in files.items():
        path = root / CGROUPS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


V1 = "4:memory:/x\n3:cpu,cpuacct:/docker/0af\n0::/\n"


@pytest.mark.parametrize(
    "mine,files,count",
    [
        # docker run --cpus=2, with a namespace of its own
        ("0::/\n", {"cpu.max": "200000 100000\n"}, 2),
        ("0::/\n", {"cpu.max": "max 100000\n"}, 64),
        # a part of a processor counts as one
        ("0::/\n", {"cpu.max": "250000 100000\n"}, 3),
        ("0::/\n", {"cpu.max": "1000 100000\n"}, 1),
        # more than the machine has
        ("0::/\n", {"cpu.max": "9900000 100000\n"}, 64),
        # a slice above the service has the limit; the smallest of several counts
        ("0::/a.slice/b.service\n", {"a.slice/cpu.max": "400000 100000", "a.slice/b.service/cpu.max": "max 100000"}, 4),
        ("0::/a/b\n", {"a/cpu.max": "300000 100000", "a/b/cpu.max": "800000 100000"}, 3),
        # a sibling group does not count
        ("0::/a\n", {"a/cpu.max": "max 100000", "b/cpu.max": "100000 100000"}, 64),
        # the host's path in a container that has only its own group mounted
        ("0::/docker/0af\n", {"cpu.max": "200000 100000"}, 2),
        ("0::/../../other\n", {"cpu.max": "200000 100000"}, 2),
        # version 1
        (V1, {"cpu,cpuacct/docker/0af/cpu.cfs_quota_us": "150000\n",
              "cpu,cpuacct/docker/0af/cpu.cfs_period_us": "100000\n"}, 2),
        (V1, {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        (V1, {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 64),
        (V1, {"cpu/cpu.cfs_quota_us": "300000\n"}, 64),
        # both versions mounted
        (V1, {"unified/cpu.max": "500000 100000\n"}, 5),
        # invalid values
        ("0::/\n", {"cpu.max": ""}, 64),
        ("0::/\n", {"cpu.max": "200000"}, 64),
        ("0::/\n", {"cpu.max": "200000 0"}, 64),
        ("0::/\n", {"cpu.max": "-5 ²"}, 64),
        ("nonsense\n\n:::\n", {}, 64),
    ],
)  # fmt: skip
def test_the_quota_of_the_group_and_of_those_above_it_counts(
    tmp_path: Path, mine: str, files: Mapping[str, str], count: int
) -> None:
    assert cores.usable(lay(tmp_path, mine, files)) == count


def test_an_affinity_below_the_quota_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5}, raising=False)
    assert cores.usable(lay(tmp_path, "0::/\n", {"cpu.max": "800000 100000"})) == 2


def test_a_machine_without_control_groups_has_all_its_processors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert cores.usable(tmp_path) == 64
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert cores.usable(tmp_path) == 10
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert cores.usable(tmp_path) == 1
