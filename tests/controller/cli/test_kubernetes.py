"""The cluster commands without a cluster: options, refusals, evidence, watching, the doctor on this machine."""

import json
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from chunk_job.contract import TranscribeOptions
from chunk_job.store.files import FileStore
from controller import cli, demo
from controller.cli import doctor, kubernetes, watch
from controller.domain.documents import Evidence, Outcome, Status
from controller.domain.keys import RunKeys
from controller.errors import EnvironmentProblem, UsageProblem
from controller.runners.kubernetes.job_options import JobOptions
from tests import fakes

RUN = fakes.RUN
KEYS = RunKeys(RUN)


class Shared(FileStore):
    """A store that pods could reach."""

    remote = True

    def __init__(self, **environment: str) -> None:
        super().__init__(Path("/somewhere"))
        self.environment = environment


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FileStore:
    store = FileStore(tmp_path / "store")
    monkeypatch.setenv("STENOFLEET_STORE", store.url)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    return store


def put_status(
    store: FileStore,
    *,
    state: Any = "running",
    running: int = 2,
    percent: float = 40.0,
    marker: Any = None,
    age_s: int = 0,
) -> None:
    store.put(KEYS.record, fakes.record().encode())
    status = Status(
        run=RUN, name="talk.mp4", state=state, percent=percent, spans_done=1, spans_known=3, planned=True,
        running=running, failures=0, updated_ms=time.time_ns() // 1_000_000 - age_s * 1000,
    )  # fmt: skip
    store.put(KEYS.status, status.encode())
    if marker:
        outcome = Outcome(run=RUN, verdict=marker, round="0000cafe", summary="so it was", advice="")
        store.put(KEYS.marker(marker), outcome.encode())


# ---------------------------------------------------------------- options


def options_made(*arguments: str, wanted: TranscribeOptions | None = None, **environment: str) -> JobOptions:
    """The options of the cluster's jobs for these arguments."""
    seen: dict[str, Any] = {}

    @kubernetes.options
    def command(**given: Any) -> None:
        seen.update(given)

    import click

    click.command()(command)(args=list(arguments), standalone_mode=False)
    cluster, rest = kubernetes.divided(seen, "kubernetes")
    assert cluster is not None
    assert rest == {}
    store = Shared(**environment)
    return kubernetes.job_options_of(store, wanted or TranscribeOptions(), namespace="team", cluster=cluster)


@pytest.mark.parametrize(
    "spelled,field,value",
    [
        ("--chunk-image r/c:2", "chunk_image", "r/c:2"),
        ("--intake-image r/i:2", "intake_image", "r/i:2"),
        ("--image-pull-policy Always", "image_pull_policy", "Always"),
        ("--image-pull-secret a --image-pull-secret b", "image_pull_secrets", ("a", "b")),
        ("--s3-secret keys", "s3_secret", "keys"),
        ("--job-s3-endpoint http://minio:9000", "s3_endpoint", "http://minio:9000"),
        ("--s3-ca authorities", "s3_ca", "authorities"),
        ("--model-claim models", "model_claim", "models"),
        ("--model-image r/models:1", "model_image", "r/models:1"),
        ("--model-path /mnt", "model_path", "/mnt"),
        ("--kernels-in-store", "kernels_in_store", True),
        ("--gpu-resource nvidia.com/mig-1g.10gb", "gpu_resource", "nvidia.com/mig-1g.10gb"),
        ("--gpus 2", "gpus", 2),
        ("--job-memory 900", "memory_mb", 900),
        ("--job-scratch 64", "scratch_mb", 64),
        ("--node-selector a=b --node-selector c=d=e", "node_selector", {"a": "b", "c": "d=e"}),
        (
            "--toleration spot=yes:NoSchedule --toleration gpu --toleration odd:NoExecute",
            "tolerations",
            (
                {"key": "spot", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
                {"key": "gpu", "operator": "Exists"},
                {"key": "odd", "operator": "Exists", "effect": "NoExecute"},
            ),
        ),
        ("--priority-class low", "priority_class", "low"),
        ("--runtime-class nvidia", "runtime_class", "nvidia"),
        ("--queue speech", "queue", "speech"),
        ("--service-account jobs", "service_account", "jobs"),
        ("--job-env A=1", "env", {"A": "1"}),
    ],
)
def test_an_option_is_what_a_job_is_made_of(spelled: str, field: str, value: object) -> None:
    assert getattr(options_made(*spelled.split()), field) == value


def test_an_option_that_is_not_given_has_the_jobs_own_default() -> None:
    made = options_made()
    version = made.version
    plain = JobOptions(
        chunk_image=f"stenofleet-chunk-job:{version}",
        intake_image=f"stenofleet-controller:{version}",
        store_url="file:///somewhere",
        version=version,
        namespace="team",
        model_mb=1530,
    )
    assert made == plain


@pytest.mark.parametrize(
    "model,given,space_mb",
    [
        ("s3://b/models/turbo", (), 3090),
        ("s3://b/models/turbo", ("--model-claim", "models"), 0),
        ("s3://b/models/turbo", ("--model-image", "r/models:1"), 0),
        ("large-v3", (), 0),
    ],
)
def test_a_pod_has_space_for_its_own_copy_of_a_model(model: str, given: tuple[str, ...], space_mb: int) -> None:
    assert options_made(*given, wanted=TranscribeOptions(model=model)).copied_model_mb == space_mb


@pytest.mark.parametrize("device,made", [("auto", "cuda"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_on_a_cluster_a_job_uses_a_gpu_by_default(device: Any, made: str) -> None:
    wanted = kubernetes.on_gpus(TranscribeOptions(device=device))
    assert (wanted.device, options_made(wanted=wanted).device) == (made, made)


def test_pods_use_the_s3_endpoint_of_this_machine() -> None:
    made = options_made(AWS_ENDPOINT_URL_S3="https://minio.example", AWS_REGION="here-1")
    assert (made.s3_endpoint, made.s3_region) == ("https://minio.example", "here-1")


def test_the_word_none_means_no_secret_because_an_empty_variable_counts_as_not_given() -> None:
    assert options_made("--s3-secret", "none").s3_secret == ""
    assert options_made("--s3-secret", "mine").s3_secret == "mine"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_loopback_address_is_no_address_for_pods(host: str) -> None:
    with pytest.raises(UsageProblem, match="this address is local to this machine") as refused:
        options_made(AWS_ENDPOINT_URL_S3=f"http://{host}:9000")
    assert "--job-s3-endpoint" in refused.value.advice


@pytest.mark.parametrize("spelled", ["--node-selector a", "--job-env =b"])
def test_an_invalid_pair_is_refused(spelled: str) -> None:
    with pytest.raises(Exception, match="is not KEY=VALUE"):
        options_made(*spelled.split())


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"])
def test_a_secret_may_not_be_given_as_a_plain_variable(name: str) -> None:
    with pytest.raises(Exception, match="into the Secret that") as refused:
        options_made("--job-env", f"{name}=hush")
    assert "hush" not in str(refused.value)


def test_an_address_with_a_password_is_refused_and_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageProblem, match="the address of S3 contains a user name") as refused:
        options_made("--job-s3-endpoint", "http://me:hush@minio:9000")
    assert "hush" not in refused.value.summary + refused.value.advice


@pytest.mark.process  # the client library opens a socket to detect IPv6
def test_a_folder_is_no_store_for_pods(
    store: FileStore, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kubeconfig").write_text(
        json.dumps(
            {
                "current-context": "c",
                "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
                "clusters": [{"name": "c", "cluster": {"server": "https://127.0.0.1:1"}}],
                "users": [{"name": "u", "user": {"token": "t"}}],
            }
        )
    )
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "kubeconfig"))
    assert cli.run(["transcribe", str(demo.SAMPLE), "--runner", "kubernetes"]) == 2
    message = capsys.readouterr().err
    assert f"pods cannot reach {store.url}" in message
    assert "--store s3://bucket/prefix" in message


@pytest.mark.process  # as above
def test_a_kubeconfig_that_names_no_such_context_is_no_cluster(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "nothing"))
    put_status(store)
    assert cli.run(["cancel", RUN, "--runner", "kubernetes"]) == 3
    message = capsys.readouterr().err
    assert f"no cluster: KUBECONFIG is {tmp_path / 'nothing'}, but this file does not exist" in message
    (tmp_path / "nothing").write_text("some text", encoding="utf-8")
    assert cli.run(["cancel", RUN, "--runner", "kubernetes"]) == 3
    assert f"no cluster: {tmp_path / 'nothing'} cannot be used: " in capsys.readouterr().err
    monkeypatch.delenv("KUBECONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.run(["cancel", RUN, "--runner", "kubernetes"]) == 3
    message = capsys.readouterr().err
    assert "no cluster: KUBECONFIG is not set, and ~/.kube/config does not exist" in message
    assert "set KUBECONFIG to the file that kubectl uses" in message


# ---------------------------------------------------------------- watch


@pytest.mark.parametrize("end,code", [("complete", 0), ("partial", 4), ("failed", 5), ("cancelled", 8)])
def test_watch_ends_with_the_exit_code_of_the_verdict(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, end: str, code: int
) -> None:
    monkeypatch.setattr(watch, "_POLL_S", 0.01)
    put_status(store)

    def put_outcome() -> None:
        if end == "cancelled":
            store.put(KEYS.cancel, b"")
        else:
            put_status(store, marker=end)

    timer = threading.Timer(0.2, put_outcome)
    timer.start()
    assert cli.run(["watch", RUN[:6]]) == code
    timer.join()
    assert f"{RUN}: {end}" in capsys.readouterr().err


def test_watch_ends_for_a_run_that_no_process_works_on(
    store: FileStore, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 0.0

    def sleep(seconds: float) -> None:
        """Simulate the time: for ten minutes, the status is updated every minute."""
        nonlocal now_s
        now_s += seconds
        if now_s <= 600 and now_s % 60 == 0:
            put_status(store, percent=now_s / 60)

    monkeypatch.setattr(watch, "time", SimpleNamespace(monotonic=lambda: now_s, sleep=sleep))
    put_status(store)
    assert cli.run(["watch", RUN]) == 3
    assert now_s == 600 + 180, "it was followed while its status was updated"
    assert f"{RUN}: no process has worked on it for three minutes: run its command again" in capsys.readouterr().err


def test_all_active_runs_are_watched_and_their_absence_is_reported(
    store: FileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["watch"]) == 0
    assert f"no run is being worked on in {store.url}" in capsys.readouterr().err
    put_status(store, state="interrupted")
    assert cli.run(["watch"]) == 0
    assert "no run is being worked on" in capsys.readouterr().err
    put_status(store, age_s=40)  # its controller was killed
    assert cli.run(["watch"]) == 0
    assert "no run is being worked on" in capsys.readouterr().err


# ---------------------------------------------------------------- logs


def put_failure(store: FileStore, span: int | None, attempt: int, **fields: Any) -> None:
    evidence = Evidence(
        round="0000cafe",
        span=span,
        attempt=attempt,
        failure=fields.get("failure", "OOM_KILLED"),
        summary=fields.get("summary", "too much"),
        advice=fields.get("advice", "give it more"),
        details=fields.get("details", ("the last line",)),
        ended_ms=fakes.START_MS + attempt,
        node=fields.get("node", ""),
    )
    store.put(KEYS.failure(span, attempt, "0000cafe"), evidence.encode())


def test_logs_show_why_each_attempt_failed(store: FileStore, capsys: pytest.CaptureFixture[str]) -> None:
    put_status(store)
    put_failure(store, None, 1, failure="BAD_INPUT", summary="no media", advice="")
    put_failure(store, 1, 1, node="node-7", details=("a line", "with \x1b[31m colour"))
    put_failure(store, 1, 2)
    put_failure(store, 2, 1)
    assert cli.run(["logs", RUN, "--chunk", "1"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "chunk 1, attempt 1 on node-7: OOM_KILLED: too much",
        "  what to do: give it more",
        "  a line",
        "  with \\x1b[31m colour",
        "chunk 1, attempt 2: OOM_KILLED: too much",
        "  what to do: give it more",
        "  the last line",
    ]
    assert cli.run(["logs", RUN]) == 0
    assert "intake, attempt 1: BAD_INPUT: no media" in capsys.readouterr().out
    assert cli.run(["logs", RUN, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [(item["span"], item["attempt"]) for item in document["failures"]] == [(None, 1), (1, 1), (2, 1), (1, 2)]
    assert document["running"] == {}


def test_logs_report_when_there_is_nothing_to_show(store: FileStore, capsys: pytest.CaptureFixture[str]) -> None:
    put_status(store)
    of = fakes.record()
    for span in (0, 1):
        store.put(KEYS.task(span), fakes.task(of, span).encode())
    store.put(f"{KEYS.results_of(0)}a1-u.json", fakes.result(fakes.task(of, 0)).encode())
    for chunk, message in (("0", "it is transcribed"), ("1", "it has no result yet")):
        assert cli.run(["logs", RUN, "--chunk", chunk]) == 0
        assert f"no attempt of chunk {chunk} has failed; {message}" in capsys.readouterr().err
    assert cli.run(["logs", RUN]) == 0
    assert f"no attempt of run {RUN} has failed" in capsys.readouterr().err
    assert cli.run(["logs", RUN, "--chunk", "9"]) == 2
    assert f"run {RUN} has no chunk 9" in capsys.readouterr().err


# ---------------------------------------------------------------- the doctor at home


@pytest.mark.process
def test_the_doctor_transcribes_a_probe_on_this_machine_and_leaves_nothing(
    store: FileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["doctor", "--model", str(demo.MODEL), "--threads", "1", "--json"]) == 0
    checks = json.loads(capsys.readouterr().out)["checks"]
    assert [(check["name"], check["well"]) for check in checks[:3]] == [
        ("store", True),
        ("model", True),
        ("probe", True),
    ]
    assert "transcribed 'one. two." in checks[2]["found"]
    assert {check["name"] for check in checks[3:]} <= {"GPU kernels", "model's type"}
    assert list(store.list("")) == []


def test_the_doctor_says_what_costs_time_in_every_job(
    store: FileStore, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    result = fakes.result(fakes.task(fakes.record(), 0))
    engine = result.engine.model_copy(update={"device": "cuda", "stored_type": "float16"})
    usage = result.usage.model_copy(update={"kernels_ms": 12_000})

    def probe(*arguments: Any, timeout_s: int) -> str:
        arguments[-1].append(result.model_copy(update={"engine": engine, "usage": usage}))
        return "transcribed"

    monkeypatch.setattr(doctor, "_probe", probe)
    assert cli.run(["doctor", "--model", str(demo.MODEL)]) == 0
    lines = capsys.readouterr().err.splitlines()[-5:]
    assert [line.partition(":")[0].strip() for line in lines] == [
        *("ok    probe", "ok    GPU kernels", lines[2].partition(":")[0].strip()),
        *("ok    model's type", "convert it once"),
    ]
    assert lines[2].startswith("      the next jobs of this user find them")


def test_the_doctor_s_probe_leaves_no_kernels_in_the_store(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def checks(_: Any, __: Any, cluster: kubernetes.Settings, **___: Any) -> list[Any]:
        seen.append((cluster["kernels_in_store"], cluster["model_claim"]))
        return []

    monkeypatch.setattr(doctor, "_checks", checks)
    command = ["doctor", "--runner", "kubernetes", "--kernels-in-store", "--model-claim", "models"]
    assert cli.run(command) == 0
    assert seen == [(False, "models")]


@pytest.mark.process
def test_the_doctor_stops_when_the_next_check_depends_on_a_failed_one(
    store: FileStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["doctor", "--model", "tiny"]) == 3
    message = capsys.readouterr().err
    assert "ok    store: " in message
    assert "FAIL  model: " in message
    assert "--download" in message
    assert "probe" not in message


def test_a_doctor_may_fetch_the_model_too(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def ensure(model: str, *, download: bool) -> None:
        asked.append((model, download))
        raise EnvironmentProblem("no hub")

    monkeypatch.setattr(doctor, "ensure_model", ensure)
    assert cli.run(["doctor", "--model", "tiny", "--download"]) == 3
    assert asked == [("tiny", True)]
