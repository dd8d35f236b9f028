"""How wide text is, and where it may be divided.

Touches: nothing. A column is the width of a Latin letter.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator

RIGHT_TO_LEFT_MARK = "\u200f"

_JOINER = "\u200d"
# No line starts with one of these: closing punctuation, small kana, marks of length and repetition.
_NOT_FIRST = frozenset(
    "、。，．！？；：）」』】〉》〕］｝〙〗’”…‥・ー々〻ゝゞヽヾぁぃぅぇぉっゃゅょゎゕゖァィゥェォッャュョヮヵヶ゛゜～%‰℃,.!?;:)]}»›ๆฯะาำๅ។៕၊။"
)
# No line ends with one of these: opening punctuation, vowels that Thai and Lao write before their consonant.
_NOT_LAST = frozenset("（「『【〈《〔［｛〘〖‘“([{«‹$€£¥¿¡#เแโใไເແໂໃໄ")


def columns(text: str) -> int:
    """The width of a line of text: wide characters count two, combining and invisible ones none."""
    if text.isascii():
        return len(text)
    return sum(map(_of_character, text))


def _of_character(character: str) -> int:
    if unicodedata.category(character) in ("Mn", "Me", "Cf") or "\u1160" <= character <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clusters(text: str) -> Iterator[str]:
    """The characters of a text as readers see them: each with its combining marks and joined characters."""
    cluster = ""
    for character in text:
        if cluster and not _continues(cluster, character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


def _continues(cluster: str, character: str) -> bool:
    return (
        unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")
        or "\u1160" <= character <= "\u11ff"
        or "\U0001f3fb" <= character <= "\U0001f3ff"
        or cluster.endswith(_JOINER)
        or (len(cluster) == 1 and all("\U0001f1e6" <= half <= "\U0001f1ff" for half in (cluster, character)))
    )


def pieces(word: str, width: int) -> list[str]:
    """A word in pieces of at most *width* columns. A cluster is divided only if it alone is wider."""
    found, used = [""], 0
    for cluster in clusters(word):
        for part in [cluster] if columns(cluster) <= width else cluster:
            size = columns(part)
            if used + size > width:
                found.append("")
                used = 0
            found[-1] += part
            used += size
    return found


def without_spaces(character: str) -> bool:
    """Whether the script of a character puts no spaces between words."""
    return (
        "\u0e00" <= character <= "\u0eff"  # Thai, Lao
        or "\u1000" <= character <= "\u109f"  # Myanmar
        or "\u1780" <= character <= "\u17ff"  # Khmer
        or "\u2e80" <= character <= "\u312f"  # radicals, kana, punctuation, bopomofo
        or "\u31a0" <= character <= "\u9fff"  # ideographs
        or "\uf900" <= character <= "\ufaff"
        or "\uff00" <= character <= "\uff9f"  # full width forms, kana of half width
        or "\U0001b000" <= character <= "\U0001b2ff"
        or "\U00020000" <= character <= "\U0003ffff"
    )


def divisible(before: str, after: str) -> bool:
    """Whether a line may end between two texts that have no space between them."""
    last, first = before[-1], after[0]
    if last in _NOT_LAST or first in _NOT_FIRST or _continues(before[-1:], first):
        return False
    return without_spaces(last) or without_spaces(first)


def is_right_to_left(text: str) -> bool:
    """Whether the first letter of a text is of a script that is written from right to left."""
    if text.isascii():
        return False
    kinds = (unicodedata.bidirectional(character) for character in text)
    return next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L"
