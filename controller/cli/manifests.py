"""The Jobs of a plan as Kubernetes documents, exactly as the runner would create them.

Touches: the kubeconfig (only its namespace, and only without ``--namespace``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]

from chunk_job.contract import TranscribeOptions
from chunk_job.text import printable
from controller.cli import kubernetes
from controller.cli import options as shared
from controller.cli.terminal import print_data
from controller.domain.dry_run import DryRun
from controller.domain.interfaces import RunRequest
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.labels import lease_name
from controller.runners.kubernetes.manifest import Owner, job_document
from controller.runs.dry_jobs import first_jobs

_NO_UID = "00000000-0000-0000-0000-000000000000"
"""The server gives a Lease its uid. A Job with this owner is accepted, and deleted again: no Lease has this uid."""


def planned_job_options(store: str | None, wanted: TranscribeOptions, cluster: kubernetes.Settings) -> JobOptions:
    """Return the options of the Jobs for the *store* with this URL.

    Raises :class:`UsageProblem` if pods cannot reach the store, and :class:`EnvironmentProblem` if no namespace
    is given, and there is no kubeconfig that names one.
    """
    namespace = cluster["namespace"] or kubernetes.api_of(cluster).namespace
    return kubernetes.job_options_of(shared.store_at(store), wanted, namespace=namespace, cluster=cluster)


def documents(run_request: RunRequest, dry: DryRun, options: JobOptions) -> Iterator[dict[str, Any]]:
    """Yield the Job of the intake, unless it would run on this machine, and the first Job of each chunk."""
    owner = Owner(name=lease_name(run_request.record.run), uid=_NO_UID)
    for job in first_jobs(run_request, dry):
        if not job.needs_this_machine:
            yield job_document(job, options, owner)


def print_manifests(name: str, manifests: Sequence[dict[str, Any]]) -> None:
    """Print YAML documents with a comment about them; a password in an address is not shown."""
    print_data(f"# {printable(name)}: {len(manifests):,} Jobs. Their owner, the Lease of the run, gets its uid later.")
    for document in manifests:
        print_data(f"---\n{as_yaml(document)}".rstrip("\n"))


def as_yaml(document: dict[str, Any]) -> str:
    """Return a document as YAML that every parser reads in the same way."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=10_000))


class _Dumper(yaml.SafeDumper):  # type: ignore[misc]
    """Writes parts that occur twice as they are, and quotes text that looks like a number in any version of YAML."""

    def ignore_aliases(self, _: object) -> bool:
        return True


# What may be a number or a truth value for the parser of kubectl, but not for that of Python: a run's id may be
# 1234e56789012345, and a chunk is 00008.
_Dumper.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+._0-9][-+._0-9eE]*$|[-+]?0o[0-7_]+$"), list("-+._0123456789")
)
_Dumper.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("[yYnN]$"), list("yYnN"))
