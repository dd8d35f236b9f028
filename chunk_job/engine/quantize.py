"""Writes a model of CTranslate2 again with weights of another type, with CTranslate2's own specification.

Touches: the folders that the caller gives. Needs neither torch nor the checkpoint: the weights of published models are
in float16. All weights are in memory meanwhile.
"""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path
from typing import Any

from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import MANIFEST
from chunk_job.stored_type import other_names, specification, stored_type, variables

_SOURCES = ("float32", "float16")
"""Types that weights can be converted from: those of numpy that have lost nothing yet."""


def quantize(folder: Path, target: Path, quantization: str) -> None:
    """Write the model in *folder* to the new folder *target*, with weights of the type *quantization*.

    Raises :class:`JobError`: MODEL if the weights cannot be converted, CONFIG if a library is missing for that.
    """
    from ctranslate2.specs import model_spec

    stored = stored_type(folder)
    if stored not in _SOURCES:
        raise JobError(
            ExitCode.MODEL,
            f"the weights of {folder} are in {stored or 'an unknown type'}: only float32 and float16 can be converted",
            "convert the model that it was made from",
        )
    try:
        spec = _filled(folder / "model.bin")
        model_spec.LayerSpec.validate(spec)
        spec.optimize(quantization)
    except (AttributeError, IndexError, struct.error, ValueError) as error:
        raise JobError(
            ExitCode.MODEL,
            f"{folder}: this version of CTranslate2 does not know its layout: {error}",
            "fetch a newer version of the model, or convert its checkpoint",
        ) from error
    except RuntimeError as error:
        raise JobError(
            ExitCode.CONFIG, f"{folder} cannot be converted: {error}", "pip install 'stenofleet[torch]'"
        ) from error
    target.mkdir()
    # Only the weights: the class of language models would write a vocabulary of its own.
    model_spec.ModelSpec.save(spec, str(target))
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith(".") and path.name not in ("model.bin", MANIFEST):
            shutil.copyfile(path, target / path.name)


def _filled(path: Path) -> Any:
    """CTranslate2's specification of Whisper with the weights of the file *path*."""
    import numpy as np
    from ctranslate2.specs import WhisperSpec

    values: dict[str, Any] = {}
    with path.open("rb") as file:
        found = specification(file)
        for variable in variables(file):
            count = variable.size_bytes // np.dtype(variable.kind).itemsize
            values[variable.name] = np.fromfile(file, variable.kind, count).reshape(variable.shape)
        values |= {name: values[same] for name, same in other_names(file)}
    # The numbers of heads are variables too.
    spec = WhisperSpec(_layers(values, "encoder"), 1, _layers(values, "decoder"), 1)
    if tuple(found) != (spec.name, spec.revision):
        raise ValueError(f"{found.name} {found.revision} instead of {spec.name} {spec.revision}")
    for name, value in values.items():
        scope, _, attribute = name.rpartition("/")
        setattr(_part(spec, scope), attribute, value)
    return spec


def _layers(values: dict[str, Any], side: str) -> int:
    """How many layers the encoder or the decoder has."""
    found = [re.match(rf"{side}/layer_(\d+)/", name) for name in values]
    return 1 + max((int(match[1]) for match in found if match), default=-1)


def _part(spec: Any, scope: str) -> Any:
    from ctranslate2.specs.model_spec import index_spec

    return index_spec(spec, scope)
