"""The examples of docs/ci and the action: what they run, and where they have what it needs."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from controller import demo

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "ci"
CLUSTER = ("argo.yaml", "cronjob.yaml", "tekton.yaml")
"""The examples that run in a cluster."""
LOCAL = {"STENOFLEET_RUNNER": "local", "STENOFLEET_MODEL": str(demo.MODEL), "STENOFLEET_LANGUAGE": "en"}
"""What tests change in every example: jobs on this machine, the small model."""

Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    """The documents of a file; ``on`` is a name, not a truth value."""
    text = re.sub(r"^on:", '"on":', path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return list(yaml.safe_load_all(text))


def action() -> Document:
    (found,) = documents(ROOT / "action.yml")
    return found


def workflow() -> Document:
    (found,) = documents(FOLDER / "github.yml")
    return found


def pipeline() -> Document:
    (found,) = documents(FOLDER / "gitlab.yml")
    return found


def steps(document: Document) -> list[Document]:
    """The steps of the action, or of the workflow's only job."""
    if "runs" in document:
        found: list[Document] = document["runs"]["steps"]
        return found
    (job,) = document["jobs"].values()
    return list(job["steps"])


def step(document: Document, name: str) -> Document:
    (found,) = [one for one in steps(document) if name in (one.get("id"), one.get("name"))]
    return found


def filled(step: Document, inputs: Mapping[str, str]) -> dict[str, str]:
    """The variables of a step of the action with these inputs, and the defaults of the others."""
    values = {name: str(one.get("default", "")) for name, one in action()["inputs"].items()} | dict(inputs)
    places = {f"${{{{ inputs.{name} }}}}": value for name, value in values.items()}
    return {name: places[value] for name, value in step["env"].items()}


def containers() -> Iterator[tuple[str, Document, Document]]:
    """The file, container and pod of each container of the examples for clusters."""
    for name in CLUSTER:
        for document in documents(FOLDER / name):
            spec = document.get("spec", {})
            if document["kind"] == "CronJob":
                pod = spec["jobTemplate"]["spec"]["template"]["spec"]
                yield from ((name, one, pod) for one in pod["containers"])
            elif document["kind"] == "WorkflowTemplate":
                yield from ((name, one["container"], spec) for one in spec["templates"])
            elif document["kind"] == "Task":
                yield from ((name, one, spec["stepTemplate"]) for one in spec["steps"])


def variables(container: Document) -> dict[str, str]:
    """Its variables; those that Kubernetes fills in have their path as the value."""
    return {
        one["name"]: one["value"] if "value" in one else one["valueFrom"]["fieldRef"]["fieldPath"]
        for one in container["env"]
    }
