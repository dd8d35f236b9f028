"""Options of recordings in an inbox: YAML files beside them, or one for a folder.

Touches: the inbox (reads sidecars). A sidecar has the fields of a request to the API and is checked by the same types.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

import yaml  # type: ignore[import-untyped]
from pydantic import ValidationError, create_model

from chunk_job.contract import sha256_hex
from chunk_job.errors import DocumentInvalid
from chunk_job.store.base import ObjectMissing, Store
from controller.service.inbox.names import FOLDER_SIDECAR, NO_OPTIONS, folders_of, shown, sidecars_of
from controller.service.problems import Problem, invalid
from controller.service.submissions import Submission

MOST_BYTES = 64 << 10
DEFAULT_FORMATS = ("txt", "srt", "json")
_FIELDS = ("options", "output_formats", "callback_url", "labels", "priority")
_ADVICE = "correct the file: its fields are those of a request to the API, for instance options: {language: pt}"

_TYPES: dict[str, Any] = {
    name: (Submission.model_fields[name].annotation, Submission.model_fields[name]) for name in _FIELDS
}
Wishes: Any = create_model("Wishes", __config__=Submission.model_config, **_TYPES)
Wishes.__doc__ = """What a sidecar may say: the fields of a request that do not name the recording or the output."""


@dataclass(frozen=True)
class Resolved:
    """How a recording is to be transcribed."""

    digest: str
    """Of what the sidecar says, not of how it is written."""
    fields: dict[str, Any]
    """Of a submission."""
    problem: Problem | None = None


PLAIN = Resolved(NO_OPTIONS, {"output_formats": list(DEFAULT_FORMATS)})
"""Without a sidecar."""


class Sidecars:
    """Finds the sidecars of recordings. Those of folders are kept until :meth:`forget`."""

    def __init__(self, inbox: Store) -> None:
        self._inbox = inbox
        self._of_folders: dict[str, Resolved | None] = {}

    def forget(self) -> None:
        """Read the sidecars of folders again when they are needed."""
        self._of_folders.clear()

    def of(self, path: str) -> Resolved:
        """Return what counts for a recording: its own sidecar, else that of the nearest folder."""
        for name in sidecars_of(path):
            if found := self._read(name):
                return found
        for folder in folders_of(path):
            if folder not in self._of_folders:
                self._of_folders[folder] = self._read(f"{folder}{FOLDER_SIDECAR}")
            if found := self._of_folders[folder]:
                return found
        return PLAIN

    def _read(self, name: str) -> Resolved | None:
        # A missing object is cheaper to ask for than to read.
        if self._inbox.stat(name) is None:
            return None
        try:
            data = self._inbox.get(name, max_bytes=MOST_BYTES)
        except ObjectMissing:
            return None
        except DocumentInvalid:
            problem = Problem(422, "invalid-request", f"{shown(name)}: has more than {MOST_BYTES} bytes", _ADVICE)
            return Resolved(sha256_hex(name.encode(errors="surrogatepass"))[:16], {}, problem)
        return parsed(data, shown(name))


def parsed(data: bytes, name: str) -> Resolved:
    """Return what the sidecar *name* with this content says."""
    found: Any = None
    try:
        found = _document(data)
        # As JSON, which the API gets too: the types accept and refuse exactly the same.
        text = json.dumps(found)
        wishes = Wishes.model_validate_json(text)
    except ValidationError as error:
        return Resolved(sha256_hex(data)[:16], {}, _of_file(name, invalid(error, body=found, model=Wishes)))
    except _Invalid as error:
        problem = Problem(422, "invalid-request", f"{name}: {error}", _ADVICE)
        return Resolved(sha256_hex(data)[:16], {}, problem)
    fields = PLAIN.fields | {each: json.loads(text)[each] for each in sorted(wishes.model_fields_set)}
    same = fields == PLAIN.fields
    return PLAIN if same else Resolved(sha256_hex(json.dumps(fields, sort_keys=True).encode())[:16], fields)


def _of_file(name: str, problem: Problem) -> Problem:
    found = problem.document
    return Problem(
        422, "invalid-request", f"{name}: {found.detail.removeprefix('the body: ')}", _ADVICE, errors=found.errors
    )


class _Invalid(Exception):
    """The file is not YAML of this form."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Values as in JSON: ``no`` is Norwegian, dates are text, and nothing refers to something else in the file."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 (that of the base class has other rules)

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise _Invalid(f"line {self.peek_event().start_mark.line + 1}: references (*name) are not supported")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 (as in the base class)
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise _Invalid(f"line {key.start_mark.line + 1}: {key.value!r:.100} is there twice")
            seen.add(str(key.value))
        return super().construct_mapping(node, deep=deep)


for _kind, _pattern, _first in (
    ("null", r"(?:null|Null|NULL|~|)", ("n", "N", "~", "")),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)", tuple("tTfF")),
    ("int", r"[-+]?[0-9]{1,18}", tuple("-+0123456789")),
    ("float", r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", tuple("-+.0123456789")),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"^{_pattern}$"), list(_first))


def _document(data: bytes) -> Any:
    try:
        found = yaml.load(data.decode("utf-8-sig"), _Loader)  # noqa: S506 (a safe loader)
        json.dumps(found)
    except UnicodeDecodeError:
        raise _Invalid("is not text in UTF-8") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise _Invalid(f"{where}{error.problem or 'is not YAML'}") from None
    except (yaml.YAMLError, RecursionError, ValueError, TypeError):
        raise _Invalid("is not YAML of a simple form") from None
    return {} if found is None else found
