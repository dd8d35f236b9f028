"""``batch --server`` with processes on both sides: ``stenofleet serve`` with tenants, real jobs, and the commands."""

from pathlib import Path

import pytest

from controller import demo
from controller.service.tokens import new_token, written_digest
from tests import speech
from tests.e2e.test_serve import Replica
from tests.pipeline import Workplace

pytestmark = [pytest.mark.process, pytest.mark.e2e]


def test_a_batch_of_recordings_and_a_broken_one(workplace: Workplace, tape: speech.Tape) -> None:
    token = new_token()
    tenants = workplace.folder / "tenants.toml"
    tenants.write_text(f'[tenants.news]\ntokens = ["{written_digest(token)}"]\n')
    secret = workplace.folder / "token"
    secret.write_text(token)
    talks = workplace.folder / "talks"
    talks.mkdir()
    (talks / "sample.m4a").write_bytes(demo.SAMPLE.read_bytes())
    speech.write_wav(talks / "tape.wav", tape)
    (talks / "broken.mp3").write_bytes(b"no sound at all" * 1000)
    replica = Replica(workplace, "--tenants", str(tenants), token=token)
    replica.client.close()
    server = ("--server", replica.url, "--token-file", str(secret))

    refused = workplace.run("batch", "submit", talks, "--server", replica.url)
    assert (refused.code, "wants a token" in refused.err) == (3, True), refused.err
    sent = workplace.run("batch", "submit", talks, "-f", "txt,srt", *server)
    assert sent.code == 0, sent.err
    batch = sent.out.strip()
    ended = workplace.run("batch", "wait", batch, "-o", workplace.out, *server)
    assert ended.code == 4, ended.err
    assert "3 recordings: 2 complete, 1 failed" in ended.err
    assert token not in sent.err + sent.out + ended.err + ended.out + replica.started.err
    assert set(workplace.outputs) == {"sample.srt", "sample.txt", "tape.srt", "tape.txt"}
    assert {Path(line).name for line in ended.out.splitlines()} == set(workplace.outputs)
    assert b"one" in workplace.outputs["tape.txt"].lower() + workplace.outputs["sample.txt"].lower()
