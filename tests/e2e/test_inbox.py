"""``stenofleet watch-folder`` and ``serve --inbox`` as processes that are killed while their inbox is fed."""

import json
import os
import re
import shutil
import signal
from pathlib import Path

import httpx
import pytest

from controller import demo
from tests import speech
from tests.pipeline import Started, Workplace, until

pytestmark = [pytest.mark.process, pytest.mark.e2e]

OPTIONS = (
    *("--model", str(demo.MODEL), "--batch-size", "0", "--language", "en", "--max-parallel", "2", "--threads", "1"),
    *("--inbox-poll", "1", "--inbox-settle", "1"),
)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("recordings")
    return [speech.write_wav(folder / f"talk{seed}.wav", speech.tape(seconds=6, seed=seed)) for seed in range(3)]


def watch(workplace: Workplace, *more: str) -> Started:
    started = workplace.start(*(more or ("watch-folder", "in", "out")), "--store", workplace.store.url, *OPTIONS)
    started.wait_for_output("inbox of default: ")
    return started


def requests(workplace: Workplace) -> list[str]:
    return [path.parent.name for path in workplace.store.root.glob("requests/default/*/request.json")]


def test_a_folder_is_transcribed_while_the_process_is_killed_again_and_again(
    workplace: Workplace, recordings: list[Path]
) -> None:
    inbox, outbox = workplace.folder / "in", workplace.out

    def written() -> set[str]:
        return {path.name for path in outbox.rglob("[!.]*.*")}

    (inbox / "a").mkdir(parents=True)
    (inbox / "stenofleet.yaml").write_text("output_formats: [txt, json]\n")
    (inbox / "notes.txt").write_text("not a recording")
    wanted = {"notes.txt.error.json"}
    for number, recording in enumerate(recordings):
        watching = watch(workplace)
        shutil.copy(recording, inbox / "a" / recording.name)
        wanted |= {f"{recording.name}.txt", f"{recording.name}.json"}
        # Each time at another moment: it is submitted, its jobs run, it has ended.
        until(lambda: len(requests(workplace)) > number, "it is submitted")  # noqa: B023 (called at once)
        if number == 1:
            until(lambda: workplace.processes("-m chunk_job"), "a job runs")
        if number == 2:
            until((outbox / f"a/{recording.name}.txt").exists, "it is written")
        watching.kill()
    watching = watch(workplace)
    until(lambda: written() >= wanted, "all are written")
    until(lambda: len(records(workplace, "done")) == len(recordings), "all are recorded")
    assert written() == wanted
    assert len(requests(workplace)) == len(recordings) + 1
    assert json.loads((outbox / "notes.txt.error.json").read_bytes())["class"] == "BAD_INPUT"
    assert all((outbox / f"a/{recording.name}.txt").read_text().split() for recording in recordings)
    (outbox / f"a/{recordings[0].name}.txt").write_text("corrected\n")
    (inbox / "notes.txt").write_bytes(recordings[1].read_bytes())
    until(lambda: "notes.txt.txt" in written(), "what failed is tried again when it changes")
    until(lambda: "notes.txt.error.json" not in written(), "its error is removed")
    os.kill(watching.process.pid, signal.SIGTERM)
    assert watching.ended().code == 128 + signal.SIGTERM
    assert (outbox / f"a/{recordings[0].name}.txt").read_text() == "corrected\n"
    assert workplace.processes() == []


def records(workplace: Workplace, state: str) -> list[str]:
    return [path.name for path in workplace.store.root.glob(f"inbox-state/default/objects/**/*-{state}-*")]


def test_an_inbox_beside_the_api(workplace: Workplace, recordings: list[Path]) -> None:
    (workplace.folder / "in").mkdir()
    serving = watch(workplace, "serve", "--port", "0", "--inbox", "in", "--outbox", "out")
    shutil.copy(recordings[0], workplace.folder / "in/talk.wav")
    until((workplace.out / "talk.wav.txt").exists, "it is transcribed")
    found = re.search(r"listening on (http://127\.0\.0\.1:\d+)", serving.err)
    assert found
    (run,) = httpx.get(f"{found[1]}/v1/runs").json()["runs"]
    assert run["name"] == "talk.wav"
    assert requests(workplace) == [run["id"]]


def test_what_cannot_be_an_inbox_is_said(workplace: Workplace) -> None:
    (workplace.folder / "in").mkdir()
    model = ("--model", str(demo.MODEL))
    inside = workplace.start("watch-folder", "in", "in/out", *model)
    missing = workplace.start("watch-folder", "absent", "out", *model)
    alone = workplace.start("serve", "--inbox", "in", "--port", "0", *model)
    for started, said in ((inside, "not separate"), (alone, "belong together"), (missing, "no such folder")):
        ended = started.ended()
        assert ended.code == 2
        assert said in ended.err
