"""Makes a model folder for a device: of a checkpoint of transformers, or of a folder in CTranslate2's format.

Touches: folders, S3 for a model there, the hub if a download is requested, the device (the types that it supports).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import logging
import os
from pathlib import Path

from chunk_job.engine.compute_type import best_type
from chunk_job.engine.locate import found
from chunk_job.engine.quantize import quantize
from chunk_job.errors import ExitCode, JobError
from chunk_job.model_manifest import ModelManifest, is_url
from chunk_job.models.copying import from_folder, to_folder
from chunk_job.models.verification import check_complete, commit_of, described, origin, verify, write_manifest
from chunk_job.names import LANGUAGES
from chunk_job.stored_type import stored_type

log = logging.getLogger("stenofleet.chunk_job")

_ANY_GPU = frozenset({"float32", "float16", "bfloat16", "int8", "int8_float32", "int8_float16", "int8_bfloat16"})
"""Types that CTranslate2 supports on GPUs of compute capability 8.0 and later."""

_CHECKPOINT = ("*.json", "*.txt", "model*.safetensors")
_OLD_CHECKPOINT = "pytorch_model*.bin"
_COPIED = ("tokenizer.json", "preprocessor_config.json")
"""Files of a checkpoint that faster-whisper reads too."""


def convert(
    source: str, target: Path, *, quantization: str, device: str, download: bool = False, revision: str = ""
) -> ModelManifest:
    """Write the model *source* to the new folder *target*, with weights of the type *quantization*, and its manifest.

    *source*: as for :func:`found`; a folder or a repository may also be a checkpoint of transformers. *quantization*
    ``auto``: the type that jobs are fastest with on *device*. *revision*: of a repository.
    Raises :class:`JobError`: CONFIG if the device does not support the type, a library is missing or *target* cannot be
    written, MODEL if the model is not there or cannot be converted.
    """
    try:
        return _converted(source, target, chosen_type(quantization, device), download=download, revision=revision)
    except OSError as error:
        raise JobError(
            ExitCode.CONFIG,
            f"{source} cannot be converted to {target}: {error.strerror or error}",
            "free space there, or use another folder (for a place in S3: TMPDIR)",
        ) from error


def _converted(source: str, target: Path, wanted: str, *, download: bool, revision: str) -> ModelManifest:
    folder = found(source, download=download, revision=revision)
    if (folder / "model.bin").is_file():
        return _of_model(source, folder, target, wanted)
    _check_torch(source)
    if not Path(source).is_dir() and not is_url(source):
        folder = _checkpoint(source, download=download, revision=revision)
    _of_checkpoint(folder, target, wanted)
    manifest = described(
        target,
        source=origin(source),
        revision=commit_of(folder),
        converter=_versions("ctranslate2", "transformers"),
    )
    write_manifest(target, manifest)
    return manifest


def chosen_type(quantization: str, device: str) -> str:
    """The type of the weights for *device* (``auto``, ``cuda`` or ``cpu``).

    Raises :class:`JobError` (CONFIG) if the device does not support it.
    """
    import ctranslate2

    gpus = ctranslate2.get_cuda_device_count()
    if device == "auto":
        device = "cuda" if gpus else "cpu"
    is_here = device == "cpu" or gpus > 0
    supported = ctranslate2.get_supported_compute_types(device) if is_here else _ANY_GPU
    wanted = best_type("int8", device, "", supported) if quantization == "auto" else quantization
    if wanted not in supported:
        raise JobError(
            ExitCode.CONFIG,
            f"weights in {wanted} are not supported on this {device} device",
            f"use one of: {', '.join(sorted(supported))}; for GPUs of other machines: --device cuda",
        )
    if not is_here:
        log.info("no GPU here: that the GPUs support %s is not checked", wanted)
    # CTranslate2's int8 leaves all other weights in the type that they have, here often float16.
    return "int8_float32" if wanted == "int8" else wanted


def _of_model(source: str, folder: Path, target: Path, wanted: str) -> ModelManifest:
    """Write a model that is in CTranslate2's format already."""
    check_complete(folder, os.listdir(folder))
    before = verify(folder)
    if before is None:
        before_source, revision = origin(source), commit_of(folder)
    else:
        before_source, revision = before.source, before.revision
    if stored_type(folder) == ("int8" if wanted == "int8_float32" else wanted):
        manifest = before or described(folder, source=before_source, revision=revision)
        to_folder(folder, manifest, from_folder(folder), target, target.parent)
        return manifest
    quantize(folder, target, wanted)
    manifest = described(target, source=before_source, revision=revision, converter=_versions("ctranslate2"))
    write_manifest(target, manifest)
    return manifest


def _check_torch(source: str) -> None:
    missing = [name for name in ("torch", "transformers") if importlib.util.find_spec(name) is None]
    if missing:
        raise JobError(
            ExitCode.CONFIG,
            f"{source} has no model.bin, so it must be a checkpoint: to convert one, {' and '.join(missing)} must be"
            " installed",
            "pip install 'stenofleet[torch]'; a model in CTranslate2's format needs neither",
        )


def _checkpoint(source: str, *, download: bool, revision: str) -> Path:
    """The folder of a repository in the hub's cache, with the weights of its checkpoint."""
    import huggingface_hub

    def fetched(*patterns: str) -> Path:
        return Path(
            huggingface_hub.snapshot_download(
                source, revision=revision or None, allow_patterns=list(patterns), local_files_only=not download
            )
        )

    try:
        folder = fetched(*_CHECKPOINT)
        if not any(folder.glob("model*.safetensors")):
            folder = fetched(*_CHECKPOINT, _OLD_CHECKPOINT)
    except Exception as error:  # as in locate: the client raises errors of several libraries
        raise JobError(
            ExitCode.MODEL,
            f"the checkpoint {source} is not here: {' '.join(str(error).split())}",
            "check the network and the name (--download), or copy the checkpoint's folder to this machine",
        ) from error
    return folder


def _of_checkpoint(folder: Path, target: Path, wanted: str) -> None:
    from ctranslate2.converters import TransformersConverter

    lacking = [name for name in ("config.json", *_COPIED) if not (folder / name).is_file()]
    if lacking:
        raise JobError(
            ExitCode.MODEL,
            f"{folder} is neither a model nor a checkpoint of Whisper: it lacks {', '.join(lacking)}",
            "save the checkpoint with its processor: WhisperProcessor.save_pretrained writes these files",
        )
    try:
        # No code of the checkpoint is run.
        TransformersConverter(str(folder), copy_files=list(_COPIED)).convert(str(target), quantization=wanted)
        _name_languages(target)
    except (OSError, RuntimeError, ValueError, KeyError, AttributeError) as error:
        raise JobError(
            ExitCode.MODEL,
            f"{folder} cannot be converted: {type(error).__name__}: {' '.join(str(error).split())}",
            "see that it is a checkpoint of Whisper, and that torch and transformers are of versions that CTranslate2"
            " supports",
        ) from error


def _name_languages(target: Path) -> None:
    """Write the tokens of languages into ``config.json``, if the converter has not: without them none is detected.

    Some checkpoints were fine-tuned, and lost that part of their ``generation_config.json``.
    """
    path = target / "config.json"
    config = json.loads(path.read_bytes())
    if config.get("lang_ids"):
        return
    tokens = {
        token["content"]: token["id"] for token in json.loads((target / "tokenizer.json").read_bytes())["added_tokens"]
    }
    config["lang_ids"] = sorted(tokens[name] for code in LANGUAGES if (name := f"<|{code}|>") in tokens)
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")


def _versions(*packages: str) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
