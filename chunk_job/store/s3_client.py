"""The S3 client from the AWS variables and files: endpoint, region, credentials, certificates, retries.

Touches: environment, the AWS files, and the network if a service provides the credentials.
"""

from __future__ import annotations

import configparser
import os
import random
import re
import ssl
import threading
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit
from xml.etree.ElementTree import ParseError

import certifi
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.credentials.providers import IamAwsProvider, Provider, StaticProvider
from minio.helpers import check_bucket_name
from urllib3 import BaseHTTPResponse, PoolManager, Retry, Timeout
from urllib3.exceptions import HTTPError, MaxRetryError, SSLError

from chunk_job.errors import ExitCode, JobError
from chunk_job.store.base import StoreDenied, StoreUnavailable

CONNECT_S = 5.0
READ_S = 60.0
"""A request is aborted when the server sends nothing for this time. A slow body does not count."""

RETRY_AFTER_S = 10
"""The longest ``Retry-After`` that is obeyed. MinIO sends 60 whenever it is busy, also shortly after its start."""

CONNECTIONS = 64
"""Connections that are kept open for threads. More threads would open a new one per request, with a warning."""

_IDENTITY_TIMEOUT = Timeout(connect=2.0, read=20.0)
_AWS = "https://s3.amazonaws.com"
_ENDPOINT, _REGION = "AWS_ENDPOINT_URL_S3", "AWS_REGION"
_ADVICE = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (with AWS_SESSION_TOKEN for temporary keys), or AWS_PROFILE with"
    " keys in ~/.aws/credentials, or AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN; if only the AWS CLI can sign in:"
    " aws configure export-credentials --format env"
)


def connect(bucket: str) -> tuple[Minio, str]:
    """A client for *bucket*, and its endpoint's name for messages. Makes no request.

    Raises :class:`JobError` (CONFIG) for an invalid environment.
    """
    profile = _profile()
    found = _location(profile)
    endpoint, region = found.get(_ENDPOINT, _AWS), found.get(_REGION)
    parts = urlsplit(endpoint)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        # The value is not repeated, because it may contain a password.
        raise JobError(
            ExitCode.CONFIG,
            "AWS_ENDPOINT_URL_S3 (or AWS_ENDPOINT_URL) is not the URL of a server",
            "use http://host:port or https://host, without a user",
        )
    try:
        client = Minio(
            endpoint=endpoint.removeprefix(f"{parts.scheme}://").rstrip("/"),
            secure=parts.scheme == "https",
            # Without a region the SDK asks AWS for the bucket's one. Most other servers have none and accept this one.
            region=region or (None if endpoint == _AWS else "us-east-1"),
            credentials=_identity(profile),
            http_client=_pool(Timeout(connect=CONNECT_S, read=READ_S), Patience.fresh()),
        )
        check_bucket_name(bucket_name=bucket)
    except ValueError as error:
        raise JobError(
            ExitCode.CONFIG, f"no S3 client: {error}", "check --store, AWS_ENDPOINT_URL_S3 and AWS_REGION"
        ) from None
    # Path style is used except on AWS. This setting of the AWS tools is for servers that need buckets as host names.
    if re.search(r"addressing_style\s*=\s*virtual", profile.get("s3", "")):
        client.enable_virtual_style_endpoint()  # type: ignore[no-untyped-call]
    return client, parts.netloc


def environment() -> dict[str, str]:
    """Endpoint and region of this process as variables, without those that are not set."""
    return _location(_profile())


def _location(profile: dict[str, str]) -> dict[str, str]:
    found = {
        _ENDPOINT: os.environ.get(_ENDPOINT) or os.environ.get("AWS_ENDPOINT_URL") or profile.get("endpoint_url"),
        _REGION: os.environ.get(_REGION) or os.environ.get("AWS_DEFAULT_REGION") or profile.get("region"),
    }
    return {name: value for name, value in found.items() if value}


def is_down(status: int) -> bool:
    """Whether an HTTP status means that the server is temporarily unavailable."""
    return status == 429 or status >= 500


def is_interruption(error: HTTPError) -> bool:
    """Whether a response or a handshake was interrupted, so that a retry may succeed."""
    if isinstance(error, SSLError):
        return bool(error.args) and isinstance(error.args[0], (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    # urllib3 raises a ValueError if the endpoint is not a valid address.
    return not isinstance(error, (MaxRetryError, ValueError))


def jittered(seconds: float) -> float:
    """A random wait between half of *seconds* and *seconds*: jobs that failed together do not retry together."""
    return seconds * random.uniform(0.5, 1)


class Patience(Retry):
    """urllib3's retries of one request, at most four: no connection, no response (twice), HTTP 429 and 5xx.

    All methods are retried, because every request of ours can be sent twice. The waits are 0.5, 1, 2 and 4 s with
    jitter, or the time in ``Retry-After``.
    """

    @classmethod
    def fresh(cls) -> Self:
        """The retries of a new request."""
        return cls(
            total=4,
            read=2,
            redirect=0,
            allowed_methods=None,
            status_forcelist=(429, 500, 502, 503, 504),
            raise_on_redirect=False,
            raise_on_status=False,
            retry_after_max=RETRY_AFTER_S,
        )

    def new(self, **changes: Any) -> Self:
        # urllib3 copies every setting except this one: the second response could then request a wait of six hours.
        return super().new(retry_after_max=self.retry_after_max, **changes)

    def get_backoff_time(self) -> float:
        return jittered(2.0 ** (len(self.history) - 2))

    def increment(
        self,
        method: str | None = None,
        url: str | None = None,
        response: BaseHTTPResponse | None = None,
        error: Exception | None = None,
        *rest: Any,
        **more: Any,
    ) -> Self:
        # A certificate error is permanent: do not retry.
        if isinstance(error, SSLError) and not is_interruption(error):
            raise error
        return super().increment(method, url, response, error, *rest, **more)


def _pool(timeout: Timeout, retries: Retry) -> PoolManager:
    """A connection pool that trusts AWS_CA_BUNDLE or SSL_CERT_FILE, else the public certificate authorities."""
    bundle = os.environ.get("AWS_CA_BUNDLE") or os.environ.get("SSL_CERT_FILE")
    if bundle and not Path(bundle).is_file():
        raise JobError(ExitCode.CONFIG, f"no file {bundle}", "correct AWS_CA_BUNDLE or SSL_CERT_FILE")
    return PoolManager(
        maxsize=CONNECTIONS,
        timeout=timeout,
        retries=retries,
        cert_reqs="CERT_REQUIRED",
        ca_certs=bundle or certifi.where(),
    )


def _profile() -> dict[str, str]:
    """The profile's settings from both AWS files; the credentials file wins.

    ``endpoint_url`` is that of the section ``services`` that the profile names, if that has one for S3.
    """
    name = os.environ.get("AWS_PROFILE")
    home = Path(os.environ.get("HOME") or "/") / ".aws"
    found: dict[str, str] = {}
    sections: configparser.ConfigParser | None = None
    for variable, file, section in (
        ("AWS_CONFIG_FILE", "config", f"profile {name}" if name and name != "default" else "default"),
        ("AWS_SHARED_CREDENTIALS_FILE", "credentials", name or "default"),
    ):
        path = os.environ.get(variable) or home / file
        parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            # Not chained: the parser's message quotes the line, which may contain a secret.
            raise JobError(ExitCode.CONFIG, f"{path} is not a valid AWS file", "see `aws configure`") from None
        if parser.has_section(section):
            found.update(parser[section])
        # Only the first file, config, has sections for services.
        sections = sections or parser
    if name and not found:
        raise JobError(ExitCode.CONFIG, f"no profile {name} in the AWS files", "correct AWS_PROFILE")
    if sections is not None and (services := found.get("services")):
        found.update(_of_service(sections, services))
    return found


def _of_service(parser: configparser.ConfigParser, services: str) -> dict[str, str]:
    """The endpoint for S3 in the section ``services NAME``; empty if it has none.

    The settings of a service are the lines below its name: ``s3 =``, then ``endpoint_url = …``, indented.
    """
    section = f"services {services}"
    if not parser.has_section(section):
        raise JobError(
            ExitCode.CONFIG, f"no section [{section[:200]}] in the AWS config", "correct services in the profile"
        )
    found = re.search(r"^\s*endpoint_url\s*=\s*(\S+)", parser[section].get("s3") or "", re.MULTILINE)
    return {"endpoint_url": found[1]} if found else {}


def _identity(profile: dict[str, str]) -> Provider:
    """The source of the credentials, in the order of AWS: variables, web identity, profile, container, machine."""
    key = os.environ.get("AWS_ACCESS_KEY_ID")
    if key:
        return _static(key, os.environ.get("AWS_SECRET_ACCESS_KEY"), os.environ.get("AWS_SESSION_TOKEN"))
    if os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return _Service("AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN", os.environ.get("AWS_ENDPOINT_URL_STS"))
    key = profile.get("aws_access_key_id")
    if key:
        return _static(key, profile.get("aws_secret_access_key"), profile.get("aws_session_token"))
    for variable in ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        if os.environ.get(variable):
            return _Service(variable)
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise _no_credentials()
    return _Service("")


def _static(key: str, secret: str | None, token: str | None) -> Provider:
    if not secret:
        raise JobError(ExitCode.CONFIG, "AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY", _ADVICE)
    return StaticProvider(access_key=key, secret_key=secret, session_token=token)


def _no_credentials() -> JobError:
    return JobError(ExitCode.CONFIG, "no credentials for S3", _ADVICE)


class _Service(Provider):
    """Credentials from a service: STS for a web identity, a container's agent, the machine's metadata.

    Exceptions of the SDK are not chained: their messages quote the URL, which contains the token of a web identity.
    """

    def __init__(self, source: str, endpoint: str | None = None) -> None:
        """*source*: the variables that select this service; empty for the machine's metadata, the last possibility."""
        self._source = source
        self._lock = threading.Lock()
        # One retry and short time limits, because the service may not exist.
        retries = Patience(total=1, redirect=0, status_forcelist=(429, 500, 502, 503, 504), raise_on_status=False)
        self._provider = IamAwsProvider(custom_endpoint=endpoint, http_client=_pool(_IDENTITY_TIMEOUT, retries))

    def retrieve(self) -> Credentials:
        try:
            # Only one thread fetches the credentials, and all threads use them.
            with self._lock:
                return self._provider.retrieve()
        except HTTPError:
            if not self._source:
                raise _no_credentials() from None
            raise StoreUnavailable(f"the service of {self._source} gives no credentials now", _ADVICE) from None
        except (KeyError, OSError, ParseError, ValueError):
            if not self._source:
                raise _no_credentials() from None
            raise StoreDenied(f"{self._source}: no credentials for this identity", _ADVICE) from None
