"""The runner with one process for each job, and what remains after it."""

import contextlib
import gc
import os
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller import demo
from controller.cli import options
from controller.domain.failures import FailureClass
from controller.domain.jobs import Job, JobView
from controller.errors import EnvironmentProblem
from controller.runners import local
from controller.runners.local import LocalRunner
from tests import leading, pipeline

pytestmark = pytest.mark.process

RUN = "0123456789abcdef"
OTHER = "fedcba9876543210"

STAND = "import time; print('progress 1000 of 9000 ms', flush=True); time.sleep(100)"
HOLD = (
    "import sys, time; from chunk_job import process; process.start_logging(); "
    "process.hold_lifeline(int(sys.argv[sys.argv.index('--lifeline') + 1])); print('up', flush=True); time.sleep(100)"
)


class Scripted(LocalRunner):
    """The real runner, with scripted programs named by the task key, so that no job loads a model."""

    programs: dict[str, str]

    def _command(self, job: Job) -> list[str]:
        return [sys.executable, "-P", "-c", self.programs[job.task_key]]


def job(program: str, *, run: str = RUN, span: int | None = 0, attempt: int = 1) -> Job:
    return Job(run=run, span=span, attempt=attempt, task_key=program, task_sha256="0" * 64)


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Scripted]:
    runner = leading.local_runner(Scripted, (tmp_path / "store").as_uri(), tmp_path / "home")
    runner.programs = {
        "well": "print('all is well')",
        "stand": STAND,
        "hold": HOLD,
        "named": (
            "import sys; from pathlib import Path; from chunk_job import process; from chunk_job.errors import *\n"
            "def do(): raise JobError(ExitCode.MODEL, 'no model', 'get one')\n"
            "process.leave(process.work(do, Path(sys.argv[sys.argv.index('--termination-log') + 1])))"
        ),
        "code": f"import os; print('bye', flush=True); os._exit({ExitCode.CUDA_OOM})",
        "crash": "import faulthandler, os; faulthandler.enable(); os.abort()",
        "loud": "import sys\n"
        "for n in range(20_000): print(f'line {n}')\n"
        "print('progress 7000 of 9000 ms'); sys.exit(70)",
        "kernels": "import os; print(os.environ['STENOFLEET_KERNEL_CACHE'])",
        "where": "import os, sys; print(os.environ['TMPDIR'], os.environ['HF_HUB_OFFLINE'], sys.stdin.read() == '')",
    }
    yield runner
    leading.close(runner, leave=False)


def ended(runner: LocalRunner) -> JobView:
    """The only job, once it has ended."""
    pipeline.until(lambda: [view.phase for view in runner.observe()] == ["ended"], "the job ends")
    (view,) = runner.observe()
    return view


def log(runner: LocalRunner, tmp_path: Path, place: str = "home/scratch") -> Path:
    """The only job's log."""
    (found,) = (tmp_path / place).rglob("log")
    return found


# ---------------------------------------------------------------- what every runner does


def test_a_submitted_job_is_seen_running_and_then_ended(runner: Scripted) -> None:
    before_ms = time.time_ns() // 1_000_000
    runner.submit(job("stand", span=4, attempt=2))
    (view,) = runner.observe()
    assert (view.run, view.span, view.attempt, view.phase, view.diagnosis) == (RUN, 4, 2, "running", None)
    assert before_ms <= view.since_ms <= time.time_ns() // 1_000_000
    os.kill(int(view.uid), signal.SIGKILL)
    view = ended(runner)
    assert view.diagnosis is not None
    assert view.diagnosis.failure == FailureClass.DISRUPTED_DELETED


@pytest.mark.parametrize(
    "program,failure,summary",
    [
        ("well", FailureClass.NO_RESULT, "the process ended with exit code 0 but wrote no result"),
        ("named", FailureClass.MODEL, "no model"),
        ("code", FailureClass.CUDA_OOM, "the process ended with exit code 80"),
        ("crash", FailureClass.NATIVE_CRASH, "native code crashed (SIGABRT)"),
        ("loud", FailureClass.UNKNOWN, "the process ended with exit code 70"),
    ],
)
def test_an_ended_job_has_a_diagnosis(runner: Scripted, program: str, failure: FailureClass, summary: str) -> None:
    runner.submit(job(program))
    view = ended(runner)
    assert view.diagnosis is not None
    assert (view.diagnosis.failure, view.diagnosis.summary) == (failure, summary)


def test_the_logs_end_is_evidence_and_progress(runner: Scripted) -> None:
    runner.submit(job("loud"))
    view = ended(runner)
    assert view.diagnosis is not None
    assert view.diagnosis.details[-2:] == ("line 19999", "progress 7000 of 9000 ms")
    assert len(view.diagnosis.details) == 30
    assert view.progress_ms == 7000


def test_progress_is_seen_while_it_runs(runner: Scripted) -> None:
    runner.submit(job("stand"))
    pipeline.until(lambda: runner.observe()[0].progress_ms == 1000, "progress is seen")
    assert runner.observe()[0].phase == "running"


def test_a_crash_leaves_its_stack(runner: Scripted) -> None:
    runner.submit(job("crash"))
    view = ended(runner)
    assert view.diagnosis is not None
    assert any("Fatal Python error: Aborted" in line for line in view.diagnosis.details)


def test_jobs_of_one_run_are_distinguished(runner: Scripted) -> None:
    for one in (
        job("stand", span=None),
        job("stand", span=1),
        job("stand", span=1, attempt=2),
        job("stand", run=OTHER),
    ):
        runner.submit(one)
    assert len({view.name for view in runner.observe()}) == 4
    assert {(view.run, view.span, view.attempt) for view in runner.observe()} == {
        (RUN, None, 1),
        (RUN, 1, 1),
        (RUN, 1, 2),
        (OTHER, 0, 1),
    }


def test_a_deleted_job_is_stopped_and_its_files_are_removed(runner: Scripted, tmp_path: Path) -> None:
    runner.submit(job("stand"))
    (view,) = runner.observe()
    runner.delete(view)
    assert runner.observe() == []
    with pytest.raises(ProcessLookupError):
        os.kill(int(view.uid), 0)
    assert list((tmp_path / "home" / "scratch").rglob("*/*")) == []


def test_the_children_of_a_deleted_job_are_stopped_too(runner: Scripted, tmp_path: Path) -> None:
    marker = str(tmp_path / "grandchild")
    runner.programs["parent"] = (
        "import subprocess, sys, time\n"
        f"subprocess.Popen([sys.executable, '-c', {STAND!r}, {marker!r}])\n"
        "time.sleep(100)"
    )

    def grandchildren() -> list[str]:
        found = []
        for line in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                found += [line.parent.name] if os.fsencode(marker) in line.read_bytes().split(b"\0") else []
        return found

    runner.submit(job("parent"))
    pipeline.until(grandchildren, "the grandchild runs")
    runner.delete(runner.observe()[0])
    pipeline.until(lambda: not grandchildren(), "the grandchild has ended")


def test_a_job_has_a_scratch_folder_of_its_own_no_input_and_no_hub(runner: Scripted, tmp_path: Path) -> None:
    runner.submit(job("where"))
    ended(runner)
    path = log(runner, tmp_path)
    assert path.read_text(encoding="utf-8").split() == [str(path.parent), "1", "True"]
    assert path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    "environment,place",
    [
        ({"HOME": "{0}"}, "{0}/.cache/stenofleet/kernels"),
        ({"HOME": "{0}", "XDG_CACHE_HOME": "{0}/x"}, "{0}/x/stenofleet/kernels"),
        ({"HOME": "{0}", "STENOFLEET_KERNEL_CACHE": "{0}/given"}, "{0}/given"),
        ({"HOME": "/nonexistent"}, "{0}/home/kernels"),
    ],
)
def test_all_jobs_of_a_user_share_one_folder_for_compiled_kernels(
    runner: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], place: str
) -> None:
    for name in ("XDG_CACHE_HOME", "STENOFLEET_KERNEL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value.format(tmp_path))
    runner.submit(job("kernels"))
    ended(runner)
    assert log(runner, tmp_path).read_text(encoding="utf-8").strip() == place.format(tmp_path)


@pytest.mark.parametrize("leave", [False, True])
def test_closing_stops_everything(runner: Scripted, leave: bool) -> None:
    runner.submit(job("stand"))
    runner.submit(job("stand", span=1))
    pids = [int(view.uid) for view in runner.observe()]
    leading.close(runner, leave=leave)
    assert runner.observe() == []
    assert not runner.jobs_stay
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_a_job_that_cannot_be_started_leaves_no_trace(runner: Scripted, monkeypatch: pytest.MonkeyPatch) -> None:
    gc.collect()  # what other tests have left open
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(FileNotFoundError):
        runner.submit(job("well"))
    assert runner.observe() == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_jobs_leave_no_descriptor_behind(runner: Scripted) -> None:
    runner.programs["nothing"] = ""
    gc.collect()  # what other tests have left open
    before = len(os.listdir("/proc/self/fd"))
    for number in range(12):
        runner.submit(job("nothing", span=number))
        runner.delete(runner.observe()[0])
    assert len(os.listdir("/proc/self/fd")) == before


# ---------------------------------------------------------------- leading


def test_one_process_leads_a_run_until_it_releases_it(runner: Scripted, tmp_path: Path) -> None:
    other = leading.local_runner(LocalRunner, "file:///s", tmp_path / "home")
    assert leading.leads(runner.leadership, RUN)
    assert leading.leads(runner.leadership, RUN), "it still leads when it asks again"
    assert not leading.leads(other.leadership, RUN)
    assert leading.leads(other.leadership, OTHER)
    leading.end(runner, RUN)
    assert leading.leads(other.leadership, RUN)
    leading.close(other, leave=False)
    assert leading.leads(runner.leadership, RUN)


def test_a_scratch_folder_may_be_shared_by_unrelated_stores(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    one, other = (
        leading.local_runner(Scripted, (tmp_path / name).as_uri(), tmp_path / name, scratch)
        for name in ("one", "other")
    )
    one.programs = {"hold": "import time; time.sleep(60)"}
    assert leading.leads(one.leadership, RUN)
    one.submit(job("hold"))
    assert leading.leads(other.leadership, RUN)
    leading.close(other, leave=False)
    assert len(list(scratch.rglob("log"))) == 1
    leading.close(one, leave=False)
    assert list(scratch.rglob("*")) == []


def test_a_new_leader_removes_files_of_a_killed_one(runner: Scripted, tmp_path: Path) -> None:
    left = tmp_path / "home" / "scratch" / f"stenofleet-{RUN}-{runner.leadership.domain(RUN)}-0123" / "sf-old"
    left.mkdir(parents=True)
    (left / "00000.flac").write_bytes(b"half")
    beside = tmp_path / "home" / "scratch" / f"stenofleet-{OTHER}-{runner.leadership.domain(OTHER)}-0123"
    beside.mkdir()
    assert leading.leads(runner.leadership, RUN)
    assert not left.parent.exists()
    assert beside.exists()


def test_a_killed_leader_loses_the_lock_and_its_jobs_end(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from tests.controller.runners import test_local as t\n"
        "runner = t.leading.local_runner(t.Scripted, 'file:///s', __import__('pathlib').Path(sys.argv[1]))\n"
        "runner.programs = {'hold': t.HOLD}\n"
        "t.leading.leads(runner.leadership, t.RUN); runner.submit(t.job('hold'))\n"
        "print(runner.observe()[0].uid, flush=True); time.sleep(100)\n"
    )
    root = Path(__file__).parents[3]
    home = tmp_path / "home"
    with subprocess.Popen(
        [sys.executable, "-c", code, str(home)], stdout=subprocess.PIPE, cwd=root, text=True
    ) as leader:
        assert leader.stdout is not None
        pid = int(leader.stdout.readline())
        runner = leading.local_runner(LocalRunner, "file:///s", home)
        assert not leading.leads(runner.leadership, RUN)
        pipeline.until(lambda: any(path.read_text() == "up\n" for path in home.rglob("log")), "the job is up")
        leader.kill()
    pipeline.until(has_ended(pid), "the orphan ends")
    assert len(list((home / "scratch").iterdir())) == 1
    assert leading.leads(runner.leadership, RUN)
    assert list((home / "scratch").iterdir()) == [], "and its files are removed"
    leading.close(runner, leave=False)


def has_ended(pid: int) -> Callable[[], bool]:
    def poll() -> bool:
        try:
            return b") Z " in Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return True

    return poll


# ---------------------------------------------------------------- what others have put in the way


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    """A folder that other users may write to."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    folder.chmod(0o1777)
    return folder


@pytest.fixture
def sharing(tmp_path: Path, scratch: Path) -> Iterator[Scripted]:
    """A runner whose jobs use it."""
    runner = leading.local_runner(Scripted, (tmp_path / "store").as_uri(), tmp_path / "home", scratch)
    runner.programs = {"where": "import os; print(os.environ['TMPDIR'])", "stand": STAND}
    yield runner
    leading.close(runner, leave=False)


@pytest.fixture
def private(tmp_path: Path) -> Path:
    """A folder of this user that no link may make the runner use."""
    folder = tmp_path / "private"
    (folder / "sf-old").mkdir(parents=True)
    (folder / "sf-old" / "file").write_bytes(b"mine")
    return folder


def test_scratch_folders_have_names_that_cannot_be_guessed_and_are_for_their_owner_alone(
    sharing: Scripted, scratch: Path
) -> None:
    names = set()
    for _ in range(3):
        assert leading.leads(sharing.leadership, RUN)
        sharing.submit(job("where"))
        ended(sharing)
        (made,) = scratch.iterdir()
        start = f"stenofleet-{RUN}-{sharing.leadership.domain(RUN)}-"
        assert made.name.startswith(start)
        assert len(made.name) - len(start) >= 8
        names.add(made.name)
        status = made.lstat()
        assert (status.st_uid, status.st_mode & 0o777) == (os.geteuid(), 0o700)
        assert log(sharing, scratch.parent, "scratch").read_text().strip() == str(next(made.iterdir()))
        sharing.delete(sharing.observe()[0])
        leading.end(sharing, RUN)
        assert list(scratch.iterdir()) == []
    assert len(names) == 3


@pytest.mark.parametrize("end", ["", "-{place}", "-{place}-", "-{place}-0123456789abcdef"])
def test_a_folder_that_was_there_before_is_neither_used_nor_cleared_through_a_link(
    sharing: Scripted, scratch: Path, private: Path, end: str
) -> None:
    placed = scratch / f"stenofleet-{RUN}{end.format(place=sharing.leadership.domain(RUN))}"
    placed.symlink_to(private)
    assert leading.leads(sharing.leadership, RUN)
    sharing.submit(job("where"))
    ended(sharing)
    (found,) = (path for path in scratch.iterdir() if path != placed)
    assert len(list(found.rglob("log"))) == 1
    leading.close(sharing, leave=False)
    assert leading.leads(sharing.leadership, RUN)
    assert list(scratch.iterdir()) == [placed]
    assert [path.name for path in private.rglob("*")] == ["sf-old", "file"]


def test_a_leftover_is_removed_but_nothing_behind_the_links_in_it(
    sharing: Scripted, scratch: Path, private: Path
) -> None:
    left = scratch / f"stenofleet-{RUN}-{sharing.leadership.domain(RUN)}-0123456789abcdef"
    left.mkdir()
    (left / "sf-old").symlink_to(private)
    assert leading.leads(sharing.leadership, RUN)
    assert list(scratch.iterdir()) == []
    assert [path.name for path in private.rglob("*")] == ["sf-old", "file"]


def test_a_leftover_of_another_user_is_not_removed(
    sharing: Scripted, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = scratch / f"stenofleet-{RUN}-{sharing.leadership.domain(RUN)}-0123456789abcdef"
    left.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert leading.leads(sharing.leadership, RUN)
    assert left.exists()


def test_a_folder_that_was_made_and_belongs_to_another_user_is_not_used(
    sharing: Scripted, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert leading.leads(sharing.leadership, RUN)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(EnvironmentProblem, match="does not belong to this user") as refused:
        sharing.submit(job("where"))
    assert "--scratch-dir" in refused.value.advice
    assert sharing.observe() == []


def test_a_scratch_folder_whose_name_is_taken_gets_another_name(
    sharing: Scripted, scratch: Path, private: Path
) -> None:
    assert leading.leads(sharing.leadership, RUN)
    sharing.submit(job("where"))
    ended(sharing)
    (first,) = scratch.iterdir()
    moved = first.rename(scratch.parent / "cleaned-up")
    first.symlink_to(private)
    sharing.submit(job("where", span=1))
    pipeline.until(lambda: [view.phase for view in sharing.observe()] == ["ended"] * 2, "the jobs end")
    (second,) = (path for path in scratch.iterdir() if path != first)
    assert len(list(second.rglob("log"))) == 1
    for view in sharing.observe():
        sharing.delete(view)
    leading.close(sharing, leave=False)
    assert list(scratch.iterdir()) == [first]
    assert list(moved.iterdir()) != []
    assert [path.name for path in private.rglob("*")] == ["sf-old", "file"]


def test_the_scratch_folder_itself_may_be_behind_a_link(tmp_path: Path, scratch: Path) -> None:
    (tmp_path / "link").symlink_to(scratch)
    runner = leading.local_runner(Scripted, (tmp_path / "store").as_uri(), tmp_path / "home", tmp_path / "link")
    runner.programs = {"where": "import os; print(os.environ['TMPDIR'])"}
    assert leading.leads(runner.leadership, RUN)
    runner.submit(job("where"))
    ended(runner)
    assert len(list(scratch.rglob("log"))) == 1
    leading.close(runner, leave=False)
    assert list(scratch.iterdir()) == []


KINDS = pytest.mark.parametrize("kind", ["a named pipe", "a symbolic link", "a folder", "a socket"])


def put_there(path: Path, kind: str, target: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "a named pipe":
        os.mkfifo(path)
    elif kind == "a symbolic link":
        path.symlink_to(target)
    elif kind == "a folder":
        path.mkdir()
    elif kind == "a socket":
        os.mknod(path, stat.S_IFSOCK | 0o600)
    else:
        path.write_bytes(b"")


@KINDS
@pytest.mark.timeout(20)
def test_a_lock_path_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "home" / "locks" / f"{RUN}.lock", tmp_path / "target"
    put_there(path, kind, target)
    runner = leading.local_runner(LocalRunner, "file:///s", tmp_path / "home")
    gc.collect()  # what other tests have left open
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(EnvironmentProblem) as refused:
        leading.leads(runner.leadership, RUN)
    assert refused.value.summary.startswith(f"{path} is {kind}")
    assert "remove it" in refused.value.advice
    assert not target.exists()
    assert len(os.listdir("/proc/self/fd")) == before


@KINDS
@pytest.mark.timeout(20)
def test_a_domain_path_that_is_no_file_is_named(tmp_path: Path, kind: str) -> None:
    path, target = tmp_path / "home" / "place", tmp_path / "target"
    target.write_bytes(b"0123456789abcdef")
    put_there(path, kind, target)
    runner = leading.local_runner(LocalRunner, "file:///s", tmp_path / "home")
    asked: list[Callable[[str], object]] = [
        runner.leadership.domain,
        lambda run: runner.leadership.try_acquire_or_renew(run, 0),
    ]
    for ask in asked:
        with pytest.raises(EnvironmentProblem) as refused:
            ask(RUN)
        assert refused.value.summary.startswith(f"{path} is {kind}")
        assert "remove it" in refused.value.advice
    leading.close(runner, leave=False)


@pytest.mark.parametrize("kind", ["a named pipe", "a symbolic link", "a file"])
@pytest.mark.parametrize("part", ["", "locks", "scratch"])
@pytest.mark.timeout(20)
def test_a_private_folder_path_that_is_no_folder_is_named(tmp_path: Path, part: str, kind: str) -> None:
    path, target = tmp_path / "home" / part, tmp_path / "target"
    target.mkdir()
    put_there(path, kind, target)
    runner = leading.local_runner(Scripted, "file:///s", tmp_path / "home")
    with pytest.raises(EnvironmentProblem) as refused:
        leading.leads(runner.leadership, RUN)
    assert refused.value.summary.startswith(f"{path} is {kind}")
    assert list(target.iterdir()) == []
    leading.close(runner, leave=False)


@pytest.mark.parametrize("held", [b"", b"../../../../etc", b"0123456789abcdef/..", b"0123456789ABCDEF", b"\xff" * 16])
def test_a_lock_domain_that_stenofleet_has_not_written_is_not_used(tmp_path: Path, held: bytes) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "place").write_bytes(held)
    with pytest.raises(EnvironmentProblem, match="home/place does not contain what stenofleet wrote") as refused:
        leading.local_runner(LocalRunner, "file:///s", tmp_path / "home").leadership.domain(RUN)
    assert "remove it" in refused.value.advice


def test_a_lock_domain_is_created_once(tmp_path: Path) -> None:
    drawn = {
        leading.local_runner(LocalRunner, "file:///s", tmp_path / "home").leadership.domain(run)
        for run in (RUN, OTHER) * 3
    }
    assert len(drawn) == 1
    assert os.listdir(tmp_path / "home") == ["place"]
    assert (tmp_path / "home" / "place").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "run", ["", "../../etc", "0123456789abcde", "0123456789ABCDEF", f"{RUN}/x", f"{RUN}\n", "*" * 16]
)
def test_an_invalid_run_id_is_refused_by_every_operation(runner: Scripted, tmp_path: Path, run: str) -> None:
    verbs: list[Callable[[str], object]] = [
        lambda run: runner.leadership.try_acquire_or_renew(run, 0),
        runner.leadership.check,
        runner.leadership.domain,
        runner.leadership.cancelled,
        lambda run: runner.leadership.release(run, ended=True),
        runner.abandon,
        runner.release,
        lambda run: runner.submit(job("well", run=run)),
    ]
    for verb in verbs:
        with pytest.raises(ValueError, match="not a run id"):
            verb(run)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277, 0o777], ids=oct)
def test_all_folders_of_a_runner_are_private_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    home, scratch = tmp_path / "state" / "store" / ".local", tmp_path / "big" / "scratch"
    before = os.umask(mask)
    try:
        for given in (None, scratch):
            runner = leading.local_runner(Scripted, "file:///s", home, given)
            runner.programs = {"where": "import os; print(os.environ['TMPDIR'])"}
            assert leading.leads(runner.leadership, RUN)
            runner.submit(job("where"))
            found = [path for top in ("state", "big") for path in tmp_path.glob(f"{top}/**/")]
            assert {path.stat().st_mode & 0o777 for path in found} == {0o700}
            assert any(path.name.startswith("sf-") for path in found)
            leading.close(runner, leave=False)
    finally:
        os.umask(before)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    "instead", ["os.mkfifo(path)", "os.symlink('/etc/passwd', path)", "os.symlink('/dev/zero', path)"]
)
def test_a_log_that_a_job_replaced_is_not_read(runner: Scripted, instead: str) -> None:
    runner.programs["swap"] = (
        "import os\n"
        "for name in ('log', 'termination-message'):\n"
        "    path = os.path.join(os.environ['TMPDIR'], name)\n"
        "    if os.path.exists(path): os.unlink(path)\n"
        f"    {instead}\n"
        "os._exit(70)"
    )
    runner.submit(job("swap"))
    view = ended(runner)
    assert view.diagnosis is not None
    assert (view.diagnosis.failure, view.diagnosis.details) == (FailureClass.UNKNOWN, ())


@pytest.mark.timeout(60)
def test_what_a_job_leaves_is_read_up_to_a_limit(runner: Scripted) -> None:
    runner.programs["huge"] = (
        "import os\n"
        "for name in ('log', 'termination-message'): os.truncate(os.open(os.path.join(os.environ['TMPDIR'], name),"
        " os.O_RDWR | os.O_CREAT), 1 << 40)\n"
        "os._exit(70)"
    )
    runner.submit(job("huge"))
    view = ended(runner)
    assert view.diagnosis is not None
    assert view.diagnosis.failure == FailureClass.UNKNOWN


def test_the_command_line_makes_a_store_private_and_reports_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FileStore(tmp_path / "store")
    store.put("runs/a", b"")
    store.root.chmod(0o755)
    for message in (f"{store.root}: other users had access to this store; now it is private (mode 0700)\n", ""):
        assert options.store_at(store.url).url == store.url
        assert capsys.readouterr() == ("", message)
        assert store.root.stat().st_mode & 0o777 == 0o700


def test_the_command_line_reports_a_store_that_stays_open_to_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = FileStore(tmp_path / "store")
    store.put("holidays/a", b"")
    store.root.chmod(0o755)
    options.store_at(store.url)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"{store.root}: other users have access to this store (mode 0755)")
    assert store.root.stat().st_mode & 0o777 == 0o755


# ---------------------------------------------------------------- the real jobs


@pytest.mark.parametrize("span,module", [(None, ["controller.intake"]), (3, ["chunk_job", "--attempt", "2"])])
def test_a_job_gets_its_store_its_task_and_the_tasks_digest(
    tmp_path: Path, span: int | None, module: list[str]
) -> None:
    runner = leading.local_runner(LocalRunner, "file:///a/store", tmp_path / "home")
    wanted = Job(run=RUN, span=span, attempt=2, task_key="k", task_sha256="d")
    assert runner._command(wanted) == [
        *(sys.executable, "-P", "-m", *module),
        *("--store", "file:///a/store", "--task", "k", "--task-sha256", "d"),
    ]


@pytest.mark.parametrize("span,failure", [(None, FailureClass.BAD_INPUT), (0, FailureClass.CHUNK_DAMAGED)])
def test_a_real_job_without_a_task_reports_it(tmp_path: Path, span: int | None, failure: FailureClass) -> None:
    runner = leading.local_runner(LocalRunner, (tmp_path / "store").as_uri(), tmp_path / "home")
    runner.submit(Job(run=RUN, span=span, attempt=1, task_key="tasks/00000.json", task_sha256="0" * 64))
    try:
        view = ended(runner)
    finally:
        leading.close(runner, leave=False)
    assert view.diagnosis is not None
    assert view.diagnosis.failure == failure
    assert view.diagnosis.summary == "the store has no object tasks/00000.json"


@pytest.mark.parametrize("slept_s", [0, 7 * 3600])
def test_a_job_does_not_age_while_the_machine_sleeps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slept_s: int
) -> None:
    runner = leading.local_runner(LocalRunner, (tmp_path / "store").as_uri(), tmp_path / "home")
    runner.submit(Job(run=RUN, span=0, attempt=1, task_key="tasks/00000.json", task_sha256="0" * 64))
    try:
        # The wall clock advances during suspend, the monotonic one does not.
        now_ns = time.time_ns() + slept_s * 10**9
        monkeypatch.setattr(time, "time_ns", lambda: now_ns)
        (view,) = runner.observe()
    finally:
        leading.close(runner, leave=False)
    assert now_ns // 1_000_000 - view.since_ms < 60_000


def test_a_model_lookup_does_not_outlive_its_command(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hub:
        script = "from controller.runners import local; local.resolve_model('tiny', download=True)"
        environment = os.environ | {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.getsockname()[1]}",
            "HF_HUB_CACHE": str(tmp_path),
            "TMPDIR": str(tmp_path),
        }
        command = subprocess.Popen([sys.executable, "-c", script], env=environment, stderr=subprocess.DEVNULL)
        hub.settimeout(60)
        connection, _ = hub.accept()
        (child,) = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
        command.kill()
        command.wait()
        pipeline.until(lambda: not Path(f"/proc/{child}").exists(), "the job that looks it up has ended")
        connection.close()


def test_a_model_is_resolved_by_a_job_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    local.resolve_model(str(demo.MODEL), download=False)
    with pytest.raises(EnvironmentProblem, match=r"model medium \(1.5 GB\) is not on this machine") as missing:
        local.resolve_model("medium", download=False)
    assert "--download" in missing.value.advice
