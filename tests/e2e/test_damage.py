"""Chunk audio and tasks that are changed in the store between two commands, with real jobs."""

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from controller.domain.keys import RunKeys
from tests import pipeline, speech

pytestmark = [pytest.mark.process, pytest.mark.hostile]


def flac(pcm: speech.Pcm) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, pcm, speech.RATE_HZ, format="FLAC", subtype="PCM_16")
    return file.getvalue()


def failures(workplace: pipeline.Workplace) -> list[tuple[int, str]]:
    document = json.loads(workplace.run("logs", workplace.keys().run, "--json").out)
    return [(item["span"], item["failure"]) for item in document["failures"]]


@pytest.mark.parametrize("audio", ["nothing", "noise", "another chunk's", "hours"])
def test_chunk_audio_that_was_changed_is_cut_again_and_the_words_are_the_same(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed, audio: str
) -> None:
    media = undisturbed.lay(workplace, 0)
    keys = workplace.keys()
    match audio:
        case "nothing":
            data = b""
        case "noise":
            data = os.urandom(50_000)
        case "another chunk's":
            data = workplace.store.get(keys.audio(2))
        case _:
            data = flac(np.zeros(2 * 3600 * speech.RATE_HZ, np.int16))
    workplace.store.put(keys.audio(1), data)
    ended = workplace.transcribe(media, *pipeline.CUT)
    assert ended.code == 0, ended.err
    assert workplace.outputs == undisturbed.outputs
    assert failures(workplace) == [(1, "CHUNK_DAMAGED")]
    assert "the chunk is cut again" in workplace.run("logs", keys.run).out


def test_a_task_that_was_changed_is_written_again_and_never_run(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed
) -> None:
    media = undisturbed.lay(workplace, 0, 2)
    keys = workplace.keys()
    task = json.loads(workplace.store.get(keys.task(1)))
    evil = task | {"options": task["options"] | {"model": str(workplace.folder / "evil")}}
    workplace.store.put(keys.task(1), json.dumps(evil).encode())
    ended = workplace.transcribe(media, *pipeline.CUT)
    assert ended.code == 0, ended.err
    assert workplace.outputs == undisturbed.outputs
    assert json.loads(workplace.store.get(keys.task(1))) == task
    assert "is invalid and was removed" in ended.err


def test_a_run_without_anything_under_work_is_done_once_more(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed
) -> None:
    media = undisturbed.lay(workplace, 0, 1, 2)
    keys = workplace.keys()
    for entry in list(workplace.store.list(keys.work)):
        workplace.store.delete(entry.key)
    assert workplace.store.stat(keys.plan)
    ended = workplace.transcribe(media, *pipeline.CUT)
    assert ended.code == 0, ended.err
    assert workplace.outputs == undisturbed.outputs


def test_another_users_folder_in_a_shared_scratch_folder_is_not_entered(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed
) -> None:
    scratch, trap = workplace.folder / "scratch", workplace.folder / "trap"
    scratch.mkdir()
    trap.mkdir()
    (trap / "file").touch()
    media = undisturbed.lay(workplace, 0, 1)
    run = RunKeys(workplace.keys().run).run
    (scratch / f"stenofleet-{run}").symlink_to(trap)
    ended = workplace.transcribe(media, *pipeline.CUT, "--scratch-dir", scratch)
    assert ended.code == 0, ended.err
    assert [path.name for path in trap.iterdir()] == ["file"]
    assert Path(scratch / f"stenofleet-{run}").is_symlink()
