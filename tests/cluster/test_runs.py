"""Whole runs on a real cluster: the same bytes as on one machine, also with disturbances."""

import json
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from chunk_job import crashpoint
from controller.domain.documents import Report
from controller.domain.keys import parse_task
from controller.leadership.kubernetes_lease import DURATION_S
from controller.runners.kubernetes.runner import TICK_S
from tests.cluster.site import GPU, PATIENCE_S, Site, held, rest

pytestmark = pytest.mark.timeout(600)

OUTAGE_S = 20


def without_model_path(outputs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The outputs without the path of the model, which differs in a pod."""
    return {name: data for name, data in outputs.items() if not name.endswith(".json")} | {
        "text": json.loads(outputs["talk.json"])["text"].encode()
    }


ENGLISH = ("--language", "en")


# ---------------------------------------------------------------- to the end


def test_a_local_file_is_cut_here_and_only_its_chunks_are_uploaded(
    site: Site, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    command = site.start(talk, *ENGLISH)
    seen: dict[str, dict[str, Any]] = {}
    while command.process.poll() is None:
        seen |= {pod["metadata"]["name"]: pod for pod in site.found("pods")}
        rest(0.3)
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    assert {pod["metadata"]["labels"]["stenofleet.io/chunk"] for pod in seen.values()} == {"00000", "00001", "00002"}
    for pod in seen.values():
        (container,) = pod["spec"]["containers"]
        assert container["resources"]["limits"][GPU] == "1"
        assert pod["spec"].get("nodeName", "node-").startswith("node-")
        assert "AWS_SECRET_ACCESS_KEY" in json.dumps(pod)
        assert site.cluster.s3.secret_key not in json.dumps(pod)
    assert not [entry.key for entry in site.store.list("") if entry.key.endswith((".wav", ".flac"))]
    assert site.empty()


def test_a_recording_in_a_bucket_is_cut_by_an_intake_job(site: Site, talk: Path, wanted: Mapping[str, bytes]) -> None:
    bucket = site.store_of("in")
    bucket.put_file("talk.wav", talk)
    command = site.start(f"s3://{site.bucket}/in/talk.wav", *ENGLISH, "-o", f"s3://{site.bucket}/out")
    site.until(lambda: [job for job in site.found("jobs") if job["metadata"]["name"].endswith("-intake-a1")], "intake")
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert site.store_of("out").get("talk.srt") == wanted["talk.srt"]
    assert not site.workplace.processes("controller.intake")
    assert site.empty()


def test_the_jobs_show_as_a_status_page(site: Site, talk: Path) -> None:
    command = site.start(talk, *ENGLISH, *held(1))
    site.running(1)
    page = site.kubectl("get", "jobs", "-l", "stenofleet.io/run", "-L", "stenofleet.io/chunk,stenofleet.io/attempt")
    header, *rows = page.splitlines()
    assert header.split()[-2:] == ["CHUNK", "ATTEMPT"]
    assert any(row.split()[-2:] == ["00001", "1"] for row in rows)
    result = site.ask("status", site.keys().run)
    assert "running" in result.out
    alive = site.ask("logs", site.keys().run, "--chunk", "1", *site.cluster_options)
    assert f"sf-{site.keys().run[:12]}-c00001-a1-" in alive.out
    assert "running:" in alive.out
    site.let_go(1)
    watched = site.ask("watch", site.keys().run)
    assert (watched.code, f"{site.keys().run}: complete" in watched.err) == (0, True), watched.err
    assert command.ended(patience_s=PATIENCE_S).code == 0


# ---------------------------------------------------------------- first survivals


def test_a_deleted_pod_costs_no_attempt(site: Site, talk: Path, wanted: Mapping[str, bytes]) -> None:
    command = site.start(talk, *ENGLISH, *held(1), "--max-attempts", "1")
    site.let_go(1)
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    assert site.failures() == [(1, 1, "DISRUPTED.deleted")]
    logs = site.ask("logs", site.keys().run, "--chunk", "1")
    assert "chunk 1, attempt 1 on node-" in logs.out
    assert "DISRUPTED.deleted" in logs.out


def test_too_little_memory_is_reported_and_retried_with_half_as_much_again(site: Site, talk: Path) -> None:
    command = site.start(talk, *ENGLISH, "--job-memory", "64", "--max-attempts", "2", "--max-parallel", "1")
    limits = set()
    while command.process.poll() is None:
        for job in site.found("jobs"):
            limits.add(job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])
        rest(0.3)
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 5, ended.err
    assert {failure for _, _, failure in site.failures()} == {"OOM_KILLED"}
    assert limits == {"64Mi", "96Mi"}
    assert "--job-memory" in ended.err
    assert site.empty()


def test_a_missing_image_is_an_environment_problem(site: Site, talk: Path) -> None:
    ended = site.run(talk, *ENGLISH, "--chunk-image", "localhost/nowhere:1", "--max-attempts", "1")
    assert ended.code == 3, ended.err
    assert "IMAGE_PULL" in ended.err
    assert "load it on every node" in ended.err
    assert site.empty()


@pytest.mark.parametrize("action,failure", [("exit", "NO_RESULT"), ("abort", "NATIVE_CRASH")])
def test_an_end_without_a_result_is_tried_again(
    site: Site, talk: Path, wanted: Mapping[str, bytes], action: str, failure: str
) -> None:
    ended = site.run(talk, *ENGLISH, "--job-env", f"{crashpoint.VARIABLE}=chunk.transcribed.00001.a1={action}")
    assert ended.code == 0, ended.err
    assert site.failures() == [(1, 1, failure)]
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)


def test_a_crash_after_the_commit_costs_nothing(site: Site, talk: Path, wanted: Mapping[str, bytes]) -> None:
    ended = site.run(talk, *ENGLISH, "--job-env", f"{crashpoint.VARIABLE}=chunk.committed.00001.a1=abort")
    assert ended.code == 0, ended.err
    assert site.failures() == []
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_controller_leaves_its_jobs_to_the_next_one(
    site: Site, talk: Path, wanted: Mapping[str, bytes], number: signal.Signals
) -> None:
    options = (*ENGLISH, *held(1), "--max-parallel", "1")
    first = site.start(talk, *options)
    pod = site.running(1)
    before = site.results()
    assert len(before) == 1
    os.kill(first.process.pid, number)
    first.process.wait()
    if number == signal.SIGTERM:
        assert "to resume: run the same command again" in first.ended().err
    assert site.found("jobs", chunk=1), "its jobs continue"
    second = site.start(talk, *options)
    site.go_on(pod)
    ended = second.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    after = site.results()
    assert after.items() >= before.items()
    assert len(after) == 3, "no chunk was computed twice"
    assert site.failures() == []
    assert site.empty()


def test_two_controllers_on_one_run(site: Site, talk: Path, wanted: Mapping[str, bytes]) -> None:
    first = site.start(talk, *ENGLISH, *held(2))
    site.running(2)
    elsewhere = {"XDG_STATE_HOME": str(site.workplace.folder / "elsewhere")}
    second = site.start(talk, *ENGLISH, "-o", str(site.workplace.folder / "other"), env=elsewhere)
    second.wait_for_output("worked on by another process: following it")
    site.let_go(2)
    one, other = first.ended(patience_s=PATIENCE_S), second.ended(patience_s=PATIENCE_S)
    assert (one.code, other.code) == (0, 0), one.err + other.err
    assert len(site.results()) == 3
    assert (site.workplace.folder / "other" / "talk.srt").read_bytes() == wanted["talk.srt"]


def test_a_suspended_controller_gives_the_verdict_of_the_one_that_finished_its_run(
    site: Site, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    sleeper = site.start(talk, *ENGLISH, *held(2))
    site.running(2)
    os.kill(sleeper.process.pid, signal.SIGSTOP)
    try:
        site.let_go(2)
        elsewhere = {"XDG_STATE_HOME": str(site.workplace.folder / "elsewhere")}
        other = site.run(talk, *ENGLISH, "-o", str(site.workplace.folder / "other"), env=elsewhere)
        assert other.code == 0, other.err
    finally:
        os.kill(sleeper.process.pid, signal.SIGCONT)
    ended = sleeper.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    assert site.store.stat(site.keys().cancel) is None


@pytest.mark.alone
def test_an_outage_of_the_api_server_is_waited_for(site: Site, talk: Path, wanted: Mapping[str, bytes]) -> None:
    command = site.start(talk, *ENGLISH, *held(2))
    site.running(2)
    site.cluster.kill("apiserver")
    try:
        command.wait_for_output("does not answer")
        rest(OUTAGE_S)
    finally:
        site.cluster.start("apiserver")
    site.cluster.wait_for_api()
    site.let_go(2)
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert "cluster: back after" in ended.err
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    assert len(site.results()) == 3
    assert OUTAGE_S > DURATION_S, "the Lease lapsed meanwhile"


@pytest.mark.alone
def test_a_lost_node_costs_no_attempt_and_leaves_evidence(
    site: Site, talk: Path, wanted: Mapping[str, bytes], lost: list[str]
) -> None:
    command = site.start(talk, *ENGLISH, *held(1), "--max-attempts", "1", "--max-parallel", "1")
    name = site.running(1)
    lost += [pod["spec"]["nodeName"] for pod in site.found("pods", chunk=1) if pod["metadata"]["name"] == name]
    site.cluster.lose(lost[0])
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    assert site.failures() == [(1, 1, "DISRUPTED.node_lost")]
    assert "chunk 1, attempt 1 failed (DISRUPTED.node_lost)" in ended.err
    assert "DISRUPTED.node_lost" in site.ask("logs", site.keys().run, "--chunk", "1").out
    report = Report.decode(site.store.get(site.keys().report))
    assert [span.failures for span in report.spans] == [(), ("DISRUPTED.node_lost",), ()]


# ---------------------------------------------------------------- what waits


def test_jobs_that_fit_no_node_are_reported_and_a_deleted_lease_ends_them(site: Site, talk: Path) -> None:
    first = site.start(talk, *ENGLISH, "--gpus", "3")
    first.wait_for_output("waits: ")
    first.kill()
    command = site.start(talk, *ENGLISH, "--gpus", "3")
    command.wait_for_output("waits: ")
    assert "Insufficient nvidia.com/gpu" in command.err, "the next controller reports it for existing Jobs"
    (lease,) = site.found("leases")
    site.kubectl("delete", "lease", lease["metadata"]["name"])
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 8, ended.err
    site.until(site.empty, "its jobs are collected")


def test_a_quota_makes_jobs_wait_their_turn(site: Site, talk: Path, wanted: Mapping[str, bytes]) -> None:
    site.kubectl("create", "quota", "gpus", f"--hard=requests.{GPU}=1")
    ended = site.run(talk, *ENGLISH)
    assert ended.code == 0, ended.err
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    assert site.failures() == []


def test_a_job_that_a_queue_suspends_and_resumes_costs_no_attempt(
    site: Site, talk: Path, wanted: Mapping[str, bytes]
) -> None:
    command = site.start(talk, *ENGLISH, *held(1), "--max-attempts", "1")
    first = site.running(1)
    (job,) = {job["metadata"]["name"] for job in site.found("jobs", chunk=1)}
    site.kubectl("patch", "job", job, "--patch", '{"spec": {"suspend": true}}')
    site.until(lambda: not site.found("pods", chunk=1), "its pod is stopped")
    rest(2 * TICK_S)
    site.kubectl("patch", "job", job, "--patch", '{"spec": {"suspend": false}}')
    second = site.running(1)
    assert second != first
    site.go_on(second)
    ended = command.ended(patience_s=PATIENCE_S)
    assert ended.code == 0, ended.err
    assert site.failures() == []
    assert without_model_path(site.workplace.outputs) == without_model_path(wanted)
    assert {key.rpartition("/")[2][:3] for key in site.results()} == {"a1-"}


def test_cancel_removes_the_jobs_from_the_cluster(site: Site, talk: Path) -> None:
    command = site.start(talk, *ENGLISH, *held(1))
    site.running(1)
    command.kill()
    result = site.ask("cancel", site.keys().run, *site.cluster_options)
    assert result.code == 0, result.err
    assert site.empty()
    site.until(lambda: not site.found("pods"), "its pods end")
    assert any(parse_task(entry.key) for entry in site.store.list(site.keys().tasks)), "finished work is kept"


# ---------------------------------------------------------------- rights


def test_doctor_transcribes_a_probe_and_leaves_nothing(site: Site) -> None:
    result = site.ask("doctor", *site.options)
    assert result.code == 0, result.err
    for line in ("store", "cluster", "rights", "chunk job", "intake job", "probe"):
        assert f"ok    {line}: " in result.err
    assert list(site.store.list("")) == []
    assert site.empty()


def test_a_doctor_that_times_out_leaves_nothing_either(site: Site) -> None:
    result = site.ask("doctor", *site.options, "--gpus", "3", "--timeout", "20")
    assert result.code == 3, result.err
    assert "FAIL  probe: no transcript within 20 s" in result.err
    assert "Insufficient nvidia.com/gpu" in result.err
    assert list(site.store.list("")) == []
    assert site.empty()


def test_doctor_reports_which_right_is_missing_and_how_to_grant_it(site: Site) -> None:
    site.kubectl("create", "serviceaccount", "weak")
    site.kubectl("create", "role", "weak", "--verb=get,list", "--resource=jobs.batch")
    site.kubectl("create", "rolebinding", "weak", "--role=weak", f"--serviceaccount={site.namespace}:weak")
    weak = site.kubeconfig_of("weak")
    result = site.ask("doctor", *site.options, env={"KUBECONFIG": str(weak)})
    assert result.code == 3
    assert "FAIL  rights: this identity may not create/delete jobs" in result.err
    assert (
        '- {apiGroups: ["coordination.k8s.io"], resources: [leases], verbs: [create, get, update, delete]}'
        in result.err
    )
    assert "Traceback" not in result.err
    denied = site.workplace.run(
        "transcribe", "/nowhere.wav", *site.options, env=site.environment | {"KUBECONFIG": str(weak)}
    )
    assert denied.code == 5, denied.err


def test_an_identity_that_the_server_does_not_know_is_reported(site: Site) -> None:
    config = site.kubeconfig_of("default")
    document = json.loads(config.read_text(encoding="utf-8"))
    document["users"][0]["user"]["token"] += "0"
    config.write_text(json.dumps(document), encoding="utf-8")
    result = site.ask("doctor", *site.options, env={"KUBECONFIG": str(config)})
    assert result.code == 3
    assert "does not know this identity: HTTP 401" in result.err
    assert "log in to the cluster again" in result.err
