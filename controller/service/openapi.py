"""The description of the API as an OpenAPI document, with the bodies that are parsed by hand.

Touches: nothing.
"""

from __future__ import annotations

import re
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from controller.service.corrections_api import NewCorrection
from controller.service.openai_api import AudioJson, AudioVerboseJson
from controller.service.problem_types import PROBLEM_TYPES, URN
from controller.service.problems import ProblemDocument
from controller.service.submissions import Submission
from controller.service.uploads_api import NewUpload
from controller.transcript.model import Transcript

VERSION = "1"
"""Of the API: the first part of its paths."""
DESCRIPTION = """\
Transcribes long recordings: one short job for each chunk.

Every request needs `Authorization: Bearer TOKEN`, except on a service without tenants, which listens only on its own \
machine. A tenant sees only its own runs. Errors are problem documents (RFC 9457): `type` is the class, `detail` says \
what happened, `advice` says what to do.
"""
TAGS = {
    "runs": "Submit, list, read, cancel, try again, delete.",
    "results": "The transcript of a run, and the state of its chunks.",
    "corrections": "What people write in place of the model's text, as versions of the transcript.",
    "media": "What a player plays and draws of a run.",
    "events": "What happens to a run, as it happens.",
    "uploads": "Recordings that are too large for a form.",
    "webhooks": "Callbacks that their receivers have not accepted.",
    "inbox": "What the bucket of an inbox says.",
    "usage": "What runs used and cost.",
    "openai": "The endpoints of OpenAI's API for its client libraries: the request is kept open until the transcript.",
    "health": "For the probes of a cluster. Without a token.",
}
_ANSWERS: tuple[type[BaseModel], ...] = (ProblemDocument, AudioJson, AudioVerboseJson, Transcript)
"""What is returned without the framework's knowledge."""
_BODIES: tuple[type[BaseModel], ...] = (Submission, NewUpload, NewCorrection)
"""What is parsed without the framework's knowledge."""
_PARAMETER = re.compile(r"\\\{\w+\\\}")
"""In an escaped template of a path."""
_ROLE = re.compile(r":[a-z]+:(?=`)")
"""Marks what a name is, in descriptions from the code."""
_TEMPLATE = "#/components/schemas/{model}"


def description(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 document of *app*."""
    found = get_openapi(title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes)
    found["tags"] = _tags(found["paths"])
    schemas = found["components"]["schemas"]
    for model in _BODIES:
        schemas |= _schemas(model, "validation")
    for model in _ANSWERS:
        schemas |= _schemas(model, "serialization")
    types = [f"{URN}{name}" for name in sorted(PROBLEM_TYPES)]
    schemas["ProblemDocument"]["properties"]["type"]["enum"] = types
    found["components"]["schemas"] = {name: _described(schemas[name]) for name in sorted(schemas)}
    found["paths"] = _untitled(found["paths"])
    for methods in found["paths"].values():
        for operation in methods.values():
            operation["responses"] = dict(sorted(operation["responses"].items()))
            _describe_success(operation["responses"], found["components"]["schemas"])
    return found


def allowed_methods(described: dict[str, Any], path: str) -> list[str]:
    """Return the methods of a path; none if it is not described."""
    return sorted(
        method.upper()
        for template, methods in described["paths"].items()
        if re.fullmatch(_PARAMETER.sub("[^/:]+", re.escape(template)), path)
        for method in methods
    )


def _schemas(model: type[BaseModel], mode: Any) -> dict[str, Any]:
    """Return the schema of *model* and those that it uses, by name."""
    schema = model.model_json_schema(ref_template=_TEMPLATE, mode=mode)
    definitions: dict[str, Any] = schema.pop("$defs", {})
    return definitions | {model.__name__: schema}


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema with the first paragraph of its description: the rest is for who changes the code."""
    found: dict[str, Any] = _untitled(schema)
    if "description" in found:
        first = _ROLE.sub("", found["description"].partition("\n\n")[0]).replace("``", "`")
        found["description"] = " ".join(first.split())
    return found


def _describe_success(responses: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Replace the text that FastAPI writes for every success by the description of what is returned."""
    for response in responses.values():
        if response["description"] == "Successful Response":
            name = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            response["description"] = schemas[name]["description"]


def _untitled(part: Any) -> Any:
    """Return a part of the document without the titles of schemas, which repeat their names."""
    if isinstance(part, list):
        return [_untitled(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {name: _untitled(value) for name, value in part.items() if not (name == "title" and isinstance(value, str))}


def _tags(paths: dict[str, Any]) -> list[dict[str, str]]:
    used = {tag for methods in paths.values() for operation in methods.values() for tag in operation["tags"]}
    return [{"name": name, "description": text} for name, text in TAGS.items() if name in used]
