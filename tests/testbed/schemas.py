"""Schemas of Kubernetes, Tekton and Argo Workflows, from their Go modules: data alone, nothing of them is built or run.

Touches: a cache folder outside the checkout, the Go module proxy (through go, once). Needs no root.

    python -m tests.testbed.schemas    fetch, and print the folder
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from tests.testbed import go_build

Schema = dict[str, Any]

MODULES = {
    ("k8s.io/kubernetes", "v1.35.4"): "h1:o/8dBC/pHVpYoGV4OAIytAlNPZbdYVTXJHoYvXC4qzM=",
    ("github.com/tektoncd/pipeline", "v1.6.0"): "h1:A+D+jzOVl2QNl/yiNT7csVgBUy2wpz6K6+/D4q5lfss=",
    ("github.com/argoproj/argo-workflows/v4", "v4.0.5"): "h1:/1lru5oXUd+k6KEDUps6rLX5OKfi1jTfabgXTly/VFU=",
}
"""Path and version, and the checksum as in a go.sum."""
_OPENAPI = "api/openapi-spec/swagger.json"
_DEFINITIONS = {"Task": "config/300-crds/300-task.yaml", "Pipeline": "config/300-crds/300-pipeline.yaml"} | {
    kind: f"manifests/base/crds/full/argoproj.io_{kind.lower()}s.yaml" for kind in ("WorkflowTemplate", "CronWorkflow")
}
"""Where the definition of each kind is, of those whose resources are not Kubernetes' own."""


def folder() -> Path:
    """The folder with a JSON Schema for each kind; downloads 60 MB unless an earlier call has."""
    pinned = hashlib.sha256(repr([*MODULES.items(), Path(__file__).read_bytes()]).encode()).hexdigest()[:16]
    cache = go_build.cache_folder() / f"schemas-{pinned}"
    done = cache / "schemas"
    if done.is_dir():
        return done
    with go_build.locked(cache / "lock"):
        # Two test workers may come here at the same time; the second finds the finished folder.
        if not done.is_dir():
            fresh = cache / "fresh"
            fresh.mkdir(exist_ok=True)
            for name, schema in _schemas(*_downloaded()):
                (fresh / f"{name}.json").write_text(json.dumps(schema))
            fresh.rename(done)
    return done


@functools.cache
def schema_of(api_version: str, kind: str) -> Schema:
    """The schema of a kind, in which an unknown field is an error."""
    found: Schema = json.loads((folder() / f"{api_version.replace('/', '_')}_{kind}.json").read_text())
    return found


def _downloaded() -> list[Path]:
    """The folders of the modules. RuntimeError if one is not what it was."""
    print("testbed: downloading the schemas of Kubernetes, Tekton and Argo Workflows (once)", file=sys.stderr)
    with tempfile.TemporaryDirectory(prefix="stenofleet-schemas-") as place, go_build.go() as go:
        command = [go, "mod", "download", "-json", *(f"{path}@{version}" for path, version in MODULES)]
        # Outside of any module: no other one has a say in it.
        done = subprocess.run(
            command, cwd=place, env=os.environ | {"GOFLAGS": ""}, capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}\n{done.stdout.strip()}")
    found = {(each["Path"], each["Version"]): each for each in _documents(done.stdout)}
    for module, checksum in MODULES.items():
        if found[module]["Sum"] != checksum:
            raise RuntimeError(f"{module} has the checksum {found[module]['Sum']} instead of {checksum}")
    return [Path(found[module]["Dir"]) for module in MODULES]


def _documents(text: str) -> Iterator[dict[str, Any]]:
    decoder, rest = json.JSONDecoder(), text.lstrip()
    while rest:
        document, end = decoder.raw_decode(rest)
        yield document
        rest = rest[end:].lstrip()


def _schemas(kubernetes: Path, tekton: Path, argo: Path) -> Iterator[tuple[str, Schema]]:
    for kind, path in _DEFINITIONS.items():
        file = (tekton if kind in ("Task", "Pipeline") else argo) / path
        (definition,) = yaml.load_all(file.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)
        spec = definition["spec"]
        assert spec["names"]["kind"] == kind
        for version in spec["versions"]:
            yield f"{spec['group']}_{version['name']}_{kind}", _strict(version["schema"]["openAPIV3Schema"])
    definitions = json.loads((kubernetes / _OPENAPI).read_text(encoding="utf-8"))["definitions"]
    strict = {name: _strict(one) for name, one in definitions.items()}
    for name, one in definitions.items():
        for group in one.get("x-kubernetes-group-version-kind", ())[:1]:
            version = "_".join(filter(None, (group["group"], group["version"])))
            if group["kind"] in ("CronJob", "ServiceAccount", "Role", "RoleBinding", "PersistentVolumeClaim"):
                yield f"{version}_{group['kind']}", {"$ref": f"#/definitions/{name}", "definitions": strict}


def _strict(schema: Any) -> Any:
    """The same schema without unknown fields, with the two types that Kubernetes has and JSON Schema has not."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("x-kubernetes-int-or-string") or schema.get("format") == "int-or-string":
        return {"type": ["integer", "string"]}
    made = {name: _strict(one) for name, one in schema.items()}
    properties = isinstance(schema.get("properties"), dict) and schema.get("type", "object") == "object"
    if properties and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


if __name__ == "__main__":
    print(folder())
