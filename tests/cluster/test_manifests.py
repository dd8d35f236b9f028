"""Every document that options can make is accepted by the API server, and its values reach the program unchanged."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from controller.domain.jobs import Job
from controller.runners.kubernetes.api import Api, connect
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.manifest import job_document
from tests.cluster.site import Site
from tests.controller.runners.kubernetes import test_manifest as made
from tests.testbed import pods

SOURCE = Path(__file__).parents[2] / "k8s"
REPORT_ARGUMENTS = (
    'import json, os, sys; cache = os.environ.get("HF_HUB_CACHE", "");'
    " print(json.dumps([sys.argv[1:], dict(os.environ), os.path.ismount(cache)]))"
)
"""A program that prints its arguments and environment. In single quotes it is one word of a shell."""


@pytest.fixture
def api(site: Site, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(site.cluster.kubeconfig))
    return connect(namespace=site.namespace)


def documents(namespace: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, (changes, _) in made.EVERYWHERE.items():
        yield f"chunk, {name}", made.chunk(**{**changes, "namespace": namespace})
        yield f"intake, {name}", made.intake(**{**changes, "namespace": namespace})
    for name, (changes, _) in made.OF_A_CHUNK.items():
        yield f"chunk, {name}", made.chunk(**{**changes, "namespace": namespace})
    for only in (False, True):
        yield f"chunk, elsewhere, only: {only}", made.chunk(namespace=namespace, avoid=("a", "b"), only_elsewhere=only)
    for name, (changes, _) in made.OF_AN_INTAKE.items():
        yield f"intake, {name}", made.intake(**{**changes, "namespace": namespace})


def test_the_server_accepts_every_document_without_a_warning(api: Api) -> None:
    judged = {name: api.try_create("jobs", document) for name, document in documents(api.namespace)}
    assert len(judged) > 40
    assert {name: warnings for name, warnings in judged.items() if warnings} == {}


def test_a_violation_of_the_restricted_level_is_reported(api: Api) -> None:
    document = made.chunk(namespace=api.namespace)
    made.pod(document)["securityContext"].pop("seccompProfile")
    (warning,) = api.try_create("jobs", document)
    assert "would violate PodSecurity" in warning
    assert "seccompProfile" in warning


@dataclass(frozen=True, kw_only=True)
class Report:
    """The arguments and environment of a program in a pod, and its pod."""

    arguments: list[str]
    environment: dict[str, str]
    cache_is_mounted: bool
    log: str
    pod: dict[str, Any]


def run(site: Site, metadata: dict[str, Any], spec: dict[str, Any]) -> Report:
    """Run a pod once, with ``REPORT_ARGUMENTS`` as its program and with empty folders for its mounts."""
    (container,) = spec["containers"]
    command = " ".join(container["command"])
    assert "$" not in REPORT_ARGUMENTS
    if '-P -m controller "$@"' in command:
        container["command"] = [
            part.replace('-m controller "$@"', f"-c '{REPORT_ARGUMENTS}' \"$@\"") for part in container["command"]
        ]
    else:
        at = container["command"].index("-m")
        container["command"][at : at + 2] = ["-c", REPORT_ARGUMENTS]
    spec["volumes"] = [{"name": volume["name"], "emptyDir": {}} for volume in spec["volumes"]]
    container["imagePullPolicy"] = "Never"
    name = "reports"
    site.cluster.apply(
        site.namespace,
        {"apiVersion": "v1", "kind": "Pod", "metadata": {**metadata, "name": name}, "spec": spec},
    )
    log = pods.finished(site.cluster, site.namespace, name)
    arguments, environment, mounted = json.loads(log)
    return Report(
        arguments=arguments,
        environment=environment,
        cache_is_mounted=mounted,
        log=log,
        pod=site.cluster.get("--namespace", site.namespace, "pod", name),
    )


def hostile_options(site: Site) -> JobOptions:
    """Every option that may hold any text, with all the ways to name a variable."""
    return made.options(
        chunk_image=site.images.chunk_job,
        intake_image=site.images.controller,
        store_url=f"s3://b/{made.HOSTILE}",
        s3_endpoint=f"http://{made.HOSTILE}",
        s3_region=made.HOSTILE,
        model_claim="models",
        model_path=f"/models/{made.HOSTILE}",
        env={f"GIVEN_{number}": text for number, text in enumerate(made.DOLLARS)},
        annotations={"team/note": made.HOSTILE},
        device="cpu",
        memory_mb=200,
        intake_memory_mb=200,
        scratch_mb=16,
    )


@pytest.mark.parametrize("job", [made.CHUNK, made.INTAKE], ids=["chunk", "intake"])
def test_a_program_gets_every_value_as_it_was_given(site: Site, job: Job) -> None:
    job = replace(job, task_key=made.HOSTILE, task_sha256=f"{made.HOSTILE}!")
    options = hostile_options(site)
    template = job_document(job, options, made.OWNER)["spec"]["template"]
    report = run(site, {"annotations": template["metadata"]["annotations"]}, template["spec"])
    uid = report.pod["metadata"]["uid"]
    of_a_chunk = (["--attempt", "2"], ["--uid", uid]) if job.span is not None else ([], [])
    assert report.arguments == [
        *("--store", options.store_url, "--task", job.task_key, "--task-sha256", job.task_sha256, *of_a_chunk[0]),
        *("--termination-log", "/dev/termination-log", *of_a_chunk[1]),
    ]
    given = {**options.env, "AWS_ENDPOINT_URL_S3": options.s3_endpoint, "AWS_REGION": options.s3_region}
    if job.span is not None:
        given["HF_HUB_CACHE"] = options.model_path
        assert report.cache_is_mounted
    assert {name: report.environment[name] for name in given} == given
    # The variables that they name exist, and their values appear nowhere else.
    secret = site.cluster.s3.secret_key
    assert (report.environment["POD_UID"], report.environment["AWS_SECRET_ACCESS_KEY"]) == (uid, secret)
    assert report.log.count(secret) == 1
    assert report.pod["metadata"]["annotations"]["team/note"] == made.HOSTILE


@pytest.mark.parametrize(
    "job,setting,wanted",
    [
        ("stenofleet", "MEDIA", ["transcribe", made.HOSTILE]),
        (
            "stenofleet-model",
            "STENOFLEET_MODEL",
            ["--compile-kernels", "/models/.stenofleet-kernels", made.HOSTILE, "--download"],
        ),
    ],
)
def test_a_setting_of_the_manifests_names_no_variable(
    site: Site, tmp_path: Path, job: str, setting: str, wanted: list[str]
) -> None:
    """``args: [$(MEDIA)]`` inserts the setting; references inside the setting are not expanded again."""
    folder = shutil.copytree(SOURCE, tmp_path / "k8s") / "base"
    path = folder / "settings.env"
    before = path.read_text(encoding="utf-8").splitlines()
    kept = [line for line in before if not line.startswith(f"{setting}=")]
    given = [f"GIVEN_{number}={text}" for number, text in enumerate(made.DOLLARS)]
    path.write_text("\n".join([*kept, f"{setting}={made.HOSTILE}", *given, ""]), encoding="utf-8")
    documents = list(yaml.safe_load_all(site.cluster.kubectl("kustomize", str(folder))))
    (settings,) = [one for one in documents if one["metadata"]["name"].startswith("stenofleet-settings")]
    jobs = {one["metadata"]["name"]: one for one in documents if one["kind"] == "Job"}
    spec = jobs[job]["spec"]["template"]["spec"]
    site.cluster.apply(site.namespace, {**settings, "metadata": {"name": settings["metadata"]["name"]}})
    (container,) = spec["containers"]
    container["image"] = {"controller": site.images.controller, "model": site.images.chunk_job}[container["name"]]
    for field in ("initContainers", "serviceAccountName"):
        spec.pop(field, None)
    report = run(site, {}, spec | {"automountServiceAccountToken": False})
    assert report.arguments == wanted
    assert report.environment[setting] == made.HOSTILE
    assert [report.environment[f"GIVEN_{number}"] for number in range(len(made.DOLLARS))] == list(made.DOLLARS)
    assert ("AWS_SECRET_ACCESS_KEY" in report.environment) == (job == "stenofleet")
