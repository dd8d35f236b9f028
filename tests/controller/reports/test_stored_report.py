"""report.html of runs in a store: written with every run that ends, and made again by ``stenofleet report``."""

import io
import json
from pathlib import Path

import pytest

from chunk_job.errors import JobError
from chunk_job.store.base import StoreDenied, StoreFull, StoreUnavailable
from chunk_job.store.files import FileStore
from controller import cli
from controller.domain.documents import Evidence, StoredState
from controller.domain.interfaces import RunOutcome, RunRequest
from controller.domain.policy import RetryPolicy
from controller.domain.waveform import STEP_MS, WaveformHeader, dat_header
from controller.orchestrator.command_runs import KnownRequests
from controller.orchestrator.loop import run_loop
from controller.orchestrator.slots import InOrder
from controller.reports import stored_run
from controller.reports.stored_report import StoredReports, write_page
from controller.reports.stored_run import documents_of, read_documents, status_only
from controller.runs.lookup import read_run
from tests import fakes
from tests.fakes import CRASH, FakeClock, FakeRunner, JournalStore, Recorder, Script, scripted
from tests.shown_runs import CHUNK_MS, KEYS, ShownRun

RECORD = fakes.record()


class Scene:
    """Commands that work on a run in one store."""

    def __init__(self, folder: Path) -> None:
        self.store = JournalStore(folder / "store")
        self.clock = FakeClock()

    def command(self, script: Script | None = None, *, gaps: bool = False) -> RunOutcome:
        request = fakes.request(RECORD, on_chunk_failure="gap" if gaps else "fail")
        (ended,) = run_loop(
            KnownRequests([RunRequest(record=RECORD, request=request)]),
            store=self.store,
            runner=FakeRunner(self.store, self.clock, script),
            policy=RetryPolicy(backoff_ms=0, max_attempts=2, store_patience_ms=60_000),
            slots=InOrder(2),
            reporter=Recorder(),
            clock=self.clock,
            reports=StoredReports(self.store),
        )
        return ended

    def page(self) -> str:
        return self.store.get(KEYS.report_page).decode()


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


LOST = scripted({(1, 1): CRASH, (1, 2): CRASH})


@pytest.mark.parametrize(
    "script,gaps,verdict,marker,parts",
    [
        (scripted({(2, 1): CRASH}), False, "complete", "_SUCCESS", ["w0a", "w2b", "Chunk 2, attempt 1"]),
        (LOST, True, "partial", "_PARTIAL", ["w0a", "No transcript", "Chunk 1, attempts 1, 2"]),
        (LOST, False, "failed", "_FAILED", ["chunk 1 failed 2 times", "Chunk 1, attempts 1, 2"]),
    ],
)
def test_every_run_that_ends_has_a_page_before_its_last_object(
    scene: Scene, script: Script, gaps: bool, verdict: str, marker: str, parts: list[str]
) -> None:
    assert scene.command(script, gaps=gaps).verdict == verdict
    for part in (*parts, f"</span> {verdict}</p>", "Timeline"):
        assert part in scene.page(), part
    journal = scene.store.journal
    page = scene.store.when(f"put {KEYS.report_page}")
    assert scene.store.when(f"put {KEYS.report}") < page < scene.store.when(f"put {KEYS.home}{marker}")
    assert journal.count(f"put {KEYS.report_page}") == 1


def test_a_page_that_cannot_be_written_is_waited_for(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    failing = iter([True, True])
    put_file = scene.store.put_file

    def put(key: str, path: Path) -> None:
        if key == KEYS.report_page and next(failing, False):
            raise StoreUnavailable("it is away", "wait")
        put_file(key, path)

    monkeypatch.setattr(scene.store, "put_file", put)
    assert scene.command().verdict == "complete"
    assert "w0a" in scene.page()
    assert scene.store.stat(KEYS.marker("complete"))
    assert not scene.store.stat(KEYS.marker("failed"))


@pytest.mark.parametrize("error", [StoreFull("no free space", "free some"), StoreDenied("not allowed", "ask")])
@pytest.mark.parametrize("script,verdict", [(None, "complete"), (LOST, "failed")])
def test_a_run_ends_without_a_page_if_there_is_no_place_for_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, error: JobError, script: Script | None, verdict: str
) -> None:
    put_file = scene.store.put_file

    def put(key: str, path: Path) -> None:
        if key == KEYS.report_page:
            raise error
        put_file(key, path)

    monkeypatch.setattr(scene.store, "put_file", put)
    ended = scene.command(script)
    assert ended.verdict == verdict
    (warning,) = [each for each in ended.warnings if "report.html" in each]
    assert warning == (
        f"report.html is not written: {error.summary}; later: stenofleet report {RECORD.run} -o report.html"
    )
    assert not scene.store.stat(KEYS.report_page)
    assert scene.store.stat(KEYS.marker("complete" if verdict == "complete" else "failed"))


def test_the_page_of_a_run_that_is_resumed_is_written_again(scene: Scene) -> None:
    scene.command(LOST)
    failed = scene.page()
    assert scene.command().verdict == "complete"
    assert "w1a" in scene.page()
    assert "w1a" not in failed
    # What failed before is told, and the transcript is that of the run.
    assert "Chunk 1, attempts 1, 2" in scene.page()


def test_damaged_documents_count_as_not_there(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    run = ShownRun(failed=(1,))
    run.put(store, "failed")
    whole = {entry.key: store.get(entry.key) for entry in store.list("") if entry.key.endswith((".json", "_FAILED"))}
    for key, data in whole.items():
        for spoiled in (b"", b"{", b"[]", json.dumps({**json.loads(data), "run": "f" * 16}).encode()):
            store.put(key, spoiled)
            documents = read_documents(store, fakes.RUN)
            assert documents
            file = io.BytesIO()
            write_page(documents, None, file)
            assert file.getvalue().endswith(b"</html>")
        store.put(key, data)


def test_a_failure_is_read_once_while_a_run_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FileStore(tmp_path)
    ShownRun(failed=(1, 3), done=1).put(store, "running")
    seen: dict[str, Evidence] = {}
    read: list[str] = []
    found = read_run(store, fakes.RUN)
    assert found
    whole = documents_of(store, found, seen=seen)
    get = store.get

    def counted(key: str, *, max_bytes: int) -> bytes:
        read.append(key)
        return get(key, max_bytes=max_bytes)

    monkeypatch.setattr(store, "get", counted)
    assert documents_of(store, found, seen=seen) == whole
    assert len(whole.evidence) == len(seen) == 2
    assert KEYS.plan in read
    assert not [key for key in read if key.startswith(KEYS.failures)]
    store.put(KEYS.marker("failed"), ShownRun().outcome("failed").encode())
    ended = read_run(store, fakes.RUN)
    assert ended
    assert (status_only(ended).state, status_only(found).state) == ("failed", "interrupted")


# ---------------------------------------------------------------- the command


def report(store: FileStore, *arguments: str | Path) -> int:
    return cli.run(["report", "--store", store.url, *map(str, arguments)])


@pytest.mark.parametrize(
    "run,state,parts",
    [
        (ShownRun(words=200), "complete", ["</span> complete</p>", 'id="transcript"']),
        (ShownRun(words=200, lost=(2,)), "partial", ["</span> partial</p>", "No transcript"]),
        (ShownRun(done=1, lost=(1,)), "failed", ["</span> failed</p>", "NATIVE_CRASH"]),
        (ShownRun(done=1), "interrupted", ["</span> interrupted</p>"]),
        (ShownRun(done=1), "running", ["</span> running</p>", "<progress"]),
    ],
)  # fmt: skip
def test_a_run_in_any_state_is_written_to_a_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    run: ShownRun,
    state: StoredState,
    parts: list[str],
) -> None:
    monkeypatch.setattr(stored_run, "is_worked_on", lambda _: True)
    store = FileStore(tmp_path / "store")
    run.put(store, state)
    target = tmp_path / "new" / "talk.html"
    # Of a run that ended before pages were written, the store has no page.
    assert store.stat(KEYS.report_page) is None
    for _ in range(2):
        assert report(store, fakes.RUN[:6], "-o", target) == 0
        assert all(part in target.read_text(encoding="utf-8") for part in parts)
    said = capfd.readouterr()
    assert said.out == f"{target}\n{target}\n"
    assert ("has not ended: the report shows it as it is now" in said.err) == (state == "running")


def test_a_run_that_nobody_works_on_any_more_is_interrupted(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    ShownRun(done=1).put(store, "running")
    assert report(store, fakes.RUN, "-o", tmp_path / "a.html") == 0
    assert "</span> interrupted</p>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_cancelled_run_is_shown_as_cancelled(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "store")
    ShownRun(done=1).put(store, "cancelled")
    store.put(KEYS.cancel, b"")
    assert report(store, fakes.RUN, "-o", tmp_path / "a.html") == 0
    assert "</span> cancelled</p>" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_what_cannot_be_written_is_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    store = FileStore(tmp_path / "store")
    ShownRun(words=100).put(store, "complete")
    mine = tmp_path / "mine.html"
    mine.write_text("<p>my own page")
    assert report(store, "f" * 16, "-o", tmp_path / "a.html") == 2
    assert f"no run {'f' * 16}" in capfd.readouterr().err
    assert report(store, fakes.RUN, "-o", mine) == 2
    assert "is no report of stenofleet" in capfd.readouterr().err
    assert mine.read_text() == "<p>my own page"
    assert report(store, fakes.RUN, "-o", mine, "--overwrite") == 0
    assert report(store, fakes.RUN, "-o", tmp_path) == 3
    assert "cannot be written" in capfd.readouterr().err
    assert not (tmp_path / "a.html").exists()


def test_the_waveform_of_the_store_is_drawn(tmp_path: Path) -> None:
    store = FileStore(tmp_path)
    ShownRun(chunks=1, words=20).put(store, "complete")
    assert 'class="wave"' not in page_of(store)
    detail = CHUNK_MS // STEP_MS["detail"]
    header = WaveformHeader(run=fakes.RUN, overview=CHUNK_MS // STEP_MS["overview"], detail=detail)
    levels = [dat_header(level, header.steps(level)) + bytes([0x80, 127]) * header.steps(level) for level in STEP_MS]
    store.put(KEYS.waveform, header.encode() + b"".join(levels))
    assert 'class="wave" d="M0.7 0.4v99.6' in page_of(store)
    store.put(KEYS.waveform, b"{")
    assert 'class="wave"' not in page_of(store)


def page_of(store: FileStore) -> str:
    documents = read_documents(store, fakes.RUN)
    assert documents
    file = io.BytesIO()
    write_page(documents, None, file)
    return file.getvalue().decode()
