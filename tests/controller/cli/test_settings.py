"""The settings file of an untrusted folder: its use is reported, and it cannot set dangerous options."""

import os
import threading
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from chunk_job.store.files import FileStore
from controller import cli, demo
from controller.cli import settings, transcribe
from controller.domain.interfaces import RunRequests
from controller.errors import UsageProblem
from tests import fakes, speech

FILE = Path("stenofleet.toml")
STRANGER = 4242


class CommandLine:
    """The command line in this process; :attr:`asked` is what ``transcribe`` would do."""

    def __init__(self, capture: pytest.CaptureFixture[str], store: FileStore) -> None:
        self._capture = capture
        self.store = store
        self.asked: list[dict[str, Any]] = []

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = cli.run(list(arguments))
        printed = self._capture.readouterr()
        return code, printed.out, printed.err

    def transcribe(self, *arguments: str) -> tuple[int, str]:
        """The exit code and stderr."""
        code, _, err = self("transcribe", "talk.wav", *arguments)
        assert "Traceback" not in err
        return code, err


@pytest.fixture
def command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], store: FileStore
) -> CommandLine:
    for name in os.environ:
        if name.startswith("STENOFLEET"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("STENOFLEET_MODEL", str(demo.MODEL))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    speech.write_wav(Path("talk.wav"), speech.silence(1))
    line = CommandLine(capsys, store)

    def execute(run_requests: RunRequests, *_: Any, **rest: Any) -> list[Any]:
        line.asked.append({"run_requests": fakes.taken(run_requests), **rest})
        return []

    monkeypatch.setattr(transcribe, "execute", execute)
    return line


def write(text: str | bytes) -> None:
    FILE.write_bytes(text.encode() if isinstance(text, str) else text)


# ---------------------------------------------------------------- reported


def test_a_command_reports_which_of_its_options_the_file_sets(command_line: CommandLine) -> None:
    write('beam_size = 2\nmodel = "tiny"\ntimeout = 60\nchunk-image = "somewhere/hush:1"\n')
    code, err = command_line.transcribe()
    assert code == 0
    assert err.splitlines()[0] == (
        "stenofleet: stenofleet.toml in this folder sets --beam-size, --model, --chunk-image"
    )
    assert "hush" not in err
    assert len(command_line.asked) == 1


def test_a_command_without_options_in_the_file_reports_nothing(command_line: CommandLine) -> None:
    write("beam-size = 2\n")
    assert command_line("list") == (0, "", f"no runs in {command_line.store.url}\n")
    FILE.unlink()
    assert command_line("list") == (0, "", f"no runs in {command_line.store.url}\n")


def test_help_shows_the_files_defaults_without_secrets(command_line: CommandLine) -> None:
    write('chunk-image = "https://user:hush@host/image"\n')
    code, out, err = command_line("transcribe", "--help")
    assert (code, err) == (0, "stenofleet: stenofleet.toml in this folder sets --chunk-image\n")
    assert "https://***@host/image" in out
    assert "hush" not in out


# ---------------------------------------------------------------- what no file decides


@pytest.mark.parametrize("name", ["yes", "all", "force", "overwrite", "download", "kernels-in-store"])
@pytest.mark.parametrize("value", ["true", "false", '"1"'])
@pytest.mark.parametrize("command", [("transcribe", "talk.wav"), ("clean", "--all", "--yes"), ("list",)], ids=" ".join)
def test_options_that_delete_or_allow_more_are_only_read_from_the_command_line(
    command_line: CommandLine, name: str, value: str, command: tuple[str, ...]
) -> None:
    command_line.store.put(f"runs/{fakes.RUN}/run.json", b"{}")
    write(f"beam-size = 2\n{name} = {value}\n")
    code, out, err = command_line(*command)
    assert (code, out, command_line.asked) == (2, "", [])
    assert f"stenofleet.toml: {name} is never read from a file" in err
    assert f"give it on the command line: --{name}" in err
    assert command_line.store.stat(f"runs/{fakes.RUN}/run.json")


def test_a_flag_that_can_only_be_given_is_never_read_from_a_file() -> None:
    """An option of a later command that has no variable, on purpose, must be in :data:`settings.NEVER` too."""
    bare = {
        long[2:] for _, options in cli.all_options() for option in options if not option.envvar for long in option.opts
    }
    assert bare <= settings.NEVER.keys()
    assert "yes" in bare


# ---------------------------------------------------------------- whose it is


def make_foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make *path* belong to a user who is neither this one nor root."""
    if os.geteuid() == 0:
        os.chown(path, STRANGER, STRANGER, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: STRANGER)


def test_a_file_of_another_user_is_refused(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    write('store = "file:///elsewhere"\n')
    make_foreign(FILE, monkeypatch)
    code, err = command_line.transcribe()
    assert (code, command_line.asked) == (2, [])
    assert "stenofleet.toml: belongs to another user (id " in err
    assert "chown" in err
    assert "move it away" in err
    assert "elsewhere" not in err


def test_a_link_of_another_user_is_refused(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("mine.toml").write_text("beam-size = 2\n", encoding="utf-8")
    FILE.symlink_to("mine.toml")
    assert command_line.transcribe()[0] == 0
    make_foreign(FILE, monkeypatch)
    code, err = command_line.transcribe()
    assert (code, len(command_line.asked)) == (2, 1)
    assert "stenofleet.toml: the link belongs to another user" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_our_link_to_a_file_of_another_user_is_refused(command_line: CommandLine) -> None:
    other = Path("theirs.toml")
    other.write_text("beam-size = 2\n", encoding="utf-8")
    os.chown(other, STRANGER, STRANGER)
    FILE.symlink_to(other)
    code, err = command_line.transcribe()
    assert code == 2
    assert "stenofleet.toml: belongs to another user" in err


def test_a_settings_file_of_root_is_accepted_for_every_user(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root makes files of root")
    write("beam-size = 2\n")
    monkeypatch.setattr(os, "geteuid", lambda: STRANGER)
    assert command_line.transcribe()[0] == 0


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o777])
def test_a_world_writable_file_is_refused(command_line: CommandLine, mode: int) -> None:
    write("beam-size = 2\n")
    FILE.chmod(mode)
    code, err = command_line.transcribe()
    assert (code, command_line.asked) == (2, [])
    assert "stenofleet.toml: everybody may write to it" in err
    assert "chmod o-w stenofleet.toml" in err
    # Only there does chmod change nothing: every file of a Windows drive in WSL has this mode.
    assert ("WSL" in err and "STENOFLEET_<OPTION>" in err) == (mode == 0o777)
    FILE.chmod(0o664)
    assert command_line.transcribe()[0] == 0


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_reported(command_line: CommandLine) -> None:
    write("beam-size = 2\n")
    FILE.chmod(0)
    code, err = command_line.transcribe()
    assert code == 2
    assert "stenofleet.toml: cannot be read: Permission denied" in err


def test_a_read_error_is_reported(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    write("beam-size = 2\n")
    real = os.open

    def denied(path: Any, *how: Any, **more: Any) -> int:
        if os.fspath(path) == str(FILE):
            raise PermissionError(13, "Permission denied")
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", denied)
    code, err = command_line.transcribe()
    assert code == 2
    assert "stenofleet.toml: cannot be read: Permission denied" in err
    assert "chmod, chown" in err


@pytest.mark.parametrize("by", ["file", "link"])
def test_a_file_that_is_replaced_between_check_and_read_is_refused(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    write("beam-size = 2\n")
    Path("other.toml").write_text('store = "file:///elsewhere"\n', encoding="utf-8")
    real = os.open

    def replaced(path: Any, *how: Any, **more: Any) -> int:
        if os.fspath(path) == str(FILE):
            FILE.unlink()
            FILE.symlink_to("other.toml") if by == "link" else Path("other.toml").rename(FILE)
        return real(path, *how, **more)

    monkeypatch.setattr(os, "open", replaced)
    code, err = command_line.transcribe()
    assert (code, command_line.asked) == (2, [])
    assert "was replaced while it was being read" in err


# ---------------------------------------------------------------- what it is


@pytest.mark.parametrize(
    "kind,message",
    [
        ("folder", "is a folder"),
        ("pipe", "is a pipe"),
        ("socket", "is a socket"),
        ("device", "is a device"),
        ("link to a pipe", "is a pipe"),
        ("link to a device", "is a device"),
        ("link to nothing", "is a link to nothing"),
        ("link to itself", "cannot be read: Too many levels of symbolic links"),
    ],
)
def test_a_path_that_is_no_file_is_reported_at_once(command_line: CommandLine, kind: str, message: str) -> None:
    match kind:
        case "folder":
            FILE.mkdir()
        case "pipe":
            os.mkfifo(FILE)
        case "socket":
            os.mknod(FILE, 0o140600)
        case "device":
            try:
                os.mknod(FILE, 0o020600, os.makedev(1, 5))
            except PermissionError:
                pytest.skip("only root makes devices")
        case "link to a pipe":
            os.mkfifo("pipe")
            FILE.symlink_to("pipe")
        case "link to a device":
            FILE.symlink_to("/dev/zero")
        case "link to nothing":
            FILE.symlink_to("nothing")
        case "link to itself":
            FILE.symlink_to(FILE.name)
    ended: list[tuple[int, str]] = []
    waiting = threading.Thread(target=lambda: ended.append(command_line.transcribe()), daemon=True)
    waiting.start()
    waiting.join(20)
    assert ended, "it waits for a writer"
    code, err = ended[0]
    assert (code, command_line.asked) == (2, [])
    assert f"stenofleet.toml: {message}" in err
    assert "move it away" in err


def test_no_more_than_its_limit_is_read(command_line: CommandLine) -> None:
    write(b"#" * (settings.MAX_BYTES - 1) + b"\n")
    assert command_line.transcribe()[0] == 0
    write(b"#" * settings.MAX_BYTES + b"\n")
    code, err = command_line.transcribe()
    assert code == 2
    assert f"stenofleet.toml: is longer than {settings.MAX_BYTES} bytes" in err
    with FILE.open("wb") as file:
        file.truncate(1 << 40)
    assert command_line.transcribe()[0] == 2


# ---------------------------------------------------------------- what is in it


@pytest.mark.parametrize(
    "text,message",
    [
        # Types that no option has.
        ("beam-size = {a = 1}", "beam-size: a list in a list, a table or a date"),
        ("[beam-size]\na = 1", "beam-size: a list in a list, a table or a date"),
        ("[[beam-size]]\na = 1", "beam-size: a list in a list, a table or a date"),
        ("beam-size.a = 1", "beam-size: a list in a list, a table or a date"),
        ("node-selector = [['a=b']]", "node-selector: a list in a list, a table or a date"),
        ("model = 1979-05-27", "model: a list in a list, a table or a date"),
        ("model = 07:32:00", "model: a list in a list, a table or a date"),
        ("beam-size = " + "[" * 30_000, "is nested too deeply"),
        ("beam-size = " + "{a=" * 20_000, "is nested too deeply"),
        ("beam-size" + ".a" * 30_000 + " = 1", "is nested too deeply"),
        ("[" + "a." * 30_000 + "b]", "is nested too deeply"),
        # Values of another type.
        ("beam-size = [2]", "beam-size: a list of values, where one value is expected"),
        ("beam-size = true", "beam-size: it takes a whole number"),
        ("beam-size = 2.5", "beam-size: it takes a whole number"),
        ('beam-size = "many"', "beam-size: 'many' is not a valid integer"),
        ("beam-size = 33", "beam-size: 33 is not in the range"),
        ("vad-filter = 1", "vad-filter: it takes true or false"),
        ('vad-filter = "perhaps"', "vad-filter: 'perhaps' is not a valid boolean"),
        ("quiet = 1", "quiet: it takes true or false"),
        ("temperature = true", "temperature: it takes a number"),
        ("temperature = 1.5", "temperature: 1.5 is not in the range"),
        ("model = true", "model: it takes a text in quotes"),
        ("model = 5", "model: it takes a text in quotes"),
        ('model = ["a"]', "model: a list of values, where one value is expected"),
        ("device = 0", "device: it takes a text in quotes"),
        ('device = "tpu"', "device: 'tpu' is not one of"),
        ('language = "klingon"', "language: Whisper knows no language"),
        ("language = 1", "language: it takes a text in quotes"),
        ('output-format = ["srt"]', "output-format: a list of values, where one value is expected"),
        ('node-selector = "a"', "node-selector: 'a' is not KEY=VALUE"),
        ("node-selector = [1]", "node-selector: it takes a text in quotes"),
        ("scratch-dir = 3", "scratch-dir: it takes a text in quotes"),
        # Numbers that are not finite, or far too large.
        ("temperature = nan", "temperature: a number that is too large, or none"),
        ("temperature = -inf", "temperature: a number that is too large, or none"),
        (f"temperature = 1{'0' * 400}", "temperature: a number that is too large, or none"),
        (f"chunk-duration = 1{'0' * 400}", "chunk-duration: a number that is too large, or none"),
        (f'chunk-duration = "1{"0" * 400}"', "chunk-duration: "),
        (f'chunk-duration = "1{"0" * 5000}"', "chunk-duration: "),
        (f"chunk-duration = 1{'0' * 5000}", "Exceeds the limit"),
        (f"chunk-duration = 0x1{'0' * 5000}", "chunk-duration: a number that is too large, or none"),
        # Text with control characters.
        ('model = "a\\u0000b"', "model: a text with control characters"),
        ('model = "\\u001b[2J"', "model: a text with control characters"),
        ('model = "\\u009b2J"', "model: a text with control characters"),
        ('hotwords = "\\u202eevil"', "hotwords: a text with control characters"),
        ('node-selector = ["a=\\u0007"]', "node-selector: a text with control characters"),
        # The file as a whole.
        ("beam-size = 2\nbeam_size = 3", "beam-size is given twice"),
        ("beam-size = 2\nbeam-size = 3", "Cannot overwrite a value"),
        ('"a\\u001b[2J\\nstenofleet: b" = 1', "no such option: a\\x1b[2J\\nstenofleet: b"),
        (b"\xff", "'utf-8' codec can't decode"),
        (b"\0", "Invalid statement"),
        ("beam-size", "Expected '=' after a key"),
    ],
    ids=lambda value: f"{str(value)[:40]} {len(value)}",
)  # fmt: skip
def test_an_invalid_value_is_reported_with_file_and_option(
    command_line: CommandLine, text: str | bytes, message: str
) -> None:
    write(text)
    code, err = command_line.transcribe()
    assert (code, command_line.asked) == (2, [])
    assert f"stenofleet: stenofleet.toml: {message}" in err
    assert all(each.isprintable() for each in err.splitlines())
    assert len(err) < 3000


@pytest.mark.parametrize("text", ["beam-size" + ".a" * 1_001 + " = 1", "[" + "a." * 1_001 + "b]"])
def test_a_key_of_many_parts_is_not_given_to_the_parser(
    command_line: CommandLine, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(tomllib, "loads", lambda _: pytest.fail("its time grows with the square of their number"))
    write(text)
    code, err = command_line.transcribe()
    assert (code, "is nested too deeply" in err) == (2, True)


@pytest.mark.parametrize("before", ["", "x" * 200, "x" * 280])
def test_a_value_that_is_repeated_is_masked(command_line: CommandLine, before: str) -> None:
    write(f'beam-size = "{before} http://user:hushhush@host/talk.mp4"')
    code, err = command_line.transcribe()
    assert code == 2
    assert "hush" not in err


@pytest.mark.parametrize(
    "text,name,value",
    [
        ("beam-size = 2", "beam_size", 2),
        ('beam_size = "2"', "beam_size", 2),
        ("temperature = 1", "temperature", (1.0,)),
        ("vad-filter = false", "vad_filter", False),
        ('vad-filter = "no"', "vad_filter", False),
        ('initial-prompt = "two\\nlines\\tو\\u200c"', "initial_prompt", "two\nlines\tو\u200c"),
        ('language = "Portuguese"', "language", "pt"),
    ],
)
def test_a_valid_value_is_accepted(command_line: CommandLine, text: str, name: str, value: object) -> None:
    write(text)
    assert command_line.transcribe()[0] == 0
    (run_request,) = command_line.asked[0]["run_requests"]
    assert getattr(run_request.record.options, name) == value


@pytest.mark.parametrize("text", ['["a=b", "c=d"]', '"a=b"'])
def test_an_option_that_is_given_several_times_takes_a_list(command_line: CommandLine, text: str) -> None:
    write(f"node-selector = {text}")
    found = cli._config(FILE, "transcribe")["transcribe"]["node_selector"]
    assert found == (("a=b", "c=d") if "c" in text else ("a=b",))
    assert command_line.transcribe()[0] == 0


def test_any_value_of_an_option_is_accepted_or_reported(command_line: CommandLine) -> None:
    """Every option of every command, with values of every kind."""
    values = ["true", "2", "-1", "0.5", '""', '"x"', '"' + "x" * 5000 + '"', "[]", '["x", 1, true]', str(1 << 52)]
    seen = set()
    for command, options in cli.all_options():
        for option in options:
            # Many commands have the same one.
            kind = (repr(option.to_info_dict()), repr(option.type), option.callback)
            if kind in seen:
                continue
            seen.add(kind)
            name = next(long[2:] for long in option.opts if long.startswith("--"))
            for value in values:
                write(f"{name} = {value}")
                found, problem = read(command)
                if not problem:
                    for part in command.split():
                        found = found[part]
                    option.handle_parse_result(click.Context(click.Command(command), default_map=found), {}, [])
                elif name not in problem.summary or str(FILE) not in problem.summary or not problem.advice:
                    pytest.fail(f"{name} = {value}: {problem.summary}")


def read(command: str) -> tuple[dict[str, Any], UsageProblem | None]:
    """What *command* takes from the file, or why it refuses the file."""
    try:
        return cli._config(FILE, command.partition(" ")[0]), None
    except UsageProblem as problem:
        return {}, problem
