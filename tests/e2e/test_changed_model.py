"""A model whose files change while a run is worked on, with real jobs: no transcript has words of two models."""

import json
import shutil
from pathlib import Path

import pytest

from chunk_job.model_manifest import MANIFEST
from chunk_job.models.verification import described, write_manifest
from controller import demo
from tests import pipeline

pytestmark = [pytest.mark.process, pytest.mark.hostile]

CUT = ("--max-parallel", "1", "--threads", "1", "--chunk-duration", "20", "--chunking-threshold", "0")


@pytest.fixture
def model(workplace: pipeline.Workplace) -> Path:
    """A model with a manifest. Its name is that of the undisturbed run, because transcripts have it."""
    folder = Path(shutil.copytree(demo.MODEL, workplace.folder / "volume" / demo.MODEL.name))
    write_manifest(folder, described(folder, source="demo"))
    return folder


def started(workplace: pipeline.Workplace, media: Path, model: Path) -> pipeline.Started:
    """A run whose first chunk is held just after its job has loaded the model."""
    return workplace.held("chunk.loaded.00000.a1", media, "--model", str(model), *CUT)


def test_a_changed_file_fails_the_run_and_the_repaired_model_continues_it(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed, model: Path
) -> None:
    media = workplace.media(undisturbed.media)
    run = started(workplace, media, model)
    whole = (model / "model.bin").read_bytes()
    (model / "model.bin").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    (workplace.folder / "here0").unlink()
    ended = run.ended()
    assert ended.code == 3, ended.err
    assert "MODEL_DAMAGED" in ended.err
    assert "does not match its manifest: model.bin has sha256" in ended.err
    assert "put the model there again" in ended.err
    assert workplace.outputs == {}
    assert len(workplace.results()) == 1, "what was loaded before is kept"
    (model / "model.bin").write_bytes(whole)
    again = workplace.transcribe(media, "--model", model, *CUT)
    assert again.code == 0, again.err
    assert workplace.outputs == undisturbed.outputs


def test_another_model_at_the_same_place_gives_no_mixed_transcript(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed, model: Path
) -> None:
    media = workplace.media(undisturbed.media)
    run = started(workplace, media, model)
    (model / MANIFEST).unlink()
    config = json.loads((model / "config.json").read_bytes())
    (model / "config.json").write_text(json.dumps(config, indent=4))
    write_manifest(model, described(model, source="other"))
    (workplace.folder / "here0").unlink()
    ended = run.ended()
    assert ended.code == 5, ended.err
    assert "results of 2 different models" in ended.err
    assert "--force" in ended.err
    assert workplace.outputs == {}
