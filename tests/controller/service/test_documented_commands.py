"""The commands of the API's reference, as a person types them."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.files import FileStore
from controller.domain.webhook_documents import Delivery, RunEnded, event_of
from controller.service.outbox import failed
from docs import openapi
from tests.controller.service.running import Running, running

pytestmark = pytest.mark.process

IN_ORDER = (
    *("submitRun", "streamEvents", "listRuns", "getRun", "listChunks", "getResult", "getReport"),
    *("addCorrection", "listCorrections", "suggestGlossary"),
    *("getMedia", "getWaveform"),
    *("cancelRun", "retryRun", "deleteRun"),
    *("createUpload", "listUploads", "getUpload", "putUploadPart", "completeUpload", "deleteUpload"),
    *("listDeadDeliveries", "repeatDeadDelivery", "deleteDeadDelivery"),
    "noticeObjects",
    "getUsage",
    *("listModels", "createTranscription", "createTranslation", "getHealth", "getReadiness"),
)
REFUSED = {
    "cancelRun": ["409"],
    "retryRun": ["409"],
    "deleteDeadDelivery": ["404"],
    "getMedia": ["404"],
    "getWaveform": ["404"],
    "noticeObjects": ["404"],
}
"""The run is complete, the delivery is sent again, and the simulated intake makes nothing for players.
There is no inbox."""
EVERY_STATUS = """\
set -e
curl() { command curl -w '%{stderr}%{http_code}\\n' "$@"; }
ID='s/.*"id": *"\\([0-9a-z]*\\)".*/\\1/p'
"""


@pytest.fixture
def service(store: FileStore) -> Iterator[Running]:
    with running(store) as up:
        delivery = Delivery(
            id="a" * 32, prefix="default", url="https://receiver.example/", created_ms=1, since_ms=1, next_ms=1,
            event=event_of("a" * 32, RunEnded(id="0" * 26, status="complete"), 1),
        )  # fmt: skip
        dead = failed(delivery, "HTTP 410", up.clock.now_ms(), final=True)[0].put
        for key, data in dead:
            store.put(key, data)
        yield up


def typed(service: Running, folder: Path, script: str) -> tuple[str, list[str]]:
    """What *script* prints in a shell, and the status of each answer to a curl."""
    (folder / "talk.mp3").write_bytes(b"sound")
    done = subprocess.run(
        ["bash", "-c", EVERY_STATUS + script], cwd=folder, capture_output=True, text=True, timeout=100, check=False,
        env={"PATH": os.environ["PATH"], "A": f"{service.address}/v1", "H": ""},
    )  # fmt: skip
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr.split()


def test_every_operation_has_an_example_that_works(service: Running, tmp_path: Path) -> None:
    operations = {one["operationId"] for methods in openapi.document()["paths"].values() for one in methods.values()}
    assert openapi.EXAMPLES.keys() == operations == set(IN_ORDER)
    script = "".join(f"echo {name} >&2\n{openapi.EXAMPLES[name]}\n" for name in IN_ORDER)
    out, printed = typed(service, tmp_path, script)
    found: dict[str, list[str]] = {}
    operation = ""
    for word in printed:
        if word in operations:
            operation = word
            found[operation] = []
        else:
            found[operation].append(word)
    refused = {name: statuses for name, statuses in found.items() if {status[0] for status in statuses} != {"2"}}
    assert refused == REFUSED, out
    assert "event: ended" in out
    assert "00:00:00" in out
