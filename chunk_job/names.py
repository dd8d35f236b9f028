"""Names that users type: models with their hub repository and size, languages with their codes.

Touches: nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class KnownModel(NamedTuple):
    """A model published for CTranslate2: its repository on the hub, its download in MB, and what it is."""

    repository: str
    size_mb: int
    parameters_m: int
    """Parameters in millions."""
    languages: int = 99
    """How many languages it knows; 1: English."""
    license: str = "MIT"


MODELS: dict[str, KnownModel] = {
    "tiny": KnownModel("Systran/faster-whisper-tiny", 75, 39),
    "tiny.en": KnownModel("Systran/faster-whisper-tiny.en", 75, 39, 1),
    "base": KnownModel("Systran/faster-whisper-base", 145, 74),
    "base.en": KnownModel("Systran/faster-whisper-base.en", 145, 74, 1),
    "small": KnownModel("Systran/faster-whisper-small", 485, 244),
    "small.en": KnownModel("Systran/faster-whisper-small.en", 485, 244, 1),
    "medium": KnownModel("Systran/faster-whisper-medium", 1530, 769),
    "medium.en": KnownModel("Systran/faster-whisper-medium.en", 1530, 769, 1),
    "large-v1": KnownModel("Systran/faster-whisper-large-v1", 3090, 1550),
    "large-v2": KnownModel("Systran/faster-whisper-large-v2", 3090, 1550),
    "large-v3": KnownModel("Systran/faster-whisper-large-v3", 3090, 1550, 100),
    "large": KnownModel("Systran/faster-whisper-large-v3", 3090, 1550, 100),
    "large-v3-turbo": KnownModel("mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1620, 809, 100),
    "turbo": KnownModel("mobiuslabsgmbh/faster-whisper-large-v3-turbo", 1620, 809, 100),
    "distil-small.en": KnownModel("Systran/faster-distil-whisper-small.en", 335, 166, 1),
    "distil-medium.en": KnownModel("Systran/faster-distil-whisper-medium.en", 790, 394, 1),
    "distil-large-v2": KnownModel("Systran/faster-distil-whisper-large-v2", 1515, 756, 1),
    "distil-large-v3": KnownModel("Systran/faster-distil-whisper-large-v3", 1515, 756, 1),
    "distil-large-v3.5": KnownModel("distil-whisper/distil-large-v3.5-ct2", 1515, 756, 1),
}

_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
"""``owner/name`` on the hub: never a path that begins with a dot, a slash or a tilde."""

_NEAR = 0.75
"""Smallest similarity of a typing error: two letters exchanged in a word of four."""

MODEL_FILES = ("model.bin", "config.json", "tokenizer.json")
"""Files that a model folder must contain to be loaded without a network."""

COMPUTE_TYPES = (
    "auto", "default", "int8", "int8_float16", "int8_bfloat16", "int8_float32", "int16", "float16", "float32",
    "bfloat16",
)  # fmt: skip
"""Types in which CTranslate2 can compute; ``auto`` is chosen by the job."""

LANGUAGES: dict[str, str] = {
    "af": "afrikaans", "am": "amharic", "ar": "arabic", "as": "assamese", "az": "azerbaijani", "ba": "bashkir",
    "be": "belarusian", "bg": "bulgarian", "bn": "bengali", "bo": "tibetan", "br": "breton", "bs": "bosnian",
    "ca": "catalan", "cs": "czech", "cy": "welsh", "da": "danish", "de": "german", "el": "greek", "en": "english",
    "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian", "fi": "finnish", "fo": "faroese",
    "fr": "french", "gl": "galician", "gu": "gujarati", "ha": "hausa", "haw": "hawaiian", "he": "hebrew",
    "hi": "hindi", "hr": "croatian", "ht": "haitian-creole", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "is": "icelandic", "it": "italian", "ja": "japanese", "jw": "javanese", "ka": "georgian",
    "kk": "kazakh", "km": "khmer", "kn": "kannada", "ko": "korean", "la": "latin", "lb": "luxembourgish",
    "ln": "lingala", "lo": "lao", "lt": "lithuanian", "lv": "latvian", "mg": "malagasy", "mi": "maori",
    "mk": "macedonian", "ml": "malayalam", "mn": "mongolian", "mr": "marathi", "ms": "malay", "mt": "maltese",
    "my": "myanmar", "ne": "nepali", "nl": "dutch", "nn": "nynorsk", "no": "norwegian", "oc": "occitan",
    "pa": "punjabi", "pl": "polish", "ps": "pashto", "pt": "portuguese", "ro": "romanian", "ru": "russian",
    "sa": "sanskrit", "sd": "sindhi", "si": "sinhala", "sk": "slovak", "sl": "slovenian", "sn": "shona",
    "so": "somali", "sq": "albanian", "sr": "serbian", "su": "sundanese", "sv": "swedish", "sw": "swahili",
    "ta": "tamil", "te": "telugu", "tg": "tajik", "th": "thai", "tk": "turkmen", "tl": "tagalog", "tr": "turkish",
    "tt": "tatar", "uk": "ukrainian", "ur": "urdu", "uz": "uzbek", "vi": "vietnamese", "yi": "yiddish",
    "yo": "yoruba", "zh": "chinese", "yue": "cantonese",
}  # fmt: skip
"""Whisper's language codes with their English names. Users can type both."""


LANGUAGE_ALIASES: dict[str, str] = {
    "burmese": "my", "castilian": "es", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb", "mandarin": "zh",
    "moldavian": "ro", "moldovan": "ro", "panjabi": "pa", "pushto": "ps", "sinhalese": "si", "valencian": "ca",
}  # fmt: skip
"""Other English names that Whisper accepts, with the code of the language that is meant."""

_OTHER_CODES = {"cmn": "zh", "fil": "tl", "in": "id", "iw": "he", "jv": "jw", "ji": "yi", "nb": "no"}
"""Codes of other standards, or of former versions, for languages of Whisper."""

_REGIONAL = re.compile(r"([a-z]{2,3})((?:[-_](?:[a-z]{2,4}|\d{3}))*)(?:\.utf-?8)?")
"""A code with a script or a region, as in ``pt-BR``, ``zh-Hant-TW``, ``es-419`` and ``en_US.UTF-8``."""


def is_published(reference: str) -> bool:
    """Whether *reference* can be a model on the hub: a known name, or a repository ``owner/name``."""
    return reference in MODELS or _REPOSITORY.fullmatch(reference) is not None


def repository_of(reference: str) -> str:
    """The repository on the hub of a published model."""
    known = MODELS.get(reference)
    return known.repository if known else reference


def model_name(reference: str) -> str:
    """Return what a model is called: a folder has its last part, because where it is does not concern readers."""
    return reference if is_published(reference) else re.split(r"[/\\]", reference.rstrip("/\\"))[-1] or reference


def language_code(typed: str) -> str | None:
    """Whisper's code for a code or an English name, upper or lower case; None if there is no such language."""
    wanted = typed.strip().lower().replace(" ", "-")
    if wanted in LANGUAGES:
        return wanted
    return next((code for code, name in LANGUAGES.items() if name == wanted), None)


def mapped_language(typed: str) -> str | None:
    """Whisper's code for another name of a language, or for a code with a script or region; None if there is none."""
    wanted = typed.strip().lower()
    if wanted in LANGUAGE_ALIASES:
        return LANGUAGE_ALIASES[wanted]
    found = _REGIONAL.fullmatch(wanted)
    code = found[1] if found else ""
    return code if code in LANGUAGES else _OTHER_CODES.get(code)


def near(typed: str, known: Iterable[str]) -> str:
    """The name among *known* with the most similar spelling, ignoring case; empty if none is similar."""
    # Imported here: a chunk job never needs it.
    from difflib import get_close_matches

    by_spelling = {name.casefold(): name for name in known}
    found = get_close_matches(typed.casefold(), by_spelling, n=1, cutoff=_NEAR)
    return by_spelling[found[0]] if found else ""


def unknown_model(reference: str) -> tuple[str, str]:
    """Message and advice for a model that is neither a folder nor a known name."""
    meant = near(reference, MODELS)
    return (
        f"no model {reference!r}: neither a folder here nor a known name",
        "the folder must exist where the job runs: for a pod, in its image or on its volume"
        if reference.startswith(("/", ".", "~"))
        else f"{f'is {meant} meant? ' if meant else ''}known names: {', '.join(MODELS)}",
    )
