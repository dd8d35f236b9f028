"""What Helm and the API server say to the chart: its linter, the notes, a dry run with every option, an upgrade."""

import base64
import re
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]

from controller.service import tokens
from tests.testbed import chart
from tests.testbed.chart import CHART
from tests.testbed.cluster import Cluster

ALL = [CHART / "ci" / "every-option-values.yaml", *sorted((CHART / "samples").iterdir())]


@pytest.mark.alone
@pytest.mark.usefixtures("custom")
def test_the_notes_have_three_commands_and_say_what_stays(cluster: Cluster) -> None:
    def notes(*arguments: str) -> str:
        where = ("--dry-run=client", "--namespace", "team")
        text = chart.helm("install", chart.RELEASE, CHART, *where, *arguments, kubeconfig=cluster.kubeconfig)
        return text.partition("NOTES:")[2]

    text = notes()
    commands = [line.strip() for line in text.splitlines() if line.startswith("   ")]
    assert len(commands) == 3
    assert commands[0] == "kubectl -n team port-forward service/stenofleet 8080:80"
    assert "-F file=@talk.mp3 http://127.0.0.1:8080/v1/runs" in commands[1]
    assert '"http://127.0.0.1:8080/v1/runs/$RUN/events" >&2 && ' in commands[2], "it waits for the end"
    assert 'http://127.0.0.1:8080/v1/runs/$RUN/result?format=txt"' in commands[2]
    for command in commands[1:]:
        assert "kubectl -n team get secret stenofleet-token -o jsonpath='{.data.token}' | base64 -d" in command
    assert "Or in a browser, after step 1:  http://127.0.0.1:8080  where the token signs you in:  kubectl" in text
    assert "leaves the bucket with all runs and transcripts, and the volume stenofleet-models" in text
    assert "It needs the Secret stenofleet-s3 there, with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY" in text
    assert "outside of the cluster" not in text
    of_team = notes("--set", "tenants.existingSecret=team,webhooks.existingSecret=keys,s3.existingSecret=")
    assert "For `helm test`, put a tenant's token" in of_team
    assert re.findall(r"It needs the Secret (\S+) there, with (\S+):", of_team) == [
        ("team", "tenants.toml"),
        ("keys", "webhook-keys.toml"),
    ]
    assert of_team.count('"Authorization: Bearer $TOKEN"') == 3
    outside = "ingress.enabled=true,ingress.host=a.example,ingress.path=/v1,ingress.tlsSecret=tls"
    reached = notes("--set", outside)
    assert "Clients outside of the cluster take https://a.example in place of http://127.0.0.1:8080" in reached
    assert "The Ingress takes only paths under /v1, without the page." in reached
    route = notes("--set", "httpRoute.enabled=true,httpRoute.parentRefs[0].name=public,httpRoute.hostnames={b.example}")
    assert "Clients outside of the cluster take b.example, by http or https" in route


# ---------------------------------------------------------------- Helm's linter and the API server


@pytest.mark.parametrize("values", ALL, ids=lambda path: path.stem)
def test_helm_finds_nothing(values: Path) -> None:
    assert "0 chart(s) failed" in chart.helm("lint", CHART, "--strict", "--values", values)


@pytest.mark.alone
@pytest.mark.usefixtures("custom")
@pytest.mark.parametrize("values", [None, *ALL], ids=lambda path: path.stem if path else "defaults")
def test_the_server_accepts_every_object_without_a_warning(
    cluster: Cluster, tmp_path: Path, values: Path | None
) -> None:
    with cluster.namespace("chart") as namespace:
        path = tmp_path / "rendered.yaml"
        path.write_text(chart.template(*(("--values", values) if values else ()), namespace=namespace))
        count = len([document for document in yaml.safe_load_all(path.read_text()) if document])
        lines = cluster.kubectl(
            *("apply", "--namespace", namespace, "--dry-run=server", "--validate=strict", "--warnings-as-errors"),
            *("--filename", str(path)),
        ).splitlines()
        assert len(lines) == count
        assert all(line.endswith("(server dry run)") for line in lines)


def test_a_token_stays_the_same_when_the_release_is_upgraded(cluster: Cluster) -> None:
    with cluster.namespace("chart") as namespace:
        where = ("--namespace", namespace, "--set", "replicaCount=1,model.prefetch.enabled=false")

        def token() -> bytes:
            return base64.b64decode(cluster.get("--namespace", namespace, "secret/stenofleet-token")["data"]["token"])

        chart.helm("install", chart.RELEASE, CHART, *where, kubeconfig=cluster.kubeconfig)
        before = token()
        chart.helm("upgrade", chart.RELEASE, CHART, *where, "--set", "s3.bucket=b123", kubeconfig=cluster.kubeconfig)
        assert token() == before
        file = cluster.get("--namespace", namespace, "secret/stenofleet-tenants")["data"]["tenants.toml"]
        assert tokens.written_digest(before.decode()) in base64.b64decode(file).decode()
        said = chart.helm("uninstall", chart.RELEASE, "--namespace", namespace, kubeconfig=cluster.kubeconfig)
        assert "[PersistentVolumeClaim] stenofleet-models" in said
        left = cluster.kubectl(
            "get", "all,pvc,secrets,configmaps,networkpolicies,pdb", "--namespace", namespace, "-o", "name"
        )
        assert "persistentvolumeclaim/stenofleet-models" in left.split()
        # What Helm made is gone, but the volume's claim; pods may still be ending.
        assert not re.search(r"(?:deployment|service|secret|configmap|networkpolicy|job)\S*/stenofleet", left)
