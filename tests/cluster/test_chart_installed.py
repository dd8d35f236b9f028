"""``helm install`` as users do it: a transcript by the API, ``helm test``, upgrade, rollback and uninstall."""

import subprocess
import time
from pathlib import Path
from typing import Any

import jiwer
import pytest

from chunk_job.names import MODEL_FILES
from controller import demo
from controller.service.tokens import new_token, written_digest
from tests.cluster.release import CLAIM, PATIENCE_S, Release
from tests.pipeline import until
from tests.testbed import chart

pytestmark = pytest.mark.timeout(600)


def words(text: bytes) -> list[str]:
    return text.decode().split()


def transcript(release: Release, run: str) -> bytes:
    answer = release.ask("GET", f"/v1/runs/{run}/result?format=txt")
    assert answer.status == 200, answer.body
    return answer.body


def is_the_sample(text: bytes) -> bool:
    wanted = demo.SAMPLE_TEXT.read_text(encoding="utf-8")
    return jiwer.wer(" ".join(wanted.split()), " ".join(words(text)).replace(".", "").lower()) < 0.2


def volume(tmp_path: Path) -> Path:
    """The folder that the volume of the models is, on our own cluster."""
    return tmp_path / "models"


def test_the_model_is_fetched_from_s3_before_a_pod_of_the_service_starts(release: Release, tmp_path: Path) -> None:
    for path in demo.MODEL.iterdir():
        name = f"models/tiny-demo/{path.name}"
        release.s3.fput_object(bucket_name=release.bucket, object_name=name, file_path=str(path))
    changes = ('model.source="s3"', 'model.name="tiny-demo"', f'model.s3.url="s3://{release.bucket}/models"')
    release.install(*changes, wait=False)
    until(
        lambda: any(
            "running" in one["state"] or "terminated" in one["state"] or one["restartCount"] for one in started(release)
        ),
        "the container of the service has started",
        patience_s=PATIENCE_S,
    )
    (job,) = release.get("jobs", "-l", "app.kubernetes.io/component=model")["items"]
    assert [found["type"] for found in job["status"]["conditions"] if found["status"] == "True"][-1] == "Complete"
    log = release.kubectl("logs", f"job/{job['metadata']['name']}", "--all-containers")
    assert "model.bin: " in log
    assert "no NVIDIA GPU here: no kernels to compile" in log
    if release.cluster.own:
        assert set(MODEL_FILES) <= {path.name for path in (volume(tmp_path) / "tiny-demo").iterdir()}
    settings = release.get("configmap", "stenofleet-settings")["data"]
    assert (settings["STENOFLEET_MODEL"], settings["STENOFLEET_MODEL_CLAIM"]) == ("/models/tiny-demo", CLAIM)


def started(release: Release) -> list[dict[str, Any]]:
    """The states of the service's containers."""
    return [one for pod in release.pods("service") for one in pod["status"].get("containerStatuses", ())]


def test_the_notes_give_a_transcript_and_helm_test_passes(release: Release, tmp_path: Path) -> None:
    text = release.install().partition("NOTES:")[2]
    forward, submit, read = [line.strip() for line in text.splitlines() if line.startswith("   ")]
    program = tmp_path / "kubectl"
    program.write_text(f'#!/bin/sh\nexec {release.cluster.program} --kubeconfig {release.cluster.kubeconfig} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "talk.mp3").write_bytes(demo.SAMPLE.read_bytes())
    script = f"""
        set -e
        PATH={tmp_path}:$PATH
        {forward.replace("8080:", "18080:")} >/dev/null & forwarding=$!
        trap 'kill $forwarding' EXIT
        until curl -sS http://127.0.0.1:18080/healthz >/dev/null 2>&1; do sleep 0.2; done
        {submit.replace("8080", "18080")}
        [ -n "$RUN" ]
        for try in $(seq 100); do
            {read.replace("8080", "18080").replace("curl -sS", "curl -sS --fail")} 2>/dev/null && exit 0
            sleep 1
        done
        exit 1
    """
    done = subprocess.run(["sh", "-c", script], cwd=tmp_path, capture_output=True, check=False, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert is_the_sample(done.stdout)
    said = release.helm("test", chart.RELEASE, "--timeout", f"{PATIENCE_S:.0f}s")
    assert "Phase:          Succeeded" in said
    assert "word error rate" in release.kubectl("logs", "job/stenofleet-test")
    proxy = f"/api/v1/namespaces/{release.namespace}/services/stenofleet-metrics:metrics/proxy/metrics"
    assert "stenofleet_build_info{" in release.kubectl("get", "--raw", proxy)
    assert release.ask("GET", "/metrics").status == 404, "not on the port of the API"


def test_upgrade_and_rollback_lose_nothing_of_a_run_in_flight(release: Release) -> None:
    release.install()
    run = release.submit()
    until(lambda: len(release.results()) >= 2, "two chunks are done", patience_s=PATIENCE_S)
    before = {pod["metadata"]["uid"] for pod in release.pods("service")}
    release.upgrade('server.logFormat="text"')
    between = {pod["metadata"]["uid"] for pod in release.pods("service") if "deletionTimestamp" not in pod["metadata"]}
    assert len(between) == 2
    assert not before & between, "other settings need other pods"
    first = release.results()
    release.helm("rollback", chart.RELEASE, "--wait", "--timeout", f"{PATIENCE_S:.0f}s")
    assert release.get("configmap", "stenofleet-settings")["data"]["STENOFLEET_LOG_FORMAT"] == "json"
    assert release.ends(run) == "complete"
    assert is_the_sample(transcript(release, run))
    after = release.results()
    assert first.items() <= after.items(), "nothing is computed twice"
    assert sorted(key.split("/")[-2] for key in after) == [f"{span:05d}" for span in range(9)]


def holder(release: Release) -> str:
    """The process that leads the only run; empty if none does."""
    leases = [one["spec"] for one in release.get("leases")["items"] if one["metadata"]["name"].startswith("sf-")]
    return str(leases[0].get("holderIdentity") or "") if leases else ""


def test_a_killed_pod_is_replaced_and_nothing_is_computed_twice(release: Release) -> None:
    release.install()
    run = release.submit()
    until(release.results, "a chunk is done", patience_s=PATIENCE_S)
    before, first = holder(release), release.results()
    names = [str(pod["metadata"]["name"]) for pod in release.pods("service")]
    (killed,) = [name for name in names if before.startswith(name)]
    release.kubectl("delete", "pod", killed, "--force", "--grace-period=0", "--wait=false")
    began_s = time.monotonic()
    until(lambda: holder(release) not in ("", before), "another pod leads the run", patience_s=PATIENCE_S)
    print(f"another pod leads after {time.monotonic() - began_s:.1f} s")
    assert release.ends(run) == "complete"
    assert is_the_sample(transcript(release, run))
    after = release.results()
    assert first.items() <= after.items()
    assert sorted(key.split("/")[-2] for key in after) == [f"{span:05d}" for span in range(9)], "nothing twice"


def test_uninstall_leaves_the_bucket_and_a_new_release_knows_its_runs(release: Release) -> None:
    assert "`helm uninstall` leaves the bucket" in release.install()
    run = release.submit()
    assert release.ends(run) == "complete"
    text, before = transcript(release, run), release.objects("runs/")
    release.helm("uninstall", chart.RELEASE, "--wait")
    assert release.objects("runs/") == before
    until(lambda: not release.pods("service"), "its pods have ended", patience_s=PATIENCE_S)
    release.install()
    assert transcript(release, run) == text


def test_two_tenants_see_nothing_of_each_other(release: Release) -> None:
    tokens = {name: new_token() for name in ("news", "archive")}
    file = "\n".join(f'[tenants.{name}]\ntokens = ["{written_digest(token)}"]' for name, token in tokens.items())
    for secret, key, value in (("tenants", "tenants.toml", file), ("test", "token", tokens["news"])):
        metadata = {"name": secret}
        document = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {key: value}}
        release.cluster.apply(release.namespace, document)
    release.install('tenants.existingSecret="tenants"', 'tests.existingSecret="test"')
    run = release.submit(token=tokens["news"])
    assert release.ask("GET", f"/v1/runs/{run}", token=tokens["news"]).status == 200
    assert release.ask("GET", f"/v1/runs/{run}", token=tokens["archive"]).status == 404
    assert release.ask("GET", f"/v1/runs/{run}", token=new_token()).status == 401
    assert "Phase:          Succeeded" in release.helm("test", chart.RELEASE, "--timeout", f"{PATIENCE_S:.0f}s")
