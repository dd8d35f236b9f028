"""``model`` where a job's process works: downloads from a hub, conversions, and jobs with a model in a store."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from chunk_job.model_manifest import CACHE, MANIFEST
from chunk_job.models import copying
from chunk_job.models.verification import described, verify
from chunk_job.store.files import FileStore
from controller import demo
from tests.testbed.model_hub import COMMIT, Hub, served

pytestmark = pytest.mark.process


@dataclass(frozen=True, kw_only=True)
class Person:
    """Somebody with a home folder, and a hub with the model as ``tiny``."""

    folder: Path
    hub: Hub
    endpoint: str

    def __call__(self, *arguments: str, hub: str = "") -> subprocess.CompletedProcess[str]:
        with self.start("-m", "controller", "model", *arguments, hub=hub) as process:
            out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def start(self, *arguments: str, hub: str = "") -> subprocess.Popen[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("STENOFLEET", "HF_", "XDG_"))}
        return subprocess.Popen(
            [sys.executable, "-P", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env=kept | {"HOME": str(self.folder / "home"), "HF_ENDPOINT": hub or self.endpoint},
        )


@pytest.fixture
def person(tmp_path: Path) -> Iterator[Person]:
    hub = Hub("Systran/faster-whisper-tiny", demo.MODEL)
    with served(hub) as endpoint:
        yield Person(folder=tmp_path, hub=hub, endpoint=endpoint)


def test_a_model_is_fetched_once_described_and_verified(person: Person) -> None:
    first = person("fetch", "tiny", "--json")
    assert first.returncode == 0, first.stderr
    document = json.loads(first.stdout)
    assert (document["source"], document["revision"]) == ("Systran/faster-whisper-tiny", COMMIT)
    assert Path(document["place"]) / MANIFEST == next((person.folder / "home").rglob(MANIFEST))
    downloads = [line for line in person.hub.requests if line.startswith("GET") and "/resolve/" in line]
    assert len(downloads) == 5
    # Without the hub: nothing but fetch and prepare asks for it.
    person.hub.requests.clear()
    assert person("verify", "tiny").returncode == 0
    assert person.hub.requests == []


def test_what_a_job_downloads_gets_a_manifest_too(person: Person) -> None:
    environment = os.environ | {"HF_HOME": str(person.folder / "hub"), "HF_ENDPOINT": person.endpoint}
    command = [sys.executable, "-P", "-m", "chunk_job", "--resolve-model", "tiny", "--download"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    manifest = verify(Path(done.stdout.strip()), always=True)
    assert manifest
    assert (manifest.source, manifest.revision) == (person.hub.repository, COMMIT)


def test_a_download_that_is_not_what_the_hub_has_told_is_refused(person: Person) -> None:
    person.hub.told["model.bin"] = "0" * 64
    found = person("fetch", "tiny")
    assert found.returncode == 3
    assert "but the hub says 0000" in found.stderr


def test_a_hub_that_does_not_answer_is_named(person: Person) -> None:
    found = person("fetch", "tiny", hub="http://127.0.0.1:9")
    assert found.returncode == 3
    assert "model tiny (0.1 GB) could not be downloaded" in found.stderr


def test_a_model_is_prepared_for_a_device_and_the_same_command_only_verifies(person: Person) -> None:
    command = ("prepare", "tiny", "--to", "volume/tiny", "--device", "cpu", "--revision", COMMIT)
    first = person(*command)
    assert first.returncode == 0, first.stderr
    assert "volume/tiny has the model, and is what its manifest says: Systran/faster-whisper-tiny at 0123456789ab" in (
        first.stderr
    )
    assert {path.name for path in (person.folder / "volume").iterdir()} == {"tiny"}
    person.hub.requests.clear()
    assert person(*command).returncode == 0
    assert person.hub.requests == []
    other = person("prepare", "tiny", "--to", "volume/tiny", "--device", "cuda")
    assert (other.returncode, "has a model already" in other.stderr) == (2, True)


def test_of_two_commands_at_once_one_prepares_the_model_and_the_other_verifies_it(person: Person) -> None:
    command = ("-m", "controller", "model", "prepare", "tiny", "--to", "volume/tiny", "--device", "cpu")
    both = [person.start(*command) for _ in range(2)]
    said = [process.communicate(timeout=100)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("making volume/tiny" in err for err in said) == [False, True], "the other one waits"
    assert all("volume/tiny has the model, and is what its manifest says" in err for err in said)
    assert {path.name for path in (person.folder / "volume").iterdir()} == {"tiny"}


def test_what_a_killed_command_left_is_removed_by_the_next_one(person: Person) -> None:
    program = (
        "import os; from chunk_job.models import copying; from controller import cli;"
        "copying.replace = lambda *_: os.kill(os.getpid(), 9);"
        "cli.run(['model', 'prepare', 'tiny', '--to', 'volume/tiny', '--device', 'cpu'])"
    )
    with person.start("-c", program) as killed:
        killed.communicate()
    assert killed.returncode == -9
    left = {path.name for path in (person.folder / "volume").iterdir()}
    assert (len(left), "tiny" in left) == (2, False), "its lock, and all of the model"
    assert person("prepare", "tiny", "--to", "volume/tiny", "--device", "cpu").returncode == 0
    assert {path.name for path in (person.folder / "volume").iterdir()} == {"tiny"}


def test_nothing_is_downloaded_to_convert_unless_it_is_asked_for(person: Person) -> None:
    found = person("convert", "tiny", "--to", "volume", "--device", "cpu")
    assert found.returncode == 3
    assert "model tiny (0.1 GB) is not on this machine" in found.stderr
    assert "--download" in found.stderr
    assert person.hub.requests == []
    assert not (person.folder / "volume").exists()


def test_a_type_that_the_device_does_not_support_is_refused_before_the_download(person: Person) -> None:
    found = person("prepare", "tiny", "--to", "volume", "--device", "cpu", "--quantization", "float16")
    assert found.returncode == 3
    assert "weights in float16 are not supported on this cpu device" in found.stderr
    assert person.hub.requests == []


def test_processes_that_start_together_share_one_copy(tmp_path: Path) -> None:
    store = FileStore(tmp_path / "bucket")
    copying.put(demo.MODEL, described(demo.MODEL, source="demo"), store, lambda: None)
    environment = os.environ | {CACHE: str(tmp_path / "copies")}
    # Names begin with s3://; the protocol of both stores is the same, and tests/s3 has the real one.
    program = "import sys; from chunk_job.models.cache import cached; print(cached(sys.argv[1]))"
    command = [sys.executable, "-P", "-c", program, store.url]
    done = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    places = {process.communicate(timeout=60)[0].strip() for process in done}
    assert [process.returncode for process in done] == [0, 0, 0]
    (copy,) = (path for path in (tmp_path / "copies").iterdir() if not path.name.startswith("."))
    assert places == {str(copy)}
    assert verify(copy, always=True)
