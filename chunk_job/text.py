"""Makes untrusted text safe for terminals, logs and tables: escapes for control characters, ``***`` for secrets.

Touches: nothing. All text for users passes :func:`shown`. Errors pass :func:`masked` when they are created, so that
secrets in URLs reach no log and no document.
"""

from __future__ import annotations

import json
import re
import unicodedata
from urllib.parse import unquote

_MASK = "***"

# The beginning of an address. A path that was made from a URL has only one slash.
_BEGIN = r"(\b(?:https?|s3|ftps?|sftp|ssh):/+|://)"
# A quote that does not end a JSON string.
_QUOTE = r'"(?![,:}\]])'
_NO_PORT = r"""(?!\d*(?:[\s/?#'"`,;:.)\]}>|]|$))"""

# An address ends at the first of "/", "?" and "#", but users type passwords with these characters. So text after a
# colon that is not a port counts as a password. The lengths are limited: else the time would grow with the square of
# the text.
_USERS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf'{_BEGIN}(?:[^\s/?#@:\[\]"]|{_QUOTE}){{0,256}}:{_NO_PORT}[^\s@][^@\n]{{0,256}}@',
        rf'{_BEGIN}(?:[^\s/?#"]|{_QUOTE})*@',
    )
)
# An s3:// address has no port and never a user: everything up to the last "@" may be a password.
_S3_USER = re.compile(rf'(\bs3:/+)(?:[^\s/@:"]|{_QUOTE}){{0,256}}[:@]', re.IGNORECASE)

_SPACE = re.compile(r"\s")
_WORD = re.compile(r"\S+")
_PARAMETER = re.compile(r"[?&;#]([^=?&;#\s]+)=")
_VALUE = re.compile(r"[^&;#\s]*")
_ENCODED = re.compile(r"[^?&;#\s]*")
# Characters that end a sentence, a quotation or a document after a URL. They are not masked.
_TRAILING = "'\"`)]}>,.:"
# Redirections contain percent-encoded URLs in URLs. Deeper nesting is not used in practice.
_MOST_NESTED = 3
_MOST_PASSES = 8

# Names of secret parameters, reduced to letters and digits.
_SECRET = re.compile(
    r".*(?:token|secret|signature|credentials?|password|passwd|passphrase|apikey|accesskey|accesskeyid|secretkey"
    r"|accessid|authorization|jwt|sessionid)"
    r"|auth|code|hmac|key|keypairid|pass|pw|pwd|sid|sig"
)
# These are no ordinary words. They are secrets also in text that is not a URL.
_PLAIN_SECRET = re.compile(
    r"(?:x(?:amz|goog|oss|cos))(?:signature|credential|securitytoken)|.*accesskeyid|(?:access|id|refresh|session)token"
)
_UNNAMED = re.compile(r"[^a-z0-9]")

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of these, or with spaces before it, is a formula to a spreadsheet."""

_SURROGATES = re.compile("[\ud800-\udfff]")


def cell(text: str) -> str:
    """*text* as a cell of a table that spreadsheets read: one that begins like a formula has ``'`` before it."""
    return f"'{text}" if text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA) else text


def composed(text: str) -> str:
    """*text* in Unicode's composed form (NFC), for comparing names: ``é`` of macOS is a letter and an accent."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def printable(text: str) -> str:
    """*text* with control characters and invalid encodings as escapes, so that a name cannot control a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )


def masked(text: str) -> str:
    """*text* with ``***`` for the secrets in its URLs: users and passwords, signatures, tokens and keys."""
    # Repeated: after one value is masked, another secret may be recognized.
    for _ in range(_MOST_PASSES):
        before, text = text, _masked(text, _MOST_NESTED)
        if text == before:
            break
    return text


def masked_name(name: str) -> str:
    """:func:`masked` for a single typed *name*: if it is a URL, spaces are a part of it."""
    whole = _SPACE.sub("%20", name)
    hidden = masked(whole)
    return name if hidden == whole else hidden


def shown(text: str) -> str:
    """*text* for a terminal or a log, line by line: printable and masked."""
    return "\n".join(masked(printable(line)) for line in text.split("\n"))


def json_line(document: object, *, ensure_ascii: bool = True) -> str:
    r"""*document* as one line of JSON that :func:`printable` does not change.

    A byte of a file name that is not UTF-8 is written as ``\xff``, because many parsers reject half a surrogate pair.
    """
    text = json.dumps(_unicode(document), ensure_ascii=ensure_ascii)
    if text.isprintable():
        return text
    return "".join(
        # The JSON encoder does not escape DEL.
        character if character.isprintable() else json.dumps(character)[1:-1].replace("\x7f", "\\u007f")
        for character in text
    )


def _escaped_surrogate(found: re.Match[str]) -> str:
    code = ord(found[0])
    # As Python reads a byte of a name that is not UTF-8.
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"


def _unicode(value: object) -> object:
    """*value* with escapes for bytes of names that are no UTF-8, in lists and dictionaries too."""
    if isinstance(value, str):
        return _SURROGATES.sub(_escaped_surrogate, value)
    if isinstance(value, dict):
        return {_unicode(key): _unicode(each) for key, each in value.items()}
    return [_unicode(each) for each in value] if isinstance(value, list | tuple) else value


def _masked(text: str, depth: int) -> str:
    if "@" in text and ":/" in text:
        for pattern in _USERS:
            text = pattern.sub(rf"\1{_MASK}@", text)
        if "s3:/" in text.lower():
            text = _WORD.sub(lambda word: _without_s3_user(word[0]), text)
    if "=" in text:
        url = text.find("://")
        text = _WORD.sub(lambda word: _without_values(word[0], depth, behind_url=0 <= url < word.start()), text)
    return text


def _without_s3_user(word: str) -> str:
    last = word.rfind("@")
    found = _S3_USER.search(word, 0, last + 1)
    return f"{word[: found.end(1)]}{_MASK}{word[last:]}" if found else word


def _without_values(word: str, depth: int, *, behind_url: bool) -> str:
    """A *word* with the values of secret parameters masked, if it is a URL or the rest of one with spaces."""
    url, query = word.find(":/"), word.find("?")
    parts, end = [], 0
    for found in _PARAMETER.finditer(word):
        begin = found.end()
        if found.start() < end:
            continue
        in_url = 0 <= url < begin or (behind_url and 0 <= query < begin)
        # The value is matched only if it is needed, because it can be as long as the rest of the text.
        if not _is_secret(found[1], in_url=in_url) and not _hides(_at(_ENCODED, word, begin), depth):
            continue
        value = _at(_VALUE, word, begin)
        if bare := value.rstrip(_TRAILING):
            parts += [word[end:begin], _MASK, value[len(bare) :]]
            end = begin + len(value)
    return "".join(parts) + word[end:]


def _at(pattern: re.Pattern[str], text: str, begin: int) -> str:
    found = pattern.match(text, begin)
    return found[0] if found else ""


def _is_secret(name: str, *, in_url: bool) -> bool:
    plain = _UNNAMED.sub("", unquote(unquote(name)).lower())
    return bool((_SECRET if in_url else _PLAIN_SECRET).fullmatch(plain))


def _hides(value: str, depth: int) -> bool:
    """Whether a percent-encoded *value* contains a URL with secrets."""
    for _ in range(depth):
        if "%" not in value:
            break
        value = unquote(value)
        if _masked(value, depth - 1) != value:
            return True
    return False
