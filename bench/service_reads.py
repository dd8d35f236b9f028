"""What one answer of the service costs, whatever else the machine does: requests to the store, and CPU time.

    python -m bench.service_reads [--s3] [--number 300]

One replica in this process, over a folder or a MinIO of its own, has a run in each state. One client asks for each of
them over one connection. The CPU time of the process without requests is subtracted; the client's is included, and
``/healthz``, which reads nothing, shows how much that is.
"""

import argparse
import collections
import contextlib
import http.client
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.service import opened
from bench.tables import machine, table
from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from tests.controller.service.running import Running, running

_IDLE_S = 3.0


class Counted:
    """Notes the requests to a store that are made for clients."""

    def __init__(self, store: Store) -> None:
        self.requests: collections.Counter[str] = collections.Counter()
        for name in ("get", "put", "put_file", "list", "stat", "delete"):
            setattr(store, name, self._counting(name, getattr(store, name)))

    def _counting(self, name: str, do: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*given: Any, **more: Any) -> Any:
            if threading.current_thread().name.startswith("AnyIO"):
                self.requests[name] += 1
            return do(*given, **more)

        return counted


def states(up: Running) -> dict[str, str]:
    """A run in each state."""
    runs = [up.submit(f"{number}.wav")["id"] for number in range(6)]
    while not (found := up.wait_for(runs[0], "queued", "running"))["progress"]:
        time.sleep(0.05)
    up.client.post(f"/v1/runs/{runs[-1]}:cancel")
    up.wait_for(runs[-1], "cancelled")
    return {"running": found["id"], "queued": runs[-2], "ended": runs[-1]}


def measure(port: int, path: str, number: int, idle_share: float, counted: Counted) -> list[str]:
    connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask() -> None:
        connection.request("GET", path)
        reply = connection.getresponse()
        reply.read()
        assert reply.status == 200

    for _ in range(3):
        ask()
    counted.requests.clear()
    ask()
    requests = sum(counted.requests.values())
    took_s, cpu_s, began_s = [], time.process_time(), time.monotonic()
    for _ in range(number):
        asked_s = time.monotonic()
        ask()
        took_s.append(time.monotonic() - asked_s)
    cpu_s = time.process_time() - cpu_s - idle_share * (time.monotonic() - began_s)
    connection.close()
    return [str(requests), f"{1000 * cpu_s / number:.2f}", f"{1000 * statistics.median(took_s):.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--s3", action="store_true", help="a MinIO of its own instead of a folder")
    parser.add_argument("--number", type=int, default=300, help="requests for each run")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stenofleet-bench-") as name, contextlib.ExitStack() as closing:
        store = open_store(closing.enter_context(opened(Path(name), s3=given.s3)))
        counted = Counted(store)
        up = closing.enter_context(running(store, takes_ms=10**7, max_parallel=1))
        paths = {"/healthz": "/healthz"}
        paths |= {f"GET /v1/runs/{{id}}, {state}": f"/v1/runs/{run}" for state, run in states(up).items()}
        paths |= {"GET /v1/runs?limit=5": "/v1/runs?limit=5"}
        cpu_s = time.process_time()
        time.sleep(_IDLE_S)
        idle_share = (time.process_time() - cpu_s) / _IDLE_S
        rows = [
            [what, *measure(up.server.port, path, given.number, idle_share, counted)] for what, path in paths.items()
        ]
    print(f"{machine()}, {'MinIO' if given.s3 else 'a folder'}, {given.number} requests each")
    print(table(["request", "requests to the store", "CPU ms", "median ms"], rows))


if __name__ == "__main__":
    main()
