"""The client of the API server behind a proxy with faults: how each failure is classified."""

import gc
import http
import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from controller.errors import ClusterUnavailable, EnvironmentProblem
from controller.runners.kubernetes.api import Api, connect
from tests.testbed import proxy as proxies
from tests.testbed.cluster import Cluster
from tests.testbed.proxy import Fault, Proxy

# Python's ssl leaves the socket of a connection that was reset before its handshake to the garbage collector.
pytestmark = [
    pytest.mark.alone,
    pytest.mark.filterwarnings("ignore:.*ssl.SSLSocket:pytest.PytestUnraisableExceptionWarning"),
]


class Way:
    """A connection to the API server through a proxy."""

    def __init__(self, cluster: Cluster, proxy: Proxy, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.proxy = proxy
        self._folder = folder
        self._patch = patch
        self._config = json.loads(cluster.kubectl("config", "view", "--raw", "--flatten", "--output", "json"))

    def api(self, *, scheme: str = "https", authority: trustme.CA | None = None) -> Api:
        """A client behind the proxy; *authority* is the one that it trusts, instead of the cluster's."""
        host, port = self.proxy.listener.getsockname()
        (cluster,) = (entry["cluster"] for entry in self._config["clusters"])
        cluster["server"] = f"{scheme}://{host}:{port}"
        if authority:
            path = self._folder / "ca.pem"
            authority.cert_pem.write_to_path(str(path))
            cluster.pop("certificate-authority-data")
            cluster["certificate-authority"] = str(path)
        config = self._folder / "kubeconfig"
        config.write_text(json.dumps(self._config), encoding="utf-8")
        self._patch.setenv("KUBECONFIG", str(config))
        return connect(namespace="default")


@pytest.fixture
def way(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Way]:
    if not cluster.own:
        pytest.skip("goes by 127.0.0.1, which is no name in the certificate of another cluster")
    config = json.loads(cluster.kubectl("config", "view", "--output", "json"))
    (entry,) = (entry["cluster"] for entry in config["clusters"])
    address = urlsplit(entry["server"])
    assert address.hostname
    assert address.port
    with proxies.proxied((address.hostname, address.port)) as proxy:
        yield Way(cluster, proxy, tmp_path, monkeypatch)
    gc.collect()  # here rather than in the middle of another test


def answer(status: http.HTTPStatus, body: bytes, *headers: str) -> Fault:
    """Another server answers, in HTTP without TLS."""
    lines = (f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Length: {len(body)}", *headers)
    return Fault(kind="answer", data="\r\n".join((*lines, "", "")).encode() + body)


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(Fault(kind="refuse"), id="reset"),
        pytest.param(Fault(kind="hang"), id="silent"),
        pytest.param(Fault(kind="cut", after_bytes=0), id="ended"),
        pytest.param(Fault(kind="cut", after_bytes=100), id="ended in the handshake"),
        pytest.param(Fault(kind="answer", data=b"HTTP/1.1 400 Bad Request\r\n\r\n"), id="no TLS"),
    ],
)
def test_a_server_that_is_down_behind_a_listening_proxy_is_an_outage(way: Way, fault: Fault) -> None:
    api = way.api()
    way.proxy.fault = fault
    with pytest.raises(
        ClusterUnavailable, match=r"the API server https://127\.0\.0\.1:\d+ does not answer: "
    ) as caught:
        api.version()
    assert not caught.value.answered
    assert list(api.watch("pods", seconds=1)) == []
    assert api.log("nothing", "main", lines=1) is None
    way.proxy.fault = None
    assert api.version().startswith("v1.")


def test_an_untrusted_certificate_is_no_outage_and_the_advice_names_the_setting(way: Way) -> None:
    api = way.api(authority=trustme.CA())
    with pytest.raises(EnvironmentProblem) as caught:
        api.version()
    assert not isinstance(caught.value, ClusterUnavailable)
    assert "the certificate of the API server https://127.0.0.1:" in caught.value.summary
    assert caught.value.summary.endswith("is not trusted: unable to get local issuer certificate")
    assert "certificate-authority" in caught.value.advice


def test_an_answer_of_another_server_is_an_outage(way: Way) -> None:
    api = way.api(scheme="http")
    way.proxy.fault = answer(http.HTTPStatus.OK, b"<html>Please log in.</html>")
    with pytest.raises(ClusterUnavailable, match="sent a reply that is not JSON") as caught:
        api.version()
    assert not caught.value.answered


@pytest.mark.parametrize(
    "status", [http.HTTPStatus.TOO_MANY_REQUESTS, http.HTTPStatus.SERVICE_UNAVAILABLE, http.HTTPStatus.UNAUTHORIZED]
)
def test_a_busy_server_is_waited_for_as_long_as_it_asks_and_one_that_knows_no_identity_is_not_ours(
    way: Way, status: http.HTTPStatus
) -> None:
    api = way.api(scheme="http")
    way.proxy.fault = answer(status, b"{}", "Retry-After: 7")
    with pytest.raises(ClusterUnavailable, match=f"HTTP {status.value}") as caught:
        api.version()
    assert caught.value.retry_after_s == 7
    assert caught.value.answered == (status != http.HTTPStatus.UNAUTHORIZED)
