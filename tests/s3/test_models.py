"""A model in S3: put there, verified there, copied to this machine once, and used by the jobs of a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.model_manifest import CACHE, MANIFEST
from chunk_job.store.open_store import open_store
from controller import demo
from tests import pipeline


@pytest.fixture
def workplace(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[pipeline.Workplace]:
    environment.setenv("HOME", str(tmp_path))
    workplace = pipeline.Workplace(tmp_path / "workplace")
    yield workplace
    workplace.clear()


def test_a_run_takes_its_model_from_s3_and_refuses_a_damaged_one(
    bucket: str, workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed
) -> None:
    url = f"s3://{bucket}/models/demo"
    made = workplace.run("model", "prepare", demo.MODEL, "--to", url, "--device", "cpu")
    assert made.code == 0, made.err
    assert f"{url} has the model, and is what its manifest says: model, weights in int8, 5 files" in made.err
    again = workplace.run("model", "prepare", demo.MODEL, "--to", url, "--device", "cpu")
    assert (again.code, "making" in again.err) == (0, False)

    copies = {CACHE: str(workplace.folder / "copies")}
    _, _, *cut = pipeline.CUT
    ended = workplace.transcribe(undisturbed.media, *cut, "--model", url, env=copies)
    assert ended.code == 0, ended.err
    texts = {name: data for name, data in workplace.outputs.items() if not name.endswith(".json")}
    assert texts == {name: data for name, data in undisturbed.outputs.items() if not name.endswith(".json")}
    (copy,) = (workplace.folder / "copies").glob(f"*/{MANIFEST}")

    inside = workplace.run("model", "fetch", url, "--to", "inside", env=copies)
    assert inside.code == 0, inside.err
    assert workplace.run("model", "verify", "inside").code == 0

    store = open_store(url)
    store.put("model.bin", store.get("model.bin")[:-1] + b"?")
    damaged = workplace.run("model", "verify", url)
    assert damaged.code == 3
    assert f"the model {url} does not match its manifest: model.bin has sha256" in damaged.err
    copy.unlink()
    refused = workplace.transcribe(undisturbed.media, *cut, "--model", url, "--force", env=copies)
    assert refused.code == 3
    assert "model.bin has sha256" in refused.err
    store.delete(MANIFEST)
    assert f"{url} is not a model: it has no {MANIFEST}" in workplace.run("model", "verify", url).err
