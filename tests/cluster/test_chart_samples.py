"""Samples of the chart as a team uses them: installed, tested by ``helm test``, upgraded, and uninstalled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

from chunk_job.names import MODEL_FILES
from controller import demo
from controller.service.tokens import new_token
from tests.cluster import samples
from tests.cluster.release import CLAIM, PATIENCE_S, Release
from tests.cluster.samples import Prepared, prepared
from tests.cluster.site import Images
from tests.testbed import chart, hub, network

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]


@pytest.mark.usefixtures("custom")
@pytest.mark.parametrize("sample", samples.CHOSEN)
def test_a_sample_is_installed_tested_upgraded_and_removed(
    sample: str, release: Release, images: Images, tmp_path: Path
) -> None:
    if not release.cluster.own:
        pytest.skip("changes nodes and volumes, and those of the cluster that KUBECONFIG names are not ours")
    with hub.serving(network.HOST, demo.MODEL) as models, prepared(release, sample) as found:
        path = tmp_path / "overrides.yaml"
        path.write_text(yaml.safe_dump(samples.values(release, images, models.url)), encoding="utf-8")
        release.values = (chart.CHART / "samples" / f"{sample}.values.yaml", path)
        release.install()
        assert "Phase:          Succeeded" in release.helm("test", chart.RELEASE, "--timeout", f"{PATIENCE_S:.0f}s")
        _CHECKS.get(sample, fetched_from_the_hub)(found, tmp_path)
        release.upgrade('server.logFormat="text"')
        (run,) = release.ask("GET", "/v1/runs", token=found.token).document["runs"]
        assert run["status"] == "complete", "the new pods know what the old ones did"
        before = release.stored_runs()
        release.helm("uninstall", chart.RELEASE, "--wait")
        assert before.items() <= release.objects().items(), "the bucket stays as it was"
        kinds = "deployments,services,ingresses,networkpolicies,jobs,poddisruptionbudgets,secrets,configmaps"
        left = release.get(kinds, "-l", "app.kubernetes.io/name=stenofleet")["items"]
        # Helm keeps what its tests made; Kubernetes removes it after an hour.
        assert [one["metadata"]["name"] for one in left] == ["stenofleet-test"]


def model_job(release: Release) -> Any:
    (job,) = release.get("jobs", "-l", "app.kubernetes.io/component=model")["items"]
    return job


def fetched_from_the_hub(found: Prepared, folder: Path) -> None:
    """The Job of the model held a GPU, unless the sample has none, and fetched the model to the volume."""
    release = found.release
    limits = model_job(release)["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    device = release.get("configmap", "stenofleet-settings")["data"]["STENOFLEET_DEVICE"]
    assert ("nvidia.com/gpu" in limits) is (device == "cuda")
    assert any((folder / "models").glob("models--*"))


def queued(found: Prepared, folder: Path) -> None:
    """Every Job of the run waited in the queue until it was admitted."""
    fetched_from_the_hub(found, folder)
    jobs = [name for name in found.admitted if name.startswith("sf-")]
    assert {name.split("-")[2] for name in jobs} == {"intake", "c00000"}


def fetched_from_s3(found: Prepared, folder: Path) -> None:
    """The model was fetched from S3, and only then the service started."""
    release, job = found.release, model_job(found.release)
    assert [one["type"] for one in job["status"]["conditions"] if one["status"] == "True"][-1] == "Complete"
    for pod in release.pods("service"):
        (state,) = [one["state"] for one in pod["status"]["containerStatuses"]]
        assert state["running"]["startedAt"] >= job["status"]["completionTime"]
    log = release.kubectl("logs", f"job/{job['metadata']['name']}", "--all-containers")
    assert "model.bin: " in log
    assert "no NVIDIA GPU here: no kernels to compile" in log
    assert set(MODEL_FILES) <= {path.name for path in (folder / "models" / "large-v3-turbo").iterdir()}
    settings = release.get("configmap", "stenofleet-settings")["data"]
    assert (settings["STENOFLEET_MODEL"], settings["STENOFLEET_MODEL_CLAIM"]) == ("/models/large-v3-turbo", CLAIM)


def separate(found: Prepared, folder: Path) -> None:
    """A tenant sees nothing of another one."""
    release = found.release
    (run,) = release.ask("GET", "/v1/runs", token=found.tokens["news"]).document["runs"]
    answers = {
        name: release.ask("GET", f"/v1/runs/{run['id']}", token=token).status
        for name, token in (*found.tokens.items(), ("stranger", new_token()))
    }
    assert answers == {"news": 200, "archive": 404, "stranger": 401}
    assert release.ask("GET", "/v1/runs", token=found.tokens["archive"]).document["runs"] == []
    fetched_from_the_hub(found, folder)


_CHECKS: dict[str, Callable[[Prepared, Path], None]] = {
    "air-gapped": fetched_from_s3,
    "kueue": queued,
    "two-tenants": separate,
}
