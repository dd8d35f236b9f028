"""The endpoints of OpenAI's API with its public client, unchanged, over a real socket."""

from __future__ import annotations

import io
import json
import socket
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

from chunk_job.contract import ChunkTask, TranscribeOptions
from chunk_job.errors import ExitCode
from chunk_job.store.files import FileStore
from controller.domain.jobs import Job
from controller.domain.service_keys import RequestKey
from controller.service import serving
from controller.service.answers import Answers
from controller.service.sweeper import Sweeper
from controller.service.uploads import UploadStore
from tests.controller.service.running import Running, quick, running
from tests.fakes import JobBehaviour, fails_with
from tests.pipeline import until

if TYPE_CHECKING:
    # It takes nearly a second, in each worker that collects the tests.
    import openai

pytestmark = pytest.mark.process
DECODED: list[TranscribeOptions] = []
"""The options of each chunk."""
TEXT = "w0a w0b w1a w1b"


def recording(sound: bytes = b"sound") -> tuple[str, io.BytesIO]:
    return ("talk.wav", io.BytesIO(sound))


def client_of(service: Running) -> openai.OpenAI:
    import openai

    return openai.OpenAI(base_url=f"http://127.0.0.1:{service.server.port}/v1", api_key="none", timeout=30)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    store = FileStore(tmp_path_factory.mktemp("store"))

    def script(job: Job) -> JobBehaviour:
        if job.span is not None:
            DECODED.append(ChunkTask.decode(store.get(job.task_key)).options)
        return quick()(job)

    with running(store, script=script, chunks_ms=(10_000, 10_000)) as up:
        yield up
        left = {entry.key.partition("/")[0] for entry in up.store.list("")}
        assert left - {"ledger"} == {"replicas"}, "what a request has left"


@pytest.fixture(scope="module")
def client(service: Running) -> Iterator[openai.OpenAI]:
    with client_of(service) as opened:
        yield opened


@pytest.fixture
def received(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """The requests that the service received, by path."""
    counted: Counter[str] = Counter()
    create: Any = vars(serving)["create_app"]

    def counting(service: Any) -> Any:
        app = create(service)

        @app.middleware("http")  # type: ignore[untyped-decorator]
        async def count(request: Any, call_next: Any) -> Any:
            counted[request.url.path] += 1
            return await call_next(request)

        return app

    monkeypatch.setattr(serving, "create_app", counting)
    return counted


@pytest.mark.parametrize("model", ["whisper-1", "gpt-4o-transcribe", "tiny", "small"])
def test_json_is_the_default(client: openai.OpenAI, model: str) -> None:
    found = client.audio.transcriptions.create(model=model, file=recording())
    assert found.text == TEXT
    assert found.usage is not None
    assert found.usage.model_dump() == {"type": "duration", "seconds": 20}


def test_the_models_are_listed_the_default_one_first(client: openai.OpenAI) -> None:
    assert [(model.id, model.object) for model in client.models.list()] == [("tiny", "model"), ("small", "model")]


def test_text_and_subtitles(client: openai.OpenAI) -> None:
    text = client.audio.transcriptions.create(model="whisper-1", file=recording(), response_format="text")
    assert text == f"{TEXT}\n"
    srt = client.audio.transcriptions.create(model="whisper-1", file=recording(), response_format="srt")
    assert srt.splitlines()[:3] == ["1", "00:00:01,000 --> 00:00:01,900", "w0a w0b"]
    vtt = client.audio.transcriptions.create(model="whisper-1", file=recording(), response_format="vtt")
    assert vtt.splitlines()[0] == "WEBVTT"
    assert "w1a w1b" in vtt


def test_times_of_words_and_segments(client: openai.OpenAI) -> None:
    found = client.audio.transcriptions.create(
        model="whisper-1",
        file=recording(),
        response_format="verbose_json",
        timestamp_granularities=["word", "segment"],
        language="en",
        prompt="Names: Ada",
        temperature=0.2,
    )
    assert (found.text, found.language, float(found.duration)) == (TEXT, "english", 20.0)
    assert found.words is not None
    assert [(word.word, word.start, word.end) for word in found.words] == [
        ("w0a", 1.0, 1.4),
        ("w0b", 1.5, 1.9),
        ("w1a", 11.0, 11.4),
        ("w1b", 11.5, 11.9),
    ]
    options = DECODED[-1]
    assert (options.language, options.initial_prompt, options.temperature) == ("en", "Names: Ada", (0.2,))
    assert found.segments is not None
    assert [(one.id, one.start, one.end, one.text) for one in found.segments] == [
        (0, 1.0, 1.9, " w0a w0b"),
        (1, 11.0, 11.9, " w1a w1b"),
    ]


def test_without_granularities_there_are_segments_and_no_words(client: openai.OpenAI) -> None:
    found = client.audio.transcriptions.create(model="whisper-1", file=recording(), response_format="verbose_json")
    assert found.words is None
    assert len(found.segments or ()) == 2


def test_the_text_is_streamed_segment_by_segment(client: openai.OpenAI) -> None:
    with client.audio.transcriptions.create(model="gpt-4o-transcribe", file=recording(), stream=True) as stream:
        events = list(stream)
    assert [event.type for event in events] == ["transcript.text.delta"] * 2 + ["transcript.text.done"]
    assert "".join(event.delta for event in events if event.type == "transcript.text.delta") == TEXT
    assert events[-1].type == "transcript.text.done"
    assert events[-1].text == TEXT


@pytest.mark.filterwarnings("ignore:deprecated:DeprecationWarning")
def test_a_translation(client: openai.OpenAI) -> None:
    DECODED.clear()
    assert client.audio.translations.create(model="whisper-1", file=recording()).text == TEXT
    found = client.audio.translations.create(model="whisper-1", file=recording(), response_format="verbose_json")
    assert (found.text, len(found.segments or ())) == (TEXT, 2)
    assert [options.task for options in DECODED] == ["translate"] * 4


def test_what_is_not_valid_is_refused_with_its_reason(client: openai.OpenAI) -> None:
    import openai

    with pytest.raises(openai.UnprocessableEntityError, match=r"no model called .large-v9.; it has: small, tiny"):
        client.audio.transcriptions.create(model="large-v9", file=recording())
    with pytest.raises(openai.UnprocessableEntityError, match="not a language that Whisper knows"):
        client.audio.transcriptions.create(model="whisper-1", file=recording(), language="klingon")
    with pytest.raises(openai.UnprocessableEntityError, match="is empty"):
        client.audio.transcriptions.create(model="whisper-1", file=recording(b""))
    with pytest.raises(openai.APIStatusError, match="the body has more than") as refused:
        client.audio.transcriptions.create(model="whisper-1", file=recording(bytes(4 << 20)))
    assert refused.value.status_code == 413


def test_a_damaged_recording_is_sent_once(tmp_path: Any, received: Counter[str]) -> None:
    import openai

    def script(job: Job) -> JobBehaviour:
        return fails_with(ExitCode.BAD_INPUT, f"{job.media_uri}: is not media", "play it first")

    with running(FileStore(tmp_path), script=script) as up, client_of(up) as client:
        with pytest.raises(openai.UnprocessableEntityError, match=r"talk\.wav: is not media; play it first"):
            client.audio.transcriptions.create(model="whisper-1", file=recording())
        assert received == {"/v1/audio/transcriptions": 1}
        assert {entry.key.partition("/")[0] for entry in up.store.list("")} == {"ledger", "replicas"}


def test_a_long_recording_is_sent_once_and_its_run_goes_on(
    tmp_path: Any, received: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import openai

    monkeypatch.setattr(serving, "ANSWER_WITHIN_S", 0.3)
    with running(FileStore(tmp_path), takes_ms=10**7) as up, client_of(up) as client:
        with pytest.raises(openai.InternalServerError, match=r"it is not transcribed after 0\.3 s") as late:
            client.audio.transcriptions.create(model="whisper-1", file=recording())
        assert late.value.status_code == 504
        assert late.value.response.headers["x-should-retry"] == "false"
        assert received == {"/v1/audio/transcriptions": 1}
        place = late.value.response.headers["location"]
        up.end_jobs()
        assert up.wait_for(place.rpartition("/")[2])["status"] == "complete"
        assert up.client.get(f"{place}/result", params={"format": "txt"}).text.startswith("w0a w0b")


_BODY = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\nsound\r\n--x--\r\n'
_HEAD = (
    "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: 127.0.0.1\r\n"
    f"Content-Type: multipart/form-data; boundary=x\r\nContent-Length: {len(_BODY)}\r\n\r\n"
)


def waiting_client(up: Running) -> socket.socket:
    """A client that has sent a recording, whose run works."""
    opened = socket.create_connection(("127.0.0.1", up.server.port))
    opened.sendall(_HEAD.encode() + _BODY)
    until(lambda: [entry for entry in up.store.list("index/") if b'"running"' in up.store.get(entry.key)], "it runs")
    return opened


def swept(up: Running) -> list[str]:
    """What is left in the store when the time is over in which a client may wait."""
    late_ms = up.clock.now_ms() + 24 * 3600 * 1000
    Sweeper(UploadStore(up.store), Answers(up.store), lambda _: True, lambda: late_ms).sweep()
    return sorted({entry.key.partition("/")[0] for entry in up.store.list("")} - {"ledger", "replicas"})


def test_a_client_that_goes_away_leaves_nothing(tmp_path: Any) -> None:
    with running(FileStore(tmp_path), takes_ms=60_000) as up:
        waiting_client(up).close()
        until(lambda: [item for item in up.store.list("index/") if b'"cancelled"' in up.store.get(item.key)], "ends")
        until(lambda: not list(up.store.list("queue/")), "its end is recorded")
        assert swept(up) == []


def test_what_a_killed_process_was_to_answer_is_cancelled_and_deleted(tmp_path: Any) -> None:
    def script(_: Job) -> JobBehaviour:
        return JobBehaviour(leaves="result", takes_ms=60_000)

    with running(FileStore(tmp_path), script=script) as up:
        submitted = up.submit()["id"]
        up.wait_for(submitted, "running")
        # As such a process leaves it.
        Answers(up.store).begin(RequestKey("default", submitted), up.clock.now_ms())
        assert swept(up) != []
        assert up.wait_for(submitted)["status"] == "cancelled"
        until(lambda: not list(up.store.list("queue/")), "its end is recorded")
        assert swept(up) == []


def test_a_process_that_ends_asks_the_client_to_send_it_again(tmp_path: Any) -> None:
    with running(FileStore(tmp_path), takes_ms=60_000) as up:
        waiting = waiting_client(up)
        up.clock.asked_to_stop = 15
        with waiting:
            reply = b"".join(iter(lambda: waiting.recv(65_536), b"")).decode()
    head, _, body = reply.partition("\r\n\r\n")
    assert head.startswith("HTTP/1.1 503 ")
    fields = dict(line.lower().split(": ", 1) for line in head.splitlines()[1:])
    assert (fields["x-should-retry"], fields["retry-after"]) == ("true", "2")
    assert json.loads(body)["type"] == "urn:stenofleet:problem:interrupted"
    # Another process finds that nobody wants it any more.
    with running(FileStore(tmp_path), takes_ms=60_000) as up:
        until(lambda: not list(up.store.list("queue/")), "it ends")
        assert swept(up) == []
