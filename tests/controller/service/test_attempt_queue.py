"""Whose webhook is sent next: nobody waits for a slow receiver, or for a tenant with many events."""

from collections.abc import Iterator

import pytest

from controller.service import attempt_queue
from controller.service.attempt_queue import AttemptQueue
from controller.service.outbox import Pending


def pending(prefix: str, receiver: str, number: int) -> Pending:
    return Pending(prefix, number, f"{receiver:0>8}{number:024x}")


@pytest.fixture
def queue() -> AttemptQueue:
    return AttemptQueue()


def taken(queue: AttemptQueue) -> Iterator[tuple[str, str]]:
    while each := queue.take():
        yield each.prefix, each.id[:8].lstrip("0")


def test_a_receiver_gets_two_requests_at_once(queue: AttemptQueue) -> None:
    for number in range(5):
        assert queue.offer(pending("news", "a", number))
    assert queue.offer(pending("news", "b", 9))
    assert list(taken(queue)) == [("news", "a"), ("news", "b"), ("news", "a")]
    queue.done(pending("news", "a", 0))
    assert list(taken(queue)) == [("news", "a")]


def test_the_same_host_of_another_tenant_is_another_receiver(queue: AttemptQueue) -> None:
    for prefix in ("news", "radio"):
        for number in range(3):
            queue.offer(pending(prefix, "a", number))
    assert list(taken(queue)) == [("news", "a"), ("radio", "a")] * 2


def test_a_tenant_with_many_receivers_leaves_room_for_others(queue: AttemptQueue) -> None:
    for receiver in "abcdef":
        queue.offer(pending("news", receiver, 1))
    assert [receiver for _, receiver in taken(queue)] == ["a", "b", "c", "d"]
    queue.offer(pending("radio", "x", 1))
    assert list(taken(queue)) == [("radio", "x")]


def test_at_most_eight_run_and_the_tenant_with_the_fewest_is_next(queue: AttemptQueue) -> None:
    for prefix in ("a", "b", "c"):
        for receiver in "123456":
            queue.offer(pending(prefix, receiver, 1))
    running = list(taken(queue))
    assert len(running) == attempt_queue.AT_ONCE
    assert sorted([prefix for prefix, _ in running].count(prefix) for prefix in "abc") == [2, 3, 3]
    queue.offer(pending("d", "1", 1))
    queue.done(pending("a", "1", 1))
    assert list(taken(queue)) == [("d", "1")]


def test_a_delivery_is_taken_once_until_it_is_done(queue: AttemptQueue) -> None:
    first = pending("news", "a", 1)
    queue.offer(first)
    queue.offer(first)
    assert queue.take() == first
    queue.offer(first)
    assert queue.take() is None
    queue.done(first)
    queue.offer(first)
    assert queue.take() == first


def test_what_is_kept_in_memory_is_bounded(queue: AttemptQueue) -> None:
    for number in range(100):
        assert queue.offer(pending("news", "a", number))
    offered = [queue.offer(pending("news", f"{receiver:x}", 1)) for receiver in range(0x100, 0x500)]
    assert offered.count(True) == attempt_queue.MOST_OF_TENANT - attempt_queue.MOST_TO_RECEIVER
    assert queue.offer(pending("radio", "a", 1))
    for _ in range(2 * attempt_queue.MOST_OF_TENANT):
        if each := queue.take():
            queue.done(each)
    assert queue.wait(0)
    assert queue.offer(pending("news", "a", 1))


def test_nothing_begins_after_it_was_closed(queue: AttemptQueue) -> None:
    for number in range(3):
        queue.offer(pending("news", "a", number))
    first = queue.take()
    assert first
    queue.close()
    assert queue.take() is None
    assert not queue.offer(pending("news", "b", 1))
    assert not queue.wait(0)
    queue.done(first)
    assert queue.wait(0)
