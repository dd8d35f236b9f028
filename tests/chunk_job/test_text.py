"""Text for terminals and logs: control characters are escaped, secrets in URLs are masked, ordinary text stays."""

import json
import string
import time
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from chunk_job.errors import ExitCode, JobError
from chunk_job.text import json_line, masked, printable, shown
from controller.errors import EnvironmentProblem, MediaProblem

HUSH = "hushhush"
"""The secret: it must not be in the output."""

anything = st.text(st.characters(codec=None))
"""Any text, broken encodings included."""


# ---------------------------------------------------------------- escapes


@pytest.mark.parametrize(
    "text,escaped",
    [
        ("plain é 日本 🎬", "plain é 日本 🎬"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("\u202egpj.exe", "\\u202egpj.exe"),
        ("\udcff", "\\udcff"),
        ("\x9b2J\x00\x7f", "\\x9b2J\\x00\\x7f"),
        ("\u2028\U000e0041", "\\u2028\\U000e0041"),
    ],
)
def test_control_characters_are_escaped(text: str, escaped: str) -> None:
    assert printable(text) == escaped


@given(anything)
def test_any_text_becomes_printable(text: str) -> None:
    escaped = printable(text)
    assert escaped.isprintable()
    escaped.encode()
    assert printable(escaped) == escaped


@given(st.lists(anything))
def test_line_breaks_between_lines_stay(lines: list[str]) -> None:
    text = "\n".join(lines)
    assert shown(text).count("\n") == text.count("\n")
    assert shown(text).replace("\n", "").isprintable()
    assert shown(shown(text)) == shown(text)


def without_surrogates(document: object) -> object:
    """The same with half surrogates as text."""
    if isinstance(document, str):
        pieces = (f"\\x{ord(one) - 0xDC00:02x}" if "\udc80" <= one <= "\udcff" else one for one in document)
        return "".join(f"\\u{ord(one):04x}" if "\ud800" <= one <= "\udfff" else one for one in pieces)
    if isinstance(document, dict):
        return {without_surrogates(key): without_surrogates(value) for key, value in document.items()}
    return [without_surrogates(each) for each in document] if isinstance(document, list) else document


@given(
    st.recursive(anything | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(anything, inner))
)
@pytest.mark.parametrize("ensure_ascii", [True, False])
def test_json_is_printable_and_has_the_same_content(ensure_ascii: bool, document: object) -> None:
    line = json_line(document, ensure_ascii=ensure_ascii)
    assert printable(line) == line
    assert json.loads(line) == without_surrogates(document)


def test_json_for_people_keeps_their_letters() -> None:
    assert (
        json_line(["日本 é", "\x7f\x9b\x1b\u202e"], ensure_ascii=False) == '["日本 é", "\\u007f\\u009b\\u001b\\u202e"]'
    )


# ---------------------------------------------------------------- secrets of URLs


@pytest.mark.parametrize(
    "text,hidden",
    [
        # A user in front of the address, with any scheme, quotation and position.
        ("s3://user:hush@bucket/key", "s3://***@bucket/key"),
        ("https://user:hush@host:8443/a@b?c=d#e", "https://***@host:8443/a@b?c=d#e"),
        ("https://hush@host/x", "https://***@host/x"),
        ("https://:hush@host", "https://***@host"),
        ("FTP://user:hush@host", "FTP://***@host"),
        ("rtsp+x://user:hush@host", "rtsp+x://***@host"),
        ("no store behind 'http://user:hush@host': use another", "no store behind 'http://***@host': use another"),
        ("http://a:hush@b and (http://c:hush@d).", "http://***@b and (http://***@d)."),
        ("https://user%3Ahush@host", "https://***@host"),
        # Passwords that are not URL-encoded.
        ("http://user:hu@sh@host/x", "http://***@host/x"),
        ("http://user:hu/sh@host/x", "http://***@host/x"),
        ("http://user:hu?s#h@host/x", "http://***@host/x"),
        ("http://user:hu/s@h@host/x", "http://***@host/x"),
        ("s3://user:my hush@bucket/key", "s3://***@bucket/key"),
        ("s3://user:12/hush@bucket/key", "s3://***@bucket/key"),
        ("s3://user:hu@s/h@bucket/key", "s3://***@bucket/key"),
        ('s3://user:hu"sh@bucket/key', "s3://***@bucket/key"),
        ("S3://user:hush@bucket/key", "S3://***@bucket/key"),
        # URLs that were normalised as paths.
        ("https:/user:hush@host/x: no such file", "https:/***@host/x: no such file"),
        # Parameters.
        (
            "https://h/x?X-Amz-Signature=hush&X-Amz-Date=2&X-Amz-Credential=hush%2Fhush&X-Amz-Security-Token=hush",
            "https://h/x?X-Amz-Signature=***&X-Amz-Date=2&X-Amz-Credential=***&X-Amz-Security-Token=***",
        ),
        ("https://h/x?x-goog-signature=hush&X-GOOG-CREDENTIAL=hush", "https://h/x?x-goog-signature=***&X-GOOG-CREDENTIAL=***"),
        ("https://h/x?AWSAccessKeyId=hush&Signature=hush&Expires=1", "https://h/x?AWSAccessKeyId=***&Signature=***&Expires=1"),
        ("https://h/x?sv=1&se=2020&sr=b&sig=hush%3D", "https://h/x?sv=1&se=2020&sr=b&sig=***"),
        ("https://h/cb?code=hush;state=1#access_token=hush&x=1", "https://h/cb?code=***;state=1#access_token=***&x=1"),
        ("https://h/?a=1&amp;token=hush&amp;b=2", "https://h/?a=1&amp;token=***&amp;b=2"),
        ("https://h/?auth=hush&api_key=hush&apikey=hush&key=hush", "https://h/?auth=***&api_key=***&apikey=***&key=***"),
        ("https://h/?user[password]=hush&client_secret=hush", "https://h/?user[password]=***&client_secret=***"),
        ("https://h/?%73ig=hush&X%2DAmz%2DSignature=hush", "https://h/?%73ig=***&X%2DAmz%2DSignature=***"),
        ("https://h/;jwt=hush?a=b", "https://h/;jwt=***"),
        ("'https://h/?sig=hush'): no such file", "'https://h/?sig=***'): no such file"),
        ("<https://h/?sig=hush>, then", "<https://h/?sig=***>, then"),
        ('{"url": "https://h/?sig=hush", "a": 1}', '{"url": "https://h/?sig=***", "a": 1}'),
        ("https://h/my talk.mp4?sig=hush", "https://h/my talk.mp4?sig=***"),
        ("exceeded with url: /b/k?X-Amz-Signature=hush (x)", "exceeded with url: /b/k?X-Amz-Signature=*** (x)"),
        # URLs in URLs.
        ("https://p/?to=https%3A%2F%2Fu%3Ahush%40h%2Fx&b=1", "https://p/?to=***&b=1"),
        ("https://p/?to=https%253A%252F%252Fh%252F%253Fsig%253Dhush&b=1", "https://p/?to=***&b=1"),
        ("https://p/?to=https://u:hush@h/?token=hush;x=2", "https://p/?to=https://***@h/?token=***;x=2"),
    ],
)  # fmt: skip
def test_secrets_of_a_url_are_masked(text: str, hidden: str) -> None:
    assert masked(text) == hidden
    assert masked(hidden) == hidden
    assert "hush" not in shown(text)


@pytest.mark.parametrize(
    "text",
    [
        "file:///home/a@b/c.mp4",
        "file:/home/a@b/c.mp4",
        "/home/user:x@y/c.mp4",
        "C:/a@b",
        "somebody@example.org",
        "user@host",
        "user:x@host",
        "mailto:somebody@example.org",
        "git@host:path/to.git",
        "registry.example/team/image@sha256:0123",
        "s3://bucket/me@home/talk.mp4",
        "s3://bucket/a:b@c/talk.mp4",
        "s3://bucket: ask somebody@example.org",
        "http://host:9000/a@b",
        "http://host:9000: ask a@b",
        "http://host: ask a@b",
        "'http://host:9000', a@b",
        "http://[::1]:9000/a@b",
        "https://host/search?q=a@b&page=2#part",
        "https://h/?sig=&se=2",
        "--toleration key=value --job-env a;token=b",
        "tell me?key=C major.mp4",
        "a=b&code=c",
        "x == y and key = z",
        '{"url":"s3://bucket","mail":"a@b"}',
        '{"url":"http://host","mail":"a@b"}',
        "***@***",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    assert masked(text) == text


@given(st.text(st.characters(codec="utf-8"), max_size=200).filter(lambda text: ":/" not in text and "=" not in text))
def test_text_without_urls_and_parameters_stays(text: str) -> None:
    assert masked(text) == text


pieces = st.sampled_from(
    ["://", ":/", "/", "@", ":", "?", "&", ";", "#", "=", "%40", "%3A%2F%2F", "s3", "https", "sig", "key", "a", "99",
     '"', ",", "'", " ", "\n", ".", "]", "***"]
)  # fmt: skip


@given(st.lists(pieces, max_size=30).map("".join) | anything)
@example("a://u:x/y@z@w")
@example("s3://u:p@ss/word@b@c")
@example("key://=key==?,/@***\n:&#99@")
@example(".X-Amz-Signature:/]://***=}%3D.:/&,X-Amz-Signature%3F:,@")
def test_masking_twice_changes_nothing(text: str) -> None:
    assert masked(masked(text)) == masked(text)


unreserved = string.ascii_letters + string.digits + "-._~!$*+,%:&;="
# With both kinds of characters it could be any of several addresses.
passwords = st.sampled_from(["@", "/?#"]).flatmap(
    lambda signs: st.tuples(*[st.text(unreserved + signs, max_size=8) for _ in range(2)])
)
"""The text before and after :data:`HUSH` in a password that is not URL-encoded."""


@given(
    st.sampled_from(["http", "https", "s3", "ftp", "x"]),
    st.text(string.ascii_letters, min_size=1, max_size=8),
    passwords,
    st.sampled_from(["{}", "'{}'", "({})", "see {}: no answer", '["{}"]']),
)
def test_no_password_is_left(scheme: str, user: str, password: tuple[str, str], around: str) -> None:
    # Digits after a colon, up to the end of an address, are a port.
    url = f"{scheme}://{user}:z{HUSH.join(password)}@host/talk.mp4"
    assert HUSH not in masked(around.format(url))
    assert HUSH not in shown(around.format(url))


@given(
    st.sampled_from(
        ["X-Amz-Signature", "X-Goog-Credential", "AWSAccessKeyId", "Signature", "sig", "token", "access_token", "auth",
         "api-key", "key", "password", "secret", "code"]
    ),
    st.sampled_from("?&;#"),
    st.text(max_size=5),
    st.text(max_size=5),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_no_secret_parameter_is_left(name: str, separator: str, before: str, after: str, random: object) -> None:
    spelled = "".join(
        f"%{ord(letter):02x}" if random.random() < 0.3 else random.choice([letter.lower(), letter.upper()])  # type: ignore[attr-defined]
        for letter in name
    )
    value = quote(before, safe="") + HUSH + quote(after, safe="")
    assert HUSH not in masked(f"https://host/talk.mp4?x=1{separator}{spelled}={value}&y=2")


@pytest.mark.parametrize(
    "piece", ["://a:b ", "://", "http:/", "s3://a:", "?a=b", "?sig=b", "://?sig=b", "?a=%b", "x?&;#", "%3F", "://:x"]
)
def test_the_time_grows_with_the_length_and_not_with_its_square(piece: str) -> None:
    def used_s(length: int) -> float:
        """The time of this thread on a processor."""
        text = f"@=s3:/{piece * (length // len(piece))}"
        began_s = time.thread_time()
        masked(text)
        return time.thread_time() - began_s

    # About 16 times as long; the square would be 256 times.
    assert used_s(200_000) < 64 * min(used_s(12_500) for _ in range(3))


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "error",
    [
        JobError(ExitCode.USAGE, "no http://user:hush@host", "not https://h/?sig=hush"),
        MediaProblem("no http://user:hush@host", "not https://h/?sig=hush"),
        EnvironmentProblem("no http://user:hush@host", "not https://h/?sig=hush"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_repeats_no_secret(error: JobError | MediaProblem | EnvironmentProblem) -> None:
    assert (error.summary, error.advice) == ("no http://***@host", "not https://h/?sig=***")
    assert str(error) == error.summary
    assert "hush" not in repr(error)


def test_json_of_names_that_are_no_utf_8_is_unicode_that_every_parser_takes() -> None:
    document = {"a\udcff": ["b\udce9", ("c", 1, None)], "d": {"e\udc80": "é\\xff"}}
    for ensure_ascii in (True, False):
        line = json_line(document, ensure_ascii=ensure_ascii)
        assert line.encode("utf-8")
        assert "\\ud" not in line
        assert json.loads(line) == {"a\\xff": ["b\\xe9", ["c", 1, None]], "d": {"e\\x80": "é\\xff"}}
