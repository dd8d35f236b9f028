"""The programs that the chart mounts into pods: one copies models from S3, one is ``helm test``."""

import http.client
import importlib.util
import io
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chunk_job.models import copying, verification
from chunk_job.models.verification import described
from chunk_job.names import MODEL_FILES
from chunk_job.store.files import FileStore
from controller import demo
from tests.testbed.chart import CHART


def program(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, CHART / "files" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def models(tmp_path: Path) -> FileStore:
    """A bucket with two models."""
    store = FileStore(tmp_path / "bucket")
    for name in ("small", "other"):
        for file in (*MODEL_FILES, "assets/more.txt"):
            store.put(f"{name}/{file}", f"{file} of {name}".encode())
    return store


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_models_are_copied_from_the_store_to_the_volume(models: FileStore, tmp_path: Path) -> None:
    volume = tmp_path / "models"
    assert program("fetch_model").main(models.url, str(volume), "small", "other") == 0
    assert contents(volume) == {
        f"{name}/{file}": f"{file} of {name}"
        for name in ("small", "other")
        for file in (*MODEL_FILES, "assets/more.txt")
    }


def test_a_model_that_is_complete_is_kept_and_another_one_replaces_it(models: FileStore, tmp_path: Path) -> None:
    volume, fetch = tmp_path / "models", program("fetch_model")
    assert fetch.main(models.url, str(volume), "small") == 0
    mark = volume / "small" / MODEL_FILES[0]
    before = mark.stat().st_ino
    assert fetch.main(models.url, str(volume), "small") == 0
    assert mark.stat().st_ino == before
    models.put(f"small/{MODEL_FILES[0]}", b"a longer, newer file")
    assert fetch.main(models.url, str(volume), "small") == 0
    assert mark.read_text() == "a longer, newer file"
    assert {path.name for path in volume.iterdir()} == {"small"}


def test_a_model_that_cannot_be_fetched_leaves_the_old_one(
    models: FileStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, fetch = tmp_path / "models", program("fetch_model")
    assert fetch.main(models.url, str(volume), "small") == 0
    before = contents(volume)
    models.delete(f"small/{MODEL_FILES[0]}")
    assert fetch.main(models.url, str(volume), "small") == 3
    assert f"is not a faster-whisper model: it lacks {MODEL_FILES[0]}" in capsys.readouterr().err
    assert contents(volume) == before
    assert fetch.main(models.url, str(volume), "unknown") == 3


def test_a_model_with_a_manifest_is_verified_while_it_is_copied(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    volume, fetch, bucket = tmp_path / "models", program("fetch_model"), FileStore(tmp_path / "bucket")
    store = FileStore(tmp_path / "bucket" / "tiny")
    copying.put(demo.MODEL, described(demo.MODEL, source="demo"), store, lambda: None)
    assert fetch.main(bucket.url, str(volume), "tiny") == 0
    assert verification.verify(volume / "tiny", always=True)
    before = (volume / "tiny").stat().st_ino
    assert fetch.main(bucket.url, str(volume), "tiny") == 0
    assert (volume / "tiny").stat().st_ino == before, "it is kept"
    (volume / "tiny" / "config.json").write_text("{}")
    assert fetch.main(bucket.url, str(volume), "tiny") == 0
    assert verification.verify(volume / "tiny", always=True), "a damaged copy is replaced"
    store.put("model.bin", store.get("model.bin")[:-1] + b"?")
    shutil.rmtree(volume)
    capsys.readouterr()
    assert fetch.main(bucket.url, str(volume), "tiny") == 3
    assert "model.bin has sha256" in capsys.readouterr().err
    assert list(volume.iterdir()) == []


class Service:
    """A service that is unavailable first, and then works on a run for two questions."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.asked: list[tuple[str, str, Any]] = []
        self.answers: Iterator[Any] = iter(
            [
                self.problem(503),
                {"id": "r1", "status": "queued"},
                {"id": "r1", "status": "running"},
                OSError("reset"),
                {"id": "r1", "status": "complete"},
                text,
            ]
        )

    def problem(self, status: int) -> urllib.error.HTTPError:
        return urllib.error.HTTPError("http://s", status, "", http.client.HTTPMessage(), io.BytesIO(b"why"))

    def urlopen(self, request: urllib.request.Request, *, timeout: float) -> io.BytesIO:
        self.asked.append((request.get_method(), request.full_url, request))
        answer = next(self.answers)
        if isinstance(answer, Exception):
            raise answer
        return io.BytesIO((answer if isinstance(answer, str) else json.dumps(answer)).encode())


@pytest.fixture
def sending(monkeypatch: pytest.MonkeyPatch) -> Any:
    module = program("transcribe_sample")
    monkeypatch.setenv("TOKEN", "secret")
    monkeypatch.setattr(module, "_POLL_EVERY_S", 0.0)
    return module


def test_the_test_of_the_chart_compares_the_words_of_the_sample(
    sending: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    service = Service(demo.SAMPLE_TEXT.read_text(encoding="utf-8").replace("one\n", "One,\n", 1))
    monkeypatch.setattr(urllib.request, "urlopen", service.urlopen)
    assert sending.main("http://s", "0.1", "60") == 0
    assert "word error rate 0.0%" in capsys.readouterr().out
    posts = [request for method, _, request in service.asked if method == "POST"]
    assert [request.full_url for request in posts] == ["http://s/v1/runs"] * 2
    assert len({request.headers["Idempotency-key"] for request in posts}) == 1, "tried again as the same request"
    assert demo.SAMPLE.read_bytes() in posts[0].data
    assert {request.headers["Authorization"] for *_, request in service.asked} == {"Bearer secret"}
    assert service.asked[-1][1] == "http://s/v1/runs/r1/result?format=txt"


def test_the_test_of_the_chart_fails_with_other_words(sending: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", Service("nothing of this").urlopen)
    assert sending.main("http://s", "0.3", "60") == 1


@pytest.mark.parametrize("seconds,why", [("60", "HTTP 401: why"), ("-1", "no transcript in time: .*HTTP 503")])
def test_the_test_of_the_chart_ends_with_a_reason(
    sending: Any, monkeypatch: pytest.MonkeyPatch, seconds: str, why: str
) -> None:
    service = Service("")
    if seconds != "-1":
        service.answers = iter([service.problem(401)])
    monkeypatch.setattr(urllib.request, "urlopen", service.urlopen)
    with pytest.raises(SystemExit, match=why):
        sending.main("http://s", "0.3", seconds)
