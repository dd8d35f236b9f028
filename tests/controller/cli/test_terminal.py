"""Untrusted text is escaped before every command prints it, and secrets in URLs are masked."""

import ast
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import chunk_job
import controller
from chunk_job.document import Document
from chunk_job.store.files import FileStore
from controller import cli, demo
from controller.cli import models, watch
from controller.cli import options as shared
from controller.domain.documents import Evidence, Outcome, Request, Status
from controller.domain.keys import RunKeys
from controller.errors import EnvironmentProblem
from controller.runners import local
from tests import fakes, speech

RUN = fakes.RUN
KEYS = RunKeys(RUN)
EVIL = "a\x1b[2J\x9b31m\u202eb\x00c\x7f\r\n\u2028d\ue000"

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: FileStore
) -> Command:
    for name in os.environ:
        if name.startswith("STENOFLEET"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(list(arguments))
        output = capsys.readouterr()
        for each in (output.out + output.err).split("\n"):
            assert each.isprintable(), each
        return code, output.out, output.err

    return run


# ---------------------------------------------------------------- documents of a store


def documents() -> dict[str, Document]:
    """Documents that commands show, by their keys."""
    record = fakes.record()
    return {
        KEYS.record: record,
        KEYS.request: fakes.request(record, Path("/out/talk")),
        KEYS.status: Status(
            run=RUN, name="talk.mp4", state="failed", percent=42.0, spans_done=1, spans_known=3, planned=False,
            failures=2, updated_ms=fakes.START_MS,
        ),
        KEYS.marker("failed"): Outcome(
            run=RUN, verdict="failed", round="0000cafe", summary="so it was", advice="do this", failure="MODEL"
        ),
        KEYS.failure(1, 1, "0000cafe"): Evidence(
            round="0000cafe", span=1, attempt=1, failure="MODEL", summary="no model", advice="get one",
            details=("a line", "another"), ended_ms=fakes.START_MS, node="node-1",
        ),
    }  # fmt: skip


def spoiled(value: Any) -> Iterator[Any]:
    """*value*, once for each of its texts with that one replaced."""
    if isinstance(value, str):
        yield EVIL
        # Names and URLs have their own limits.
        yield EVIL.replace("\x00", "")
        yield "s3://bucket/" + EVIL.replace("\x00", "").replace("\r\n", "")
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from ({**value, name: other} for other in spoiled(inner))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from ([*value[:index], other, *value[index + 1 :]] for other in spoiled(inner))


def everything(value: Any) -> Any:
    """*value* with all its texts replaced."""
    if isinstance(value, dict):
        return {name: everything(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [everything(inner) for inner in value]
    return EVIL if isinstance(value, str) else value


COMMANDS = (
    ("list",), ("list", "--json"), ("status", RUN), ("status", RUN, "--json"), ("watch", RUN), ("watch",),
    ("logs", RUN), ("logs", RUN, "--json"), ("logs", RUN, "--chunk", "1"), ("resume", RUN), ("render", RUN),
)  # fmt: skip


@pytest.mark.parametrize("key", documents(), ids=lambda key: key.rpartition("/")[2])
def test_no_text_of_a_document_reaches_the_terminal_raw(command_line: Command, store: FileStore, key: str) -> None:
    shown = 0
    given = documents()
    whole = json.loads(given[key].encode())
    for other in [*spoiled(whole), everything(whole)]:
        for each, document in given.items():
            store.put(each, json.dumps(other).encode() if each == key else document.encode())
        for command in COMMANDS:
            _, out, err = command_line(*command)
            shown += "\\x1b[2J" in out + err
            if "--json" in command:
                json.loads(out)
    # A record is only read; no command shows its texts.
    assert shown or key == KEYS.record


def test_the_texts_of_evidence_are_shown_escaped_and_masked(command_line: Command, store: FileStore) -> None:
    for key, document in documents().items():
        store.put(key, document.encode())
    evidence = documents()[KEYS.failure(1, 1, "0000cafe")].model_copy(
        update={"summary": EVIL, "advice": f"http://user:hush@host {EVIL}", "details": (EVIL, "\tx")}
    )
    store.put(KEYS.failure(1, 1, "0000cafe"), evidence.encode())
    out = command_line("logs", RUN)[1].split("\n")
    harmless = "a\\x1b[2J\\x9b31m\\u202eb\\x00c\\x7f\\r\\n\\u2028d\\ue000"
    assert out == [
        f"chunk 1, attempt 1 on node-1: MODEL: {harmless}",
        f"  what to do: http://***@host {harmless}",
        f"  {harmless}",
        "  \\tx",
        "",
    ]
    (failure,) = json.loads(command_line("logs", RUN, "--json")[1])["failures"]
    assert failure["summary"] == EVIL


def test_messages_of_pods_are_shown_escaped(
    command_line: Command, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key, document in documents().items():
        store.put(key, document.encode())
    monkeypatch.setattr(watch, "_now", lambda *_: ({f"pod{EVIL}": [EVIL, "b"]}, {f"other{EVIL}": EVIL}))
    code, out, _ = command_line("logs", RUN, "--runner", "kubernetes")
    assert code == 0
    assert out.count("\\x1b[2J") == 4
    assert len(out.splitlines()) == 8
    document = json.loads(command_line("logs", RUN, "--runner", "kubernetes", "--json")[1])
    assert document["waiting"] == {f"other{EVIL}": EVIL}


def test_paths_and_urls_are_shown_unchanged(command_line: Command, store: FileStore) -> None:
    given = documents()
    request = given[KEYS.request]
    assert isinstance(request, Request)
    recording = "s3://bucket/me@home/talk?sig=1&token=2.mp4"
    moved = request.model_copy(update={"source": request.source.model_copy(update={"uri": recording})})
    for key, document in {**given, KEYS.request: moved}.items():
        store.put(key, document.encode())
    assert f"recording    {recording}\n" in command_line("status", RUN)[1]
    assert json.loads(command_line("status", RUN, "--json")[1])["recording"] == recording


# ---------------------------------------------------------------- what is typed


TYPED = (
    "s3://user:hush@bucket/key.mp4", "s3://user:hu/hush@bucket/key.mp4", "s3://user:12/hush@bucket/key.mp4",
    "s3://user hush:hush@bucket/key.mp4", "s3://hush@bucket", "https://user:hush@host/talk.mp4",
    "https://hush@host", "https://host/talk.mp4?X-Amz-Signature=hush&X-Amz-Date=1", "S3://user:hush@bucket/key.mp4",
    "https://host/my talk.mp4?sig=hush", "https://user:hush@host/" + "x" * 300,
    "https://my user:hush@host/talk.mp4", "https://host/x?password=my hush",
)  # fmt: skip


@pytest.mark.parametrize("typed", TYPED)
@pytest.mark.parametrize("command", [("plan",), ("plan", "--json"), ("transcribe",), ("transcribe", "--json")])
def test_an_address_with_a_secret_is_refused_and_never_repeated(
    command_line: Command, tmp_path: Path, command: tuple[str, ...], typed: str
) -> None:
    model = ("--model", str(demo.MODEL)) if command[0] == "transcribe" else ()
    code, out, err = command_line(*command, typed, *model)
    assert code == 5
    output = out + err
    assert "hush" not in output
    assert "not supported" in output
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"hush" in path.read_bytes()]


@pytest.mark.parametrize(
    "typed,advice",
    [
        ("https://host/talk.mp4", "download the recording first, or use an object in S3: s3://bucket/key"),
        ("HTTP://host/talk.mp4", "download the recording first"),
        ("gs://bucket/talk.mp4", "download the recording first"),
        ("file:///talk.mp4", "use its path, without file://"),
    ],
)
def test_a_url_in_place_of_a_file_is_reported_as_a_url(command_line: Command, typed: str, advice: str) -> None:
    code, _, err = command_line("plan", typed)
    assert code == 5
    assert f"{typed}: URLs of this kind are not supported" in err
    assert advice in err


@pytest.mark.process
def test_a_file_that_is_called_like_a_url_is_still_a_file(command_line: Command) -> None:
    Path("https:/host").mkdir(parents=True)
    speech.write_wav(Path("https:/host/talk.wav"), speech.silence(1))
    assert command_line("plan", "https://host/talk.wav")[0] == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--store", "http://user:hush@host"),
        ("list", "--store", "s3://user:hush@bucket"),
        ("transcribe", "talk.wav", "-o", "s3://user:hush@bucket/x"),
        ("transcribe", "talk.wav", "--model", "https://user:hush@host/model"),
        ("transcribe", "talk.wav", "--device", "https://user:hush@host/model"),
        ("transcribe", "talk.wav", "--language", "https://user:hush@host/model"),
        ("render", "https://user:hush@host/talk.json"),
        ("status", "https://user:hush@host/talk.json"),
        ("https://user:hush@host/talk.json",),
        ("list", "https://user:hush@host/talk.json"),
        ("completion", "https://user:hush@host/talk.json"),
    ],
    ids=" ".join,
)
def test_no_usage_error_contains_a_secret_or_control_characters(
    command_line: Command, arguments: tuple[str, ...]
) -> None:
    speech.write_wav(Path("talk.wav"), speech.silence(1))
    code, out, err = command_line(*arguments)
    assert (code, out) == (2, "")
    assert "hush" not in err
    raw = [argument.replace("https://user:hush@host/", "\x1b[2J\x9b\u202e") for argument in arguments]
    assert command_line(*raw)[0] == 2 or raw == list(arguments)


def test_clicks_own_mistakes_keep_their_usage_lines(command_line: Command) -> None:
    code, out, err = command_line("list", "--nonsense\x1b")
    assert (code, out) == (2, "")
    assert err.startswith("Usage: stenofleet list [OPTIONS]\nTry 'stenofleet list --help' for help.\n\nError: ")
    assert "--nonsense\\x1b" in err


def test_the_trace_of_a_bug_is_escaped_and_keeps_its_lines(
    command_line: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError(f"{EVIL} http://user:hush@host")

    monkeypatch.setattr(shared, "store_at", broken)
    code, _, err = command_line("list")
    assert code == 1
    assert err.startswith("Traceback (most recent call last):\n")
    assert "http://***@host\n" in err
    assert "hush" not in err
    assert "this is a bug" in err


def test_library_warnings_and_thread_errors_are_escaped(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for module, name in ((logging, "lastResort"), (threading, "excepthook")):
        monkeypatch.setattr(module, name, getattr(module, name))
    cli.write_others_harmless()
    assert logging.lastResort is not None
    logging.lastResort.handle(logging.LogRecord("urllib3", logging.WARNING, "x", 1, "%s", (EVIL,), None))
    assert capsys.readouterr().err == "a\\x1b[2J\\x9b31m\\u202eb\\x00c\\x7f\\r\\n\\u2028d\\ue000\n"

    def broken() -> None:
        raise ZeroDivisionError(f"{EVIL} http://user:hush@host")

    thread = threading.Thread(target=broken)
    thread.start()
    thread.join()
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(" http://***@host\n")
    assert err.replace("\n", "").isprintable()


def test_a_variable_that_is_no_option_is_reported_escaped(
    command_line: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STENOFLEET_\x1b[2J", "1")
    assert "ignored, no such option: STENOFLEET_\\x1b[2J\n" in command_line("list")[2]


def test_the_question_for_a_model_is_escaped(command_line: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(question: str) -> bool:
        asked.append(question)
        return False

    def missing(*_: object, **__: object) -> None:
        raise EnvironmentProblem(f"no model {EVIL}", "get one")

    speech.write_wav(Path("talk.wav"), speech.silence(1))
    monkeypatch.setattr(models, "ask", ask)
    monkeypatch.setattr(local, "resolve_model", missing)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert command_line("transcribe", "talk.wav", "--model", "tiny")[0] == 3
    assert asked


# ---------------------------------------------------------------- one way out


SOURCES = sorted(
    path
    for package in (chunk_job, controller)
    for path in Path(str(package.__file__)).parent.rglob("*.py")
    if "recipe" not in path.parts
)
WRITERS = {
    # Everything that the controller writes.
    "controller/cli/terminal.py": {"click.echo", "click.confirm"},
    # Commands to GitHub Actions, whose texts are escaped there for it.
    "controller/cli/github.py": {"click.echo"},
    # Markers of sections for GitLab, without any text of others.
    "controller/cli/gitlab.py": {"click.echo"},
    # Its own script, which a shell reads.
    "controller/cli/about.py": {"click.echo"},
    # Everything that a job writes except its log.
    "chunk_job/process.py": {"sys.stdout.write"},
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: "/".join(path.parts[-3:]))
def test_nothing_else_writes_to_the_terminal(path: Path) -> None:
    root = Path(str(controller.__file__)).parents[1]
    called = {
        ast.unparse(node.func)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    }
    writing = {"print", "click.echo", "click.secho", "click.confirm", "click.prompt", "traceback.print_exc",
               "traceback.print_exception", "sys.stdout.write", "sys.stderr.write", "warnings.warn"}  # fmt: skip
    assert called & writing <= WRITERS.get(path.relative_to(root).as_posix(), set())
