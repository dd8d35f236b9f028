"""``plan``: exactly what the intake and the runner would do, and nothing is changed."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from kubernetes.client import ApiClient, V1Job

from chunk_job.contract import TranscribeOptions, sha256_hex
from chunk_job.store.files import FileStore
from controller import cli
from controller.cli import devices
from controller.cli.manifests import as_yaml, documents
from controller.cli.options import CLUSTER_THREADS
from controller.domain.actions import Submit
from controller.domain.interfaces import RunRequest
from controller.domain.plan import Plan, PlanOptions
from controller.intake import __main__ as intake
from controller.intake import source
from controller.intake.dry_run import dry_run
from controller.runners.kubernetes.job_memory import weights_mb
from controller.runners.kubernetes.job_options import JobOptions
from controller.runners.kubernetes.manifest import Owner, job_document
from controller.runs.repository import RunRepository
from controller.runs.run_requests import make_run_request
from tests import clicks, speech
from tests.controller.runners.kubernetes import test_manifest

pytestmark = pytest.mark.process

CUT = ("--chunk-duration", "20", "--chunking-threshold", "0")
CLUSTER = ("--runner", "kubernetes", "--namespace", "team", "--store", "s3://media/runs")


@dataclass(frozen=True, kw_only=True)
class Printed:
    code: int
    out: str
    err: str


class CommandLine:
    """The command line in this process."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self._capture = capture

    def __call__(self, *arguments: str) -> Printed:
        code = cli.run(["plan", *arguments])
        printed = self._capture.readouterr()
        assert "Traceback" not in printed.err
        return Printed(code=code, out=printed.out, err=printed.err)

    def json(self, *arguments: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self(*arguments, "--json").out)
        return found


@pytest.fixture
def plan(working_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    monkeypatch.setattr(devices, "GPU_DEVICES", ())
    # Neither exists: a command that asks the store or the cluster fails.
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://minio.invalid:9000")
    monkeypatch.setenv("KUBECONFIG", str(working_folder / "no-kubeconfig"))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "hush-id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-key")
    return CommandLine(capsys)


@pytest.fixture
def talk(working_folder: Path) -> str:
    speech.write_tape(working_folder / "talk.wav", seconds=64, seed=1)
    return "talk.wav"


def cut_for_real(run_request: RunRequest, store: FileStore) -> RunRepository:
    """The run after its intake."""
    repository = RunRepository(store, run_request.record, run_request.request)
    repository.open()
    job = repository.job(Submit(span=None, attempt=1))
    intake.run_intake(store, job.task_key, task_sha256=job.task_sha256)
    planned = RunRepository(store, run_request.record, run_request.request)
    planned.open()
    return planned


def requested(name: str, **options: Any) -> RunRequest:
    return make_run_request(
        source.inspect(name),
        None,
        plan=PlanOptions(chunk_ms=20_000, threshold_ms=0),
        options=TranscribeOptions(**options),
        audio_track=None,
        on_chunk_failure="fail",
        keep_chunks=False,
    )


# ---------------------------------------------------------------- what the intake would do


def test_chunks_bytes_and_run_are_those_of_a_real_intake(plan: CommandLine, talk: str, store: FileStore) -> None:
    found = plan.json(talk, *CUT, "--threads", "1")["recordings"][talk]
    repository = cut_for_real(requested(talk, cpu_threads=1), store)
    keys = repository.keys
    real = json.loads(Plan.decode(store.get(keys.plan)).encode())
    assert {name: found[name] for name in real} == real
    sizes = [entry.size_bytes for entry in sorted(store.list(keys.audios), key=lambda entry: entry.key)]
    assert (found["chunk_bytes"], found["bytes"]) == (sizes, sum(sizes))
    assert found["jobs"] == {"intake": 1, "chunks": 3}


def test_the_table_says_how_good_each_cut_is(plan: CommandLine, talk: str) -> None:
    rows = [line for line in plan(talk, *CUT).out.splitlines() if re.match(r" +[0-9]+  0:", line)]
    for row in rows[:2]:
        assert re.search(r" s  pause   [01]\.[0-9][0-9] s, [2-9][0-9] dB below speech$", row)
    assert rows[2].endswith(" s  end")
    cuts = plan.json(talk, *CUT)["recordings"][talk]["cuts"]
    assert f"pause   {cuts[0]['pause_ms'] / 1000:.2f} s, {cuts[0]['below_speech_db']:.0f} dB below" in rows[0]
    assert cuts[2] is None


def test_all_audio_tracks_are_listed_with_the_one_that_is_used(plan: CommandLine, working_folder: Path) -> None:
    speech.write_wav(working_folder / "one.wav", speech.silence(2))
    clicks.ffmpeg(
        *("-i", "one.wav", "-i", "one.wav", "-map", "0", "-map", "1", "-c:a", "flac"),
        *("-metadata:s:a:0", "language=eng", "-metadata:s:a:1", "language=por", "two.mkv"),
    )
    tracks = plan.json("two.mkv", "--language", "pt")["recordings"]["two.mkv"]["tracks"]
    assert [(track["number"], track["language"], track["chosen"]) for track in tracks] == [
        (0, "eng", False),
        (1, "por", True),
    ]
    lines = plan("two.mkv", "--language", "pt").out.splitlines()
    assert [line for line in lines if "audio track" in line] == [
        "  audio track 1 (used): flac, por, 1 channel, 16000 Hz",
        "  audio track 0: flac, eng, 1 channel, 16000 Hz, default",
    ]


# ---------------------------------------------------------------- what it would take


@pytest.mark.parametrize(
    "device,other,wanted", [("cpu", "gpu", "--cpu-hour-price"), ("cuda", "cpu", "--gpu-hour-price")]
)
def test_a_price_of_other_hardware_is_said_to_be_the_wrong_one(
    plan: CommandLine, talk: str, device: str, other: str, wanted: str
) -> None:
    found = plan(talk, "--device", device, f"--{other}-hour-price", "2")
    assert f"no cost is shown: for these jobs it takes {wanted}" in found.err
    assert "no cost" not in plan(talk, "--device", device, wanted, "2").err
    assert "no cost" not in plan(talk, "--device", device).err


def test_several_recordings_share_the_gpus(plan: CommandLine, talk: str, working_folder: Path) -> None:
    speech.write_wav(working_folder / "short.wav", speech.silence(2))
    options = (*CUT, "--device", "cuda", "--speed", "2", "--job-overhead", "8", "--max-parallel", "2")
    found = plan.json(talk, "short.wav", *options, "--gpu-hour-price", "3.6")
    total = found["total"]
    each = [one["estimate"] for one in found["recordings"].values()]
    assert total["recordings"] == 2
    assert total["jobs"] == {"intake": 2, "chunks": 4}
    assert total["bytes"] == sum(one["bytes"] for one in found["recordings"].values())
    # 64 s and 2 s of sound at twice real time, and 8 s for each of the four jobs.
    assert total["estimate"]["job_s"] == total["estimate"]["gpu_s"] == sum(one["gpu_s"] for one in each) == 65
    assert total["estimate"]["cost"] == pytest.approx(0.065)
    assert 65 / 2 < total["estimate"]["wall_s"] < sum(one["wall_s"] for one in each)
    assert found["speed"] == {
        "times_real_time": 2,
        "overhead_s": 8,
        "origin": "option",
        "jobs_at_once": 2,
        "gpus_of_a_job": 1,
    }
    result = plan(talk, "short.wav", *options)
    last = result.out.splitlines()[-2:]
    assert re.fullmatch(r"all 2: 0:01:06, 2 intakes, 4 chunk jobs, [0-9.]+ [kM]B to store", last[0])
    assert re.fullmatch(r"  about 1\.1 GPU minutes in 4 jobs, 3[0-9] s with 2 GPUs", last[1])
    assert result.err == ""


def test_recordings_of_equal_content_are_one_run(plan: CommandLine, talk: str, working_folder: Path) -> None:
    (working_folder / "copy.wav").write_bytes((working_folder / talk).read_bytes())
    options = (*CUT, "--speed", "2", "--job-overhead", "8")
    alone, both = plan.json(talk, *options)["total"], plan.json(talk, "copy.wav", *options)["total"]
    assert both == alone | {"recordings": 2}
    last = plan(talk, "copy.wav", *options).out.splitlines()[-2:]
    assert re.fullmatch(r"all 2: 0:02:08, 1 intake, 3 chunk jobs, [0-9.]+ MB to store, equal recordings once", last[0])
    assert " in 3 jobs, " in last[1]
    yaml_options = (*CUT, *CLUSTER, "-o", "yaml", "--model", "small")
    assert plan(talk, "copy.wav", *yaml_options).out == plan(talk, *yaml_options).out


def test_each_channel_that_is_transcribed_takes_time(plan: CommandLine, talk: str, working_folder: Path) -> None:
    speech.encode(working_folder / talk, working_folder / "call.wav", "-ac", "2")
    options = (*CUT, "--speed", "2", "--job-overhead", "0")
    mixed = plan.json("call.wav", *options)["total"]["estimate"]
    split = plan.json("call.wav", *options, "--channels", "split")["total"]["estimate"]
    assert (mixed["job_s"], split["job_s"]) == (32, 64)


def test_without_a_speed_the_figures_of_such_a_model_are_used_and_named(plan: CommandLine, talk: str) -> None:
    result = plan(talk, "--model", "large-v3-turbo", *CLUSTER, "--gpus", "2", "--max-parallel", "4")
    assert "about 0.3 GPU minutes in 1 job, 10 s with 8 GPUs" in result.out
    assert "1 intake on this machine, 1 chunk job" in result.out
    assert "400 times real time and 10 s of each job beside it" in result.err
    assert plan.json(talk)["speed"]["origin"] == "table"


# ---------------------------------------------------------------- the Jobs


def test_the_manifests_are_those_of_the_runner(plan: CommandLine, talk: str, store: FileStore) -> None:
    result = plan(talk, *CUT, *CLUSTER, "-o", "yaml", "--model", "small", "--model-claim", "models", "--queue", "q")
    assert (result.code, result.err) == (0, "")
    assert "&id" not in result.out
    found = list(yaml.safe_load_all(result.out))

    repository = cut_for_real(requested(talk, model="small", device="cuda", cpu_threads=CLUSTER_THREADS), store)
    version = found[0]["metadata"]["labels"]["app.kubernetes.io/version"]
    options = JobOptions(
        chunk_image=f"stenofleet-chunk-job:{version}", intake_image=f"stenofleet-controller:{version}",
        store_url="s3://media/runs", version=version, namespace="team", s3_endpoint="http://minio.invalid:9000",
        model_mb=weights_mb("small"), model_claim="models", queue="q", cpu=str(CLUSTER_THREADS),
    )  # fmt: skip
    owner = Owner(name=f"sf-{repository.record.run}", uid="00000000-0000-0000-0000-000000000000")
    jobs = [repository.job(Submit(span=span, attempt=1)) for span in range(3)]
    assert found == [job_document(job, options, owner) for job in jobs]
    for document in found:
        read = V1Job.model_validate(document)
        assert ApiClient().sanitize_for_serialization(read) == document  # type: ignore[no-untyped-call]


def test_the_intake_of_an_object_is_a_job_too(plan: CommandLine, talk: str, store: FileStore) -> None:
    run_request = requested(talk)
    dry = dry_run(run_request.request.source, run_request.record)
    moved = run_request.request.source.model_copy(update={"uri": "s3://media/talk.wav"})
    there = RunRequest(record=run_request.record, request=run_request.request.model_copy(update={"source": moved}))
    repository = RunRepository(store, there.record, there.request)
    repository.open()
    options = JobOptions(chunk_image="c", intake_image="i", store_url="s3://media/runs", version="1")
    first, *rest = documents(there, dry, options)
    owner = Owner(name=f"sf-{there.record.run}", uid=first["metadata"]["ownerReferences"][0]["uid"])
    assert first == job_document(repository.job(Submit(span=None, attempt=1)), options, owner)
    assert len(rest) == len(dry.chunks)
    task = store.get(first["metadata"]["annotations"]["stenofleet.io/task"])
    assert first["metadata"]["annotations"]["stenofleet.io/task-sha256"] == sha256_hex(task)


@pytest.mark.parametrize(
    "text",
    [
        "1234e56789012345",
        "1234567890123456",
        "00008",
        "0o17",
        "0x1f",
        "0_8",
        "+1e5",
        "-.5",
        "5.",
        "yes",
        "n",
        "+_1",
        "7e_+8",
        "~",
        "1:30",
    ],
)
def test_text_that_a_parser_may_read_as_something_else_is_quoted(text: str) -> None:
    # kubectl label --local reads each of them as text then; without quotes 00008 is 8 there.
    assert as_yaml({"a": text}) == f"a: '{text}'\n"


def test_every_manifest_is_the_same_after_yaml() -> None:
    made = [test_manifest.chunk(**changes) for changes, _ in test_manifest.EVERYWHERE.values()]
    made += [test_manifest.intake(**changes) for changes, _ in test_manifest.EVERYWHERE.values()]
    assert [yaml.safe_load(as_yaml(document)) for document in made] == made
    assert len(made) > 30


def test_no_secret_is_in_the_manifests(plan: CommandLine, talk: str) -> None:
    secret = "proxy=http://user:hush@proxy:3128"
    for arguments in (("-o", "yaml"), ("--json",), ()):
        result = plan(talk, *CLUSTER, "--job-env", secret, *arguments)
        assert result.code == 0
        assert "hush" not in result.out + result.err
    assert "http://***@proxy:3128" in plan(talk, *CLUSTER, "--job-env", secret, "-o", "yaml").out


def test_nothing_is_written(plan: CommandLine, talk: str, working_folder: Path) -> None:
    folder = working_folder / "store"
    before = sorted(working_folder.rglob("*"))
    local = ("--store", folder.as_uri())
    for arguments in ((*CLUSTER, "-o", "yaml"), (*CLUSTER, "--json"), (*local, "--json"), local):
        assert plan(talk, *CUT, *arguments).code == 0
    assert sorted(working_folder.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments,message",
    [
        (("-o", "yaml"), "-o yaml: shows the Jobs of a cluster, but jobs run here\n  add --runner kubernetes"),
        ((*CLUSTER, "-o", "yaml", "--json"), "-o yaml and --json contradict each other"),
        (("--runner", "kubernetes", "--namespace", "n", "-o", "yaml", "--store", "/folder"), "pods cannot reach file:"),
        (("--speed", "2", "--like", "aaaa"), "--like and --speed contradict each other"),
        (("--job-overhead", "2"), "--job-overhead: is only for --speed"),
        (("--queue", "q"), "--queue: only for jobs on a cluster, but jobs run here"),
    ],
)
def test_options_that_contradict_each_other(
    plan: CommandLine, talk: str, arguments: tuple[str, ...], message: str
) -> None:
    result = plan(talk, *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_without_a_namespace_the_kubeconfig_is_read(plan: CommandLine, talk: str) -> None:
    arguments = [one for one in CLUSTER if one not in ("--namespace", "team")]
    result = plan(talk, *arguments, "-o", "yaml")
    assert (result.code, "no cluster: KUBECONFIG is" in result.err) == (3, True)
