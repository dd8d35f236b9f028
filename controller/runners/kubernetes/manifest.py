"""The Kubernetes Job of a task: options → the complete document.

Touches: nothing. Only this module builds Jobs: the charts and the command line only pass values. A document is a plain
``dict`` that can be written as JSON, with every quantity as a string. It contains no secrets, only names of Secrets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chunk_job import kernels
from controller.domain.jobs import Job
from controller.errors import UsageProblem
from controller.runners.kubernetes.job_memory import LARGEST_MODEL_MB, chunk_memory_mb
from controller.runners.kubernetes.labels import CONTAINER, annotations_of, job_name, labels_of

Device = Literal["cuda", "cpu"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]

SECRETS = {"AWS_ACCESS_KEY_ID": False, "AWS_SECRET_ACCESS_KEY": False, "AWS_SESSION_TOKEN": True}
"""Variables that come from a Secret, and whether each is optional."""
_CA_FOLDER = "/etc/stenofleet/ca"
_TERMINATION_LOG = "/dev/termination-log"

_DEADLINE_FACTORS: Mapping[Device, int] = {"cuda": 4, "cpu": 30}
"""A pod's time limit, in seconds for each second of audio. Enough for a large model on a small GPU or an old CPU."""

_SHORTEST_TTL_S = 3_600

_LOGS_MB = 128
_CHUNK_AUDIO_MB = 256
"""Twice the audio of the longest chunk: it is copied while it is written."""


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


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The Lease of a run: the lock of its leader, and the owner of all its Jobs."""

    name: str
    uid: str


def job_document(job: Job, options: JobOptions, owner: Owner) -> dict[str, Any]:
    """The Job of a chunk or of an intake. An intake first downloads its media to its scratch folder."""
    pod = _intake_pod(job, options) if job.span is None else _chunk_pod(job, options)
    (container,) = pod["containers"]
    _keep_literal(container)
    if job.span is not None:
        container["command"] += ["--uid", "$(POD_UID)"]  # the only variable that the kubelet replaces
    return _job(job, options, owner, pod)


def _chunk_pod(job: Job, options: JobOptions) -> dict[str, Any]:
    audio_s = math.ceil(job.audio_ms / 1000)
    pod = _pod(
        options,
        image=options.chunk_image,
        command=["chunk_job", *_task(job, options), "--attempt", str(job.attempt)],
        memory_mb=math.ceil(
            job.memory_factor
            * (
                options.memory_mb
                or chunk_memory_mb(model_mb=options.model_mb, cuda=options.device == "cuda", audio_s=audio_s)
            )
        ),
        scratch_mb=options.scratch_mb + _CHUNK_AUDIO_MB,
        deadline_s=options.deadline_base_s + (options.deadline_factor or _DEADLINE_FACTORS[options.device]) * audio_s,
    )
    _give_gpus(pod, options)
    _give_model(pod, options)
    if job.avoid_nodes:
        pod["affinity"] = {"nodeAffinity": _elsewhere(job.avoid_nodes, only=job.only_elsewhere)}
    return pod


def _intake_pod(job: Job, options: JobOptions) -> dict[str, Any]:
    return _pod(
        options,
        image=options.intake_image,
        command=["controller.intake", *_task(job, options)],
        memory_mb=options.intake_memory_mb,
        scratch_mb=options.scratch_mb + math.ceil(job.media_bytes / (1 << 20)),
        deadline_s=options.deadline_base_s + options.intake_deadline_s,
    )


def _job(job: Job, options: JobOptions, owner: Owner, pod: dict[str, Any]) -> dict[str, Any]:
    labels = {**options.labels, **labels_of(job, version=options.version)}
    annotations = {**options.annotations, **annotations_of(job)}
    # If the autoscaler moved a job to remove a node, all of its work would be lost.
    stay = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    queue = {"kueue.x-k8s.io/queue-name": options.queue} if options.queue else {}
    spec: dict[str, Any] = {
        "completions": 1,
        "parallelism": 1,
        # The controller retries: each attempt may get other memory, another node, other options.
        "backoffLimit": 0,
        # Never wait for a pod on a lost node. A podFailurePolicy would force that wait.
        "podReplacementPolicy": "TerminatingOrFailed",
        "template": {"metadata": {"labels": labels, "annotations": {**stay, **annotations}}, "spec": pod},
    }
    if options.ttl_s is not None:
        spec["ttlSecondsAfterFinished"] = options.ttl_s
    if options.queue:
        spec["suspend"] = True
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(job),
            "namespace": options.namespace,
            "labels": labels | queue,
            "annotations": annotations,
            "ownerReferences": [
                {
                    "apiVersion": "coordination.k8s.io/v1",
                    "kind": "Lease",
                    "name": owner.name,
                    "uid": owner.uid,
                    # True would need permission on the Lease's finalizers.
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec,
    }


def _keep_literal(container: dict[str, Any]) -> None:
    """Double every ``$``: else the kubelet would replace ``$(NAME)`` by a variable, perhaps a secret one."""
    for kind in container.keys() & {"command", "args"}:
        container[kind] = [part.replace("$", "$$") for part in container[kind]]
    for variable in container["env"]:
        if "value" in variable:
            variable["value"] = variable["value"].replace("$", "$$")


def _task(job: Job, options: JobOptions) -> list[str]:
    return ["--store", options.store_url, "--task", job.task_key, "--task-sha256", job.task_sha256]


def _pod(
    options: JobOptions, *, image: str, command: list[str], memory_mb: int, scratch_mb: int, deadline_s: int
) -> dict[str, Any]:
    limits = {"memory": f"{memory_mb}Mi", "ephemeral-storage": f"{scratch_mb + _LOGS_MB}Mi"}
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": f"{scratch_mb}Mi"}}]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (the pod's own)
    if options.s3_ca:
        volumes.append({"name": "ca", "configMap": {"name": options.s3_ca}})
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": options.image_pull_policy,
        # -P: import no module from the working folder. tini: only a process that is not PID 1 can abort and be stopped.
        "command": ["tini", "--", "python", "-P", "-m", *command, "--termination-log", _TERMINATION_LOG],
        "env": _environment(options),
        "resources": {"requests": {"cpu": options.cpu, **limits}, "limits": limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": _TERMINATION_LOG,
        # If a crash left no termination message, the end of the log contains the stack.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    user = {} if options.run_as_user is None else dict.fromkeys(("runAsUser", "runAsGroup"), options.run_as_user)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        # A second limit: only the kubelet enforces it, so not on a lost node. Pulling the image counts.
        "activeDeadlineSeconds": deadline_s,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, **user, "seccompProfile": {"type": "RuntimeDefault"}},
        "tolerations": _tolerations(options),
        "containers": [container],
        "volumes": volumes,
    }
    optional = {
        "imagePullSecrets": [{"name": name} for name in options.image_pull_secrets],
        "nodeSelector": dict(options.node_selector),
        "priorityClassName": options.priority_class,
        "runtimeClassName": options.runtime_class,
        "serviceAccountName": options.service_account,
    }
    return pod | {name: value for name, value in optional.items() if value}


def _tolerations(options: JobOptions) -> list[dict[str, Any]]:
    """Our tolerations come first: the first one that matches a taint counts, so no pod stays on a lost node forever."""
    lost = [
        {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}
        for state in ("not-ready", "unreachable")
    ]
    return [*lost, *(dict(toleration) for toleration in options.tolerations)]


def _environment(options: JobOptions) -> list[dict[str, Any]]:
    plain = {
        "HOME": "/tmp",  # noqa: S108 (the pod's own)
        "TMPDIR": "/tmp",  # noqa: S108 (the pod's own)
        "HF_HUB_OFFLINE": "1",
        # Credentials come from the Secret, never from the node's own identity.
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_S3": options.s3_endpoint,
        "AWS_REGION": options.s3_region,
        "AWS_CA_BUNDLE": f"{_CA_FOLDER}/ca.crt" if options.s3_ca else "",
    }
    plain = {name: value for name, value in plain.items() if value} | dict(options.env)
    secret = [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": options.s3_secret, "key": key, "optional": optional}}}
        for key, optional in SECRETS.items()
        if options.s3_secret
    ]
    pod_uid = {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}
    return [pod_uid, *secret, *({"name": name, "value": value} for name, value in plain.items())]


def _give_gpus(pod: dict[str, Any], options: JobOptions) -> None:
    count = int(options.device == "cuda") if options.gpus is None else options.gpus
    if not count:
        return
    resources = pod["containers"][0]["resources"]
    for kind in ("requests", "limits"):
        resources[kind][options.gpu_resource] = str(count)
    # Nodes with GPU slices (nvidia.com/mig-…) also have the taint of whole GPUs.
    for key in dict.fromkeys(("nvidia.com/gpu", options.gpu_resource)):
        pod["tolerations"].append({"key": key, "operator": "Exists", "effect": "NoSchedule"})


def _give_model(pod: dict[str, Any], options: JobOptions) -> None:
    if options.model_claim:
        source = {"persistentVolumeClaim": {"claimName": options.model_claim, "readOnly": True}}
    elif options.model_image:
        source = {"image": {"reference": options.model_image, "pullPolicy": options.image_pull_policy}}
    else:
        return
    container = pod["containers"][0]
    pod["volumes"].append({"name": "model", **source})
    container["volumeMounts"].append({"name": "model", "mountPath": options.model_path, "readOnly": True})
    ours = {"HF_HUB_CACHE": options.model_path}
    if options.device == "cuda":
        ours[kernels.SOURCE] = f"{options.model_path.rstrip('/')}/{kernels.FOLDER}"
    container["env"] += [{"name": name, "value": value} for name, value in ours.items() if name not in options.env]


def _elsewhere(nodes: Sequence[str], *, only: bool) -> dict[str, Any]:
    # The API accepts only one name in each requirement.
    names = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in dict.fromkeys(nodes)]
    if only:
        return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": names}]}}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": {"matchFields": names}}]}
