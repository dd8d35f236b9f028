"""A TCP proxy on loopback with programmable faults: between a client and a server, or instead of the server.

Touches: loopback ports, threads. A fault applies to a given number of connections.
"""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

_PIECE_BYTES = 16 << 10


@dataclass(kw_only=True)
class Fault:
    """What goes wrong with a connection.

    ``refuse``: reset at once; ``hang``: accepted and never answered; ``answer``: *data* instead of the server's answer;
    ``cut``: ended after *after_bytes* of the server's answer; ``slow``: *bytes_per_s* in both directions.
    """

    kind: Literal["refuse", "hang", "answer", "cut", "slow"]
    times: int = 1_000_000
    data: bytes = b""
    after_bytes: int = 0
    bytes_per_s: int = 0


@dataclass(kw_only=True)
class Proxy:
    """A running proxy. Set :attr:`fault` at any time; it applies to the connections made after that."""

    listener: socket.socket
    server: tuple[str, int]
    fault: Fault | None = None
    connections: int = 0
    """The number of connections so far."""
    uploaded_bytes: int = 0
    """The bytes from clients to the server so far."""
    downloaded_bytes: int = 0
    """The bytes from the server to clients so far."""
    _open: list[socket.socket] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        host, port = self.listener.getsockname()
        return f"http://{host}:{port}"

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                self._open.append(client)
                threading.Thread(target=self._handle, args=(client, self._take()), daemon=True).start()

    def _take(self) -> Fault | None:
        fault = self.fault
        if fault is None or fault.times == 0:
            return None
        fault.times -= 1
        return fault

    def _handle(self, client: socket.socket, fault: Fault | None) -> None:
        kind = fault.kind if fault else None
        with contextlib.suppress(OSError):
            if kind == "refuse":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
            elif fault and kind == "answer":
                client.recv(_PIECE_BYTES)
                client.sendall(fault.data)
                client.shutdown(socket.SHUT_WR)
                # Closed with unread input, the kernel would reset it and the answer might be lost.
                while client.recv(_PIECE_BYTES):
                    pass
            elif kind != "hang":
                self._relay(client, fault)

    def _relay(self, client: socket.socket, fault: Fault | None) -> None:
        with socket.create_connection(self.server) as server:
            self._open.append(server)
            threading.Thread(target=self._upload, args=(client, server, fault), daemon=True).start()
            passed = 0
            while data := server.recv(_PIECE_BYTES):
                if fault and fault.kind == "cut" and passed + len(data) > fault.after_bytes:
                    client.sendall(data[: fault.after_bytes - passed])
                    _end(client)
                    return
                client.sendall(data)
                passed += len(data)
                self.downloaded_bytes += len(data)
                _delay(data, fault)
            client.shutdown(socket.SHUT_WR)

    def _upload(self, client: socket.socket, server: socket.socket, fault: Fault | None) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(_PIECE_BYTES):
                server.sendall(data)
                self.uploaded_bytes += len(data)
                _delay(data, fault)
            server.shutdown(socket.SHUT_WR)


def _delay(data: bytes, fault: Fault | None) -> None:
    if fault and fault.kind == "slow":
        time.sleep(len(data) / fault.bytes_per_s)


def _end(connection: socket.socket) -> None:
    """End it for both sides, and for a thread that waits in it: close alone would wait for that thread."""
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()


@contextlib.contextmanager
def proxied(server: tuple[str, int]) -> Iterator[Proxy]:
    """A proxy in front of *server*, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        proxy = Proxy(listener=listener, server=server)
        threading.Thread(target=proxy._serve, daemon=True).start()
        yield proxy
        for connection in (listener, *proxy._open):
            _end(connection)
