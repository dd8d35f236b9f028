"""Errors of the store when S3 is down, slow, broken or refuses access; with a real server and a proxy with faults."""

import gzip
import io
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from chunk_job.errors import DocumentInvalid, ExitCode, JobError
from chunk_job.store import s3_client
from chunk_job.store.base import Store, StoreDenied, StoreUnavailable
from chunk_job.store.open_store import open_store
from tests.ports import free_port
from tests.testbed import s3_server
from tests.testbed.proxy import Fault, Proxy, proxied
from tests.testbed.s3_server import OwnServer, Server

DATA = bytes(range(256)) * 4096  # 1 MiB


def verbs(store: Store, path: Path) -> dict[str, Callable[[], object]]:
    """Every operation, on an object ``x``."""
    path.write_bytes(b"data")
    return {
        "get": lambda: store.get("x"),
        "open": lambda: store.open("x").close(),
        "put": lambda: store.put("x", b"data"),
        "put_file": lambda: store.put_file("x", path),
        "list": lambda: list(store.list("")),
        "stat": lambda: store.stat("x"),
        "delete": lambda: store.delete("x"),
    }


VERBS = pytest.mark.parametrize("verb", ["get", "open", "put", "put_file", "list", "stat", "delete"])
READS = pytest.mark.parametrize("verb", ["get", "open"])
BOUNDED = pytest.mark.parametrize("verb", ["get", "open", "get_file"])


def read(store: Store, verb: str, key: str = "x") -> bytes:
    if verb == "get":
        return store.get(key)
    with store.open(key) as file:
        return file.read()


def read_within(store: Store, verb: str, max_bytes: int, path: Path) -> bytes:
    """The object ``x``, read by one of the read operations."""
    if verb == "get":
        return store.get("x", max_bytes=max_bytes)
    if verb == "get_file":
        store.get_file("x", path, max_bytes=max_bytes)
        return path.read_bytes()
    with store.open("x", max_bytes=max_bytes) as file:
        return file.read()


def until(condition: Callable[[], bool]) -> None:
    """Wait until *condition* is true; pytest's timeout ends a wait that never does."""
    while not condition():
        time.sleep(0.01)


def answer(status: str, body: str, *headers: str, kind: str = "application/xml") -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", "Connection: close"]
    return "\r\n".join([*head, *headers, "", body]).encode()


def error(code: str) -> str:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>m</Message></Error>"


# ---------------------------------------------------------------- the server is away


@VERBS
def test_a_server_that_is_down(
    environment: pytest.MonkeyPatch, hasty: None, bucket: str, verb: str, tmp_path: Path
) -> None:
    environment.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="Connection refused") as caught:
        verbs(open_store(f"s3://{bucket}"), tmp_path / "file")[verb]()
    assert "AWS_ENDPOINT_URL_S3" in caught.value.advice
    assert bucket in caught.value.summary


def test_no_such_host(environment: pytest.MonkeyPatch, hasty: None, bucket: str) -> None:
    environment.setenv("AWS_ENDPOINT_URL_S3", "http://stenofleet.invalid")
    with pytest.raises(StoreUnavailable, match="no such host"):
        open_store(f"s3://{bucket}").get("x")


@VERBS
@pytest.mark.parametrize("status", ["429 Too Many Requests", "500 Oops", "503 Slow Down"])
def test_a_passing_failure_is_tried_again(
    proxy: Proxy, hasty: None, bucket: str, verb: str, status: str, tmp_path: Path
) -> None:
    store = open_store(f"s3://{bucket}")
    store.put("x", b"data")
    proxy.fault = Fault(kind="answer", data=answer(status, error("SlowDown")), times=3)
    store = open_store(f"s3://{bucket}")
    verbs(store, tmp_path / "file")[verb]()
    assert proxy.fault.times == 0


@VERBS
def test_reset_connections_are_tried_again(proxy: Proxy, hasty: None, bucket: str, verb: str, tmp_path: Path) -> None:
    open_store(f"s3://{bucket}").put("x", b"data")
    proxy.fault = Fault(kind="refuse", times=2)
    verbs(open_store(f"s3://{bucket}"), tmp_path / "file")[verb]()
    assert proxy.fault.times == 0


@pytest.mark.parametrize(
    "data",
    [
        answer("503 Slow Down", error("SlowDown")),
        answer("503 Service Unavailable", "<html>no backend</html>", kind="text/html"),
        answer("500 Oops", ""),
    ],
)
@VERBS
def test_the_tries_come_to_an_end(
    proxy: Proxy, hasty: None, bucket: str, data: bytes, verb: str, tmp_path: Path
) -> None:
    proxy.fault = Fault(kind="answer", data=data)
    with pytest.raises(StoreUnavailable, match=r"50[03]"):
        verbs(open_store(f"s3://{bucket}"), tmp_path / "file")[verb]()
    assert proxy.connections <= 2 * 5


def test_retry_after_is_obeyed(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("urllib3.util.retry.time.sleep", waits.append)
    proxy.fault = Fault(kind="answer", data=answer("503 Slow Down", error("SlowDown"), "Retry-After: 7200"), times=3)
    open_store(f"s3://{bucket}").put("x", b"data")
    assert waits == [s3_client.RETRY_AFTER_S] * 3


def test_a_server_that_never_answers(proxy: Proxy, hasty: None, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_client, "READ_S", 0.3)
    proxy.fault = Fault(kind="hang")
    with pytest.raises(StoreUnavailable, match="no response in time"):
        open_store(f"s3://{bucket}").get("x")
    assert proxy.connections == 3


@READS
def test_a_slow_body_arrives(proxy: Proxy, store: Store, verb: str) -> None:
    store.put("x", DATA)
    proxy.fault = Fault(kind="slow", bytes_per_s=2 << 20)
    assert read(store, verb) == DATA


# ---------------------------------------------------------------- half an answer


@READS
@pytest.mark.parametrize("after_bytes", [400_000, len(DATA)])
def test_a_body_that_breaks_off_is_fetched_again(
    proxy: Proxy, hasty: None, bucket: str, verb: str, after_bytes: int
) -> None:
    open_store(f"s3://{bucket}").put("x", DATA)
    proxy.fault = Fault(kind="cut", after_bytes=after_bytes, times=2)
    assert read(open_store(f"s3://{bucket}"), verb) == DATA
    assert proxy.fault.times == 0


def test_a_large_body_resumes_where_it_broke_off(proxy: Proxy, hasty: None, bucket: str) -> None:
    large = DATA * 8
    open_store(f"s3://{bucket}").put("x", large)
    store = open_store(f"s3://{bucket}")
    before = proxy.downloaded_bytes
    proxy.fault = Fault(kind="cut", after_bytes=len(large) * 3 // 4, times=1)
    assert read(store, "open") == large
    assert proxy.downloaded_bytes - before < len(large) * 5 // 4


def test_a_body_is_never_made_of_two_objects(proxy: Proxy, bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(f"s3://{bucket}").put("x", DATA)

    def replaced(_: float) -> float:
        open_store(f"s3://{bucket}").put("x", DATA[::-1])
        return 0.0

    monkeypatch.setattr(s3_client, "jittered", replaced)
    proxy.fault = Fault(kind="cut", after_bytes=400_000, times=1)
    with pytest.raises(JobError, match="PreconditionFailed") as refused:
        read(open_store(f"s3://{bucket}"), "open")
    assert "replaced while it was being read" in refused.value.advice


@READS
def test_a_body_that_always_breaks_off_is_an_error(proxy: Proxy, hasty: None, bucket: str, verb: str) -> None:
    open_store(f"s3://{bucket}").put("x", DATA)
    # Three tries do not complete it.
    proxy.fault = Fault(kind="cut", after_bytes=300_000)
    with pytest.raises(StoreUnavailable, match="the connection was interrupted"):
        read(open_store(f"s3://{bucket}"), verb)


@READS
def test_an_orderly_end_before_the_promised_length_is_an_error(
    proxy: Proxy, hasty: None, bucket: str, verb: str
) -> None:
    data = answer("200 OK", "", kind="text/plain").replace(b"Content-Length: 0", b"Content-Length: 1000") + b"half"
    proxy.fault = Fault(kind="answer", data=data)
    with pytest.raises(StoreUnavailable, match="the connection was interrupted"):
        read(open_store(f"s3://{bucket}"), verb)


def test_a_listing_that_breaks_off_is_fetched_again(proxy: Proxy, hasty: None, bucket: str) -> None:
    store = open_store(f"s3://{bucket}")
    keys = [f"{n:03}" for n in range(50)]
    for key in keys:
        store.put(key, b"")
    proxy.fault = Fault(kind="cut", after_bytes=4000, times=1)
    assert [entry.key for entry in open_store(f"s3://{bucket}").list("")] == keys
    assert proxy.fault.times == 0


def test_a_server_that_is_not_s3(proxy: Proxy, bucket: str, tmp_path: Path) -> None:
    store = open_store(f"s3://{bucket}")
    for data in (
        answer("404 Not Found", "<html>nothing here</html>", kind="text/html"),
        answer("200 OK", "<html>welcome</html>", kind="text/html"),
        answer("200 OK", "welcome", kind="text/html"),
        answer("403 Forbidden", "\udcff".encode(errors="surrogateescape").decode("latin-1"), kind="text/html"),
    ):
        proxy.fault = Fault(kind="answer", data=data)
        with pytest.raises(JobError, match="not a response of S3") as caught:
            list(store.list(""))
        assert caught.value.code == ExitCode.CONFIG
        assert "AWS_ENDPOINT_URL_S3" in caught.value.advice


def test_a_full_scratch_disk_is_reported(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.put("x", DATA)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("chunk_job.store.s3.copy_bounded", full)
    with pytest.raises(StoreUnavailable, match="No space left") as caught:
        store.open("x")
    assert "TMPDIR" in caught.value.advice


# ---------------------------------------------------------------- more than was asked for


@BOUNDED
def test_an_object_is_read_as_it_is_stored_whatever_encoding_it_is_given(
    server: Server, environment: pytest.MonkeyPatch, bucket: str, verb: str, tmp_path: Path
) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    server.client().put_object(
        bucket_name=bucket,
        object_name="x",
        data=io.BytesIO(bomb),
        length=len(bomb),
        metadata={"Content-Encoding": "gzip"},
    )
    stored = server.client().stat_object(bucket_name=bucket, object_name="x")
    assert stored.metadata
    assert stored.metadata["Content-Encoding"] == "gzip"
    store = open_store(f"s3://{bucket}")
    assert read_within(store, verb, len(bomb), tmp_path / "file") == bomb
    with pytest.raises(DocumentInvalid, match=f"x is larger than {len(bomb) - 1} bytes"):
        read_within(store, verb, len(bomb) - 1, tmp_path / "other")


@BOUNDED
def test_no_more_is_read_than_may_be(
    proxy: Proxy, environment: pytest.MonkeyPatch, bucket: str, verb: str, tmp_path: Path
) -> None:
    open_store(f"s3://{bucket}").put("x", DATA * 16)
    store = open_store(f"s3://{bucket}")
    before = proxy.downloaded_bytes
    with pytest.raises(DocumentInvalid, match="object x is larger than 1000 bytes"):
        read_within(store, verb, 1000, tmp_path / "file")
    # Some of it is in the buffers of the sockets.
    assert proxy.downloaded_bytes - before < len(DATA) * 8
    assert not (tmp_path / "file").exists() or (tmp_path / "file").stat().st_size == 0


@BOUNDED
@pytest.mark.parametrize("allowed", [9, 10])
def test_a_body_without_a_length_is_bounded_too(
    proxy: Proxy, hasty: None, bucket: str, verb: str, allowed: int, tmp_path: Path
) -> None:
    proxy.fault = Fault(kind="answer", data=b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n0123456789")
    store = open_store(f"s3://{bucket}")
    if allowed == 10:
        assert read_within(store, verb, allowed, tmp_path / "file") == b"0123456789"
        return
    with pytest.raises(DocumentInvalid, match="object x is larger than 9 bytes"):
        read_within(store, verb, allowed, tmp_path / "file")
    assert proxy.connections == 1, "it is not requested again"
    if verb == "get_file":
        assert (tmp_path / "file").read_bytes() == b""


def test_a_content_length_that_is_too_small_is_an_error_too(
    proxy: Proxy, hasty: None, bucket: str, tmp_path: Path
) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    proxy.fault = Fault(kind="answer", data=chunked + b"a\r\n0123456789\r\n0\r\n\r\n")
    with pytest.raises(DocumentInvalid, match="larger than 9 bytes"):
        open_store(f"s3://{bucket}").get("x", max_bytes=9)


# ---------------------------------------------------------------- another part than was asked for


def parts(*answers: bytes) -> Callable[[Proxy], None]:
    """Answers that the proxy gives instead of the server, one for each connection."""

    def give(proxy: Proxy) -> None:
        left = list(answers)
        proxy._take = lambda: Fault(kind="answer", data=left.pop(0)) if left else None  # type: ignore[method-assign]

    return give


def body(status: str, data: bytes, *headers: str, length: int | None = None) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(data) if length is None else length}", "Connection: close"]
    return "\r\n".join([*head, *headers, "", ""]).encode() + data


# More than is read at once, so that something of the first answer is in the file when the second one comes.
HALF = len(DATA) * 2
WHOLE = DATA * 3
BEGUN = body("200 OK", WHOLE[:HALF], 'ETag: "one"', length=len(WHOLE))


def part(data: bytes, etag: str, start: int) -> bytes:
    header = f"Content-Range: bytes {start}-{start + len(data) - 1}/{len(WHOLE)}"
    return body("206 Partial Content", data, f'ETag: "{etag}"', header)


@pytest.mark.parametrize("verb", ["open", "get_file"])
@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([part(WHOLE[HALF:], "one", HALF)], id="rest"),
        pytest.param([body("200 OK", WHOLE, 'ETag: "one"')], id="whole"),
        pytest.param([body("200 OK", WHOLE, 'ETag: "two"')], id="whole of another"),
        pytest.param([part(DATA[::-1], "two", HALF), body("200 OK", WHOLE, 'ETag: "two"')], id="rest of another"),
        pytest.param([part(DATA[7:], "one", HALF + 7), body("200 OK", WHOLE, 'ETag: "one"')], id="another part"),
        pytest.param([body("204 No Content", b""), body("200 OK", WHOLE, 'ETag: "one"')], id="nothing"),
    ],
)
def test_a_transfer_is_continued_with_the_rest_of_the_same_object_or_begun_again(
    proxy: Proxy, hasty: None, bucket: str, verb: str, answers: list[bytes], tmp_path: Path
) -> None:
    parts(BEGUN, *answers)(proxy)
    assert read_within(open_store(f"s3://{bucket}"), verb, len(WHOLE), tmp_path / "file") == WHOLE
    assert proxy.connections == 1 + len(answers)


def test_without_an_etag_a_transfer_is_begun_again(proxy: Proxy, hasty: None, bucket: str) -> None:
    header = f"Content-Range: bytes {HALF}-{len(WHOLE) - 1}/{len(WHOLE)}"
    parts(
        body("200 OK", WHOLE[:HALF], length=len(WHOLE)),
        body("206 Partial Content", DATA[::-1], header),
        body("200 OK", WHOLE),
    )(proxy)
    assert read(open_store(f"s3://{bucket}"), "open") == WHOLE


@READS
def test_a_partial_answer_that_was_not_requested_is_not_the_object(
    proxy: Proxy, hasty: None, bucket: str, verb: str
) -> None:
    proxy.fault = Fault(
        kind="answer", data=body("206 Partial Content", b"56789", 'ETag: "one"', "Content-Range: bytes 0-4/10")
    )
    with pytest.raises(StoreUnavailable):
        read(open_store(f"s3://{bucket}"), verb)
    assert proxy.connections == 3


# ---------------------------------------------------------------- the server is killed


@READS
def test_killed_in_the_middle_of_a_get_and_back(mortal: OwnServer, environment: pytest.MonkeyPatch, verb: str) -> None:
    for name, value in mortal.environment.items():
        environment.setenv(name, value)
    with mortal.bucket() as bucket, proxied(mortal.address) as proxy:
        open_store(f"s3://{bucket}").put("x", DATA * 32)
        environment.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        proxy.fault = Fault(kind="slow", bytes_per_s=16 << 20, times=1)
        with ThreadPoolExecutor() as pool:
            reading = pool.submit(read, open_store(f"s3://{bucket}"), verb)
            until(lambda: proxy.downloaded_bytes > 2 * len(DATA))
            mortal.kill()
            mortal.start()
            assert reading.result() == DATA * 32
        assert proxy.connections > 1


def test_killed_in_the_middle_of_a_put_and_back(
    mortal: OwnServer, environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in mortal.environment.items():
        environment.setenv(name, value)
    big = tmp_path / "big"
    big.write_bytes(DATA * 40)
    with mortal.bucket() as bucket, proxied(mortal.address) as proxy:
        environment.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint)
        proxy.fault = Fault(kind="slow", bytes_per_s=40 << 20, times=1)
        store = open_store(f"s3://{bucket}")
        with ThreadPoolExecutor() as pool:
            writing = pool.submit(store.put_file, "x", big)
            until(lambda: proxy.uploaded_bytes > 20 * len(DATA))
            mortal.kill()
            mortal.start()
            writing.result()
        assert proxy.connections > 1
        assert store.get("x") == DATA * 40


@pytest.mark.parametrize("size", [1, 40])
def test_a_killed_writer_leaves_nothing(
    proxy: Proxy, environment: pytest.MonkeyPatch, bucket: str, tmp_path: Path, size: int
) -> None:
    big = tmp_path / "big"
    big.write_bytes(DATA * size)
    proxy.fault = Fault(kind="slow", bytes_per_s=size << 20)
    program = (
        "import sys, pathlib; from chunk_job.store.open_store import open_store;"
        "open_store(sys.argv[1]).put_file('x', pathlib.Path(sys.argv[2]))"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, f"s3://{bucket}", str(big)])
    until(lambda: proxy.uploaded_bytes > size * len(DATA) // 2)
    assert writer.poll() is None
    writer.kill()
    writer.wait()
    proxy.fault = None
    store = open_store(f"s3://{bucket}")
    assert store.stat("x") is None
    assert list(store.list("")) == []
    store.put_file("x", big)
    assert store.get("x") == DATA * size


# ---------------------------------------------------------------- the server refuses access


@VERBS
def test_no_bucket(environment: pytest.MonkeyPatch, verb: str, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="NoSuchBucket") as caught:
        verbs(open_store("s3://stenofleet-nowhere"), tmp_path / "file")[verb]()
    assert caught.value.code == ExitCode.CONFIG
    assert "create the bucket" in caught.value.advice


@VERBS
@pytest.mark.parametrize(
    "variable,code",
    [("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"), ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch")],
)
def test_a_key_that_is_wrong(
    environment: pytest.MonkeyPatch, bucket: str, verb: str, variable: str, code: str, tmp_path: Path
) -> None:
    environment.setenv(variable, "wrongwrongwrong")
    with pytest.raises(StoreDenied, match=code) as caught:
        verbs(open_store(f"s3://{bucket}"), tmp_path / "file")[verb]()
    assert variable in caught.value.advice


def test_a_session_token_that_is_wrong(environment: pytest.MonkeyPatch, bucket: str) -> None:
    environment.setenv("AWS_SESSION_TOKEN", "wrong")
    with pytest.raises(StoreDenied, match="InvalidTokenId") as caught:
        open_store(f"s3://{bucket}").get("x")
    assert "AWS_SESSION_TOKEN" in caught.value.advice


@VERBS
def test_a_clock_that_is_wrong(environment: pytest.MonkeyPatch, bucket: str, verb: str, tmp_path: Path) -> None:
    with environment.context() as patch:
        patch.setattr("minio.time.utcnow", lambda: datetime.now(UTC) + timedelta(minutes=20))
        with pytest.raises(StoreDenied, match="RequestTimeTooSkewed") as caught:
            verbs(open_store(f"s3://{bucket}"), tmp_path / "file")[verb]()
    assert "clocks" in caught.value.advice


@pytest.mark.parametrize(
    "verb,action",
    [
        ("get", "GetObject"),
        ("open", "GetObject"),
        ("stat", "GetObject"),
        ("put", "PutObject"),
        ("put_file", "PutObject"),
        ("delete", "DeleteObject"),
        ("list", "ListBucket"),
    ],
)
def test_a_right_that_is_missing(
    server: Server, environment: pytest.MonkeyPatch, bucket: str, verb: str, action: str, tmp_path: Path
) -> None:
    open_store(f"s3://{bucket}").put("x", b"data")
    everything = {"Effect": "Allow", "Action": "s3:*", "Resource": ["arn:aws:s3:::*"]}
    with server.user(everything, {"Effect": "Deny", "Action": f"s3:{action}", "Resource": "arn:aws:s3:::*"}) as key:
        for name, value in key.items():
            environment.setenv(name, value)
        with pytest.raises(StoreDenied, match="AccessDenied") as caught:
            verbs(open_store(f"s3://{bucket}"), tmp_path / "file")[verb]()
    assert f"s3:{action}" in caught.value.advice


@VERBS
def test_a_region_that_is_wrong(environment: pytest.MonkeyPatch, tmp_path: Path, verb: str) -> None:
    if s3_server.given():
        pytest.skip("the region is the server's own setting")
    with s3_server.own(tmp_path / "minio", variables={"MINIO_REGION": "eu-here-1"}) as server:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        # A server that has only just started may not have read its region yet; one that makes a bucket has.
        server.mc("mb", "server/bucket")
        environment.setenv("AWS_REGION", "eu-there-1")
        with pytest.raises(JobError, match="AuthorizationHeaderMalformed") as caught:
            verbs(open_store("s3://bucket"), tmp_path / "file")[verb]()
        assert caught.value.code == ExitCode.CONFIG
        assert "AWS_REGION" in caught.value.advice
        environment.setenv("AWS_REGION", "eu-here-1")
        open_store("s3://bucket").put("x", b"data")


# ---------------------------------------------------------------- TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls_needs_a_trusted_certificate(
    authority: trustme.CA, environment: pytest.MonkeyPatch, hasty: None, tmp_path: Path
) -> None:
    if s3_server.given():
        pytest.skip("the certificate is the server's own setting")
    folder, other = tmp_path / "certificates", tmp_path / "other.pem"
    bundle = folder / "ca.pem"
    folder.mkdir()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(folder / "public.crt")
    certificate.private_key_pem.write_to_path(folder / "private.key")
    authority.cert_pem.write_to_path(bundle)
    trustme.CA().cert_pem.write_to_path(other)
    with s3_server.own(tmp_path / "minio", certificates=folder) as server:
        for name, value in server.environment.items():
            environment.setenv(name, value)
        server.mc("mb", "server/bucket")
        for variable in ("AWS_CA_BUNDLE", "SSL_CERT_FILE"):
            with environment.context() as patch:
                patch.setenv(variable, str(bundle))
                store = open_store("s3://bucket")
                store.put("x", DATA)
                assert store.get("x") == DATA
        for bad in (None, other):
            with environment.context() as patch:
                if bad:
                    patch.setenv("AWS_CA_BUNDLE", str(bad))
                with pytest.raises(JobError, match="no TLS: unable to get local issuer certificate") as caught:
                    open_store("s3://bucket").get("x")
                assert caught.value.code == ExitCode.CONFIG
                assert "AWS_CA_BUNDLE" in caught.value.advice
        environment.setenv("AWS_CA_BUNDLE", str(bundle))
        environment.setenv("AWS_ENDPOINT_URL_S3", server.endpoint.replace("127.0.0.1", "localhost"))
        with pytest.raises(JobError, match=r"[Hh]ostname mismatch"):
            open_store("s3://bucket").get("x")
        environment.setenv("AWS_ENDPOINT_URL_S3", server.endpoint.replace("https", "http"))
        with pytest.raises(JobError, match="not a response of S3") as caught:
            open_store("s3://bucket").get("x")
        assert "https" in caught.value.advice


def test_tls_to_a_server_without(server: Server, environment: pytest.MonkeyPatch, hasty: None, bucket: str) -> None:
    environment.setenv("AWS_ENDPOINT_URL_S3", server.endpoint.replace("http:", "https:"))
    with pytest.raises(JobError, match="no TLS") as caught:
        open_store(f"s3://{bucket}").get("x")
    assert caught.value.code == ExitCode.CONFIG
    assert "http://" in caught.value.advice


def test_a_handshake_that_breaks_off_is_the_network(
    proxy: Proxy, hasty: None, bucket: str, environment: pytest.MonkeyPatch
) -> None:
    environment.setenv("AWS_ENDPOINT_URL_S3", proxy.endpoint.replace("http:", "https:"))
    proxy.fault = Fault(kind="answer", data=b"")
    with pytest.raises(StoreUnavailable, match="the connection was interrupted"):
        open_store(f"s3://{bucket}").get("x")
