# ruff: noqa: INP001
"""Write what follows from the comments of the chart's values: their JSON Schema, and the tables of its README.

python helm/generate.py

``# -- text`` above a key of ``values.yaml`` is its description, and ``# @schema {…}`` after it adds to its schema. The
type is that of the default. A map whose keys have descriptions takes only these keys; any other map takes all keys. A
ruler with a title (``# ---- names``) begins a table. The program that waits for the model is copied from ``k8s/``,
and the languages are those of the code, because a chart contains only files of its folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import yaml  # type: ignore[import-untyped]

from chunk_job.names import LANGUAGE_ALIASES, LANGUAGES, mapped_language

FOLDER = Path(__file__).parent / "stenofleet"
SHARED = Path(__file__).parents[1] / "k8s" / "base" / "wait_for_model.py"
_BEGIN, _END = "<!-- values: python helm/generate.py -->", "<!-- end of values -->"
_OF_TEXTS = re.compile(r"(?i:labels|annotations|nodeSelector)$")
"""Maps with such a name have only texts as values: Kubernetes refuses `true` and numbers there."""
_TYPES = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


@dataclass(frozen=True, kw_only=True)
class Key:
    """A key of the values with its comment."""

    path: tuple[str, ...]
    default: Any
    section: str
    description: str
    extra: dict[str, Any]
    keys: list[Key] = field(default_factory=list)
    """The documented keys of a map; empty for all other values."""

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def leaves(self) -> Iterator[Key]:
        """This key, or the keys below it that have a value of their own."""
        if not self.keys:
            yield self
        for key in self.keys:
            yield from key.leaves()


def read(text: str) -> list[Key]:
    """The documented keys of ``values.yaml``. Raises ValueError for a key of the top level without a description."""
    keys = _keys(yaml.compose(text), text.splitlines(), ())
    if bare := [name for name in yaml.safe_load(text) if name not in {key.path[0] for key in keys}]:
        raise ValueError(f"values.yaml: no description of {', '.join(bare)}")
    return keys


def _keys(node: yaml.MappingNode, lines: list[str], above: tuple[str, ...]) -> list[Key]:
    found = []
    for name, value in node.value:
        section, description, extra = _comment(lines, name.start_mark.line)
        if not description:
            continue
        path = (*above, name.value)
        block = isinstance(value, yaml.MappingNode) and not value.flow_style
        below = _keys(value, lines, path) if block else []
        default = yaml.safe_load(yaml.serialize(value))
        found.append(Key(path=path, default=default, section=section, description=description, extra=extra, keys=below))
    bare = [name.value for name, _ in node.value if name.value not in {key.path[-1] for key in found}]
    if found and bare:
        raise ValueError(f"values.yaml: no description of {', '.join('.'.join((*above, name)) for name in bare)}")
    return found


def _comment(lines: list[str], line: int) -> tuple[str, str, dict[str, Any]]:
    """The section, the description and the additions to the schema of the key at *line*."""
    section = next((found[1] for at in range(line, -1, -1) if (found := re.match(r"# -{8,} (.+)", lines[at]))), "")
    texts, extra = [], {}
    while line and (comment := lines[line - 1].strip()).startswith("# "):
        line -= 1
        if comment.startswith("# @schema "):
            extra = yaml.safe_load(comment.removeprefix("# @schema "))
        elif comment.startswith("# -- "):
            texts.append(comment.removeprefix("# -- "))
            break
        else:
            texts.append(comment.removeprefix("# "))
    else:
        texts = []
    return section, " ".join(reversed(texts)), extra


def schema(keys: list[Key]) -> dict[str, Any]:
    """The JSON Schema of the values (draft 7, as Helm reads it)."""
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Values of the chart stenofleet",
        "type": "object",
        "additionalProperties": False,
        "properties": {key.path[-1]: _property(key) for key in keys},
    }


def _property(key: Key) -> dict[str, Any]:
    found: dict[str, Any] = {"description": key.description, "type": _TYPES[type(key.default)]}
    if key.keys:
        found |= {
            "additionalProperties": False,
            "properties": {below.path[-1]: _property(below) for below in key.keys},
        }
    else:
        found["default"] = key.default
        if _OF_TEXTS.search(key.path[-1]):
            found["additionalProperties"] = {"type": "string"}
    return found | key.extra


def tables(keys: list[Key]) -> str:
    """The tables of the README: one for each section."""
    parts = []
    for section in dict.fromkeys(key.section for key in keys):
        rows = [leaf for key in keys if key.section == section for leaf in key.leaves()]
        parts += [
            "",
            f"### {section[:1].upper()}{section[1:]}",
            "",
            "| value | type | default | |",
            "|---|---|---|---|",
        ]
        parts += [f"| `{row.name}` | {_type(row)} | {_default(row)} | {_cell(row.description)} |" for row in rows]
    return "\n".join([*parts, ""])


def _type(key: Key) -> str:
    if allowed := key.extra.get("enum"):
        return " \\| ".join(f"`{value}`" for value in allowed)
    found = _property(key)["type"]
    return " or ".join(found) if isinstance(found, list) else str(found)


def _default(key: Key) -> str:
    return "" if key.default in ("", [], {}) else f"`{_cell(json.dumps(key.default))}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def languages() -> str:
    """An expression for the languages that the program takes, in lower case. Empty and ``auto``: it is detected."""
    letters = ("".join(code) for length in (2, 3) for code in product(ascii_lowercase, repeat=length))
    codes = "|".join(code for code in letters if mapped_language(code))
    names = "|".join(sorted({*LANGUAGES.values(), *LANGUAGE_ALIASES})).replace("-", "[ -]")
    return rf"^(|auto|none|{names}|({codes})([-_]([a-z]{{2,4}}|[0-9]{{3}}))*(\.utf-?8)?)$"


def generated() -> dict[Path, str]:
    """The files with their contents."""
    keys = read((FOLDER / "values.yaml").read_text(encoding="utf-8"))
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    if not after:
        raise ValueError(f"README.md: no {_BEGIN} … {_END}")
    return {
        FOLDER / "values.schema.json": json.dumps(schema(keys), indent=2, ensure_ascii=False) + "\n",
        FOLDER / "README.md": f"{before}{_BEGIN}\n{tables(keys)}\n{_END}{after}",
        FOLDER / "files" / "languages.regex": languages() + "\n",
        FOLDER / "files" / "wait_for_model.py": SHARED.read_text(encoding="utf-8"),
    }


if __name__ == "__main__":
    for path, content in generated().items():
        path.write_text(content, encoding="utf-8")
