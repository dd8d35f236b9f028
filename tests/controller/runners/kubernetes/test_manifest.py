"""The whole document of a Job, option by option."""

import copy
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kubernetes.client import ApiClient, V1Job

from chunk_job import kernels, process
from chunk_job.__main__ import _parser
from chunk_job.names import MODELS
from controller.domain.jobs import Job
from controller.domain.policy import RetryPolicy
from controller.errors import UsageProblem
from controller.runners.kubernetes.job_memory import weights_mb
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.manifest import Owner, job_document

DATA = Path(__file__).parents[3] / "data" / "kubernetes" / "manifests"
RUN = "0123456789abcdef"
CHUNK = Job(run=RUN, span=42, attempt=2, task_key=f"work/{RUN}/tasks/00042.json", task_sha256="ab" * 32)
INTAKE = Job(run=RUN, span=None, attempt=1, task_key=f"runs/{RUN}/request.json", task_sha256="cd" * 32)
OWNER = Owner(name=f"sf-{RUN}", uid="6f0c4a52-8d0f-4f5e-9a53-0e2f1f2f9a11")
AUDIO_MS = 720_000
MEDIA_BYTES = 3 << 30
USUAL: dict[str, Any] = {
    "chunk_image": "stenofleet-chunk-job:0.1.0",
    "intake_image": "stenofleet-controller:0.1.0",
    "store_url": "s3://speech/archive",
    "version": "0.1.0",
}

Document = dict[str, Any]


def options(**changes: Any) -> JobOptions:
    return JobOptions(**{**USUAL, **changes})


def chunk(
    *,
    audio_ms: int = AUDIO_MS,
    memory_factor: float = 1,
    avoid: tuple[str, ...] = (),
    only_elsewhere: bool = False,
    **of: Any,
) -> Document:
    job = replace(
        CHUNK, audio_ms=audio_ms, memory_factor=memory_factor, avoid_nodes=avoid, only_elsewhere=only_elsewhere
    )
    return job_document(job, options(**of), OWNER)


def intake(*, media_bytes: int = MEDIA_BYTES, **of: Any) -> Document:
    return job_document(replace(INTAKE, media_bytes=media_bytes), options(**of), OWNER)


def golden(name: str) -> Document:
    """The reviewed document for the default options."""
    document: Document = json.loads((DATA / f"{name}.json").read_text(encoding="utf-8"))
    return document


def pod(document: Document) -> Document:
    spec: Document = document["spec"]["template"]["spec"]
    return spec


def container(document: Document) -> Document:
    only: Document
    (only,) = pod(document)["containers"]
    return only


def environment(document: Document) -> dict[str, Any]:
    return {item["name"]: item.get("value", item.get("valueFrom")) for item in container(document)["env"]}


def test_a_chunk_has_exactly_this_manifest() -> None:
    assert chunk() == golden("chunk")


def test_an_intake_has_exactly_this_manifest() -> None:
    assert intake() == golden("intake")


# ---------------------------------------------------------------- every option, in both documents


Change = Callable[[Document], None]


def put(*path: str | int, value: Any) -> Change:
    def change(document: Document) -> None:
        part: Any = document
        for step in path[:-1]:
            part = part[step]
        part[path[-1]] = value

    return change


def both(*changes: Change) -> Change:
    def change(document: Document) -> None:
        for one in changes:
            one(document)

    return change


def in_pod(*path: str | int, value: Any) -> Change:
    return put("spec", "template", "spec", *path, value=value)


def in_container(*path: str | int, value: Any) -> Change:
    return in_pod("containers", 0, *path, value=value)


def with_env(*items: Document) -> Change:
    return lambda document: container(document)["env"].extend(items)


def with_argument(name: str) -> Change:
    """One more argument, before the one that is always the last."""

    def change(document: Document) -> None:
        command = container(document)["command"]
        command.insert(command.index("--uid"), name)

    return change


def without_env(*names: str) -> Change:
    def change(document: Document) -> None:
        kept = [item for item in container(document)["env"] if item["name"] not in names]
        container(document)["env"] = kept

    return change


def on_job_and_pod(kind: str, **items: str) -> Change:
    def change(document: Document) -> None:
        for holder in (document, document["spec"]["template"]):
            holder["metadata"][kind] |= {name.replace("__", "/"): value for name, value in items.items()}

    return change


def with_volume(volume: Document, mount: Document) -> Change:
    def change(document: Document) -> None:
        pod(document)["volumes"].append(volume)
        container(document)["volumeMounts"].append(mount)

    return change


def with_tolerations(*items: Document) -> Change:
    """After ours for lost nodes, before the one for the GPU."""

    def change(document: Document) -> None:
        pod(document)["tolerations"][2:2] = items

    return change


SPOT = {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"}
CA_MOUNT = {"name": "ca", "mountPath": "/etc/stenofleet/ca", "readOnly": True}

EVERYWHERE: dict[str, tuple[dict[str, Any], Change]] = {
    "namespace": ({"namespace": "speech"}, put("metadata", "namespace", value="speech")),
    "image_pull_policy": ({"image_pull_policy": "Never"}, in_container("imagePullPolicy", value="Never")),
    "image_pull_secrets": (
        {"image_pull_secrets": ("one", "two")},
        in_pod("imagePullSecrets", value=[{"name": "one"}, {"name": "two"}]),
    ),
    "store_url": ({"store_url": "s3://b/$(HOME)"}, in_container("command", 7, value="s3://b/$$(HOME)")),
    "s3_secret": (
        {"s3_secret": "keys"},
        both(*(in_container("env", at, "valueFrom", "secretKeyRef", "name", value="keys") for at in (1, 2, 3))),
    ),
    "no s3_secret": (
        {"s3_secret": ""},
        without_env("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
    ),
    "s3_endpoint": (
        {"s3_endpoint": "http://minio:9000"},
        with_env({"name": "AWS_ENDPOINT_URL_S3", "value": "http://minio:9000"}),
    ),
    "s3_region": ({"s3_region": "eu-west-3"}, with_env({"name": "AWS_REGION", "value": "eu-west-3"})),
    "s3_ca": (
        {"s3_ca": "authorities"},
        both(
            with_volume({"name": "ca", "configMap": {"name": "authorities"}}, CA_MOUNT),
            with_env({"name": "AWS_CA_BUNDLE", "value": "/etc/stenofleet/ca/ca.crt"}),
        ),
    ),
    "cpu": ({"cpu": "500m"}, in_container("resources", "requests", "cpu", value="500m")),
    "node_selector": ({"node_selector": {"gpu": "l4"}}, in_pod("nodeSelector", value={"gpu": "l4"})),
    "tolerations": ({"tolerations": (SPOT,)}, with_tolerations(SPOT)),
    "priority_class": ({"priority_class": "batch"}, in_pod("priorityClassName", value="batch")),
    "runtime_class": ({"runtime_class": "nvidia"}, in_pod("runtimeClassName", value="nvidia")),
    "queue": (
        {"queue": "speech"},
        both(
            put("metadata", "labels", "kueue.x-k8s.io/queue-name", value="speech"),
            put("spec", "suspend", value=True),
        ),
    ),
    "service_account": ({"service_account": "jobs"}, in_pod("serviceAccountName", value="jobs")),
    "no run_as_user": (
        {"run_as_user": None},
        in_pod("securityContext", value={"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}),
    ),
    "env": ({"env": {"OMP_NUM_THREADS": "2"}}, with_env({"name": "OMP_NUM_THREADS", "value": "2"})),
    "labels": ({"labels": {"team/cost": "42"}}, on_job_and_pod("labels", team__cost="42")),
    "annotations": ({"annotations": {"team/note": "a b"}}, on_job_and_pod("annotations", team__note="a b")),
    "ttl_s": ({"ttl_s": 3600}, put("spec", "ttlSecondsAfterFinished", value=3600)),
    "no ttl_s": ({"ttl_s": None}, lambda document: document["spec"].pop("ttlSecondsAfterFinished")),
    "version": ({"version": "0.2.0+7"}, on_job_and_pod("labels", **{"app.kubernetes.io__version": "0.2.0-7"})),
}


def gpu(name: str, count: str) -> Change:
    def change(document: Document) -> None:
        for kind in ("requests", "limits"):
            del container(document)["resources"][kind]["nvidia.com/gpu"]
            container(document)["resources"][kind][name] = count
        if name != "nvidia.com/gpu":
            pod(document)["tolerations"].append({**pod(document)["tolerations"][-1], "key": name})

    return change


def memory(amount: str) -> Change:
    return both(*(in_container("resources", kind, "memory", value=amount) for kind in ("requests", "limits")))


def disk(amount: str, size: str) -> Change:
    sizes = (in_container("resources", kind, "ephemeral-storage", value=size) for kind in ("requests", "limits"))
    return both(in_pod("volumes", 0, "emptyDir", "sizeLimit", value=amount), *sizes)


def without_gpu(document: Document) -> None:
    for kind in ("requests", "limits"):
        del container(document)["resources"][kind]["nvidia.com/gpu"]
    pod(document)["tolerations"].pop()


MODEL_MOUNT = {"name": "model", "mountPath": "/models", "readOnly": True}


def of_models(path: str) -> Change:
    """The variables of a job on a GPU with models at *path*."""
    return with_env(
        {"name": "HF_HUB_CACHE", "value": path},
        {"name": "STENOFLEET_MODEL_CACHE", "value": path},
        {"name": "STENOFLEET_COMPILED_KERNELS", "value": f"{path}/.stenofleet-kernels"},
    )


OF_A_CHUNK: dict[str, tuple[dict[str, Any], Change]] = {
    "chunk_image": ({"chunk_image": "here/chunk@sha256:1"}, in_container("image", value="here/chunk@sha256:1")),
    "intake_image": ({"intake_image": "other"}, lambda _: None),
    "gpu_resource": ({"gpu_resource": "nvidia.com/mig-1g.10gb"}, gpu("nvidia.com/mig-1g.10gb", "1")),
    "gpus": ({"gpus": 2}, gpu("nvidia.com/gpu", "2")),
    "device": ({"device": "cpu"}, both(without_gpu, memory("7244Mi"), in_pod("activeDeadlineSeconds", value=22_500))),
    "memory_mb": ({"memory_mb": 3000}, memory("3000Mi")),
    "model_mb": ({"model_mb": 75}, memory("2151Mi")),
    "scratch_mb": ({"scratch_mb": 2000}, disk("2256Mi", "2384Mi")),
    "copied_model_mb": ({"copied_model_mb": 3000}, disk("4280Mi", "4408Mi")),
    "model_claim": (
        {"model_claim": "models"},
        both(
            with_volume(
                {"name": "model", "persistentVolumeClaim": {"claimName": "models", "readOnly": True}}, MODEL_MOUNT
            ),
            of_models("/models"),
        ),
    ),
    "model_image": (
        {"model_image": "here/medium:1", "image_pull_policy": "Never", "model_path": "/m"},
        both(
            in_container("imagePullPolicy", value="Never"),
            with_volume(
                {"name": "model", "image": {"reference": "here/medium:1", "pullPolicy": "Never"}},
                {**MODEL_MOUNT, "mountPath": "/m"},
            ),
            of_models("/m"),
        ),
    ),
    "kernels_in_store": ({"kernels_in_store": True}, with_argument("--kernels-in-store")),
    "deadline_base_s": ({"deadline_base_s": 100}, in_pod("activeDeadlineSeconds", value=2_980)),
    "deadline_factor": ({"deadline_factor": 2}, in_pod("activeDeadlineSeconds", value=2_340)),
    "intake's": ({"intake_memory_mb": 1, "intake_deadline_s": 1}, lambda _: None),
}

OF_AN_INTAKE: dict[str, tuple[dict[str, Any], Change]] = {
    "chunk_image": ({"chunk_image": "other"}, lambda _: None),
    "intake_image": ({"intake_image": "here/intake:9"}, in_container("image", value="here/intake:9")),
    "intake_memory_mb": ({"intake_memory_mb": 4000}, memory("4000Mi")),
    "scratch_mb": ({"scratch_mb": 100}, disk("3172Mi", "3300Mi")),
    "intake_deadline_s": ({"intake_deadline_s": 60}, in_pod("activeDeadlineSeconds", value=960)),
    "the GPU's and the model's": (
        {
            "device": "cpu",
            "gpus": 4,
            "memory_mb": 9,
            "model_mb": 9,
            "model_claim": "models",
            "kernels_in_store": True,
            "deadline_factor": 9,
        },
        lambda _: None,
    ),
}


def by_name(document: Document) -> Document:
    """The document with sorted variables: the order has no meaning to Kubernetes, as none refers to another."""
    sorted_document = copy.deepcopy(document)
    container(sorted_document)["env"].sort(key=lambda item: item["name"])
    return sorted_document


@pytest.mark.parametrize("changes,change", EVERYWHERE.values(), ids=EVERYWHERE)
def test_an_option_of_all_jobs_changes_this_and_nothing_else(changes: dict[str, Any], change: Change) -> None:
    for name, made in (("chunk", chunk(**changes)), ("intake", intake(**changes))):
        expected = golden(name)
        change(expected)
        assert by_name(made) == by_name(expected)


@pytest.mark.parametrize("changes,change", OF_A_CHUNK.values(), ids=OF_A_CHUNK)
def test_an_option_of_chunks_changes_this_and_nothing_else(changes: dict[str, Any], change: Change) -> None:
    expected = golden("chunk")
    change(expected)
    assert by_name(chunk(**changes)) == by_name(expected)


@pytest.mark.parametrize("changes,change", OF_AN_INTAKE.values(), ids=OF_AN_INTAKE)
def test_an_option_of_intakes_changes_this_and_nothing_else(changes: dict[str, Any], change: Change) -> None:
    expected = golden("intake")
    change(expected)
    assert by_name(intake(**changes)) == by_name(expected)


def test_every_option_is_tested_here() -> None:
    tested = {
        name for table in (EVERYWHERE, OF_A_CHUNK, OF_AN_INTAKE) for changes, _ in table.values() for name in changes
    }
    assert tested == set(JobOptions.__dataclass_fields__)


def test_a_variable_of_the_user_overrides_ours() -> None:
    assert environment(chunk(env={"TMPDIR": "/x", "HF_HUB_CACHE": "/y"}, model_claim="m"))["TMPDIR"] == "/x"
    assert environment(chunk(env={"TMPDIR": "/x", "HF_HUB_CACHE": "/y"}, model_claim="m"))["HF_HUB_CACHE"] == "/y"


def test_only_jobs_on_a_gpu_get_compiled_kernels() -> None:
    on_cpu = chunk(model_claim="m", kernels_in_store=True, device="cpu")
    assert "STENOFLEET_COMPILED_KERNELS" not in environment(on_cpu)
    assert "--kernels-in-store" not in container(on_cpu)["command"]
    given = environment(chunk(env={kernels.SOURCE: "/elsewhere"}, model_claim="m"))
    assert given["STENOFLEET_COMPILED_KERNELS"] == "/elsewhere"
    assert environment(chunk(model_claim="m", model_path="/"))[kernels.SOURCE] == "/.stenofleet-kernels"


def test_no_variable_is_given_twice() -> None:
    given_ = container(chunk(env={"TMPDIR": "/x", "HF_HUB_CACHE": "/y"}, model_claim="m", s3_ca="c"))["env"]
    assert len({item["name"] for item in given_}) == len(given_)


def test_labels_of_the_user_do_not_replace_ours() -> None:
    assert chunk(labels={"stenofleet.io/run": "f" * 16}) == golden("chunk")
    assert chunk(annotations={"stenofleet.io/task-sha256": "f" * 64}) == golden("chunk")


def test_an_autoscaler_may_be_allowed_to_move_jobs() -> None:
    name = "cluster-autoscaler.kubernetes.io/safe-to-evict"
    assert chunk(annotations={name: "true"})["spec"]["template"]["metadata"]["annotations"][name] == "true"


def test_a_toleration_for_everything_does_not_tie_a_job_to_a_lost_node() -> None:
    """The first toleration that matches a taint applies."""
    everything = {"operator": "Exists"}
    found = pod(chunk(tolerations=(everything,)))["tolerations"]
    lost = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    assert {item["key"] for item in found[: found.index(everything)] if item["tolerationSeconds"] == 30} == lost


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"model_claim": "a", "model_image": "b"}, "both a model claim and a model image"),
        ({"ttl_s": 3599}, "loses its evidence"),
        ({"ttl_s": 0}, "loses its evidence"),
    ],
)
def test_invalid_options_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageProblem, match=message) as refused:
        options(**changes)
    assert refused.value.advice


# ---------------------------------------------------------------- memory, time, nodes


@pytest.mark.parametrize(
    "model,mb", [("tiny", 75), ("large-v3", 3090), ("/models/mine", 3090), ("somebody/their-model", 3090)]
)
def test_an_unknown_model_counts_as_the_largest(model: str, mb: int) -> None:
    assert weights_mb(model) == mb


@pytest.mark.parametrize("model", MODELS)
def test_memory_follows_from_the_model_and_the_audio(model: str) -> None:
    """The measured memory of jobs on CPUs: 1.9 times the model, 200 MB, and 1.2 MB for each second; on a GPU the host
    holds the model once."""
    for device, times, most in (("cpu", 1.9, 1.05), ("cuda", 1.0, 1.5)):
        needed = times * MODELS[model].size_mb + 200 + 1.2 * 2400
        asked = container(chunk(device=device, model_mb=weights_mb(model), audio_ms=2_400_000))["resources"]
        mib = int(asked["limits"]["memory"].removesuffix("Mi"))
        assert needed <= mib <= most * needed
        assert asked["requests"]["memory"] == asked["limits"]["memory"]


def test_a_job_that_was_killed_for_memory_gets_more() -> None:
    assert container(chunk(memory_mb=3001, memory_factor=1.5))["resources"]["limits"]["memory"] == "4502Mi"
    assert container(chunk(memory_factor=1.5))["resources"]["limits"]["memory"] == "8427Mi"


@pytest.mark.parametrize("audio_ms,deadline_s", [(1, 904), (1000, 904), (1001, 908), (720_000, 3780)])
def test_a_pods_deadline_follows_its_audio(audio_ms: int, deadline_s: int) -> None:
    assert pod(chunk(audio_ms=audio_ms))["activeDeadlineSeconds"] == deadline_s


def test_the_pods_deadline_is_at_least_the_loops_own_deadline_on_a_cpu() -> None:
    policy = RetryPolicy()
    own_s = (policy.deadline_base_ms + policy.deadline_factor * AUDIO_MS) // 1000
    assert pod(chunk(device="cpu"))["activeDeadlineSeconds"] == own_s
    assert pod(intake())["activeDeadlineSeconds"] >= policy.intake_deadline_ms // 1000


@pytest.mark.parametrize("media_bytes", [0, 1, (1 << 20) - 1, 1 << 20, 10**12])
def test_an_intake_has_disk_space_for_its_media(media_bytes: int) -> None:
    size = pod(intake(media_bytes=media_bytes))["volumes"][0]["emptyDir"]["sizeLimit"]
    assert size == f"{1024 + math.ceil(media_bytes / 2**20)}Mi"


def test_nodes_to_avoid_are_named_one_by_one() -> None:
    expected = golden("chunk")
    names = [{"key": "metadata.name", "operator": "NotIn", "values": [node]} for node in ("gpu-7", "gpu-9")]
    wish = [{"weight": 100, "preference": {"matchFields": names}}]
    pod(expected)["affinity"] = {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": wish}}
    assert chunk(avoid=("gpu-7", "gpu-9", "gpu-7")) == expected
    terms = {"nodeSelectorTerms": [{"matchFields": names}]}
    pod(expected)["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}
    assert chunk(avoid=("gpu-7", "gpu-9", "gpu-7"), only_elsewhere=True) == expected


# ---------------------------------------------------------------- what holds for every document

texts = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)
small = st.dictionaries(texts, texts, max_size=3)
any_options = st.builds(
    options,
    image_pull_secrets=st.lists(texts, max_size=2).map(tuple),
    s3_secret=st.just("") | texts,
    s3_endpoint=st.just("") | texts,
    s3_ca=st.just("") | texts,
    device=st.sampled_from(["cuda", "cpu"]),
    gpus=st.integers(1, 8),
    memory_mb=st.none() | st.integers(100, 10**6),
    model_mb=st.integers(1, 10**5),
    model_claim=st.just("") | texts,
    node_selector=small,
    tolerations=st.lists(st.sampled_from([SPOT, {"operator": "Exists"}]), max_size=2).map(tuple),
    priority_class=st.just("") | texts,
    queue=st.just("") | texts,
    run_as_user=st.none() | st.integers(1, 2**31 - 1),
    env=small,
    labels=small,
    annotations=small,
    ttl_s=st.none() | st.integers(3600, 10**6),
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    of = draw(any_options)
    if draw(st.booleans()):
        return job_document(replace(INTAKE, media_bytes=draw(st.integers(0, 10**13))), of, OWNER)
    job = replace(
        CHUNK,
        audio_ms=draw(st.integers(1, 10**8)),
        memory_factor=draw(st.sampled_from([1.0, 1.5])),
        avoid_nodes=tuple(draw(st.lists(texts, max_size=3))),
        only_elsewhere=draw(st.booleans()),
    )
    return job_document(job, of, OWNER)


def quantities(document: Document) -> Iterator[Any]:
    for kind in ("requests", "limits"):
        yield from container(document)["resources"][kind].values()
    yield from (volume["emptyDir"]["sizeLimit"] for volume in pod(document)["volumes"] if "emptyDir" in volume)


@given(documents())
def test_a_document_survives_json_and_has_strings_for_quantities(document: Document) -> None:
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert all(re.fullmatch(r"\d+(m|Mi)?", quantity) for quantity in quantities(document))


@given(documents())
def test_kubernetes_knows_every_field(document: Document) -> None:
    """The client's classes drop fields that the API does not know, and keep the others."""
    read = V1Job.model_validate(document)
    assert ApiClient().sanitize_for_serialization(read) == document  # type: ignore[no-untyped-call]


@given(documents())
def test_a_job_never_retries_and_is_deleted_with_its_lease(document: Document) -> None:
    spec = document["spec"]
    assert (spec["backoffLimit"], spec["completions"], spec["parallelism"]) == (0, 1, 1)
    assert spec["podReplacementPolicy"] == "TerminatingOrFailed"
    assert "podFailurePolicy" not in spec
    assert "activeDeadlineSeconds" not in spec
    (owner,) = document["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["controller"], owner["blockOwnerDeletion"]) == ("Lease", False, False)


@given(documents())
def test_a_pod_keeps_the_restricted_level(document: Document) -> None:
    """Pod Security's own rules, one by one."""
    security, own = pod(document)["securityContext"], container(document)["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security.get("runAsUser") != 0
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod(document).keys()
    kinds = {kind for volume in pod(document)["volumes"] for kind in volume.keys() - {"name"}}
    assert kinds <= {"configMap", "emptyDir", "persistentVolumeClaim", "image"}


@given(documents())
def test_nothing_secret_is_in_a_document(document: Document) -> None:
    assert pod(document)["automountServiceAccountToken"] is False
    keys = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
    for item in container(document)["env"]:
        assert item["name"] not in keys or item["valueFrom"].keys() == {"secretKeyRef"}


@given(documents(), documents())
def test_documents_share_nothing_that_can_be_changed(one: Document, other: Document) -> None:
    before = copy.deepcopy(other)
    one["metadata"]["labels"].clear()
    one["metadata"]["annotations"].clear()
    assert one["spec"]["template"]["metadata"]["labels"]
    assert other == before


# ---------------------------------------------------------------- what the kubelet replaces

DOLLARS = ("$(AWS_SECRET_ACCESS_KEY)", "$$", "$(POD_UID)", "$$(X)", "$$$(X)", "$", "$é", "$(", "$()", "a$b$")
HOSTILE = " ".join(DOLLARS)


def expanded(text: str, used: list[str]) -> str:
    """*text* after the kubelet's expansion (k8s.io/kubernetes/third_party/forked/golang/expansion), where no
    variable is set: *used* gets the names of the variables that it would insert.
    """
    out, at = "", 0
    while at < len(text):
        one, following = text[at], text[at + 1 : at + 2]
        end = text.find(")", at)
        if one == "$" and following == "$":
            out, at = out + "$", at + 2
        elif one == "$" and following == "(" and end > 0:
            used.append(text[at + 2 : end])
            out, at = out + text[at : end + 1], end + 1
        else:
            out, at = out + one, at + 1
    return out


@given(st.text("$()AB é", max_size=12) | st.text(max_size=12))
def test_a_value_reaches_the_program_as_it_was_given(value: str) -> None:
    used: list[str] = []
    found = {item["name"]: item for item in container(chunk(env={"MINE": value}))["env"]}
    assert expanded(found["MINE"]["value"], used) == value
    assert not used


def hostile(kind: Any) -> Any:
    """A value of an option's type, with ``HOSTILE`` wherever it holds text; None for one that holds none."""
    if kind in (str, str | None):
        return HOSTILE
    if get_origin(kind) is tuple:
        return (hostile(get_args(kind)[0]),)
    if get_origin(kind) is Mapping:
        return {HOSTILE: HOSTILE}
    assert kind in (bool, int, int | None) or get_origin(kind) is Literal, f"an option of another type: {kind}"
    return None


def all_hostile(**given_: Any) -> JobOptions:
    found = {name: hostile(kind) for name, kind in get_type_hints(JobOptions).items()}
    return options(**{name: value for name, value in found.items() if value is not None} | given_)


def texts_of(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a document with its field path, keys of mappings included."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield f"{path}{{}}", name
            yield from texts_of(item, f"{path}.{'*' if '$' in name else name}")
    elif isinstance(value, list):
        for item in value:
            yield from texts_of(item, path)
    elif isinstance(value, str):
        yield path, value


POD = ".spec.template.spec"
EXPANDED = {f"{POD}.containers.command", f"{POD}.containers.args", f"{POD}.containers.env.value"}
"""The fields used here in which the kubelet expands variables; the others are ``subPathExpr`` of a mount
and the commands of probes.
"""
LITERAL = {
    *(f"{part}.metadata.{kind}{of}" for part in ("", ".spec.template") for kind in ("labels", "annotations")
      for of in ("{}", ".*")),
    *(".metadata.name", ".metadata.namespace", ".metadata.labels.kueue.x-k8s.io/queue-name"),
    *(f"{part}.metadata.annotations.stenofleet.io/{name}" for part in ("", ".spec.template")
      for name in ("task", "task-sha256")),
    *(f"{POD}.{name}" for name in ("priorityClassName", "runtimeClassName", "serviceAccountName")),
    *(f"{POD}.{name}" for name in ("imagePullSecrets.name", "nodeSelector{}", "nodeSelector.*")),
    *(f"{POD}.tolerations{name}" for name in ("{}", ".*", ".key")),
    *(f"{POD}.volumes.{name}" for name in ("configMap.name", "persistentVolumeClaim.claimName", "image.reference")),
    *(f"{POD}.containers.{name}" for name in ("image", "env.name", "volumeMounts.mountPath")),
    *(f"{POD}.containers.env.valueFrom.secretKeyRef.name", f"{POD}.containers.resources.requests.cpu"),
    *(f"{POD}.containers.resources.{kind}{{}}" for kind in ("requests", "limits")),
}  # fmt: skip
"""Fields that neither the kubelet nor the API server expands. Check this before you add one."""

MODELS_FROM: tuple[dict[str, str], ...] = ({"model_claim": ""}, {"model_image": ""})


@pytest.mark.parametrize("models", MODELS_FROM, ids=["image", "claim"])
@pytest.mark.parametrize("job", [CHUNK, INTAKE], ids=["chunk", "intake"])
def test_no_option_and_no_task_can_name_a_variable(job: Job, models: dict[str, str]) -> None:
    parsed = replace(job, task_key=HOSTILE, task_sha256=HOSTILE)
    used: list[str] = []
    seen: dict[str, list[str]] = {}
    for path, text in texts_of(job_document(parsed, all_hostile(**models), OWNER)):
        if path in EXPANDED:
            seen.setdefault(path, []).append(expanded(text, used))
        elif "$" in text:
            assert path in LITERAL, f"{path} holds {text}: is it expanded?"
            assert HOSTILE in text
    assert used == (["POD_UID"] if job is CHUNK else [])
    command, values = seen[f"{POD}.containers.command"], seen[f"{POD}.containers.env.value"]
    assert command.count(HOSTILE) == 3, "store, task and its digest"
    assert values.count(HOSTILE) == (5 if job is CHUNK else 3), "endpoint, region, --job-env, a chunk's models"


def test_only_one_text_of_a_command_is_a_reference() -> None:
    assert container(chunk())["command"].count("$(POD_UID)") == 1
    assert "$(POD_UID)" not in container(intake())["command"]


# ---------------------------------------------------------------- the program behind the command


def arguments(document: Document) -> list[str]:
    """The command line after the kubelet's expansion."""
    line = [expanded(part, []).replace("$(POD_UID)", "1f-2e") for part in container(document)["command"]]
    assert line[:5] == ["tini", "--", "python", "-P", "-m"]
    return line[5:]


def test_the_chunk_job_understands_its_command() -> None:
    module, *line = arguments(chunk(store_url="s3://b/$(X)$$"))
    parsed = _parser().parse_args(line)
    assert module == "chunk_job"
    assert (parsed.store, parsed.task, parsed.task_sha256) == ("s3://b/$(X)$$", CHUNK.task_key, CHUNK.task_sha256)
    assert (parsed.attempt, parsed.uid, str(parsed.termination_log)) == (2, "1f-2e", "/dev/termination-log")


def test_the_intake_understands_its_command() -> None:
    module, *line = arguments(intake())
    parser = process.JobArgumentParser()
    process.add_arguments(parser)
    parsed = parser.parse_args(line)
    assert module == "controller.intake"
    assert (parsed.store, parsed.task, parsed.task_sha256) == (USUAL["store_url"], INTAKE.task_key, INTAKE.task_sha256)
    assert str(parsed.termination_log) == "/dev/termination-log"


def test_the_pods_uid_is_what_its_results_are_named_by() -> None:
    assert environment(chunk())["POD_UID"] == {"fieldRef": {"fieldPath": "metadata.uid"}}
