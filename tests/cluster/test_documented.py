"""Every command of the tutorials for a cluster, as a reader types it: with real kubectl and Helm.

The builder of images and kind are stand-ins: the testbed builds the same Dockerfile with buildah, and the cluster
has the images under the same names.
"""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from controller import demo
from tests import documented
from tests.cluster.deployment import volume_for
from tests.cluster.release import values_of
from tests.cluster.site import Images
from tests.documented import ROOT
from tests.ports import free_port
from tests.testbed import chart
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.timeout(900)

CLUSTER, SERVICE = documented.ON_A_CLUSTER
NAMESPACE = "stenofleet"
_CUT = {"STENOFLEET_CHUNK_DURATION": "20", "STENOFLEET_CHUNKING_THRESHOLD": "0", "STENOFLEET_MAX_PARALLEL": "2"}
_SMALL = {
    "STENOFLEET_DEVICE": "cpu",
    "STENOFLEET_THREADS": "1",
    "STENOFLEET_JOB_MEMORY": "500",
    "STENOFLEET_LANGUAGE": "en",
}
_EDITOR = """\
import os, re, sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        text = file.read()
    for line in os.environ["EDITS"].splitlines():
        name = line.partition("=")[0]
        of_key = name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        if of_key == path.endswith("s3.env"):
            text, found = re.subn(rf"(?m)^{name}=.*$", line, text)
            text += "" if found else line + "\\n"
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
"""


class Reader:
    """Who types: a folder like that of the project, and programs that speak to the test cluster."""

    def __init__(self, folder: Path, cluster: Cluster, images: Images, bucket: str) -> None:
        documented.checkout(folder)
        self.folder, self.cluster, self.images, self.bucket = folder, cluster, images, bucket
        self._programs = folder / "programs"
        self._programs.mkdir()
        # Readers change the namespace of their context: the cluster's own file must stay as it is.
        config = folder / "kubeconfig"
        config.write_bytes(Path(cluster.kubeconfig).read_bytes())
        config.chmod(0o600)
        self.program("kubectl", f'exec {cluster.program} "$@"')
        self.env = documented.environment(folder) | {"KUBECONFIG": str(config)}
        self.env["PATH"] = f"{self._programs}:{self.env['PATH']}"

    def program(self, name: str, script: str) -> Path:
        path = self._programs / name
        path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        path.chmod(0o755)
        return path

    def types(self, page: str, **places: str) -> documented.Typed:
        """Type the whole page; *places*: what stands for its examples of names."""
        commands = [". .venv/bin/activate", *(one for block in documented.blocks(page) for one in block.commands)]
        for example, here in places.items():
            commands = [command.replace(example, here) for command in commands]
        return documented.typed(commands, self.folder, self.env, port=free_port())


@pytest.fixture
def reader(cluster: Cluster, images: Images, tmp_path: Path) -> Iterator[Reader]:
    with cluster.s3.bucket() as bucket:
        yield Reader(tmp_path, cluster, images, bucket)


@contextlib.contextmanager
def removed(cluster: Cluster, namespace: str) -> Iterator[None]:
    """Delete a namespace that a reader makes."""
    try:
        yield
    finally:
        cluster.kubectl("delete", "namespace", namespace, "--ignore-not-found", "--wait=false")


def test_the_tutorial_of_the_cluster(reader: Reader) -> None:
    cluster, s3 = reader.cluster, reader.cluster.s3
    (reader.folder / "k8s").mkdir()
    copy_of_k8s(reader.folder / "k8s")
    built = reader.folder / "built"
    for name in ("docker", "kind"):
        reader.program(name, f'echo "{name} $*" >> {built}')
    script = reader.folder / "editor.py"
    script.write_text(_EDITOR, encoding="utf-8")
    editor = reader.program("edit", f'exec {sys.executable} {script} "$@"')
    edits = _CUT | _SMALL | {
        "MEDIA": f"s3://{reader.bucket}/talk.mp4",
        "STENOFLEET_OUTPUT_DIR": f"s3://{reader.bucket}/transcripts",
        "STENOFLEET_STORE": f"s3://{reader.bucket}/stenofleet",
        "AWS_ENDPOINT_URL_S3": s3.endpoint,
        "S3_PORT": str(s3.address[1]),
        "STENOFLEET_MODEL": reader.images.model,
        "AWS_ACCESS_KEY_ID": s3.access_key,
        "AWS_SECRET_ACCESS_KEY": s3.secret_key,
    }  # fmt: skip
    reader.env |= _CUT | _SMALL | {"EDITOR": str(editor), "EDITS": "\n".join(f"{k}={v}" for k, v in edits.items())}
    s3.client().fput_object(bucket_name=reader.bucket, object_name="talk.mp4", file_path=str(demo.SAMPLE))
    (reader.folder / "talk.mp4").write_bytes(demo.SAMPLE.read_bytes())
    with volume_for(cluster, NAMESPACE, reader.folder), removed(cluster, NAMESPACE):
        done = reader.types(
            CLUSTER,
            **{
                "https://minio.example:9000": s3.endpoint,
                "AWS_ACCESS_KEY_ID=…": f"AWS_ACCESS_KEY_ID={s3.access_key}",
                "AWS_SECRET_ACCESS_KEY=…": f"AWS_SECRET_ACCESS_KEY={s3.secret_key}",
                "s3://media/": f"s3://{reader.bucket}/",
                "large-v3-turbo": reader.images.model,
                "stenofleet report a64cae4b": f"stenofleet report {documented.RUN_OF_TALK}",
                "stenofleet logs a64cae4b": f"stenofleet logs {documented.RUN_OF_TALK}",
                "stenofleet cancel a64cae4b": f"stenofleet cancel {documented.RUN_OF_TALK}",
            },
        )
    assert done.code == 0, done.printed
    for block in documented.blocks(CLUSTER):
        if any("transcribed" in line for line in block.shown):
            shown = [line.replace("s3://media/", f"s3://{reader.bucket}/") for line in block.shown]
            assert not done.lacks(shown), done.printed
    words = s3.client().get_object(bucket_name=reader.bucket, object_name="transcripts/talk.txt").read().decode()
    assert words == (reader.folder / "transcripts" / "talk.txt").read_text(encoding="utf-8")
    assert len(words.split()) > 100
    wanted = (reader.images.controller, reader.images.chunk_job)
    lines = built.read_text(encoding="utf-8").splitlines()
    for image in wanted:
        assert any(line.startswith("docker build") and image in line for line in lines), lines
        assert f"docker push registry.example/team/{image}" in lines
    assert f"kind load docker-image {' '.join(wanted)}" in lines


def test_the_tutorial_of_the_service(reader: Reader) -> None:
    cluster, s3, namespace = reader.cluster, reader.cluster.s3, f"{NAMESPACE}-service"
    values = reader.folder / "values.yaml"
    values.write_text(yaml.safe_dump(values_of(cluster, reader.images, reader.bucket)), encoding="utf-8")
    reader.program("helm", f'exec {chart.program()} "$@" --values {values}')
    (reader.folder / "talk.mp3").write_bytes(demo.SAMPLE.read_bytes())
    with volume_for(cluster, namespace, reader.folder), removed(cluster, namespace):
        done = reader.types(
            SERVICE,
            **{
                f"namespace {NAMESPACE}": f"namespace {namespace}",
                f"namespace={NAMESPACE}": f"namespace={namespace}",
                "AWS_ACCESS_KEY_ID=…": f"AWS_ACCESS_KEY_ID={s3.access_key}",
                "AWS_SECRET_ACCESS_KEY=…": f"AWS_SECRET_ACCESS_KEY={s3.secret_key}",
                "http://minio.minio:9000": s3.endpoint,
                "s3.bucket=media": f"s3.bucket={reader.bucket}",
            },
        )
    assert done.code == 0, done.printed
    text = done.printed.rpartition("result?format=txt")[2]
    assert len(text.split()) > 100, done.printed


def copy_of_k8s(folder: Path) -> None:
    """A copy of ``k8s/`` that the reader may edit; without a key that is on this machine."""
    for path in (ROOT / "k8s").rglob("*"):
        copy = folder / path.relative_to(ROOT / "k8s")
        if path.is_dir():
            copy.mkdir(exist_ok=True)
        elif path.name != "s3.env":
            copy.write_bytes(path.read_bytes())
            copy.chmod(path.stat().st_mode)
