"""A model for a device: weights of another type without torch, and what cannot be converted."""

import filecmp
import importlib.util
import json
import resource
import shutil
from pathlib import Path
from typing import Any

import ctranslate2
import numpy as np
import pytest
from ctranslate2.specs import WhisperSpec

from chunk_job.engine.convert import chosen_type, convert
from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import MANIFEST
from chunk_job.models.verification import verify
from chunk_job.stored_type import stored_type
from controller import demo

WIDTH, BANDS, VOCABULARY = 64, 80, 1000
SIDE_FILES = ("tokenizer.json", "preprocessor_config.json", "vocabulary.json")


def specification() -> Any:
    """A Whisper of one layer on each side, with random weights in float32."""
    rng = np.random.default_rng(1)

    def weights(*shape: int) -> Any:
        return rng.standard_normal(shape, dtype=np.float32)

    def fill(spec: Any, rows: int, columns: int) -> None:
        spec.weight, spec.bias = weights(rows, columns), weights(rows)

    def norm(spec: Any) -> None:
        spec.gamma, spec.beta = weights(WIDTH), weights(WIDTH)

    spec = WhisperSpec(1, 4, 1, 4)
    encoder, decoder = spec.encoder, spec.decoder
    encoder.conv1.weight, encoder.conv1.bias = weights(WIDTH, BANDS, 3), weights(WIDTH)
    encoder.conv2.weight, encoder.conv2.bias = weights(WIDTH, WIDTH, 3), weights(WIDTH)
    encoder.position_encodings.encodings, decoder.position_encodings.encodings = (
        weights(1500, WIDTH),
        weights(448, WIDTH),
    )
    decoder.embeddings.weight = decoder.projection.weight = weights(VOCABULARY, WIDTH)
    for side in (encoder, decoder):
        norm(side.layer_norm)
        (layer,) = side.layer
        norm(layer.self_attention.layer_norm)
        fill(layer.self_attention.linear[0], 3 * WIDTH, WIDTH)
        fill(layer.self_attention.linear[1], WIDTH, WIDTH)
        norm(layer.ffn.layer_norm)
        fill(layer.ffn.linear_0, 4 * WIDTH, WIDTH)
        fill(layer.ffn.linear_1, WIDTH, 4 * WIDTH)
    cross = decoder.layer[0].attention
    norm(cross.layer_norm)
    for number, rows in enumerate((WIDTH, 2 * WIDTH, WIDTH)):
        fill(cross.linear[number], rows, WIDTH)
    spec.register_vocabulary([str(number) for number in range(VOCABULARY)])
    return spec


def written(folder: Path, quantization: str) -> Path:
    """The model as CTranslate2's converter writes it."""
    folder.mkdir()
    spec = specification()
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(folder))
    for name in SIDE_FILES:
        shutil.copy(demo.MODEL / name, folder / name)
    return folder


@pytest.mark.parametrize(
    "quantization,device", [("int8_float32", "cpu"), ("int8_float16", "cuda"), ("float16", "cuda"), ("int16", "cpu")]
)
def test_the_weights_are_those_of_the_converter_of_ctranslate2(tmp_path: Path, quantization: str, device: str) -> None:
    source, target = written(tmp_path / "source", "float32"), tmp_path / "target"
    if device == "cpu" and quantization not in ctranslate2.get_supported_compute_types(device):
        with pytest.raises(JobError, match=f"weights in {quantization} are not supported on this cpu device"):
            convert(str(source), target, quantization=quantization, device=device)
        pytest.skip(f"this processor does not compute with {quantization}: that was refused")
    manifest = convert(str(source), target, quantization=quantization, device=device)
    assert filecmp.cmp(target / "model.bin", written(tmp_path / "right", quantization) / "model.bin", shallow=False)
    for name in (*SIDE_FILES, "config.json"):
        assert filecmp.cmp(target / name, source / name, shallow=False), name
    assert manifest == verify(target, always=True)
    assert (manifest.source, manifest.quantization) == ("source", stored_type(target))
    assert manifest.converter.startswith("ctranslate2 ")


def test_without_a_type_it_is_the_fastest_one_of_chunks(tmp_path: Path) -> None:
    source = written(tmp_path / "source", "float16")
    assert convert(str(source), tmp_path / "cuda", quantization="auto", device="cuda").quantization == "int8_float16"
    assert convert(str(source), tmp_path / "cpu", quantization="auto", device="cpu").quantization == "int8"


def test_a_model_in_the_wanted_type_is_copied_with_where_it_is_from(tmp_path: Path) -> None:
    first = convert(str(demo.MODEL), tmp_path / "first", quantization="int8", device="cpu")
    assert (first.source, first.converter) == ("model", "")
    second = convert(str(tmp_path / "first"), tmp_path / "second", quantization="int8", device="cpu")
    assert second == first
    assert filecmp.cmp(tmp_path / "second" / "model.bin", demo.MODEL / "model.bin", shallow=False)


def test_weights_that_have_lost_something_are_not_converted(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="are in int8: only float32 and float16 can be converted") as found:
        convert(str(demo.MODEL), tmp_path / "target", quantization="float32", device="cpu")
    assert found.value.code is ExitCode.MODEL
    assert not (tmp_path / "target").exists()


def test_a_type_that_the_device_does_not_support_is_refused() -> None:
    with pytest.raises(JobError, match="weights in float16 are not supported on this cpu device") as found:
        chosen_type("float16", "cpu")
    assert found.value.code is ExitCode.CONFIG
    assert "int8" in found.value.advice
    with pytest.raises(JobError, match="weights in int16 are not supported on this cuda device"):
        chosen_type("int16", "cuda")


@pytest.mark.skipif(importlib.util.find_spec("torch") is not None, reason="torch is installed")
@pytest.mark.parametrize("files,what", [(("config.json",), "has no model.bin"), (None, "cannot be converted")])
def test_what_needs_torch_says_so(tmp_path: Path, files: tuple[str, ...] | None, what: str) -> None:
    source = tmp_path / "source"
    if files is None:
        # numpy has no bfloat16.
        written(source, "float32")
    else:
        source.mkdir()
    with pytest.raises(JobError, match=what) as found:
        convert(str(source), tmp_path / "target", quantization="bfloat16", device="cuda")
    assert found.value.code is ExitCode.CONFIG
    assert "pip install 'stenofleet[torch]'" in found.value.advice
    assert not (tmp_path / "target").exists()


def test_a_disk_without_space_is_named(tmp_path: Path) -> None:
    source = written(tmp_path / "source", "float32")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        with pytest.raises(JobError, match=r"cannot be converted to .*: File too large") as found:
            convert(str(source), tmp_path / "target", quantization="int8", device="cpu")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert found.value.code is ExitCode.CONFIG


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    source = written(tmp_path / "source", "float32")
    with (source / "model.bin").open("r+b") as file:
        file.seek(6)
        file.write(b"Another")
    with pytest.raises(JobError, match="does not know its layout: Another"):
        convert(str(source), tmp_path / "target", quantization="int8", device="cpu")


def test_a_damaged_model_is_not_converted(tmp_path: Path) -> None:
    convert(str(demo.MODEL), tmp_path / "first", quantization="int8", device="cpu")
    document = json.loads((tmp_path / "first" / MANIFEST).read_bytes())
    document["files"]["model.bin"]["sha256"] = "0" * 64
    (tmp_path / "first" / MANIFEST).write_text(json.dumps(document))
    with pytest.raises(JobError, match=r"model\.bin has sha256") as found:
        convert(str(tmp_path / "first"), tmp_path / "second", quantization="int8", device="cpu")
    assert found.value.code is ExitCode.MODEL_DAMAGED
