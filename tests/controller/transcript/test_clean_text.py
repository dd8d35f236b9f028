"""Text of transcripts: control and direction characters are removed, those that languages need stay."""

import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.transcript.clean_text import cleaned

LRI, RLI, FSI, PDI = "\u2066", "\u2067", "\u2068", "\u2069"
KEPT = "\t\n\r"
SPACES = "\x0b\x0c\x1c\x1d\x1e\x1f\x85"
FORBIDDEN = {
    *(chr(code) for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in KEPT),
    *(chr(code) for code in (*range(0x202A, 0x202F), *range(0x206A, 0x2070))),
}

texts = st.text(
    st.sampled_from([*sorted(FORBIDDEN), LRI, RLI, FSI, PDI, PDI, *KEPT, "a", "م", "\u200d", " "]) | st.characters()
)


@pytest.mark.parametrize(
    "text,clean,removed",
    [
        (" alpha", " alpha", 0),
        ("tab\tand\nlines\r\n", "tab\tand\nlines\r\n", 0),
        ("\x00\x08\x1b[2J\x7f\x80\x9b", "[2J", 6),
        ("a\x0bb\x0cc\x1cd\x1de\x1ef\x1fg", "a b c d e f g", 0),
        ("next\x85line", "next line", 0),
        ("\u202eevil\u202c \u202a\u202b\u202d", "evil ", 5),
        ("a\u206a\u206fb", "ab", 2),
        # Joiners, direction marks, and other format characters.
        ("می\u200cخواهم \u200d👩\u200d💻", "می\u200cخواهم \u200d👩\u200d💻", 0),
        ("\u200e\u200f\u061c \u00ad\ufeff", "\u200e\u200f\u061c \u00ad\ufeff", 0),
        (f"{LRI}a{PDI} {RLI}{FSI}b{PDI}{PDI}", f"{LRI}a{PDI} {RLI}{FSI}b{PDI}{PDI}", 0),
        (f"{PDI}a{PDI}", "a", 2),
        (f"{LRI}a {RLI}b", "a b", 2),
        (f"{LRI}a{PDI}{PDI}b{FSI}", f"{LRI}a{PDI}b", 2),
        (f"{LRI}\u202ea\x00", "a", 3),
        ("", "", 0),
    ],
)  # fmt: skip
def test_control_and_direction_characters_are_removed_and_counted(text: str, clean: str, removed: int) -> None:
    assert cleaned(text) == (clean, removed)


def test_every_other_character_stays() -> None:
    isolates = {LRI, RLI, FSI, PDI}
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        if character not in FORBIDDEN | isolates:
            assert cleaned(f"a{character}") == (f"a{character}", 0)
        elif character not in isolates:
            assert cleaned(f"a{character}") == (("a ", 0) if character in SPACES else ("a", 1))


@given(texts)
def test_nothing_forbidden_is_left_and_isolates_are_balanced(text: str) -> None:
    clean, removed = cleaned(text)
    assert not set(clean) & FORBIDDEN
    depth = 0
    for character in clean:
        depth += {LRI: 1, RLI: 1, FSI: 1, PDI: -1}.get(character, 0)
        assert depth >= 0
    assert depth == 0
    isolates = sum(map(text.count, (LRI, RLI, FSI, PDI)))
    assert removed == sum(map(text.count, FORBIDDEN - set(SPACES))) + isolates - 2 * _matched(text)
    assert len(clean) == len(text) - removed, "it never grows"


def _matched(text: str) -> int:
    depth = matched = 0
    for character in text:
        if character in (LRI, RLI, FSI):
            depth += 1
        elif character == PDI and depth:
            depth, matched = depth - 1, matched + 1
    return matched


@given(texts)
def test_clean_text_stays_as_it_is(text: str) -> None:
    clean = cleaned(text)[0]
    assert cleaned(clean) == (clean, 0)


@given(st.text(st.characters(exclude_categories=["Cc", "Cf"])))
def test_text_without_controls_stays_as_it_is(text: str) -> None:
    assert cleaned(text) == (text, 0)


def test_only_control_characters_are_forbidden() -> None:
    assert {unicodedata.category(character) for character in FORBIDDEN} == {"Cc", "Cf"}
