"""Whole runs with their store in S3: the same bytes as in a folder, resumed after kills, and no secret anywhere."""

import contextlib
import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunk_job.store.open_store import open_store
from tests import pipeline, speech
from tests.testbed.s3_server import OwnServer, Server

OUTAGE_S = 60
"""Seconds. Longer than all retries inside the store, so that the command itself must wait."""


@pytest.fixture
def workplace(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[pipeline.Workplace]:
    workplace = pipeline.Workplace(tmp_path / "workplace")
    yield workplace
    workplace.clear()


@pytest.fixture
def there(bucket: str) -> dict[str, str]:
    """The store of the commands of this test."""
    return {"STENOFLEET_STORE": f"s3://{bucket}/team/talks"}


def test_a_run_gives_the_same_bytes_as_in_a_folder_and_keeps_its_secrets(
    server: Server, bucket: str, workplace: pipeline.Workplace, there: dict[str, str], undisturbed: pipeline.Undisturbed
) -> None:
    command = workplace.start("transcribe", "-o", workplace.out, undisturbed.media, *pipeline.CUT, env=there)
    seen = set()
    while command.process.poll() is None:
        for pid in workplace.processes():
            try:
                seen.add(Path(f"/proc/{pid}/cmdline").read_bytes())
            except OSError:
                continue
        for log in workplace.folder.rglob("log"):
            # A job that has ended is removed meanwhile.
            with contextlib.suppress(OSError):
                seen.add(log.read_bytes())
        time.sleep(0.05)
    ended = command.ended()
    assert ended.code == 0, ended.err
    assert workplace.outputs == undisturbed.outputs
    # Commands of the controller, the intake and three chunks at least.
    assert len([line for line in seen if b"--store" in line]) >= 4

    store = open_store(there["STENOFLEET_STORE"])
    objects = {entry.key: store.get(entry.key) for entry in store.list("")}
    assert {key.rpartition("/")[2] for key in objects} >= {"_SUCCESS", "plan.json", "transcript.json", "run.json"}
    names = {entry.object_name or "" for entry in server.client().list_objects(bucket_name=bucket, recursive=True)}
    assert all(name.startswith("team/talks/") for name in names)
    files = [path.read_bytes() for path in workplace.folder.rglob("*") if path.is_file()]
    for secret in (server.access_key, server.secret_key):
        for text in (*objects.values(), *files, *seen, ended.err.encode(), ended.out.encode()):
            assert secret.encode() not in text

    assert "complete" in workplace.run("list", env=there).out
    assert workplace.run("clean", "--all", "--yes", env=there).code == 0
    # What was written to output folders is still known, and what the run used.
    assert {entry.key.partition("/")[0] for entry in store.list("")} == {"ledger", "written"}


@pytest.mark.parametrize("point", ["chunk.transcribed.00001.a1", "chunk.committed.00001.a1", "run.transcript.srt"])
def test_a_killed_command_is_given_again(
    workplace: pipeline.Workplace, there: dict[str, str], undisturbed: pipeline.Undisturbed, point: str
) -> None:
    here = workplace.meeting()
    command = workplace.start(
        "transcribe", "-o", workplace.out, undisturbed.media, *pipeline.CUT, env=there, crash=f"{point}=hold:{here}"
    )
    pipeline.until(here.exists, point)
    command.kill()
    workplace.quiet()
    store = open_store(there["STENOFLEET_STORE"])
    before = {e.key: e.modified_s for e in store.list("") if "/results/" in e.key}
    ended = workplace.transcribe(undisturbed.media, *pipeline.CUT, env=there)
    assert ended.code == 0, ended.err
    assert workplace.outputs == undisturbed.outputs
    after = {e.key: e.modified_s for e in store.list("") if "/results/" in e.key}
    assert after.items() >= before.items()


@pytest.mark.timeout(240)
def test_gates_measure_what_is_left_out_of_a_bucket(
    bucket: str, workplace: pipeline.Workplace, there: dict[str, str]
) -> None:
    talks = open_store(f"s3://{bucket}/talks")
    for number in range(3):
        talks.put_file(
            f"{number}.wav", speech.write_wav(workplace.folder / "a.wav", speech.tape(seconds=5, seed=number))
        )
    options = ("-o", f"s3://{bucket}/text", "-f", "txt", *pipeline.CUT, "--min-confidence", "1")
    command = ("transcribe", f"s3://{bucket}/talks/", *options)
    assert workplace.run(*command, env=there).code == 7
    again = workplace.run(*command, "--skip-existing", "--json", env=there)
    facts = json.loads(again.out)
    assert (again.code, facts["runs"], len(facts["skipped"])) == (7, [], 3), again.err
    sources = [f"s3://{bucket}/talks/{number}.wav" for number in range(3)]
    assert [(one["source"], one["gates"][0]["kept"]) for one in facts["measured"]] == [(one, False) for one in sources]


def test_an_outage_of_the_store_in_the_middle_of_a_run(
    mortal: OwnServer, workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed, environment: pytest.MonkeyPatch
) -> None:
    for name, value in mortal.environment.items():
        environment.setenv(name, value)
    with mortal.bucket() as bucket:
        there = {"STENOFLEET_STORE": f"s3://{bucket}"}
        here = workplace.meeting()
        # The job of chunk 1 is held with its result until it is killed; the others work during the outage.
        command = workplace.start(
            *("transcribe", "-o", workplace.out, undisturbed.media, *pipeline.CUT),
            env=there,
            crash=f"chunk.transcribed.00001.a1=hold:{here}",
        )
        pipeline.until(here.exists, "a chunk is transcribed")
        mortal.kill()
        command.wait_for_output("waiting up to")
        time.sleep(OUTAGE_S)
        assert command.process.poll() is None
        mortal.start()
        workplace.kill_all("chunk_job")
        ended = command.ended()
        assert ended.code == 0, ended.err
        assert workplace.outputs == undisturbed.outputs


@pytest.mark.parametrize("away", ["hangs", "is down"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_command_during_an_outage_of_its_store(
    mortal: OwnServer,
    workplace: pipeline.Workplace,
    undisturbed: pipeline.Undisturbed,
    environment: pytest.MonkeyPatch,
    away: str,
    number: int,
) -> None:
    for name, value in mortal.environment.items():
        environment.setenv(name, value)
    with mortal.bucket() as bucket:
        here = workplace.meeting()
        command = workplace.start(
            *("transcribe", "-o", workplace.out, undisturbed.media, *pipeline.CUT),
            env={"STENOFLEET_STORE": f"s3://{bucket}"},
            crash=f"chunk.transcribed.00001.a1=hold:{here}",
        )
        pipeline.until(here.exists, "a chunk is transcribed")
        if away == "hangs":
            mortal.stop()
        else:
            mortal.kill()
        time.sleep(3)  # the outage starts in the middle of a request
        command.process.send_signal(number)
        try:
            # It does not wait for the store, which would take ten minutes.
            assert command.ended(patience_s=60).code == 128 + number
        finally:
            mortal.kill()
            mortal.start()
        workplace.quiet()


def test_a_store_that_denies_access_ends_the_command_with_advice(
    workplace: pipeline.Workplace, bucket: str, undisturbed: pipeline.Undisturbed, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-key")
    ended = workplace.transcribe(undisturbed.media, *pipeline.CUT, env={"STENOFLEET_STORE": f"s3://{bucket}"})
    assert ended.code == 3, ended.err
    assert "SignatureDoesNotMatch" in ended.err
    assert "AWS_SECRET_ACCESS_KEY" in ended.err
    assert "not-the-right-key" not in ended.err
    assert "Traceback" not in ended.err


def test_a_bucket_that_is_missing_ends_the_command_with_advice(
    workplace: pipeline.Workplace, undisturbed: pipeline.Undisturbed
) -> None:
    ended = workplace.transcribe(undisturbed.media, *pipeline.CUT, env={"STENOFLEET_STORE": "s3://stenofleet-nowhere"})
    assert ended.code == 3, ended.err
    assert "create the bucket" in ended.err
    assert "Traceback" not in ended.err
