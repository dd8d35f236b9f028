"""``model``: folders and prefixes with manifests. The hub and conversions are in test_model_jobs.py."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest

from chunk_job.model_manifest import CACHE, MANIFEST
from chunk_job.models import cache, copying
from chunk_job.models.verification import described
from chunk_job.names import MODELS
from chunk_job.store.files import FileStore
from controller import cli, demo
from tests.testbed.model_hub import COMMIT


@pytest.fixture
def home(working_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder."""
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", CACHE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(working_folder / "home"))
    return working_folder / "home"


@pytest.fixture
def model(home: Path) -> Path:
    """The folder ``tiny`` in the working folder: the model without a manifest."""
    shutil.copytree(demo.MODEL, "tiny")
    return Path("tiny")


class Said:
    """Calls the command, and returns its exit code and what it printed."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> tuple[int, str, str]:
        code = cli.run(["model", *arguments])
        found = self._capture.readouterr()
        return code, found.out, found.err


@pytest.fixture
def said(capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def test_the_list_has_every_model_with_what_it_needs(home: Path, said: Said) -> None:
    code, out, _ = said("list", "--json")
    assert code == 0
    rows = {row["name"]: row for row in json.loads(out)["models"]}
    assert rows.keys() == MODELS.keys()
    turbo = rows["large-v3-turbo"]
    assert (turbo["parameters_millions"], turbo["disk_mb"], turbo["languages"]) == (809, 1620, 100)
    assert (turbo["license"], turbo["here"]) == ("MIT", "")
    assert turbo["gpu_int8_mb"] >= 1500, "what others measured, docs/how-to/cluster.md"
    assert turbo["gpu_float16_mb"] >= 2500


def test_the_list_shows_what_is_here(home: Path, said: Said, tmp_path: Path) -> None:
    repository = home / ".cache" / "huggingface" / "hub" / "models--Systran--faster-whisper-base"
    shutil.copytree(demo.MODEL, repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    store = FileStore(tmp_path / "bucket")
    copying.put(demo.MODEL, described(demo.MODEL, source="Systran/x"), store, lambda: None)
    copy = cache.cached(store.url)
    code, out, err = said("list")
    assert code == 0
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert lines["base"].endswith("yes")
    assert lines["tiny"].endswith("no")
    assert f"copy of Systran/x (int8, 0.0): {copy}" in out
    assert "GPU: its memory" in err
    said("fetch", str(repository / "snapshots" / COMMIT))
    assert "*yes" in said("list")[1]


def test_a_folder_gets_a_manifest_and_is_verified(model: Path, said: Said) -> None:
    code, _, err = said("verify", "tiny")
    assert code == 3
    assert "tiny has no manifest: nothing tells what its files should be" in err
    assert "stenofleet model fetch tiny" in err
    code, _, err = said("fetch", "tiny")
    assert (code, "has the model: tiny, weights in int8, 5 files" in err) == (0, True)
    code, out, _ = said("verify", "tiny", "--json")
    document = json.loads(out)
    assert (code, document["place"], document["quantization"]) == (0, "tiny", "int8")
    assert document["files"]["model.bin"]["size_bytes"] == 2581411


def test_a_damaged_file_is_named(model: Path, said: Said) -> None:
    said("fetch", "tiny")
    os.truncate("tiny/tokenizer.json", 100)
    code, out, err = said("verify", "tiny")
    assert (code, out) == (3, "")
    assert "the model tiny does not match its manifest: tokenizer.json is incomplete: 100 bytes instead of" in err


def test_a_folder_that_was_changed_on_purpose_gets_another_manifest(model: Path, said: Said) -> None:
    said("fetch", "tiny")
    Path("tiny/vocabulary.json").write_text("[]")
    assert said("fetch", "tiny")[0] == 3
    assert said("fetch", "tiny", "--overwrite")[0] == 0
    assert said("verify", "tiny")[0] == 0


def test_a_model_is_copied_and_the_source_stays_as_it_is(model: Path, said: Said) -> None:
    code, _, err = said("fetch", "tiny", "--to", "volume/large")
    assert (code, "volume/large has the model: tiny" in err) == (0, True)
    assert said("verify", "volume/large")[0] == 0
    assert not (model / MANIFEST).exists()
    code, _, err = said("fetch", "tiny", "--to", "volume/large")
    assert (code, "is there already, and is what its manifest says" in err) == (0, True)


def test_a_source_that_has_changed_is_not_the_model_that_is_there(model: Path, said: Said) -> None:
    said("fetch", "tiny", "--to", "volume")
    (model / "vocabulary.json").write_text("[]")
    code, _, err = said("fetch", "tiny", "--to", "volume")
    assert (code, "volume has a model already: tiny" in err) == (2, True)


def test_another_model_is_replaced_only_on_request(model: Path, said: Said) -> None:
    shutil.copytree("tiny", "other")
    Path("other/vocabulary.json").write_text("[]")
    said("fetch", "tiny", "--to", "volume")
    code, _, err = said("fetch", "other", "--to", "volume")
    assert code == 2
    assert "volume has a model already: tiny, weights in int8" in err
    assert said("fetch", "other", "--to", "volume", "--overwrite")[0] == 0
    assert json.loads(Path("volume", MANIFEST).read_bytes())["source"] == "other"


@pytest.mark.parametrize("option", [(), ("--overwrite",)])
def test_files_of_a_person_are_never_replaced(model: Path, said: Said, option: tuple[str, ...]) -> None:
    Path("letters").mkdir()
    Path("letters/one.txt").touch()
    code, _, err = said("fetch", "tiny", "--to", "letters", *option)
    assert code == 2
    assert "letters is no place for a model: it has one.txt" in err
    assert [path.name for path in Path("letters").iterdir()] == ["one.txt"]


def test_a_model_that_was_not_put_there_completely_is_replaced_on_request(model: Path, said: Said) -> None:
    shutil.copytree("tiny", "volume")
    Path("volume/model.bin").unlink()
    assert "without a manifest" in said("fetch", "tiny", "--to", "volume")[2]
    assert said("fetch", "tiny", "--to", "volume", "--overwrite")[0] == 0
    assert said("verify", "volume")[0] == 0


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_a_name_that_nobody_knows_is_a_mistake(home: Path, said: Said, command: str) -> None:
    code, _, err = said(command, "largest")
    assert code == 2
    assert "no model 'largest'" in err


def test_a_manifest_that_cannot_be_read_is_not_replaced(model: Path, said: Said) -> None:
    said("fetch", "tiny", "--to", "volume")
    Path("volume", MANIFEST).write_text("{}")
    code, _, err = said("fetch", "tiny", "--to", "volume", "--overwrite")
    assert code == 2
    assert MANIFEST in err


def test_a_link_to_a_folder_stays_and_the_model_is_where_it_leads(model: Path, said: Said) -> None:
    Path("disk").mkdir()
    Path("link").symlink_to("disk")
    assert said("fetch", "tiny", "--to", "link")[0] == 0
    assert Path("link").is_symlink()
    assert Path("disk", MANIFEST).is_file()
    assert {path.name for path in Path().iterdir()} - {"home"} == {"tiny", "disk", "link"}


def test_a_mount_point_is_refused_before_anything_is_copied(model: Path, said: Said) -> None:
    code, _, err = said("fetch", "tiny", "--to", "/proc")
    assert (code, "/proc is where a volume is mounted" in err, "use a folder on the volume: /proc/model" in err) == (
        2,
        True,
        True,
    )


@pytest.mark.parametrize("name", [b"read me.txt", b"\xff\x1b[31m"])
def test_a_file_that_no_model_has_is_named_in_one_line(model: Path, said: Said, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(model) + b"/" + name)).touch()
    code, _, err = said("fetch", "tiny")
    assert (code, "is no file of a model" in err, "pydantic" in err) == (3, True, False)


@pytest.mark.parametrize(
    "place,code,why",
    [
        ("/", 2, "/ is where a volume is mounted"),
        ("file", 2, "file is no place for a model: it has file"),
        ("file/tiny", 3, "the model's folder {}/file/tiny cannot be written: Not a directory"),
        ("circle", 3, "circle cannot be read: Too many levels of symbolic links"),
        ("x" * 300, 3, "cannot be read: File name too long"),
    ],
)
def test_a_place_where_no_folder_can_be_is_named(model: Path, said: Said, place: str, code: int, why: str) -> None:
    Path("file").touch()
    Path("circle").symlink_to("circle")
    found, _, err = said("fetch", "tiny", "--to", place)
    assert (found, why.format(Path.cwd()) in err) == (code, True), err


def test_a_named_pipe_in_the_folder_is_named_and_not_waited_for(model: Path, said: Said) -> None:
    os.mkfifo("tiny/pipe.json")
    code, _, err = said("fetch", "tiny", "--to", "volume")
    assert (code, "'pipe.json' is no file of a model" in err) == (3, True)


def test_a_command_that_is_told_to_end_leaves_no_part_of_a_model(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def told(*_: object, **__: object) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(copying, "replace", told)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as ended:
        cli.run(["model", "fetch", str(model), "--to", "there/model"])
    assert ended.value.code == 143
    assert list(Path("there").iterdir()) == []
    assert signal.getsignal(signal.SIGTERM) == before
