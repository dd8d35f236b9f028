"""Helm and the chart: the program, built once from its Go module, and the objects that the chart renders.

Touches: processes, a cache folder outside the checkout. Rendering needs no cluster.
"""

import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.testbed import go_build

CHART = Path(__file__).parents[2] / "helm" / "stenofleet"
RELEASE = "stenofleet"
_MODULE = "helm.sh/helm/v3"

Object = dict[str, Any]


def program() -> Path:
    """Helm: this machine's, else our own, built at the first call (five minutes on two cores)."""
    if found := shutil.which("helm"):
        return Path(found)
    _, minor, _ = go_build.version("helm", "k8s.io/client-go").split(".")
    variables = {f"{_MODULE}/internal/version.version": go_build.version("helm", _MODULE)}
    for package in ("chartutil", "lint/rules"):
        # Without them a chart is rendered for Kubernetes 1.20.
        kubernetes = f"{_MODULE}/pkg/{package}.k8sVersion"
        variables |= {f"{kubernetes}Major": "1", f"{kubernetes}Minor": minor}
    return go_build.build("helm", variables=variables) / "helm"


def helm(*arguments: str | Path, kubeconfig: Path | None = None) -> str:
    """The output of Helm. RuntimeError with its messages."""
    where = ("--kubeconfig", kubeconfig) if kubeconfig else ()
    done = subprocess.run(
        [program(), *arguments, *where], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"helm {' '.join(map(str, arguments))}: {done.stderr.strip()}\n{done.stdout.strip()}")
    return done.stdout


def template(*arguments: str | Path, namespace: str = "stenofleet") -> str:
    """The chart as YAML."""
    return helm("template", RELEASE, CHART, "--namespace", namespace, *arguments)


def rendered(*arguments: str | Path) -> Mapping[tuple[str, str], Object]:
    """The chart's objects, by kind and name."""
    found = [document for document in yaml.safe_load_all(template(*arguments)) if document]
    return {(document["kind"], document["metadata"]["name"]): document for document in found}


if __name__ == "__main__":
    print(program())
