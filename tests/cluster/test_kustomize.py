"""``kubectl apply -k k8s/`` as its users do it: settings edited, credentials put beside them, applied; a transcript."""

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]

from controller import demo
from controller.transcript.formats import FORMATS
from tests.cluster.site import Images
from tests.river import until
from tests.testbed import hub, network
from tests.testbed.cluster import Cluster

if TYPE_CHECKING:
    from minio import Minio

SOURCE = Path(__file__).parents[2] / "k8s"
CHUNKED = {"STENOFLEET_CHUNK_DURATION": "20", "STENOFLEET_CHUNKING_THRESHOLD": "0", "STENOFLEET_MAX_PARALLEL": "2"}
PATIENCE_S = 240.0

pytestmark = pytest.mark.timeout(400)


@dataclass(kw_only=True)
class Door:
    """A copy of ``k8s/``, edited for one namespace and one bucket of the test cluster."""

    cluster: Cluster
    folder: Path
    namespace: str
    bucket: str

    @property
    def s3(self) -> "Minio":
        return self.cluster.s3.client()

    def edit(self, **changes: str) -> None:
        """Change these lines of ``settings.env``, or add them."""
        path = self.folder / "base" / "settings.env"
        lines = path.read_text(encoding="utf-8").splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in changes]
        path.write_text(
            "\n".join([*kept, *(f"{name}={value}" for name, value in changes.items()), ""]), encoding="utf-8"
        )

    def apply(self, *arguments: str, overlay: str = "") -> str:
        return self.cluster.kubectl("apply", "--kustomize", str(self.folder / overlay), *arguments)

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments)

    def conditions(self, job: str) -> dict[str, str]:
        """What has been said for good of a Job, with the reason."""
        found = self.cluster.get("--namespace", self.namespace, "job", job)["status"].get("conditions") or []
        return {item["type"]: item.get("reason", "") for item in found if item["status"] == "True"}

    def ends(self, job: str, how: str) -> dict[str, str]:
        """Wait until the Job has ended, as is said; its conditions."""
        until(lambda: self.conditions(job).keys() & {"Complete", "Failed"}, f"{job} has ended", patience_s=PATIENCE_S)
        found = self.conditions(job)
        assert how in found, self.log(job)
        return found

    def log(self, job: str, container: str = "controller") -> str:
        with contextlib.suppress(RuntimeError):
            return self.kubectl("logs", f"job/{job}", "--container", container)
        return ""

    def pods(self, component: str) -> list[dict[str, Any]]:
        label = f"app.kubernetes.io/component={component}"
        items: list[dict[str, Any]] = self.cluster.get("--namespace", self.namespace, "pods", "-l", label)["items"]
        return items

    def objects(self, prefix: str) -> dict[str, str]:
        """Keys and ETags under a prefix of the bucket."""
        found = self.s3.list_objects(bucket_name=self.bucket, prefix=prefix, recursive=True)
        return {str(entry.object_name): str(entry.etag) for entry in found}

    def results(self) -> dict[str, str]:
        """Every committed result: what is computed twice shows."""
        return {key: etag for key, etag in self.objects("store/work/").items() if "/results/" in key}


@pytest.fixture
def door(cluster: Cluster, images: Images, tmp_path: Path) -> Iterator[Door]:
    folder = shutil.copytree(SOURCE, tmp_path / "k8s")
    with (
        cluster.namespace("door") as namespace,
        cluster.s3.bucket() as bucket,
        volume_for(cluster, namespace, tmp_path),
    ):
        settle(folder / "base", namespace, images)
        access = {"AWS_ACCESS_KEY_ID": cluster.s3.access_key, "AWS_SECRET_ACCESS_KEY": cluster.s3.secret_key}
        lines = "".join(f"{name}={value}\n" for name, value in access.items())
        (folder / "base" / "s3.env").write_text(lines, encoding="utf-8")
        found = Door(cluster=cluster, folder=folder, namespace=namespace, bucket=bucket)
        found.s3.fput_object(bucket_name=bucket, object_name="talk.m4a", file_path=str(demo.SAMPLE))
        found.edit(
            MEDIA=f"s3://{bucket}/talk.m4a",
            STENOFLEET_OUTPUT_DIR=f"s3://{bucket}/transcripts",
            STENOFLEET_STORE=f"s3://{bucket}/store",
            AWS_ENDPOINT_URL_S3=cluster.s3.endpoint,
            S3_PORT=str(cluster.s3.address[1]),
            STENOFLEET_MODEL=images.model,
            STENOFLEET_LANGUAGE="en",
            STENOFLEET_DEVICE="cpu",
            STENOFLEET_THREADS="1",
            STENOFLEET_JOB_MEMORY="500",
        )
        yield found


def settle(base: Path, namespace: str, images: Images) -> None:
    """Another namespace and the test's images, each in the place that ``k8s/README.md`` names for it."""
    path = base / "kustomization.yaml"
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    document["namespace"] = namespace
    document["images"] = [
        {"name": name, "newName": image.rpartition(":")[0], "newTag": image.rpartition(":")[2]}
        for name, image in (("stenofleet-controller", images.controller), ("stenofleet-chunk-job", images.chunk_job))
    ]
    path.write_text(yaml.safe_dump(document), encoding="utf-8")


@contextlib.contextmanager
def volume_for(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[None]:
    """A disk for the claim, where no provisioner makes one: a folder of the nodes, which are this machine."""
    if cluster.get("storageclasses")["items"]:
        yield
        return
    folder = tmp_path / "models"
    folder.mkdir()
    # A pod's user is nobody's on this machine.
    folder.chmod(0o777)
    volume: Mapping[str, Any] = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": f"models-{namespace}"},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"namespace": namespace, "name": "stenofleet-models"},
            "hostPath": {"path": str(folder)},
        },
    }
    cluster.apply("default", dict(volume))
    try:
        yield
    finally:
        cluster.kubectl("delete", "persistentvolume", f"models-{namespace}", "--wait=false")


def test_one_edited_file_gives_a_transcript_and_the_log_ends_with_where_it_lies(door: Door) -> None:
    door.apply()
    door.ends("stenofleet", "Complete")
    names = [f"transcripts/talk.{extension}" for extension in FORMATS]
    assert door.log("stenofleet").splitlines()[-len(names) :] == [f"s3://{door.bucket}/{name}" for name in names]
    assert door.objects("transcripts/").keys() == set(names)
    text = door.s3.get_object(bucket_name=door.bucket, object_name="transcripts/talk.txt").read().decode()
    assert len(text.split()) > 100
    assert "waiting for the model" in door.log("stenofleet", "model")


def test_a_controller_that_is_stopped_then_deleted_and_applied_again_goes_on_with_its_run(door: Door) -> None:
    door.edit(**CHUNKED)
    door.apply()
    until(lambda: len(door.results()) >= 2, "two chunks are done", patience_s=PATIENCE_S)
    (first,) = door.pods("controller")
    door.kubectl("delete", "pod", first["metadata"]["name"])
    until(lambda: "resuming run" in door.log("stenofleet"), "its successor goes on", patience_s=PATIENCE_S)
    assert "Failed" not in door.conditions("stenofleet")
    door.kubectl("delete", "job", "stenofleet")
    before = door.results()
    door.apply()
    door.ends("stenofleet", "Complete")
    after = door.results()
    spans = [key.split("/")[-2] for key in after]
    assert before.items() <= after.items()
    assert sorted(spans) == [f"{span:05d}" for span in range(9)]
    assert len({key.split("/")[2] for key in after}) == 1
    assert door.objects("transcripts/")


def test_a_verdict_is_not_asked_for_again(door: Door) -> None:
    door.edit(MEDIA=f"s3://{door.bucket}/nothing-here.mp4")
    door.apply()
    assert door.ends("stenofleet", "Failed")["Failed"] == "PodFailurePolicy"
    (pod,) = door.pods("controller")
    (status,) = pod["status"]["containerStatuses"]
    assert status["state"]["terminated"]["exitCode"] == 5
    assert "nothing-here.mp4" in door.log("stenofleet")


def test_a_model_that_cannot_be_fetched_starts_no_chunk_and_says_where_to_look(door: Door) -> None:
    for name in ("model.yaml", "controller.yaml"):
        path = door.folder / "base" / name
        path.write_text(path.read_text(encoding="utf-8").replace("backoffLimit: 4", "backoffLimit: 0"))
    door.edit(STENOFLEET_MODEL="no-such-model")
    door.apply()
    door.ends("stenofleet", "Failed")
    assert "kubectl logs job/stenofleet-model says why" in door.log("stenofleet", "model")
    assert "no model 'no-such-model'" in door.log("stenofleet-model", "model")
    assert not door.pods("intake")


def test_the_model_is_fetched_once_and_jobs_read_it_from_the_volume(door: Door) -> None:
    if not door.cluster.own:
        pytest.skip("pods ask a hub on this machine, which those of another cluster need not reach")
    with hub.serving(network.HOST, demo.MODEL) as models:
        door.edit(STENOFLEET_MODEL="tiny", HF_ENDPOINT=models.url)
        door.apply()
        door.ends("stenofleet", "Complete")
        assert "/models/models--Systran--faster-whisper-tiny/" in door.log("stenofleet-model", "model")
        assert door.objects("transcripts/")
        assert set(models.sent) == {path.name for path in demo.MODEL.iterdir()}
        door.kubectl("delete", "job", "stenofleet", "stenofleet-model")
        door.apply()
        door.ends("stenofleet-model", "Complete")
        assert len(models.sent) == len(set(models.sent))


def snippet(section: str) -> str:
    """The first piece of YAML in a section of ``k8s/README.md``."""
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    return text.partition(f"## {section}\n")[2].partition("```yaml\n")[2].partition("```")[0]


def test_authorities_and_identities_of_their_own_as_the_readme_adds_them(door: Door) -> None:
    folder = door.folder / "overlays" / "own"
    folder.mkdir()
    (folder / "ca.crt").write_text("x", encoding="utf-8")
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base]\n"
    text = snippet("S3 with a certificate or an identity of its own").replace(
        "namespace: stenofleet", f"namespace: {door.namespace}"
    )
    document = yaml.safe_load(head + text)
    remove = "- {op: remove, path: /spec/template/spec/containers/0/envFrom/1}"
    assert remove.removeprefix("- ") in (SOURCE / "README.md").read_text(encoding="utf-8")
    document["patches"].append({"target": {"kind": "Job", "name": "stenofleet"}, "patch": remove})
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (door.folder / "base" / "s3.env").write_text("", encoding="utf-8")
    made = list(yaml.safe_load_all(door.cluster.kubectl("kustomize", str(folder))))
    door.apply("--dry-run=server", "--validate=strict", overlay="overlays/own")
    (settings,) = [one["data"] for one in made if one["metadata"]["name"].startswith("stenofleet-settings")]
    assert settings["STENOFLEET_S3_CA"] == "s3-ca"
    (job,) = [one for one in made if (one["kind"], one["metadata"]["name"]) == ("Job", "stenofleet")]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "ca", "mountPath": "/etc/stenofleet/ca", "readOnly": True} in container["volumeMounts"]
    assert {"name": "AWS_CA_BUNDLE", "value": "/etc/stenofleet/ca/ca.crt"} in container["env"]
    assert [next(iter(source)) for source in container["envFrom"]] == ["configMapRef"]


@pytest.mark.parametrize("overlay", ["", "overlays/cpu"])
def test_the_server_takes_every_document_as_it_is(door: Door, overlay: str) -> None:
    # The cpu overlay names the namespace of the settings it changes.
    path = door.folder / "overlays" / "cpu" / "kustomization.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("namespace: stenofleet", f"namespace: {door.namespace}"))
    told = door.apply("--dry-run=server", "--validate=strict", overlay=overlay).splitlines()
    assert len(told) == 15
    assert all(line.endswith("(server dry run)") for line in told)


def test_settings_that_changed_are_refused_while_the_job_that_had_others_is_there(door: Door) -> None:
    door.apply()
    door.edit(STENOFLEET_LANGUAGE="pt")
    with pytest.raises(RuntimeError, match="field is immutable"):
        door.apply()
