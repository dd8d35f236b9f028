"""``k8s/`` in a namespace of the test cluster: a copy that is edited, applied and inspected."""

import contextlib
import shutil
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml  # type: ignore[import-untyped]

from controller import demo
from controller.runners.kubernetes.labels import CHUNK, RUN
from tests.cluster.site import Images, until
from tests.testbed.cluster import Cluster, NotFound

if TYPE_CHECKING:
    from minio import Minio

SOURCE = Path(__file__).parents[2] / "k8s"
CHUNKED = {"STENOFLEET_CHUNK_DURATION": "20", "STENOFLEET_CHUNKING_THRESHOLD": "0", "STENOFLEET_MAX_PARALLEL": "2"}
"""Nine chunks of the demonstration's recording, two at a time."""
PATIENCE_S = 240.0
STOPPED = 128 + signal.SIGTERM
"""The exit code of a pod that Kubernetes stopped."""
CLAIMS = ("stenofleet-models", "stenofleet-models-two")
"""The name in the base, and the name with the suffix of a test."""


@dataclass(kw_only=True)
class Deployment:
    """A copy of ``k8s/``, edited for one namespace and one bucket of the test cluster."""

    cluster: Cluster
    images: Images
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
        """The final conditions of a Job, with their reasons."""
        found = self.cluster.get("--namespace", self.namespace, "job", job)["status"].get("conditions") or []
        return {item["type"]: item.get("reason", "") for item in found if item["status"] == "True"}

    def ends(self, job: str, how: str) -> dict[str, str]:
        """Wait until the Job has ended with condition *how*; its conditions."""
        until(lambda: self.conditions(job).keys() & {"Complete", "Failed"}, f"{job} has ended", patience_s=PATIENCE_S)
        found = self.conditions(job)
        assert how in found, self.log(job)
        return found

    def log(self, job: str, container: str = "controller") -> str:
        """The log of one of its pods, which kubectl selects."""
        with contextlib.suppress(RuntimeError):
            return self.kubectl("logs", f"job/{job}", "--container", container)
        return ""

    def logs(self) -> dict[str, str]:
        """The log of each of the controller's pods. Kubernetes may remove pods of a failed Job meanwhile."""
        found = {}
        for name in [pod["metadata"]["name"] for pod in self.pods("controller") if started(pod)]:
            with contextlib.suppress(NotFound):
                found[name] = self.kubectl("logs", name, "--container", "controller")
        return found

    def leader(self) -> str:
        """The identity of the holder of the run's Lease; empty if there is none."""
        leases = self.cluster.get("--namespace", self.namespace, "leases", "-l", RUN)["items"]
        return next((holder for lease in leases if (holder := lease["spec"].get("holderIdentity"))), "")

    def pod_of(self, leader: str) -> dict[str, Any]:
        """The controller's pod of this identity: by its host name, which its successor has too."""
        pods = [pod for pod in self.pods("controller") if leader.startswith(f"{pod['spec']['hostname']}-")]
        return max(pods, key=lambda pod: str(pod["metadata"]["creationTimestamp"]))

    def jobs(self) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.cluster.get("--namespace", self.namespace, "jobs")["items"]
        return items

    def verdicts(self) -> dict[str, int]:
        """The exit code of each of the controller's pods that came to an end without being stopped.

        After the first verdict the Job stops the other pod, which may have come to its own by then, or not.
        """
        codes = {pod["metadata"]["name"]: exit_code(pod) for pod in self.pods("controller")}
        return {name: code for name, code in codes.items() if code not in (None, STOPPED)}

    def chunk_pods(self, chunk: int) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.cluster.get(
            "--namespace", self.namespace, "pods", "-l", f"{CHUNK}={chunk:05d}"
        )["items"]
        return items

    def pods(self, component: str) -> list[dict[str, Any]]:
        label = f"app.kubernetes.io/component={component}"
        items: list[dict[str, Any]] = self.cluster.get("--namespace", self.namespace, "pods", "-l", label)["items"]
        return items

    def objects(self, prefix: str) -> dict[str, str]:
        """Keys and ETags under a prefix of the bucket."""
        found = self.s3.list_objects(bucket_name=self.bucket, prefix=prefix, recursive=True)
        return {str(entry.object_name): str(entry.etag) for entry in found}

    def results(self) -> dict[str, str]:
        """Every committed result with its ETag, which shows results that were computed twice."""
        return {key: etag for key, etag in self.objects("store/work/").items() if "/results/" in key}


def exit_code(pod: Mapping[str, Any]) -> int | None:
    """The exit code of its container, when that has ended."""
    statuses: list[dict[str, Any]] = pod["status"].get("containerStatuses", [])
    return next((int(one["state"]["terminated"]["exitCode"]) for one in statuses if "terminated" in one["state"]), None)


def started(pod: Mapping[str, Any]) -> bool:
    """Whether its container runs or has run."""
    return any("waiting" not in status["state"] for status in pod["status"].get("containerStatuses", ()))


@pytest.fixture
def deployment(cluster: Cluster, images: Images, tmp_path: Path) -> Iterator[Deployment]:
    folder = shutil.copytree(SOURCE, tmp_path / "k8s")
    with (
        cluster.s3.bucket() as bucket,
        cluster.namespace("deployment") as namespace,
        volume_for(cluster, namespace, tmp_path),
    ):
        configure(folder / "base", namespace, images)
        access = {"AWS_ACCESS_KEY_ID": cluster.s3.access_key, "AWS_SECRET_ACCESS_KEY": cluster.s3.secret_key}
        lines = "".join(f"{name}={value}\n" for name, value in access.items())
        (folder / "s3-secret" / "s3.env").write_text(lines, encoding="utf-8")
        found = Deployment(cluster=cluster, images=images, folder=folder, namespace=namespace, bucket=bucket)
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


def configure(base: Path, namespace: str, images: Images) -> None:
    """Another namespace and the test's images, each set in the file that ``k8s/README.md`` names."""
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
    """A volume for the claim, without a provisioner: a folder of the nodes, which run on this machine."""
    if cluster.get("storageclasses")["items"]:
        yield
        return
    folder = tmp_path / "models"
    folder.mkdir()
    # The user of a pod does not exist on this machine.
    folder.chmod(0o777)
    volumes = [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolume",
            "metadata": {"name": f"{claim}-{namespace}"},
            "spec": {
                "capacity": {"storage": "10Gi"},
                "accessModes": ["ReadWriteOnce", "ReadWriteMany"],
                "claimRef": {"namespace": namespace, "name": claim},
                "hostPath": {"path": str(folder)},
            },
        }
        for claim in CLAIMS
    ]
    cluster.apply("default", *volumes)
    try:
        yield
    finally:
        cluster.kubectl("delete", "persistentvolume", *(f"{claim}-{namespace}" for claim in CLAIMS), "--wait=false")
