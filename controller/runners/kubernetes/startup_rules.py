"""Why a Job that was created does not start: messages of a cluster → a failure class, what to do, how long to wait.

Touches: nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from controller.domain.failures import FailureClass

_SOON_MS = 60_000
"""Patience for objects that were applied in the wrong order."""

_LATER_MS = 300_000
"""Patience for a registry or a disk that is unavailable for a short time."""

_NODES_MS = 900_000
"""Patience for an autoscaler that adds a node."""

REPAIRS_MS = 3_600_000
"""Patience for nodes that are being replaced."""


class Rule(NamedTuple):
    """A message that matches *pattern* means *failure*."""

    pattern: str
    failure: FailureClass
    summary: str
    advice: str
    patience_ms: int | None


_UNCORDON = "`kubectl uncordon NODE` lets jobs run there again"

REFUSED: tuple[Rule, ...] = (
    Rule(
        r"exceeded quota",
        FailureClass.CREATE_DENIED_QUOTA,
        "the namespace's quota is used up",
        "it continues when other pods end; see `kubectl describe resourcequota`, or lower --max-parallel",
        None,
    ),
    Rule(
        r"failed quota",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the namespace's quota requires requests or limits that jobs do not set",
        "create a LimitRange with defaults: it sets them for every pod",
        0,
    ),
    Rule(
        r"violates PodSecurity",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the namespace's Pod Security level forbids the pod",
        "the jobs meet the level `restricted`: remove the option that violates it",
        0,
    ),
    Rule(
        r"error looking up service account",
        FailureClass.CONFIG,
        "the ServiceAccount does not exist",
        "create it, or correct --service-account",
        _SOON_MS,
    ),
    Rule(
        r"no PriorityClass with name",
        FailureClass.CONFIG,
        "the PriorityClass does not exist",
        "see `kubectl get priorityclass`, and correct --priority-class",
        _SOON_MS,
    ),
    Rule(
        r"RuntimeClass .*not found",
        FailureClass.CONFIG,
        "the RuntimeClass does not exist",
        "see `kubectl get runtimeclass`, and correct --runtime-class",
        _SOON_MS,
    ),
    Rule(
        r"(maximum|minimum) \S+ usage per|limit to request ratio",
        FailureClass.CREATE_DENIED_ADMISSION,
        "a LimitRange of the namespace forbids the pod",
        "see `kubectl describe limitrange`; adapt it, --threads or --job-memory",
        0,
    ),
    Rule(
        r"cannot (create|get|list|watch|delete|update|patch) resource|finalizers on",
        FailureClass.CREATE_DENIED_RBAC,
        "the controller lacks a permission",
        "grant it (the Role in k8s/ has all that are needed); `stenofleet doctor` lists missing permissions",
        0,
    ),
    Rule(
        r"namespaces \S+ not found",
        FailureClass.CONFIG,
        "the namespace does not exist",
        "create it, or correct --namespace",
        0,
    ),
    Rule(
        r"admission webhook|ValidatingAdmissionPolicy",
        FailureClass.CREATE_DENIED_ADMISSION,
        "a policy of the cluster refuses it",
        "the message names the policy: ask the cluster's administrator",
        0,
    ),
    Rule(
        r"(?i)internal error|failed calling webhook|timed? ?out|time allotted|connection refused|too many requests"
        r"|etcdserver|status unknown for quota|object has been modified",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the cluster cannot check it now",
        "the message names what is unavailable: ask the cluster's administrator",
        _LATER_MS,
    ),
    Rule(
        r"is invalid",
        FailureClass.CONFIG,
        "the API server rejects the Job as invalid",
        "correct the option for the field that the message names",
        0,
    ),
    Rule(
        "",
        FailureClass.CREATE_DENIED_ADMISSION,
        "the cluster refuses it",
        "the message contains the reason: ask the cluster's administrator",
        _SOON_MS,
    ),
)

UNSCHEDULABLE: tuple[Rule, ...] = (
    Rule(
        r"persistentvolumeclaim \S+ not found",
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the PersistentVolumeClaim with the models does not exist",
        "create it, or correct --model-claim",
        _SOON_MS,
    ),
    Rule(
        r"unbound immediate PersistentVolumeClaims",
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the PersistentVolumeClaim with the models has no volume yet",
        "see `kubectl describe pvc`: it needs a StorageClass, or a volume that fits",
        _LATER_MS,
    ),
    Rule(
        r"PersistentVolume|volume",
        FailureClass.UNSCHEDULABLE_VOLUME,
        "the volume with the models cannot be used on a free node",
        "see `kubectl describe pvc`: many nodes need ReadOnlyMany or ReadWriteMany",
        _LATER_MS,
    ),
    Rule(
        r"Insufficient|Too many pods",
        FailureClass.UNSCHEDULABLE_RESOURCES,
        "no node has enough free resources for it",
        "see `kubectl describe nodes`; adapt --job-memory, --threads, --gpus or --gpu-resource",
        _NODES_MS,
    ),
    Rule(
        r"affinity|selector",
        FailureClass.UNSCHEDULABLE_AFFINITY,
        "no node matches its node selector or affinity",
        "see `kubectl get nodes --show-labels`, and correct --node-selector; nodes where its GPU failed are excluded",
        _NODES_MS,
    ),
    Rule(
        r"^(?!.*taint).*were unschedulable",
        FailureClass.UNSCHEDULABLE_TAINT,
        "every node that could run it is cordoned",
        f"`kubectl get nodes` shows SchedulingDisabled; {_UNCORDON}",
        _NODES_MS,
    ),
    Rule(
        r"taint",
        FailureClass.UNSCHEDULABLE_TAINT,
        "every node that could run it is tainted or cordoned",
        f"`kubectl describe nodes | grep -A3 Taints` shows them: add a --toleration; if it is cordoned, {_UNCORDON}",
        _NODES_MS,
    ),
    Rule(
        "",
        FailureClass.UNSCHEDULABLE_RESOURCES,
        "the scheduler finds no node for it",
        "see `kubectl describe nodes`",
        _NODES_MS,
    ),
)

NOT_PULLED: tuple[Rule, ...] = (
    Rule(
        r"ErrImageNeverPull",
        FailureClass.IMAGE_PULL,
        "the image is not on the node, and may not be pulled",
        "load it on every node, or change --image-pull-policy",
        _SOON_MS,
    ),
    Rule(
        r"InvalidImageName",
        FailureClass.IMAGE_PULL,
        "the image's name is not valid",
        "correct --chunk-image or --intake-image",
        0,
    ),
    Rule(
        r"(?i)unauthorized|denied|forbidden|authorization failed",
        FailureClass.IMAGE_PULL,
        "the registry refuses the image",
        "give a Secret for it (--image-pull-secret)",
        _SOON_MS,
    ),
    Rule(
        r"(?i)not found|manifest unknown",
        FailureClass.IMAGE_PULL,
        "the registry does not have the image",
        "push it, or correct --chunk-image or --intake-image",
        _SOON_MS,
    ),
    Rule(
        "",
        FailureClass.IMAGE_PULL,
        "the image cannot be pulled",
        "check its name (--chunk-image, --intake-image) and the node's connection to the registry",
        _LATER_MS,
    ),
)

NOT_MADE: tuple[Rule, ...] = (
    Rule(
        r"(?i)secret|configmap",
        FailureClass.CONFIG,
        "a Secret or ConfigMap of the job does not exist, or lacks a key",
        "create it with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or correct --s3-secret or --s3-ca",
        _SOON_MS,
    ),
    Rule(
        r"runAsNonRoot",
        FailureClass.CONFIG,
        "the image would run as root",
        "use an image of this project (--chunk-image, --intake-image)",
        0,
    ),
    Rule(
        r"FailedMount|FailedAttachVolume|FailedMapVolume",
        FailureClass.UNSCHEDULABLE_VOLUME,
        "its node cannot mount a volume",
        "see `kubectl describe pvc` and the storage driver's log",
        _LATER_MS,
    ),
    Rule(
        r"runtime .*(is configured|handler)",
        FailureClass.CONFIG,
        "its node does not have the runtime that the RuntimeClass names",
        "correct --runtime-class, or install the runtime on that node",
        _LATER_MS,
    ),
    Rule(
        "",
        # As far as known, the problem of one node: other nodes may work.
        FailureClass.UNKNOWN,
        "its node cannot create the container",
        "see `kubectl describe` of the pod and of its node",
        _LATER_MS,
    ),
)
