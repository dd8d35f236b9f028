"""The examples of docs/ci for clusters: their schemas, and their commands with a real S3 and jobs on this machine.

Schemas and the packages of the action are downloaded once: the other tests of docs/ci need no network.
"""

import copy
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import soundfile

from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from tests import speech
from tests.ci_examples import CLUSTER, FOLDER, LOCAL, ROOT, action, containers, documents, pipeline, step, variables
from tests.pipeline import Workplace
from tests.testbed import schemas

PARAMETERS = {"recordings": "s3://media/incoming/", "output-dir": "s3://media/transcripts", "formats": "txt,vtt"}


def errors(document: dict[str, Any]) -> list[str]:
    schema = schemas.schema_of(document["apiVersion"], document["kind"])
    return [one.message for one in jsonschema.Draft7Validator(schema).iter_errors(document)]


@pytest.mark.parametrize("name", CLUSTER)
def test_an_example_fits_the_schema_of_its_kind(name: str) -> None:
    for document in documents(FOLDER / name):
        assert errors(document) == [], document["kind"]


@pytest.mark.parametrize("name", CLUSTER)
def test_a_wrong_field_is_found(name: str) -> None:
    def spoiled(value: Any) -> Iterator[str]:
        """Rename the fields of *value* one after the other."""
        for field in list(value) if isinstance(value, dict) else ():
            # Names of others; and Tekton leaves its check of volumes to Kubernetes.
            if field in ("labels", "limits", "requests", "volumes"):
                continue
            value[f"{field}s"] = value.pop(field)
            yield field
            value[field] = value.pop(f"{field}s")
            yield from spoiled(value[field])
        for one in value if isinstance(value, list) else ():
            yield from spoiled(one)

    for document in documents(FOLDER / name):
        changed = copy.deepcopy(document)
        parts = changed.get("spec", {})
        found = [(field, bool(errors(changed))) for field in spoiled(parts)]
        assert [field for field, wrong in found if not wrong] == [], document["kind"]
        assert len(found) > 5 or "spec" not in document


@pytest.mark.parametrize("name,container,pod", list(containers()), ids=CLUSTER)
def test_the_command_of_an_example(
    name: str, container: dict[str, Any], pod: dict[str, Any], tmp_path: Path, environment: Any, bucket: str
) -> None:
    workplace = Workplace(tmp_path / "workplace")
    results = workplace.folder / "results"
    results.mkdir()

    def filled(text: str) -> str:
        text = text.replace("/tmp/", f"{results}/").replace("$(params.recordings[*])", PARAMETERS["recordings"])
        text = re.sub(r"\$\(params\.([a-z-]+)\)|\{\{inputs\.parameters\.([a-z-]+)\}\}", _parameter, text)
        text = re.sub(r"\$\(results\.([a-z-]+)\.path\)", rf"{results}/\1", text)
        return text.replace("s3://media/", f"s3://{bucket}/")

    own = {one: filled(value) for one, value in variables(container).items() if not one.startswith("AWS_")}
    own |= LOCAL | {"XDG_STATE_HOME": str(workplace.folder / "state"), "CI": "true"}
    own["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    arguments = [filled(one) for one in container["args"]]
    script = filled(container.get("script", 'stenofleet "$@"'))
    store = open_store(f"s3://{bucket}")
    sound = workplace.folder / "talk.wav"
    soundfile.write(sound, speech.tape(seconds=20, seed=3).pcm, speech.RATE_HZ, subtype="PCM_16")
    store.put_file("incoming/2026/talk.wav", sound)

    def run() -> int:
        done = subprocess.run(
            ["sh", "-c", script, "stenofleet", *arguments],
            env=os.environ | workplace.environment() | own, capture_output=True, text=True, timeout=100, check=False,
        )  # fmt: skip
        print(shlex.join(arguments), done.stdout, done.stderr)
        return done.returncode

    assert run() == 0
    assert texts(store) == ["transcripts/2026/talk.txt", "transcripts/2026/talk.vtt"]
    store.put("incoming/notes.mp3", b"no recording")
    # The other one has its outputs.
    assert run() == 5
    if name == "cronjob.yaml":
        assert b'tests="2"' in store.get("reports/stenofleet.xml")
    else:
        assert "EXIT_CODE=5\n" in (results / "stenofleet.env").read_text()
    if name == "tekton.yaml":
        (task, _) = documents(FOLDER / name)
        found = {one["name"]: (results / one["name"]).read_text() for one in task["spec"]["results"]}
        assert found == {"exit-code": "5", "complete": "0", "failed": "1"}


def _parameter(found: re.Match[str]) -> str:
    return PARAMETERS[found[1] or found[2]]


def texts(store: Store) -> list[str]:
    return sorted(one.key for one in store.list("transcripts/"))


def installed(script: str, folder: Path, **variables: str) -> None:
    """Run a script that puts stenofleet on the path, and the program from there."""
    script = f'{script}\nPATH="$(cat "$GITHUB_PATH"):$PATH" && stenofleet version && command -v stenofleet'
    command = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    own = {"GITHUB_PATH": str(folder / "path"), **variables}
    done = subprocess.run(command, cwd=folder, env=os.environ | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "faster-whisper" in done.stdout
    assert Path(done.stdout.splitlines()[-1]).is_relative_to(folder)


@pytest.mark.timeout(300)
def test_the_action_installs_what_it_needs(tmp_path: Path) -> None:
    install = step(action(), "Install stenofleet")
    assert install["env"].keys() == {"SOURCE"}
    installed(install["run"], tmp_path, RUNNER_TEMP=str(tmp_path), SOURCE=str(ROOT))


@pytest.mark.timeout(300)
def test_the_pipeline_installs_what_it_needs(tmp_path: Path) -> None:
    apt, *install = pipeline()["transcribe"]["before_script"]
    assert apt.startswith("apt-get ")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    (tmp_path / "path").touch()
    where = {"CI_PROJECT_DIR": str(tmp_path), "SOURCE": str(ROOT), "SOURCE_COMMIT": commit.stdout.strip()}
    installed("\n".join(install), tmp_path, **where)
