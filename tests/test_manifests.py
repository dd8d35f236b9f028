"""``k8s/`` agrees with the code, and every pod is restricted. Without a cluster: only the files are read."""

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]

from controller.cli.execute import exit_code
from controller.cli.transcribe import transcribe_command
from controller.domain.interfaces import RunOutcome
from controller.domain.jobs import Job
from controller.errors import EnvironmentProblem, UsageProblem
from controller.runners.kubernetes.api import PERMISSIONS
from controller.runners.kubernetes.labels import labels_of
from controller.runners.kubernetes.manifest import JobOptions, Owner, job_document

FOLDER = Path(__file__).parents[1] / "k8s"
BASE = FOLDER / "base"
JOB = Job(run="0123456789abcdef", span=1, attempt=1, task_key="task", task_sha256="0" * 64)
JOBS = ("stenofleet", "stenofleet-model")

Document = dict[str, Any]


def documents(path: Path) -> list[Document]:
    found: list[Document] = list(yaml.safe_load_all(path.read_text(encoding="utf-8")))
    return found


(KUSTOMIZATION,) = documents(BASE / "kustomization.yaml")
OBJECTS = {
    (document["kind"], document["metadata"]["name"]): document
    for name in KUSTOMIZATION["resources"]
    for document in documents(BASE / name)
}
(SECRET,) = documents(FOLDER / "s3-secret" / "kustomization.yaml")
OVERLAYS = sorted((FOLDER / "overlays").iterdir())


def pod(name: str) -> Document:
    spec: Document = OBJECTS["Job", name]["spec"]["template"]["spec"]
    return spec


def containers(name: str) -> list[Document]:
    return [*pod(name).get("initContainers", ()), *pod(name)["containers"]]


def component(name: str) -> str:
    label: str = OBJECTS["Job", name]["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"]
    return label


def lines(path: Path) -> dict[str, str]:
    """The settings of an env file."""
    found = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in found)


def plain_environment(container: Document) -> dict[str, str]:
    return {item["name"]: item.get("value", "of-the-pod") for item in container["env"]}


def overlay() -> dict[str, str]:
    (kustomization,) = documents(FOLDER / "overlays" / "cpu" / "kustomization.yaml")
    (merged,) = kustomization["configMapGenerator"]
    return dict(line.split("=", 1) for line in merged["literals"])


def read(settings: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options of the controller's command in its pod."""
    (controller,) = pod("stenofleet")["containers"]
    environment = settings | plain_environment(controller)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    arguments = [re.sub(r"\$\((\w+)\)", lambda found: environment[found[1]], text) for text in controller["args"]]
    assert arguments.pop(0) == transcribe_command.name
    context = transcribe_command.make_context("transcribe", arguments)
    assert all(context.params[name] is not None for name in ("files", "output_dir", "store"))
    return context.params


def option(name: str) -> click.Option:
    (found,) = [item for item in transcribe_command.params if item.name == name]
    assert isinstance(found, click.Option)
    return found


def allowed(policy: str) -> Iterator[Document]:
    yield from OBJECTS["NetworkPolicy", policy]["spec"]["egress"]


def test_kustomize_uses_every_file_of_the_folder() -> None:
    known = {*KUSTOMIZATION["resources"], *KUSTOMIZATION["configurations"], "kustomization.yaml"}
    assert {path.name for path in BASE.glob("*.yaml")} == known
    (kustomization,) = documents(FOLDER / "kustomization.yaml")
    assert (kustomization["resources"], kustomization["components"]) == (["base"], ["s3-secret"])


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_names_no_namespace_so_that_the_base_s_counts(overlay: Path) -> None:
    (kustomization,) = documents(overlay / "kustomization.yaml")
    assert (kustomization["resources"], kustomization["components"]) == (["../../base"], ["../../s3-secret"])
    assert "namespace:" not in (overlay / "kustomization.yaml").read_text(encoding="utf-8")


def test_kustomize_renames_every_name_that_a_pod_gets_as_text() -> None:
    (names,) = documents(BASE / "names.yaml")
    found = {rule["kind"]: rule["fieldSpecs"] for rule in names["nameReference"]}
    settings = lines(BASE / "settings.env")
    own = {name for _, name in OBJECTS} | {generator["name"] for generator in SECRET["secretGenerator"]}
    given = {name for name, value in settings.items() if value in own}
    known = [spec["path"] for kind in ("PersistentVolumeClaim", "Secret") for spec in found[kind]]
    assert {f"data/{name}" for name in given} == set(known)
    (waiting,) = pod("stenofleet")["initContainers"]
    assert waiting["args"] == ["stenofleet-model"]
    assert found["Job"] == [{"kind": "Job", "path": "spec/template/spec/initContainers/args"}]


def test_the_role_equals_the_table_of_permissions_and_is_limited_to_the_namespace() -> None:
    rules = OBJECTS["Role", "stenofleet"]["rules"]
    granted = {(*rule["apiGroups"], *rule["resources"]): tuple(rule["verbs"]) for rule in rules}
    assert granted == {(permission.group, permission.resource): permission.verbs for permission in PERMISSIONS}
    assert len(rules) == len(PERMISSIONS)
    binding = OBJECTS["RoleBinding", "stenofleet"]
    assert binding["roleRef"] | {"apiGroup": ""} == {"apiGroup": "", "kind": "Role", "name": "stenofleet"}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "stenofleet"}]
    assert not [kind for kind, _ in OBJECTS if kind.startswith("Cluster")]


def test_the_namespace_refuses_what_is_not_restricted() -> None:
    labels = OBJECTS["Namespace", "stenofleet"]["metadata"]["labels"]
    assert labels == {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")}


@pytest.mark.parametrize("name", JOBS)
def test_every_pod_is_as_strict_as_the_jobs_that_the_controller_makes(name: str) -> None:
    made = job_document(
        JOB,
        JobOptions(chunk_image="c", intake_image="i", store_url="s3://b", version="0"),
        Owner(name="lease", uid="uid"),
    )["spec"]["template"]["spec"]
    assert made["securityContext"].items() <= pod(name)["securityContext"].items()
    assert pod(name)["enableServiceLinks"] is False
    assert pod(name)["restartPolicy"] == "Never"
    for container in containers(name):
        assert container["securityContext"] == made["containers"][0]["securityContext"]
        assert container["command"][:2] == ["tini", "--"]
        resources = container["resources"]
        assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
        assert resources["requests"]["memory"] == resources["limits"]["memory"]


def test_the_controller_alone_has_a_token() -> None:
    assert OBJECTS["ServiceAccount", "stenofleet"]["automountServiceAccountToken"] is False
    assert {name: pod(name)["automountServiceAccountToken"] for name in JOBS} == dict(
        zip(JOBS, (True, False), strict=True)
    )
    assert pod("stenofleet")["serviceAccountName"] == "stenofleet"
    assert "serviceAccountName" not in pod("stenofleet-model")


def test_images_are_the_defaults_of_the_command_line() -> None:
    named = {image["name"]: f"{image['name']}:{image['newTag']}" for image in KUSTOMIZATION["images"]}
    used = [(name, container["image"]) for name in JOBS for container in containers(name)]
    assert dict(used) == {"stenofleet": "stenofleet-controller", "stenofleet-model": "stenofleet-chunk-job"}
    assert set(used) == set(dict(used).items())
    assert {image for _, image in used} == named.keys()
    assert set(named.values()) == {option("chunk_image").default, option("intake_image").default}
    found = {
        (source["name"], target["fieldPaths"][0])
        for replacement in KUSTOMIZATION["replacements"]
        if (source := replacement["source"])["kind"] == "Job"
        for target in replacement["targets"]
    }
    assert found == {
        ("stenofleet", f"data.{option('intake_image').envvar}"),
        ("stenofleet-model", f"data.{option('chunk_image').envvar}"),
    }
    assert str(option("chunk_image").default).startswith(dict(used)["stenofleet-model"])


@pytest.mark.parametrize("changes", [{}, overlay()], ids=["base", "cpu"])
def test_every_setting_is_an_option_with_a_value_that_it_takes(
    changes: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = lines(BASE / "settings.env") | changes
    (controller,) = pod("stenofleet")["containers"]
    known = {item.envvar for item in transcribe_command.params if isinstance(item, click.Option)}
    given = {name for name in settings | plain_environment(controller) if name.startswith("STENOFLEET_")}
    assert given <= known
    options = read(settings, monkeypatch)
    assert options["runner"] == "kubernetes"
    assert options["device"] == ("cpu" if changes else "cuda")


def test_claim_secret_and_model_path_are_the_same_in_manifests_and_code(monkeypatch: pytest.MonkeyPatch) -> None:
    options = read(lines(BASE / "settings.env"), monkeypatch)
    (secret,) = SECRET["secretGenerator"]
    assert "secretGenerator" not in KUSTOMIZATION, "an existing Secret needs no s3.env"
    (controller,) = pod("stenofleet")["containers"]
    assert {"secretRef": {"name": secret["name"]}} in controller["envFrom"]
    assert secret["name"] == options["s3_secret"] == option("s3_secret").default
    # The jobs get its name as text, which kustomize does not change.
    assert secret["options"]["disableNameSuffixHash"] is True
    assert lines(FOLDER / "s3-secret" / "s3.env.example").keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    assert ("PersistentVolumeClaim", options["model_claim"]) in OBJECTS
    (fetching,) = pod("stenofleet-model")["containers"]
    assert {"name": "models", "mountPath": options["model_path"]} in fetching["volumeMounts"]
    assert plain_environment(fetching)["HF_HUB_CACHE"] == options["model_path"]
    assert pod("stenofleet-model")["volumes"][0]["persistentVolumeClaim"]["claimName"] == options["model_claim"]


def test_a_verdict_ends_the_job_and_a_signal_or_an_outage_does_not() -> None:
    def outcome(verdict: Any) -> RunOutcome:
        return RunOutcome(run="", name="", verdict=verdict, summary="")

    verdicts = {exit_code([outcome(verdict)]) for verdict in ("partial", "failed", "cancelled")}
    disrupted, stopped, final = OBJECTS["Job", "stenofleet"]["spec"]["podFailurePolicy"]["rules"]
    assert disrupted == {"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}
    assert (stopped["action"], stopped["onExitCodes"]["values"]) == ("Ignore", [143])
    assert (final["action"], set(final["onExitCodes"]["values"])) == ("FailJob", verdicts | {UsageProblem.exit_code})
    (controller,) = pod("stenofleet")["containers"]
    assert {rule["onExitCodes"]["containerName"] for rule in (stopped, final)} == {controller["name"]}


def test_two_pods_prefer_two_nodes_and_the_first_success_completes_the_job() -> None:
    spec = OBJECTS["Job", "stenofleet"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert spec["successPolicy"] == {"rules": [{"succeededCount": 1}]}
    # For each index: the Job's own back-off limit would count for both together.
    assert spec["backoffLimitPerIndex"] > 0
    assert "backoffLimit" not in spec
    (spread,) = spec["template"]["spec"]["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
    labels = spec["template"]["metadata"]["labels"]
    assert spread["labelSelector"]["matchLabels"].items() <= labels.items()


def test_jobs_reach_s3_the_controller_the_api_server_and_the_model_s_job_the_internet() -> None:
    jobs = {labels_of(job, version="0")["app.kubernetes.io/component"] for job in (JOB, replace(JOB, span=None))}
    name, chosen = OBJECTS["NetworkPolicy", "stenofleet-s3"]["spec"]["podSelector"]["matchExpressions"]
    assert (name["key"], name["values"]) == ("app.kubernetes.io/name", ["stenofleet"])
    assert set(chosen["values"]) == jobs | {component("stenofleet")}
    assert [rule["ports"] for rule in allowed("stenofleet-s3")] == [[{"protocol": "TCP", "port": 9000}]]
    for policy, of in (("stenofleet-api-server", "stenofleet"), ("stenofleet-model", "stenofleet-model")):
        labels = OBJECTS["NetworkPolicy", policy]["spec"]["podSelector"]["matchLabels"]
        assert labels["app.kubernetes.io/component"] == component(of)
    world = [rule["to"][0]["ipBlock"]["cidr"] for rule in allowed("stenofleet-model")]
    assert world == ["0.0.0.0/0"]


def test_only_connections_named_by_a_policy_are_allowed() -> None:
    deny = OBJECTS["NetworkPolicy", "stenofleet-default-deny"]["spec"]
    assert deny == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    names = OBJECTS["NetworkPolicy", "stenofleet-dns"]["spec"]["podSelector"]
    assert names == {"matchLabels": {"app.kubernetes.io/name": "stenofleet"}}
    policies = [document["spec"] for (kind, _), document in OBJECTS.items() if kind == "NetworkPolicy"]
    assert not [policy for policy in policies if "ingress" in policy]
    assert len(policies) == 5


def test_the_port_of_s3_follows_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = [item for item in KUSTOMIZATION["replacements"] if item["source"]["kind"] == "ConfigMap"]
    (target,) = port["targets"]
    assert port["source"]["fieldPath"].removeprefix("data.") in lines(BASE / "settings.env")
    assert target["select"] == {"kind": "NetworkPolicy", "name": "stenofleet-s3"}
    (rule,) = allowed("stenofleet-s3")
    assert target["fieldPaths"] == ["spec.egress.0.ports.0.port"]
    assert [*rule] == ["ports"]


def test_the_controller_waits_for_the_job_that_fetches_the_model(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (waiting, *_), (script,) = pod("stenofleet")["initContainers"], KUSTOMIZATION["configMapGenerator"][1]["files"]
    path = BASE / script
    spec = importlib.util.spec_from_file_location("wait_for_model", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (name,) = waiting["args"]
    (mount,) = waiting["volumeMounts"]
    assert waiting["command"][-1] == f"{mount['mountPath']}/{path.name}"
    assert OBJECTS["Job", name]["spec"]["activeDeadlineSeconds"] > 0

    unbound = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    message = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    stuck = {"spec": pod(name), "status": {"conditions": [unbound | {"message": message}]}}

    class Found:
        """A cluster that has that Job, which fails after a while."""

        asked = 0

        def get(self, kind: str, job: str) -> Document | None:
            self.asked += 1
            failed = [{"type": "Failed", "status": "True"}] if self.asked > 2 else None
            return {"status": {"conditions": failed}} if (kind, job) == ("jobs", name) else None

        def find(self, kind: str, **query: str) -> Document:
            assert (kind, query) == ("pods", {"labelSelector": f"batch.kubernetes.io/job-name={name}"})
            return {"items": [stuck]}

    monkeypatch.setattr(module, "connect", Found)
    monkeypatch.setattr(module, "_POLL_EVERY_S", 0)
    assert module.main(name) == EnvironmentProblem.exit_code
    (why,) = [line for line in capsys.readouterr().err.splitlines() if " waits: " in line]
    assert "the PersistentVolumeClaim with the models has no volume yet" in why
    assert "`kubectl describe pvc stenofleet-models`" in why
    assert module.main("another") == 0


def test_the_cpu_overlay_changes_the_settings_of_the_base() -> None:
    (kustomization,) = documents(FOLDER / "overlays" / "cpu" / "kustomization.yaml")
    (merged,) = kustomization["configMapGenerator"]
    assert merged["behavior"] == "merge"
    assert merged["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
