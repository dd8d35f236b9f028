"""The type of a model's file, and the compute type that it is used in."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ctranslate2.specs import common_spec, model_spec

from chunk_job.engine.compute_type import best_type
from chunk_job.stored_type import stored_type
from controller import demo


class Layers(model_spec.ModelSpec):  # type: ignore[misc]
    """A model of two layers, written by CTranslate2's own converter."""

    name = "LayersSpec"

    def __init__(self) -> None:
        super().__init__()
        self.scalar = np.float32(3)
        self.linear = common_spec.LinearSpec()
        self.norm = common_spec.LayerNormSpec()
        rows = np.arange(64 * 8, dtype=np.float32).reshape(64, 8)
        self.linear.weight, self.linear.bias = rows, rows[:, 0].copy()
        self.norm.gamma, self.norm.beta = rows[0], rows[1]


def written(folder: Path, quantization: str) -> Path:
    spec: Any = Layers()
    spec.validate()
    spec.optimize(quantization)
    spec.save(str(folder))
    return folder


@pytest.mark.parametrize(
    "quantization,name",
    [*((kind, kind) for kind in ("int8", "int8_float16", "int16", "float32", "float16")), ("int8_float32", "int8")],
)
def test_the_type_is_the_converter_s(tmp_path: Path, quantization: str, name: str) -> None:
    assert stored_type(written(tmp_path, quantization)) == name


def test_the_type_of_a_real_model() -> None:
    assert stored_type(demo.MODEL) == "int8"


FLOAT32, INT8, INT32, FLOAT16, BFLOAT16 = 0, 1, 3, 4, 5


@pytest.mark.parametrize(
    "kinds,name",
    [
        # The converter writes these only with torch.
        ([BFLOAT16], "bfloat16"),
        ([INT8, BFLOAT16], "int8_bfloat16"),
        ([FLOAT16, FLOAT16, FLOAT32], "float16"),
        ([INT8, INT8], "int8"),
        ([INT32], ""),
    ],
)
def test_the_most_common_types_count(tmp_path: Path, kinds: list[int], name: str) -> None:
    (tmp_path / "model.bin").write_bytes(file_of(*kinds))
    assert stored_type(tmp_path) == name


def file_of(*kinds: int, size: int = 8, version: int = 6, count: int | None = None) -> bytes:
    """A model.bin with a variable of two dimensions and 8 bytes of each type, which says that it has *size* bytes."""
    variable = struct.pack("<H", 2) + b"w\0" + struct.pack("<BII", 2, 2, 2)
    head = struct.pack("<IH", version, 2) + b"s\0" + struct.pack("<II", 1, len(kinds) if count is None else count)
    return head + b"".join(variable + struct.pack("<BI", kind, size) + bytes(8) for kind in kinds)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\3\4 not a model",
        file_of(FLOAT16)[:-9],
        file_of(FLOAT16, size=1 << 31),
        file_of(6),
        file_of(FLOAT16, version=3),
        file_of(FLOAT16, version=7),
        file_of(FLOAT16, count=2),
        file_of(FLOAT16, count=1 << 31),
        file_of(FLOAT16).replace(b"s\0", b"s\xff").replace(b"w\0", b"\xff\xfe"),
    ],
)
def test_a_file_with_another_layout_has_no_type(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.bin").write_bytes(content)
    assert stored_type(tmp_path) == ""


def test_a_folder_without_a_model_has_no_type(tmp_path: Path) -> None:
    assert stored_type(tmp_path) == ""


GPU = {"float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"}
OLD_GPU = {"float32", "int8", "int8_float32"}
CPU = {"float32", "int8", "int8_float32", "int16"}


@pytest.mark.parametrize(
    "wanted,device,stored,supported,best",
    [
        ("auto", "cpu", "float16", CPU, "int8"),
        ("auto", "cuda", "float16", GPU, "float16"),
        ("auto", "cuda", "int8", GPU, "float16"),
        ("auto", "cuda", "float16", OLD_GPU, "float32"),
        ("int8", "cpu", "float16", CPU, "int8"),
        ("int8", "cpu", "int8_float16", CPU, "int8"),
        ("int8", "cuda", "float16", GPU, "int8_float16"),
        ("int8", "cuda", "int8", GPU, "int8_float16"),
        ("int8", "cuda", "", GPU, "int8_float16"),
        ("int8", "cuda", "int8_bfloat16", GPU, "int8_bfloat16"),
        ("int8", "cuda", "int8_bfloat16", GPU - {"int8_bfloat16"}, "int8_float16"),
        ("int8", "cuda", "int8_float16", OLD_GPU, "int8"),
        ("int8_float32", "cuda", "int8_float16", GPU, "int8_float32"),
        ("float32", "cuda", "float16", GPU, "float32"),
        ("float16", "cpu", "float16", CPU, "float16"),
        ("default", "cuda", "float16", GPU, "default"),
        ("nonsense", "cuda", "float16", GPU, "nonsense"),
    ],
)
def test_the_type_that_is_asked_for_in_its_fastest_form(
    wanted: str, device: str, stored: str, supported: set[str], best: str
) -> None:
    assert best_type(wanted, device, stored, supported) == best
