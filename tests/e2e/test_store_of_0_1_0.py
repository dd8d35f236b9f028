"""A run that version 0.1.0 began and did not finish: this version lists it, resumes it, and finishes it.

``tests/data/store-0.1.0`` was written by the code of version 0.1.0 (commit 1c18a08), not by hand. That code transcribed
the sample of the demo, copied to ``/srv/recordings/talk.m4a``, with :data:`OPTIONS` and one job at a time. It found the
demo's model under the name ``tiny`` (see :func:`hub`), so that no document holds the path of a machine. The first
attempt of chunk 1 was killed by the crash point ``chunk.transcribed.00001.a1=kill``. The command was ended by SIGTERM
as soon as 13 of the 15 results were in the store. Removed afterwards: the lock file below ``.local``, and the audio of
chunk 12, whose result is there, because it is large. ``tests/data/model-0.1.0`` has the files of that version's demo
model that have changed since: results of two models are not merged.

A change that makes these tests fail makes users compute unfinished runs again: keep what reads the old documents.
"""

import json
import shutil
from pathlib import Path

import pytest

from controller import demo
from controller.domain.documents import Report
from controller.domain.keys import RunKeys
from controller.transcript.formats import FORMATS
from tests.pipeline import Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]

RUN = "af1fe753acbe6de5"
KEYS = RunKeys(RUN)
DATA = Path(__file__).parents[1] / "data" / "store-0.1.0"
CHANGED = Path(__file__).parents[1] / "data" / "model-0.1.0"
MISSING = (13, 14)
OPTIONS = ("--model", "tiny", "--threads", "1", "--chunk-duration", "12", "--chunking-threshold", "0")


@pytest.fixture
def hub(tmp_path: Path) -> dict[str, str]:
    """The environment in which ``tiny`` is the demo model of 0.1.0, at the path of that name in the hub cache."""
    model = tmp_path / "hub" / "models--Systran--faster-whisper-tiny"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text("demo")
    (model / "snapshots").mkdir()
    snapshot = shutil.copytree(demo.MODEL, model / "snapshots" / "demo")
    shutil.copytree(CHANGED, snapshot, dirs_exist_ok=True)
    return {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HOME": str(tmp_path / "hub")}


@pytest.fixture
def old(workplace: Workplace) -> Workplace:
    """A folder whose store is the one that 0.1.0 left."""
    shutil.copytree(DATA, workplace.store.root)
    return workplace


def results(workplace: Workplace) -> dict[str, bytes]:
    """Every result in the store."""
    return {entry.key: workplace.store.get(entry.key) for entry in workplace.store.list(KEYS.results)}


def test_the_run_is_listed_with_its_progress(old: Workplace) -> None:
    (listed,) = json.loads(old.run("list", "--json").out)["runs"]
    assert (listed["run"], listed["name"], listed["state"]) == (RUN, "talk.m4a", "interrupted")
    status = json.loads(old.run("status", RUN[:4], "--json").out)
    assert (status["run"], status["state"], status["chunks"]) == (RUN, "interrupted", "12/15")
    assert (status["percent"], status["failures"]) == (73.1, 1)
    assert status["recording"] == "file:///srv/recordings/talk.m4a"
    assert status["outputs"] == [f"/srv/transcripts/talk.{extension}" for extension in FORMATS]


def test_the_cause_of_a_failed_attempt_is_shown(old: Workplace) -> None:
    result = old.run("logs", RUN, "--chunk", "1")
    assert result.code == 0, result.err
    assert "DISRUPTED.deleted" in result.out
    assert "somebody stopped it (SIGKILL)" in result.out


def test_the_same_command_finishes_the_run_and_transcribes_only_missing_chunks(
    old: Workplace, hub: dict[str, str]
) -> None:
    before, written = results(old), old.results()
    assert [int(key.split("/")[3]) for key in before] == [span for span in range(15) if span not in MISSING]
    recording = shutil.copy(demo.SAMPLE, old.folder / "talk.m4a")
    ended = old.transcribe(recording, *OPTIONS, "--max-parallel", "2", env=hub)
    assert ended.code == 0, ended.err
    assert old.keys().run == RUN, "the same recording and options are the same run"
    assert written.items() <= old.results().items(), "no result was written again"
    after = results(old)
    assert before.items() <= after.items()
    assert sorted(int(key.split("/")[3]) for key in after.keys() - before.keys()) == list(MISSING)
    document = old.document("talk")
    assert (document["status"], document["success"], document["gaps"]) == ("complete", True, [])
    assert [chunk["quality"] for chunk in document["chunks"]] == ["ok"] * 15
    words = [word for result in before.values() for word in json.loads(result)["text"].split()]
    assert document["text"].split()[: len(words)] == words
    assert len(document["text"].split()) > len(words)
    assert sorted(old.outputs) == sorted(f"talk.{extension}" for extension in FORMATS)
    report = Report.decode(old.store.get(KEYS.report))
    assert [span.attempts for span in report.spans] == [2 if span.span == 1 else 1 for span in report.spans]
    assert old.store.stat(KEYS.marker("complete"))
    assert old.leftovers() == []


def test_the_run_is_not_resumed_by_its_id_on_a_machine_that_did_not_begin_it(old: Workplace) -> None:
    refused = old.run("resume", RUN)
    assert refused.code == 2
    assert "was not started on this machine" in refused.err
    assert "file:///srv/recordings/talk.m4a with model tiny" in refused.err
