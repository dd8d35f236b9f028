"""Looks into an inbox: what is submitted, when, and how often; and what a look costs."""

import os
from pathlib import Path
from typing import Any

import pytest

from chunk_job.store.base import StoreUnavailable
from controller.domain.service_keys import RequestKey
from controller.service.inbox.names import LONGEST_PATH, Record, version_of
from tests.controller.service.inbox.looking import KEYS, Looking, MemoryStore
from tests.controller.service.test_requests import Killed, Mortal


@pytest.fixture
def looking(tmp_path: Path) -> Looking:
    return Looking(tmp_path)


def found(looking: Looking, path: str) -> Any:
    """What is requested for an object."""
    request = looking.requests.request(RequestKey("default", looking.request_of(path)))
    assert request
    return request


# ---------------------------------------------------------------- what is submitted


def test_a_file_is_submitted_once_when_it_has_stopped_growing(looking: Looking) -> None:
    looking.put("a/talk.mp3", b"so", modified_s=1)
    looking.look()
    for size in (3, 4):
        looking.put("a/talk.mp3", b"sound"[:size], modified_s=1)
        looking.look()
        assert looking.records == {}, "it still grows"
    looking.put("a/talk.mp3", b"sound", modified_s=1)
    looking.settle()
    assert looking.records == {"a/talk.mp3": ["submitted"]}
    for _ in range(3):
        looking.look()
    assert looking.submitted == 1
    request = found(looking, "a/talk.mp3")
    assert request.source == (looking.folder / "a/talk.mp3").as_uri()
    assert request.output.base == (looking.out / "a/talk.mp3").as_uri()
    assert (request.name, request.output.formats) == ("talk.mp3", ("txt", "srt", "json"))


def test_two_looks_in_a_hurry_are_not_enough(looking: Looking) -> None:
    looking.put("talk.mp3")
    for _ in range(3):
        looking.now_s += 3
        looking.inbox.turn()
    assert looking.submitted == 0


def test_temporary_and_hidden_files_are_left_alone_and_links_not_followed(looking: Looking, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/talk.mp3").write_bytes(b"secret")
    looking.put("talk.mp3.part")
    looking.put(".hidden/talk.mp3")
    (looking.folder / "link.mp3").symlink_to(tmp_path / "secret/talk.mp3")
    (looking.folder / "folder").symlink_to(tmp_path / "secret")
    os.mkfifo(looking.folder / "pipe.mp3")
    looking.settle()
    assert looking.records == {}


def test_a_changed_file_is_transcribed_again_and_the_request_before_is_cancelled(looking: Looking) -> None:
    looking.put("talk.mp3", modified_s=1)
    looking.settle()
    before = looking.request_of("talk.mp3")
    looking.put("talk.mp3", b"other", modified_s=2)
    looking.settle()
    assert looking.records == {"talk.mp3": ["submitted"]}
    assert looking.request_of("talk.mp3") != before
    assert looking.cancelled() == [before]
    looking.end("talk.mp3")
    looking.deliver()
    assert looking.records == {"talk.mp3": ["done"]}


def test_a_failure_is_shown_until_the_file_has_changed_and_succeeds(looking: Looking) -> None:
    looking.put("a/talk.mp3", modified_s=1)
    looking.settle()
    looking.end("a/talk.mp3", "failed", summary="not a recording", advice="send another one")
    looking.deliver()
    shown = looking.error("a/talk.mp3")
    assert shown
    assert (shown["recording"], shown["class"]) == ("a/talk.mp3", "not-transcribed")
    assert (shown["summary"], shown["advice"]) == ("not a recording", "send another one")
    assert shown["run_id"] == looking.request_of("a/talk.mp3")
    looking.settle()
    assert (looking.submitted, looking.records) == (1, {"a/talk.mp3": ["failed"]})
    looking.put("a/talk.mp3", b"better", modified_s=2)
    looking.settle()
    assert looking.submitted == 2
    assert looking.error("a/talk.mp3"), "it is not known yet whether it helps"
    looking.end("a/talk.mp3")
    looking.deliver()
    assert (looking.error("a/talk.mp3"), looking.records) == (None, {"a/talk.mp3": ["done"]})


def test_a_request_that_is_tried_again_replaces_what_is_shown_of_it(looking: Looking) -> None:
    looking.put("talk.mp3")
    looking.settle()
    looking.end("talk.mp3", "failed", environment=True)
    looking.deliver()
    key = RequestKey("default", looking.request_of("talk.mp3"))
    again = looking.requests.find(key)
    assert again
    looking.requests.retry(again, now_ms=2)
    looking.end("talk.mp3")
    looking.deliver()
    assert (looking.error("talk.mp3"), looking.records) == (None, {"talk.mp3": ["done"]})


def test_what_was_deleted_is_forgotten_but_not_when_the_folder_is_not_mounted(looking: Looking) -> None:
    first, second = looking.put("a.mp3", modified_s=1), looking.put("b.mp3", modified_s=1)
    looking.settle()
    for name in ("a.mp3", "b.mp3"):
        looking.end(name)
    looking.deliver()
    first.unlink()
    looking.look()
    assert looking.records == {"b.mp3": ["done"]}
    second.unlink()
    looking.settle()
    assert looking.records == {"b.mp3": ["done"]}, "an empty folder may be one that is not mounted"
    looking.put("a.mp3", modified_s=1)
    looking.put("b.mp3", modified_s=1)
    looking.settle()
    assert looking.records == {"a.mp3": ["done"], "b.mp3": ["done"]}, "the request of before counts"


def test_names_that_are_too_long_or_no_text_are_reported_and_stop_nothing(looking: Looking) -> None:
    part = "x" * 150
    long = f"{part}/{part}/{part}/talk.mp3"
    assert len(long) > LONGEST_PATH
    looking.put(long)
    name = os.fsdecode(b"\xff\xfe\n.mp3")
    looking.put(name)
    looking.put("z.mp3")
    looking.settle()
    assert looking.records == {name: ["submitted"], "z.mp3": ["submitted"]}
    error = looking.error(long)
    assert error
    assert f"more than {LONGEST_PATH} bytes" in error["summary"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_hides_no_other(looking: Looking) -> None:
    looking.put("a/talk.mp3")
    looking.put("b/talk.mp3")
    (looking.folder / "a").chmod(0)
    looking.settle()
    assert looking.records == {"b/talk.mp3": ["submitted"]}
    (looking.folder / "a").chmod(0o700)
    looking.settle()
    assert looking.submitted == 2


def test_a_full_queue_is_waited_for(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    tenant = looking.inbox.place.tenant.model_copy(update={"max_queued_runs": 1})
    monkeypatch.setattr(
        looking.inbox,
        "place",
        looking.inbox.place.__class__(
            tenant=tenant, inbox=looking.inbox.place.inbox, outbox=looking.inbox.place.outbox
        ),
    )
    looking.put("a.mp3")
    looking.put("b.mp3")
    looking.settle()
    looking.settle()
    assert looking.records == {"a.mp3": ["submitted"]}
    assert looking.error("b.mp3") is None
    looking.service.queue.poll()
    monkeypatch.setattr(looking.service.queue.counts, "of", lambda _: 0)
    looking.settle()
    assert set(looking.records) == {"a.mp3", "b.mp3"}


# ---------------------------------------------------------------- sidecars


def languages(looking: Looking) -> dict[str, str | None]:
    return {path: found(looking, path).options.language for path in looking.records if not path.endswith(".yaml")}


def test_the_nearest_sidecar_counts(looking: Looking) -> None:
    for path in ("x.mp3", "a/x.mp3", "a/b/x.mp3", "a/b/y.mp3", "a/b/z.mp3"):
        looking.put(path)
    looking.put("stenofleet.yaml", b"options: {language: de}")
    looking.put("a/b/stenofleet.yaml", b"options: {language: fr}")
    looking.put("a/b/y.mp3.stenofleet.yaml", b"options: {language: pt}")
    looking.put("a/b/z.stenofleet.yaml", b"options: {language: no}")
    looking.settle()
    wanted = {"x.mp3": "de", "a/x.mp3": "de", "a/b/x.mp3": "fr", "a/b/y.mp3": "pt", "a/b/z.mp3": "no"}
    assert languages(looking) == wanted
    for _ in range(3):
        looking.look()
    assert looking.submitted == 5


def test_a_changed_sidecar_is_for_those_that_it_is_for(looking: Looking) -> None:
    looking.put("a/x.mp3")
    looking.put("a/y.mp3")
    looking.put("b/x.mp3")
    looking.put("a/y.mp3.stenofleet.yaml", b"options: {language: pt}")
    looking.settle()
    for path in languages(looking):
        looking.end(path)
    looking.deliver()
    looking.put("a/stenofleet.yaml", b"options: {language: de}", modified_s=1)
    looking.put("a/y.mp3.stenofleet.yaml", b"options: {language: 'pt'} # the same", modified_s=2)
    looking.settle()
    looking.settle()
    assert languages(looking) == {"a/x.mp3": "de", "a/y.mp3": "pt", "b/x.mp3": None}
    assert looking.submitted == 4, "one of four is another request"
    (looking.folder / "a/stenofleet.yaml").unlink()
    (looking.folder / "a/y.mp3.stenofleet.yaml").unlink()
    looking.settle()
    looking.settle()
    assert set(languages(looking).values()) == {None}
    assert {path for path in looking.records if path.endswith(".yaml")} == set()


def test_a_sidecar_in_another_unicode_form_is_for_the_recording_too(looking: Looking) -> None:
    recording = "cafe\N{COMBINING ACUTE ACCENT}.mp3"
    looking.put(recording)
    looking.put("caf\N{LATIN SMALL LETTER E WITH ACUTE}.stenofleet.yaml", b"options: {language: pt}", modified_s=1)
    looking.settle()
    assert languages(looking) == {recording: "pt"}
    looking.end(recording)
    looking.deliver()
    looking.put("caf\N{LATIN SMALL LETTER E WITH ACUTE}.stenofleet.yaml", b"options: {language: de}", modified_s=2)
    looking.settle()
    assert languages(looking) == {recording: "de"}, "a change is seen too"


def test_another_process_knows_which_sidecars_it_has_seen(looking: Looking) -> None:
    looking.put("x.mp3")
    looking.put("stenofleet.yaml", b"options: {language: de}")
    looking.settle()
    looking.settle()
    looking.restarted()
    looking.settle()
    assert (looking.submitted, looking.records["stenofleet.yaml"]) == (1, ["sidecar"])


def test_a_sidecar_that_is_wrong_is_an_error_of_its_recordings_until_it_is_corrected(looking: Looking) -> None:
    looking.put("x.mp3")
    looking.put("x.mp3.stenofleet.yaml", b"options: {beam: 3}", modified_s=1)
    looking.settle()
    error = looking.error("x.mp3")
    assert error
    assert (error["class"], error["summary"]) == (
        "invalid-request", "x.mp3.stenofleet.yaml: options.beam: is not known here"
    )  # fmt: skip
    assert error["errors"] == [{"pointer": "#/options/beam", "detail": "is not known here"}]
    assert looking.submitted == 0
    looking.put("x.mp3.stenofleet.yaml", b"options: {beam_size: 3}", modified_s=2)
    looking.settle()
    assert looking.submitted == 1
    looking.end("x.mp3")
    looking.deliver()
    assert (looking.error("x.mp3"), looking.records["x.mp3"]) == (None, ["done"])


# ---------------------------------------------------------------- a process that is killed


def test_a_kill_between_two_options_submits_each_once(tmp_path: Path) -> None:
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        store = Mortal(folder / "store")
        looking = Looking(folder, state=store)
        looking.put("talk.mp3", modified_s=1)
        looking.settle()
        looking.end("talk.mp3")
        looking.deliver()
        looking.put("talk.mp3.stenofleet.yaml", b"options: {language: pt}", modified_s=1)
        store.left = number - 1
        was_killed = False
        try:
            looking.settle()
        except Killed:
            was_killed, store.left = True, 10**9
            looking.restarted()
            looking.settle()
        store.left = 10**9
        assert languages(looking) == {"talk.mp3": "pt"}, number
        looking.end("talk.mp3")
        looking.deliver()
        (looking.folder / "talk.mp3.stenofleet.yaml").unlink()
        looking.settle()
        assert languages(looking) == {"talk.mp3": None}, "it is transcribed again, because the outbox has the other one"
        assert looking.records == {"talk.mp3": ["submitted"]}
        requests = [entry.key for entry in store.list("requests/") if entry.key.endswith("/request.json")]
        assert len(requests) == 3, number
        if not was_killed:
            return
    raise AssertionError("there are more changes than that?")


@pytest.mark.parametrize("verdict", ["complete", "failed"])
def test_a_kill_before_any_change_loses_nothing_and_submits_nothing_twice(tmp_path: Path, verdict: str) -> None:
    for number in range(1, 100):
        folder = tmp_path / str(number)
        folder.mkdir()
        store = Mortal(folder / "store")
        looking = Looking(folder, state=store)
        looking.put("talk.mp3", modified_s=1)
        looking.put("stenofleet.yaml", b"options: {language: pt}", modified_s=1)
        store.left = number - 1

        def live(looking: Looking = looking) -> None:
            looking.settle()
            looking.settle()
            if looking.records["talk.mp3"] == ["submitted"]:
                looking.end("talk.mp3", verdict)
            looking.deliver()
            looking.settle()

        was_killed = False
        try:
            live()
        except Killed:
            was_killed, store.left = True, 10**9
            looking.restarted()
            live()
        requests = [entry.key for entry in store.list("requests/") if entry.key.endswith("/request.json")]
        assert len(requests) == 1, number
        wanted = {"talk.mp3": ["done" if verdict == "complete" else "failed"], "stenofleet.yaml": ["sidecar"]}
        assert looking.records == wanted, number
        assert (looking.error("talk.mp3") is None) == (verdict == "complete")
        assert list(store.list(KEYS.ended)) == []
        if not was_killed:
            return
    raise AssertionError("there are more changes than that?")


def test_an_outbox_that_is_away_delays_its_deliveries(looking: Looking, monkeypatch: pytest.MonkeyPatch) -> None:
    looking.put("talk.mp3")
    looking.settle()
    looking.end("talk.mp3", "failed")

    def away(*_: object) -> None:
        raise StoreUnavailable("the outbox is away", "")

    with monkeypatch.context() as gone:
        gone.setattr("controller.service.inbox.outcome.put_error", away)
        with pytest.raises(StoreUnavailable):
            looking.deliver()
    assert looking.records == {"talk.mp3": ["submitted"]}
    looking.deliver()
    assert looking.records == {"talk.mp3": ["failed"]}


# ---------------------------------------------------------------- many objects


MANY = 40_000


class Large(Looking):
    """An inbox of forty thousand objects that are all transcribed."""

    def __init__(self, folder: Path, *, lists_per_minute: int) -> None:
        self.objects = MemoryStore("s3://media/inbox")
        self.store = MemoryStore()
        paths = [f"{number // 1_000:03d}/{number:06d}.mp3" for number in range(MANY)]
        self.objects.fill(paths)
        super().__init__(folder, state=self.store, inbox=self.objects, lists_per_minute=lists_per_minute)
        version = version_of(next(self.objects.list("")))
        self.store.fill([
            KEYS.record(Record(
                path=path, content=version.content, modified_s=1, options="0" * 16, state="done", request="0" * 26
            ))
            for path in paths
        ])  # fmt: skip
        self.objects.pages = self.store.pages = 0

    def has_passed(self) -> bool:
        return self.inbox.passed is not None

    @property
    def passed_objects(self) -> int:
        """The objects of the last complete look."""
        assert self.inbox.passed
        return self.inbox.passed.objects

    @property
    def lists(self) -> int:
        return self.objects.pages + self.store.pages


@pytest.fixture(scope="module")
def _large(tmp_path_factory: pytest.TempPathFactory) -> Large:
    return Large(tmp_path_factory.mktemp("large"), lists_per_minute=25)


@pytest.fixture
def large(_large: Large) -> Large:
    _large.restarted()
    _large.now_s += 600
    _large.objects.pages = _large.store.pages = 0
    _large.objects.reads.clear()
    return _large


def test_a_look_at_many_objects_only_lists_and_within_its_budget(large: Large) -> None:
    large.store.reads.clear()
    began_s = large.now_s
    while large.inbox.passed is None:
        before = large.lists
        large.look()
        minutes = (large.now_s - began_s) / 60
        assert large.lists <= 25 * (1 + minutes) + 2
        assert large.lists - before <= 27, "those of a minute at once"
    assert large.inbox.passed.objects == MANY
    assert large.lists <= 2 * (MANY // 1_000) * 1.1, "nothing is listed twice"
    assert abs(large.inbox.budget.spent - large.lists) <= 10
    assert large.submitted == 0
    assert large.objects.reads == []
    assert set(large.store.reads) == {KEYS.cursor}


def test_another_process_goes_on_where_one_stopped(large: Large) -> None:
    large.look()
    assert not large.has_passed()
    large.restarted()
    large.now_s += 600
    while not large.has_passed():
        large.look()
    assert large.passed_objects < MANY
    assert large.lists <= 2 * (MANY // 1_000) * 1.1, "nothing is listed twice"


def test_a_new_object_in_a_folder_where_something_was_new_is_found_before_the_others(large: Large) -> None:
    large.objects.put("002/new-1.mp3", b"sound")
    large.look()
    assert large.submitted == 1
    large.objects.put("002/new-2.mp3", b"sound")
    large.look()
    assert large.inbox.passed is None, "the look at everything is not complete"
    assert large.submitted == 2
    for name in ("002/new-1.mp3", "002/new-2.mp3"):
        large.objects.delete(name)
    large.submitted = 0


def test_an_object_of_an_event_is_looked_at_at_once(large: Large) -> None:
    large.objects.put("099/zz.mp3", b"sound")
    large.look()
    assert large.submitted == 0
    listed = large.lists
    for path in ("099/zz.mp3", "nothing/there.mp3"):
        large.inbox.look_at(path)
    assert large.submitted == 1
    assert large.lists < listed + 10, "those of the request, and one for each object"
    large.objects.delete("099/zz.mp3")
    large.submitted = 0


def test_a_server_that_lists_in_another_order_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from chunk_job.errors import DocumentInvalid

    objects = MemoryStore("s3://media/inbox")
    objects.fill(["a.mp3", "b.mp3"])
    looking = Looking(tmp_path, inbox=objects)
    entries = [objects.stat(key) for key in ("b.mp3", "a.mp3")]
    monkeypatch.setattr(objects, "list", lambda *_, **__: iter(entries))
    with pytest.raises(DocumentInvalid, match="another order"):
        looking.look()
