"""The chart, installed in a namespace of the test cluster: Helm's commands, and a client of the service."""

import contextlib
import http.client
import json
import re
import secrets
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jiwer
import pytest
import yaml  # type: ignore[import-untyped]

from controller import demo
from tests.cluster.deployment import volume_for
from tests.cluster.site import Images, until
from tests.testbed import chart
from tests.testbed.cluster import Cluster

if TYPE_CHECKING:
    from minio import Minio

PATIENCE_S = 240.0
CLAIM = "stenofleet-models"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer of the service."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@dataclass(kw_only=True)
class Release:
    """A release of the chart, and its bucket."""

    cluster: Cluster
    namespace: str
    bucket: str
    values: tuple[Path, ...]
    """Files with values; a later one decides."""
    _token: str = ""

    @property
    def s3(self) -> "Minio":
        return self.cluster.s3.client()

    def helm(self, *arguments: str) -> str:
        return chart.helm(*arguments, "--namespace", self.namespace, kubeconfig=self.cluster.kubeconfig)

    def install(self, *values: str, wait: bool = True) -> str:
        """Install the chart; *values* as after ``--set-json``. Returns its notes."""
        self._token = ""
        return self._apply("install", *values, wait=wait)

    def upgrade(self, *values: str, wait: bool = True) -> str:
        """Change some values, and keep the others."""
        return self._apply("upgrade", *values, wait=wait)

    def _apply(self, verb: str, *values: str, wait: bool) -> str:
        changes = [argument for value in values for argument in ("--set-json", value)]
        files = [argument for path in self.values for argument in ("--values", str(path))]
        before = ["--reset-then-reuse-values"] if verb == "upgrade" else files
        patience = ["--wait", "--timeout", f"{PATIENCE_S:.0f}s"] if wait else []
        try:
            return self.helm(verb, chart.RELEASE, str(chart.CHART), *before, *changes, *patience)
        except RuntimeError as error:
            raise RuntimeError(f"{error}\n{self.why()}") from error

    def why(self) -> str:
        """The states and the ends of the logs of the service's pods."""
        label = "app.kubernetes.io/component=service"
        with contextlib.suppress(RuntimeError):
            logs = ("--all-containers", "--prefix", "--tail=20")
            return self.kubectl("get", "pods") + self.kubectl("logs", "-l", label, *logs)
        return ""

    def kubectl(self, *arguments: str) -> str:
        return self.cluster.kubectl("--namespace", self.namespace, *arguments)

    def get(self, *arguments: str) -> Any:
        return self.cluster.get("--namespace", self.namespace, *arguments)

    def pods(self, component: str) -> list[dict[str, Any]]:
        items: list[dict[str, Any]] = self.get("pods", "-l", f"app.kubernetes.io/component={component}")["items"]
        return items

    def objects(self, part: str = "") -> dict[str, str]:
        """Keys and ETags of the store whose key contains *part*."""
        found = self.s3.list_objects(bucket_name=self.bucket, prefix="store/", recursive=True)
        return {str(entry.object_name): str(entry.etag) for entry in found if part in str(entry.object_name)}

    def stored_runs(self) -> dict[str, str]:
        """What is stored of all runs, without leases: each replica takes one to see whether a run has ended."""
        return {key: etag for key, etag in self.objects("runs/").items() if not key.endswith("/lead.json")}

    def results(self) -> dict[str, str]:
        """Every committed result with its ETag, which shows results that were computed twice."""
        return self.objects("/results/")

    @contextlib.contextmanager
    def forwarded(self) -> Iterator[tuple[str, int]]:
        """Address and port of this machine that lead to a pod of the service."""
        command = [self.cluster.program, "--kubeconfig", self.cluster.kubeconfig, "--namespace", self.namespace]
        process = subprocess.Popen(
            [*command, "port-forward", "service/stenofleet", ":80", "--address", "127.0.0.1"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout
            line = process.stdout.readline()
            found = re.match(r"Forwarding from 127\.0\.0\.1:(\d+)", line)
            assert found, line + process.stdout.read()
            yield "127.0.0.1", int(found[1])
        finally:
            process.kill()
            process.communicate()

    def token(self) -> str:
        """The token of the chart's tenant, which an upgrade keeps."""
        if not self._token:
            self._token = self._read_token()
        return self._token

    def _read_token(self) -> str:
        return self.kubectl("get", "secret", "stenofleet-token", "--template={{.data.token | base64decode}}")

    def ask(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
    ) -> Answer:
        """One request, through a connection of its own. None as *token*: that of the chart's tenant."""
        with self.forwarded() as (host, port):
            connection = http.client.HTTPConnection(host, port, timeout=60)
            bearer = {"Authorization": f"Bearer {self.token() if token is None else token}"}
            connection.request(method, path, body=body, headers=bearer | (headers or {}))
            answer = connection.getresponse()
            found = Answer(status=answer.status, headers=dict(answer.getheaders()), body=answer.read())
            connection.close()
        return found

    def submit(self, media: Path = demo.SAMPLE, *, token: str | None = None) -> str:
        """Send a recording in a form; the id of its run."""
        mark = secrets.token_hex(16)
        head = f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="{media.name}"\r\n\r\n'
        body = head.encode() + media.read_bytes() + f"\r\n--{mark}--\r\n".encode()
        form = {"Content-Type": f"multipart/form-data; boundary={mark}"}
        answer = self.ask("POST", "/v1/runs", token=token, body=body, headers=form)
        assert answer.status == 202, answer.body
        found = str(answer.document["id"])
        assert answer.headers["location"].endswith(f"/v1/runs/{found}")
        return found

    def status(self, run: str) -> str:
        """The status of a run; empty while no pod answers."""
        with contextlib.suppress(AssertionError, OSError, http.client.HTTPException):
            answer = self.ask("GET", f"/v1/runs/{run}")
            return str(answer.document["status"]) if answer.status == 200 else ""
        return ""

    def ends(self, run: str) -> str:
        """Wait until the run has ended; its status."""
        ended = ("complete", "partial", "failed", "cancelled")
        until(lambda: self.status(run) in ended, f"run {run} has ended", patience_s=PATIENCE_S)
        return self.status(run)


@pytest.fixture
def release(cluster: Cluster, images: Images, tmp_path: Path) -> Iterator[Release]:
    """Values, a bucket and a namespace with the Secret of S3. Nothing is installed yet."""
    with (
        cluster.s3.bucket() as bucket,
        cluster.namespace("release") as namespace,
        volume_for(cluster, namespace, tmp_path),
    ):
        access = {"AWS_ACCESS_KEY_ID": cluster.s3.access_key, "AWS_SECRET_ACCESS_KEY": cluster.s3.secret_key}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stenofleet-s3"}, "stringData": access}
        cluster.apply(namespace, secret)
        path = tmp_path / "values.yaml"
        path.write_text(yaml.safe_dump(values_of(cluster, images, bucket)), encoding="utf-8")
        yield Release(cluster=cluster, namespace=namespace, bucket=bucket, values=(path,))


def values_of(cluster: Cluster, images: Images, bucket: str) -> dict[str, Any]:
    """Values for the test cluster: the model of the demonstration on a CPU, nine chunks for its recording."""
    return {
        "image": named_images(images),
        "s3": {
            "endpoint": cluster.s3.endpoint,
            "bucket": bucket,
            "prefix": "store",
            "port": cluster.s3.address[1],
        },
        "device": "cpu",
        "model": {"source": "image", "name": images.model},
        "decoding": {"language": "en"},
        "chunking": {"duration": 20, "thresholdSeconds": 0},
        "jobs": {"threads": 1, "memoryMiB": 500},
        "concurrency": {"maxParallel": 2},
    }


def named_images(images: Images) -> dict[str, Any]:
    """Values that name the test's images, and nothing of another registry."""
    roles = {"controller": images.controller, "chunkJob": images.chunk_job}
    named = {role: dict(zip(("repository", "tag"), image.rsplit(":", 1), strict=True)) for role, image in roles.items()}
    return {role: {**image, "registry": "", "digest": ""} for role, image in named.items()} | {"pullPolicy": "Never"}


def is_the_sample(text: bytes) -> bool:
    """Whether these are the words of the demonstration's recording, as far as its small model hears them."""
    wanted = " ".join(demo.SAMPLE_TEXT.read_text(encoding="utf-8").split())
    return jiwer.wer(wanted, " ".join(text.decode().split()).replace(".", "").lower()) < 0.2
