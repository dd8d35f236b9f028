"""Closed or full streams, and users without a home: no work is lost, and no bug is reported."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller import demo
from controller.intake import source
from tests import pipeline, speech
from tests.pipeline import SMALL, Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]

LOST = "cannot write to stdout"
CLOSED = f"stenofleet: {LOST}: it is closed; finished work is kept\n"
FULL = f"stenofleet: {LOST}: No space left on device; finished work is kept\n"

REDIRECTIONS = {
    ">&-": (3, CLOSED),
    ">/dev/full": (3, FULL),
    "2>&-": (0, ""),
    "2>/dev/full": (0, ""),
    ">&- 2>&-": (3, ""),
    "<&- >&- 2>&-": (3, ""),
    ">/dev/full 2>/dev/full": (3, ""),
    "<&- >/dev/full": (3, FULL),
}
"""By shell redirection: the exit code, and the last line on stderr."""


def redirected(how: str) -> tuple[str, ...]:
    """A program that runs another with the streams of a shell redirection."""
    return ("sh", "-c", f'exec "$@" {how}', "sh")


@pytest.fixture
def night(workplace: Workplace) -> Path:
    return speech.write_wav(workplace.folder / "night.wav", speech.silence(2, noise_db=-60))


@pytest.mark.parametrize("how", REDIRECTIONS)
def test_no_work_is_lost_because_of_a_stream(workplace: Workplace, night: Path, how: str) -> None:
    code, last = REDIRECTIONS[how]
    ended = workplace.transcribe(night, *SMALL, before=redirected(how))
    assert ended.code == code, ended.err
    assert len(workplace.outputs) == 5
    assert ended.err.endswith(last)
    assert ended.err.count(LOST) == (1 if last else 0)
    assert "Traceback" not in ended.err
    assert "bug" not in ended.err
    if code == 0:
        assert [path.exists() for path in ended.paths] == [True] * 5
    else:
        assert ended.out == ""
    # Messages must not go to a file that got the descriptor of a closed stream.
    assert all(
        b"transcribed (run" not in path.read_bytes() for path in workplace.store.root.rglob("*") if path.is_file()
    )


@pytest.mark.parametrize("command", ["--help", "version --json", "completion bash"])
@pytest.mark.parametrize("how", [">&-", ">/dev/full", "2>&-", "2>/dev/full"])
def test_every_command_reports_it_in_one_line(workplace: Workplace, command: str, how: str) -> None:
    code, last = REDIRECTIONS[how]
    ended = workplace.run(*command.split(), before=redirected(how))
    assert (ended.code, ended.err) == (code, last)
    assert bool(ended.out) == (code == 0)


@pytest.mark.parametrize("how", ["2>&-", "2>/dev/full"])
def test_a_usage_error_keeps_its_exit_code_when_stderr_is_closed(workplace: Workplace, how: str) -> None:
    assert workplace.run("transcribe", "missing.wav", *SMALL, before=redirected(how)).code == 5
    assert workplace.run("nonsense", before=redirected(how)).code == 2


def test_a_list_from_a_stdin_that_is_closed_is_empty(workplace: Workplace) -> None:
    ended = workplace.transcribe("-", *SMALL, before=redirected("<&-"))
    assert ended.code == 2
    assert "the list on stdin is empty" in ended.err


@pytest.mark.parametrize(
    "how,code,out,err",
    [
        (">&-", 78, False, "stdout is closed: redirect it to a file: > FILE\n"),
        ("2>&-", 0, True, ""),
        (">&- 2>&-", 78, False, ""),
    ],
)
def test_a_chunk_job_for_a_single_file_needs_no_stderr(how: str, code: int, out: bool, err: str) -> None:
    job = [sys.executable, "-P", "-m", "chunk_job", "--resolve-model", str(demo.MODEL)]
    done = subprocess.run([*redirected(how), *job], capture_output=True, text=True, check=False)
    assert (done.returncode, bool(done.stdout), done.stderr) == (code, out, err)


# ---------------------------------------------------------------- paths that programs read


def test_paths_are_written_byte_for_byte(workplace: Workplace, night: Path) -> None:
    os.link(night, workplace.folder / os.fsdecode(b"latin \xe9.wav"))
    ended = workplace.transcribe(b"latin \xe9.wav", *SMALL)
    assert ended.code == 0, ended.err
    assert b"latin \xe9.txt\n" in os.fsencode(ended.out)
    assert [path.exists() for path in ended.paths] == [True] * 5
    rendered = workplace.run("render", os.fsdecode(b"out/latin \xe9.json"), "-f", "srt", "-o", "again", "--null")
    assert os.fsencode(rendered.out).endswith(b"/again/latin \xe9.srt\0")


def test_with_nul_every_name_survives(workplace: Workplace, night: Path) -> None:
    names = [b"new\nline.wav", b"latin \xe9.wav", b"\x1b[31mred.wav"]
    for name in names:
        os.link(night, workplace.folder / os.fsdecode(name))
    for flag in ("-0", "--null"):
        ended = workplace.transcribe(*SMALL, "-f", "txt,json", flag, "--", *names)
        assert ended.code == 0, ended.err
        *paths, end = os.fsencode(ended.out).split(b"\0")
        assert end == b""
        assert sorted(paths) == sorted(os.fsencode(path) for path in workplace.out.iterdir())
    resumed = workplace.run("resume", workplace.keys().run, "-0", "-f", "txt", "-o", workplace.out)
    assert resumed.code == 0, resumed.err
    assert resumed.out.endswith(".txt\0")


def test_json_has_uris_that_hold_every_byte_and_text_that_is_unicode(workplace: Workplace, night: Path) -> None:
    os.link(night, workplace.folder / os.fsdecode(b"latin \xe9.wav"))
    ended = workplace.transcribe(b"latin \xe9.wav", *SMALL, "--json")
    (run,) = json.loads(ended.out)["runs"]
    assert json.dumps(run, ensure_ascii=False).encode(), "no half of a surrogate"
    assert Path(run["files"][0]).name == "latin \\xe9.txt"
    assert [source.local_path(uri).exists() for uri in run["uris"]] == [True] * 5
    assert [Path(file).suffix for file in run["files"]] == [Path(uri).suffix for uri in run["uris"]]


# ---------------------------------------------------------------- a user without a home

UNKNOWN_USER = """\
import pwd, runpy, sys
def getpwuid(uid):
    raise KeyError(uid)
pwd.getpwuid = getpwuid
sys.argv = sys.argv[4:]
runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
"""
HOMELESS = ("env", "-u", "HOME", sys.executable, "-P", "-c", UNKNOWN_USER)
"""Run a module for a user without a home, neither in the environment nor in the list of users."""

NOWHERE = {"STENOFLEET_STORE": "", "XDG_STATE_HOME": ""}
HELPS = "  give --store file:///FOLDER, or set XDG_STATE_HOME to a folder that you may write to\n"


@pytest.mark.parametrize("command", [("list",), ("transcribe", "night.wav", *SMALL), ("status", "aaaa")], ids="".join)
def test_without_a_home_the_message_names_what_to_give(
    workplace: Workplace, night: Path, command: tuple[str, ...]
) -> None:
    ended = workplace.run(*command, before=HOMELESS, env=NOWHERE)
    assert (ended.code, ended.out) == (3, "")
    assert ended.err == f"stenofleet: this user has no home folder to keep runs in\n{HELPS}"


@pytest.mark.parametrize("home", ["/proc/self", "/dev/null", "/proc/self/nothing"])
def test_a_home_that_takes_no_folder_is_reported(workplace: Workplace, night: Path, home: str) -> None:
    ended = workplace.transcribe(night, *SMALL, env=NOWHERE | {"HOME": home})
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith(f"stenofleet: {home}/.local/state/stenofleet: runs cannot be kept there: ")
    assert ended.err.endswith(HELPS)


@pytest.mark.parametrize("given", ["store", "state"])
def test_a_store_or_a_state_folder_is_all_that_it_takes(workplace: Workplace, night: Path, given: str) -> None:
    env = {"XDG_STATE_HOME": ""} if given == "store" else {"STENOFLEET_STORE": ""}
    ended = workplace.transcribe(night, *SMALL, before=HOMELESS, env=env)
    assert ended.code == 0, ended.err
    assert len(workplace.outputs) == 5
    assert workplace.run("list", before=HOMELESS, env=env).out
    assert not (workplace.folder / "~").exists()
    if given == "store":
        resumed = workplace.run("resume", workplace.keys().run, before=HOMELESS, env=env)
        assert "was not started on this machine" in resumed.err
        assert workplace.run("clean", "--all", "--yes", before=HOMELESS, env=env).code == 0


@pytest.fixture
def asked(workplace: Workplace) -> Iterator[pipeline.Ended]:
    """A chunk job that gets a model by its name."""
    program = UNKNOWN_USER.replace("sys.argv[4:]", "['chunk_job', '--resolve-model', 'tiny']")
    before = ("env", "-u", "HOME", "-u", "HF_HOME", "-u", "XDG_CACHE_HOME", sys.executable, "-P", "-c", program)
    yield workplace.run(before=before)
    assert not (workplace.folder / "~").exists()


def test_only_a_model_that_is_named_needs_a_home(asked: pipeline.Ended) -> None:
    assert asked.code == 82
    assert "model tiny: this user has no home folder for models: set HF_HOME to a folder" in asked.err


@pytest.mark.parametrize("typed", ["~/model", "~unknown-user/model"])
def test_a_home_that_is_not_known_is_no_bug_of_a_models_name(workplace: Workplace, night: Path, typed: str) -> None:
    ended = workplace.transcribe(night, "--model", typed, before=HOMELESS)
    assert ended.code == 2
    assert f"no model '{typed}'" in ended.err
