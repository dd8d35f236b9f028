"""Every command of the README, of the tutorials and of the everyday commands for one machine, as a reader types it."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from controller import demo
from tests import documented
from tests.documented import ON_THIS_MACHINE
from tests.ports import free_port
from tests.testbed import hub
from tests.testbed.s3_server import OwnServer

pytestmark = pytest.mark.timeout(900)

RUN = "30abb38a"
"""The id that pages show for a run of talk.mp4."""


@pytest.fixture
def reader(tmp_path: Path, mortal: OwnServer) -> Iterator[dict[str, str]]:
    """The variables of a reader with recordings in *tmp_path*, two buckets, and a hub with models."""
    documented.checkout(tmp_path)
    for name in ("archive", "talks", "references", "in", "out"):
        (tmp_path / name).mkdir()
    for name in ("talk.mp4", "lecture.m4a", "archive/a.mp3", "talks/b.m4a", "live.wav", "chunk_001.mp3"):
        sound(tmp_path / name)
    sound(tmp_path / "call.wav", "-ac", "2")
    (tmp_path / "list.csv").write_text("source,language\narchive/a.mp3,en\n", encoding="utf-8")
    (tmp_path / "references" / "talk.txt").write_text("one. two. three. four.\n", encoding="utf-8")
    for bucket in ("media", "team"):
        mortal.client().make_bucket(bucket_name=bucket)
    mortal.client().fput_object(bucket_name="media", object_name="talk.mp4", file_path=str(tmp_path / "talk.mp4"))
    with hub.serving("127.0.0.1", demo.MODEL) as models:
        yield documented.environment(tmp_path) | mortal.environment | {"HF_ENDPOINT": models.url}


def sound(path: Path, *options: str) -> None:
    """Ten seconds of the sample."""
    subprocess.run(
        ["ffmpeg", "-v", "error", "-i", demo.SAMPLE, "-t", "10", *options, path], check=True, stdin=subprocess.DEVNULL
    )


@pytest.mark.parametrize("page", ON_THIS_MACHINE)
def test_every_command_works_and_prints_what_the_page_shows(page: str, tmp_path: Path, reader: dict[str, str]) -> None:
    others = [block for other in documented.ON_A_CLUSTER for block in documented.blocks(other)]
    elsewhere = {command for block in others for command in block.commands}
    blocks = [one for one in documented.blocks(page) if not set(one.commands) <= elsewhere]
    assert blocks
    first = ["stenofleet model fetch small", "stenofleet model fetch medium"] if page.startswith("docs/how-to") else []
    commands = [
        command.replace("rtsp://…", "live.wav").replace(RUN, documented.RUN_OF_TALK)
        for block in blocks
        for command in block.commands
    ]
    activated = [". .venv/bin/activate", *first, *commands]
    done = documented.typed(activated, tmp_path, reader, port=free_port())
    assert done.code == 0, done.printed
    for block in blocks:
        assert not done.lacks(block.shown), done.printed


def test_a_command_that_does_something_else_than_the_page_says_is_noticed(tmp_path: Path) -> None:
    here = documented.environment(tmp_path)
    assert documented.typed(["true", "false", "echo no"], tmp_path, here, port=1).code == 99
    assert documented.typed(["false  # exit code 1"], tmp_path, here, port=1).code == 0
    assert documented.typed(["true  # exit code 1"], tmp_path, here, port=1).code == 99
    done = documented.typed(["echo 12 of 30 at 0:07", "echo /tmp/x/talk.txt"], tmp_path, here, port=1)
    assert done.lacks(["1 of 3 at 1:10", "…/talk.txt", "…/talk.vtt"]) == ["…/talk.vtt"]
