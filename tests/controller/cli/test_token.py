"""The command ``token``: a new token, and its digest as the tenants file takes it."""

import json
from pathlib import Path

import pytest

from controller import cli
from controller.service.tenants import Tenants, parse


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str]:
    assert cli.run(["token", *arguments]) == 0
    found = capsys.readouterr()
    return found.out, found.err


def test_the_lines_that_are_printed_make_a_tenants_file_in_which_the_token_is_valid(
    working_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, err = printed(capsys)
    token, digest = out.splitlines()
    lines = err.splitlines()[-2:]
    assert lines == ["[tenants.NAME]", f'tokens = ["{digest}"]']
    path = working_folder / "tenants.toml"
    path.write_text("\n".join(lines).replace("NAME", "news"), encoding="utf-8")
    found = Tenants(path).by_token(token)
    assert found
    assert found.name == "news"


def test_messages_do_not_repeat_the_token(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys)
    assert out.splitlines()[0] not in err


def test_with_json_the_output_is_one_document(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = printed(capsys, "--json")
    document = json.loads(out)
    assert document.keys() == {"token", "digest"}
    assert err == ""
    (tenant,) = parse(f"[tenants.news]\ntokens = ['{document['digest']}']".encode(), Path("file"))
    assert tenant.tokens == (document["digest"],)


def test_each_token_is_new(working_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys)[0] != printed(capsys)[0]
