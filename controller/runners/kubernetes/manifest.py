"""The Kubernetes Job of a task: options → the complete document.

Touches: nothing. Only this module builds Jobs: the charts and the command line only pass values. A document is a plain
``dict`` that can be written as JSON, with every quantity as a string. It contains no secrets, only names of Secrets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chunk_job import kernels
from chunk_job.model_manifest import CACHE as MODEL_CACHE
from controller.domain.jobs import Job
from controller.runners.kubernetes.job_memory import chunk_memory_mb
from controller.runners.kubernetes.job_options import Device, JobOptions
from controller.runners.kubernetes.labels import CONTAINER, annotations_of, job_name, labels_of

SECRETS = {"AWS_ACCESS_KEY_ID": False, "AWS_SECRET_ACCESS_KEY": False, "AWS_SESSION_TOKEN": True}
"""Variables that come from a Secret, and whether each is optional."""
_CA_FOLDER = "/etc/stenofleet/ca"
_TERMINATION_LOG = "/dev/termination-log"

_DEADLINE_FACTORS: Mapping[Device, int] = {"cuda": 4, "cpu": 30}
"""A pod's time limit, in seconds for each second of audio. Enough for a large model on a small GPU or an old CPU."""

_LOGS_MB = 128
_CHUNK_AUDIO_MB = 256
"""Twice the audio of the longest chunk: it is copied while it is written."""


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
        scratch_mb=options.scratch_mb + _CHUNK_AUDIO_MB + options.copied_model_mb,
        deadline_s=options.deadline_base_s + (options.deadline_factor or _DEADLINE_FACTORS[options.device]) * audio_s,
    )
    _give_gpus(pod, options)
    _give_model(pod, options)
    _give_kernels(pod, options)
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
    # Names of the hub, and copies of models in S3, are looked up there.
    _add_variables(container, {"HF_HUB_CACHE": options.model_path, MODEL_CACHE: options.model_path}, options)


def _give_kernels(pod: dict[str, Any], options: JobOptions) -> None:
    """Compiled kernels: from the model's volume, and from the store."""
    if options.device != "cuda":
        return
    container = pod["containers"][0]
    if options.model_claim or options.model_image:
        folder = f"{options.model_path.rstrip('/')}/{kernels.FOLDER}"
        _add_variables(container, {kernels.SOURCE: folder}, options)
    if options.kernels_in_store:
        container["command"].append(kernels.IN_STORE)


def _add_variables(container: dict[str, Any], ours: Mapping[str, str], options: JobOptions) -> None:
    container["env"] += [{"name": name, "value": value} for name, value in ours.items() if name not in options.env]


def _elsewhere(nodes: Sequence[str], *, only: bool) -> dict[str, Any]:
    # The API accepts only one name in each requirement.
    names = [{"key": "metadata.name", "operator": "NotIn", "values": [name]} for name in dict.fromkeys(nodes)]
    if only:
        return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{"matchFields": names}]}}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": {"matchFields": names}}]}
