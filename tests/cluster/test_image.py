"""The images: their contents, and that each works in a pod."""

import json
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jiwer
import pytest

from controller import demo
from tests.cluster.site import Images
from tests.testbed import images as built
from tests.testbed import pods
from tests.testbed.cluster import Cluster

pytestmark = pytest.mark.alone

MOST_BYTES = {"controller": 900_000_000, "chunk-job": 1_800_000_000}
TREE = "org.opencontainers.image"
FOREIGN = {
    "controller": {"av", "ctranslate2", "faster-whisper", "onnxruntime", "pip", "torch", "transformers"},
    "chunk-job": {"jiwer", "kubernetes", "pip", "rich", "torch", "transformers"},
}
TOOLS = ("cc", "gcc", "g++", "make", "pip", "pip3", "ld")
INSTALLED = """
import importlib.metadata, json, shutil, sys
print(json.dumps({
    "packages": sorted({one.name.lower() for one in importlib.metadata.distributions()}),
    "tools": [tool for tool in sys.argv[1:] if shutil.which(tool)],
}))
"""
UNCOMPILED = """
import importlib.util, pathlib, sys
sources = list(pathlib.Path(sys.argv[1]).rglob("*.py"))
bare = [str(path) for path in sources if not pathlib.Path(importlib.util.cache_from_source(path)).exists()]
print(len(sources) > 100, bare)
"""
LIBCUBLAS = """
import ctypes, chunk_job.engine.device
chunk_job.engine.device.preload_cublas()
print(ctypes.CDLL("libcublas.so.12").cublasCreate_v2 is not None)
"""


@pytest.fixture(scope="module")
def namespace(cluster: Cluster) -> Iterator[str]:
    with cluster.namespace("image") as name:
        yield name


@pytest.fixture(params=built.TARGETS)
def target(request: pytest.FixtureRequest, images: Images) -> str:
    return str(request.param)


@pytest.fixture
def config(target: str, cluster: Cluster) -> dict[str, Any]:
    """The configuration of the image."""
    if not cluster.own:
        pytest.skip("reads the images that we build, and the cluster that KUBECONFIG names has its own")
    with tarfile.open(built.archive(target)) as archive:
        (entry,) = json.load(_member(archive, "manifest.json"))
        document: dict[str, Any] = json.load(_member(archive, entry["Config"]))
    return document


def _member(archive: tarfile.TarFile, name: str) -> Any:
    file = archive.extractfile(name)
    assert file
    return file


def output_of(cluster: Cluster, namespace: str, image: str, name: str, *command: str) -> str:
    """The output of a restricted pod with a read-only root."""
    cluster.apply(namespace, pods.pod(name, image, *command))
    return pods.finished(cluster, namespace, name)


def test_an_image_runs_as_an_unprivileged_user_under_an_init(config: dict[str, Any], target: str) -> None:
    assert config["config"]["User"] == "10001:10001"
    assert config["config"]["Entrypoint"][:2] == ["tini", "--"]


def test_an_image_states_its_name_and_version(config: dict[str, Any], target: str) -> None:
    labels = config["config"]["Labels"]
    version = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert (labels[f"{TREE}.title"], labels[f"{TREE}.version"]) == (f"stenofleet-{target}", version)
    assert labels[f"{TREE}.licenses"] == "Apache-2.0"


def test_an_image_is_no_larger_than_promised(config: dict[str, Any], target: str) -> None:
    # A docker archive contains its layers uncompressed, and nothing else that is large.
    assert built.archive(target).stat().st_size <= MOST_BYTES[target]


def test_an_image_contains_what_it_needs_and_nothing_of_the_other(
    target: str, cluster: Cluster, namespace: str
) -> None:
    image = built.name(target)
    found = json.loads(output_of(cluster, namespace, image, f"holds-{target}", "python", "-c", INSTALLED, *TOOLS))
    assert {"stenofleet", "minio", "pydantic"} <= set(found["packages"])
    assert not FOREIGN[target] & set(found["packages"])
    assert not [name for name in found["packages"] if "cudnn" in name]
    assert target == "chunk-job" or not [name for name in found["packages"] if "nvidia" in name]
    assert found["tools"] == []


def test_every_module_of_an_image_is_compiled(target: str, cluster: Cluster, namespace: str) -> None:
    command = ("python", "-c", UNCOMPILED, built.PACKAGES)
    assert output_of(cluster, namespace, built.name(target), f"compiled-{target}", *command) == "True []\n"


def test_the_controllers_image_is_the_command_line(cluster: Cluster, namespace: str, images: Images) -> None:
    document = pods.pod("controller", images.controller)
    del document["spec"]["containers"][0]["command"]
    document["spec"]["containers"][0]["args"] = ["version", "--json"]
    cluster.apply(namespace, document)
    facts = json.loads(pods.finished(cluster, namespace, "controller"))
    assert facts["stenofleet"] == images.controller.rpartition(":")[2]
    assert facts["ffmpeg"] == "/usr/bin/ffmpeg"


def test_the_controllers_image_decodes_and_probes(cluster: Cluster, namespace: str, images: Images) -> None:
    sample = f"{built.PACKAGES}/controller/demo/sample.m4a"
    script = (
        f"ffprobe -v error -show_entries format=duration {sample} && ffmpeg -v error -i {sample} -c:a flac /tmp/a.flac"
    )
    assert "duration=" in output_of(cluster, namespace, images.controller, "decodes", "sh", "-c", script)
    intake = ("tini", "--", "python", "-P", "-m", "controller.intake", "--help")
    assert "usage:" in output_of(cluster, namespace, images.controller, "intake", *intake)


def test_the_chunk_jobs_image_gives_the_same_transcript_as_this_machine(
    cluster: Cluster, namespace: str, images: Images
) -> None:
    document = pods.pod("transcribes", images.chunk_job)
    del document["spec"]["containers"][0]["command"]
    sample = f"{built.PACKAGES}/controller/demo/sample.m4a"
    document["spec"]["containers"][0]["args"] = [sample, images.model]
    cluster.apply(namespace, document)
    result = json.loads(pods.finished(cluster, namespace, "transcribes").splitlines()[-1])
    assert result["success"] is True
    wanted = demo.SAMPLE_TEXT.read_text(encoding="utf-8")
    # The error rate of the small model depends on the CPU (4 to 12 %), which is the same for all nodes here.
    assert jiwer.wer(" ".join(wanted.split()), result["text"].replace(".", "").strip()) < 0.2
    if cluster.own:
        by_hand = [sys.executable, "-P", "-m", "chunk_job", str(demo.SAMPLE), str(demo.MODEL)]
        here = subprocess.run(by_hand, capture_output=True, check=True, text=True).stdout
        assert result["text"] == json.loads(here.splitlines()[-1])["text"]


def test_the_chunk_jobs_image_opens_libcublas(cluster: Cluster, namespace: str, images: Images) -> None:
    answer = output_of(cluster, namespace, images.chunk_job, "cublas", "python", "-c", LIBCUBLAS)
    assert answer == "True\n"
