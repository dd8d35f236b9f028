"""The variables in a model's file, and the type of its weights, read without loading the model.

Touches: the model folder. A model.bin of CTranslate2 holds, little-endian: its version, the specification's name and
revision, the number of variables, for each of them its name, dimensions, type, size in bytes and data, and then other
names of variables. For the type only the headers are read, in a few milliseconds.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

_TYPES = ("float32", "int8", "int16", "int32", "float16", "bfloat16")
"""CTranslate2's types, in the order of their numbers in the file."""
_OLDEST_VERSION = 4
"""Files of earlier versions have no types, only sizes."""
_NEWEST_VERSION = 6
_MOST_VARIABLES = 100_000


class Variable(NamedTuple):
    """The header of a variable. Its data follow."""

    name: str
    shape: tuple[int, ...]
    kind: str
    """One of CTranslate2's types."""
    size_bytes: int


class Specification(NamedTuple):
    """What the variables of a file are for."""

    name: str
    revision: int


def stored_type(folder: Path) -> str:
    """The type of the weights in ``model.bin`` of *folder*, as CTranslate2's converter names it (``--quantization``).

    ``int8`` and ``int8_float32`` are the same. Empty if the file is missing or has another layout: the reason is
    reported when the model is loaded.
    """
    try:
        with (folder / "model.bin").open("rb") as file:
            return _name(_bytes_of_types(file))
    except (OSError, struct.error, ValueError):
        return ""


def _name(sizes: Counter[str]) -> str:
    """The name for a file with so many bytes of each type."""
    floats = {kind: sizes[kind] for kind in ("float32", "float16", "bfloat16") if sizes[kind]}
    others = max(floats, key=lambda kind: floats[kind], default="float32")
    if sizes["int8"]:
        return "int8" if others == "float32" else f"int8_{others}"
    if sizes["int16"]:
        return "int16"
    return others if floats else ""


def _bytes_of_types(file: BinaryIO) -> Counter[str]:
    """How many bytes of each type the variables have, without scalars and the scales of 8-bit weights.

    Scales are float32 with any quantization. Raises :class:`ValueError` and :class:`struct.error` for another layout.
    """
    specification(file)
    end = os.fstat(file.fileno()).st_size
    sizes: Counter[str] = Counter()
    for variable in variables(file):
        if file.seek(variable.size_bytes, 1) > end:
            raise ValueError("the file is shorter than its variables")
        if variable.shape and not variable.name.endswith("_scale"):
            sizes[variable.kind] += variable.size_bytes
    return sizes


def specification(file: BinaryIO) -> Specification:
    """Read the beginning of a file. Raises :class:`ValueError` and :class:`struct.error` for another layout."""
    version = _number(file, "<I")
    if not _OLDEST_VERSION <= version <= _NEWEST_VERSION:
        raise ValueError(f"version {version}")
    return Specification(_text(file), _number(file, "<I"))


def variables(file: BinaryIO) -> Iterator[Variable]:
    """The header of each variable; the caller reads or skips its data. Raises the errors of :func:`specification`."""
    count = _number(file, "<I")
    if count > _MOST_VARIABLES:
        raise ValueError(f"{count} variables")
    for _ in range(count):
        name, rank = _text(file), _number(file, "<B")
        shape = struct.unpack(f"<{rank}I", _exactly(file, 4 * rank))
        kind, size = _number(file, "<B"), _number(file, "<I")
        if kind >= len(_TYPES):
            raise ValueError(f"type {kind}")
        yield Variable(name, shape, _TYPES[kind], size)


def other_names(file: BinaryIO) -> Iterator[tuple[str, str]]:
    """Other names of variables, each with its variable, after all variables were read."""
    for _ in range(_number(file, "<I")):
        yield _text(file), _text(file)


def _text(file: BinaryIO) -> str:
    """A text with its length in bytes before it. Its last byte is zero."""
    return _exactly(file, _number(file, "<H")).rstrip(b"\0").decode()


def _number(file: BinaryIO, layout: str) -> int:
    (value,) = struct.unpack(layout, file.read(struct.calcsize(layout)))
    return int(value)


def _exactly(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise ValueError("the file ends within a variable")
    return data
