"""Limits: token buckets by a clock of the test, and the checks of queued runs and uploads."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.service.limits import (
    FAILURES_AT_ONCE,
    Buckets,
    FailedAuthentications,
    LimitExceeded,
    OpenStreams,
    RequestRates,
    check_queued_runs,
    check_upload,
)
from controller.service.tenant import DEFAULT, Tenant
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def tenant(name: str = "news", rate: float = 20.0) -> Tenant:
    return Tenant(name=name, prefix=name, requests_per_second=rate)


def exceeded(rates: RequestRates, one: Tenant) -> LimitExceeded:
    with pytest.raises(LimitExceeded) as found:
        rates.check(one)
    return found.value


# ---------------------------------------------------------------- requests a second


def test_twice_the_rate_is_allowed_at_once_and_then_the_rate(clock: ManualClock) -> None:
    rates, news = RequestRates(clock), tenant(rate=20)
    for _ in range(40):
        rates.check(news)
    problem = exceeded(rates, news)
    assert (problem.status, problem.headers) == (429, {"Retry-After": "1"})
    assert problem.summary == "the limit is 20 requests a second"
    clock.now_s += 1
    for _ in range(20):
        rates.check(news)
    exceeded(rates, news)


@pytest.mark.parametrize("rate,retry_s", [(0.1, 10), (0.01, 100), (0.3, 4), (1, 1), (1000, 1)])
def test_a_client_that_waits_for_the_stated_time_is_allowed(clock: ManualClock, rate: float, retry_s: int) -> None:
    rates, news = RequestRates(clock), tenant(rate=rate)
    for _ in range(max(1, math.floor(2 * rate))):
        rates.check(news)
    problem = exceeded(rates, news)
    assert problem.retry_after_s == retry_s
    clock.now_s += problem.retry_after_s
    rates.check(news)


def test_requests_that_were_refused_do_not_count(clock: ManualClock) -> None:
    rates, news = RequestRates(clock), tenant(rate=1)
    for _ in range(2):
        rates.check(news)
    for _ in range(100):
        exceeded(rates, news)
    clock.now_s += 1
    rates.check(news)


def test_one_tenant_does_not_take_the_rate_of_another(clock: ManualClock) -> None:
    rates = RequestRates(clock)
    for _ in range(2):
        rates.check(tenant("news", 1))
    exceeded(rates, tenant("news", 1))
    rates.check(tenant("sport", 1))


def test_a_new_rate_counts_from_the_next_request(clock: ManualClock) -> None:
    rates = RequestRates(clock)
    for _ in range(2):
        rates.check(tenant(rate=1))
    exceeded(rates, tenant(rate=1))
    clock.now_s += 1
    for _ in range(100):
        rates.check(tenant(rate=100))
    exceeded(rates, tenant(rate=100))


def test_a_tenant_without_a_limit_is_never_refused(clock: ManualClock) -> None:
    rates = RequestRates(clock)
    for _ in range(10_000):
        rates.check(DEFAULT)


@given(
    st.floats(0.01, 1000),
    st.floats(1, 100),
    st.lists(st.floats(0, 5), min_size=1, max_size=100),
)
def test_no_stretch_of_time_has_more_than_the_burst_and_the_rate(
    per_second: float, burst: float, pauses_s: list[float]
) -> None:
    clock, taken_s = ManualClock(), []
    buckets = Buckets(clock)
    for pause_s in pauses_s:
        clock.now_s += pause_s
        wait_s = buckets.take("key", per_second=per_second, burst=burst)
        if wait_s == 0:
            taken_s.append(clock.now_s)
        else:
            assert 0 < wait_s <= 1 / per_second + 1e-9
    for first, start_s in enumerate(taken_s):
        for last, end_s in enumerate(taken_s[first:], first):
            assert last - first + 1 <= burst + (end_s - start_s + 1e-5) * per_second + 1e-6


@pytest.mark.parametrize("up_s", [0.0, 1e7, 1e9])
def test_a_machine_that_is_up_for_years_counts_the_same(up_s: float) -> None:
    clock = ManualClock(up_s)
    buckets = Buckets(clock)
    for _ in range(3):
        assert [buckets.take("key", per_second=3, burst=6) > 0 for _ in range(7)] == [False] * 6 + [True]
        clock.now_s += 2


def test_memory_is_bounded_and_the_key_used_longest_ago_is_forgotten(clock: ManualClock) -> None:
    buckets = Buckets(clock, most=100)
    for number in range(10_000):
        buckets.take("mine", per_second=0.001, burst=20_000)
        buckets.take(str(number), per_second=0.001, burst=1)
    assert len(buckets) == 100
    assert buckets.take("9999", per_second=0.001, burst=1) > 0
    assert buckets.take("0", per_second=0.001, burst=1) == 0
    for _ in range(10_000):
        assert buckets.take("mine", per_second=0.001, burst=20_000) == 0
    assert buckets.take("mine", per_second=0.001, burst=20_000) > 0


# ---------------------------------------------------------------- failed authentications


def failures(of: FailedAuthentications, address: str, most: int = 1000) -> int:
    """How many failures of an address are counted before one is refused."""
    for number in range(most):
        try:
            of.count(address)
        except LimitExceeded:
            return number
    return most


def test_an_address_may_fail_some_times_at_once_and_then_has_to_wait(clock: ManualClock) -> None:
    failed = FailedAuthentications(clock)
    assert failures(failed, "192.0.2.1") == FAILURES_AT_ONCE
    assert failures(failed, "192.0.2.1") == 0
    assert failures(failed, "192.0.2.2") == FAILURES_AT_ONCE
    with pytest.raises(LimitExceeded) as found:
        failed.count("192.0.2.1")
    assert (found.value.status, found.value.retry_after_s) == (429, 2)
    clock.now_s += 2
    assert failures(failed, "192.0.2.1") == 1


@pytest.mark.parametrize(
    "one,other,same",
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("::1", "127.0.0.1", False),
        ("", "unknown-host", True),
    ],
)
def test_a_client_is_the_address_that_it_cannot_change(clock: ManualClock, one: str, other: str, same: bool) -> None:
    failed = FailedAuthentications(clock)
    assert failures(failed, one) == FAILURES_AT_ONCE
    assert failures(failed, other) == (0 if same else FAILURES_AT_ONCE)


def test_addresses_are_held_in_bounded_memory(clock: ManualClock) -> None:
    failed = FailedAuthentications(clock)
    for number in range(20_000):
        failed.count(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(failed._buckets) == 10_000


# ---------------------------------------------------------------- runs and uploads


@pytest.mark.parametrize(
    "queued,new,allowed", [(0, 1, True), (9, 1, True), (10, 1, False), (5, 5, True), (5, 6, False)]
)
def test_a_tenant_may_have_so_many_queued_runs(queued: int, new: int, allowed: bool) -> None:
    news = Tenant(name="news", prefix="news", max_queued_runs=10)
    if allowed:
        check_queued_runs(news, queued, new)
        return
    with pytest.raises(LimitExceeded) as found:
        check_queued_runs(news, queued, new)
    assert (found.value.what, found.value.limit, found.value.status) == ("runs that have not ended", 10, 429)
    assert found.value.headers == {"Retry-After": "60"}


@pytest.mark.parametrize(
    "size,stored,status",
    [(100, 0, None), (101, 0, 413), (100, 150, None), (100, 151, 429), (0, 250, None), (1, 250, 429), (101, 250, 413)],
)
def test_an_upload_is_limited_alone_and_with_all_others(size: int, stored: int, status: int | None) -> None:
    news = Tenant(name="news", prefix="news", max_upload_bytes=100, max_upload_bytes_total=250)
    if status is None:
        check_upload(news, size, stored)
        return
    with pytest.raises(LimitExceeded) as found:
        check_upload(news, size, stored)
    assert found.value.status == status
    assert found.value.headers == ({"Retry-After": "300"} if status == 429 else {})
    assert f"the limit is {found.value.limit} bytes in " in found.value.summary


def test_an_upload_that_is_larger_than_all_together_may_be_cannot_be_repeated() -> None:
    news = Tenant(name="news", prefix="news", max_upload_bytes_total=1000)
    with pytest.raises(LimitExceeded) as found:
        check_upload(news, 1001, 0)
    assert (found.value.status, found.value.limit) == (413, 1000)
    assert found.value.summary == "the limit is 1,000 bytes in one upload"
    assert found.value.advice.endswith("for a higher max_upload_bytes_total")
    with pytest.raises(LimitExceeded) as found:
        check_upload(Tenant(name="news", prefix="news", max_upload_bytes=999), 1001, 0)
    assert found.value.advice == "split the recording, or ask the operator of the service for a higher max_upload_bytes"


def test_the_default_tenant_has_no_limits() -> None:
    check_queued_runs(DEFAULT, 10**9)
    check_upload(DEFAULT, 1 << 60, 1 << 60)


def test_streams_of_events_are_counted_while_they_are_open() -> None:
    streams = OpenStreams(2)
    with streams.begin("a"), streams.begin("a"):
        with pytest.raises(LimitExceeded, match="2 open streams"):
            streams.begin("a")
        with streams.begin("b"):
            pass
    with streams.begin("a"):
        pass
