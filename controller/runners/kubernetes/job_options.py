"""Settings of a cluster's jobs.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from controller.errors import UsageProblem
from controller.runners.kubernetes.job_memory import LARGEST_MODEL_MB

Device = Literal["cuda", "cpu"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]

_SHORTEST_TTL_S = 3_600


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """Settings of a cluster's jobs. An empty text or collection leaves the field out of the document."""

    chunk_image: str
    intake_image: str
    """The controller's image: it contains ffmpeg, and no model library."""
    store_url: str
    """``s3://bucket/prefix`` as the pods use it."""
    version: str
    """Version of this program, for ``app.kubernetes.io/version``."""
    namespace: str = "stenofleet"
    """Use a separate namespace: everyone who can create Jobs in it can read its Secrets."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    """The default avoids a request to the registry for every chunk, so jobs do not depend on it."""
    image_pull_secrets: tuple[str, ...] = ()
    s3_secret: str = "stenofleet-s3"  # noqa: S105 (a name)
    """Secret with ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and, for temporary keys, ``AWS_SESSION_TOKEN``.

    Empty: the pods use the identity of their ServiceAccount.
    """
    s3_endpoint: str = ""
    """``http(s)://host[:port]`` as the pods reach it. Empty: AWS."""
    s3_region: str = ""
    s3_ca: str = ""
    """ConfigMap with ``ca.crt``, the certificate authorities of the endpoint. Empty: the public ones."""
    device: Device = "cuda"
    gpu_resource: str = "nvidia.com/gpu"
    """Resource name of the device plugin, for example ``nvidia.com/mig-1g.10gb`` for a slice of a GPU."""
    gpus: int | None = None
    """GPUs of one job. None: one on CUDA, since a job uses only one, and none on a CPU."""
    cpu: str = "1"
    """CPU request. There is no limit: throttling would slow chunks down and help no other pod."""
    memory_mb: int | None = None
    """Memory request and limit of a chunk job, in MB. None: computed from the model and the chunk's length."""
    model_mb: int = LARGEST_MODEL_MB
    """Size of the model's weights (:func:`weights_mb`), used to compute the memory."""
    copied_model_mb: int = 0
    """Disk space in ``/tmp`` for a copy of a model in S3 (:func:`copied_mb`), in MB."""
    intake_memory_mb: int = 1_024
    """Memory of an intake job. It needs 63 MB for any length; the rest is for ffmpeg with unusual media."""
    scratch_mb: int = 1_024
    """Disk space in ``/tmp`` in addition to the media: chunks before upload, compiled GPU kernels."""
    model_claim: str = ""
    """PersistentVolumeClaim with models."""
    model_image: str = ""
    """Image with models, mounted as a volume (Kubernetes 1.35 and later).

    If neither a claim nor an image is given, the chunk image contains the model.
    """
    model_path: str = "/models"
    """Mount path of the models, read-only. It is also the hub's cache, so that model names of the hub are found.

    It may contain compiled GPU kernels, of which a job on a GPU makes a copy in its ``/tmp``.
    """
    kernels_in_store: bool = False
    """Chunk jobs take compiled GPU kernels from the store, and put them there: who may write to it can run code."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """In the format of Kubernetes. The taint of GPU nodes is always tolerated."""
    priority_class: str = ""
    runtime_class: str = ""
    """``nvidia`` if the nodes' default runtime does not provide the driver."""
    queue: str = ""
    """A LocalQueue of Kueue: Jobs are created suspended and wait in this queue. Empty: no queue."""
    service_account: str = ""
    """ServiceAccount of the job pods. Its token is never mounted."""
    run_as_user: int | None = 10_001
    """None: the platform assigns one (OpenShift)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Variables of chunk and intake jobs; they replace ours. Never a secret: everyone who can read Jobs can read it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Annotations of Job and pod, like ``labels``."""
    deadline_base_s: int = 900
    """Base time limit of a pod: the first image pull on a new node, and loading the model from disk."""
    deadline_factor: int | None = None
    """Additional seconds for each second of audio. None: 4 on a GPU, 30 on a CPU."""
    intake_deadline_s: int = 6 * 3_600
    """Time limit of an intake. Decoding runs at a thousand times real time; only an endless file takes this long."""
    ttl_s: int | None = 86_400
    """When Kubernetes deletes finished Jobs that a dead controller left. One day: the next one can read their evidence.

    None: never.
    """

    def __post_init__(self) -> None:
        if self.model_claim and self.model_image:
            raise UsageProblem("both a model claim and a model image are given", "give only one of them")
        if self.ttl_s is not None and self.ttl_s < _SHORTEST_TTL_S:
            raise UsageProblem(
                f"a Job that is deleted {self.ttl_s} s after its end loses its evidence",
                f"use {_SHORTEST_TTL_S} s or more: the controller itself deletes Jobs as soon as it has read them",
            )
