"""The network of the testbed: a namespace with a bridge for nodes and pods, and a link from this machine to it.

In a namespace every component has its usual port and kube-proxy its usual chains, whatever else this machine runs.
Nothing in it reaches the outside. Touches: network namespaces and links. Needs Linux, root.
"""

import subprocess
from pathlib import Path

NAMESPACE = "stenofleet-testbed"
BRIDGE = "stenofleet0"
SUBNET = "10.98.0.0/16"
GATEWAY = "10.98.0.1"
"""The address of the API server, DNS and MinIO, for pods and for this machine."""
HOST = "10.98.0.2"
"""The address of this machine for pods: a server of a test binds it to serve them."""
FIRST_POD = "10.98.1.0"
_HOST_LINK, _INNER_LINK = "stenofleet-host", "stenofleet-in"


def node_address(number: int) -> str:
    return f"10.98.0.{10 + number}"


def up(nodes: int) -> None:
    """Create the network, with an address for each of *nodes*, counted from 1."""
    _ip("netns", "add", NAMESPACE)
    _inside("link", "set", "lo", "up")
    # Without a fixed address it takes that of a pod, which changes with the pods, and neighbours lose it.
    _inside("link", "add", BRIDGE, "address", "02:98:00:00:00:01", "type", "bridge")
    for address in (GATEWAY, *map(node_address, range(1, nodes + 1))):
        _inside("address", "add", f"{address}/16", "dev", BRIDGE)
    _inside("link", "set", BRIDGE, "up")
    _ip("link", "add", _HOST_LINK, "type", "veth", "peer", _INNER_LINK, "netns", NAMESPACE)
    _inside("link", "set", _INNER_LINK, "master", BRIDGE, "up")
    _ip("address", "add", f"{HOST}/16", "dev", _HOST_LINK)
    _ip("link", "set", _HOST_LINK, "up")
    enter = ["nsenter", f"--net=/run/netns/{NAMESPACE}"]
    subprocess.run([*enter, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"], check=True)


def down() -> None:
    """Remove the network if it exists."""
    if Path(f"/sys/class/net/{_HOST_LINK}").exists():
        _ip("link", "delete", _HOST_LINK)
    if Path(f"/run/netns/{NAMESPACE}").exists():
        _ip("netns", "delete", NAMESPACE)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def _inside(*arguments: str) -> None:
    _ip("-netns", NAMESPACE, *arguments)
