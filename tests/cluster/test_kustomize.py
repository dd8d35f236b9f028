"""``kubectl apply -k k8s/`` as users do it: edit settings, add credentials, apply, and get a transcript."""

import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from controller import demo
from controller.transcript.formats import FORMATS
from tests.cluster.deployment import CHUNKED, PATIENCE_S, SOURCE, Deployment
from tests.cluster.site import until
from tests.pipeline import Workplace
from tests.testbed import hub, network

pytestmark = pytest.mark.timeout(400)


def test_one_edited_file_gives_a_transcript_and_the_log_ends_with_its_path(deployment: Deployment) -> None:
    deployment.apply()
    deployment.ends("stenofleet", "Complete")
    names = [f"transcripts/talk.{extension}" for extension in FORMATS]
    logs = deployment.logs()
    assert logs
    for log in logs.values():
        assert log.splitlines()[-len(names) :] == [f"s3://{deployment.bucket}/{name}" for name in names]
    assert deployment.objects("transcripts/").keys() == set(names)
    text = deployment.s3.get_object(bucket_name=deployment.bucket, object_name="transcripts/talk.txt").read().decode()
    assert len(text.split()) > 100
    assert "waiting for the model" in deployment.log("stenofleet", "model")


def test_a_controller_that_is_deleted_and_applied_again_resumes_its_run(
    deployment: Deployment,
) -> None:
    deployment.edit(**CHUNKED)
    deployment.apply()
    until(lambda: len(deployment.results()) >= 2, "two chunks are done", patience_s=PATIENCE_S)
    first = deployment.pod_of(deployment.leader())
    deployment.kubectl("delete", "pod", first["metadata"]["name"])
    until(lambda: "resuming run" in "".join(deployment.logs().values()), "the other one resumes", patience_s=PATIENCE_S)
    assert "Failed" not in deployment.conditions("stenofleet")
    deployment.kubectl("delete", "job", "stenofleet")
    before = deployment.results()
    deployment.apply()
    deployment.ends("stenofleet", "Complete")
    after = deployment.results()
    spans = [key.split("/")[-2] for key in after]
    assert before.items() <= after.items()
    assert sorted(spans) == [f"{span:05d}" for span in range(9)]
    assert len({key.split("/")[2] for key in after}) == 1
    assert deployment.objects("transcripts/")


def test_a_job_with_a_verdict_is_not_started_again(deployment: Deployment) -> None:
    deployment.edit(MEDIA=f"s3://{deployment.bucket}/nothing-here.mp4")
    deployment.apply()
    assert deployment.ends("stenofleet", "Failed")["Failed"] == "PodFailurePolicy"
    assert set(deployment.verdicts().values()) == {5}
    assert len(deployment.pods("controller")) <= 2
    assert "nothing-here.mp4" in "".join(deployment.logs().values())


def test_a_model_that_cannot_be_fetched_starts_no_chunk_and_names_the_log(deployment: Deployment) -> None:
    for name in ("model.yaml", "controller.yaml"):
        path = deployment.folder / "base" / name
        text = path.read_text(encoding="utf-8")
        path.write_text(re.sub(r"(backoffLimit\w*): 4", r"\1: 0", text), encoding="utf-8")
    deployment.edit(STENOFLEET_MODEL="no-such-model")
    deployment.apply()
    deployment.ends("stenofleet", "Failed")
    assert "kubectl logs job/stenofleet-model shows the reason" in deployment.log("stenofleet", "model")
    assert "no model 'no-such-model'" in deployment.log("stenofleet-model", "model")
    assert not deployment.pods("intake")


@pytest.mark.alone
def test_the_model_is_fetched_once_and_jobs_read_it_from_the_volume(deployment: Deployment) -> None:
    if not deployment.cluster.own:
        pytest.skip("pods ask a hub on this machine, which those of another cluster need not reach")
    with hub.serving(network.HOST, demo.MODEL) as models:
        deployment.edit(STENOFLEET_MODEL="tiny", HF_ENDPOINT=models.url)
        deployment.apply()
        deployment.ends("stenofleet", "Complete")
        log = deployment.log("stenofleet-model", "model")
        assert "/models/models--Systran--faster-whisper-tiny/" in log
        assert "no NVIDIA GPU here: no kernels to compile" in log
        assert deployment.objects("transcripts/")
        assert set(models.sent) == {path.name for path in demo.MODEL.iterdir()}
        deployment.kubectl("delete", "job", "stenofleet", "stenofleet-model")
        deployment.apply()
        deployment.ends("stenofleet-model", "Complete")
        assert len(models.sent) == len(set(models.sent))


def snippet(section: str) -> str:
    """The first piece of YAML in a section of ``k8s/README.md``."""
    text = (SOURCE / "README.md").read_text(encoding="utf-8")
    return text.partition(f"## {section}\n")[2].partition("```yaml\n")[2].partition("```")[0]


def test_authorities_and_identities_of_their_own_as_the_readme_adds_them(deployment: Deployment) -> None:
    folder = deployment.folder / "overlays" / "own"
    folder.mkdir()
    (folder / "ca.crt").write_text("x", encoding="utf-8")
    head = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\nresources: [../../base]\n"
    text = snippet("S3 with a certificate or an identity of its own").replace(
        "namespace: stenofleet", f"namespace: {deployment.namespace}"
    )
    document = yaml.safe_load(head + text)
    remove = "- {op: remove, path: /spec/template/spec/containers/0/envFrom/1}"
    assert remove.removeprefix("- ") in (SOURCE / "README.md").read_text(encoding="utf-8")
    document["patches"].append({"target": {"kind": "Job", "name": "stenofleet"}, "patch": remove})
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    made = list(yaml.safe_load_all(deployment.cluster.kubectl("kustomize", str(folder))))
    deployment.apply("--dry-run=server", "--validate=strict", overlay="overlays/own")
    (settings,) = [one["data"] for one in made if one["metadata"]["name"].startswith("stenofleet-settings")]
    assert settings["STENOFLEET_S3_CA"] == "s3-ca"
    (job,) = [one for one in made if (one["kind"], one["metadata"]["name"]) == ("Job", "stenofleet")]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert {"name": "ca", "mountPath": "/etc/stenofleet/ca", "readOnly": True} in container["volumeMounts"]
    assert {"name": "AWS_CA_BUNDLE", "value": "/etc/stenofleet/ca/ca.crt"} in container["env"]
    assert [next(iter(source)) for source in container["envFrom"]] == ["configMapRef"]


@pytest.mark.parametrize("overlay,count", [("", 15), ("overlays/cpu", 15), ("overlays/model-in-image", 14)])
def test_the_server_accepts_every_document(deployment: Deployment, overlay: str, count: int) -> None:
    lines = deployment.apply("--dry-run=server", "--validate=strict", overlay=overlay).splitlines()
    assert len(lines) == count
    assert all(line.endswith("(server dry run)") for line in lines)


def test_the_server_accepts_the_jobs_that_plan_prints_with_these_settings(
    deployment: Deployment, tmp_path: Path
) -> None:
    """Also without a warning: the namespace enforces the restricted level, of which pods of Jobs are warned."""
    deployment.edit(**CHUNKED)
    made = yaml.safe_load_all(deployment.cluster.kubectl("kustomize", str(deployment.folder)))
    (settings,) = [one["data"] for one in made if one["metadata"]["name"].startswith("stenofleet-settings")]
    environment = {**settings, **deployment.cluster.s3.environment, "KUBECONFIG": str(deployment.cluster.kubeconfig)}
    command = ("plan", settings["MEDIA"], "--show", "yaml", "--runner", "kubernetes", "--namespace")
    planned = Workplace(tmp_path / "workplace").run(*command, deployment.namespace, env=environment)
    assert planned.code == 0, planned.err
    checked = deployment.cluster.kubectl(
        *("apply", "--warnings-as-errors", "--dry-run=server", "--validate=strict", "--filename", "-"),
        stdin=planned.out,
    ).splitlines()
    assert len(checked) == len(list(yaml.safe_load_all(planned.out))) == 1 + 9
    assert all(line.startswith("job.batch/sf-") and line.endswith(" created (server dry run)") for line in checked)


def test_changed_settings_are_refused_while_the_old_job_exists(deployment: Deployment) -> None:
    deployment.apply()
    deployment.edit(STENOFLEET_LANGUAGE="pt")
    with pytest.raises(RuntimeError, match="field is immutable"):
        deployment.apply()


OWN_SECRET = """\
resources: [../../base]
namespace: {namespace}
nameSuffix: -two
configMapGenerator:
  - name: stenofleet-settings
    behavior: merge
    literals: [STENOFLEET_S3_SECRET=team-s3]
patches:
"""


def test_another_namespace_a_suffix_and_an_existing_secret_give_a_transcript(deployment: Deployment) -> None:
    base = deployment.folder / "base" / "kustomization.yaml"
    base.write_text(
        base.read_text(encoding="utf-8").replace(f"namespace: {deployment.namespace}", "namespace: stenofleet"),
        encoding="utf-8",
    )
    (deployment.folder / "s3-secret" / "s3.env").unlink()
    folder = deployment.folder / "overlays" / "own"
    folder.mkdir()
    text = OWN_SECRET.format(namespace=deployment.namespace)
    patches = snippet("A Secret that is there already").partition("patches:\n")[2]
    (folder / "kustomization.yaml").write_text(text + patches, encoding="utf-8")
    s3 = deployment.cluster.s3
    access = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "team-s3"}, "stringData": access}
    deployment.cluster.apply(deployment.namespace, secret)
    deployment.apply(overlay="overlays/own")
    names = {name for job in deployment.jobs() if (name := job["metadata"]["name"]).startswith("stenofleet")}
    assert names == {"stenofleet-two", "stenofleet-model-two"}
    deployment.ends("stenofleet-two", "Complete")
    assert deployment.objects("transcripts/")


@pytest.mark.parametrize("overlay", ["cpu", "model-in-image"])
def test_an_overlay_may_name_another_namespace_than_the_base(deployment: Deployment, overlay: str) -> None:
    path = deployment.folder / "overlays" / overlay / "kustomization.yaml"
    path.write_text(f"namespace: another\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    made = list(yaml.safe_load_all(deployment.cluster.kubectl("kustomize", str(path.parent))))
    (namespace,) = [one["metadata"]["name"] for one in made if one["kind"] == "Namespace"]
    assert {one["metadata"].get("namespace", namespace) for one in made} == {"another"}
