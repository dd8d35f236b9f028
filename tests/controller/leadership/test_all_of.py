"""Several lock domains at once: a run is led where all of them are held, and given up in all."""

from collections.abc import Collection

from controller.domain.interfaces import LeaseState
from controller.leadership.all_of import AllOf

RUN = "0123456789abcdef"


class Part:
    """One lock domain with scripted answers; the calls to all domains are recorded together."""

    def __init__(self, name: str, asked: list[str], state: LeaseState = "leading", *, deleted: bool = False) -> None:
        self.name, self.asked, self.state, self.deleted = name, asked, state, deleted

    def try_acquire_or_renew(self, run: str, now_ms: int) -> LeaseState:
        self.asked.append(f"acquire {self.name}")
        return self.state

    def check(self, run: str) -> None:
        self.asked.append(f"check {self.name}")

    def domain(self, run: str) -> str:
        return self.name

    def cancelled(self, run: str) -> bool:
        return self.deleted

    def observe(self, runs: Collection[str]) -> None:
        self.asked.append(f"observe {self.name} {' '.join(runs)}")

    def release(self, run: str, *, ended: bool) -> None:
        self.asked.append(f"release {self.name} {ended}")

    def close(self) -> None:
        self.asked.append(f"close {self.name}")


def test_a_wider_lease_is_requested_only_after_the_narrower_one_is_held() -> None:
    for state in ("following", "undecided"):
        asked: list[str] = []
        machine, cluster = Part("machine", asked, state), Part("cluster", asked)
        assert AllOf(machine, cluster).try_acquire_or_renew(RUN, 0) == state
        assert asked == ["acquire machine"]


def test_a_run_is_led_when_all_leases_are_held() -> None:
    asked: list[str] = []
    parts = AllOf(Part("machine", asked), Part("cluster", asked))
    assert parts.try_acquire_or_renew(RUN, 0) == "leading"
    parts.check(RUN)
    assert parts.domain(RUN) == "cluster"
    assert not parts.cancelled(RUN)
    parts.observe([RUN])
    parts.release(RUN, ended=True)
    parts.close()
    assert asked == [
        *("acquire machine", "acquire cluster", "check machine", "check cluster"),
        *(f"observe machine {RUN}", f"observe cluster {RUN}"),
        *("release cluster True", "release machine True", "close machine", "close cluster"),
    ]


def test_a_run_is_cancelled_when_any_lease_is() -> None:
    assert AllOf(Part("machine", []), Part("cluster", [], deleted=True)).cancelled(RUN)
