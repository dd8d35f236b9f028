# ruff: noqa: INP001
"""Write the OpenAPI document of the service, and the reference that is made from it, beside this file.

python docs/openapi.py
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from controller.service.app import create_app
from controller.service.context import Service
from controller.service.problem_types import PROBLEM_JSON, PROBLEM_TYPES, URN
from controller.service.runs_api import PROBLEMS

FOLDER = Path(__file__).parent / "reference"
_HEAD = """\
# The HTTP API

Written by `.venv/bin/python docs/openapi.py` from the code; [openapi.json](openapi.json) is the same as an OpenAPI 3.1
document, and a running service has it at `/openapi.json`. How to run the service: [service.md](../how-to/service.md).

"""
_EXAMPLES_OF = """\
The examples are for a shell in which this was typed before, with a recording `talk.mp3` in its folder. They need
curl 7.82 or later (before: `-H 'Content-Type: application/json' -d` instead of `--json`); in zsh, type
`setopt interactive_comments` first:

```console
$ A=http://127.0.0.1:8080/v1
$ H="Authorization: Bearer $TOKEN"        # on one machine without --tenants: H=
$ ID='s/.*"id": *"\\([0-9a-z]*\\)".*/\\1/p'
```

"""
EXAMPLES = {
    "submitRun": """\
RUN=$(curl -sS -H "$H" -F file=@talk.mp3 -F 'request={"options": {"beam_size": 1}}' $A/runs | sed -n "$ID")
curl -sS -H "$H" -H 'Idempotency-Key: order-66' --json '{"source": "s3://news-media/talk.mp3"}' $A/runs""",
    "listRuns": """curl -sS -H "$H" "$A/runs?limit=10&status=complete\"""",
    "getRun": """curl -sS -H "$H" $A/runs/$RUN""",
    "deleteRun": """curl -sS -H "$H" -X DELETE $A/runs/$RUN""",
    "cancelRun": """curl -sS -H "$H" -X POST $A/runs/${RUN}:cancel""",
    "retryRun": """curl -sS -H "$H" -X POST $A/runs/${RUN}:retry""",
    "getReport": """curl -sS -H "$H" $A/runs/$RUN/report""",
    "listChunks": """curl -sS -H "$H" "$A/runs/$RUN/chunks?limit=100\"""",
    "getResult": """curl -sS -H "$H" "$A/runs/$RUN/result?format=srt&caption_profile=netflix\"""",
    "addCorrection": """\
curl -sS -H "$H" --json '{"segment": 0, "text": "Good evening.", "author": "Ana"}' $A/runs/$RUN/corrections
curl -sS -H "$H" "$A/runs/$RUN/result?format=srt&version=latest\"""",
    "listCorrections": """curl -sS -H "$H" $A/runs/$RUN/corrections""",
    "suggestGlossary": """curl -sS -H "$H" $A/runs/$RUN/corrections/glossary""",
    "getMedia": """curl -sSL -H "$H" -r 0-99999 -o begin.mp3 $A/runs/$RUN/media""",
    "getWaveform": """curl -sS -H "$H" -o talk.dat "$A/runs/$RUN/waveform?level=detail\"""",
    "streamEvents": """curl -sSN -H "$H" $A/runs/$RUN/events""",
    "createUpload": """\
SIZE=$(wc -c < talk.mp3)
UPLOAD=$(curl -sS -H "$H" --json "{\\"name\\": \\"talk.mp3\\", \\"size_bytes\\": $SIZE}" $A/uploads | sed -n "$ID")""",
    "listUploads": """curl -sS -H "$H" $A/uploads""",
    "getUpload": """curl -sS -H "$H" $A/uploads/$UPLOAD""",
    "deleteUpload": """curl -sS -H "$H" -X DELETE $A/uploads/$UPLOAD""",
    "putUploadPart": """curl -sS -H "$H" -T talk.mp3 $A/uploads/$UPLOAD/parts/1""",
    "completeUpload": """\
curl -sS -H "$H" -X POST $A/uploads/${UPLOAD}:complete
curl -sS -H "$H" --json "{\\"upload\\": \\"$UPLOAD\\"}" $A/runs""",
    "listDeadDeliveries": """DELIVERY=$(curl -sS -H "$H" "$A/webhooks/dead?limit=1" | sed -n "$ID")""",
    "repeatDeadDelivery": """curl -sS -H "$H" -X POST $A/webhooks/dead/${DELIVERY}:repeat""",
    "deleteDeadDelivery": """curl -sS -H "$H" -X DELETE $A/webhooks/dead/$DELIVERY""",
    "noticeObjects": """\
EVENT='{"Records": [{"s3": {"bucket": {"name": "media"}, "object": {"key": "inbox/talk.mp3"}}}]}'
curl -sS -H "$H" --json "$EVENT" $A/hooks/s3""",
    "getUsage": """curl -sS -H "$H" "$A/usage?from=2026-11-01T00:00:00Z\"""",
    "listModels": """curl -sS -H "$H" $A/models""",
    "createTranscription": """\
curl -sS -H "$H" -F file=@talk.mp3 -F model=whisper-1 -F response_format=srt $A/audio/transcriptions""",
    "createTranslation": """curl -sS -H "$H" -F file=@talk.mp3 -F model=whisper-1 $A/audio/translations""",
    "getHealth": """curl -sS ${A%/v1}/healthz""",
    "getReadiness": """curl -sS ${A%/v1}/readyz""",
}
"""By operation: lines for a shell, as a person would type them. A test runs all of them."""
_OTHER_NAMES = {"openai": "OpenAI"}
_BEYOND = 10**12
_ALWAYS = """\
Besides what is listed, every request except those for the health may be answered with:

"""
_PROBLEMS = f"""\
## Problems

An error is a JSON object with the content type `{PROBLEM_JSON}`: a [ProblemDocument](#problemdocument). Its `type` is
`{URN}NAME`.

"""
_COMMON = {(str(status), one["description"]) for status, one in PROBLEMS.items()}


def document() -> dict[str, Any]:
    """Return the OpenAPI document. It does not depend on the parts of a service."""
    return create_app(cast("Service", None)).openapi()


def as_json(described: Mapping[str, Any]) -> str:
    """Return the text of ``openapi.json``."""
    return json.dumps(described, indent=2, ensure_ascii=False) + "\n"


def as_reference(described: Mapping[str, Any]) -> str:
    """Return the text of ``api.md``."""
    parts = [_HEAD, described["info"]["description"].strip() + "\n\n", _overview(described)]
    parts += [_ALWAYS, _table(("status", "when"), [(status, text) for status, text in sorted(_COMMON)]), _EXAMPLES_OF]
    for tag in described["tags"]:
        title = _OTHER_NAMES.get(tag["name"], tag["name"].capitalize())
        parts.append(f"## {title}\n\n{tag['description']}\n\n")
        parts += [_operation(*one) for one in _operations(described) if tag["name"] in one[2]["tags"]]
    parts += [_PROBLEMS, _table(("name", "status", "when"), _problem_rows()), "## Objects\n\n"]
    parts += [_object(name, schema) for name, schema in described["components"]["schemas"].items()]
    return "".join(parts).rstrip() + "\n"


def _operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _overview(described: Mapping[str, Any]) -> str:
    rows = [
        (f"[`{method} {path}`](#{operation['operationId'].lower()})", _first(operation["description"]))
        for method, path, operation in _operations(described)
    ]
    return _table(("request", "what it does"), rows)


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    text = f"### {operation['operationId']}\n\n`{method} {path}`\n\n{operation['description']}\n\n"
    typed = "".join(f"$ {line}\n" for line in EXAMPLES[operation["operationId"]].split("\n"))
    text += f"```console\n{typed}```\n\n"
    if parameters := operation.get("parameters"):
        rows = [
            (f"`{one['name']}`", one["in"], _type(one["schema"]), _default(one["schema"]), one.get("description", ""))
            for one in parameters
        ]
        text += _table(("parameter", "in", "type", "default", "meaning"), rows)
    for kind, content in operation.get("requestBody", {}).get("content", {}).items():
        text += f"Body, `{kind}`: {_type(content['schema'])}\n\n"
        if "properties" in content["schema"]:
            text += _fields(content["schema"])
    listed = [one for one in operation["responses"].items() if (one[0], one[1]["description"]) not in _COMMON]
    text += _table(("status", "body", "when"), [_response(*one) for one in listed])
    examples = [
        (kind, content["example"])
        for response in operation["responses"].values()
        for kind, content in response.get("content", {}).items()
        if "example" in content
    ]
    return text + "".join(f"`{kind}`:\n\n```text\n{example.rstrip()}\n```\n\n" for kind, example in examples)


def _response(status: str, response: Mapping[str, Any]) -> tuple[str, ...]:
    content = response.get("content", {})
    bodies = [
        f"`{kind}`: {_type(one['schema'])}" if "$ref" in json.dumps(one) else f"`{kind}`"
        for kind, one in content.items()
        if kind != PROBLEM_JSON
    ]
    headers = [f"`{name}`" for name in response.get("headers", {})]
    when = response["description"] + (f" Headers: {', '.join(headers)}." if headers else "")
    return status, ", ".join(bodies) or ("a problem" if content else ""), when


def _object(name: str, schema: Mapping[str, Any]) -> str:
    text = f"### {name}\n\n{schema.get('description', '')}\n\n"
    return text + (_fields(schema) if "properties" in schema else f"{_type(schema)}\n\n")


def _fields(schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    rows = []
    for name, one in schema["properties"].items():
        needed = "required" if name in required else _default(one)
        rows.append((f"`{name}`", _type(one), needed, one.get("description", "")))
    return _table(("field", "type", "default", "meaning"), rows)


def _default(schema: Mapping[str, Any]) -> str:
    if schema.get("default") in (None, "", [], {}) or isinstance(schema["default"], dict):
        return ""
    return f"`{json.dumps(schema['default'], ensure_ascii=False)}`"


def _type(schema: Mapping[str, Any]) -> str:
    """Return the type of a value in a few words, with its limits."""
    if "$ref" in schema:
        name = schema["$ref"].rpartition("/")[2]
        return f"[{name}](#{name.lower()})"
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return "a class" if len(values) > 20 else ", ".join(f"`{value}`" for value in values)
    for kind in ("anyOf", "oneOf"):
        if kind in schema:
            return " or ".join(_type(one) for one in schema[kind])
    if schema.get("type") == "array":
        inner = schema.get("items") or next(iter(schema.get("prefixItems", [])), {})
        return f"array of {_type(inner)}{_limits(schema, 'minItems', 'maxItems')}"
    if schema.get("format") == "binary":
        return "file"
    if "contentMediaType" in schema:
        return "JSON"
    if isinstance(schema.get("additionalProperties"), dict):
        return f"object of {_type(schema['additionalProperties'])}"
    pattern = f" `{schema['pattern']}`" if "pattern" in schema and "|" not in schema["pattern"] else ""
    lowest = next((key for key in ("minimum", "exclusiveMinimum", "minLength") if key in schema), "")
    highest = next((key for key in ("maximum", "exclusiveMaximum", "maxLength") if key in schema), "")
    return f"{schema.get('type', 'any')}{_limits(schema, lowest, highest)}{pattern}"


def _limits(schema: Mapping[str, Any], lowest: str, highest: str) -> str:
    low, high = (schema.get(name) for name in (lowest, highest))
    if high is not None and high >= _BEYOND:
        # A limit of the format of numbers, and no limit for people.
        low, high = (None, None) if low is not None and low < 0 else (low, None)
    if low is None and high is None:
        return ""
    return f" ({_number(low)}…{_number(high)})"


def _number(value: float | None) -> str:
    return "" if value is None else str(int(value)) if value == int(value) else str(value)


def _problem_rows() -> list[tuple[str, ...]]:
    return [
        (f"`{name}`", ", ".join(map(str, one.statuses)), one.meaning) for name, one in sorted(PROBLEM_TYPES.items())
    ]


def _first(text: str) -> str:
    return text.partition(". ")[0].rstrip(".") + "."


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    cells = [[" ".join(cell.split()).replace("|", "\\|") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in cells) + "\n"


FILES = {"openapi.json": as_json, "api.md": as_reference}


def main() -> None:
    """Write both files."""
    for name, written in FILES.items():
        (FOLDER / name).write_text(written(document()), encoding="utf-8")
        sys.stdout.write(f"{FOLDER / name}\n")


if __name__ == "__main__":
    main()
