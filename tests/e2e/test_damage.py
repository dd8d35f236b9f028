"""Chunk audio and tasks that were changed in the store between two commands, with real jobs."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from controller.domain.keys import RunKeys
from tests import river, speech

pytestmark = pytest.mark.process


def flac(pcm: speech.Pcm) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, speech.RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def failures(desk: river.Desk) -> list[tuple[int, str]]:
    told = json.loads(desk.run("logs", desk.keys().run, "--json").out)
    return [(item["span"], item["failure"]) for item in told["failures"]]


@pytest.mark.parametrize("audio", ["nothing", "noise", "another chunk's", "hours"])
def test_chunk_audio_that_was_changed_is_cut_again_and_the_words_are_the_same(
    desk: river.Desk, undisturbed: river.Undisturbed, audio: str
) -> None:
    media = undisturbed.lay(desk, 0)
    keys = desk.keys()
    match audio:
        case "nothing":
            data = b""
        case "noise":
            data = os.urandom(50_000)
        case "another chunk's":
            data = desk.store.get(keys.audio(2))
        case _:
            data = flac(np.zeros(2 * 3600 * speech.RATE_HZ, np.int16))
    desk.store.put(keys.audio(1), data)
    ended = desk.transcribe(media, *river.CUT)
    assert ended.code == 0, ended.err
    assert desk.outputs == undisturbed.outputs
    assert failures(desk) == [(1, "CHUNK_DAMAGED")]
    assert "the chunk is cut again" in desk.run("logs", keys.run).out


def test_a_task_that_was_changed_is_written_again_and_never_run(
    desk: river.Desk, undisturbed: river.Undisturbed
) -> None:
    media = undisturbed.lay(desk, 0, 2)
    keys = desk.keys()
    task = json.loads(desk.store.get(keys.task(1)))
    evil = task | {"options": task["options"] | {"model": str(desk.folder / "evil")}}
    desk.store.put(keys.task(1), json.dumps(evil).encode())
    ended = desk.transcribe(media, *river.CUT)
    assert ended.code == 0, ended.err
    assert desk.outputs == undisturbed.outputs
    assert json.loads(desk.store.get(keys.task(1))) == task
    assert "is not believed and removed" in ended.err


def test_a_run_without_anything_under_work_is_done_once_more(desk: river.Desk, undisturbed: river.Undisturbed) -> None:
    media = undisturbed.lay(desk, 0, 1, 2)
    keys = desk.keys()
    for entry in list(desk.store.list(keys.work)):
        desk.store.delete(entry.key)
    assert desk.store.stat(keys.plan)
    ended = desk.transcribe(media, *river.CUT)
    assert ended.code == 0, ended.err
    assert desk.outputs == undisturbed.outputs


def test_another_users_folder_in_a_shared_scratch_folder_is_not_entered(
    desk: river.Desk, undisturbed: river.Undisturbed
) -> None:
    scratch, trap = desk.folder / "scratch", desk.folder / "trap"
    scratch.mkdir()
    trap.mkdir()
    (trap / "file").touch()
    media = undisturbed.lay(desk, 0, 1)
    run = RunKeys(desk.keys().run).run
    (scratch / f"stenofleet-{run}").symlink_to(trap)
    ended = desk.transcribe(media, *river.CUT, "--scratch-dir", scratch)
    assert ended.code == 0, ended.err
    assert [path.name for path in trap.iterdir()] == ["file"]
    assert Path(scratch / f"stenofleet-{run}").is_symlink()
