"""The Kubernetes Job of a task: options → the whole document.

Touches: nothing. The Job has this one author: the charts and the command line only pass values. A document is a plain
``dict`` that survives JSON, with every quantity a string, and holds nothing secret: credentials are named, never shown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from chunk_job.names import MODELS
from controller.domain.jobs import Job
from controller.errors import UsageProblem
from controller.runners.kubernetes.labels import CONTAINER, annotations_of, job_name, labels_of

Device = Literal["cuda", "cpu"]
PullPolicy = Literal["Always", "IfNotPresent", "Never"]

SECRETS = {"AWS_ACCESS_KEY_ID": False, "AWS_SECRET_ACCESS_KEY": False, "AWS_SESSION_TOKEN": True}
"""Variables that come from a Secret, and whether each may be missing in it."""
_CA_FOLDER = "/etc/stenofleet/ca"
_TERMINATION_LOG = "/dev/termination-log"

_DEADLINE_FACTORS: Mapping[Device, int] = {"cuda": 4, "cpu": 30}
"""A pod's seconds for each second of its audio, by far: a large model on a small card or an old CPU."""

_SHORTEST_TTL_S = 3_600

# Host memory of a chunk job, measured on CPUs: the weights while they are converted, the libraries, the spectrogram.
_WEIGHTS_MARGIN = 1.15
_LIBRARIES_MB = 200
_MB_PER_AUDIO_S = 1.2
_CUDA_CONTEXT_MB = 1_000
"""What the driver and cuBLAS map into a process, with a margin."""

_LOGS_MB = 128
_CHUNK_AUDIO_MB = 256
"""The longest chunk's audio while it is written, twice."""


@dataclass(frozen=True, kw_only=True)
class JobOptions:
    """What a cluster's jobs look like. An empty text or collection leaves the field out of the document."""

    chunk_image: str
    intake_image: str
    """The controller's image: it holds ffmpeg, and no model library."""
    store_url: str
    """``s3://bucket/prefix`` as pods open it."""
    version: str
    """Of this program, for ``app.kubernetes.io/version``."""
    namespace: str = "stenofleet"
    """One of its own: whoever may create Jobs in it may read its Secrets."""
    image_pull_policy: PullPolicy = "IfNotPresent"
    """One look at the node: a question to the registry for every chunk would make it a part of every job."""
    image_pull_secrets: tuple[str, ...] = ()
    s3_secret: str = "stenofleet-s3"  # noqa: S105 (a name)
    """Secret with ``AWS_ACCESS_KEY_ID``, ``AWS_SECRET_ACCESS_KEY`` and, for temporary keys, ``AWS_SESSION_TOKEN``.

    Empty: the pods' ServiceAccount is their identity.
    """
    s3_endpoint: str = ""
    """``http(s)://host[:port]`` as pods reach it. Empty: AWS."""
    s3_region: str = ""
    s3_ca: str = ""
    """ConfigMap with ``ca.crt``, the authorities of the endpoint's certificate. Empty: the public ones."""
    device: Device = "cuda"
    gpu_resource: str = "nvidia.com/gpu"
    """As the device plugin advertises it: ``nvidia.com/mig-1g.10gb`` for a slice."""
    gpus: int | None = None
    """Of one job. None: one, which is what it uses, and none on a CPU."""
    cpu: str = "1"
    """Requested, never a limit: throttling makes chunks slow and frees nobody."""
    memory_mb: int | None = None
    """Of a chunk job, requested and limit; None: from the model and the chunk's length."""
    model_mb: int = max(model.size_mb for model in MODELS.values())
    """Size of the model's weights (:func:`weights_mb`), for the memory they take."""
    intake_memory_mb: int = 1_024
    """Of an intake job: it needs 63 MB for any length; the rest is for what ffmpeg makes of odd media."""
    scratch_mb: int = 1_024
    """Room in ``/tmp`` beside the media: chunks on their way, compiled GPU kernels."""
    model_claim: str = ""
    """PersistentVolumeClaim with models."""
    model_image: str = ""
    """Image with models, mounted as a volume (Kubernetes 1.35 and later). Neither: the chunk image holds the model."""
    model_path: str = "/models"
    """Where the volume appears, read-only; also the hub's cache there, so that names of the hub are found in it."""
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    """As Kubernetes writes them; the GPU's own taint is tolerated in any case."""
    priority_class: str = ""
    runtime_class: str = ""
    """``nvidia`` where the nodes' default runtime does not bring the driver."""
    queue: str = ""
    """Kueue's LocalQueue: Jobs are created suspended and wait in it. Empty: no queue."""
    service_account: str = ""
    """Of the job pods; its token is never mounted."""
    run_as_user: int | None = 10_001
    """None: the platform assigns one (OpenShift)."""
    env: Mapping[str, str] = field(default_factory=dict)
    """Of both jobs, over ours. Never a secret: everyone who may read Jobs reads it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    """Of Job and pod, as ``labels``."""
    deadline_base_s: int = 900
    """Of a pod: the image's first pull on a fresh node and a cold model."""
    deadline_factor: int | None = None
    """And so many seconds for each second of audio; None: 4 on a GPU, 30 on a CPU."""
    intake_deadline_s: int = 6 * 3_600
    """Decoding runs at a thousand times real time; only a file that never ends takes this long."""
    ttl_s: int | None = 86_400
    """A net for what a dead controller leaves: a night, so that the next one finds its evidence. None: for ever."""

    def __post_init__(self) -> None:
        if self.model_claim and self.model_image:
            raise UsageProblem("models come from a claim or from an image, not from both", "leave one of them out")
        if self.ttl_s is not None and self.ttl_s < _SHORTEST_TTL_S:
            raise UsageProblem(
                f"a Job that is deleted {self.ttl_s} s after its end takes its evidence with it",
                f"give it {_SHORTEST_TTL_S} s or more: the controller deletes what it has read at once",
            )


@dataclass(frozen=True, kw_only=True)
class Owner:
    """The Lease of a run: its leader's lock, and the owner of all its Jobs."""

    name: str
    uid: str


def weights_mb(model: str) -> int:
    """Size of a model's weights; of one that nobody knows, that of the largest."""
    known = MODELS.get(model)
    return known.size_mb if known else JobOptions.model_mb


def job_document(job: Job, options: JobOptions, owner: Owner) -> dict[str, Any]:
    """The Job of a chunk, or of an intake, which downloads its media to its scratch folder first."""
    pod = _intake_pod(job, options) if job.span is None else _chunk_pod(job, options)
    (container,) = pod["containers"]
    _keep_literal(container)
    if job.span is not None:
        container["command"] += ["--uid", "$(POD_UID)"]  # the one variable that the kubelet is to put in
    return _job(job, options, owner, pod)


def _chunk_pod(job: Job, options: JobOptions) -> dict[str, Any]:
    audio_s = math.ceil(job.audio_ms / 1000)
    pod = _pod(
        options,
        image=options.chunk_image,
        command=["chunk_job", *_task(job, options), "--attempt", str(job.attempt)],
        memory_mb=math.ceil(job.memory_factor * (options.memory_mb or _chunk_memory_mb(options, audio_s))),
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
    # Moving a job to save a node would cost all its work.
    stay = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false"}
    queue = {"kueue.x-k8s.io/queue-name": options.queue} if options.queue else {}
    spec: dict[str, Any] = {
        "completions": 1,
        "parallelism": 1,
        # Retries are the controller's: each attempt may get other memory, another node, other options.
        "backoffLimit": 0,
        # Never wait for a pod on a node that is gone; a podFailurePolicy would force that wait.
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
                    # True would ask for a right on the Lease's finalizers.
                    "controller": False,
                    "blockOwnerDeletion": False,
                }
            ],
        },
        "spec": spec,
    }


def _keep_literal(container: dict[str, Any]) -> None:
    """Double every ``$`` where the kubelet replaces ``$(NAME)`` by a variable, secret ones among them."""
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
    room = {"memory": f"{memory_mb}Mi", "ephemeral-storage": f"{scratch_mb + _LOGS_MB}Mi"}
    volumes: list[dict[str, Any]] = [{"name": "tmp", "emptyDir": {"sizeLimit": f"{scratch_mb}Mi"}}]
    mounts: list[dict[str, Any]] = [{"name": "tmp", "mountPath": "/tmp"}]  # noqa: S108 (the pod's own)
    if options.s3_ca:
        volumes.append({"name": "ca", "configMap": {"name": options.s3_ca}})
        mounts.append({"name": "ca", "mountPath": _CA_FOLDER, "readOnly": True})
    container = {
        "name": CONTAINER,
        "image": image,
        "imagePullPolicy": options.image_pull_policy,
        # -P: no module out of the working folder. tini: a process that is not PID 1 can abort, and be stopped.
        "command": ["tini", "--", "python", "-P", "-m", *command, "--termination-log", _TERMINATION_LOG],
        "env": _environment(options),
        "resources": {"requests": {"cpu": options.cpu, **room}, "limits": dict(room)},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePath": _TERMINATION_LOG,
        # Where a crash left no termination message, the log's end holds its stack.
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts,
    }
    user = {} if options.run_as_user is None else dict.fromkeys(("runAsUser", "runAsGroup"), options.run_as_user)
    pod: dict[str, Any] = {
        "restartPolicy": "Never",
        # A net: the kubelet alone keeps it, so a lost node does not, and pulling the image counts.
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
    """Ours come first, and of the tolerations that fit a taint the first one counts: nobody waits for ever."""
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


def _chunk_memory_mb(options: JobOptions, audio_s: int) -> float:
    context_mb = _CUDA_CONTEXT_MB if options.device == "cuda" else 0
    return _WEIGHTS_MARGIN * options.model_mb + _LIBRARIES_MB + context_mb + _MB_PER_AUDIO_S * audio_s


def _give_gpus(pod: dict[str, Any], options: JobOptions) -> None:
    count = int(options.device == "cuda") if options.gpus is None else options.gpus
    if not count:
        return
    resources = pod["containers"][0]["resources"]
    for kind in ("requests", "limits"):
        resources[kind][options.gpu_resource] = str(count)
    # A slice of a GPU (nvidia.com/mig-…) lies behind the taint of whole ones, too.
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
    if "HF_HUB_CACHE" not in options.env:
        container["env"].append({"name": "HF_HUB_CACHE", "value": options.model_path})


def _elsewhere(nodes: Sequence[str], *, only: bool) -> dict[str, Any]:
    # One name to a requirement is all the API takes.
    names = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in dict.fromkeys(nodes)]
    if only:
        return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": names}]}}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": {"matchFields": names}}]}
