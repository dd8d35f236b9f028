"""A node: containerd and kubelet with separate state, so that several run on one machine.

Unpacking the project's images takes minutes, so a node's images outlive its cluster, without any container.
Touches: the state folder, a cache folder outside the checkout, control groups, containerd's socket.
"""

import contextlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from pathlib import Path

from tests.testbed import network, processes
from tests.testbed.control_plane import ControlPlane, programs
from tests.testbed.go_build import cache_folder
from tests.testbed.tool_image import NAME as SANDBOX
from tests.testbed.tool_image import write_archive

_PLUGINS = Path("/usr/lib/cni")
_LOADED = "stenofleet-loaded.json"
_KEPT = "stenofleet-kept"
_IMPORTS = 3
"""Tries of an import."""


def _images_folder(node: str) -> Path:
    """containerd's root: that of an earlier cluster if it ended cleanly, else an empty one."""
    folder = cache_folder() / "nodes" / node
    if not (folder / _KEPT).is_file():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    (folder / _KEPT).unlink(missing_ok=True)
    return folder


def _contents(archive: Path) -> dict[str, str]:
    """The image names in a docker archive, each with its image's digest."""
    with tarfile.open(archive) as opened:
        file = opened.extractfile("manifest.json")
        assert file
        return {tag: str(image["Config"]) for image in json.load(file) for tag in image["RepoTags"]}


def _second_name(digest: str) -> str:
    """The second name that containerd's CRI plugin keeps for an image."""
    return f"sha256:{digest.removesuffix('.json')}"


class Node:
    """Node *number* (from 1) of a cluster: ``node-1`` with the parts ``containerd-1`` and ``kubelet-1``."""

    def __init__(self, plane: ControlPlane, number: int) -> None:
        self.name = f"node-{number}"
        self._number = number
        self._state = plane.state / self.name
        self._state.mkdir()
        self._group = f"{processes.GROUP}/{self.name}"
        self._socket = self._state / "containerd.sock"
        self._images = _images_folder(self.name)
        self.containerd = plane.part(f"containerd-{number}", "containerd", "--config", self._containerd_settings())
        self.kubelet = plane.part(
            f"kubelet-{number}",
            *(programs() / "kubelet", "--config", self._kubelet_settings()),
            *("--kubeconfig", plane.kubeconfig(self.name)),
            *("--hostname-override", self.name, "--node-ip", network.node_address(number)),
            *("--root-dir", self._state / "kubelet", "--cert-dir", self._state / "keys"),
        )

    def ready(self) -> bool:
        """Whether containerd answers."""
        with contextlib.suppress(RuntimeError):
            return bool(self._ctr("version"))
        return False

    def prepare(self) -> None:
        """Create the files that kubelet needs; containerd must answer."""
        processes.group_folders(self.name)
        self.load(write_archive(self._state / "tools.tar"))

    def load(self, archive: Path) -> None:
        """Import the images of a docker archive, unless these very images are there already."""
        known, new = self._loaded(), _contents(archive)
        if not new.items() <= known.items():
            self._import(archive)
            self._remove_images_except(map(_second_name, (known | new).values()))
            (self._images / _LOADED).write_text(json.dumps(known | new))

    def _import(self, archive: Path) -> None:
        """Import an archive. containerd may just be removing layers of older images that this one needs too."""
        for _ in range(_IMPORTS - 1):
            try:
                self._ctr("images", "import", str(archive))
            except RuntimeError as problem:
                if "parent snapshot" not in str(problem):
                    raise
            else:
                return
        self._ctr("images", "import", str(archive))

    def _remove_images_except(self, kept: Iterable[str]) -> None:
        """Remove other images, by the second name that containerd's CRI plugin keeps for each."""
        named = {name for name in self._ctr("images", "list", "--quiet").split() if name.startswith("sha256:")}
        if old := named.difference(kept):
            self._ctr("images", "remove", "--sync", *old)

    def end(self) -> None:
        """Remove every container and stop containerd; kubelet must be down. The images stay for the next cluster."""
        for kind, force in (("tasks", ["--force"]), ("containers", [])):
            if names := self._ctr(kind, "list", "--quiet").split():
                self._ctr(kind, "delete", *force, *names)
        self.containerd.kill()
        (self._images / _KEPT).touch()

    def _loaded(self) -> dict[str, str]:
        """The images in our record that containerd still has: a kubelet removes images when the disk is full."""
        file = self._images / _LOADED
        loaded: dict[str, str] = json.loads(file.read_text()) if file.is_file() else {}
        there = self._ctr("images", "list", "--quiet").split()
        return {name: digest for name, digest in loaded.items() if _second_name(digest) in there}

    def _ctr(self, *arguments: str) -> str:
        done = subprocess.run(
            ["ctr", "--address", self._socket, "--namespace", "k8s.io", *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"ctr {' '.join(arguments[:3])} on {self.name}: {done.stderr.strip()}")
        return done.stdout

    def _containerd_settings(self) -> Path:
        networks = self._state / "cni"
        networks.mkdir()
        (networks / "10-bridge.conflist").write_text(json.dumps(self._networks()))
        path = self._state / "containerd.toml"
        path.write_text(f"""\
version = 2
root = "{self._images}"
state = "{self._state}/containerd/state"
[grpc]
  address = "{self._socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{self._state}/containerd/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{SANDBOX}"
  restrict_oom_score_adj = true  # root without CAP_SYS_RESOURCE may not lower a score
  netns_mounts_under_state_dir = true  # so that no namespace is left when the state is removed
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{_PLUGINS}"
    conf_dir = "{networks}"
""")
        return path

    def _networks(self) -> dict[str, object]:
        """One bridge and one address pool for all nodes: every pod reaches every other, and this machine."""
        pods = {"subnet": network.SUBNET, "rangeStart": network.FIRST_POD, "gateway": network.GATEWAY}
        bridge = {
            "type": "bridge",
            "bridge": network.BRIDGE,
            "hairpinMode": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(self._state.parent / "addresses"),
                "ranges": [[pods]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        }
        return {"cniVersion": "0.4.0", "name": "testbed", "plugins": [bridge]}

    def _kubelet_settings(self) -> Path:
        path = self._state / "kubelet.yaml"
        address = network.node_address(self._number)
        document = {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            # Only the testbed's own network reaches it.
            "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
            "authorization": {"mode": "AlwaysAllow"},
            "address": address,
            "healthzBindAddress": address,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": f"/{self._group}",
            "enforceNodeAllocatable": [],
            "failCgroupV1": False,
            "failSwapOn": False,
            "containerRuntimeEndpoint": f"unix://{self._socket}",
            "clusterDNS": [network.GATEWAY],
            "clusterDomain": "cluster.local",
            "podLogsDir": str(self._state / "logs"),
            # Other programs use the machine's disk and memory too.
            "evictionHard": {"nodefs.available": "1%", "imagefs.available": "1%", "memory.available": "100Mi"},
            "imageGCHighThresholdPercent": 100,
            "syncFrequency": "5s",
            "nodeStatusUpdateFrequency": "2s",
        }
        path.write_text(json.dumps(document))
        return path
