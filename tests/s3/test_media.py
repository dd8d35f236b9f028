"""Recordings and transcripts in S3, and commands of two machines on one run."""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from controller.errors import EnvironmentProblem, MediaProblem
from controller.intake import source
from tests import pipeline, speech
from tests.testbed.proxy import Fault, Proxy


@pytest.fixture
def workplace(tmp_path: Path, environment: pytest.MonkeyPatch) -> Iterator[pipeline.Workplace]:
    workplace = pipeline.Workplace(tmp_path / "workplace")
    yield workplace
    workplace.clear()


@pytest.fixture
def uploads(environment: pytest.MonkeyPatch, bucket: str) -> Store:
    return open_store(f"s3://{bucket}")


def same_words(one: bytes, other: bytes) -> bool:
    """Whether two transcripts differ only in the identity of their source."""
    return one.partition(b'"source":')[0] == other.partition(b'"source":')[0]


# ---------------------------------------------------------------- as input and output


@pytest.mark.parametrize("key", ["talk.wav", "a b/what? #1 100%41.wav", "日本/ã.b.wav", "no-extension"])
def test_an_object_is_transcribed_like_a_file_and_leaves_nothing_behind(
    workplace: pipeline.Workplace, uploads: Store, bucket: str, talk: Path, wanted: Mapping[str, bytes], key: str
) -> None:
    uploads.put_file(key, talk)
    scratch = workplace.folder / "scratch"
    ended = workplace.transcribe(f"s3://{bucket}/{key}", *pipeline.CUT, "--scratch-dir", scratch)
    assert ended.code == 0, ended.err
    stem = Path(key).stem
    assert set(workplace.outputs) == {f"{stem}.{extension}" for extension in ("txt", "srt", "vtt", "tsv", "json")}
    assert workplace.outputs[f"{stem}.srt"] == wanted["talk.srt"]
    assert same_words(workplace.outputs[f"{stem}.json"], wanted["talk.json"])
    assert list(scratch.iterdir()) == []
    assert workplace.leftovers() == []
    again = workplace.transcribe(f"s3://{bucket}/{key}", *pipeline.CUT)
    assert (again.code, "already complete" in again.err) == (0, True)


def test_a_prefix_stands_for_its_recordings_and_its_tree_is_kept(
    workplace: pipeline.Workplace, uploads: Store, bucket: str
) -> None:
    for number, key in enumerate(("box/cd1/01.wav", "box/cd2/01.wav", "box/notes.txt", "boxes/x.wav")):
        file = speech.write_wav(workplace.folder / f"{number}.wav", speech.silence(1 + number / 10, noise_db=-60))
        uploads.put_file(key, file)
    ended = workplace.transcribe(f"s3://{bucket}/box/", *pipeline.SMALL, "-f", "txt")
    assert ended.code == 0, ended.err
    assert ended.paths == [workplace.out / "cd1" / "01.txt", workplace.out / "cd2" / "01.txt"]
    copied = workplace.run("transcribe", f"s3://{bucket}/box/", *pipeline.SMALL, "-f", "txt", "-o", f"s3://{bucket}/o")
    assert copied.code == 0, copied.err
    assert [entry.key for entry in uploads.list("o/")] == ["o/cd1/01.txt", "o/cd2/01.txt"]


def test_outputs_of_one_machine_are_replaced_by_another_one_unless_a_person_changed_them(
    workplace: pipeline.Workplace, uploads: Store, bucket: str
) -> None:
    """As the pods of a cluster: they share the store and the outputs, and each has an empty state folder."""
    file = speech.write_wav(workplace.folder / "talk.wav", speech.tape(seconds=8, seed=1))
    store = {"STENOFLEET_STORE": f"s3://{bucket}/team"}
    command = ("transcribe", file, *pipeline.SMALL, "-f", "txt,srt", "-o", f"s3://{bucket}/out")

    def run(pod: str, *options: str) -> pipeline.Ended:
        return workplace.run(*command, *options, env=store | {"XDG_STATE_HOME": str(workplace.folder / pod)})

    assert run("one").code == 0
    uploads.put("out/talk.srt", b"CORRECTED")
    before = uploads.get("out/talk.txt")
    ended = run("two", "--task", "translate", "--batch-size", "0", "--clip-timestamps", "0,3")
    assert ended.code == 0, ended.err
    assert uploads.get("out/talk.txt") != before
    assert uploads.get("out/talk.srt") == b"CORRECTED"
    assert "talk.srt is kept" in ended.err


def test_transcripts_go_to_a_bucket(
    workplace: pipeline.Workplace, uploads: Store, bucket: str, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    folder = f"s3://{bucket}/out put/2026"
    ended = workplace.run("transcribe", talk, *pipeline.CUT, "-o", f"{folder}/", "-f", "srt,json")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == [f"{folder}/talk.srt", f"{folder}/talk.json"]
    assert uploads.get("out put/2026/talk.srt") == wanted["talk.srt"]
    assert uploads.get("out put/2026/talk.json") == wanted["talk.json"]
    rendered = workplace.run("render", workplace.keys().run, "-f", "vtt", "-o", folder)
    assert (rendered.code, rendered.out) == (0, f"{folder}/talk.vtt\n"), rendered.err
    assert uploads.get("out put/2026/talk.vtt") == wanted["talk.vtt"]


def test_a_list_may_mix_files_and_objects_and_names_each_that_fails(
    workplace: pipeline.Workplace, uploads: Store, bucket: str, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    uploads.put_file("in/other.wav", talk)
    uploads.put("in/empty.wav", b"")
    uploads.put("in/noise.wav", b"no media at all" * 99)
    names = [f"s3://{bucket}/in/{name}" for name in ("other.wav", "gone.wav", "empty.wav", "noise.wav")]
    names += [f"s3://{bucket}", "s3://stenofleet-nowhere/lost.wav", str(talk)]
    ended = workplace.transcribe("-", *pipeline.CUT, stdin="\n".join(names).encode())
    assert ended.code == 4, ended.err
    assert workplace.outputs["other.srt"] == workplace.outputs["talk.srt"] == wanted["talk.srt"]
    assert f"s3://{bucket}/in/gone.wav: no such object" in ended.err
    assert f"s3://{bucket}/in/empty.wav: is empty (0 bytes)" in ended.err
    assert f"s3://{bucket}/in/noise.wav: is not media that ffmpeg can read" in ended.err
    assert f"s3://{bucket}: names no object" in ended.err
    assert "s3://stenofleet-nowhere/lost.wav: " in ended.err
    assert "NoSuchBucket" in ended.err
    assert "stenofleet-media-" not in ended.err, "the path of the temporary copy is not shown"
    assert "Traceback" not in ended.err


def test_a_dry_run_looks_into_an_object(workplace: pipeline.Workplace, uploads: Store, bucket: str, talk: Path) -> None:
    uploads.put_file("talk.wav", talk)
    command = ("plan", f"s3://{bucket}/talk.wav", "--chunk-duration", "20", "--chunking-threshold", "0")
    result = workplace.run(*command)
    assert result.code == 0, result.err
    assert result.out.startswith(f"s3://{bucket}/talk.wav: 0:01:04, 3 chunks")
    there = ("--runner", "kubernetes", "--namespace", "team", "--store", f"s3://{bucket}/runs")
    manifests = workplace.run(*command, *there, "--job-s3-endpoint", "http://minio:9000", "-o", "yaml")
    assert manifests.code == 0, manifests.err
    parts = [one["metadata"]["labels"]["stenofleet.io/chunk"] for one in yaml.safe_load_all(manifests.out)]
    assert parts == ["intake", "00000", "00001", "00002"]
    assert [entry.key for entry in uploads.list("")] == ["talk.wav"], "nothing is written"


def test_recording_run_and_transcript_may_all_lie_in_one_bucket(
    workplace: pipeline.Workplace, uploads: Store, bucket: str, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    uploads.put_file("in/talk.wav", talk)
    there = {"STENOFLEET_STORE": f"s3://{bucket}/runs-of-the-team"}
    ended = workplace.run(
        "transcribe", f"s3://{bucket}/in/talk.wav", *pipeline.CUT, "-o", f"s3://{bucket}/out", env=there
    )
    assert ended.code == 0, ended.err
    assert uploads.get("out/talk.srt") == wanted["talk.srt"]
    assert not workplace.out.exists()


# ---------------------------------------------------------------- refused before any work


@pytest.mark.parametrize(
    "folder,code,message",
    [
        ("s3://stenofleet-nowhere/out", 3, "NoSuchBucket"),
        ("s3://", 2, "no bucket and prefix"),
        ("s3://{bucket}/a//b", 2, "no bucket and prefix"),
    ],
)
def test_an_invalid_output_url_is_refused_before_any_work(
    workplace: pipeline.Workplace, bucket: str, talk: Path, folder: str, code: int, message: str
) -> None:
    ended = workplace.run("transcribe", talk, *pipeline.CUT, "-o", folder.format(bucket=bucket))
    assert (ended.code, message in ended.err) == (code, True), ended.err
    assert not (workplace.store.root / "runs").exists()


def test_a_recording_is_never_overwritten_in_a_bucket_either(
    workplace: pipeline.Workplace, uploads: Store, bucket: str
) -> None:
    ended = workplace.run("transcribe", f"s3://{bucket}/a/talk.json", *pipeline.SMALL, "-o", f"s3://{bucket}/a")
    assert ended.code == 2
    assert f"s3://{bucket}/a/talk.json is one of the given files" in ended.err


def test_two_objects_of_one_name_need_two_folders(workplace: pipeline.Workplace, bucket: str) -> None:
    ended = workplace.transcribe(f"s3://{bucket}/a/talk.mp3", f"s3://{bucket}/b/talk.mp3", *pipeline.SMALL)
    assert ended.code == 2
    assert "would both write" in ended.err


def test_too_little_disk_space_is_reported_before_anything_is_fetched(
    workplace: pipeline.Workplace, uploads: Store, bucket: str, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads.put_file("talk.wav", talk)
    src = source.inspect(f"s3://{bucket}/talk.wav").model_copy(update={"size_bytes": 1 << 60})
    with (
        pytest.raises(EnvironmentProblem, match=r"do not fit into .*: \d+ MiB are free there") as full,
        source.at_hand(src),
    ):
        pytest.fail("there is no such disk")
    assert "--scratch-dir" in full.value.advice


# ---------------------------------------------------------------- what an object is known by


def test_an_object_is_known_by_its_content_and_not_by_its_key(uploads: Store, bucket: str) -> None:
    uploads.put("a.wav", b"content")
    uploads.put("b.wav", b"content")
    uploads.put("c.wav", b"Content")
    known = [source.inspect(f"s3://{bucket}/{key}.wav") for key in "abc"]
    assert known[0].identity == known[1].identity != known[2].identity
    assert known[0].size_bytes == 7
    assert source.shown(known[0]) == f"s3://{bucket}/a.wav"


@pytest.mark.parametrize(
    "change,message", [("replaced", "changed while it was being read"), ("deleted", "was deleted")]
)
def test_an_object_that_changes_is_refused(uploads: Store, bucket: str, change: str, message: str) -> None:
    uploads.put("a.wav", b"content")
    src = source.inspect(f"s3://{bucket}/a.wav")
    source.check_unchanged(src)
    with source.at_hand(src) as path:
        assert path.read_bytes() == b"content"
    if change == "replaced":
        uploads.put("a.wav", b"another")
    else:
        uploads.delete("a.wav")
    with pytest.raises(MediaProblem, match=message):
        source.check_unchanged(src)
    if change == "deleted":
        with pytest.raises(MediaProblem, match=message), source.at_hand(src):
            pytest.fail("it is gone")


def test_an_object_behind_a_bad_line_arrives_whole(
    workplace: pipeline.Workplace, proxy: Proxy, uploads: Store, bucket: str, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    uploads.put_file("talk.wav", talk)
    proxy.fault = Fault(kind="cut", after_bytes=1_500_000, times=3)
    ended = workplace.transcribe(f"s3://{bucket}/talk.wav", *pipeline.CUT)
    assert ended.code == 0, ended.err
    assert workplace.outputs["talk.srt"] == wanted["talk.srt"]


def test_a_killed_command_leaves_no_recording_in_the_scratch_folder(
    workplace: pipeline.Workplace, uploads: Store, bucket: str, talk: Path
) -> None:
    uploads.put_file("talk.wav", talk)
    here, scratch = workplace.meeting(), workplace.folder / "scratch"
    name = f"s3://{bucket}/talk.wav"
    command = workplace.start(
        *("transcribe", "-o", workplace.out, name, *pipeline.CUT, "--scratch-dir", scratch),
        crash=f"intake.task.00001=hold:{here}",
    )
    pipeline.until(here.exists, "the intake is held")
    assert [path.stat().st_size for path in scratch.rglob("media.wav")] == [talk.stat().st_size]
    command.kill()
    workplace.quiet()
    ended = workplace.transcribe(name, *pipeline.CUT, "--scratch-dir", scratch)
    assert ended.code == 0, ended.err
    assert list(scratch.iterdir()) == []


# ---------------------------------------------------------------- two machines


def machine(workplace: pipeline.Workplace, bucket: str, name: str) -> dict[str, str]:
    """The environment of a command on a machine that shares only the bucket."""
    return {"STENOFLEET_STORE": f"s3://{bucket}/shared", "XDG_STATE_HOME": os.fspath(workplace.folder / name)}


def test_a_command_on_another_machine_follows_and_writes_files_of_its_own(
    workplace: pipeline.Workplace, bucket: str, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    one, two = machine(workplace, bucket, "one"), machine(workplace, bucket, "two")
    here = workplace.meeting()
    leader = workplace.start(
        "transcribe", "-o", workplace.out, talk, *pipeline.CUT, env=one, crash=f"chunk.transcribed.00001.a1=hold:{here}"
    )
    pipeline.until(here.exists, "the leader's job is held")
    follower = workplace.start("transcribe", "-o", workplace.folder / "other", talk, *pipeline.CUT, env=two)
    follower.wait_for_output("following it")
    clean = workplace.run(
        "clean", "--all", "--yes", env=two | {"XDG_STATE_HOME": os.fspath(workplace.folder / "three")}
    )
    assert (clean.code, "is being worked on" in clean.err) == (4, True)
    workplace.kill_all("chunk_job")
    first, second = leader.ended(), follower.ended()
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert "attempt" not in second.err
    assert workplace.outputs == wanted
    assert {path.name: path.read_bytes() for path in (workplace.folder / "other").iterdir()} == wanted


def test_a_command_takes_over_from_a_dead_machine(
    workplace: pipeline.Workplace, bucket: str, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    one, two = machine(workplace, bucket, "one"), machine(workplace, bucket, "two")
    here = workplace.meeting()
    leader = workplace.start(
        "transcribe", "-o", workplace.out, talk, *pipeline.CUT, env=one, crash=f"chunk.transcribed.00001.a1=hold:{here}"
    )
    pipeline.until(here.exists, "the leader's job is held")
    follower = workplace.start("transcribe", "-o", workplace.out, talk, *pipeline.CUT, env=two)
    follower.wait_for_output("following it")
    leader.kill()
    ended = follower.ended()
    assert ended.code == 0, ended.err
    assert "resuming run" in ended.err
    assert workplace.outputs == wanted
