"""The description of the API is generated from the code, and names every type of problem."""

import ast
import http
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from controller.service import problems
from controller.service.problem_types import PROBLEM_TYPES
from docs import openapi

CODE = Path(problems.__file__).parent
FROM_STARLETTE = (400, 404, 405)
"""Statuses that the framework answers with by itself."""


@pytest.mark.parametrize("name", openapi.FILES)
def test_a_published_description_is_generated_from_the_code(name: str) -> None:
    written = openapi.FILES[name](openapi.document())
    assert (openapi.FOLDER / name).read_text(encoding="utf-8") == written, "run: python docs/openapi.py"


def raised() -> Iterator[tuple[int, str]]:
    """The status and the name of each problem that the code makes."""
    for path in CODE.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                given = [one.value for one in node.args[:2] if isinstance(one, ast.Constant)]
                match node.func.id, given:
                    case (("Problem" | "_as"), [int(status), str(name)]):
                        yield status, name
                    case "conflict", [str(name), *_]:
                        yield 409, name
    yield from ((status, http.HTTPStatus(status).phrase.lower().replace(" ", "-")) for status in FROM_STARLETTE)
    # A limit has its status from what was exceeded, and an end without a transcript from its reason.
    yield from ((413, "limit-exceeded"), (503, "not-possible-now"), (422, "not-transcribed"))


def test_the_types_of_problems_are_those_that_the_code_makes() -> None:
    found = defaultdict(set)
    for status, name in raised():
        found[name].add(status)
    assert found == {name: set(one.statuses) for name, one in PROBLEM_TYPES.items()}


def test_every_operation_is_described_with_each_of_its_responses() -> None:
    document = openapi.document()
    assert document["openapi"].startswith("3.1")
    names = []
    for methods in document["paths"].values():
        for operation in methods.values():
            names.append(operation["operationId"])
            assert re.match(r"[A-Z].*\.$", operation["description"], re.DOTALL)
            assert all(one.get("description") for one in operation.get("parameters", ()))
            for status, response in operation["responses"].items():
                kinds = set(response.get("content", {}))
                assert (kinds == {"application/problem+json"}) == (int(status) >= 400), (operation, status)
    assert len(names) == len(set(names))


def test_the_schemas_are_valid_and_complete() -> None:
    document = openapi.document()
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)
    used = set(re.findall(r'"#/components/schemas/(\w+)"', openapi.as_json(document)))
    assert used <= document["components"]["schemas"].keys()
    assert document["components"]["schemas"].keys() - used == set()
