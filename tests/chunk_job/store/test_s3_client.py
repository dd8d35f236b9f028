"""The client that follows from AWS variables and files, without a network."""

import subprocess
import sys
from pathlib import Path

import pytest
from urllib3 import BaseHTTPResponse, HTTPResponse

from chunk_job.errors import ExitCode, JobError
from chunk_job.store import s3_client
from chunk_job.store.open_store import open_store


@pytest.fixture(autouse=True)
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A key, and no other AWS variables than those of the test; HOME is the test's folder."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_CA_BUNDLE",
                 "SSL_CERT_FILE", "AWS_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_SESSION_TOKEN",
                 "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                 "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return monkeypatch


def url(key: str = "x", bucket: str = "talks") -> str:
    """The address to which the client would send a GET."""
    client, _ = s3_client.connect(bucket)
    base = client._base_url
    return base.build(method="GET", region=base.region or "?", bucket_name=bucket, object_name=key).geturl()


def files(home: Path, *, config: str = "", credentials: str = "") -> None:
    (home / ".aws").mkdir()
    (home / ".aws" / "config").write_text(config)
    (home / ".aws" / "credentials").write_text(credentials)


def test_without_an_endpoint_it_is_aws_by_host_name(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert url() == "https://talks.s3.eu-west-3.amazonaws.com/x"
    aws.setenv("AWS_REGION", "us-west-2")
    assert url() == "https://talks.s3.us-west-2.amazonaws.com/x"


def test_an_endpoint_is_addressed_by_path(aws: pytest.MonkeyPatch) -> None:
    aws.setenv("AWS_ENDPOINT_URL", "https://all.example:9000/")
    assert url() == "https://all.example:9000/talks/x"
    aws.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example")
    assert url() == "http://s3.example/talks/x"
    client, shown = s3_client.connect("talks")
    assert (client._base_url.region, shown) == ("us-east-1", "s3.example")


def test_a_profile_gives_endpoint_region_style_and_keys(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(
        tmp_path,
        config="[profile x]\nregion = eu-1\nendpoint_url = http://c.example\ns3 =\n    addressing_style = virtual\n",
        credentials="[x]\naws_access_key_id = k\naws_secret_access_key = 50%off\n",
    )
    aws.setenv("AWS_PROFILE", "x")
    aws.delenv("AWS_ACCESS_KEY_ID")
    assert url() == "http://talks.c.example/x"
    client, _ = s3_client.connect("talks")
    assert client._base_url.region == "eu-1"
    assert client._provider is not None
    assert client._provider.retrieve().secret_key == "50%off"


SERVICES = """
[profile x]
services = mine
endpoint_url = http://profile.example
[services mine]
dynamodb =
  endpoint_url = http://dynamo.example
s3 =
  addressing_style = path
  endpoint_url = http://services.example
[services other]
sts =
  endpoint_url = http://sts.example
"""


def test_the_services_of_a_profile_win_over_its_endpoint(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(tmp_path, config=SERVICES, credentials="[x]\nendpoint_url = http://credentials.example\n")
    aws.setenv("AWS_PROFILE", "x")
    assert url() == "http://services.example/talks/x"
    assert s3_client.environment()["AWS_ENDPOINT_URL_S3"] == "http://services.example"
    aws.setenv("AWS_ENDPOINT_URL", "http://all.example")
    assert url() == "http://all.example/talks/x"
    aws.setenv("AWS_ENDPOINT_URL_S3", "http://s3.example")
    assert url() == "http://s3.example/talks/x"


@pytest.mark.parametrize("services", ["[services mine]", "[services mine]\ns3 =", "[services mine]\ns3\\ =\n  a = b"])
def test_services_without_an_endpoint_for_s3_leave_that_of_the_profile(tmp_path: Path, services: str) -> None:
    files(tmp_path, config=f"[default]\nservices = mine\nendpoint_url = http://profile.example\n{services}\n")
    assert url() == "http://profile.example/talks/x"


def test_services_that_do_not_exist_are_reported(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(tmp_path, config=SERVICES.replace("[services mine]", "[services theirs]"))
    aws.setenv("AWS_PROFILE", "x")
    with pytest.raises(JobError, match=r"no section \[services mine\]") as raised:
        url()
    assert raised.value.code is ExitCode.CONFIG


def test_the_settings_of_the_server_are_passed_on_as_variables(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert s3_client.environment() == {}
    files(tmp_path, config="[default]\nregion = eu-1\nendpoint_url = http://c.example\n")
    assert s3_client.environment() == {"AWS_ENDPOINT_URL_S3": "http://c.example", "AWS_REGION": "eu-1"}
    aws.setenv("AWS_ENDPOINT_URL", "https://all.example")
    aws.setenv("AWS_DEFAULT_REGION", "eu-2")
    assert s3_client.environment() == {"AWS_ENDPOINT_URL_S3": "https://all.example", "AWS_REGION": "eu-2"}
    aws.setenv("AWS_ENDPOINT_URL_S3", "https://s3.example")
    aws.setenv("AWS_REGION", "eu-3")
    variables = {"AWS_ENDPOINT_URL_S3": "https://s3.example", "AWS_REGION": "eu-3"}
    assert s3_client.environment() == open_store("s3://talks").environment == variables
    assert open_store(tmp_path.as_uri()).environment == {}


def test_variables_win_over_a_profile(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(tmp_path, credentials="[default]\naws_access_key_id = k\naws_secret_access_key = s\n")
    client, _ = s3_client.connect("talks")
    assert client._provider is not None
    assert client._provider.retrieve().access_key == "key"


@pytest.mark.parametrize(
    "variables,message",
    [
        ({"AWS_ENDPOINT_URL_S3": "minio:9000"}, "AWS_ENDPOINT_URL_S3 .* not the URL"),
        ({"AWS_ENDPOINT_URL_S3": "http://user:pass-word@minio"}, "AWS_ENDPOINT_URL_S3 .* not the URL"),
        ({"AWS_ENDPOINT_URL_S3": "http://minio/path"}, "path in endpoint"),
        ({"AWS_REGION": "not a region"}, "invalid region"),
        ({"AWS_CA_BUNDLE": "/no/such/file"}, "no file /no/such/file"),
        ({"AWS_SECRET_ACCESS_KEY": ""}, "without AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": ""}, "no credentials"),
        ({"AWS_PROFILE": "unknown"}, "no profile unknown"),
    ],
)
def test_an_invalid_configuration_is_reported_before_any_request(
    aws: pytest.MonkeyPatch, variables: dict[str, str], message: str
) -> None:
    for name, value in variables.items():
        aws.setenv(name, value)
    with pytest.raises(JobError, match=message) as caught:
        s3_client.connect("talks")
    assert caught.value.code == ExitCode.CONFIG
    assert caught.value.advice
    assert "pass-word" not in f"{caught.value} {caught.value.advice}"


def test_an_invalid_file_is_named_and_not_quoted(aws: pytest.MonkeyPatch, tmp_path: Path) -> None:
    files(tmp_path, credentials="wJalrXUtnFEMI")
    with pytest.raises(JobError, match="credentials is not a valid AWS file") as caught:
        s3_client.connect("talks")
    assert "wJalr" not in str(caught.value)


@pytest.mark.parametrize(
    "bad", ["s3://", "s3:///a", "s3://b?x=1", "s3://talks/a//b", "s3://talks/../b", "s3://talks/.a", "s3://A B/x"]
)
def test_a_url_that_is_no_bucket_is_refused(bad: str) -> None:
    with pytest.raises(JobError) as caught:
        open_store(bad)
    assert caught.value.code in (ExitCode.USAGE, ExitCode.CONFIG)


@pytest.mark.parametrize("name", ["a..b", "x" * 70])
def test_an_endpoint_with_an_invalid_name_is_reported(aws: pytest.MonkeyPatch, name: str) -> None:
    aws.setenv("AWS_ENDPOINT_URL_S3", f"http://{name}:9000")
    with pytest.raises(JobError, match="not a valid server name") as caught:
        open_store("s3://talks").get("x")
    assert caught.value.code == ExitCode.CONFIG


def test_keys_in_the_url_are_refused_and_not_repeated() -> None:
    with pytest.raises(JobError, match="do not belong") as caught:
        open_store("s3://AKIA:hush@talks/a")
    assert "hush" not in f"{caught.value} {caught.value.advice}"


def test_retry_after_is_bounded_at_every_try() -> None:
    patience = s3_client.Patience.fresh()
    for _ in range(4):
        patience = patience.increment("GET", "/", response=_answer(503))
        assert patience.get_retry_after(_answer(503)) == s3_client.RETRY_AFTER_S


def test_waits_grow_and_are_randomised() -> None:
    patience, longest = s3_client.Patience.fresh(), 0.5
    for _ in range(4):
        patience = patience.increment("GET", "/", response=_answer(500))
        waits = {patience.get_backoff_time() for _ in range(20)}
        assert len(waits) > 1
        assert all(longest / 2 <= wait <= longest for wait in waits)
        longest *= 2


def _answer(status: int) -> BaseHTTPResponse:
    return HTTPResponse(status=status, headers={"Retry-After": "7200"})


@pytest.mark.process
def test_a_folder_loads_nothing_of_s3() -> None:
    program = (
        "import sys; from chunk_job.store.open_store import open_store; open_store('file:///x'); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert not {"minio", "urllib3", "chunk_job.store.s3", "chunk_job.store.s3_client"} & set(loaded)
