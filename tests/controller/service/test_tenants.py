"""The tenants file: what it may contain, which token belongs to whom, and how it is read again."""

import hmac
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.domain.shares import Share
from controller.errors import UsageProblem
from controller.service import tenants as module
from controller.service.tenant import DEFAULT, Tenant
from controller.service.tenants import RECHECK_S, Tenants, parse
from controller.service.tokens import digest_of, new_token, parsed_digest, written_digest
from tests.fakes import ManualClock

FILE = Path("/etc/stenofleet/tenants.toml")
NEWS, SPORT = "stf_" + "n" * 43, "stf_" + "s" * 43
DIGEST = f'"{written_digest(NEWS)}"'


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def _with_tokens(*, tenants: int, each: int) -> str:
    digests = [[f"sha256:{tenant:032x}{number:032x}" for number in range(each)] for tenant in range(tenants)]
    return "".join(f"[tenants.t{number}]\ntokens = {tokens}\n" for number, tokens in enumerate(digests))


def problem_of(text: str | bytes) -> UsageProblem:
    with pytest.raises(UsageProblem) as found:
        parse(text.encode() if isinstance(text, str) else text, FILE)
    assert found.value.__cause__ is None
    return found.value


# ---------------------------------------------------------------- content


def test_a_tenant_has_defaults_for_all_that_is_not_in_the_file() -> None:
    (news,) = parse(b"[tenants.news]", FILE)
    assert news.model_dump() == {
        "name": "news",
        "tokens": (),
        "prefix": "news",
        "weight": 1,
        "max_priority": 5,
        "max_live_chunks": None,
        "max_queued_runs": 10_000,
        "max_upload_bytes": 53_687_091_200,
        "max_upload_bytes_total": 536_870_912_000,
        "requests_per_second": 20.0,
        "sources": (),
        "outputs": (),
        "inbox": "",
        "outbox": "",
        "webhook_hosts": (),
    }


def test_every_key_is_read() -> None:
    given_keys: dict[str, Any] = {
        "tokens": (written_digest(NEWS), written_digest(SPORT)),
        "prefix": "n-1",
        "weight": 2,
        "max_priority": 9,
        "max_live_chunks": 16,
        "max_queued_runs": 3,
        "max_upload_bytes": 4,
        "max_upload_bytes_total": 5,
        "requests_per_second": 0.5,
        "sources": ("s3://news-media/", "s3://b-1/folder"),
        "outputs": ("s3://",),
        "inbox": "s3://news-media/in/",
        "outbox": "s3://news-media/out/",
        "webhook_hosts": ("hooks.example", "my_hooks", "10.1.0.0/16", "fd00::1", "10.2.3.4"),
    }
    lines = [f"{key} = {list(value) if isinstance(value, tuple) else value!r}" for key, value in given_keys.items()]
    (news,) = parse("\n".join(["[tenants.news]", *lines]).encode(), FILE)
    assert news.model_dump() == {"name": "news"} | given_keys


def test_a_whole_number_of_requests_a_second_is_a_number() -> None:
    (news,) = parse(b"[tenants.news]\nrequests_per_second = 3", FILE)
    assert news.requests_per_second == 3.0


@pytest.mark.parametrize(
    "key,value",
    [
        ("tokens", f'"{written_digest(NEWS)}"'),
        ("prefix", '""'),
        ("prefix", '"-a"'),
        ("prefix", '"a/b"'),
        ("prefix", '".."'),
        ("prefix", '"a\\n"'),
        ("prefix", '"N"'),
        ("prefix", f'"{"a" * 41}"'),
        ("prefix", "1"),
        ("weight", "0"),
        ("weight", "1001"),
        ("weight", "true"),
        ("weight", "1.0"),
        ("weight", '"2"'),
        ("weight", f"1{'0' * 400}"),
        ("max_priority", "-1"),
        ("max_priority", "10"),
        ("max_live_chunks", "0"),
        ("max_queued_runs", "-1"),
        ("max_upload_bytes", "-1"),
        ("max_upload_bytes_total", "1e9"),
        ("requests_per_second", "0"),
        ("requests_per_second", "-1"),
        ("requests_per_second", "nan"),
        ("requests_per_second", "inf"),
        ("requests_per_second", "true"),
        ("sources", '"s3://news/"'),
        ("outputs", "{}"),
        ("webhook_hosts", "[1]"),
        ("webhook_hosts", '"hooks.example"'),
    ],
)
def test_a_value_that_is_not_allowed_is_named_with_what_is_allowed(key: str, value: str) -> None:
    problem = problem_of(f"[tenants.sport]\n[tenants.news]\n{key} = {value}")
    entry = ", entry 1" if value.startswith("[") else ""
    assert problem.summary == f"{FILE}: tenant news: {key}{entry}: not a valid value"
    assert problem.advice == f"allowed: {Tenant.model_fields[key].description}"


@pytest.mark.parametrize(
    "key,value",
    [
        ("tokens", NEWS),
        ("tokens", written_digest(NEWS).upper()),
        ("tokens", written_digest(NEWS) + "\\n"),
        ("tokens", written_digest(NEWS)[:-1]),
        ("tokens", digest_of(NEWS).hex()),
        ("sources", "news-media/"),
        ("sources", "s3://"[:-1]),
        ("sources", "s3:///"),
        ("sources", "file:///etc"),
        ("sources", "https://news.example/"),
        ("sources", "s3://media/../c/"),
        ("sources", "s3://media/a//"),
        ("sources", "s3://media/a?x=1"),
        ("sources", "s3://media/a#x"),
        ("outputs", "s3://Media/"),
        ("outputs", "s3://key:secret@media/"),
        ("webhook_hosts", "https://hooks.example"),
        ("webhook_hosts", "hooks.example:443"),
        ("webhook_hosts", "Hooks.example"),
        ("webhook_hosts", "*.example"),
        ("webhook_hosts", "10.1.2.3/16"),
        ("webhook_hosts", ""),
    ],
)
def test_an_entry_of_a_list_that_is_not_allowed_is_named_by_its_number(key: str, value: str) -> None:
    good = {"tokens": written_digest(SPORT), "webhook_hosts": "hooks.example"}.get(key, "s3://good/")
    problem = problem_of(f'[tenants.news]\n{key} = ["{good}", "{value}"]')
    assert problem.summary == f"{FILE}: tenant news: {key}, entry 2: not a valid value"
    assert problem.advice == f"allowed: {Tenant.model_fields[key].description}"


@pytest.mark.parametrize(
    "text,message",
    [
        ("", "has no tenants"),
        ("tenants = {}", "has no tenants"),
        ("tenants = [1]", "has no tenants"),
        ("[tenant.news]", "tenant is not known"),
        (f"{NEWS} = 1", "a key is not known"),
        ("[tenants]\nnews = 1", "tenant news: is not a table"),
        ("[tenants.News]", "tenant 1 in the file: its name is not valid"),
        ("[tenants.a]\n[tenants.''.a]", "tenant 2 in the file: its name is not valid"),
        ('[tenants."a\\n"]', "tenant 1 in the file: its name is not valid"),
        (f"[tenants.{NEWS}]", "tenant 1 in the file: its name is not valid"),
        ("[tenants.a]\n[tenants.b]\nprefix = 'a'", "tenant a: prefix: another tenant has the same"),
        ("[tenants.a]\nname = 'b'", "tenant a: name is not known"),
        ("[tenants.a]\nadmin = true", "tenant a: admin is not known"),
        (f"[tenants.a]\n{NEWS} = true", "tenant a: a key is not known"),
        (
            f"[tenants.a]\ntokens = [{DIGEST}]\n[tenants.b]\ntokens = [{DIGEST}]",
            "tenant a: tokens, entry 1: is there twice in the file",
        ),
        (f"[tenants.a]\ntokens = [{DIGEST}, {DIGEST}]", "tenant a: tokens, entry 1: is there twice in the file"),
        (f"[tenants.a]\ntokens = [{NEWS}]", "is not valid TOML (at line 2, column 11)"),
        (f'[tenants.a]\ntokens = ["{NEWS}', "is not valid TOML (at end of document)"),
        (f"[tenants.a]\n{NEWS} = 1\n{NEWS} = 1\n", "is not valid TOML (at line 3, column 52)"),
        (f"[tenants.a.{NEWS}]\n[tenants.a.{NEWS}]", "is not valid TOML (at line 2, column 59)"),
        (b"[tenants.a]\n# \xff", "is not valid TOML"),
        (f"a = {'[' * 5000}", "is not valid TOML"),
        (f"a{'.a' * 2000} = 1", "is not valid TOML"),
        (f"a = {'1' * 5000}", "is not valid TOML"),
        ("".join(f"[tenants.t{number}]\n" for number in range(1001)), "has 1001 tenants"),
        (_with_tokens(tenants=6, each=900), "the tenants have 5400 tokens together"),
    ],
)
def test_a_file_that_is_not_valid_as_a_whole_says_where(text: str | bytes, message: str) -> None:
    assert problem_of(text).summary == f"{FILE}: {message}"


@given(
    st.sampled_from(
        [
            '[tenants.a]\ntokens = ["{}"]',
            "[tenants.a]\ntokens = '{}'",
            "[tenants.a]\ntokens = {}",
            '[tenants.a]\ntokens = ["{}", "{}"]',
            "[tenants.a.tokens]\n{} = true",
            "[tenants.{}]",
            "{} = 1",
            "tenants = '{}'",
            "[tenants.a]\n{} = 1",
            "[tenants]\n{} = 1",
            "[tenants.a]\nprefix = '{}'",
            "[tenants.a]\nsources = ['s3://{}/']",
            "[tenants.a]\nsources = ['s3://a:{}@b/']",
            "[tenants.a]\nwebhook_hosts = ['{}:1']",
            "[tenants.a]\nweight = '{}'",
            "x = {{ {} = 1, {} = 1 }}",
            "[{}]\n[{}]",
            "a = '{}\n'",
            'a = "\\{}"',
        ]
    ),
    st.binary(min_size=32, max_size=32),
)
def test_no_message_contains_a_token(form: str, random: bytes) -> None:
    token = new_token()[:4] + random.hex()[:43]
    problem = problem_of(form.replace("{}", token).replace("{{", "{").replace("}}", "}"))
    assert token[4:] not in problem.summary + problem.advice


def test_digests_are_not_in_the_representation() -> None:
    (news,) = parse(f"[tenants.news]\ntokens = [{DIGEST}]".encode(), FILE)
    assert digest_of(NEWS).hex() not in repr(news) + str(news)


# ---------------------------------------------------------------- tokens


def test_tokens_are_long_random_and_can_be_recognized() -> None:
    tokens = {new_token() for _ in range(200)}
    assert len(tokens) == 200
    for token in tokens:
        assert token.startswith("stf_")
        assert len(token) == 47
        assert parsed_digest(written_digest(token)) == digest_of(token)
        assert token not in written_digest(token)


@given(st.text(), st.text())
def test_texts_have_equal_digests_only_if_they_are_equal(one: str, other: str) -> None:
    assert (digest_of(one) == digest_of(other)) == (one == other)


@pytest.fixture
def two(tmp_path: Path, clock: ManualClock) -> Tenants:
    path = tmp_path / "tenants.toml"
    extra = ", ".join(f'"sha256:{number:064x}"' for number in range(5))
    path.write_text(
        f"[tenants.news]\ntokens = [{DIGEST}, {extra}]\n[tenants.sport]\ntokens = ['{written_digest(SPORT)}']\n",
        encoding="utf-8",
    )
    return Tenants(path, clock=clock)


@pytest.mark.parametrize(
    "token,name",
    [
        (NEWS, "news"),
        (SPORT, "sport"),
        ("", None),
        (NEWS[:-1], None),
        (NEWS + "n", None),
        (NEWS.upper(), None),
        (written_digest(NEWS), None),
        (digest_of(NEWS).hex(), None),
        ("\0" * 32, None),
        ("\udcff", None),
    ],
)
def test_a_token_belongs_to_at_most_one_tenant(two: Tenants, token: str, name: str | None) -> None:
    found = two.by_token(token)
    assert (found and found.name) == name


@pytest.mark.parametrize("token", [NEWS, SPORT, new_token(), ""], ids=["news", "sport", "unknown", "empty"])
def test_a_token_is_compared_with_every_digest_in_constant_time(
    two: Tenants, token: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[bytes, bytes]] = []
    real: Callable[[bytes, bytes], bool] = hmac.compare_digest

    def compare(known: bytes, wanted: bytes) -> bool:
        compared.append((known, wanted))
        return real(known, wanted)

    monkeypatch.setattr(hmac, "compare_digest", compare)
    two.by_token(token)
    digests = [parsed_digest(written) for tenant in two.all for written in tenant.tokens]
    assert compared == [(digest, digest_of(token)) for digest in digests]
    assert len(digests) == 7


def test_tenants_are_found_by_name(two: Tenants) -> None:
    assert [tenant.name for tenant in two.all] == ["news", "sport"]
    assert two.by_name("sport") is two.all[1]
    assert two.by_name("default") is None
    assert two.configured


def test_tenants_are_found_by_the_prefix_of_their_objects(tmp_path: Path) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text("[tenants.news]\nprefix = 'sport'\n[tenants.sport]\nprefix = 'news'\n", encoding="utf-8")
    tenants = Tenants(path)
    for name, prefix in {"news": "sport", "sport": "news"}.items():
        found = tenants.by_prefix(prefix)
        assert found
        assert found.name == name
    assert tenants.by_prefix("default") is None
    assert Tenants().by_prefix("default") is DEFAULT


def test_a_tenant_has_its_weight_and_its_limit_and_no_higher_priority_than_its_own() -> None:
    (news,) = parse(b"[tenants.news]\nprefix = 'n'\nweight = 3\nmax_live_chunks = 7\nmax_priority = 4", FILE)
    assert news.share(2) == Share(group="n", weight=3, most_live=7, priority=2)
    assert news.share(9) == Share(group="n", weight=3, most_live=7, priority=4)
    assert DEFAULT.share(9) == Share(group="default", priority=9)


def test_without_a_file_there_is_one_tenant_without_limits_and_without_a_token() -> None:
    alone = Tenants()
    assert alone.all == (DEFAULT,)
    assert alone.by_name("default") is DEFAULT
    assert alone.by_token("") is None
    assert not alone.configured
    assert alone.problem == ""
    assert DEFAULT.sources == DEFAULT.outputs == ("s3://",)
    assert (DEFAULT.max_priority, DEFAULT.weight) == (9, 1)
    limits = [getattr(DEFAULT, key) for key in type(DEFAULT).model_fields if key.startswith(("max_", "requests_"))]
    assert limits == [9, None, None, None, None, None]


# ---------------------------------------------------------------- read again


def published(folder: Path, version: str, text: str) -> Path:
    """Replace the mounted files of a Secret as Kubernetes does: a new folder, and a new link in place of ..data."""
    new = folder / f"..{version}"
    new.mkdir(parents=True)
    (new / "tenants.toml").write_text(text, encoding="utf-8")
    (folder / "..new").symlink_to(new.name)
    (folder / "..new").rename(folder / "..data")
    path = folder / "tenants.toml"
    if not path.is_symlink():
        path.symlink_to("..data/tenants.toml")
    return path


def file_of(*names: str) -> str:
    return "".join(f"[tenants.{name}]\n" for name in names)


def names(tenants: Tenants) -> list[str]:
    return [tenant.name for tenant in tenants.all]


def test_a_secret_that_is_replaced_is_read_again_within_five_seconds(tmp_path: Path, clock: ManualClock) -> None:
    path = published(tmp_path / "mount", "1", f"[tenants.news]\ntokens = [{DIGEST}]")
    tenants = Tenants(path, clock=clock)
    published(tmp_path / "mount", "2", f"[tenants.news]\ntokens = ['{written_digest(SPORT)}']")
    clock.now_s += RECHECK_S - 0.01
    assert tenants.by_token(NEWS)
    clock.now_s += 0.01
    assert tenants.by_token(NEWS) is None
    assert tenants.by_token(SPORT)
    assert RECHECK_S == 5.0


def test_a_file_with_the_same_size_and_time_but_other_content_is_read_again(tmp_path: Path, clock: ManualClock) -> None:
    path = published(tmp_path / "mount", "1", file_of("one"))
    tenants, before = Tenants(path, clock=clock), path.stat()
    published(tmp_path / "mount", "2", file_of("two"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    clock.now_s += RECHECK_S
    assert names(tenants) == ["two"]


def test_the_file_is_read_at_most_every_five_seconds_and_parsed_only_if_it_changed(
    tmp_path: Path, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenants = Tenants(published(tmp_path / "mount", "1", file_of("news")), clock=clock)
    done: list[str] = []
    contents = module._contents

    def read(path: Path) -> bytes:
        done.append("read")
        return contents(path)

    def parsed(data: bytes, path: Path) -> tuple[Tenant, ...]:
        done.append("parse")
        return parse(data, path)

    monkeypatch.setattr(module, "_contents", read)
    monkeypatch.setattr(module, "parse", parsed)
    for _ in range(100):
        clock.now_s += 0.25
        tenants.by_token(NEWS)
    assert done == ["read"] * 5
    published(tmp_path / "mount", "2", file_of("news", "sport"))
    clock.now_s += RECHECK_S
    assert names(tenants) == ["news", "sport"]
    assert done == ["read"] * 6 + ["parse"]


def test_a_broken_file_keeps_the_tenants_of_before_until_it_is_corrected(
    tmp_path: Path, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "controller.service.tenants")
    path = published(tmp_path / "mount", "1", file_of("news"))
    tenants = Tenants(path, clock=clock)
    published(tmp_path / "mount", "2", f"[tenants.sport]\ntokens = ['{SPORT}']")
    for _ in range(3):
        clock.now_s += RECHECK_S
        assert names(tenants) == ["news"]
    problem = f"{path}: tenant sport: tokens, entry 1: not a valid value"
    assert tenants.problem.startswith(f"{problem}; allowed: ")
    (logged,) = caplog.records
    assert logged.levelno == logging.ERROR
    assert problem in logged.getMessage()
    assert SPORT not in caplog.text
    published(tmp_path / "mount", "3", file_of("sport"))
    clock.now_s += RECHECK_S
    assert names(tenants) == ["sport"]
    assert tenants.problem == ""
    assert caplog.records[-1].getMessage() == f"{path}: tenants read again: sport"


def test_a_file_that_becomes_again_what_it_was_has_no_problem(tmp_path: Path, clock: ManualClock) -> None:
    tenants = Tenants(published(tmp_path / "mount", "1", file_of("news")), clock=clock)
    published(tmp_path / "mount", "2", "nothing")
    clock.now_s += RECHECK_S
    assert tenants.problem
    published(tmp_path / "mount", "3", file_of("news"))
    clock.now_s += RECHECK_S
    assert (tenants.problem, names(tenants)) == ("", ["news"])


def test_a_file_that_is_missing_for_a_time_keeps_the_tenants(tmp_path: Path, clock: ManualClock) -> None:
    path = tmp_path / "tenants.toml"
    path.write_text(file_of("news"), encoding="utf-8")
    tenants = Tenants(path, clock=clock)
    path.unlink()
    clock.now_s += RECHECK_S
    assert names(tenants) == ["news"]
    assert "cannot be read: No such file or directory" in tenants.problem


@pytest.mark.parametrize("kind", ["missing", "folder", "large", "empty"])
def test_a_service_does_not_start_with_a_file_that_it_cannot_use(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "tenants.toml"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.write_bytes(b"#" * (module.MAX_BYTES + 1) if kind == "large" else b"")
    with pytest.raises(UsageProblem) as found:
        Tenants(path)
    assert found.value.summary.startswith(f"{path}: ")


def test_a_thread_is_not_stopped_by_another_one_that_reads_the_file(tmp_path: Path, clock: ManualClock) -> None:
    tenants = Tenants(published(tmp_path / "mount", "1", file_of("news")), clock=clock)
    published(tmp_path / "mount", "2", file_of("sport"))
    clock.now_s += RECHECK_S
    with tenants._lock:
        assert names(tenants) == ["news"]
    assert names(tenants) == ["sport"]
