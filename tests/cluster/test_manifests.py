"""Every document that options can make, as the API server itself judges it."""

from collections.abc import Iterator
from typing import Any

import pytest

from controller.kube import Api, connect
from tests.cluster.site import Site
from tests.controller import test_manifest as made


@pytest.fixture
def api(site: Site, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("KUBECONFIG", str(site.cluster.kubeconfig))
    return connect(namespace=site.namespace)


def documents(namespace: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for name, (changes, _) in made.EVERYWHERE.items():
        yield f"chunk, {name}", made.chunk(**{**changes, "namespace": namespace})
        yield f"intake, {name}", made.intake(**{**changes, "namespace": namespace})
    for name, (changes, _) in made.OF_A_CHUNK.items():
        yield f"chunk, {name}", made.chunk(**{**changes, "namespace": namespace})
    for only in (False, True):
        yield f"chunk, elsewhere, only: {only}", made.chunk(namespace=namespace, avoid=("a", "b"), only_elsewhere=only)
    for name, (changes, _) in made.OF_AN_INTAKE.items():
        yield f"intake, {name}", made.intake(**{**changes, "namespace": namespace})


def test_the_server_takes_every_document_and_has_nothing_to_warn_of(api: Api) -> None:
    judged = {name: api.try_create("jobs", document) for name, document in documents(api.namespace)}
    assert len(judged) > 40
    assert {name: warnings for name, warnings in judged.items() if warnings} == {}


def test_what_breaks_the_restricted_level_is_told(api: Api) -> None:
    document = made.chunk(namespace=api.namespace)
    made.pod(document)["securityContext"].pop("seccompProfile")
    (warning,) = api.try_create("jobs", document)
    assert "would violate PodSecurity" in warning
    assert "seccompProfile" in warning
