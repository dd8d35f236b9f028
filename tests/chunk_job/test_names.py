"""Names of languages and models on the command line."""

import pytest

from chunk_job.names import LANGUAGE_ALIASES, LANGUAGES, MODELS, language_code, mapped_language


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


@pytest.mark.parametrize(
    "typed,code",
    [
        ("Mandarin", "zh"),
        ("CASTILIAN", "es"),
        ("zh-TW", "zh"),
        ("zh_Hant_TW", "zh"),
        ("pt-BR", "pt"),
        ("es-419", "es"),
        ("en_US.UTF-8", "en"),
        ("yue-HK", "yue"),
        ("nb-NO", "no"),
        ("fil", "tl"),
        ("klingon", None),
        ("tlh-AA", None),
        ("pt-", None),
        ("en us", None),
        ("-en", None),
        ("", None),
    ],
)
def test_other_names_and_regions_are_mapped_to_a_language(typed: str, code: str | None) -> None:
    assert mapped_language(typed) == code


def test_an_alias_is_no_name_of_another_language() -> None:
    assert {code: LANGUAGES[code] for code in LANGUAGE_ALIASES.values()}
    assert not LANGUAGE_ALIASES.keys() & {*LANGUAGES, *LANGUAGES.values()}
