"""What the result of the doctor's probe shows about speed: compiled kernels, and the type of the model's file.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from chunk_job.contract import Engine, Usage
from chunk_job.kernels import FOLDER

COMPILED_MS = 3_000
"""A first use of the GPU that takes longer has compiled its kernels; with compiled ones it takes a few hundredths."""
_SAME = {"int8_float32": "int8"}
_GAINS = {
    ("cuda", "int8_float16"): "; large-v3-turbo is then loaded in 0.8 s instead of 2.5 s (measured on an H100)",
    ("cpu", "int8"): "; large-v3-turbo is then loaded in 0.4 s instead of 4 s (measured on a CPU)",
}


@dataclass(frozen=True, kw_only=True)
class Check:
    """The result of one check: whether it passed (*well*), what was found, and what to do.

    *fix* of a passed check is something that would make jobs faster.
    """

    name: str
    well: bool
    found: str
    fix: str = ""


def probe_checks(engine: Engine, usage: Usage, *, on_cluster: bool) -> Iterator[Check]:
    """The checks of a probe's result. None of them fails: they say what costs time in every job."""
    if engine.device == "cuda":
        yield _kernels(usage, on_cluster=on_cluster)
    if engine.stored_type and engine.compute_type != "default":
        yield _stored_type(engine)


def _kernels(usage: Usage, *, on_cluster: bool) -> Check:
    found = f"the first use of the GPU took {usage.kernels_ms / 1000:.1f} s"
    if usage.kernels_ms <= COMPILED_MS:
        return _passed("GPU kernels", f"{found}: nothing was compiled")
    if on_cluster:
        return _passed(
            "GPU kernels",
            f"{found}: they were compiled, and will be in every job",
            f"compile them once to the folder {FOLDER} of the models' volume or image, with this image on such a node:"
            " `python -m chunk_job --compile-kernels FOLDER MODEL` (k8s/README.md, GPU kernels);"
            " or share them in the store with --kernels-in-store (docs/explanation/security.md says what that allows)",
        )
    return _passed(
        "GPU kernels",
        f"{found}: they were compiled",
        "the next jobs of this user find them. If `stenofleet doctor` shows this again, set STENOFLEET_KERNEL_CACHE to"
        " a private folder that can be written",
    )


def _stored_type(engine: Engine) -> Check:
    stored, used = (_SAME.get(kind, kind) for kind in (engine.stored_type, engine.compute_type))
    on_cpu = engine.device == "cpu"
    # The 8-bit weights are the same; the rest is a few megabytes.
    if stored == used or (on_cpu and stored.startswith("int8") and used == "int8"):
        return _passed("model's type", f"{stored} in its file, used as {used}: loaded without a conversion")
    gain = _GAINS.get((engine.device, used), "")
    return _passed(
        "model's type",
        f"{stored} in its file, and converted to {used} in every job",
        f"convert it once: `ct2-transformers-converter --model REPOSITORY --quantization {used} --copy_files"
        f" tokenizer.json preprocessor_config.json --output_dir FOLDER`, and use --model FOLDER{gain}",
    )


def _passed(name: str, found: str, fix: str = "") -> Check:
    return Check(name=name, well=True, found=found, fix=fix)
