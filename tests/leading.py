"""Runners with their leadership, built as the command line builds them."""

from pathlib import Path
from typing import TypeVar

from controller.domain.interfaces import Leadership, Runner
from controller.leadership.all_of import AllOf
from controller.leadership.file_lock import FileLocks
from controller.leadership.kubernetes_lease import KubernetesLeases
from controller.runners.folders import Home
from controller.runners.kubernetes.api import Api
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.runner import ClusterRunner
from controller.runners.local import LocalRunner

_R = TypeVar("_R", bound=LocalRunner)


def leads(leadership: Leadership, run: str) -> bool:
    """Try to acquire the run; whether this process leads it now."""
    return leadership.try_acquire_or_renew(run, 0) == "leading"


def local_runner(kind: type[_R], store_url: str, folder: Path, scratch: Path | None = None) -> _R:
    home = Home(folder, scratch)
    return kind(store_url, home, FileLocks(home))


def cluster_runner(api: Api, options: JobOptions, *, here: Runner) -> ClusterRunner:
    leases = KubernetesLeases(api)
    return ClusterRunner(api, options, here=here, leases=leases, leadership=AllOf(here.leadership, leases))


def end(runner: Runner, run: str) -> None:
    """Release a run as the loop does when the run has ended."""
    runner.release(run)
    runner.leadership.release(run, ended=True)


def close(runner: Runner, *, leave: bool) -> None:
    """Close the runner as the loop does at its end."""
    runner.close(leave=leave)
    runner.leadership.close()
