"""What counts as the same, and that every word keeps its time: also where numbers join words of several lines."""

import pytest

from controller.evaluation import normalize
from controller.evaluation.normalize import Normalizer, NotComparable, chosen, normalized
from controller.evaluation.words import Word, of_lines


def texts(text: str, normalizer: Normalizer) -> list[str]:
    return [word.text for word in normalized(of_lines(text), normalizer, "words")]


@pytest.mark.parametrize(
    "text,normalizer,wanted",
    [
        ("It's 5 p.m., Zoë!", "none", "It's 5 p.m., Zoë!"),
        ("It's 5 p.m., Zoë!", "basic", "it s 5 p m zoë"),
        ("Isn't the colour [laughs] grey?", "english", "is not the color gray"),
        ("I'd pay twenty-five dollars", "english", "i would pay $25"),
        ("twenty\nfive dollars", "english", "$25"),
        ("<i>one</i> (two) three [four", "basic", "one three four"),
        ("an [open\nbracket] here", "basic", "an open bracket here"),
        ("ＡＢＣ ﬁne", "basic", "abc fine"),
        ("\u200fשלום עולם\u200f co\u00adop", "basic", "שלום עולם coop"),
    ],
)
def test_each_set_of_rules(text: str, normalizer: Normalizer, wanted: str) -> None:
    assert texts(text, normalizer) == wanted.split()


def test_the_rules_follow_the_language() -> None:
    assert [chosen("auto", language) for language in ("en", "de", None)] == ["english", "basic", "basic"]
    assert chosen("none", "en") == "none"


def test_words_keep_their_times() -> None:
    said = ["the", "colour", "of", "[one", "and]", "twenty", "five", "cars", "isn't", "grey"]
    words = [Word(text, at // 6, True, 1_000 * at, 1_000 * at + 500) for at, text in enumerate(said)]
    found = {word.text: word.start_ms for word in normalized(words, "english", "words")}
    assert found.keys() == {"the", "color", "of", "25", "cars", "is", "not", "gray"}
    assert {text: found[text] for text in ("the", "color", "of", "cars", "is", "gray")} == {
        "the": 0, "color": 1_000, "of": 2_000, "cars": 7_000, "is": 8_000, "gray": 9_000,
    }  # fmt: skip
    # What became of several words is at one of them, or beside them.
    assert 3_000 <= (found["25"] or 0) <= 6_000


@pytest.mark.parametrize("text", ["[ ", "(", "<"])
def test_no_text_takes_time_that_grows_with_its_square(text: str) -> None:
    # The rules alone would take longer than a test may.
    assert texts("x" + 100_000 * text + " " * 100_000 + "x", "english") == ["x", "x"]


def test_what_cannot_be_compared_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NotComparable, match="use --normalize basic"):
        texts("9" * 6_000, "english")
    monkeypatch.setattr(normalize, "MOST_WORDS", 3)
    for rules in ("none", "basic"):
        with pytest.raises(NotComparable, match="has 7 words or characters, and may have 3: divide it"):
            texts("a b c d e f g", rules)
