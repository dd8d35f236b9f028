"""Sources of credentials: each works with a real server, and none shows a secret."""

import http.server
import json
import logging
import re
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import urllib3

from chunk_job.errors import ExitCode, JobError
from chunk_job.store.base import StoreDenied, StoreUnavailable
from chunk_job.store.open_store import open_store
from chunk_job.store.s3 import S3Store
from tests.ports import free_port
from tests.testbed.proxy import Fault, Proxy
from tests.testbed.s3_server import Server

if TYPE_CHECKING:
    from minio.credentials.credentials import Credentials

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "store.md"
KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@pytest.fixture
def temporary(server: Server) -> "Credentials":
    """Temporary credentials from the server's own STS."""
    from minio.credentials.providers import AssumeRoleProvider

    return AssumeRoleProvider(
        sts_endpoint=server.endpoint, access_key=server.access_key, secret_key=server.secret_key
    ).retrieve()


@pytest.fixture
def bare(environment: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """The address of the server without a key."""
    for name in KEYS:
        environment.delenv(name)
    return environment


class Service(http.server.ThreadingHTTPServer):
    """An identity service: gives *answer* with *status*, and records the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status = 200
        self.answer = b""
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        self.server.asked.append((self.path, self.headers.get("Authorization")))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.answer)))
        self.end_headers()
        self.wfile.write(self.server.answer)

    do_GET = do_POST  # noqa: N815 (the names are http.server's)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        thread = threading.Thread(target=service.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield service
        service.shutdown()
        thread.join()


def works(bucket: str) -> None:
    store = open_store(f"s3://{bucket}/p")
    store.put("x", b"data")
    assert store.get("x") == b"data"


def test_temporary_keys(environment: pytest.MonkeyPatch, bucket: str, temporary: "Credentials") -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", temporary.access_key)
    environment.setenv("AWS_SECRET_ACCESS_KEY", temporary.secret_key)
    with pytest.raises(StoreDenied):
        works(bucket)
    environment.setenv("AWS_SESSION_TOKEN", temporary.session_token or "")
    works(bucket)


@pytest.mark.parametrize("profile", [None, "default", "studio"])
def test_a_profile(
    bare: pytest.MonkeyPatch, server: Server, bucket: str, temporary: "Credentials", tmp_path: Path, profile: str | None
) -> None:
    bare.delenv("AWS_ENDPOINT_URL_S3")
    config, credentials = tmp_path / "config", tmp_path / "credentials"
    section = f"profile {profile}" if profile == "studio" else "default"
    config.write_text(f"[{section}]\nregion = us-east-1\nendpoint_url = {server.endpoint}\ns3 =\n  max_queue = 1\n")
    credentials.write_text(
        f"[{profile or 'default'}]\naws_access_key_id = {temporary.access_key}\n"
        f"aws_secret_access_key = {temporary.secret_key}\naws_session_token = {temporary.session_token}\n"
    )
    bare.setenv("AWS_CONFIG_FILE", str(config))
    bare.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    if profile:
        bare.setenv("AWS_PROFILE", profile)
    works(bucket)


def test_a_web_identity(
    bare: pytest.MonkeyPatch, bucket: str, temporary: "Credentials", service: Service, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-web-identity-token")
    bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    bare.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/transcriber")
    bare.setenv("AWS_ENDPOINT_URL_STS", service.url)
    service.answer = f"""
        <AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
          <AssumeRoleWithWebIdentityResult><Credentials>
            <AccessKeyId>{temporary.access_key}</AccessKeyId>
            <SecretAccessKey>{temporary.secret_key}</SecretAccessKey>
            <SessionToken>{temporary.session_token}</SessionToken>
            <Expiration>2036-01-01T00:00:00Z</Expiration>
          </Credentials></AssumeRoleWithWebIdentityResult>
        </AssumeRoleWithWebIdentityResponse>""".strip().encode()
    works(bucket)
    assert len(service.asked) == 1
    assert "WebIdentityToken=a-web-identity-token" in service.asked[0][0]


def test_a_container(
    bare: pytest.MonkeyPatch, bucket: str, temporary: "Credentials", service: Service, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("a-container-token")
    bare.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{service.url}/v1/credentials")
    bare.setenv("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", str(tmp_path / "token"))
    service.answer = json.dumps(
        {
            "AccessKeyId": temporary.access_key,
            "SecretAccessKey": temporary.secret_key,
            "Token": temporary.session_token,
            "Expiration": "2036-01-01T00:00:00Z",
        }
    ).encode()
    works(bucket)
    assert service.asked == [("/v1/credentials", "a-container-token")]


def test_an_identity_service_that_refuses_or_is_away(
    bare: pytest.MonkeyPatch, bucket: str, service: Service, tmp_path: Path, hasty: None
) -> None:
    (tmp_path / "token").write_text("a-web-identity-token")
    bare.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(tmp_path / "token"))
    bare.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/transcriber")
    bare.setenv("AWS_ENDPOINT_URL_STS", service.url)
    service.status, service.answer = 403, b"<ErrorResponse/>"
    with pytest.raises(StoreDenied, match="AWS_WEB_IDENTITY_TOKEN_FILE") as refused:
        works(bucket)
    bare.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{free_port()}")
    with pytest.raises(StoreUnavailable, match="AWS_WEB_IDENTITY_TOKEN_FILE") as away:
        works(bucket)
    (tmp_path / "token").unlink()
    with pytest.raises(StoreDenied, match="AWS_WEB_IDENTITY_TOKEN_FILE") as missing:
        works(bucket)
    for caught in (refused, away, missing):
        assert "a-web-identity-token" not in "".join(traceback.format_exception(caught.value))


def sent(store: S3Store, key: str, data: bytes) -> int:
    """The status of the reply when a client sends *data* with a form."""
    url, fields = store.post_form(key, size_bytes=len(data), until_ms=int(time.time() + 60) * 1000)
    return urllib3.request("POST", url, fields={**fields, "file": ("part", data)}).status


def test_temporary_credentials_sign_forms(
    environment: pytest.MonkeyPatch, bucket: str, temporary: "Credentials"
) -> None:
    environment.setenv("AWS_ACCESS_KEY_ID", temporary.access_key)
    environment.setenv("AWS_SECRET_ACCESS_KEY", temporary.secret_key)
    environment.setenv("AWS_SESSION_TOKEN", temporary.session_token or "")
    store = open_store(f"s3://{bucket}")
    assert isinstance(store, S3Store)
    assert sent(store, "a/x", b"data") == 204
    assert store.get("a/x") == b"data"


def test_the_documented_policy_is_enough(
    server: Server, environment: pytest.MonkeyPatch, bucket: str, tmp_path: Path
) -> None:
    (policy,) = re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    statements = json.loads(policy.replace("BUCKET", bucket).replace("PREFIX", "team/talks"))["Statement"]
    big = tmp_path / "big"
    big.write_bytes(b"\0" * (20 << 20))
    with server.user(*statements) as key:
        for name, value in key.items():
            environment.setenv(name, value)
        store = open_store(f"s3://{bucket}/team/talks")
        store.put("a/x", b"data")
        store.put_file("a/big", big)
        assert store.get("a/x") == b"data"
        assert store.stat("a/y") is None
        assert [entry.key for entry in store.list("a/")] == ["a/big", "a/x"]
        assert len(list(store.list(""))) == 2
        # Uploads of the service's clients: what a form may do is what its signer may do.
        assert isinstance(store, S3Store)
        for number, part in (("1", bytes(5 << 20)), ("2", b"end")):
            assert sent(store, f"u/{number}", part) == 204
        store.compose("u/whole", ["u/1", "u/2"])
        assert store.get("u/whole") == bytes(5 << 20) + b"end"
        for each in ("u/1", "u/2", "u/whole"):
            store.delete(each)
        assert len(list(store.list(""))) == 2
        store.delete("a/x")
        elsewhere = open_store(f"s3://{bucket}/team/other")
        refused: list[Callable[[], object]] = [
            lambda: elsewhere.get("x"),
            lambda: elsewhere.put("x", b""),
            lambda: elsewhere.stat("x"),
            lambda: elsewhere.delete("x"),
            lambda: list(elsewhere.list("")),
        ]
        for verb in refused:
            with pytest.raises(StoreDenied, match="AccessDenied"):
                verb()


def test_no_failure_shows_a_secret(
    proxy: Proxy,
    environment: pytest.MonkeyPatch,
    bucket: str,
    temporary: "Credentials",
    hasty: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Every kind of failure, with its whole traceback and everything that any library logs."""
    caplog.set_level(logging.DEBUG)
    token = temporary.session_token or ""
    environment.setenv("AWS_ACCESS_KEY_ID", temporary.access_key)
    environment.setenv("AWS_SECRET_ACCESS_KEY", temporary.secret_key)
    environment.setenv("AWS_SESSION_TOKEN", token)
    secrets = {temporary.access_key, temporary.secret_key, token, "Signature=", "AWS4-HMAC"}
    echo = "".join(f"<X>{secret}</X>" for secret in secrets)
    shown = []
    for head, body in (
        ("403 Forbidden", f"<Error><Code>SignatureDoesNotMatch</Code><Message>{echo}</Message></Error>"),
        ("400 Bad Request", f"<Error><Code>Odd</Code><Message>{temporary.secret_key}</Message></Error>"),
        ("404 Not Found", f"<html>{echo}</html>"),
        ("503 Slow Down", f"<html>{echo}</html>"),
        ("200 OK", f"<html>{echo}"),
    ):
        kind = "text/html" if "html" in body else "application/xml"
        answer = f"HTTP/1.1 {head}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
        proxy.fault = Fault(kind="answer", data=answer.encode())
        store = open_store(f"s3://{bucket}")
        with pytest.raises(JobError) as caught:
            list(store.list(""))
        shown += [*traceback.format_exception(caught.value), caught.value.advice, repr(store), repr(vars(store))]
    environment.setattr("chunk_job.store.s3_client.READ_S", 0.2)
    for fault in (Fault(kind="refuse"), Fault(kind="cut"), Fault(kind="hang")):
        proxy.fault = fault
        store = open_store(f"s3://{bucket}")
        with pytest.raises(JobError) as caught:
            store.get("x")
        shown += [*traceback.format_exception(caught.value), caught.value.advice]
    assert any("urllib3" in record.name for record in caplog.records)
    for text in (*shown, caplog.text):
        for secret in secrets:
            assert secret not in text


def test_no_credentials_at_all(bare: pytest.MonkeyPatch, bucket: str) -> None:
    with pytest.raises(JobError, match="no credentials") as caught:
        open_store(f"s3://{bucket}")
    assert caught.value.code == ExitCode.CONFIG
    for name in (*KEYS, "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        assert name in caught.value.advice
