"""The options of the Kubernetes runner, and the runner that they create.

Touches: environment (the store's address, to pass it to pods).
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click

from chunk_job.contract import TranscribeOptions
from chunk_job.store.base import Store
from controller.cli import options as shared
from controller.cli.sections import ClusterOption
from controller.cli.terminal import print_message
from controller.domain.interfaces import Runner
from controller.errors import UsageProblem
from controller.runners.kubernetes.job_memory import copied_mb, weights_mb
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.manifest import SECRETS

if TYPE_CHECKING:
    # The client library takes a fifth of a second to load: only commands that use a cluster load it.
    from controller.runners.kubernetes.api import Api

_NO_SECRET = "none"  # noqa: S105 (a word, because an empty variable means that the option is not given)
MAX_PARALLEL = 16
"""Default of the Jobs at once: enough for the GPUs of a small cluster, and cheap to list."""

_MOST_MIB = 1 << 24
"""16 TiB: more memory or disk than one node has."""

_VERSION = importlib.metadata.version("stenofleet")


def pairs(_: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Parse ``KEY=VALUE``, any number of them."""
    for value in values:
        if not value.partition("=")[0] or "=" not in value:
            raise click.BadParameter(f"{value!r} is not KEY=VALUE", param=parameter)
    return dict(value.split("=", 1) for value in values)


def plain_pairs(context: click.Context, parameter: click.Parameter, values: Sequence[str]) -> dict[str, str]:
    """Parse ``KEY=VALUE`` pairs that are not secret."""
    found = pairs(context, parameter, values)
    if secret := sorted(found.keys() & SECRETS.keys()):
        raise click.BadParameter(f"put {', '.join(secret)} into the Secret that --s3-secret names", param=parameter)
    if "POD_UID" in found:
        raise click.BadParameter("POD_UID is set for each job: it is a part of the keys of results", param=parameter)
    return found


def tolerations(_: click.Context, __: click.Parameter, values: Sequence[str]) -> tuple[dict[str, str], ...]:
    """Parse ``KEY[=VALUE][:EFFECT]``, the notation of taints."""
    return tuple(map(_toleration, values))


def _toleration(text: str) -> dict[str, str]:
    taint, _, effect = text.partition(":")
    key, equals, value = taint.partition("=")
    toleration = {"key": key, "operator": "Equal" if equals else "Exists"}
    return toleration | ({"value": value} if equals else {}) | ({"effect": effect} if effect else {})


def _option(*names: str, **attributes: Any) -> Any:
    """Make an option that only the Kubernetes runner uses: help shows it in a separate section."""
    return shared.option(*names, cls=ClusterOption, **attributes)


place_options = shared.together(
    _option("--context", default="", metavar="NAME", help="Of the kubeconfig (default: its current one)."),
    _option("--namespace", default="", help="Default: the context's, or the pod's own."),
)
job_options = shared.together(
    _option("--chunk-image", default=f"stenofleet-chunk-job:{_VERSION}", show_default=True),
    _option("--intake-image", default=f"stenofleet-controller:{_VERSION}", show_default=True),
    _option("--image-pull-policy", type=click.Choice(["Always", "IfNotPresent", "Never"]), default="IfNotPresent",
            show_default=True),
    _option("--image-pull-secret", "image_pull_secrets", multiple=True, metavar="NAME"),
    _option("--s3-secret", default="stenofleet-s3", show_default=True, metavar="NAME",
            help="Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY for jobs; none: their ServiceAccount."),
    _option("--job-s3-endpoint", default="", metavar="URL", help="Where pods find S3 (default: as here)."),
    _option("--s3-ca", default="", metavar="NAME", help="ConfigMap with ca.crt, where S3's certificate needs it."),
    _option("--model-claim", default="", metavar="NAME", help="PersistentVolumeClaim with models."),
    _option("--model-image", default="", metavar="IMAGE", help="Image with models, mounted as a volume."),
    _option("--model-path", default="/models", show_default=True, help="Where jobs find either."),
    _option("--kernels-in-store", is_flag=True,
            help="Chunk jobs share compiled GPU kernels in the store (who may write there can then run code)."),
    _option("--gpu-resource", default="nvidia.com/gpu", show_default=True),
    _option("--gpus", type=click.IntRange(0, 1024), metavar="N",
            help="Of one job (default: 1, with --device cpu none)."),
    _option("--job-memory", "memory_mb", type=click.IntRange(64, _MOST_MIB), metavar="MIB",
            help="Of a chunk job (default: from model and chunk length)."),
    _option("--job-scratch", "scratch_mb", type=click.IntRange(16, _MOST_MIB), default=1024, show_default=True,
            metavar="MIB"),
    _option("--node-selector", callback=pairs, multiple=True, metavar="KEY=VALUE"),
    _option("--toleration", "tolerations", callback=tolerations, multiple=True, metavar="KEY[=VALUE][:EFFECT]"),
    _option("--priority-class", default="", metavar="NAME"),
    _option("--runtime-class", default="", metavar="NAME"),
    _option("--queue", default="", metavar="NAME", help="Kueue's LocalQueue: jobs wait in it, suspended."),
    _option("--service-account", default="", metavar="NAME", help="Of job pods; its token is never mounted."),
    _option("--job-env", "env", callback=plain_pairs, multiple=True, metavar="KEY=VALUE", help="Never for secrets."),
)  # fmt: skip
options = shared.together(place_options, job_options)
runner_option = shared.option(
    "--runner",
    type=click.Choice(["local", "kubernetes"]),
    default="local",
    show_default=True,
    help="Where jobs run: processes here, or Jobs of a cluster.",
)


Settings = Mapping[str, Any]
"""The options above, by their names."""


def divided(given: Mapping[str, Any], runner: str) -> tuple[Settings | None, dict[str, Any]]:
    """Split the options of a command into those of the cluster (None: jobs run on this machine) and the rest."""
    mine = {name: value for name, value in given.items() if name in _names()}
    rest = {name: value for name, value in given.items() if name not in mine}
    return (mine if runner == "kubernetes" else None), rest


def jobs_at_once(max_parallel: int | None, *, cluster: bool) -> int:
    """Return the number of jobs at once: as given, or the default for where jobs run."""
    return max_parallel or (MAX_PARALLEL if cluster else max(1, shared.cores() // 4))


def on_gpus(wanted: TranscribeOptions) -> TranscribeOptions:
    """On a cluster, ``auto`` means the GPU: a job that runs on a CPU without a warning would block a node for hours."""
    return wanted.model_copy(update={"device": "cuda"}) if wanted.device == "auto" else wanted


def gpus_of_a_job(device: str, cluster: Settings | None) -> int:
    """Return how many GPUs a job on this *device* takes; 0 on a CPU."""
    asked = cluster["gpus"] if cluster else None
    return int(device == "cuda") if asked is None else int(asked)


def runner_of(store: Store, wanted: TranscribeOptions, *, scratch: Path | None, cluster: Settings | None) -> Runner:
    """Return the runner for a command's jobs.

    Raises :class:`UsageProblem` if pods cannot reach the store, and :class:`EnvironmentProblem` if there is no cluster.
    """
    here = shared.runner_for(store, scratch)
    if cluster is None:
        return here
    from controller.leadership.all_of import AllOf
    from controller.leadership.kubernetes_lease import KubernetesLeases
    from controller.runners.kubernetes.runner import ClusterRunner

    _check_reach(store)
    api = api_of(cluster)
    leases = KubernetesLeases(api)
    return ClusterRunner(
        api,
        job_options_of(store, wanted, namespace=api.namespace, cluster=cluster),
        here=here,
        leases=leases,
        leadership=AllOf(here.leadership, leases),
    )


def api_of(cluster: Settings) -> Api:
    """Connect to the cluster. Raises :class:`EnvironmentProblem` if there is none."""
    from controller.runners.kubernetes.api import connect

    return connect(context=cluster["context"], namespace=cluster["namespace"])


def sweep(api: Api, run: str) -> None:
    """Delete what is left of *run* on the cluster, and print which pods have not ended yet."""
    from controller.runners.kubernetes.runner import sweep as delete_jobs

    for pod in delete_jobs(api, run):
        print_message(f"pod {pod} is still ending; on a lost node this takes until the node is back or removed")


def job_options_of(store: Store, wanted: TranscribeOptions, *, namespace: str, cluster: Settings) -> JobOptions:
    """Return the options of the cluster's jobs. Raises :class:`UsageProblem` if pods cannot reach the store."""
    _check_reach(store)
    apart = ("context", "namespace", "job_s3_endpoint", "s3_secret")
    same = {name: value for name, value in cluster.items() if name not in apart}
    return JobOptions(
        store_url=store.url,
        version=_VERSION,
        namespace=namespace,
        s3_endpoint=_endpoint(cluster["job_s3_endpoint"] or store.environment.get("AWS_ENDPOINT_URL_S3", "")),
        s3_region=store.environment.get("AWS_REGION", ""),
        s3_secret="" if cluster["s3_secret"] == _NO_SECRET else cluster["s3_secret"],
        device="cpu" if wanted.device == "cpu" else "cuda",
        cpu=str(wanted.cpu_threads),
        model_mb=weights_mb(wanted.model),
        copied_model_mb=copied_mb(wanted.model, has_volume=bool(cluster["model_claim"] or cluster["model_image"])),
        **same,
    )


def _check_reach(store: Store) -> None:
    if not store.remote:
        raise UsageProblem(
            f"pods cannot reach {store.url}", "use a store that they can reach: --store s3://bucket/prefix"
        )


def _names() -> frozenset[str]:
    """Return the parameter names of the options above."""
    marked: Any = options(lambda: None)
    return frozenset(parameter.name for parameter in marked.__click_params__)


def _endpoint(found: str) -> str:
    """Check the address of S3 for pods. Raises :class:`UsageProblem` if they cannot use it."""
    if "@" in found:
        # Not repeated: it may hold a password.
        raise UsageProblem(
            "the address of S3 contains a user name, which is visible to everyone who can read Jobs",
            "give --job-s3-endpoint without it, and put the key into the Secret (--s3-secret)",
        )
    if urlsplit(found).hostname in ("localhost", "127.0.0.1", "::1"):
        raise UsageProblem(
            f"pods cannot reach {found}: this address is local to this machine",
            "give an address of the same S3 for pods: --job-s3-endpoint http://minio.minio:9000",
        )
    return found
