"""``stenofleet serve`` as processes: transcripts over HTTP, killed replicas, and what stops it from starting."""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from controller import demo
from controller.cli.devices import has_gpu
from controller.service.tokens import new_token, written_digest
from tests import pipeline, speech
from tests.pipeline import Started, Workplace
from tests.ports import free_port

pytestmark = [pytest.mark.process, pytest.mark.e2e]

OPTIONS = (
    *("--model", str(demo.MODEL), "--batch-size", "0", "--language", "en"),
    *("--max-parallel", "2", "--threads", "1", "--chunk-duration", "20", "--chunking-threshold", "0"),
)
HELD = "chunk.transcribed.00001.a1"
Event = tuple[str, str, dict[str, Any]]
"""Its id, type and data."""


class Replica:
    """A process that serves."""

    def __init__(
        self, workplace: Workplace, *more: str, crash: str = "", token: str = "", store: str = "", port: int = 0
    ) -> None:
        """*store*: empty: that of the workplace. *port*: 0: any that is free."""
        place = ("--store", store or workplace.store.url, "--port", str(port))
        self.started: Started = workplace.start("serve", *place, *OPTIONS, *more, crash=crash)
        self.started.wait_for_output("listening on http://")
        found = re.search(r"listening on (http://127\.0\.0\.1:(\d+))", self.started.err)
        assert found
        self.url, self.port = found[1], int(found[2])
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.client = httpx.Client(base_url=self.url, headers=self.headers, timeout=pipeline.PATIENCE_S)

    def submit(self, media: Path) -> str:
        """Submit a recording in a form. Returns its id."""
        with media.open("rb") as file:
            reply = self.client.post("/v1/runs", files={"file": (media.name, file)})
        assert reply.status_code == 202, reply.text
        run: str = reply.json()["id"]
        return run

    def ended(self, run: str) -> dict[str, Any]:
        """The run, when it has ended."""
        found: dict[str, Any] = {}

        def has_ended() -> bool:
            found.update(self.client.get(f"/v1/runs/{run}").json())
            return found["status"] not in ("queued", "running")

        # A tenant may make 20 requests a second.
        pipeline.until(has_ended, f"{run} ends", pause_s=0.1)
        return found

    def events(self, run: str, after: str = "", *, follow: bool = True) -> Iterator[Event]:
        """The events of a run, until the stream ends or breaks off."""
        headers = {"Last-Event-ID": after} if after else {}
        place = f"/v1/runs/{run}/events?follow={str(follow).lower()}"
        with contextlib.suppress(httpx.TransportError), self.client.stream("GET", place, headers=headers) as stream:
            fields: dict[str, str] = {}
            for line in stream.iter_lines():
                name, _, value = line.partition(": ")
                fields[name] = value
                if not line:
                    if "event" in fields:
                        yield fields.get("id", ""), fields["event"], json.loads(fields["data"])
                    fields = {}

    def works(self, workplace: Workplace) -> bool:
        """Whether a chunk job of this process runs."""
        return any(self.started.process.pid in _parents(pid) for pid in workplace.processes("-m chunk_job"))


def _parents(pid: int) -> list[int]:
    found = []
    with contextlib.suppress(OSError):
        while pid > 1:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            found.append(pid)
    return found


class Start(Protocol):
    """Starts a replica in the folder of the test."""

    def __call__(self, *more: str, crash: str = "", token: str = "") -> Replica: ...


@pytest.fixture
def start(workplace: Workplace) -> Iterator[Start]:
    with contextlib.ExitStack() as closing:

        def start(*more: str, crash: str = "", token: str = "") -> Replica:
            replica = Replica(workplace, *more, crash=crash, token=token)
            closing.callback(replica.client.close)
            return replica

        yield start


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory, tape: speech.Tape) -> Path:
    """The reference recording: three chunks."""
    return speech.write_wav(tmp_path_factory.mktemp("serve") / "talk.wav", tape)


def ids(text: str) -> list[str]:
    """What could be the id of a request, a run or a delivery."""
    return re.findall(r"\b(?:[0-9a-hjkmnp-tv-z]{26}|[0-9a-f]{16,})\b", text)


def samples(text: str) -> Mapping[tuple[str, str], float]:
    """The values of the metrics, by name and labels."""
    return {
        (sample.name, json.dumps(sample.labels, sort_keys=True)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_client_of_a_tenant_gets_the_words_of_a_recording(workplace: Workplace, start: Start) -> None:
    token = new_token()
    tenants = workplace.folder / "tenants.toml"
    tenants.write_text(f'[tenants.news]\ntokens = ["{written_digest(token)}"]\n')
    metrics_port = free_port()
    more = ("--tenants", str(tenants), "--log-format", "json", "--metrics-port", str(metrics_port), "--rendition")
    replica = start(*more, token=token)
    assert httpx.get(f"{replica.url}/v1/runs").status_code == 401
    assert httpx.get(f"{replica.url}/v1/runs", headers={"Authorization": "Bearer stf_wrong"}).status_code == 401
    assert httpx.get(f"{replica.url}/readyz").status_code == 200
    run = replica.submit(demo.SAMPLE)
    assert replica.ended(run)["status"] == "complete"
    transcript = replica.client.get(f"/v1/runs/{run}/result").json()
    assert (transcript["model"]["name"], transcript["options"]["model"]) == (demo.MODEL.name, demo.MODEL.name)
    text = replica.client.get(f"/v1/runs/{run}/result?format=txt").text
    spoken = speech.normalise(demo.SAMPLE_TEXT.read_text(encoding="utf-8"))
    assert speech.word_errors(spoken, text).wer <= 0.1
    waveform = replica.client.get(f"/v1/runs/{run}/waveform?level=overview").content
    assert len(waveform) > 24 + 2 * 170
    # Its upload is gone.
    played = replica.client.get(f"/v1/runs/{run}/media", headers={"Range": "bytes=0-1"})
    assert (played.status_code, played.headers["Content-Type"]) == (206, "audio/mpeg")
    place = f"http://127.0.0.1:{metrics_port}/metrics"
    queued = 'stenofleet_queue_runs{tenant="news"}'
    # It is from the last look at the queue.
    pipeline.until(lambda: f"{queued} 0.0" in httpx.get(place).text or queued not in httpx.get(place).text, "no queue")
    metrics = httpx.get(place).text
    found = samples(metrics)
    assert found["stenofleet_runs_total", '{"outcome": "complete"}'] == 1
    assert found["stenofleet_audio_seconds_total", "{}"] > 170
    posted = '{"method": "POST", "route": "/v1/runs", "status": "202"}'
    assert found["stenofleet_http_requests_total", posted] == 1
    assert ids(" ".join(labels for _, labels in found)) == []
    assert run not in metrics
    assert replica.client.get("/metrics").status_code == 404
    os.kill(replica.started.process.pid, signal.SIGTERM)
    ended = replica.started.ended()
    assert ended.code == 128 + signal.SIGTERM
    lines = [json.loads(line) for line in ended.err.splitlines()]
    assert {line["level"] for line in lines} <= {"info", "warning"}
    assert any(run in line["message"] and "complete" in line["message"] for line in lines)
    assert all(line.keys() >= {"time", "level", "logger", "message"} for line in lines)
    assert token.removeprefix("stf_") not in ended.err + metrics
    assert workplace.processes() == []


def test_another_replica_completes_what_a_killed_one_has_begun(
    workplace: Workplace, start: Start, recording: Path
) -> None:
    here = workplace.meeting()
    replicas = [start(crash=f"{HELD}=hold:{here}") for _ in range(2)]
    run = replicas[0].submit(recording)
    pipeline.until(here.exists, "chunk 1 is held")
    pipeline.until(lambda: len(workplace.results()) == 2, "the others are done")
    (working,) = (replica for replica in replicas if replica.works(workplace))
    (other,) = (replica for replica in replicas if replica is not working)
    before = workplace.results()
    received: list[Event] = []
    for event in working.events(run):
        received.append(event)
        if event[1] == "started":
            working.started.kill()
    last = [event[0] for event in received if event[0]][-1]
    here.unlink()
    pipeline.until(here.exists, "the other one has begun the chunk that was lost")
    here.unlink()
    received += other.events(run, last)
    assert other.ended(run)["status"] == "complete"
    assert before.items() <= workplace.results().items(), "a result is never computed again"
    assert len(workplace.results()) == 3
    whole = [event for event in other.events(run, follow=False) if event[0]]
    assert [event for event in received if event[0]] == whole
    assert [event[1] for event in whole if event[1] != "message"] == ["accepted", "started", "ended"]
    report = other.client.get(f"/v1/runs/{run}/report").json()
    assert [span["attempts"] for span in report["spans"]][::2] == [1, 1]


def test_a_signal_ends_it_within_its_grace_and_the_next_start_resumes(
    workplace: Workplace, start: Start, recording: Path
) -> None:
    here = workplace.meeting()
    replica = start("--shutdown-grace", "600", crash=f"{HELD}=hold:{here}")
    run = replica.submit(recording)
    pipeline.until(here.exists, "chunk 1 is held")
    pipeline.until(lambda: len(workplace.results()) == 2, "the others are done")
    before = workplace.results()
    streamed: list[Event] = []
    stream = threading.Thread(target=lambda: streamed.extend(replica.events(run)))
    stream.start()
    pipeline.until(lambda: any(event[1] == "started" for event in streamed), "the stream is open")
    short = speech.write_wav(workplace.folder / "short.wav", speech.tape(seconds=8, seed=2)).read_bytes()
    answers: list[httpx.Response] = []
    place = "/v1/audio/transcriptions"
    waiting = threading.Thread(
        target=lambda: answers.append(replica.client.post(place, files={"file": ("short.wav", short)}))
    )
    waiting.start()
    pipeline.until(lambda: len(replica.client.get("/v1/runs").json()["runs"]) == 2, "the other one is accepted")
    body = b'{"upload": "00000000000000000000000000"}'
    sending = http.client.HTTPConnection("127.0.0.1", replica.port, timeout=30)
    sending.putrequest("POST", "/v1/runs")
    sending.putheader("Content-Type", "application/json")
    sending.putheader("Content-Length", str(len(body)))
    sending.endheaders()
    sending.send(body[:10])
    os.kill(replica.started.process.pid, signal.SIGTERM)
    pipeline.until(lambda: not workplace.processes("-m chunk_job"), "its jobs are stopped")
    sending.send(body[10:])
    answer = sending.getresponse()
    kind = json.loads(answer.read())["type"]
    sending.close()
    assert (answer.status, kind) == (404, "urn:stenofleet:problem:not-found")
    # A stream of events does not use up the ten minutes.
    ended = replica.started.ended()
    assert ended.code == 128 + signal.SIGTERM, ended.err
    assert "Traceback" not in ended.err
    for thread in (stream, waiting):
        thread.join(timeout=pipeline.PATIENCE_S)
        assert not thread.is_alive()
    (waited,) = answers
    # It may have been answered before the signal. Else the client sends it again, to another process.
    assert waited.status_code == 200 or (waited.status_code, waited.json()["title"]) == (503, "Interrupted")
    assert waited.status_code == 200 or waited.headers["Retry-After"]
    assert workplace.processes() == []
    following = start()
    assert following.ended(run)["status"] == "complete"
    assert before.items() <= workplace.results().items()
    # To the end of the stream: the event of the end is stored after the end.
    streamed += following.events(run, [event[0] for event in streamed if event[0]][-1])
    whole = [event for event in following.events(run, follow=False) if event[0]]
    assert [event for event in streamed if event[0]] == whole
    assert whole[-1][1] == "ended"


def test_what_stops_it_from_starting_is_said(workplace: Workplace) -> None:
    serve = ("serve", "--store", workplace.store.url, "--model", str(demo.MODEL))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        used = workplace.start(*serve, "--port", port)
        metrics = workplace.start(*serve, "--port", "0", "--metrics-port", port)
        for ended in (used.ended(), metrics.ended()):
            assert ended.code == 3
            assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in ended.err
            assert "port" in ended.err.splitlines()[-1]
    tenants = workplace.folder / "tenants.toml"
    tenants.write_text("[tenants.news]\ntokens = 7\n")
    open_to_all = workplace.start(*serve, "--host", "0.0.0.0")
    wrong = workplace.start(*serve, "--tenants", str(tenants))
    missing = workplace.start(*serve, "--tenants", f"{tenants}.new")
    no_gpu = None if has_gpu() else workplace.start(*serve, "--device", "cuda", "--port", "0")
    for_programs = workplace.start(*serve, "--tenants", str(tenants), "--log-format", "json")
    ended = for_programs.ended()
    (line,) = map(json.loads, ended.err.splitlines())
    assert (ended.code, line["level"]) == (2, "error")
    assert str(tenants) in line["message"]
    if no_gpu:
        ended = no_gpu.ended()
        assert (ended.code, "no NVIDIA GPU" in ended.err) == (3, True)
    ended = open_to_all.ended()
    assert ended.code == 2
    assert "--tenants" in ended.err
    for ended, code in ((wrong.ended(), 2), (missing.ended(), 2)):
        assert ended.code == code, ended.err
        assert str(tenants) in ended.err
        assert "Traceback" not in ended.err
    assert workplace.processes() == []
