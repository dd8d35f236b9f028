"""``k8s/`` agrees with the code, and every pod is restricted. Without a cluster: only the files are read."""

import copy
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]

from chunk_job.__main__ import _parser
from controller.cli import stenofleet
from controller.cli.execute import GATE_FAILED, exit_code
from controller.cli.transcribe import transcribe_command
from controller.domain.interfaces import RunOutcome
from controller.domain.jobs import Job
from controller.errors import EnvironmentProblem, UsageProblem
from controller.runners.kubernetes.api import PERMISSIONS
from controller.runners.kubernetes.job_memory import LARGEST_MODEL_MB, chunk_memory_mb
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.labels import labels_of
from controller.runners.kubernetes.manifest import Owner, job_document

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
    # Below the program, as in the pod: click keeps the names of the help option of the first context for all others.
    program = click.Context(stenofleet, **stenofleet.context_settings)
    context = transcribe_command.make_context("transcribe", arguments, parent=program)
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
        gpu = {"nvidia.com/gpu"} if name == "stenofleet-model" else set()
        kinds = {"cpu", "memory", "ephemeral-storage"} | gpu
        assert resources["requests"].keys() == resources["limits"].keys() == kinds
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

    verdicts = {exit_code([outcome(verdict)]) for verdict in ("partial", "failed", "cancelled")} | {GATE_FAILED}
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


class FoundJob:
    """A cluster that has the model's Job, whose pod is not scheduled with this message."""

    name = "stenofleet-model"
    ends_after: int | None = None
    """It fails when it has been asked this often."""

    def __init__(self, message: str) -> None:
        self.asked = 0
        unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        self.stuck = {"spec": pod(self.name), "status": {"conditions": [unscheduled]}}

    def get(self, kind: str, job: str) -> Document | None:
        self.asked += 1
        ended = self.ends_after is not None and self.asked > self.ends_after
        failed = [{"type": "Failed", "status": "True"}] if ended else None
        return {"status": {"conditions": failed}} if (kind, job) == ("jobs", self.name) else None

    def find(self, kind: str, **query: str) -> Document:
        assert (kind, query) == ("pods", {"labelSelector": f"batch.kubernetes.io/job-name={self.name}"})
        return {"items": [self.stuck]}


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The program of ``wait_for_model.py``. Each of its pauses takes a minute by its clock, and no time."""
    (script,) = KUSTOMIZATION["configMapGenerator"][1]["files"]
    spec = importlib.util.spec_from_file_location("wait_for_model", BASE / script)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    clock = SimpleNamespace(now_ns=0)

    def pause(_: float) -> None:
        clock.now_ns += 60 * 10**9

    monkeypatch.setattr(module, "time", SimpleNamespace(sleep=pause, monotonic_ns=lambda: clock.now_ns))
    module.clock = clock
    return module


UNBOUND = "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
NO_GPU = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu. preemption: 0/2 nodes are available: {}."


def test_the_controller_waits_for_the_job_that_fetches_the_model(
    waiting: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (container, *_), (script,) = pod("stenofleet")["initContainers"], KUSTOMIZATION["configMapGenerator"][1]["files"]
    (name,) = container["args"]
    (mount,) = container["volumeMounts"]
    assert container["command"][-1] == f"{mount['mountPath']}/{script}"
    assert OBJECTS["Job", name]["spec"]["activeDeadlineSeconds"] > 0
    found = FoundJob(UNBOUND)
    found.ends_after = 3
    monkeypatch.setattr(waiting, "connect", lambda: found)
    assert waiting.main(name) == EnvironmentProblem.exit_code
    message = capsys.readouterr().err
    (why,) = [line for line in message.splitlines() if " waits: " in line]
    assert "the PersistentVolumeClaim with the models has no volume yet" in why
    assert "`kubectl describe pvc stenofleet-models`" in why
    assert "the model could not be downloaded: kubectl logs job/stenofleet-model shows the reason" in message
    assert waiting.main("another") == 0


@pytest.mark.parametrize(
    "message,minutes", [(NO_GPU.format("2 Preemption is not helpful for scheduling"), 25), (UNBOUND, 15)]
)
def test_the_controller_waits_ten_minutes_longer_than_for_a_chunk_job(
    waiting: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], message: str, minutes: int
) -> None:
    monkeypatch.setattr(waiting, "connect", lambda: FoundJob(message))
    assert waiting.main(FoundJob.name) == EnvironmentProblem.exit_code
    assert waiting.clock.now_ns == minutes * 60 * 10**9
    _, first, *_, last = capsys.readouterr().err.splitlines()
    assert " waits: " in first
    assert "has not started for too long: " in last
    assert ("apply k8s/overlays/cpu" in last) == ("nvidia.com/gpu" in message)


def test_a_job_that_is_created_later_is_waited_for_if_that_is_asked_for(
    waiting: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = FoundJob(NO_GPU.format("2 Preemption is not helpful for scheduling"))
    get, found.name = found.get, "not-yet"
    monkeypatch.setattr(waiting, "connect", lambda: found)
    assert waiting.main("stenofleet-model", "120") == 0
    assert waiting.clock.now_ns == 2 * 60 * 10**9, "a missing Job counts as a deleted one, after this time"

    def appears(kind: str, job: str) -> Document | None:
        found.name = "stenofleet-model" if waiting.clock.now_ns >= 3 * 60 * 10**9 else "not-yet"
        return get(kind, job)

    monkeypatch.setattr(found, "get", appears)
    found.asked, found.ends_after = 0, 3
    assert waiting.main("stenofleet-model", "120", "use a CPU") == EnvironmentProblem.exit_code
    message = capsys.readouterr().err
    assert "use a CPU" in message
    assert "k8s/overlays/cpu" not in message


def test_the_controller_waits_any_time_for_a_gpu_that_others_use(waiting: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = FoundJob(NO_GPU.format("2 No preemption victims found for incoming pod"))
    found.ends_after = 1_000
    monkeypatch.setattr(waiting, "connect", lambda: found)
    assert waiting.main(FoundJob.name) == EnvironmentProblem.exit_code
    assert waiting.clock.now_ns == 1_000 * 60 * 10**9


def test_the_model_s_job_gets_a_gpu_as_chunk_jobs_do_and_compiles_to_where_they_look() -> None:
    options = JobOptions(chunk_image="c", intake_image="i", store_url="s3://b", version="0", model_claim="m")
    chunk = job_document(JOB, options, Owner(name="lease", uid="uid"))["spec"]["template"]["spec"]
    fetching = pod("stenofleet-model")
    (container,), (of_a_chunk,) = fetching["containers"], chunk["containers"]
    for kind in ("requests", "limits"):
        assert container["resources"][kind][option("gpu_resource").default] == "1"
    (toleration,) = fetching["tolerations"]
    assert toleration in chunk["tolerations"]
    arguments = _parser().parse_args(container["args"])
    assert arguments.download
    source = plain_environment(of_a_chunk)["STENOFLEET_COMPILED_KERNELS"]
    assert arguments.compile_kernels == [source, "$(STENOFLEET_MODEL)"]


def test_the_model_s_job_has_the_memory_to_use_the_largest_model() -> None:
    (container,) = pod("stenofleet-model")["containers"]
    needed = chunk_memory_mb(model_mb=LARGEST_MODEL_MB, cuda=True, audio_s=30)
    assert int(container["resources"]["limits"]["memory"].removesuffix("Gi")) * 1024 >= needed


def test_the_cpu_overlay_needs_no_gpu() -> None:
    (kustomization,) = documents(FOLDER / "overlays" / "cpu" / "kustomization.yaml")
    (patch,) = kustomization["patches"]
    assert patch["target"] == {"kind": "Job", "name": "stenofleet-model"}
    job = copy.deepcopy(OBJECTS["Job", "stenofleet-model"])
    for change in yaml.safe_load(patch["patch"]):
        *above, last = [part.replace("~1", "/") for part in change["path"].removeprefix("/").split("/")]
        holder: Any = job
        for part in above:
            holder = holder[int(part) if part.isdigit() else part]
        assert last in holder
        if change["op"] == "remove":
            del holder[last]
        else:
            holder[last] = change["value"]
    spec = job["spec"]["template"]["spec"]
    resources = spec["containers"][0]["resources"]
    assert "tolerations" not in spec
    assert resources["requests"].keys() == resources["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert {resources[kind]["memory"] for kind in ("requests", "limits")} == {"1Gi"}


def test_the_cpu_overlay_changes_the_settings_of_the_base() -> None:
    (kustomization,) = documents(FOLDER / "overlays" / "cpu" / "kustomization.yaml")
    (merged,) = kustomization["configMapGenerator"]
    assert merged["behavior"] == "merge"
    assert merged["name"] == KUSTOMIZATION["configMapGenerator"][0]["name"]
