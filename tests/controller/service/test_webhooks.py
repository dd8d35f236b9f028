"""Webhooks with real receivers on loopback: what they get, and what happens when they fail."""

import contextlib
import json
import logging
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trustme

from chunk_job.store.base import StoreUnavailable
from chunk_job.store.files import FileStore
from controller.domain.webhook_documents import CloudEvent, Delivery, RunEnded
from controller.service import posting, webhooks
from controller.service.addresses import AddressRefused, AllowList, Target, resolve
from controller.service.outbox import Outbox, Pending
from controller.service.signatures import WebhookKeys, verify
from controller.service.webhooks import Deliverer, Outcome, WebhookThread
from tests.controller.service.receiving import Handler, Receiver, serving
from tests.controller.service.running import running, tenants_file
from tests.pipeline import until
from tests.ports import free_port

pytestmark = pytest.mark.process

DATA = RunEnded(id="01hzy6w9f3kq8x2v4t7m5n0abc", status="partial", summary="1 of 9 chunks failed – é")
SECRET = "a secret of 32 bytes, or longer."
LOOPBACK = "127.0.0.0/8"
NAMES = tuple(f"Stenofleet-{name}" for name in ("Timestamp", "Delivery", "Key-Id", "Signature"))
PAGE = Path(__file__).parents[3] / "docs" / "reference" / "webhooks.md"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with serving() as server:
        yield server


@pytest.fixture
def other() -> Iterator[Receiver]:
    with serving() as server:
        yield server


class Sender:
    """A deliverer on the store at *root*, as a new process has it."""

    def __init__(self, root: Path, store: FileStore | None = None, **options: Any) -> None:
        self.keys = root / "keys.toml"
        if not self.keys.exists():
            self.keys.write_text(f'current = "k1"\n[keys]\nk1 = "{SECRET}"\n')
        self.outbox = Outbox(store or FileStore(root / "store"))
        self.outcomes: list[Outcome] = []
        defaults: dict[str, Any] = {"mine": lambda _: True, "allowed": lambda _: [LOOPBACK]}
        self.deliverer = Deliverer(
            self.outbox, WebhookKeys(self.keys), observe=self.outcomes.append, **{**defaults, **options}
        )

    def add(self, url: str, number: int = 0, prefix: str = "news") -> str:
        return self.outbox.add(prefix, url, DATA.model_copy(update={"retries": number}), ended_ms=0)

    def tick(self, now_ms: int) -> None:
        self.deliverer.tick(now_ms)
        assert self.deliverer.wait(20)

    def waiting(self) -> list[Delivery]:
        return [found for each in self.outbox.pending("news") if (found := self.outbox.read(each))]

    def dead(self) -> list[Delivery]:
        return list(self.outbox.dead("news"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Sender]]:
    with contextlib.ExitStack() as ending:

        def start(store: FileStore | None = None, **options: Any) -> Sender:
            sender = Sender(tmp_path, store, **options)
            ending.callback(sender.deliverer.close)
            return sender

        yield start


Start = Callable[..., Sender]


def test_a_receiver_gets_a_signed_cloud_event(start: Start, receiver: Receiver) -> None:
    sender = start()
    delivery_id = sender.add(f"{receiver.url}?x=1")
    sender.tick(1_800_000_000_999)
    ((path, headers, body),) = receiver.received
    assert path == "/hook?x=1"
    assert headers["Host"] == f"127.0.0.1:{receiver.server_port}"
    assert headers["Content-Type"] == "application/cloudevents+json"
    assert verify(headers, body, {"k1": SECRET.encode()}, 1_800_000_000) == delivery_id
    event = CloudEvent.model_validate_json(body)
    assert (event.id, event.type, event.data) == (delivery_id, "io.stenofleet.run.partial", DATA)
    assert sender.outcomes == ["delivered"]
    assert not sender.waiting()
    assert not sender.dead()
    sender.tick(1_800_000_002_999)
    assert len(receiver.received) == 1


def test_the_example_of_the_documentation_verifies_a_real_request(start: Start, receiver: Receiver) -> None:
    (source,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    example: dict[str, Any] = {}
    exec(source, example)
    example["SECRETS"]["k1"] = SECRET
    sender = start()
    delivery_id = sender.add(receiver.url)
    sender.tick(int(time.time() * 1000))
    ((_, headers, body),) = receiver.received
    assert example["verified"](headers, body)["id"] == delivery_id
    attacks = (
        (headers, body.replace(b"partial", b"success")),
        ({**headers, "Stenofleet-Timestamp": str(int(headers["Stenofleet-Timestamp"]) + 1)}, body),
        ({**headers, "Stenofleet-Signature": "v1="}, body),
        ({**headers, "Stenofleet-Key-Id": "k2"}, body),
        ({**headers, "Stenofleet-Signature": "v1=é"}, body),
        *(({name: value for name, value in headers.items() if name != left_out}, body) for left_out in NAMES),
    )
    for changed_headers, changed_body in attacks:
        with pytest.raises(ValueError, match="not from the service"):
            example["verified"](changed_headers, changed_body)
    late = sender.add(receiver.url, 1)
    sender.tick(int(time.time() * 1000) - 301_000)
    assert receiver.received[1][1]["Stenofleet-Delivery"] == late
    with pytest.raises(ValueError, match="old"):
        example["verified"](*receiver.received[1][1:])


def test_a_failed_delivery_is_tried_again_by_the_next_process(start: Start, receiver: Receiver) -> None:
    receiver.status(503)
    first = start()
    delivery_id = first.add(receiver.url)
    first.tick(1_000)
    first.deliverer.close()
    (waiting,) = first.waiting()
    assert (waiting.attempts, waiting.next_ms) == (1, 11_000)
    assert waiting.last_error == "the receiver responded with HTTP 503"

    second = start()
    second.tick(10_999)
    assert len(receiver.received) == 1
    receiver.status(200)
    second.tick(11_000)
    assert [headers["Stenofleet-Delivery"] for _, headers, _ in receiver.received] == [delivery_id] * 2
    assert not second.waiting()
    assert (first.outcomes, second.outcomes) == (["retried"], ["delivered"])


_SENDING = """
import sys, time
from pathlib import Path
from chunk_job.store.files import FileStore
from controller.service.outbox import Outbox
from controller.service.signatures import WebhookKeys
from controller.service.webhooks import Deliverer, WebhookThread
root = Path(sys.argv[1])
outbox = Outbox(FileStore(root / "store"))
deliverer = Deliverer(outbox, WebhookKeys(root / "keys.toml"), lambda _: True, lambda _: ["127.0.0.0/8"])
begin_s = float(sys.argv[2])
WebhookThread(deliverer, lambda: int((time.time() - begin_s) * 100_000), period_s=0.01).start()
time.sleep(60)
"""


def test_processes_killed_at_any_moment_lose_no_event(start: Start, receiver: Receiver, tmp_path: Path) -> None:
    sender = start()
    added = {sender.add(receiver.url, number) for number in range(150)}

    # The first request for each of these fails. The clock of the processes is a hundred times as fast: 10 s are 100 ms.
    failing = {each for each in added if int(each[8:], 16) % 3 == 0}
    refused: set[str] = set()
    last = threading.Event()

    def odd(handler: Handler) -> None:
        # The processes that are killed cannot send everything, however fast they are.
        if len(receiver.received) > 120:
            last.wait()
        delivery_id = handler.headers["Stenofleet-Delivery"]
        refuses = delivery_id in failing - refused
        refused.add(delivery_id)
        handler.status(500 if refuses else 200)

    def received(count: int) -> bool:
        return len(receiver.received) >= count

    receiver.behave = odd
    command = [sys.executable, "-c", _SENDING, str(tmp_path), str(time.time())]
    for wanted in (30, 60, 90, 120):
        with subprocess.Popen(command) as process:
            until(partial(received, wanted), f"{wanted} requests were sent")
            process.kill()
    assert sender.waiting()
    last.set()
    with subprocess.Popen(command) as process:
        until(lambda: not sender.waiting(), "all are delivered")
        process.kill()
    assert {headers["Stenofleet-Delivery"] for _, headers, _ in receiver.received} == added
    assert not sender.dead()
    assert len(receiver.received) >= len(added) + len(failing) > len(added)


def test_a_process_killed_after_sending_sends_again_with_the_same_id(
    start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    class Down(FileStore):
        def delete(self, key: str) -> None:
            raise StoreUnavailable("down", "")

    first = start(Down(tmp_path / "store"))
    delivery_id = first.add(receiver.url)
    for now_ms in (1_000, 3_000, 5_000):
        first.tick(now_ms)
    # The process knows that it was accepted, and does not send it again while the store is unavailable.
    assert len(receiver.received) == 1
    start().tick(7_000)
    assert [headers["Stenofleet-Delivery"] for _, headers, _ in receiver.received] == [delivery_id] * 2
    assert not first.waiting()


def test_a_delivery_that_could_not_be_put_back_is_not_sent_at_every_tick(
    start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    class Full(FileStore):
        full = False

        def put(self, key: str, data: bytes) -> None:
            if self.full:
                raise StoreUnavailable("full", "")
            super().put(key, data)

    store = Full(tmp_path / "store")
    sender = start(store)
    receiver.status(500)
    sender.add(receiver.url)
    store.full = True
    sender.tick(1_000)
    sender.tick(3_000)
    store.full = False
    sender.tick(5_000)
    assert len(receiver.received) == 1
    assert [(each.attempts, each.next_ms) for each in sender.waiting()] == [(1, 11_000)]


def test_a_dead_delivery_is_listed_and_sent_again(start: Start, receiver: Receiver) -> None:
    receiver.status(410)
    sender = start()
    delivery_id = sender.add(receiver.url)
    sender.tick(1_000)
    (dead,) = sender.dead()
    assert (dead.id, dead.attempts, dead.last_error) == (delivery_id, 1, "the receiver responded with HTTP 410")
    assert not sender.waiting()
    sender.tick(100_000_000)
    assert len(receiver.received) == 1

    receiver.status(200)
    sender.outbox.repeat("news", delivery_id, 200_000_000)
    sender.tick(200_000_000)
    assert len(receiver.received) == 2
    assert not sender.dead()
    assert not sender.waiting()
    assert sender.outcomes == ["dead", "delivered"]


def test_after_three_days_a_delivery_is_dead(start: Start, receiver: Receiver) -> None:
    receiver.status(500)
    sender = start()
    sender.add(receiver.url)
    now_ms = 0
    while waiting := sender.waiting():
        now_ms = waiting[0].next_ms
        sender.tick(now_ms)
    assert len(receiver.received) == 12
    assert 60 <= now_ms / 3_600_000 <= 72
    assert len(sender.dead()) == 1


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(start: Start, receiver: Receiver, other: Receiver, code: int) -> None:
    receiver.behave = lambda handler: handler.status(code, {"Location": other.url})
    sender = start()
    sender.add(receiver.url)
    sender.tick(1_000)
    (waiting,) = sender.waiting()
    assert waiting.last_error == f"the receiver responded with HTTP {code}: redirects are not followed"
    assert not other.received


def test_nothing_is_sent_to_an_address_that_is_not_public(
    start: Start, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    names = {"internal.example": "127.0.0.1", "metadata.example": "169.254.169.254"}

    def lookup(host: str, port: int) -> list[str]:
        if host in names:
            return [names[host]]
        raise OSError("unknown")

    sender = start(lookup=lookup, allowed=lambda _: [])
    for number, host in enumerate((*names, "unknown.example")):
        sender.add(f"https://{host}:{receiver.server_port}/", number)
    with caplog.at_level(logging.INFO):
        sender.tick(1_000)
    assert not receiver.received
    # A tenant cannot see whether a name exists inside, or what it leads to.
    (error,) = {each.last_error for each in sender.waiting()}
    assert error == "the host of the callback URL is not known, or has an address that is not public"
    assert {each.next_ms for each in sender.waiting()} == {11_000}
    assert "169.254.169.254" in caplog.text


def test_a_host_is_removed_from_the_allow_list_while_a_delivery_waits(start: Start, receiver: Receiver) -> None:
    allowed = [LOOPBACK]
    sender = start(allowed=lambda prefix: {"news": allowed}[prefix])
    sender.add(receiver.url)
    allowed.clear()
    sender.tick(1_000)
    assert not receiver.received
    assert "https" in sender.waiting()[0].last_error


def test_the_connection_is_made_to_the_checked_address(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        # A name server that answers with another address every time.
        return ["127.0.0.1"] if len(asked) == 1 else ["169.254.169.254"]

    def resolved_again(*_: object, **__: object) -> None:
        raise AssertionError("resolved again")

    monkeypatch.setattr(socket, "getaddrinfo", resolved_again)
    monkeypatch.setattr(socket, "gethostbyname", resolved_again)
    sender = start(lookup=lookup, allowed=lambda _: ["rebinding.example"])
    sender.add(f"http://rebinding.example:{receiver.server_port}/hook")
    sender.tick(1_000)
    assert asked == ["rebinding.example"]
    assert receiver.received[0][1]["Host"] == f"rebinding.example:{receiver.server_port}"


def test_the_next_address_is_tried_if_one_does_not_accept(start: Start, receiver: Receiver) -> None:
    sender = start(lookup=lambda *_: ["127.0.0.2", "127.0.0.1"])
    sender.add(receiver.url.replace("127.0.0.1", "two.example").replace("http:", "https:"))
    sender.tick(1_000)
    # The first address refuses; the second one accepts, and speaks no TLS.
    assert "TLS failed" in sender.waiting()[0].last_error


@contextlib.contextmanager
def silent(address: str, port: int) -> Iterator[None]:
    """An address that does not answer to connections: the queue of its socket is full."""
    with contextlib.ExitStack() as opened:
        opened.enter_context(socket.create_server((address, port), backlog=0))
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have one loopback address")
def test_an_address_that_does_not_answer_leaves_time_for_the_next_one(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(posting, "CONNECT_S", 1.0)
    addresses = ["127.0.0.2", "127.0.0.1"]
    sender = start(lookup=lambda *_: addresses, allowed=lambda _: ["two.example", LOOPBACK])
    url = receiver.url.replace("127.0.0.1", "two.example")
    sender.add(url)
    limits_s: list[tuple[str, float | None]] = []

    class Recorded(socket.socket):
        def connect(self, address: Any) -> None:
            limits_s.append((address[0], self.gettimeout()))
            super().connect(address)

    monkeypatch.setattr(socket, "socket", Recorded)
    with silent("127.0.0.2", receiver.server_port):
        sender.tick(1_000)
        assert sender.outcomes == ["delivered"]
        (_, first_s), (second, _) = limits_s
        assert first_s
        assert first_s <= posting.CONNECT_S / 2
        assert second == "127.0.0.1"
        addresses.pop()
        sender.add(url, 1)
        sender.tick(1_000)
    assert sender.waiting()[0].last_error == "no connection: no answer in 1 seconds"


@pytest.mark.parametrize("host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "0", "localhost"])
def test_what_the_resolver_of_this_machine_makes_of_a_number_is_checked(host: str) -> None:
    with pytest.raises(AddressRefused, match="not allowed"):
        resolve(Target("https", host, 443, host, "/"), AllowList())


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> Iterator[Receiver]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("receiver.example").configure_cert(context)
    with serving(context) as server:
        yield server


def test_the_certificate_is_checked_for_the_name_in_the_url(
    start: Start, secure: Receiver, authority: trustme.CA
) -> None:
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    sender = start(lookup=lambda *_: ["127.0.0.1"], trust=trust)
    sender.add(secure.url.replace("127.0.0.1", "receiver.example"))
    sender.tick(1_000)
    assert secure.received[0][1]["Host"] == f"receiver.example:{secure.server_port}"
    sender.add(secure.url.replace("127.0.0.1", "other.example"))
    sender.add(secure.url)
    sender.tick(1_000)
    assert len(secure.received) == 1
    assert {each.last_error.partition(":")[0] for each in sender.waiting()} == {"the certificate is not valid"}


def test_a_certificate_of_an_unknown_authority_is_refused(start: Start, secure: Receiver) -> None:
    sender = start(lookup=lambda *_: ["127.0.0.1"])
    sender.add(secure.url.replace("127.0.0.1", "receiver.example"))
    sender.tick(1_000)
    assert not secure.received
    assert "certificate" in sender.waiting()[0].last_error


def test_a_slow_receiver_delays_no_other(start: Start, receiver: Receiver, other: Receiver) -> None:
    free = threading.Event()

    def hang(handler: Handler) -> None:
        free.wait(20)
        handler.status(200)

    receiver.behave = hang
    sender = start()
    for number in range(30):
        sender.add(receiver.url, number)
    # Later than all of the slow receiver.
    sender.outbox.add("news", other.url, DATA, ended_ms=10)
    sender.deliverer.tick(1_000)
    until(lambda: other.received and receiver.running == 2, "the other one has its request")
    sender.deliverer.tick(1_001)
    time.sleep(0.2)
    assert len(receiver.received) == 2
    free.set()
    for now_ms in (1_002, 1_003):
        sender.tick(now_ms)
    assert len(receiver.received) == 30
    assert not sender.waiting()


@pytest.mark.parametrize("line", [b"HTTP/1.1 200 OK\r\n", b""])
def test_a_receiver_that_responds_in_small_pieces_has_a_total_limit(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, line: bytes
) -> None:
    monkeypatch.setattr(posting, "TOTAL_S", 1.0)

    def drip(handler: Handler) -> None:
        """Respond until the sender closes the connection."""
        handler.wfile.write(line)
        with contextlib.suppress(OSError):
            while True:
                handler.wfile.write(b"x")
                time.sleep(0.05)

    receiver.behave = drip
    sender = start()
    sender.add(receiver.url)
    sender.tick(1_000)
    assert sender.waiting()[0].last_error == "no response within 1 seconds"
    until(lambda: receiver.running == 0, "the connection is closed")


@pytest.mark.parametrize(
    "header", [b"Content-Length: 99999999999\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nfff\r\n"]
)
def test_an_endless_response_is_read_in_part(start: Start, receiver: Receiver, header: bytes) -> None:
    sent = 0

    def flood(handler: Handler) -> None:
        nonlocal sent
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n" + header)
        with contextlib.suppress(OSError):
            for _ in range(4_000):
                sent += handler.connection.send(b"x" * 65_536)

    receiver.behave = flood
    sender = start()
    sender.add(receiver.url)
    sender.tick(1_000)
    assert sender.outcomes == ["delivered"]
    until(lambda: receiver.running == 0, "the connection is closed")
    # The buffers of the two sockets, and no more.
    assert sent < 32 << 20


@pytest.mark.parametrize(
    "response",
    [
        b"",
        b"\r\n",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 99 x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a" * 70_000,
    ],
)
def test_a_response_that_is_no_http_is_a_failure(start: Start, receiver: Receiver, response: bytes) -> None:
    def respond(handler: Handler) -> None:
        handler.wfile.write(response)

    receiver.behave = respond
    sender = start()
    sender.add(receiver.url)
    sender.tick(1_000)
    assert sender.outcomes == ["retried"]


def test_headers_without_end_are_a_failure(start: Start, receiver: Receiver) -> None:
    def many(handler: Handler) -> None:
        with contextlib.suppress(OSError):
            for _ in range(200):
                handler.wfile.write(b"HTTP/1.1 100 Continue\r\n" + b"a: " + b"x" * 5_000 + b"\r\n\r\n")

    receiver.behave = many
    sender = start()
    sender.add(receiver.url)
    sender.tick(1_000)
    assert sender.outcomes == ["retried"]


def test_a_port_where_nobody_listens_is_a_failure(start: Start) -> None:
    sender = start()
    sender.add(f"http://127.0.0.1:{free_port()}/")
    sender.tick(1_000)
    assert sender.waiting()[0].last_error == "no connection: Connection refused"


def test_each_replica_sends_its_own_deliveries(start: Start, receiver: Receiver) -> None:
    even = start(mine=lambda delivery_id: int(delivery_id, 16) % 2 == 0)
    odd = start(mine=lambda delivery_id: int(delivery_id, 16) % 2 == 1)
    added = {even.add(receiver.url, number) for number in range(12)}
    even.tick(1_000)
    sent = {headers["Stenofleet-Delivery"] for _, headers, _ in receiver.received}
    assert sent == {each for each in added if int(each, 16) % 2 == 0}
    odd.tick(1_000)
    assert len(receiver.received) == len(added)
    assert not odd.waiting()


def test_duplicates_of_killed_processes_are_removed(start: Start, receiver: Receiver) -> None:
    receiver.status(500)
    sender = start()
    delivery_id = sender.add(receiver.url)
    (first,) = sender.waiting()
    sender.tick(1_000)
    sender.outbox._store.put(Pending.of(first).key, first.encode())  # the process was killed before it deleted this
    start().tick(11_000)
    assert [(each.id, each.attempts) for each in sender.waiting()] == [(delivery_id, 2)]
    assert len(receiver.received) == 2


def test_duplicates_of_another_replica_are_left(start: Start) -> None:
    sender = start(mine=lambda _: False)
    delivery_id = sender.add("https://receiver.example/")
    (first,) = sender.waiting()
    later = first.model_copy(update={"next_ms": 9_000})
    sender.outbox._store.put(Pending.of(later).key, later.encode())
    sender.tick(10_000)
    assert [(each.id, each.next_ms) for each in sender.waiting()] == [(delivery_id, 0), (delivery_id, 9_000)]


def test_deliveries_wait_for_a_key(start: Start, receiver: Receiver) -> None:
    sender = start()
    sender.add(receiver.url)
    own = f'[tenants.radio]\ncurrent = "r"\n[tenants.radio.keys]\nr = "{SECRET}"\n'
    sender.keys.write_text(own)
    sender.tick(1_000)
    assert not receiver.received
    sender.keys.write_text(f'{own}[tenants.news]\ncurrent = "n"\n[tenants.news.keys]\nn = "{SECRET}"\n')
    sender.tick(3_000)
    assert receiver.received[0][1]["Stenofleet-Key-Id"] == "n"


def test_an_object_that_cannot_be_read_is_kept_and_reported_once(
    start: Start, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    sender = start()
    sender.add(receiver.url)
    broken = Pending("news", 0, "f" * 32)
    sender.outbox._store.put(broken.key, b"{}")
    for now_ms in (1_000, 3_000):
        sender.tick(now_ms)
    assert len(receiver.received) == 1
    assert list(sender.outbox.pending("news")) == [broken]
    assert len([record for record in caplog.records if broken.id in record.message]) == 1


def test_a_mistake_in_this_code_counts_as_a_failed_attempt(
    start: Start, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    def lookup(host: str, port: int) -> list[str]:
        raise RuntimeError("secret detail")

    sender = start(lookup=lookup)
    sender.add(receiver.url)
    sender.tick(1_000)
    assert [(each.attempts, each.last_error) for each in sender.waiting()] == [(1, "an internal error of the service")]
    assert "secret detail" in caplog.text


def test_the_thread_sends_what_is_added_and_survives_a_store_that_is_down(
    start: Start, receiver: Receiver, tmp_path: Path
) -> None:
    class Flaky(FileStore):
        failures = 2

        def folders(self, prefix: str) -> Iterator[str]:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("down", "") if self.failures else RuntimeError("odd")
            return super().folders(prefix)

    sender = start(Flaky(tmp_path / "store"))
    thread = WebhookThread(sender.deliverer, lambda: 1_000, period_s=0.01)
    thread.start()
    sender.add(receiver.url)
    until(lambda: receiver.received, "it is sent")
    sender.add(receiver.url, 1)
    until(lambda: len(receiver.received) == 2, "the other one is sent")
    until(lambda: not sender.waiting(), "both are delivered")
    thread.stop()
    assert not [each for each in threading.enumerate() if each.name.startswith("webhook")]
    sender.add(receiver.url, 2)
    sender.deliverer.tick(2_000)
    assert len(sender.waiting()) == 1


def test_a_run_of_the_service_is_reported_to_its_callback(receiver: Receiver, tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.write_text(f'current = "k1"\n[keys]\nk1 = "{SECRET}"\n')
    tenants, headers_of = tenants_file(tmp_path, news=f'webhook_hosts = ["{LOOPBACK}"]', radio="")
    with running(FileStore(tmp_path / "store"), tenants=tenants, webhook_keys=keys) as service:
        request: dict[str, Any] = {"callback_url": receiver.url, "labels": {"show": "morning"}}
        submitted = service.submit(headers=headers_of["news"], **request)
        form: dict[str, Any] = {"files": {"file": ("a.wav", b"x")}, "data": {"request": json.dumps(request)}}
        refused = service.client.post("/v1/runs", headers=headers_of["radio"], **form)
        assert "https://" in refused.json()["detail"], refused.text
        until(lambda: receiver.received, "it is sent")
    ((_, headers, body),) = receiver.received
    verify(headers, body, {"k1": SECRET.encode()}, time.time())
    data = CloudEvent.model_validate_json(body).data
    assert (data.id, data.status, data.labels) == (submitted["id"], "complete", {"show": "morning"})


def test_a_large_backlog_is_looked_at_in_parts(
    start: Start, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    sender = start()
    for number in range(250):
        sender.add(receiver.url, number)
    monkeypatch.setattr(webhooks, "_MOST_LOOKED_AT", 100)
    offered: list[Pending] = []

    def offer(pending: Pending) -> bool:
        offered.append(pending)
        return True

    monkeypatch.setattr(sender.deliverer._queue, "offer", offer)
    for expected in (100, 200, 250, 350):
        sender.tick(10_000)
        assert len(offered) == expected
    assert len(set(offered)) == 250
