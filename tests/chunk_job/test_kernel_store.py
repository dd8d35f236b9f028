"""Compiled GPU kernels in the store: the first job puts them, later jobs take them, and nothing depends on them."""

import logging
import os
import secrets
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chunk_job import kernel_store, kernels
from chunk_job import run_task as run_task_module
from chunk_job.contract import Engine, sha256_hex
from chunk_job.engine import gpu, kernel_files
from chunk_job.engine.kernel_cache import CUDA_PATH, KernelCache, set_up
from chunk_job.kernel_store import KernelStore
from chunk_job.kernels import CompiledKernels
from chunk_job.run_task import run_task
from chunk_job.store.base import Store, StoreUnavailable
from chunk_job.store.open_store import open_store
from chunk_job.stored_type import stored_type
from controller import demo
from tests import speech
from tests.chunk_job.engine.conftest import model, root
from tests.chunk_job.engine.gpu_kernels import FILES, KEY, content
from tests.chunks import TASK, with_task

__all__ = ["model", "root"]

TYPES = ("int8", stored_type(demo.MODEL))
FOLDER = f"kernels/{KEY}_int8-of-{TYPES[1]}"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(f"file://{tmp_path}/store")


def engine(device: str = "cuda") -> Engine:
    return Engine(
        faster_whisper="1.2.1",
        ctranslate2="4.8.5",
        model="m",
        model_digest="0" * 64,
        device=device,
        compute_type="int8_float16",
        isa="AVX2",
    )


def first_job(store: Store, model: Path, root: Path, files: dict[str, bytes] = FILES, **changes: Any) -> bool:
    """A job without kernels compiles them. Returns whether it puts them into the store."""
    place = KernelStore(store, types=TYPES)
    cache = set_up(model, root, elsewhere=place)
    assert cache.folder is not None
    for name, data in files.items():
        path = cache.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    how: dict[str, Any] = {"first_use_ms": 15_000, "capability": lambda: (9, 0), "root": root, **changes}
    putting = place.keep(cache, how.pop("engine", engine()), **how)
    if putting:
        putting.join()
    return putting is not None


def next_job(
    store: Store, model: Path, root: Path, monkeypatch: pytest.MonkeyPatch, *, types: tuple[str, str] = TYPES
) -> KernelCache:
    """The cache of a job in another pod."""
    monkeypatch.delenv(CUDA_PATH, raising=False)
    monkeypatch.setenv(kernels.PLACE, str(Path.home() / secrets.token_hex(8)))
    return set_up(model, root, elsewhere=KernelStore(store, types=types))


def keys(store: Store) -> set[str]:
    return {entry.key for entry in store.list("kernels/")}


def test_a_pod_takes_the_kernels_that_another_one_has_compiled(
    root: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    assert first_job(store, model, root)
    found = next_job(store, model, root, monkeypatch)
    assert found.found
    assert found.folder is not None
    assert content(found.folder) == FILES
    assert os.environ[CUDA_PATH] == str(found.folder)
    assert "GPU kernels copied from the store" in caplog.text
    document = CompiledKernels.decode(store.get(f"{FOLDER}/kernels.json"))
    assert (document.gpu, document.driver, document.ctranslate2, document.compute_types, document.compiled_ms) == (
        *("NVIDIA H100 80GB HBM3", "580.65.06", "4.8.5"),
        ("int8_float16",),
        15_000,
    )
    assert keys(store) == {f"{FOLDER}/{name}" for name in ("kernels.json", *document.files.values())}


def test_kernels_are_put_once(root: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first_job(store, model, root)
    before = keys(store)
    # Another pod began at the same time, and has compiled other bytes.
    monkeypatch.delenv(CUDA_PATH)
    monkeypatch.setenv(kernels.PLACE, str(Path.home() / "at the same time"))
    place = KernelStore(store, types=TYPES)
    cache = set_up(model, root)
    assert cache.folder is not None
    (cache.folder / "index").write_bytes(b"other")
    putting = place.keep(cache, engine(), first_use_ms=15_000, capability=lambda: (9, 0), root=root)
    assert putting
    putting.join()
    assert keys(store) == before
    # One that has found them puts nothing.
    found = next_job(store, model, root, monkeypatch)
    assert place.keep(found, engine(), first_use_ms=15_000, capability=lambda: (9, 0), root=root) is None


@pytest.mark.parametrize("other", ["gpu", "compute type", "stored type"])
def test_kernels_of_something_else_are_not_taken(
    root: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, other: str
) -> None:
    from tests.chunk_job.engine.test_gpu import driver_files

    first_job(store, model, root)
    here = driver_files(tmp_path / "other", a="NVIDIA B200") if other == "gpu" else root
    types = {"compute type": ("float16", TYPES[1]), "stored type": ("int8", "")}.get(other, TYPES)
    assert not next_job(store, model, here, monkeypatch, types=types).found


@pytest.mark.parametrize(
    "changes",
    [
        {"engine": engine("cpu")},
        {"capability": lambda: (8, 9)},
        {"capability": lambda: None, "first_use_ms": 2_000},
        {"files": {}},
    ],
)
def test_nothing_is_put_where_nothing_was_compiled(
    root: Path, model: Path, store: Store, changes: dict[str, Any]
) -> None:
    assert not first_job(store, model, root, **changes)
    assert keys(store) == set()


def test_nothing_is_put_without_a_cache(store: Store) -> None:
    assert KernelStore(store, types=TYPES).keep(KernelCache(), engine(), first_use_ms=15_000) is None


def change_a_file(store: Store) -> None:
    (key,) = (key for key in keys(store) if store.get(key) == FILES["index"])
    store.put(key, b"two entries, changed")


def remove_a_file(store: Store) -> None:
    (key,) = (key for key in keys(store) if store.get(key) == FILES["3/a/0f4e"])
    store.delete(key)


def change_the_document(store: Store) -> None:
    store.put(f"{FOLDER}/kernels.json", b"{}")


def leave_the_folder(store: Store) -> None:
    document = store.get(f"{FOLDER}/kernels.json")
    store.put(f"{FOLDER}/kernels.json", document.replace(b"3/a/0f4e", b"../../../x"))


@pytest.mark.parametrize("spoil", [change_a_file, remove_a_file, change_the_document, leave_the_folder])
def test_damaged_kernels_are_not_used(
    root: Path,
    model: Path,
    store: Store,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    spoil: Callable[[Store], None],
) -> None:
    first_job(store, model, root)
    spoil(store)
    found = next_job(store, model, root, monkeypatch)
    assert not found.found
    assert found.folder is not None
    assert content(found.folder) == {}
    assert "not used" in caplog.text
    # The job compiles them, and replaces what could not be used.
    monkeypatch.delenv(CUDA_PATH)
    assert first_job(store, model, root)
    replaced = next_job(store, model, root, monkeypatch)
    assert replaced.folder is not None
    assert content(replaced.folder) == FILES


def test_kernels_that_take_too_long_to_fetch_are_neither_waited_for_nor_replaced(
    root: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    first_job(store, model, root)
    before = keys(store)
    goes_on = threading.Event()

    class Slow:
        """A store that answers when the test lets it."""

        def get(self, key: str, *, max_bytes: int) -> bytes:
            goes_on.wait(60)
            return store.get(key, max_bytes=max_bytes)

    monkeypatch.setattr(kernel_store, "_FETCH_S", 0.1)
    slow: Any = Slow()
    monkeypatch.delenv(CUDA_PATH)
    monkeypatch.setenv(kernels.PLACE, str(Path.home() / "another pod"))
    try:
        assert not first_job(slow, model, root)
        assert "they take more than" in caplog.text
    finally:
        goes_on.set()
    assert keys(store) == before


@pytest.mark.parametrize("unknown", ["a GPU without a name", "a driver without a version"])
def test_kernels_of_an_unknown_gpu_are_neither_put_nor_taken(
    root: Path, model: Path, store: Store, unknown: str
) -> None:
    driver = root / "proc" / "driver" / "nvidia"
    for path in driver.glob("gpus/*/information") if "GPU" in unknown else [driver / "version"]:
        path.write_text("")

    class Forbidden:
        """A store that must not be asked."""

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    forbidden: Any = Forbidden()
    assert not first_job(forbidden, model, root)
    assert keys(store) == set()


def test_more_bytes_than_allowed_are_not_taken(
    root: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_job(store, model, root)
    monkeypatch.setattr(kernel_files, "MOST_BYTES", 1_500)
    assert not next_job(store, model, root, monkeypatch).found


class Down:
    """A store that is down."""

    def __getattr__(self, _: str) -> Callable[..., Any]:
        def fails(*_: Any, **__: Any) -> Any:
            raise StoreUnavailable("it is down", "")

        return fails


def test_a_store_that_is_down_costs_a_warning_and_no_job(
    root: Path, model: Path, caplog: pytest.LogCaptureFixture
) -> None:
    down: Any = Down()
    assert first_job(down, model, root)
    assert "the GPU's kernels in the store are not used: it is down" in caplog.text
    assert "the GPU's kernels are not put into the store: it is down" in caplog.text


@pytest.mark.parametrize("chosen", [True, False])
def test_a_chunk_job_asks_the_store_if_the_user_has_chosen_that(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, chosen: bool
) -> None:
    store, task = with_task(speech.silence(1), demo.MODEL, tmp_path)
    first_job(store, demo.MODEL, root)
    monkeypatch.delenv(CUDA_PATH)
    monkeypatch.setenv(kernels.PLACE, str(tmp_path / "another pod"))
    # The folder where the driver tells about itself is that of the test.
    installed = gpu.installed(root)
    monkeypatch.setattr(gpu, "is_present", lambda _: True)
    monkeypatch.setattr(gpu, "installed", lambda _: installed)
    run_task(store, TASK, task_sha256=sha256_hex(task.encode()), attempt=1, uid="a", kernels_in_store=chosen)
    assert content(tmp_path / "another pod") == (
        {f"{KEY}/{name}": data for name, data in FILES.items()} if chosen else {}
    )


@pytest.mark.parametrize("slow", [False, True])
def test_a_job_with_a_result_waits_a_little_for_its_kernels(
    root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, slow: bool
) -> None:
    store, task = with_task(speech.silence(1), demo.MODEL, tmp_path)
    committed: list[bool] = []
    goes_on = threading.Event()

    def put() -> None:
        # The result is written first, whatever becomes of the kernels.
        while not goes_on.is_set() and not list(store.list(task.result_prefix)):
            goes_on.wait(0.01)
        if slow:
            goes_on.wait(60)
        committed.append(bool(list(store.list(task.result_prefix))))

    putting = threading.Thread(target=put, daemon=True)

    def keep(*_: Any, **__: Any) -> threading.Thread:
        putting.start()
        return putting

    monkeypatch.setattr(KernelStore, "keep", keep)
    monkeypatch.setattr(run_task_module, "_KERNELS_PATIENCE_S", 0.1 if slow else 60)
    try:
        run_task(store, TASK, task_sha256=sha256_hex(task.encode()), attempt=1, uid="a", kernels_in_store=True)
        assert committed == ([] if slow else [True])
    finally:
        goes_on.set()
        putting.join()


def test_folders_come_before_the_store(root: Path, model: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    first_job(store, model, root)
    down: Any = Down()
    monkeypatch.delenv(CUDA_PATH)
    # The private folder of the first job, for example on a volume, has them.
    assert set_up(model, root, elsewhere=KernelStore(down, types=TYPES)).found
