"""The form for new runs: which controls it has, and the submission that its fields are.

Touches: nothing. Both are made of the description of the API's options, so there is no other list of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, Protocol

from chunk_job.contract import TranscribeOptions
from chunk_job.names import LANGUAGES
from controller.service.field_errors import FieldError
from controller.service.problems import Problem
from controller.service.submissions import Defaults, RunOptions, Submission
from controller.service.tenant import Tenant

Kind = Literal["text", "long", "lines", "pairs", "numbers", "number", "mixed", "flag", "choice", "several"]
RECORDING = frozenset({"source", "upload", "name"})
"""Fields of a submission that the form has no control for: each file and each address is one run."""
_FIRST = (
    *("options.language", "options.task", "options.model", "options.channels", "options.speaker_names"),
    *("options.glossary", "labels"),
)
"""What people set often, in this order. Everything else is folded."""
_OPTION = "options."
_LONG = 1_000
"""Texts that may have more characters get more lines."""
_SHORT = {"vad": "VAD", "ms": "(ms)", "url": "URL", "logprob": "log probability"}
"""Words of names that are not written as they are."""
_UNITS = ("bytes", "KB", "MB", "GB", "TB")
_SEPARATOR = re.compile(r"[\s,;]+")
_LINES = re.compile(r"\r\n|\r|\n")


class Fields(Protocol):
    """The fields of a form, as they come."""

    def getlist(self, key: Any, /) -> list[Any]:
        """Return all values of a field."""


@dataclass(frozen=True, kw_only=True)
class Control:
    """One control of the form."""

    name: str
    """As its field is called: ``options.language``."""
    label: str
    help: str
    kind: Kind
    choices: Sequence[tuple[str, str]] = ()
    """Values, and what people read."""
    least: float | None = None
    most: float | None = None
    whole: bool = False
    """Of a number."""
    longest: int | None = None
    """Characters of a text."""
    default: str = ""
    """What is so if nothing is chosen."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Controls that belong together."""

    title: str
    controls: Sequence[Control]


def first_controls(defaults: Defaults, tenant: Tenant) -> Sequence[Control]:
    """Return the controls that are always visible."""
    known = _controls(defaults, tenant)
    return [known[name] for name in _FIRST]


def folded_groups(defaults: Defaults, tenant: Tenant) -> Sequence[Group]:
    """Return all other controls."""
    left = [one for name, one in _controls(defaults, tenant).items() if name not in _FIRST]
    # Some have another form in the API, and more parts: the step of the temperature.
    own = [one for one in left if one.name.removeprefix(_OPTION).startswith(tuple(TranscribeOptions.model_fields))]
    return [
        Group(title="The run and its outputs", controls=[one for one in left if not one.name.startswith(_OPTION)]),
        Group(
            title="The recording",
            controls=[one for one in left if one.name.startswith(_OPTION) and one not in own],
        ),
        Group(title="Decoding", controls=own),
    ]


def submission_of(fields: Fields) -> dict[str, Any]:
    """Return the JSON that the fields of the form mean, without a recording. Raises :class:`Problem`.

    What is not of the right kind stays as it was typed: the check of the submission says what is wrong.
    """
    body: dict[str, Any] = {}
    options: dict[str, Any] = {}
    for name, schema in _schemas().items():
        typed = [value.strip() for value in fields.getlist(name) if isinstance(value, str) and value.strip()]
        if typed:
            place = options if name.startswith(_OPTION) else body
            place[name.removeprefix(_OPTION)] = _value(_kind(name, schema), typed)
    return body | ({"options": options} if options else {})


def addresses_of(fields: Fields) -> list[str]:
    """Return the addresses of recordings that were typed, one a line."""
    return _lines("\n".join(value for value in fields.getlist("source") if isinstance(value, str)))


def at_field(name: str, detail: str, advice: str = "") -> Problem:
    """Return the problem of one field of the form."""
    text = f"{detail}; {advice}" if advice else detail
    return Problem(
        422, "invalid-request", f"{label_of(name)}: {detail}", advice, errors=[FieldError(pointer=name, detail=text)]
    )


def of_form(problem: Problem) -> Problem:
    """Return the same problem, with each error at the field of the form that it is about."""
    errors: dict[str, str] = {}
    for error in problem.document.errors:
        parts = error.pointer.removeprefix("#/").split("/")
        name = ".".join(parts[:2]) if parts[0] == "options" else parts[0]
        if name not in errors:
            place = f"line {int(parts[2]) + 1}: " if len(parts) > 2 and parts[2].isdecimal() else ""
            errors[name] = f"{place}{error.detail}"
    if not errors:
        return problem
    document = problem.document
    return Problem(
        problem.status,
        "invalid-request",
        document.detail,
        document.advice,
        errors=[FieldError(pointer=name, detail=detail) for name, detail in errors.items()],
        headers=problem.headers,
    )


def size(count: int) -> str:
    """Format a number of bytes as people read it: 1.5 GB."""
    value, unit = float(count), 0
    while value >= 1000 and unit < len(_UNITS) - 1:
        value, unit = value / 1000, unit + 1
    return f"{value:.{1 if unit and value < 100 else 0}f} {_UNITS[unit]}".replace(".0 ", " ")


def label_of(name: str) -> str:
    """Return what people read before a field: its name in words."""
    words = [_SHORT.get(word, word) for word in name.removeprefix(_OPTION).split("_")]
    return " ".join([words[0][:1].upper() + words[0][1:], *words[1:]])


def _controls(defaults: Defaults, tenant: Tenant) -> Mapping[str, Control]:
    return {
        name: _control(name, schema, defaults)
        for name, schema in _schemas().items()
        # Without a place that the tenant may write to, results are only downloaded.
        if tenant.outputs or not name.startswith("output")
    }


def _schemas() -> Mapping[str, Mapping[str, Any]]:
    """Return the description of each field of a submission that has a control, in the order of the API."""

    def found() -> Iterator[tuple[str, Mapping[str, Any]]]:
        whole = Submission.model_json_schema()["properties"]
        yield from ((name, schema) for name, schema in whole.items() if name not in RECORDING | {"options"})
        for name, schema in RunOptions.model_json_schema()["properties"].items():
            yield f"{_OPTION}{name}", schema

    return dict(found())


def _kind(name: str, schema: Mapping[str, Any]) -> Kind:
    types = _types(schema)
    if len(types) > 1:
        return "mixed"
    (only,) = types
    if "enum" in only:
        return "choice"
    match only["type"]:
        case "boolean":
            return "flag"
        case "integer" | "number":
            return "number"
        case "object":
            return "pairs"
        case "array":
            items = only["items"]
            return "several" if "enum" in items else "lines" if items["type"] == "string" else "numbers"
        case "string":
            return "long" if only.get("maxLength", 0) > _LONG and not name.endswith(("url", "output")) else "text"
    raise TypeError(name)


def _types(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the types that a value may have; None means only that it is left out."""
    return [one for one in schema.get("anyOf", [schema]) if one.get("type") != "null"]


def _control(name: str, schema: Mapping[str, Any], defaults: Defaults) -> Control:
    types = _types(schema)
    kind = _kind(name, schema)
    items = types[0].get("items", types[0])
    words = [value for one in types for value in one.get("enum", [one["const"]] if "const" in one else [])]
    choices = [(str(word), str(word)) for word in words or items.get("enum", [])]
    if kind == "flag":
        choices = [("true", "yes"), ("false", "no")]
    if name == "options.language":
        kind, choices = "choice", sorted(((code, word.title()) for code, word in LANGUAGES.items()), key=itemgetter(1))
        if defaults.options.language:
            choices.insert(0, ("auto", "Detected"))
    if name == "options.model":
        kind, choices = "choice", [(model, model) for model in defaults.models]
    default = _default(name, schema, defaults)
    helps = [schema.get("description", ""), _FORMS.get(kind, ""), default]
    if kind in ("choice", "flag"):
        helps.pop()
    if name == "options.language":
        helps.clear()  # it says how clients of the API name languages
    return Control(
        name=name,
        label=label_of(name),
        help=" ".join(text for text in helps if text),
        kind=kind,
        choices=choices,
        least=types[0].get("minimum"),
        most=types[0].get("maximum"),
        whole=types[0].get("type") == "integer",
        longest=types[0].get("maxLength"),
        default=default,
    )


_FORMS: Mapping[Kind, str] = {
    "lines": "One a line.",
    "pairs": "One a line: name=value.",
    "numbers": "Numbers, with a space between them.",
}
"""How a value is written."""


def _default(name: str, schema: Mapping[str, Any], defaults: Defaults) -> str:
    """Return what happens if nothing is chosen, where that is known in one word."""
    option = name.removeprefix(_OPTION)
    if option == "model":
        return next(
            (f"Default: {one}." for one, meant in defaults.models.items() if meant == defaults.options.model), ""
        )
    value = getattr(defaults.options, option, None) if name != option else None
    if option == "language" and value is None:
        return "Detected"
    if value is None or isinstance(value, tuple) or "default:" in schema.get("description", "").lower():
        return ""
    if isinstance(value, bool):
        return f"Default: {'yes' if value else 'no'}."
    return f"Default: {LANGUAGES[value].title() if option == 'language' else value}."


def _value(kind: Kind, typed: list[str]) -> Any:
    text = typed[0]
    match kind:
        case "flag":
            return {"true": True, "false": False}.get(text, text)
        case "number":
            return _number(text)
        case "mixed":
            return int(text) if re.fullmatch(r"[0-9]{1,20}", text) else text
        case "numbers":
            return [_number(one) for one in _SEPARATOR.split(text) if one]
        case "lines":
            return _lines(text)
        case "pairs":
            return _pairs(text)
        case "several":
            return typed
    return text


def _number(text: str) -> int | float | str:
    try:
        return int(text) if re.fullmatch(r"[+-]?[0-9]{1,20}", text) else float(text.replace(",", "."))
    except ValueError:
        return text


def _lines(text: str) -> list[str]:
    return [line.strip() for line in _LINES.split(text) if line.strip()]


def _pairs(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for number, line in enumerate(_lines(text), 1):
        name, equals, value = line.partition("=")
        if not equals:
            raise at_field("labels", f"line {number} is not a name, = and a value", "write it like case=7")
        if name.strip() in found:
            raise at_field("labels", f"line {number} has a name that is there already")
        found[name.strip()] = value.strip()
    return found
