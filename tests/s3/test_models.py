"""A model in S3: put there, verified there, copied to this machine once, and used by the jobs of a run."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from chunk_job.model_manifest import CACHE, MANIFEST
from chunk_job.models import copying
from chunk_job.models.verification import described
from chunk_job.store.open_store import open_store
from controller import demo
from controller.cli.model_writers import leased
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


def test_a_command_waits_while_another_one_puts_its_model_under_the_prefix(
    bucket: str, workplace: pipeline.Workplace, tmp_path: Path
) -> None:
    url = f"s3://{bucket}/models/demo"
    store = open_store(url)
    other = described(demo.MODEL, source="other")
    with ThreadPoolExecutor(1) as commands, leased(store, lambda: None) as check:
        waiting = commands.submit(workplace.run, "model", "fetch", demo.MODEL, "--to", url, "--overwrite")
        with pytest.raises(TimeoutError):
            waiting.result(timeout=8)
        assert store.stat(MANIFEST) is None, "it puts nothing"
        copying.put(demo.MODEL, other, store, check)
        assert copying.manifest_of(store) == other
    done = waiting.result()
    assert (done.code, f"another command puts a model at {url}: waiting for it" in done.err) == (0, True), done.err
    assert copying.verify_store(store).source == demo.MODEL.name
    assert not [entry for entry in store.list("") if "/" in entry.key], "no lease stays"
