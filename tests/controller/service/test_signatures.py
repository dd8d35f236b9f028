"""The signature of a webhook, and the file with the keys."""

import hashlib
import hmac
import logging
from pathlib import Path

import pytest

from controller.errors import EnvironmentProblem
from controller.service.signatures import (
    Key,
    SignatureInvalid,
    WebhookKeys,
    WebhookNotConfigured,
    sign,
    verify,
)

KEY = Key("2026-11", b"a secret of 32 bytes, or longer.")
SECRETS = {KEY.id: KEY.secret}
NOW_S = 1_800_000_000
BODY = b'{"id": "1"}'
ID = "00" * 16
FILE = 'current = "b"\n[keys]\na = "first secret 1234"\nb = "second secret 123"\n'


def test_the_signature_is_an_hmac_of_time_id_and_body() -> None:
    expected = hmac.new(KEY.secret, b"1800000000." + ID.encode() + b"." + BODY, hashlib.sha256).hexdigest()
    assert sign(KEY, ID, BODY, NOW_S) == {
        "Stenofleet-Delivery": ID,
        "Stenofleet-Timestamp": "1800000000",
        "Stenofleet-Key-Id": "2026-11",
        "Stenofleet-Signature": f"v1={expected}",
    }


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_a_receiver_accepts_a_request_of_the_last_five_minutes(seconds: int) -> None:
    headers = {name.lower(): value for name, value in sign(KEY, ID, BODY, NOW_S).items()}
    assert verify(headers, BODY, SECRETS, NOW_S + seconds) == ID


@pytest.mark.parametrize("seconds", [-301, 301])
def test_a_request_of_another_time_is_refused(seconds: int) -> None:
    with pytest.raises(SignatureInvalid, match="too old"):
        verify(sign(KEY, ID, BODY, NOW_S), BODY, SECRETS, NOW_S + seconds)


@pytest.mark.parametrize(
    "changed",
    [
        {"Stenofleet-Timestamp": "1800000001"},
        {"Stenofleet-Timestamp": "x"},
        {"Stenofleet-Timestamp": "ä"},
        {"Stenofleet-Delivery": "11" * 16},
        {"Stenofleet-Key-Id": "other"},
        {"Stenofleet-Signature": "v1="},
        {"Stenofleet-Signature": "v2=" + "0" * 64},
        {"Stenofleet-Signature": "ä"},
    ],
)
def test_a_changed_header_is_refused(changed: dict[str, str]) -> None:
    with pytest.raises(SignatureInvalid):
        verify(sign(KEY, ID, BODY, NOW_S) | changed, BODY, {**SECRETS, "other": b"another secret 12"}, NOW_S)


@pytest.mark.parametrize("name", ["Delivery", "Timestamp", "Key-Id", "Signature"])
def test_a_missing_header_is_refused(name: str) -> None:
    headers = sign(KEY, ID, BODY, NOW_S)
    del headers[f"Stenofleet-{name}"]
    with pytest.raises(SignatureInvalid):
        verify(headers, BODY, SECRETS, NOW_S)


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(SignatureInvalid, match="match"):
        verify(sign(KEY, ID, BODY, NOW_S), BODY + b" ", SECRETS, NOW_S)


def test_without_a_file_there_is_no_key() -> None:
    with pytest.raises(WebhookNotConfigured):
        WebhookKeys(None).current("news")


def test_the_current_key_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(FILE)
    assert WebhookKeys(file).current("news") == Key("b", b"second secret 123")


def test_a_tenant_may_have_its_own_keys(tmp_path: Path) -> None:
    own = '[tenants.news]\ncurrent = "n"\n[tenants.news.keys]\nn = "secret of the news"\n'
    file = tmp_path / "keys.toml"
    file.write_text(FILE + own)
    keys = WebhookKeys(file)
    assert keys.current("news") == Key("n", b"secret of the news")
    assert keys.current("radio").id == "b"
    file.write_text(own)
    with pytest.raises(WebhookNotConfigured):
        WebhookKeys(file).current("radio")


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(FILE)
    keys = WebhookKeys(file)
    # As a mounted Secret changes: the name leads to another file.
    other = tmp_path / "other.toml"
    other.write_text(FILE.replace('current = "b"', 'current = "a"'))
    other.replace(file)
    assert keys.current("news") == Key("a", b"first secret 1234")


def test_keys_stay_in_use_while_the_file_is_not_valid(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(FILE)
    keys = WebhookKeys(file)
    for damage in (lambda: file.write_text("current ="), file.unlink):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            damage()
            assert {keys.current("news").id for _ in range(3)} == {"b"}
        assert len(caplog.records) == 1
    file.write_text(FILE.replace('current = "b"', 'current = "a"'))
    assert keys.current("news").id == "a"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "current",
        '[keys]\na = "first secret 1234"\n',
        'current = "c"\n[keys]\na = "first secret 1234"\n',
        'current = "a"\n[keys]\na = "too short"\n',
        'current = "a"\n[keys]\na = 1\n',
        'current = "a"\nkeys = "first secret 1234"\n',
        'current = ["a"]\n[keys]\na = "first secret 1234"\n',
        'current = "a b"\n[keys]\n"a b" = "first secret 1234"\n',
        'current = "a"\nother = 1\n[keys]\na = "first secret 1234"\n',
        f"{FILE}[tenants]\nnews = 1\n",
        f"tenants = 1\n{FILE}",
        f"{FILE}[tenants.news]\nkeys = {{}}\n",
    ],
)
def test_a_file_that_is_not_valid_is_refused_without_its_secrets(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys.toml"
    file.write_text(text)
    with pytest.raises(EnvironmentProblem) as refused:
        WebhookKeys(file)
    assert "secret 1234" not in str(refused.value)
    assert "too short" not in str(refused.value)
    assert "openssl rand" in refused.value.advice


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem) as refused:
        WebhookKeys(tmp_path / "keys.toml")
    assert "--webhook-keys" in refused.value.advice
