"""Kubernetes' control plane, etcd, cluster DNS and MinIO as processes: their keys, settings and command lines.

Touches: the state folder, processes.
"""

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme

from tests.testbed import go_build, network, s3_server
from tests.testbed.processes import Part
from tests.testbed.s3_server import Server

API = f"https://{network.GATEWAY}:6443"
NODE_GRACE_S = 16
"""A silent node is NotReady after this long; Kubernetes' own default is 50."""
_S3 = f"http://{network.GATEWAY}:9000"
_SERVICES = "10.99.0.0/16"
_FIRST_SERVICE = "10.99.0.1"
_KUBERNETES = "k8s.io/kubernetes"


def programs() -> Path:
    """The folder with Kubernetes' programs and kubectl; builds them once (five minutes on two cores)."""
    version = go_build.version("kubernetes", _KUBERNETES)
    major, minor, _ = version.removeprefix("v").split(".")
    stamp = "k8s.io/component-base/version.git"  # without it a node reports v0.0.0
    return go_build.build(
        "kubernetes", variables={f"{stamp}Version": version, f"{stamp}Major": major, f"{stamp}Minor": minor}
    )


@dataclass(frozen=True, kw_only=True)
class Identity:
    """A client of the API server: a bearer token, with its user and groups."""

    user: str
    groups: tuple[str, ...] = ()
    token: str

    @classmethod
    def of(cls, user: str, *groups: str) -> "Identity":
        return cls(user=user, groups=groups, token=secrets.token_hex(16))


class ControlPlane:
    """A cluster without its nodes. *state* is its folder; *nodes* are the names that may join."""

    def __init__(self, state: Path, nodes: list[str]) -> None:
        self.state = state
        self._keys = state / "keys"
        self._keys.mkdir()
        self._identities = {
            "admin": Identity.of("admin", "system:masters"),
            "controller-manager": Identity.of("system:kube-controller-manager"),
            "scheduler": Identity.of("system:kube-scheduler"),
            "proxy": Identity.of("system:kube-proxy"),
            "dns": Identity.of("dns", "system:masters"),
            **{name: Identity.of(f"system:node:{name}", "system:nodes") for name in nodes},
        }
        self._write_keys()
        self.s3 = Server(_S3, f"root{secrets.token_hex(4)}", secrets.token_hex(16))

    def parts(self) -> list[Part]:
        """Its processes, in the order in which to start them."""
        return [
            self._etcd(),
            self._api_server(),
            self._minio(),
            self._kubernetes("controller-manager", *self._controller_manager()),
            self._kubernetes("scheduler", *self._scheduler()),
            self._kubernetes("proxy", "--config", self._proxy_configuration()),
            self._dns(),
        ]

    def kubeconfig(self, name: str) -> Path:
        """The kubeconfig file of *name* (admin, scheduler, a node …)."""
        path = self.state / f"{name}.kubeconfig"
        cluster = {"server": API, "certificate-authority": str(self._keys / "ca.pem")}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": cluster}],
            "users": [{"name": name, "user": {"token": self._identities[name].token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": name}}],
            "current-context": "testbed",
        }
        path.write_text(json.dumps(document))  # JSON is YAML, which Kubernetes reads
        path.chmod(0o600)
        return path

    def part(self, name: str, *command: str | Path, environment: Mapping[str, str] | None = None) -> Part:
        """A process in the cluster's network that logs into the state folder."""
        return Part(
            name=name,
            command=command,
            log=self.state / f"{name}.log",
            environment=environment or {},
            network=network.NAMESPACE,
        )

    def _write_keys(self) -> None:
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self._keys / "ca.pem"))
        names = ["localhost", *("kubernetes.default.svc.cluster.local".rsplit(".", cut)[0] for cut in range(5))]
        server = authority.issue_cert(network.GATEWAY, _FIRST_SERVICE, "127.0.0.1", *names)
        server.private_key_and_cert_chain_pem.write_to_path(str(self._keys / "api-server.pem"))
        authority.issue_cert("service-accounts").private_key_pem.write_to_path(str(self._keys / "accounts.pem"))
        rows = [f'{one.token},{one.user},{one.user},"{",".join(one.groups)}"' for one in self._identities.values()]
        (self._keys / "tokens.csv").write_text("\n".join(rows) + "\n")

    def _etcd(self) -> Part:
        return self.part(
            "etcd",
            *(go_build.build("etcd") / "server", "--data-dir", self.state / "etcd"),
            "--unsafe-no-fsync",  # the state is deleted with the session anyway
        )

    def _api_server(self) -> Part:
        return self._kubernetes(
            "apiserver",
            "--etcd-servers=http://127.0.0.1:2379",
            f"--advertise-address={network.GATEWAY}",
            f"--tls-cert-file={self._keys / 'api-server.pem'}",
            f"--tls-private-key-file={self._keys / 'api-server.pem'}",
            f"--token-auth-file={self._keys / 'tokens.csv'}",
            "--authorization-mode=Node,RBAC",
            f"--service-cluster-ip-range={_SERVICES}",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self._keys / 'accounts.pem'}",
            f"--service-account-signing-key-file={self._keys / 'accounts.pem'}",
            "--kubelet-preferred-address-types=InternalIP",
        )

    def _controller_manager(self) -> list[str]:
        return [
            f"--kubeconfig={self.kubeconfig('controller-manager')}",
            f"--service-account-private-key-file={self._keys / 'accounts.pem'}",
            f"--root-ca-file={self._keys / 'ca.pem'}",
            "--use-service-account-credentials",
            "--leader-elect=false",
            f"--node-monitor-grace-period={NODE_GRACE_S}s",
        ]

    def _scheduler(self) -> list[str]:
        return [f"--kubeconfig={self.kubeconfig('scheduler')}", "--leader-elect=false"]

    def _proxy_configuration(self) -> Path:
        path = self.state / "proxy.yaml"
        document = {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": {"kubeconfig": str(self.kubeconfig("proxy"))},
            "mode": "iptables",
            "hostnameOverride": "node-1",
            "clusterCIDR": network.SUBNET,
            # All pods share one bridge: an answer must come back through here, not straight from the other pod.
            "iptables": {"masqueradeAll": True},
            "conntrack": {"maxPerCore": 0, "min": 0},
        }
        path.write_text(json.dumps(document))
        return path

    def _dns(self) -> Part:
        path = self.state / "Corefile"
        path.write_text(
            f".:53 {{\n  bind {network.GATEWAY}\n  errors\n"
            f"  kubernetes cluster.local {{\n    kubeconfig {self.kubeconfig('dns')}\n  }}\n}}\n"
        )
        return self.part("dns", go_build.build("coredns") / "coredns", "-conf", path)

    def _minio(self) -> Part:
        return self.part(
            "minio",
            *(s3_server.build() / "minio", "server", "--quiet", "--address", f"{network.GATEWAY}:9000"),
            self.state / "minio",
            environment={
                "MINIO_ROOT_USER": self.s3.access_key,
                "MINIO_ROOT_PASSWORD": self.s3.secret_key,
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )

    def _kubernetes(self, name: str, *arguments: str | Path) -> Part:
        return self.part(name, programs() / f"kube-{name}", *arguments)
