"""Recordings are identified during the work: a few ahead of it, each once, and none is lost."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from controller.cli import identification
from controller.cli.identification import Identification
from controller.domain.documents import Source
from controller.domain.interfaces import RunRequest
from controller.domain.progress import Totals
from controller.errors import MediaProblem
from controller.intake import source
from controller.intake.known_files import KnownFiles
from tests import fakes, pipeline

NAMES = [f"{number:02d}.wav" for number in range(30)]


class Reading:
    """Simulates reading files: one after the other, as far as a test allows."""

    def __init__(self) -> None:
        self.read: list[str] = []
        self.allowed = threading.Semaphore(0)
        self.refused: set[str] = set()
        self.same: dict[str, str] = {}
        self.error: BaseException | None = None
        self.started: list[Identification] = []

    def inspect(self, name: str, _: KnownFiles) -> Source:
        self.allowed.acquire()
        if self.error:
            raise self.error
        if name in self.refused:
            raise MediaProblem(f"{name}: cannot be read", "check its disk")
        self.read.append(name)
        return fakes.request(fakes.record(), Path("/out/x")).source

    def allow(self, count: int) -> None:
        for _ in range(count):
            self.allowed.release()


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reading]:
    reading = Reading()
    monkeypatch.setattr(source, "inspect", reading.inspect)
    # Those of other tests that wait for room do so for ever.
    before = set(threading.enumerate())
    yield reading
    # A thread that still runs would read the files of the next test.
    reading.error = SystemExit()
    reading.allow(1000)
    for requests in reading.started:
        # Room for one more, if it waits for that.
        with requests._changed:
            requests._ready.clear()
            requests._changed.notify_all()
    for thread in set(threading.enumerate()) - before:
        if thread.name == "identify":
            thread.join(pipeline.PATIENCE_S)
            assert not thread.is_alive()


def started(reading: Reading, keep: Callable[[RunRequest], bool] = lambda _: True, count: int = 30) -> Identification:
    def request(name: str, src: Source) -> RunRequest:
        run = f"{int(reading.same.get(name, name)[:2]):016x}"
        record = fakes.record(run, name=name)
        return RunRequest(record=record, request=fakes.request(record, Path("/out", name)))

    found = {name: source.Found(size_bytes=1000, source=None) for name in NAMES[:count]}
    reading.started.append(Identification(found, request, known=KnownFiles(None), keep=keep))
    return reading.started[-1]


def taken(requests: Identification, count: int) -> list[str]:
    """The names of the next requests, in order."""
    names: list[str] = []
    while len(names) < count:
        requests.wait(pipeline.PATIENCE_S)
        more = requests.take(count - len(names))
        assert more
        names += [run_request.record.name for run_request in more]
    return names


def test_the_first_one_is_there_before_the_second_was_read(reading: Reading) -> None:
    requests = started(reading)
    reading.allow(1)
    assert taken(requests, 1) == NAMES[:1]
    assert reading.read == NAMES[:1]
    assert requests.take(5) == []
    assert not requests.exhausted


def test_only_a_few_are_read_ahead_of_the_work(reading: Reading) -> None:
    requests = started(reading)
    reading.allow(1000)
    pipeline.until(lambda: len(reading.read) >= identification._AHEAD, "some are read ahead")
    assert taken(requests, 2) == NAMES[:2]
    pipeline.until(lambda: len(reading.read) >= identification._AHEAD + 2, "two more are read")
    requests.wait(0.2)
    assert len(reading.read) == identification._AHEAD + 2
    assert taken(requests, 28) == NAMES[2:]
    assert requests.exhausted


def test_files_being_read_and_files_that_wait_are_shown(reading: Reading) -> None:
    requests = started(reading, count=3)
    pipeline.until(lambda: requests.unknown()[0].state == "identifying", "the first is being read")
    assert [(one.name, one.state, one.size_bytes) for one in requests.unknown()] == [
        ("00.wav", "identifying", 1000),
        ("01.wav", "waiting", 1000),
        ("02.wav", "waiting", 1000),
    ]
    assert requests.progress() == (requests.unknown()[:1], Totals(recordings=2, size_bytes=2000))
    reading.allow(3)
    taken(requests, 3)
    assert requests.unknown() == []
    assert requests.progress() == ((), Totals())


def test_a_file_that_is_no_recording_is_reported_and_the_others_continue(reading: Reading) -> None:
    reading.refused = {"01.wav", "02.wav"}
    requests = started(reading, count=3)
    reading.allow(3)
    assert taken(requests, 1) == ["00.wav"]
    pipeline.until(lambda: requests.exhausted, "all are known")
    assert [(item.name, item.summary, item.advice) for item in requests.refused] == [
        ("01.wav", "01.wav: cannot be read", "check its disk"),
        ("02.wav", "02.wav: cannot be read", "check its disk"),
    ]


def test_an_unexpected_error_reaches_the_loop(reading: Reading) -> None:
    reading.error = ZeroDivisionError()
    requests = started(reading)
    reading.allow(1)
    requests.wait(pipeline.PATIENCE_S)
    with pytest.raises(ZeroDivisionError):
        requests.take(1)
    assert not requests.exhausted


def test_equal_content_is_kept_as_one_run_with_all_its_outputs(reading: Reading) -> None:
    reading.same = {"02.wav": "00.wav"}
    kept: list[RunRequest] = []

    def keep(run_request: RunRequest) -> bool:
        kept.append(run_request)
        return True

    requests = started(reading, keep=keep, count=3)
    reading.allow(3)
    assert taken(requests, 3) == ["00.wav", "01.wav", "02.wav"], "the loop gets each"
    assert len(requests.taken) == 2
    assert [Path(output.base).name for output in kept[-1].request.outputs] == ["00.wav", "02.wav"]
    assert requests.taken[kept[-1].record.run] == kept[-1].request.outputs


def test_a_store_that_cannot_keep_requests_is_asked_once(reading: Reading) -> None:
    asked: list[RunRequest] = []

    def keep(run_request: RunRequest) -> bool:
        asked.append(run_request)
        return False

    requests = started(reading, keep=keep, count=3)
    reading.allow(3)
    taken(requests, 3)
    assert len(asked) == 1
