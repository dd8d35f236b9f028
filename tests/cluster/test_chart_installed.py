"""``helm install`` as users do it: a transcript by the API, ``helm test``, upgrade, rollback and uninstall."""

import subprocess
from pathlib import Path

import pytest

from controller import demo
from tests.cluster.release import PATIENCE_S, Release, is_the_sample
from tests.cluster.site import until
from tests.testbed import chart

pytestmark = pytest.mark.timeout(600)


FEW = "chunking.duration=60"
"""Three chunks of the demonstration's recording: each takes a pod."""


def transcript(release: Release, run: str) -> bytes:
    answer = release.ask("GET", f"/v1/runs/{run}/result?format=txt")
    assert answer.status == 200, answer.body
    return answer.body


def test_the_notes_give_a_transcript_and_helm_test_passes(release: Release, tmp_path: Path) -> None:
    text = release.install(FEW).partition("NOTES:")[2]
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
        for try in $(seq 200); do
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


def test_uninstall_leaves_the_bucket_and_a_new_release_knows_its_runs(release: Release) -> None:
    assert "`helm uninstall` leaves the bucket" in release.install(FEW)
    run = release.submit()
    assert release.ends(run) == "complete"
    text, before = transcript(release, run), release.stored_runs()
    release.helm("uninstall", chart.RELEASE, "--wait")
    # Helm does not wait for the pods.
    until(lambda: not release.pods("service"), "its pods have ended", patience_s=PATIENCE_S)
    assert release.stored_runs() == before
    release.install(FEW)
    assert transcript(release, run) == text
