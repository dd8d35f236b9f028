"""Ports of this machine for servers that tests start themselves, and for addresses where nobody listens."""

import socket

_RESERVED: list[socket.socket] = []
"""Open until this process ends: so no other program is given one of their ports."""


def free_port() -> int:
    """A port of 127.0.0.1 on which nobody listens: connections are refused until a server of the test listens there."""
    one = socket.socket()
    # A server may listen on a port that is only bound: both sockets must have this option, as those of servers have.
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind(("127.0.0.1", 0))
    _RESERVED.append(one)
    port: int = one.getsockname()[1]
    return port
