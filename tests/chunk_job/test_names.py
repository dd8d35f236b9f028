"""Names of languages and models on the command line."""

import pytest

from chunk_job.names import LANGUAGES, MODELS, language_code


@pytest.mark.parametrize(
    "typed,code",
    [
        ("pt", "pt"),
        ("PT", "pt"),
        ("portuguese", "pt"),
        ("Portuguese", "pt"),
        ("  English\n", "en"),
        ("haitian-creole", "ht"),
        ("Haitian Creole", "ht"),
        ("yue", "yue"),
        ("cantonese", "yue"),
        ("haw", "haw"),
        ("", None),
        ("auto", None),
        ("port", None),
        ("portuguese ", "pt"),
        ("pt-BR", None),
        ("klingon", None),
    ],
)
def test_a_language_is_known_by_its_code_or_its_name(typed: str, code: str | None) -> None:
    assert language_code(typed) == code


@pytest.mark.parametrize("code", LANGUAGES)
def test_every_code_and_every_name_gives_the_code(code: str) -> None:
    assert {language_code(code), language_code(code.upper()), language_code(LANGUAGES[code].title())} == {code}


def test_all_hundred_languages_of_whisper_are_known() -> None:
    assert len(LANGUAGES) == 100
    assert len(set(LANGUAGES.values())) == 100


def test_every_model_has_a_repository_and_a_size() -> None:
    assert all("/" in known.repository and known.size_mb > 0 for known in MODELS.values())
    assert MODELS["turbo"] == MODELS["large-v3-turbo"]
    assert MODELS["large"] == MODELS["large-v3"]
