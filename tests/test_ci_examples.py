"""The examples for CI systems fit the schemas of those, have few rights, and show no secret; they are not run here."""

import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import check_jsonschema  # type: ignore[import-untyped]
import click
import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner

from controller.cli import stenofleet, unknown_variables
from controller.cli.conclusion import Conclusion
from controller.cli.transcribe import transcribe_command
from tests import ci_examples
from tests.ci_examples import FOLDER, ROOT, action, containers, documents, steps, variables, workflow

VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
SCHEMAS = {
    "github-workflows": FOLDER / "github.yml",
    "github-workflows-require-timeout": FOLDER / "github.yml",
    "github-actions": ROOT / "action.yml",
    "gitlab-ci": FOLDER / "gitlab.yml",
}
FILES = [*sorted(FOLDER.iterdir()), ROOT / "action.yml"]


def problems(schema: str, path: Path) -> str:
    owner = "custom" if schema.endswith("timeout") else "vendor"
    more = ["--data-transform", "gitlab-ci"] if schema == "gitlab-ci" else []
    done = CliRunner().invoke(check_jsonschema.main, ["--builtin-schema", f"{owner}.{schema}", *more, str(path)])
    return "" if done.exit_code == 0 else done.output


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_example_fits_the_schema_of_its_system(schema: str) -> None:
    assert problems(schema, SCHEMAS[schema]) == ""


@pytest.mark.parametrize(
    "schema,before,after",
    [
        ("github-workflows", "runs-on:", "run-on:"),
        ("github-actions", "shell: bash", "shel: bash"),
        ("gitlab-ci", "expire_in: 30 days", "expires: 30 days"),
    ],
)
def test_a_wrong_field_is_found(tmp_path: Path, schema: str, before: str, after: str) -> None:
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(SCHEMAS[schema].read_text(encoding="utf-8").replace(before, after))
    assert "Schema validation errors" in problems(schema, wrong)


# ---------------------------------------------------------------- few rights, no secret in the open


@pytest.mark.parametrize("path", [FOLDER / "github.yml", ROOT / "action.yml"], ids=lambda path: path.name)
def test_actions_are_pinned_and_scripts_take_nothing_from_outside(path: Path) -> None:
    used = re.findall(r"(?m)^ *(?:- )?uses: (\S+)(.*)$", path.read_text(encoding="utf-8"))
    assert used
    for name, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", name), name
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), name
    (document,) = documents(path)
    for step in steps(document):
        assert "${{" not in step.get("run", ""), "an expression in a script is code of whoever wrote its value"
        assert "secrets." not in str({name: value for name, value in step.items() if name != "env"})


def test_the_workflow_reads_the_repository_and_no_more() -> None:
    assert workflow()["permissions"] == {"contents": "read"}
    (job,) = workflow()["jobs"].values()
    assert "permissions" not in job
    (checkout,) = [one for one in steps(workflow()) if "checkout" in one.get("uses", "")]
    assert checkout["with"]["persist-credentials"] is False
    (ours,) = [one for one in steps(workflow()) if "/stenofleet@" in one.get("uses", "")]
    assert ours["with"].keys() <= action()["inputs"].keys()


def test_the_outputs_of_the_action_are_those_of_the_command() -> None:
    assert list(action()["outputs"]) == list(Conclusion(code=0, judged={}).numbers)
    for name, one in action()["outputs"].items():
        assert one["value"] == f"${{{{ steps.transcribe.outputs.{name} }}}}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_has_a_secret_or_another_version(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"(?m)^\s*(- )?(AWS_(SECRET_)?ACCESS_KEY(_ID)?|.*name: AWS_\w*ACCESS_KEY\w*).*value", text)
    assert set(re.findall(r"(?:stenofleet-[a-z-]+:|stenofleet\S* # v)(\d+\.\d+\.\d+)", text)) <= {VERSION}
    assert "latest" not in text.replace("lastRetry", "")


@pytest.mark.parametrize("name,container,pod", list(containers()), ids=ci_examples.CLUSTER)
def test_a_container_has_the_rights_of_those_in_k8s(name: str, container: dict[str, Any], pod: dict[str, Any]) -> None:
    (base,) = [one for one in yaml.safe_load_all((ROOT / "k8s/base/controller.yaml").read_text()) if one]
    wanted = base["spec"]["template"]["spec"]
    (controller,) = wanted["containers"]
    given = pod["securityContext"] | container.get("securityContext", {})
    assert given == wanted["securityContext"] | controller["securityContext"]
    assert (container.get("resources") or container["computeResources"]) == controller["resources"]
    assert container["envFrom"] == [{"secretRef": {"name": "stenofleet-s3"}}]
    assert variables(container).get("AWS_EC2_METADATA_DISABLED") == "true"
    if name != "tekton.yaml":  # there it is an option of who starts the pipeline
        assert pod["serviceAccountName"] == wanted["serviceAccountName"]


@pytest.mark.process
@pytest.mark.parametrize("code", [0, 4, 137])
def test_the_task_of_tekton_ends_as_its_command_though_that_was_killed(tmp_path: Path, code: int) -> None:
    (task,) = [one for one in documents(FOLDER / "tekton.yaml") if one["kind"] == "Task"]
    script = task["spec"]["steps"][0]["script"].replace("/tmp/stenofleet.env", str(tmp_path / "env"))
    script = re.sub(r"\$\(results\.([a-z-]+)\.path\)", rf"{tmp_path}/\1", script)
    (tmp_path / "script").write_text(script)
    stand_in = tmp_path / "stenofleet"
    stand_in.write_text(f"#!/bin/sh\n[ {code} = 137 ] || echo COMPLETE=7 > {tmp_path}/env\nexit {code}\n")
    stand_in.chmod(0o755)
    done = subprocess.run(
        ["sh", str(tmp_path / "script"), "s3://in"], env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, timeout=20, check=False
    )
    assert done.returncode == code
    names = ("exit-code", "complete", "failed")
    assert [(tmp_path / name).read_text() for name in names] == [str(code), "0" if code == 137 else "7", "0"]


def test_what_another_try_cannot_mend_is_final() -> None:
    (base,) = documents(ROOT / "k8s/base/controller.yaml")
    (nightly,) = documents(FOLDER / "cronjob.yaml")
    (final,) = [rule["onExitCodes"]["values"] for rule in policy(base["spec"]) if rule["action"] == "FailJob"]
    (same,) = [rule["onExitCodes"]["values"] for rule in policy(nightly["spec"]["jobTemplate"]["spec"])
               if rule["action"] == "FailJob"]  # fmt: skip
    (template,) = [one for one in documents(FOLDER / "argo.yaml") if one["kind"] == "WorkflowTemplate"]
    (argo,) = template["spec"]["templates"]
    again = set(map(int, re.findall(r"\d+", argo["retryStrategy"]["expression"].partition(" in ")[2])))
    # All exit codes of docs/how-to/ci.md; 0 needs no rule, and 130 is a person's.
    codes = set(map(int, re.findall(r"(?m)^\| (\d+)", (ROOT / "docs/how-to/ci.md").read_text(encoding="utf-8"))))
    assert final == same == sorted(codes - again - {0, 130})


def policy(job: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = job["podFailurePolicy"]["rules"]
    return found


@pytest.mark.parametrize("name,container,pod", list(containers()), ids=ci_examples.CLUSTER)
def test_a_container_has_its_program_and_options_that_exist(
    name: str, container: dict[str, Any], pod: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    dockerfile = (ROOT / "Dockerfile.gpu").read_text(encoding="utf-8")
    image = dockerfile.partition("FROM runtime AS controller\n")[2].partition("\nFROM ")[0]
    entry = re.search(r'ENTRYPOINT \["(.*)"\]', image)
    assert entry
    script = container.get("script", "")
    assert script.startswith("#!/bin/sh\nstenofleet ") or (
        container.get("command", entry[1].split('", "')) == ["tini", "--", "stenofleet"]
    )
    assert container["image"].startswith("registry.example/team/stenofleet-controller:")
    for variable, value in variables(container).items():
        monkeypatch.setenv(variable, re.sub(r"\$\(.*\)|\{\{.*\}\}", "s3://media/x", value))
    monkeypatch.setenv("STENOFLEET_OUTPUT_FORMAT", "txt")
    arguments = ["--", "s3://media/x"] if script else [re.sub(r"\{\{.*\}\}", "s3://media/x", one) for one in
                                                       container["args"][1:]]  # fmt: skip
    context = transcribe_command.make_context(
        "transcribe", arguments, parent=click.Context(stenofleet, **stenofleet.context_settings)
    )
    # Below the program, as above: click keeps the names of the help option of the first context for all others.
    with context:
        assert unknown_variables() == []
    assert (context.params["runner"], context.params["skip_existing"]) == ("kubernetes", True)
    assert all(one.startswith("s3://media/") for one in (*context.params["files"], context.params["output_dir"]))
