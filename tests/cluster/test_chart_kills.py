"""Pods of the service, the API server and MinIO are killed during runs, an upload and an inbox: nothing is lost."""

import contextlib
import http.client
import io
import json
import secrets
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import pytest
from urllib3 import encode_multipart_formdata

from controller import demo
from controller.domain.service_documents import PART_BYTES
from controller.leadership.kubernetes_lease import DURATION_S
from tests.cluster.release import PATIENCE_S, Release, is_the_sample
from tests.cluster.site import rest, until

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

_AGAIN_S = 0.2
_UNAVAILABLE = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)


class Client:
    """A client that finds the pods of the service itself, and repeats a request until one of them answers."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._token = release.token()
        self._pods: list[str] = []

    @contextlib.contextmanager
    def opened(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        """The answer of a pod. Raises OSError or HTTPException if none answers."""
        with contextlib.suppress(RuntimeError):  # the API server may be down: the pods stay where they were
            pods = [pod for pod in self._release.pods("service") if "deletionTimestamp" not in pod["metadata"]]
            self._pods = [pod["status"]["podIP"] for pod in pods if "podIP" in pod["status"]]
        connection: http.client.HTTPConnection | None = None
        problem: Exception = ConnectionError("no pod has an address")
        for address in self._pods:
            connection = http.client.HTTPConnection(address, 8080, timeout=30)
            try:
                connection.request(method, path, body, {"Authorization": f"Bearer {self._token}", **(headers or {})})
                answer = connection.getresponse()
            except (OSError, http.client.HTTPException) as failed:
                problem = failed
                connection.close()
                continue
            with contextlib.closing(connection), answer:
                yield answer
            return
        raise problem

    def ask(self, method: str, path: str, document: Any = None, **headers: str) -> Any:
        """The document of the answer, as soon as the service is available."""
        body = None if document is None else json.dumps(document).encode()
        headers |= {"Content-Type": "application/json"} if body else {}
        end_s = time.monotonic() + PATIENCE_S
        while True:
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                self.opened(method, path, body, headers) as answer,
            ):
                found = json.loads(answer.read())
                if answer.status not in _UNAVAILABLE:
                    assert answer.status < HTTPStatus.BAD_REQUEST, found
                    return found
            assert time.monotonic() < end_s, f"{method} {path} in vain"
            time.sleep(_AGAIN_S)


class Listener(threading.Thread):
    """Reads the events of a run until its end, and resumes by Last-Event-ID after each interruption."""

    def __init__(self, client: Client, run: str) -> None:
        super().__init__(daemon=True)
        self._client = client
        self._path = f"/v1/runs/{run}/events"
        self.events: list[tuple[str, str]] = []
        """Ids and kinds."""
        self.connections = 0

    def run(self) -> None:
        while not self.over:
            with contextlib.suppress(OSError, http.client.HTTPException):
                self._read("")
            time.sleep(_AGAIN_S)

    @property
    def over(self) -> bool:
        """Whether the run has ended."""
        return bool(self.events) and self.events[-1][1] == "ended"

    def whole(self) -> list[tuple[str, str]]:
        """All events, read again from the first."""
        again = Listener(self._client, "")
        again._path = self._path
        again.run()
        return again.events

    def _read(self, event_id: str) -> None:
        resumed = {"Last-Event-ID": self.events[-1][0]} if self.events else {}
        with self._client.opened("GET", self._path, headers=resumed) as answer:
            if answer.status != HTTPStatus.OK:
                return
            self.connections += 1
            for line in answer:
                name, _, value = line.decode().strip().partition(": ")
                if name == "id":
                    event_id = value
                elif name == "event" and event_id:
                    self.events.append((event_id, value))
                elif not name:
                    event_id = ""


def large_recording() -> bytes:
    """The sample of the demonstration and a last box without meaning: three parts of an upload."""
    sample = demo.SAMPLE.read_bytes()
    rest_bytes = 2 * PART_BYTES + 5_000 - len(sample)
    return sample + struct.pack(">I4s", rest_bytes, b"free") + bytes(rest_bytes - 8)


def encoded(part: dict[str, Any], recording: bytes) -> tuple[bytes, str]:
    """The form of a part, and its type."""
    piece = recording[part["offset"] : part["offset"] + part["size_bytes"]]
    return encode_multipart_formdata({**part["fields"], "file": ("part", piece)})


def send(part: dict[str, Any], recording: bytes) -> None:
    """Send a part to the store."""
    place, (body, kind) = urlsplit(part["url"]), encoded(part, recording)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST", place.path, body, {"Content-Type": kind})
        assert connection.getresponse().status == HTTPStatus.NO_CONTENT


def send_half(part: dict[str, Any], recording: bytes) -> http.client.HTTPConnection:
    """Begin to send a part."""
    place, (body, kind) = urlsplit(part["url"]), encoded(part, recording)
    connection = http.client.HTTPConnection(place.netloc, timeout=60)
    connection.putrequest("POST", place.path)
    connection.putheader("Content-Type", kind)
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body[: len(body) // 2])
    return connection


def ends_well(half: http.client.HTTPConnection) -> bool:
    """Send the rest of a part, if somebody takes it."""
    with contextlib.suppress(OSError, http.client.HTTPException), contextlib.closing(half):
        half.send(bytes(PART_BYTES))
        return half.getresponse().status == HTTPStatus.NO_CONTENT
    return False


def leader(release: Release) -> str:
    """The process that leads the only run; empty if none does."""
    leases = [one["spec"] for one in release.get("leases")["items"] if one["metadata"]["name"].startswith("sf-")]
    return str(leases[0].get("holderIdentity") or "") if leases else ""


def kill_pods(release: Release, *names: str) -> None:
    release.kubectl("delete", "pod", *names, "--force", "--grace-period=0", "--wait=false")


@contextlib.contextmanager
def outage(release: Release, *components: str) -> Iterator[None]:
    """Components that are dead meanwhile."""
    for component in components:
        release.cluster.kill(component)
    try:
        yield
    finally:
        for component in components:
            release.cluster.start(component)
    release.cluster.wait_for_api()
    until(release.cluster.s3.serves, "S3 serves again", patience_s=PATIENCE_S)


def test_kills_during_runs_and_an_upload_lose_nothing_and_repeat_nothing(release: Release) -> None:
    recording = large_recording()
    release.install()
    client = Client(release)
    first = release.submit()
    listeners = [Listener(client, first)]
    listeners[0].start()
    upload = client.ask("POST", "/v1/uploads", {"name": "talk.m4a", "size_bytes": len(recording)})
    assert upload["part_count"] == 3
    send(upload["parts"][0], recording)
    until(release.results, "a chunk is done", patience_s=PATIENCE_S)

    # The pod that works on the run: another one takes it.
    before, leads = release.results(), leader(release)
    (killed,) = [name for pod in release.pods("service") if leads.startswith(name := str(pod["metadata"]["name"]))]
    kill_pods(release, killed)
    began_s = time.monotonic()
    until(lambda: leader(release) not in ("", leads), "another pod leads the run", patience_s=PATIENCE_S)
    print(f"another pod leads after {time.monotonic() - began_s:.1f} s")

    # The store in the middle of a part, and the API server, for longer than a Lease lasts.
    half = send_half(upload["parts"][1], recording)
    with outage(release, "minio", "apiserver"):
        assert not ends_well(half)
        with client.opened("GET", f"/v1/runs/{first}") as answer:
            assert json.loads(answer.read())["type"] == "urn:stenofleet:problem:store-unavailable"
        rest(DURATION_S + 5)

    # The client resumes its upload. What is accepted stays accepted, even if all pods are killed at once.
    upload = client.ask("GET", f"/v1/uploads/{upload['id']}")
    assert [part["number"] for part in upload["parts"]] == [2, 3]
    for part in upload["parts"]:
        send(part, recording)
    complete = f"/v1/uploads/{upload['id']}:complete"
    until(lambda: client.ask("POST", complete)["status"] == "complete", "the upload is complete")
    body, key = {"upload": upload["id"], "options": {"chunk_duration": 60}}, {"Idempotency-Key": secrets.token_hex(8)}
    second = client.ask("POST", "/v1/runs", body, **key)["id"]
    kill_pods(release, *(str(pod["metadata"]["name"]) for pod in release.pods("service")))
    listeners.append(Listener(client, second))
    listeners[1].start()
    assert client.ask("POST", "/v1/runs", body, **key)["id"] == second

    for run, listener, count in zip((first, second), listeners, (9, 3), strict=True):
        check_end(release, client, run, listener, chunks=count)
    assert before.items() <= release.results().items(), "what was done before the kills is kept"
    assert listeners[0].connections > 1


def check_end(release: Release, client: Client, run: str, listener: Listener, *, chunks: int) -> None:
    """Wait until a client has seen the end of this run. It is complete, and the client missed nothing."""
    until(lambda: listener.over, f"run {run} has ended", patience_s=PATIENCE_S)
    ended = client.ask("GET", f"/v1/runs/{run}")
    assert ended["status"] == "complete", json.dumps(ended, indent=1)
    with client.opened("GET", f"/v1/runs/{run}/result?format=txt") as answer:
        assert is_the_sample(answer.read())
    keys = [key.split("/") for key in release.results() if f"/{ended['run']}/" in key]
    assert sorted(int(parts[-2]) for parts in keys) == list(range(chunks)), "no chunk has two results"
    assert listener.events == listener.whole(), "no event is lost, and none comes twice"
    assert [kind for _, kind in listener.events if kind != "message"] == ["accepted", "started", "ended"]


# ---------------------------------------------------------------- the inbox


def test_an_inbox_that_is_fed_while_pods_die_is_transcribed_once(release: Release) -> None:
    def put(name: str, content: bytes) -> None:
        key = f"store/inbox/default/{name}"
        release.s3.put_object(
            bucket_name=release.bucket, object_name=key, data=io.BytesIO(content), length=len(content)
        )

    def outbox() -> set[str]:
        return {key.removeprefix("store/outbox/default/") for key in release.objects("store/outbox/")}

    def kill_all() -> None:
        kill_pods(release, *(str(pod["metadata"]["name"]) for pod in release.pods("service")))

    release.install('inbox={"enabled": true, "pollSeconds": 1}')
    names = ("a.m4a", "2024/b.m4a", "2024/c.m4a")
    put("stenofleet.yaml", b"options: {chunk_duration: 90}\noutput_formats: [txt]\n")
    put(names[0], with_mark(b"a"))
    until(lambda: release.objects("/inbox-state/default/objects/"), "an object is noticed", patience_s=PATIENCE_S)
    kill_all()
    put(names[1], with_mark(b"b"))
    put("2024/notes.txt", b"no recording")
    until(release.results, "a chunk is done", patience_s=PATIENCE_S)
    before = release.results()
    kill_all()
    put(names[2], with_mark(b"c"))
    until(outbox, "something is in the outbox", patience_s=PATIENCE_S)
    kill_all()
    wanted = {f"{name}.txt" for name in names} | {"2024/notes.txt.error.json"}
    until(lambda: outbox() >= wanted, "everything is in the outbox", patience_s=PATIENCE_S)

    assert outbox() == wanted
    for name in names:
        answer = release.s3.get_object(bucket_name=release.bucket, object_name=f"store/outbox/default/{name}.txt")
        assert is_the_sample(answer.read())
    chunks = Counter(tuple(key.split("/")[-4:-1]) for key in release.results())
    assert set(chunks.values()) == {1}, "no chunk has two results"
    assert before.items() <= release.results().items(), "what was done before a kill is kept"
    assert len({run for run, *_ in chunks}) == len(names), "every recording has one run"


def with_mark(mark: bytes) -> bytes:
    """The sample of the demonstration, with a last box that players ignore: a content of its own."""
    return demo.SAMPLE.read_bytes() + struct.pack(">I4s", 8 + len(mark), b"free") + mark
