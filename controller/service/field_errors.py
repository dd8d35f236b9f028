"""What is wrong with each part of a request, in words that need no knowledge of the library that has checked it.

Touches: nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, Field

from chunk_job.names import near
from chunk_job.segment import SPEAKER_PATTERN
from controller.domain.service_documents import LABEL_PATTERN
from controller.domain.service_keys import ID_PATTERN

FILE_NAME_PATTERN = r"^[^/\x00-\x1f\x7f]+$"
_PATTERNS: Mapping[str, str] = {
    ID_PATTERN: "must be an id of this service: 26 digits and lower-case letters",
    FILE_NAME_PATTERN: "must be a file name, without / and control characters",
    LABEL_PATTERN: "has a name with other characters than A-Z a-z 0-9 _ . / -, or a name that does not begin and end "
    "with a letter or a digit, or one of more than 63 characters",
    SPEAKER_PATTERN: "must be a name: words with one space between them",
}
_SINGLE_PATTERN = "is not a value that an answer of this service had there"
"""Of parameters that clients do not write themselves: the cursor of the page before."""
_WORDS: Mapping[str, str] = {
    "missing": "is missing",
    "extra_forbidden": "is not known here",
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_parsing_size": "must be a whole number with fewer digits",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be an object",
    "model_type": "must be an object",
    "model_attributes_type": "must be an object",
    "string_unicode": "must be valid Unicode",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries",
    "string_too_short": "must not be empty",
    "too_short": "must not be empty",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "json_invalid": "is not JSON: {error}",
}
"""By the type of an error of pydantic; in braces: its context."""
_OPERATORS = frozenset({"device", "threads", "cpu_threads"})
_MOST_ERRORS = 20
_LONGEST = 500
_LONGEST_NAME = 50
_PLACES = ("query", "path", "header")
_NO_NAMES: Mapping[str, Collection[str]] = {}


class FieldError(BaseModel):
    """What is wrong with one part of the body or the query."""

    pointer: str = Field(
        description="A JSON pointer into the body (RFC 6901), or the name of a parameter or of a field of the form."
    )
    detail: str

    def text(self) -> str:
        """Return the error in one line, with the name of the part as in the body: ``options.beam_size``."""
        parts = [part.replace("~1", "/").replace("~0", "~") for part in self.pointer.removeprefix("#").split("/")]
        name = "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in parts if part).lstrip(".")
        return f"{name or 'the body'}: {self.detail}"

    def of_form(self) -> FieldError:
        """Return the same error of a field of a form that has no options of its own."""
        name = self.pointer.removeprefix("#/").removeprefix("options/").partition("/")[0]
        named = {"initial_prompt": "prompt", "timestamp_granularities": "timestamp_granularities[]"}.get(name, name)
        return FieldError(pointer=named, detail=self.detail)


def names_of(model: type[BaseModel]) -> dict[str, Collection[str]]:
    """Return the names that *model* knows, and those of each of its fields that is a model, by pointer."""
    found: dict[str, Collection[str]] = {"#": model.model_fields.keys()}
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            found[f"#/{name}"] = field.annotation.model_fields.keys()
    return found


def field_errors(
    found: Sequence[Mapping[str, Any]],
    *,
    where: str = "",
    body: object = None,
    known: Mapping[str, Collection[str]] = _NO_NAMES,
) -> list[FieldError]:
    """Return the errors that pydantic has *found* in *body*, one for each part of it. *where*: a pointer to the body.

    A part of which several types are possible has an error for each of them, which become one. *known*: the names that
    are possible, by the pointer to where.
    """
    by_pointer: dict[str, list[str]] = {}
    for each in found:
        pointer, is_name = _pointer(each["loc"], where, body)
        if pointer not in by_pointer and len(by_pointer) == _MOST_ERRORS:
            continue  # a body may have many thousands, and a similar name is not found at once
        words = _words(each, pointer, known, is_name=is_name)
        details = by_pointer.setdefault(pointer, [])
        if words not in details:
            details.append(words)
    return [
        FieldError(
            pointer=pointer[:_LONGEST],
            detail=", or ".join([details[0], *(text.removeprefix("must ") for text in details[1:])])[:_LONGEST],
        )
        for pointer, details in by_pointer.items()
    ]


def _pointer(loc: Sequence[int | str], where: str, body: object) -> tuple[str, bool]:
    """Return the pointer to what has an error, and whether the error is in the last name of the pointer itself."""
    if loc and loc[0] in _PLACES:
        return ".".join(map(str, loc[1:])), False
    steps = list(loc[1:] if loc[:1] == ("body",) else loc)
    parts: list[str] = []
    here = body
    for step in steps:
        # What follows below a value that has no parts are the possible types of it.
        if isinstance(here, dict) and isinstance(step, str):
            here = here.get(step)
        elif isinstance(here, list) and isinstance(step, int) and step < len(here):
            here = here[step]
        else:
            break
        parts.append(str(step).replace("~", "~0").replace("/", "~1"))
    return "/".join([f"#{where}", *parts]), steps[-1:] == ["[key]"]


def _words(error: Mapping[str, Any], pointer: str, known: Mapping[str, Collection[str]], *, is_name: bool) -> str:
    kind, context = str(error["type"]), error.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return _PATTERNS.get(str(context.get("pattern")), _SINGLE_PATTERN)
    if kind == "string_too_long" and is_name:
        return f"has a name of more than {context['max_length']} characters"
    words = _WORDS.get(kind, "").format_map(context) or str(error["msg"]).removeprefix("Value error, ")
    if kind == "extra_forbidden":
        place, _, name = pointer.rpartition("/")
        if name in _OPERATORS and pointer.startswith("#/options/"):
            return f"{words}: the operator of the service chooses it"
        if "-" in name:
            return f"{words}: names have underscores"
        if inner := [one for one, names in known.items() if place == "#" and name in names]:
            return f"{words}: it belongs in {inner[0].removeprefix('#/')}"
        if meant := near(name[:_LONGEST_NAME], known.get(place, ())):
            return f"{words}: did you mean {meant}?"
    return words
