"""What the doctor makes of its probe's result: compiled kernels and converted models."""

import pytest

from chunk_job.contract import Usage
from controller.cli.probe_checks import Check, probe_checks
from tests import fakes


def checks(
    *, device: str = "cuda", used: str = "int8_float16", stored: str = "", kernels_ms: int = 40, on_cluster: bool = True
) -> list[Check]:
    engine = fakes.ENGINE.model_copy(update={"device": device, "compute_type": used, "stored_type": stored})
    usage = Usage(fetch_ms=1, load_ms=1, transcribe_ms=1, cpu_threads=1, kernels_ms=kernels_ms)
    found = list(probe_checks(engine, usage, on_cluster=on_cluster))
    assert all(check.well for check in found), "what costs time does not fail"
    return found


def test_a_gpu_that_compiles_costs_every_job_of_a_cluster() -> None:
    (check,) = checks(kernels_ms=12_345)
    assert check.name == "GPU kernels"
    assert check.found == "the first use of the GPU took 12.3 s: they were compiled, and will be in every job"
    assert "`python -m chunk_job --compile-kernels FOLDER MODEL`" in check.fix
    assert ".stenofleet-kernels of the models' volume or image" in check.fix
    assert "--kernels-in-store (docs/explanation/security.md says what that allows)" in check.fix


def test_a_gpu_that_compiles_costs_the_first_job_of_a_machine() -> None:
    (check,) = checks(kernels_ms=12_345, on_cluster=False)
    assert check.found == "the first use of the GPU took 12.3 s: they were compiled"
    assert check.fix.startswith("the next jobs of this user find them")
    assert "STENOFLEET_KERNEL_CACHE" in check.fix


@pytest.mark.parametrize("on_cluster", [False, True])
def test_kernels_that_are_there_need_no_advice(on_cluster: bool) -> None:
    (check,) = checks(kernels_ms=3_000, on_cluster=on_cluster)
    assert (check.found, check.fix) == ("the first use of the GPU took 3.0 s: nothing was compiled", "")


def test_a_cpu_has_no_kernels() -> None:
    assert checks(device="cpu", used="int8") == []


@pytest.mark.parametrize(
    "device,stored,used",
    [
        ("cuda", "int8_float16", "int8_float16"),
        ("cuda", "float16", "float16"),
        ("cuda", "int8", "int8_float32"),
        ("cpu", "int8", "int8"),
        ("cpu", "int8_float16", "int8"),
    ],
)
def test_a_model_in_the_type_that_it_is_used_in_needs_no_advice(device: str, stored: str, used: str) -> None:
    check = checks(device=device, stored=stored, used=used)[-1]
    assert (check.name, check.fix) == ("model's type", "")
    assert "loaded without a conversion" in check.found


@pytest.mark.parametrize(
    "device,stored,used,gain",
    [
        ("cuda", "float16", "int8_float16", "0.8 s instead of 2.5 s (measured on an H100)"),
        ("cuda", "int8", "int8_float16", "0.8 s instead of 2.5 s (measured on an H100)"),
        ("cuda", "int8_float16", "float16", ""),
        ("cpu", "float16", "int8", "0.4 s instead of 4 s (measured on a CPU)"),
    ],
)
def test_a_model_that_every_job_converts_is_converted_once(device: str, stored: str, used: str, gain: str) -> None:
    check = checks(device=device, stored=stored, used=used)[-1]
    assert check.found == f"{stored} in its file, and converted to {used} in every job"
    assert f"ct2-transformers-converter --model REPOSITORY --quantization {used} " in check.fix
    assert check.fix.partition("use --model FOLDER")[2] == (
        f"; large-v3-turbo is then loaded in {gain}" if gain else ""
    )


def test_a_result_that_does_not_say_the_type_gives_no_check() -> None:
    assert [check.name for check in checks()] == ["GPU kernels"]
    assert [check.name for check in checks(stored="float16", used="default")] == ["GPU kernels"]
