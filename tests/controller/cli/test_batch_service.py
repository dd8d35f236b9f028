"""``batch`` with ``--server``: a running service, whose jobs are simulated, and the real command line."""

import contextlib
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller import cli
from controller.cli import batch_service_wait
from controller.client.http import Connection
from controller.domain.jobs import Job
from controller.domain.service_documents import ServiceRequest
from controller.errors import EnvironmentProblem
from controller.intake.source import local_path
from tests.controller.service.running import DEFAULTS, Running, running
from tests.fakes import DONE, JobBehaviour, fails_with
from tests.pipeline import until

pytestmark = [pytest.mark.process, pytest.mark.usefixtures("working_folder")]

BROKEN = b"broken"


def script(job: Job) -> JobBehaviour:
    """Recordings that begin with BROKEN cannot be cut."""
    if job.span is None and job.media_uri.startswith("file:") and _begins(job.media_uri, BROKEN):
        return fails_with(ExitCode.BAD_INPUT, "the recording is damaged", "send another file")
    return DONE


def _begins(uri: str, what: bytes) -> bool:
    return Path(str(local_path(uri))).read_bytes().startswith(what)


@contextlib.contextmanager
def serving(store: FileStore, **settings: Any) -> Iterator[Running]:
    with running(store, script=script, part_bytes=1000, **settings) as up:
        yield up


@pytest.fixture
def service(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with serving(store) as up:
        monkeypatch.setenv("STENOFLEET_SERVER", up.address)
        yield up


@pytest.fixture(autouse=True)
def handlers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The handlers of signals, which commands replace; and no second passes between the looks of a command."""
    monkeypatch.setattr(batch_service_wait, "_FIRST_S", 0.05)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


Machine = Callable[[str], None]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Continue as another machine: with another state folder."""

    def machine(name: str) -> None:
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / f"state of {name}"))

    machine("a")
    return machine


def recordings(count: int, *broken: int, size: int = 2500) -> Path:
    """A folder with recordings of several parts, each with another content."""
    folder = Path("archive")
    for number in range(count):
        path = folder / f"show {number % 3}" / f"talk-{number:02d}.mp3"
        path.parent.mkdir(parents=True, exist_ok=True)
        head = BROKEN if number in broken else b"sound"
        path.write_bytes((head + f" {number} ".encode()).ljust(size, b"."))
    return folder


def runs(service: Running) -> list[dict[str, Any]]:
    """All runs of the service."""
    found: list[dict[str, Any]] = service.client.get("/v1/runs", params={"limit": 200}).json()["runs"]
    return found


def submitted(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """Submit, and return the id of the batch."""
    assert cli.run(["batch", "submit", *arguments]) == code
    return capsys.readouterr().out.strip()


def wait(*arguments: str) -> int:
    return cli.run(["batch", "wait", *arguments])


def test_a_killed_submission_continues_on_another_machine(
    service: Running, machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = recordings(20, 4, 11, size=3000)
    accepted, killed = service.server.queue.accepted, threading.Event()
    begun: list[str] = []

    def held(prefix: str) -> None:
        """From the third submission on, no answer comes before the command is killed."""
        accepted(prefix)
        begun.append(prefix)
        if len(begun) >= 3:
            killed.wait()

    service.server.queue.accepted = held  # type: ignore[method-assign]
    command = [sys.executable, "-m", "controller", "batch", "submit", str(folder), "-o", "out", "-f", "txt,srt"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until(lambda: len(begun) >= 3 or process.poll() is not None, "some are submitted")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    killed.set()
    before = len(runs(service))
    assert 3 <= before < 20

    machine("b")
    batch = submitted(capsys, str(folder), "-o", "out", "-f", "txt,srt")
    found = runs(service)
    assert len(found) == 20
    assert {run["labels"]["batch"] for run in found} == {batch}
    assert {run["labels"]["batch.entry"] for run in found} == {f"{number}/20" for number in range(1, 21)}
    # Again, with nothing to do.
    machine("c")
    assert submitted(capsys, str(folder), "-o", "out", "-f", "txt,srt") == batch
    assert len(runs(service)) == 20

    assert wait(batch, "-o", "out") == 4
    said = capsys.readouterr()
    assert "20 recordings: 18 complete, 2 failed" in said.err
    assert said.err.count("the recording is damaged") >= 2
    written = {path for path in Path("out").rglob("*") if path.is_file()}
    assert written == {
        Path(f"out/show {number % 3}/talk-{number:02d}.{extension}")
        for number in range(20)
        if number not in (4, 11)
        for extension in ("txt", "srt")
    }
    assert len(said.out.splitlines()) == 36
    # Uploads of complete runs are deleted. The process was killed while it sent four at most.
    service.wait_until_gone("queue/")
    left = {item.key.split("/")[2] for item in service.store.list("uploads/")}
    assert 2 <= len(left) <= 2 + 4


def test_two_machines_that_submit_at_the_same_time_submit_nothing_twice(service: Running, machine: Machine) -> None:
    recordings(8)
    command = [sys.executable, "-m", "controller", "batch", "submit", "archive", "-q"]
    processes = []
    for name in ("a", "b"):
        machine(name)
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    ended = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ended
    assert ended[0][0] == ended[1][0]
    assert sorted(run["labels"]["batch.entry"] for run in runs(service)) == [f"{number}/8" for number in range(1, 9)]


def test_an_interrupted_upload_is_continued_with_the_parts_that_are_missing(
    service: Running, machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings(1, size=9500)
    sent: list[str] = []
    ordinary = Connection.send

    def send(self: Connection, method: str, address: str, **more: Any) -> Any:
        if method == "PUT":
            if len(sent) == 4:
                raise EnvironmentProblem("the cable was pulled")
            sent.append(address)
        return ordinary(self, method, address, **more)

    monkeypatch.setattr(Connection, "send", send)
    assert cli.run(["batch", "submit", "archive"]) == 3
    upload = service.client.get("/v1/uploads").json()["uploads"]
    assert len(upload) == 1
    machine("b")
    sent[:] = ["others"] * 5
    submitted(capsys, "archive")
    assert [address.rpartition("/")[2] for address in sent[5:]] == ["5", "6", "7", "8", "9", "10"]
    assert len(runs(service)) == 1


def test_a_list_with_options_and_labels_of_its_recordings(
    service: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings(3)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    Path("list.csv").write_text(
        "source,output,language,task,prompt,label.case\n"
        "archive/show 0/talk-00.mp3,first/one,pt,,Olá,7\n"
        "archive/show 1/talk-01.mp3,,,translate,,8\n"
    )
    batch = submitted(
        capsys, "list.csv", "--model", "small", "--language", "en", "-f", "srt",
        "--caption-profile", "netflix", "--max-cps", "17", "--name-template", "{stem}.{language}.{ext}",
    )  # fmt: skip
    by_case = {run["labels"]["case"]: run for run in runs(service)}
    first, second = by_case["7"], by_case["8"]
    assert (first["name"], second["name"]) == ("talk-00.mp3", "talk-01.mp3")
    assert wait(batch) == 0
    options = {}
    for case, run in by_case.items():
        options[case] = service.client.get(f"/v1/runs/{run['id']}/result").json()["options"]
    assert (options["7"]["model"], options["7"]["language"], options["7"]["initial_prompt"]) == ("small", "pt", "Olá")
    assert (options["8"]["language"], options["8"]["task"]) == ("en", "translate")
    capsys.readouterr()
    written = (path.as_posix() for folder in ("archive", "first") for path in Path(folder).rglob("*.srt"))
    assert sorted(written) == [
        "archive/show 1/talk-01.en.srt",
        "first/one.en.srt",
    ]


def test_only_options_that_are_given_are_sent(service: Running, capsys: pytest.CaptureFixture[str]) -> None:
    recordings(1)
    Path("terms.txt").write_text("Maputo = Mapooto\n")
    batches = [
        submitted(capsys, "archive", *more)
        for more in (
            (),
            ("--clip-timestamps", "1,2.5,4", "--glossary", "terms.txt", "--batch-size", "0", "--chunk-duration", "60",
             "--channels", "split", "--speaker-names", "Ann,Bo", "--on-chunk-failure", "gap", "--rendition"),
        )
    ]  # fmt: skip
    assert batches[0] != batches[1]
    asked = {
        run["labels"]["batch"]: ServiceRequest.decode(
            service.store.get(f"requests/default/{run['id']}/request.json", max_bytes=1 << 20)
        )
        for run in runs(service)
    }
    plain, other = (asked[batch] for batch in batches)
    assert (plain.options, plain.plan) == (DEFAULTS.options, DEFAULTS.plan)
    assert [(clip.start_ms, clip.end_ms) for clip in other.plan.clips] == [(1000, 2500), (4000, None)]
    assert (other.options.glossary, other.options.batch_size) == (("Maputo = Mapooto",), "sequential")
    assert (other.plan.chunk_ms, other.plan.channels, other.speaker_names) == (60_000, "split", ("Ann", "Bo"))
    assert (other.on_chunk_failure, other.rendition) == ("gap", True)


def test_what_a_person_has_changed_is_kept(service: Running, capsys: pytest.CaptureFixture[str]) -> None:
    recordings(1)
    batch = submitted(capsys, "archive", "-o", "out", "-f", "txt")
    # Without -o: where the submission has said.
    assert wait(batch) == 0
    path = Path("out/show 0/talk-00.txt")
    text = path.read_bytes()
    path.write_bytes(b"corrected by hand")
    assert wait(batch) == 0
    assert (path.read_bytes(), "is kept" in capsys.readouterr().err) == (b"corrected by hand", True)
    assert wait(batch, "--overwrite", "-f", "txt,json") == 0
    assert path.read_bytes() == text
    assert path.with_suffix(".json").exists()


def test_a_batch_without_all_submissions_is_incomplete(
    service: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = recordings(3)
    empty = folder / "show 0" / "talk-03.mp3"
    empty.write_bytes(b"")
    batch = submitted(capsys, "archive", code=4)
    monkeypatch.setattr(batch_service_wait, "UNATTENDED_S", 0.5)
    assert cli.run(["batch", "status", batch, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["not_submitted"] == 1
    assert wait(batch, "-o", "out", "--junit", "tests.xml") == 4
    assert "4 recordings: 3 complete, 1 left" in capsys.readouterr().err
    assert Path("tests.xml").read_text().count("<testsuite ") == 4
    monkeypatch.setattr(batch_service_wait, "UNATTENDED_S", 1000)
    assert wait(batch, "--timeout", "1") == 6


def test_gates_report_and_retry(service: Running, capsys: pytest.CaptureFixture[str]) -> None:
    recordings(4, 2)
    batch = submitted(capsys, "archive", "-f", "txt")
    assert wait(batch, "--min-confidence", "0.99", "--junit", "tests.xml", "--json") == 4
    facts = json.loads(capsys.readouterr().out)
    assert (facts["complete"], facts["failed"], facts["below"]) == (3, 1, 3)
    assert Path("tests.xml").read_text().count("gate --min-confidence") == 3
    assert cli.run(["batch", "report", batch, "-o", "out", "--cpu-hour-price", "1"]) == 0
    rows = json.loads(Path("out/report.json").read_text())
    assert rows["batch"] == batch
    assert [row["status"] for row in rows["recordings"]].count("failed") == 1
    assert all(row["audio_s"] for row in rows["recordings"] if row["status"] == "succeeded")
    assert [row["number"] for row in rows["recordings"]] == [0, 1, 2, 3]
    assert cli.run(["batch", "retry", batch]) == 0
    assert "1 runs are tried again" in capsys.readouterr().err
    assert wait(batch) == 4
    assert cli.run(["batch", "cancel", batch]) == 0
    assert "has ended already" in capsys.readouterr().err


def test_runs_are_cancelled_and_tried_again(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    recordings(3)
    with running(store, takes_ms=10**6) as service:
        monkeypatch.setenv("STENOFLEET_SERVER", service.address)
        batch = submitted(capsys, "archive")
        assert wait(batch, "--timeout", "1") == 6
        assert cli.run(["batch", "cancel", batch]) == 0
        assert "3 runs are cancelled" in capsys.readouterr().err
        assert wait(batch) == 8
    with running(store) as service:
        monkeypatch.setenv("STENOFLEET_SERVER", service.address)
        assert cli.run(["batch", "retry", batch]) == 0
        assert wait(batch) == 0
