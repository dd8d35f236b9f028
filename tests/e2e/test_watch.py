"""``stenofleet watch`` while a real run works: on a terminal and elsewhere, with a job that is killed."""

import os
import signal

import pytest

from tests import pipeline
from tests.pipeline import CUT, Workplace, until
from tests.terminals import terminal

pytestmark = [pytest.mark.process, pytest.mark.e2e]


def test_a_run_is_watched_to_its_end(workplace: Workplace, undisturbed: pipeline.Undisturbed) -> None:
    file = workplace.media(undisturbed.media)
    here = workplace.meeting()
    crash = f"chunk.transcribed.00001.a1=hold:{here}"
    running = workplace.start("transcribe", "-o", workplace.out, file, *CUT, crash=crash)
    until(here.exists, "a job waits before its result")
    plain = workplace.start("watch")
    with terminal("watch", "--store", workplace.store.url, columns=60, lines=24) as screen:
        screen.until("▶ chunk 1    running")
        screen.until("✓ done 2   ▶ running 1")
        assert screen.pictures[-1][0].startswith("▶ running  talk.wav")
        plain.wait_for_output("2/3 chunks")
        (job,) = workplace.processes("chunk_job")
        os.kill(job, signal.SIGKILL)
        assert (running.ended().code, screen.ended(), plain.ended().code) == (0, 0, 0)
    last = screen.left_behind
    assert last[0] == "✓ complete  talk.wav"
    assert "✓ done 2   + done after a failure 1" in last
    (failed,) = [at for at, line in enumerate(last) if line.startswith("✕ chunk 1, attempt 1")]
    assert "SIGKILL" in last[failed + 1]
    assert any(line.startswith("◆ cut ") for line in last)
    assert len(last) <= 24
    assert f"{workplace.keys().run}: complete" in last
    assert "talk.wav: chunk 1, attempt 1: " in plain.err
    assert "100% | 3/3 chunks" in plain.err
    assert "\x1b" not in plain.err
