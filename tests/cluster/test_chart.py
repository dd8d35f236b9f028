"""The chart as Helm renders it agrees with ``k8s/`` and the code. No cluster is needed."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from controller.runners.kubernetes.api import PERMISSIONS
from controller.service import tenants, tokens
from tests import test_manifests as k8s
from tests.testbed import chart
from tests.testbed.chart import CHART, Object

EVERY_OPTION = CHART / "ci" / "every-option-values.yaml"

Objects = Mapping[tuple[str, str], Object]


@pytest.fixture(scope="module")
def default() -> Objects:
    return chart.rendered()


@pytest.fixture(scope="module")
def everything() -> Objects:
    return chart.rendered("--values", EVERY_OPTION)


def pods(objects: Objects) -> dict[str, Object]:
    """The pod templates by component."""
    templates = [
        document["spec"]["template"] for document in objects.values() if "template" in document.get("spec", ())
    ]
    return {template["metadata"]["labels"]["app.kubernetes.io/component"]: template["spec"] for template in templates}


def containers(pod: Object) -> list[Object]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def settings(objects: Objects) -> dict[str, str]:
    (found,) = [document["data"] for (_, name), document in objects.items() if name.endswith("-settings")]
    return dict(found)


def one(objects: Objects, kind: str) -> Object:
    (found,) = [document for (found, _), document in objects.items() if found == kind]
    return found


def changed(*values: str) -> Objects:
    return chart.rendered(*(argument for value in values for argument in ("--set-json", value)))


# ---------------------------------------------------------------- as k8s/


def test_the_role_is_the_table_of_permissions_and_that_of_k8s(default: Objects) -> None:
    rules = one(default, "Role")["rules"]
    granted = {(*rule["apiGroups"], *rule["resources"]): tuple(rule["verbs"]) for rule in rules}
    assert granted == {(permission.group, permission.resource): permission.verbs for permission in PERMISSIONS}
    assert rules == k8s.OBJECTS["Role", "stenofleet"]["rules"]
    binding = one(default, "RoleBinding")
    assert binding["roleRef"] == k8s.OBJECTS["RoleBinding", "stenofleet"]["roleRef"]
    assert [subject["name"] for subject in binding["subjects"]] == ["stenofleet"]
    assert not [kind for kind, _ in default if kind.startswith("Cluster")]


def test_pods_are_as_strict_as_those_of_k8s(default: Objects) -> None:
    wanted = {"service": k8s.pod("stenofleet"), "model": k8s.pod("stenofleet-model")}
    found = pods(default)
    assert found.keys() == {*wanted, "test"}
    for name, pod in wanted.items():
        same = ("securityContext", "enableServiceLinks", "automountServiceAccountToken", "tolerations")
        assert {field: found[name].get(field) for field in same} == {field: pod.get(field) for field in same}
    for pod in found.values():
        assert pod["enableServiceLinks"] is False
        for container in containers(pod):
            assert container["securityContext"] == k8s.containers("stenofleet")[0]["securityContext"]
            assert container["command"][:2] == ["tini", "--"]
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError"
            assert container["resources"]["requests"]["memory"] == container["resources"]["limits"]["memory"]
            assert container["resources"]["requests"].keys() == container["resources"]["limits"].keys()
    assert {name: pod["automountServiceAccountToken"] for name, pod in found.items()} == {
        **dict.fromkeys(found, False),
        "service": True,
    }
    assert one(default, "ServiceAccount")["automountServiceAccountToken"] is False


def test_images_settings_and_variables_are_those_of_k8s(default: Objects) -> None:
    named = {image["name"]: f"{image['name']}:{image['newTag']}" for image in k8s.KUSTOMIZATION["images"]}
    controller, chunk_job = (named[f"stenofleet-{role}"] for role in ("controller", "chunk-job"))
    found = settings(default)
    assert (found["STENOFLEET_INTAKE_IMAGE"], found["STENOFLEET_CHUNK_IMAGE"]) == (controller, chunk_job)
    used = {(name, container["image"]) for name, pod in pods(default).items() for container in containers(pod)}
    assert used == {("service", controller), ("model", chunk_job), ("test", controller)}
    of_base = {name: value for name, value in k8s.lines(k8s.BASE / "settings.env").items() if value}
    # A service has no recording, and the NetworkPolicy has the port.
    for name in ("MEDIA", "STENOFLEET_OUTPUT_DIR", "S3_PORT"):
        del of_base[name]
    assert of_base.items() <= found.items()
    (service,), (base,) = pods(default)["service"]["containers"], k8s.pod("stenofleet")["containers"]
    variables = {item["name"]: item.get("value") for item in service["env"]}
    assert variables.items() <= {item["name"]: item.get("value") for item in base["env"]}.items()
    assert found["STENOFLEET_RUNNER"] == "kubernetes"
    assert {"secretRef": {"name": "stenofleet-s3"}} in service["envFrom"]
    assert service["resources"] == base["resources"]


def test_the_model_s_job_is_that_of_k8s(default: Objects) -> None:
    (found,), (base,) = pods(default)["model"]["containers"], k8s.pod("stenofleet-model")["containers"]
    model = settings(default)["STENOFLEET_MODEL"]
    assert found["args"] == [model if argument == "$(STENOFLEET_MODEL)" else argument for argument in base["args"]]
    for field in ("command", "env", "resources", "volumeMounts"):
        assert found[field] == base[field]
    assert pods(default)["model"]["volumes"] == k8s.pod("stenofleet-model")["volumes"]
    job, spec = one({key: found for key, found in default.items() if "-model-" in key[1]}, "Job"), "spec"
    same = ("backoffLimit", "activeDeadlineSeconds")
    assert {name: job[spec][name] for name in same} == {
        name: k8s.OBJECTS["Job", "stenofleet-model"][spec][name] for name in same
    }
    claim = default["PersistentVolumeClaim", "stenofleet-models"]
    assert claim[spec] == k8s.OBJECTS["PersistentVolumeClaim", "stenofleet-models"][spec]
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "helm.sh/hook" not in job["metadata"]["annotations"]


def egress(objects: Objects, name: str) -> Any:
    return objects["NetworkPolicy", f"stenofleet-{name}"]["spec"]["egress"]


def test_connections_are_those_of_k8s_and_those_of_a_server(default: Objects) -> None:
    for name in ("dns", "s3", "model"):
        assert egress(default, name) == k8s.OBJECTS["NetworkPolicy", f"stenofleet-{name}"]["spec"]["egress"]
    assert egress(default, "service") == k8s.OBJECTS["NetworkPolicy", "stenofleet-api-server"]["spec"]["egress"]
    deny = default["NetworkPolicy", "stenofleet-default-deny"]["spec"]
    assert deny["policyTypes"] == ["Ingress", "Egress"]
    assert deny.keys() == {"podSelector", "policyTypes"}
    assert deny["podSelector"]["matchExpressions"] == [
        {"key": "app.kubernetes.io/name", "operator": "In", "values": ["stenofleet"]}
    ]
    (service,), policy = pods(default)["service"]["containers"], default["NetworkPolicy", "stenofleet-service"]["spec"]
    open_ports = [port["port"] for rule in policy["ingress"] for port in rule["ports"]]
    assert open_ports == [port["containerPort"] for port in service["ports"]] == [8080, 9090]
    assert [kind for kind, _ in default].count("NetworkPolicy") == 6


# ---------------------------------------------------------------- the service


def test_the_service_is_probed_where_it_answers_and_ends_in_time(default: Objects) -> None:
    deployment, found = default["Deployment", "stenofleet"]["spec"], settings(default)
    pod = deployment["template"]["spec"]
    (service,) = pod["containers"]
    assert service["command"] == ["tini", "--", "python", "-P", "-m", "controller"]
    assert service["args"] == ["serve"]
    ports = {port["name"]: str(port["containerPort"]) for port in service["ports"]}
    assert ports == {"http": found["STENOFLEET_PORT"], "metrics": found["STENOFLEET_METRICS_PORT"]}
    assert {probe: service[probe]["httpGet"] for probe in ("readinessProbe", "livenessProbe")} == {
        "readinessProbe": {"path": "/readyz", "port": "http"},
        "livenessProbe": {"path": "/healthz", "port": "http"},
    }
    pause_s = service["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > int(found["STENOFLEET_SHUTDOWN_GRACE"]) + pause_s
    assert pod["terminationGracePeriodSeconds"] == k8s.pod("stenofleet")["terminationGracePeriodSeconds"]
    assert deployment["replicas"] == 2
    assert deployment["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    selector = deployment["selector"]["matchLabels"]
    for kind, name in (("Service", "stenofleet"), ("Service", "stenofleet-metrics")):
        assert default[kind, name]["spec"]["selector"] == selector
    assert default["PodDisruptionBudget", "stenofleet"]["spec"]["selector"]["matchLabels"] == selector
    assert selector.items() <= deployment["template"]["metadata"]["labels"].items()


def test_the_service_waits_for_the_job_of_its_own_model(default: Objects) -> None:
    def waited(objects: Objects) -> tuple[str, bool]:
        (waiting,) = pods(objects)["service"]["initContainers"]
        return waiting["args"][0], ("Job", waiting["args"][0]) in objects

    before = waited(default)
    assert before == (before[0], True)
    other = waited(changed('model.name="small"'))
    assert other == (other[0], True)
    assert other[0] != before[0], "a Job cannot be changed"
    assert waited(changed("replicaCount=1", 's3.bucket="other"')) == before, "the model is the same"


@pytest.mark.parametrize(
    "values", [('model.source="image"', 'model.name="/models/mine"'), ("model.prefetch.enabled=false",)], ids=str
)
def test_without_a_job_for_the_model_nothing_waits(values: tuple[str, ...]) -> None:
    objects = changed(*values)
    assert pods(objects).keys() == {"service", "test"}
    assert "initContainers" not in pods(objects)["service"]
    in_image = values[0].endswith('"image"')
    assert ("PersistentVolumeClaim" in {kind for kind, _ in objects}) is not in_image
    assert ("STENOFLEET_MODEL_CLAIM" in settings(objects)) is not in_image


def test_a_change_of_settings_restarts_the_pods(default: Objects) -> None:
    def marks(objects: Objects) -> Any:
        return objects["Deployment", "stenofleet"]["spec"]["template"]["metadata"]["annotations"]

    assert marks(chart.rendered()) == marks(default)
    for value in ('decoding.language="pt"', 's3.caBundle.pem="x"', "jobs.memoryMiB=500"):
        assert marks(changed(value)) != marks(default), value


def test_without_gpus_no_pod_asks_for_one() -> None:
    objects = changed('device="cpu"')
    (model,) = pods(objects)["model"]["containers"]
    assert model["resources"]["limits"].keys() == {"cpu", "memory", "ephemeral-storage"}
    assert model["resources"]["limits"]["memory"] == "1Gi"


def test_the_tenant_of_the_chart_has_the_digest_of_its_token(everything: Objects) -> None:
    name = one({key: found for key, found in everything.items() if "token" in key[1]}, "Secret")["metadata"]["name"]
    token = everything["Secret", name]["stringData"]["token"]
    assert re.fullmatch(rf"{tokens.PREFIX}[0-9A-Za-z]{{43}}", token)
    text = everything["Secret", name.replace("token", "tenants")]["stringData"]["tenants.toml"]
    (tenant,) = tenants.parse(text.encode(), Path("tenants.toml"))
    assert tenant.tokens == (tokens.written_digest(token),)
    assert (tenant.name, tenant.sources, tenant.outputs) == (
        "default",
        ("s3://recordings/",),
        ("s3://transcripts-out/",),
    )
    (test,) = pods(everything)["test"]["containers"]
    job = one({key: found for key, found in everything.items() if key[1].endswith("-test")}, "Job")
    assert job["spec"]["ttlSecondsAfterFinished"] == 3600, "helm uninstall does not remove it"
    assert test["env"][0]["valueFrom"]["secretKeyRef"] == {"name": name, "key": "token"}


def test_given_tenants_need_a_token_for_the_test() -> None:
    assert "test" not in pods(changed('tenants.existingSecret="team"'))
    objects = changed('tenants.existingSecret="team"', 'tests.existingSecret="token"')
    assert "test" in pods(objects)
    assert "Secret" not in {kind for kind, _ in objects}
    (volume,) = [volume for volume in pods(objects)["service"]["volumes"] if volume["name"] == "tenants"]
    assert volume["secret"] == {"secretName": "team", "items": [{"key": "tenants.toml", "path": "tenants.toml"}]}


def test_every_object_has_the_labels_and_annotations_of_the_user(everything: Objects) -> None:
    for document in everything.values():
        metadata = document["metadata"]
        assert metadata["labels"]["team"] == "media"
        assert metadata["annotations"]["example.com/contact"] == "media@example.com"
        assert metadata["labels"]["app.kubernetes.io/name"] == "speech"
        assert metadata["name"].startswith(("team-speech", "speech-service"))


def test_a_hub_of_your_own_may_be_inside_of_the_network() -> None:
    for url, port in (("http://hub.internal:8080", 8080), ("https://hub.internal", 443), ("http://hub/x", 80)):
        objects = changed(f"model.prefetch.hubEndpoint={json.dumps(url)}")
        assert egress(objects, "model") == [{"ports": [{"protocol": "TCP", "port": port}]}]


@pytest.mark.parametrize(
    "value,message",
    [
        ('s3={"buket":"x"}', "additional properties 'buket' not allowed"),
        ('device="gpu"', "value must be one of 'cuda', 'cpu'"),
        ('s3.endpoint="minio:9000"', "at '/s3/endpoint': 'minio:9000' does not match"),
        ('s3.bucket="s3://media"', "at '/s3/bucket': 's3://media' does not match"),
        ('image.controller.repository="a/b:0.3.0"', "at '/image/controller/repository': 'a/b:0.3.0' does not match"),
        ('ingress.host="https://a.example"', "at '/ingress/host': 'https://a.example' does not match"),
        ('model.source="s3"', "set model.s3.url to the folder with the models"),
        ('server.trustedHeader="X-Tenant"', "set server.trustedProxies to the networks of the proxy"),
        ('server.trustedProxies=["10.0.0.0/8"]', "set server.trustedHeader to the header"),
        ('decoding.language="klingon"', 'Whisper knows no language "klingon"; use a code like pt'),
        ("ingress.enabled=true", "set ingress.host to the name that clients use"),
        ("httpRoute.enabled=true", "set httpRoute.parentRefs to the gateway"),
        *(
            (
                f'tenants={{"existingSecret":"team","default":{{"{name}":["s3://a/"]}}}}',
                "put sources and outputs into tenants.toml of the Secret team",
            )
            for name in ("sources", "outputs")
        ),
    ],
)
def test_a_wrong_value_is_refused_with_a_reason(value: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=re.escape(message)):
        changed(value)


def test_all_values_that_do_not_fit_together_are_named_at_once() -> None:
    with pytest.raises(RuntimeError, match=r"(?s)ingress\.enabled: .*\nhttpRoute\.enabled: "):
        changed("ingress.enabled=true", "httpRoute.enabled=true")


def test_a_language_is_taken_in_any_case_and_with_a_region() -> None:
    for typed in ("Portuguese", "pt-BR", " EN "):
        assert settings(changed(f"decoding.language={json.dumps(typed)}"))["STENOFLEET_LANGUAGE"] == typed
