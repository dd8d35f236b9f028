"""``batch submit --server`` where the service keeps uploads in a bucket: parts are sent to the bucket itself."""

import re
from pathlib import Path

import pytest

from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from controller import cli
from tests.controller.service.running import running

PART = 5 << 20
"""The shortest part of which a server composes an object."""


def test_files_and_objects_become_the_runs_of_one_batch(
    store: Store,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: list[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    Path("large.mp3").write_bytes(b"0123456789abcdef" * (PART // 10))
    Path("short.mp3").write_bytes(b"short")
    other = open_store(f"s3://{bucket}/media")
    other.put("named.mp3", b"named")
    with running(store, part_bytes=PART) as service:
        monkeypatch.setenv("STENOFLEET_SERVER", service.address)
        command = ["batch", "submit", "large.mp3", "short.mp3", f"{other.url}/named.mp3", "-f", "txt"]
        assert cli.run(command) == 0
        batch = capsys.readouterr().out.strip()
        assert cli.run(["batch", "wait", batch, "-o", f"{other.url}/out"]) == 0
        asked.clear()
        assert cli.run(["batch", "wait", batch, "-o", f"{other.url}/out"]) == 0
        # The service is in this process: its own objects are not meant.
        assert not [
            one for one in asked if one.startswith(f"PUT /{bucket}/media/") or re.search(r" /v1/.*/result", one)
        ]
        assert any(" /v1/runs" in one for one in asked)
        assert sum(request.split("?")[0].endswith(".txt") for request in asked) == 3, "each is read"
        written = sorted(item.key for item in other.list("out/"))
        assert written == ["out/large.txt", "out/named.txt", "out/short.txt"]
