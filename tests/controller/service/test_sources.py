"""Which addresses a tenant may name: a table of attacks, and properties."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from controller.service.sources import SourceRefused, checked_output, checked_source, is_prefix

STORE = "s3://fleet/stenofleet"
TENANT = ("s3://news-media/", "s3://shared/team/", "s3://single/talk.mp4", "s3://fleet/in/")
EVERYWHERE = ("s3://",)


def refusal(uri: str, allowed: tuple[str, ...] = TENANT, store: str = STORE) -> SourceRefused:
    with pytest.raises(SourceRefused) as found:
        checked_source(uri, allowed, store)
    assert found.value.summary
    assert found.value.advice
    return found.value


# ---------------------------------------------------------------- sources


@pytest.mark.parametrize(
    "uri",
    [
        "s3://news-media/talk.mp4",
        "s3://news-media/2026/11/a b ü 字 #12 100% (1)?.mp4",
        "s3://news-media/trailing.",
        "s3://news-media/a..b/c.mp4",
        "s3://shared/team/talk.mp4",
        "s3://single/talk.mp4",
        "s3://fleet/in/talk.mp4",
        f"s3://news-media/{'k' * 1024}",
    ],
)
def test_an_object_under_a_prefix_is_allowed(uri: str) -> None:
    assert checked_source(uri, TENANT, STORE) == uri


ATTACKS = [
    # another tenant's or nobody's
    "s3://news-media-private/x.mp4",
    "s3://news-medi/x.mp4",
    "s3://news/media/x.mp4",
    "s3://shared/x.mp4",
    "s3://shared/team2/x.mp4",
    "s3://shared/team.mp4",
    "s3://shared/team",
    "s3://shared/tea/m/x.mp4",
    "s3://shared/Team/x.mp4",
    "s3://single/talk.mp42",
    "s3://single/other.mp4",
    "s3://fleet/x.mp4",
    "s3://fleet/in2/x.mp4",
    # the store of the service
    "s3://fleet/stenofleet",
    "s3://fleet/stenofleet/requests/sport/01/request.json",
    "s3://fleet/in/../stenofleet/x.mp4",
    # out of the prefix
    "s3://shared/team/../team2/x.mp4",
    "s3://shared/team/..",
    "s3://shared/team/./x.mp4",
    "s3://shared/team/.hidden/x.mp4",
    "s3://shared/team//x.mp4",
    "s3://shared//team/x.mp4",
    "s3://news-media//x.mp4",
    "s3://shared/team/\\..\\..\\x.mp4",
    "s3://shared/team/..\\x.mp4",
    # percent-encoding
    "s3://shared/team/%2e%2e/x.mp4",
    "s3://shared/team%2f..%2fteam2/x.mp4",
    "s3://shared/team/%252e%252e/x.mp4",
    "s3://shared/team/%%32e%%32e/x.mp4",
    "s3://%6eews-media/x.mp4",
    "s3://news-media/%00.mp4",
    # scheme, user, port
    "S3://news-media/x.mp4",
    "s3:/news-media/x.mp4",
    "s3:news-media/x.mp4",
    "s3:///news-media/x.mp4",
    " s3://news-media/x.mp4",
    "s3a://news-media/x.mp4",
    "s3+http://news-media/x.mp4",
    "s3://user@news-media/x.mp4",
    "s3://key:hush@news-media/x.mp4",
    "s3://evil.example@news-media/x.mp4",
    "s3://news-media@evil/x.mp4",
    "s3://news-media:9000/x.mp4",
    "s3://news-media?x=/y.mp4",
    "s3://news-media#/x.mp4",
    "s3://NEWS-MEDIA/x.mp4",
    "s3://news-media./x.mp4",
    "s3://news-media /x.mp4",
    "s3://arn:aws:s3:eu-west-1:123456789012:accesspoint/news-media/x.mp4",
    # no object
    "",
    "s3://",
    "s3:///",
    "s3://elsewhere",
    "s3://elsewhere/",
    "s3://news-media",
    "s3://news-media/",
    "s3://news-media/folder/",
    "s3://shared/team/",
    "s3://single/talk.mp4/",
    # control characters and other invisible ones
    "s3://news-media/x.mp4\n",
    "s3://news-media/\0x.mp4",
    "s3://news-media/\u202ex.mp4",
    "s3://news-media/\u200bx.mp4",
    "s3://news-media/\ud800.mp4",
    "s3://news-media\n/x.mp4",
    "s3://news-medіa/x.mp4",
    "s3://news-media\N{FULLWIDTH SOLIDUS}x.mp4",
    # too long
    f"s3://news-media/{'k' * 1025}",
    f"s3://news-media/{'ü' * 513}",
    f"s3://{'b' * 64}/x.mp4",
    f"s3://news-media/{'k/' * 100_000}x",
    # other schemes
    "file:///etc/passwd",
    "file://localhost/etc/passwd",
    "/etc/passwd",
    "../x.mp4",
    "-",
    "http://169.254.169.254/latest/meta-data/",
    "https://news.example/x.mp4",
    "http://[fd00:ec2::254]/x",
    "http://localhost:9000/news-media/x.mp4",
    "ftp://news.example/x.mp4",
    "data:audio/wav;base64,AAAA",
    "concat:s3://news-media/x.mp4|/etc/passwd",
    "s3://169.254.169.254/latest/meta-data",
    "upload:01hzzzzzzzzzzzzzzzzzzzzzzz",
]


@pytest.mark.parametrize("uri", ATTACKS)
def test_everything_else_is_refused(uri: str) -> None:
    refusal(uri)


ALWAYS = [uri for uri in ATTACKS if not uri.startswith(("s3://news", "s3://s", "s3://fleet/x", "s3://fleet/in2"))]


@pytest.mark.parametrize("uri", ALWAYS)
def test_also_where_every_bucket_is_allowed(uri: str) -> None:
    refusal(uri, EVERYWHERE)


def test_a_tenant_without_prefixes_may_only_upload() -> None:
    problem = refusal("s3://news-media/x.mp4", ())
    assert problem.advice.startswith("upload the recording")
    assert "there is none" in problem.advice


@pytest.mark.parametrize("store", ["s3://news-media", "s3://news-media/"])
def test_a_store_that_is_a_whole_bucket_makes_it_forbidden(store: str) -> None:
    refusal("s3://news-media/x.mp4", TENANT, store)
    refusal("s3://news-media/x.mp4", EVERYWHERE, store)


@pytest.mark.parametrize("store", ["file:///var/lib/stenofleet", "s3://news-media/stenofleet", "s3://news"])
def test_a_store_elsewhere_forbids_nothing(store: str) -> None:
    assert checked_source("s3://news-media/stenofleet2/x.mp4", TENANT, store)


def test_a_message_does_not_say_where_the_store_is_or_what_was_named() -> None:
    stores_own = refusal("s3://fleet/stenofleet/runs/secret.json")
    elsewhere = refusal("s3://somewhere/else.mp4")
    assert (stores_own.summary, stores_own.advice) == (elsewhere.summary, elsewhere.advice)
    assert "fleet/stenofleet" not in stores_own.advice
    for uri in ATTACKS:
        problem = refusal(uri)
        assert "hush" not in problem.summary + problem.advice
        assert len(problem.summary) < 200


PART = st.text(st.sampled_from("ab.%-2_ #"), min_size=1, max_size=4)
KEY = st.lists(PART, min_size=1, max_size=5).map("/".join)
BUCKET = st.sampled_from(["news-media", "news-media2", "shared", "fleet", "single", "a.b"])


@given(BUCKET, KEY)
def test_what_is_allowed_is_below_a_prefix_part_by_part_and_never_in_the_store(bucket: str, key: str) -> None:
    uri = f"s3://{bucket}/{key}"
    try:
        checked_source(uri, TENANT, STORE)
    except SourceRefused:
        return
    parts = [bucket, *key.split("/")]
    assert not {"", ".", ".."} & set(parts)
    assert parts[:2] != ["fleet", "stenofleet"]
    assert parts[:1] == ["news-media"] or parts[:2] in (["shared", "team"], ["single", "talk.mp4"], ["fleet", "in"])


@given(KEY, st.sampled_from(["", "/", "/sub", "/a/b"]))
def test_a_prefix_covers_its_own_folder_and_no_other_with_a_longer_name(folder: str, rest: str) -> None:
    prefix = f"s3://shared/{folder}"
    assume(is_prefix(prefix) and is_prefix(f"{prefix}x"))
    assert checked_source(f"{prefix}/x.mp4", (prefix,), STORE)
    refusal(f"{prefix}x/x.mp4", (prefix,))
    refusal(f"{prefix}x/x.mp4", (f"{prefix}/",))


@given(st.text())
def test_no_text_makes_another_error(text: str) -> None:
    for uri in (text, f"s3://{text}", f"s3://news-media/{text}", f"s3://shared/team/{text}"):
        for check in (checked_source, checked_output):
            try:
                found = check(uri, TENANT, STORE)
            except SourceRefused:
                continue
            assert found == uri.removesuffix("/")
        is_prefix(uri)


# ---------------------------------------------------------------- outputs


@pytest.mark.parametrize(
    "uri,folder",
    [
        ("s3://news-media", "s3://news-media"),
        ("s3://news-media/", "s3://news-media"),
        ("s3://news-media/2026/", "s3://news-media/2026"),
        ("s3://shared/team", "s3://shared/team"),
        ("s3://shared/team/", "s3://shared/team"),
        ("s3://shared/team/a", "s3://shared/team/a"),
        ("s3://fleet/in", "s3://fleet/in"),
    ],
)
def test_a_folder_at_or_below_a_prefix_is_allowed_for_outputs(uri: str, folder: str) -> None:
    assert checked_output(uri, TENANT, STORE) == folder


@pytest.mark.parametrize(
    "uri",
    [
        "s3://shared",
        "s3://shared/",
        "s3://shared/team2",
        "s3://fleet",
        "s3://fleet/stenofleet",
        "s3://fleet/stenofleet/",
        "s3://fleet/stenofleet/runs",
        "s3://news-media2",
        "s3://news-media//",
        "s3://news-media/a//",
        "s3://news-media/..",
        "s3://news-media/a?b",
        "s3://news-media/a#b",
        "s3://news-media/%2e%2e",
        "s3://key:hush@news-media/a",
        "file:///tmp",
        "/tmp",
        "source",
        "",
    ],
)
def test_other_outputs_are_refused(uri: str) -> None:
    with pytest.raises(SourceRefused) as found:
        checked_output(uri, TENANT, STORE)
    assert "hush" not in found.value.summary + found.value.advice


def test_outputs_are_never_in_the_store_also_where_every_bucket_is_allowed() -> None:
    assert checked_output("s3://fleet/stenofleet2", EVERYWHERE, STORE)
    for uri in ("s3://fleet/stenofleet", "s3://fleet/stenofleet/a"):
        with pytest.raises(SourceRefused):
            checked_output(uri, EVERYWHERE, STORE)
