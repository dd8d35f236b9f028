"""Terms of a glossary: what they replace, how they are counted, and how many the model is given."""

from types import SimpleNamespace
from typing import Any

import pytest

from chunk_job.contract import TranscribeOptions
from chunk_job.engine.prompt import with_glossary
from chunk_job.glossary import HitCounter, Term, corrected, parsed
from chunk_job.segment import Segment, Word
from tests import fakes


def spoken(*words: str) -> Segment:
    """A segment with a word a second."""
    times = ((word, 1000 * number, 1000 * number + 900) for number, word in enumerate(words))
    return fakes.segment(*times)


def texts(segment: Segment) -> list[str]:
    return [word["word"] for word in segment.words]


def test_a_line_is_a_term_and_what_it_sounds_like() -> None:
    assert parsed("Kubernetes") == Term("Kubernetes", "")
    assert parsed("Kubernetes = cooper netties") == Term("Kubernetes", "cooper netties")


def test_words_that_a_term_sounds_like_become_one_word_with_their_times() -> None:
    before = spoken(" Use", " (Cooper", " Netties),", " now.")
    (after,) = corrected([before], ["Kubernetes = cooper netties"])
    assert texts(after) == [" Use", " (Kubernetes),", " now."]
    assert after.text == " Use (Kubernetes), now."
    assert after.words[1] == Word(word=" (Kubernetes),", start_ms=1000, end_ms=2900, probability=0.9)
    assert (after.start_ms, after.end_ms, after.tokens) == (before.start_ms, before.end_ms, before.tokens)


@pytest.mark.parametrize(
    "words",
    [(" Coopers", " netties"), (" cooper",), (" netties", " cooper"), (" cooper", " x", " netties"), (" ...",)],
    ids=" ".join,
)
def test_only_exactly_these_words_are_replaced(words: tuple[str, ...]) -> None:
    before = spoken(*words)
    assert corrected([before], ["Kubernetes = cooper netties"]) == (before,)


def test_the_longest_one_wins() -> None:
    glossary = ["Cooper = cooper", "Kubernetes = cooper netties"]
    (after,) = corrected([spoken(" cooper", " netties", " cooper")], glossary)
    assert texts(after) == [" Kubernetes", " Cooper"]


def test_a_segment_whose_words_are_not_its_text_stays() -> None:
    before = spoken(" cooper", " netties").model_copy(update={"text": " cooper netties!"})
    bare = before.model_copy(update={"words": ()})
    assert corrected([before, bare], ["Kubernetes = cooper netties"]) == (before, bare)


def test_terms_without_a_sound_replace_nothing() -> None:
    before = spoken(" kubernetes")
    assert corrected([before], ["Kubernetes"]) == (before,)


def test_hits_are_whole_words_in_any_case() -> None:
    counter = HitCounter(["C++", "Ada = aider", "etcd"])
    counter.add([spoken(" C++", " and", " ADA,", " Ada."), spoken(" Adam", " c++x")])
    counter.add([spoken(" ada")])
    assert counter.counts == {"C++": 1, "Ada": 3, "etcd": 0}


def whisper(most: int) -> Any:
    """A model with *most* tokens of context, in which every word is a token."""

    def encode(text: str, *, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return SimpleNamespace(ids=text.split())

    return SimpleNamespace(max_length=most, hf_tokenizer=SimpleNamespace(encode=encode))


def test_as_many_terms_as_fit_are_given_to_the_model() -> None:
    options = TranscribeOptions(glossary=("a", "b = bee", "c d", "e"), hotwords="x y")
    found, used = with_glossary(options, whisper(100))
    assert (found.hotwords, used) == ("x y, a, b, c d, e", 4)
    # Five tokens: those before the term of two words. What a term sounds like is not given to the model.
    found, used = with_glossary(options, whisper(12))
    assert (found.hotwords, used) == ("x y, a, b", 2)
    assert with_glossary(TranscribeOptions(), whisper(14)) == (TranscribeOptions(), 0)


def test_an_initial_prompt_leaves_half_of_the_prompt_to_the_terms() -> None:
    glossary = tuple(f"t{number}" for number in range(50))
    for prompt, used in (("", 49), ("p " * 9, 40), ("p " * 500, 24)):
        options = TranscribeOptions(glossary=glossary, initial_prompt=prompt)
        assert with_glossary(options, whisper(100))[1] == used


def test_nothing_is_given_if_not_even_one_term_fits() -> None:
    options = TranscribeOptions(glossary=("a b c d e f g h i j",))
    assert with_glossary(options, whisper(6)) == (options, 0)
