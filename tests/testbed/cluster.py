"""A Kubernetes cluster for tests: our own with real pods on two nodes, or the one that KUBECONFIG names.

Our own cluster needs Linux and root. A machine has one at a time: the next session waits. The next session also removes
what a killed session left.

    python -m tests.testbed.cluster            start one, print how to reach it, and end it with Ctrl-C
    python -m tests.testbed.cluster --build    build the programs (minutes), unless they exist
    python -m tests.testbed.cluster --run …    run a command with one, which it finds as a given cluster with our images
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.testbed import chart, go_build, images, network, processes, s3_server
from tests.testbed.control_plane import ControlPlane, programs
from tests.testbed.go_build import locked
from tests.testbed.node import Node
from tests.testbed.processes import Part
from tests.testbed.s3_server import Server

NODES = 2
GPUS_PER_NODE = 2
STATE = Path("/tmp/stenofleet-testbed")
_LOCK = STATE.with_suffix(".lock")
_NEEDED = ("containerd", "ctr", "runc", "ip", "iptables", "conntrack", "nsenter", "setpriv", "busybox")
_READY_S = 60


class NotFound(RuntimeError):
    """The object of a kubectl command is not in the cluster, or no longer."""


class Cluster:
    """A running cluster. This class is for a given cluster; :class:`OwnCluster` can also stop parts of its cluster."""

    own = False
    """Whether tests may kill its components and load images into its nodes."""

    def __init__(self, kubeconfig: Path, s3: Server) -> None:
        self.kubeconfig = kubeconfig
        self.s3 = s3
        """MinIO; its endpoint is the same for pods and for this machine."""

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """The output of kubectl. RuntimeError with its message, :class:`NotFound` if an object is missing."""
        done = subprocess.run(
            [self.program, "--kubeconfig", self.kubeconfig, *arguments],
            input=stdin,
            stdin=None if stdin is not None else subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            failure = NotFound if "(NotFound)" in done.stderr else RuntimeError
            raise failure(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def get(self, *arguments: str) -> Any:
        """The result of ``kubectl get`` as a document."""
        return json.loads(self.kubectl("get", "--output", "json", *arguments))

    def apply(self, namespace: str, *documents: dict[str, Any]) -> None:
        """Create or change these objects in *namespace*."""
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
        self.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=text)

    @contextlib.contextmanager
    def namespace(self, name: str, *, security: str = "restricted") -> Iterator[str]:
        """A namespace with the prefix *name*; it is deleted with everything in it.

        *security* is the Pod Security level that it enforces.
        """
        full = f"{name}-{secrets.token_hex(3)}"
        self.kubectl("create", "namespace", full)
        try:
            self.kubectl("label", "namespace", full, f"pod-security.kubernetes.io/enforce={security}")
            self.kubectl("wait", "--for=create", "--timeout=30s", f"--namespace={full}", "serviceaccount/default")
            yield full
        finally:
            # First the namespace, so that no controller makes another pod; then the pods, which may hold GPUs.
            self.kubectl("delete", "namespace", full, "--wait=false")
            self.kubectl("delete", "pods", "--all", f"--namespace={full}", "--grace-period=1", "--wait=false")

    def load(self, archive: Path) -> None:
        """Load the images of a docker archive into every node; a given cluster must have them already."""

    def kill(self, component: str) -> None:
        """SIGKILL to one component: apiserver, etcd, scheduler, controller-manager, proxy, dns, minio, kubelet-1,
        containerd-2 …
        """
        pytest.skip(f"kills {component}, and the components of the cluster that KUBECONFIG names are not ours to kill")

    def start(self, component: str) -> None:
        """Start a killed component again. Does not wait until it serves."""
        pytest.skip(f"starts {component}, and the components of the cluster that KUBECONFIG names are not ours")

    def lose(self, node: str) -> None:
        """Stop a node as a power failure does: its agents and its pods' processes end at once, unreported."""
        pytest.skip(f"loses {node}, and the nodes of the cluster that KUBECONFIG names are not ours to lose")

    def regain(self, node: str) -> None:
        """Start a lost node again. Does not wait until it is ready."""
        pytest.skip(f"starts {node}, and the nodes of the cluster that KUBECONFIG names are not ours")

    def wait_for_api(self) -> None:
        """Wait until the API server is ready."""
        _wait("the API server", lambda: self._answers("get", "--raw", "/readyz"))

    def _answers(self, *arguments: str) -> bool:
        with contextlib.suppress(RuntimeError):
            return bool(self.kubectl(*arguments))
        return False

    @property
    def program(self) -> str | Path:
        """kubectl."""
        return shutil.which("kubectl") or programs() / "kubectl"


class OwnCluster(Cluster):
    """A cluster of our own: Kubernetes from source, two nodes with containerd and ``nvidia.com/gpu: 2`` each."""

    own = True

    def __init__(self) -> None:
        """Prepares the state folder, which must be empty; :meth:`up` does the rest."""
        names = [f"node-{number}" for number in range(1, NODES + 1)]
        plane = ControlPlane(STATE, names)
        super().__init__(plane.kubeconfig("admin"), plane.s3)
        self._nodes = [Node(plane, number) for number in range(1, NODES + 1)]
        self._plane = {part.name: part for part in plane.parts()}
        self._parts = dict(self._plane)
        for node in self._nodes:
            self._parts |= {part.name: part for part in (node.containerd, node.kubelet)}

    def up(self) -> None:
        """Start everything; returns when pods can run and S3 answers."""
        for part in (*self._plane.values(), *(node.containerd for node in self._nodes)):
            part.start()
        try:
            with ThreadPoolExecutor(len(self._nodes)) as pool:
                prepared = [pool.submit(self._prepare, node) for node in self._nodes]
                self.wait_for_api()
                for one in prepared:
                    one.result()
            for node in self._nodes:
                # One after the other: all listen on one path, and remove the socket that is there. Two at the same
                # moment can both find none, and then one gives up. Not in the pool: it would end with its thread.
                node.kubelet.start()
                self._join(node)
            _wait("MinIO", self.s3.serves)
        except RuntimeError as problem:
            raise RuntimeError(f"testbed: {problem}\n{self._termination_message()}") from problem

    def down(self) -> None:
        """End the nodes' containers, then kill every component. Processes that do not end are left to :func:`clean`."""
        kept = [node.containerd for node in self._nodes]
        for part in self._parts.values():
            if part not in kept:
                part.kill()
        for node in self._nodes:
            with contextlib.suppress(RuntimeError):
                node.end()
            node.containerd.kill()

    def load(self, archive: Path) -> None:
        with ThreadPoolExecutor(len(self._nodes)) as pool:
            list(pool.map(lambda node: node.load(archive), self._nodes))

    def kill(self, component: str) -> None:
        self._part(component).kill()

    def start(self, component: str) -> None:
        part = self._part(component)
        part.start()
        for node in self._nodes:
            if part is node.containerd:
                # A kubelet that finds no containerd gives up for good.
                _wait(component, node.ready)

    def lose(self, node: str) -> None:
        (lost,) = [one for one in self._nodes if one.name == node]
        for part in (lost.kubelet, lost.containerd):
            part.kill()
        processes.end_group(node)

    def regain(self, node: str) -> None:
        (lost,) = [one for one in self._nodes if one.name == node]
        self.start(lost.containerd.name)
        _wait(lost.kubelet.name, lambda: self._stays_up(lost.kubelet))

    @staticmethod
    def _stays_up(kubelet: Part) -> bool:
        """Start it; whether it is up a moment later. While containerd counts its lost containers, it is not."""
        kubelet.start()
        time.sleep(2)
        return kubelet.alive

    def _part(self, name: str) -> Part:
        if name not in self._parts:
            raise KeyError(f"no component {name}; there are {', '.join(self._parts)}")
        return self._parts[name]

    @staticmethod
    def _prepare(node: Node) -> None:
        _wait(f"containerd on {node.name}", node.ready)
        node.prepare()

    def _join(self, node: Node) -> None:
        self.kubectl("wait", "--for=create", f"--timeout={_READY_S}s", f"node/{node.name}")
        gpus = {"nvidia.com/gpu": str(GPUS_PER_NODE)}
        patch = json.dumps({"status": {"capacity": gpus, "allocatable": gpus}})
        self.kubectl("wait", "--for=condition=Ready", f"--timeout={_READY_S}s", f"node/{node.name}")
        self.kubectl("patch", "node", node.name, "--subresource=status", "--type=merge", f"--patch={patch}")

    def _termination_message(self) -> str:
        dead = [part for part in self._parts.values() if not part.alive]
        return "\n".join(f"{part.name} is down; its log ends:\n{part.termination_message()}" for part in dead)


@contextlib.contextmanager
def cluster() -> Iterator[Cluster]:
    """The given cluster, or one of our own until the end of the block.

    Raises RuntimeError with the missing programs when this machine cannot run one.
    """
    if kubeconfig := os.environ.get("KUBECONFIG"):
        yield given(Path(kubeconfig))
        return
    require()
    build_programs()
    with locked(_LOCK, holder="another session's cluster"):
        clean()
        STATE.mkdir(mode=0o700)
        own = OwnCluster()
        try:
            network.up(NODES)
            own.up()
            yield own
        finally:
            own.down()
            clean()


def build_programs() -> None:
    """Build every program of a cluster's tests (fifteen minutes on two cores, once)."""
    servers = (programs, lambda: go_build.build("etcd"), lambda: go_build.build("coredns"), s3_server.build)
    for build in (*servers, chart.program):
        build()


def given(kubeconfig: Path) -> Cluster:
    """The cluster that *kubeconfig* names, with the S3 server that STENOFLEET_TEST_S3_* name and its pods can reach."""
    server = s3_server.given()
    if server is None:
        raise RuntimeError(
            "KUBECONFIG names a cluster, but nothing names an S3 server that its pods reach: set"
            f" {s3_server.VARIABLE}ENDPOINT, _ACCESS_KEY and _SECRET_KEY, or unset KUBECONFIG for a cluster of our own"
        )
    return Cluster(kubeconfig, server)


def require() -> None:
    """RuntimeError when this machine cannot have a cluster of our own."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise RuntimeError(
            "the test cluster needs Linux and root, because it makes network namespaces and control groups:"
            " run it there, or set KUBECONFIG to a cluster that you have"
        )
    if missing := processes.missing_programs(*_NEEDED):
        raise RuntimeError(
            f"the test cluster needs {', '.join(missing)}: `sh .ci/need cluster` installs them on Debian"
        )


def clean() -> None:
    """End and remove everything that our cluster has left on this machine."""
    processes.end_all()
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    # The latest mount first: it may be on top of an earlier one.
    for mount in reversed([path for path in mounts if Path(path).is_relative_to(STATE)]):
        subprocess.run(["umount", "--lazy", mount], check=True)
    network.down()
    shutil.rmtree(STATE, ignore_errors=True)
    for log in Path("/var/log/containers").glob("*.log"):
        if log.is_symlink() and log.readlink().is_relative_to(STATE):
            log.unlink()


def _wait(what: str, ready: Callable[[], bool]) -> None:
    until_s = time.monotonic() + _READY_S
    while not ready():
        if time.monotonic() > until_s:
            raise RuntimeError(f"{what} is not ready after {_READY_S} s")
        time.sleep(0.1)


def _environment(up: Cluster) -> dict[str, str]:
    """The variables that make it a given cluster."""
    server = {"ENDPOINT": up.s3.endpoint, "ACCESS_KEY": up.s3.access_key, "SECRET_KEY": up.s3.secret_key}
    return {"KUBECONFIG": str(up.kubeconfig)} | {f"{s3_server.VARIABLE}{name}": value for name, value in server.items()}


def _by_hand() -> None:
    began_s = time.monotonic()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), cluster() as up:
        print(f"# up after {time.monotonic() - began_s:.1f} s; Ctrl-C ends it. In another shell:")
        for name, value in _environment(up).items():
            print(f"export {name}={value}", flush=True)
        signal.pause()


def _run(command: list[str]) -> int:
    """The exit code of a command, whose processes share one cluster."""
    with cluster() as up:
        if up.own:
            for target in images.TARGETS:
                up.load(images.archive(target))
        return subprocess.run(command, env=os.environ | _environment(up), check=False).returncode


if __name__ == "__main__":
    if sys.argv[1:] == ["--build"]:
        require()
        build_programs()
    elif sys.argv[1:2] == ["--run"]:
        sys.exit(_run(sys.argv[2:]))
    elif sys.argv[1:]:
        sys.exit(
            "python -m tests.testbed.cluster [--build | --run COMMAND …]: without an argument, a cluster until Ctrl-C"
        )
    else:
        _by_hand()
