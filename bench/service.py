"""The service under load, with replicas that are killed: requests, latencies, lost or repeated work, memory.

    python -m bench.service [--seconds 180] [--kill-every 20] [--s3]

Two replicas of the service are processes over one store: a folder, or a MinIO of its own (``--s3``). Everything of them
is real but the jobs, which are simulated in the process of the replica and end with it. 200 clients keep 500 runs open:
each submits a recording in a form, asks for the state of its runs, and follows their events with Last-Event-ID. Now and
then, one replica is killed (SIGKILL) and started again. At the end, the store is compared with what the clients saw.
"""

import argparse
import asyncio
import collections
import contextlib
import itertools
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.service_clients import Seen, run_clients
from bench.tables import machine, table
from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from controller.domain.service_keys import RequestKey
from controller.service.requests import RequestStore
from tests.ports import free_port
from tests.testbed import s3_server

PREFIX = "default"
REPLICAS = 2
_MB = 1 << 20


@dataclass
class Replica:
    """A replica that is started again after each kill."""

    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    _cpu: dict[int, float] = field(default_factory=dict)
    """Seconds of each process."""
    memory: list[tuple[int, float, float]] = field(default_factory=list)
    """Process number, seconds since the start of the bench, MB of memory."""
    kills: int = 0

    @property
    def cpu_s(self) -> float:
        return sum(self._cpu.values())

    def start(self) -> None:
        self.process = subprocess.Popen(self.command)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.kills += 1

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self.process.kill()

    def measure(self, now_s: float) -> None:
        """Note the resident memory."""
        assert self.process is not None
        with contextlib.suppress(OSError, IndexError):
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
            self._cpu[self.process.pid] = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            pages = int(Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1])
            self.memory.append((self.process.pid, now_s, pages * os.sysconf("SC_PAGE_SIZE") / _MB))


class Disturbance:
    """Kills replicas and measures memory, in a thread."""

    def __init__(self, replicas: Sequence[Replica], kill_every_s: float) -> None:
        self._replicas, self._every_s = replicas, kill_every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _work(self) -> None:
        began_s = time.monotonic()
        due_s = began_s + self._every_s
        while not self._ended.wait(1.0):
            for replica in self._replicas:
                replica.measure(time.monotonic() - began_s)
            if self._every_s and time.monotonic() >= due_s:
                replica = random.choice(self._replicas)
                replica.kill()
                self._ended.wait(1.0 + 2 * random.random())
                replica.start()
                due_s = time.monotonic() + self._every_s * (0.5 + random.random())


def lost(store: Store, seen: Seen) -> dict[str, int]:
    """Compare the store with what the clients saw: numbers of runs, and of events."""
    requests, found = RequestStore(store), collections.Counter[str]()
    for run_id, watched in seen.runs.items():
        request = requests.find(RequestKey(PREFIX, run_id))
        if request is None or request.end is None:
            found["accepted runs without an end"] += 1
            continue
        found[f"runs that are {request.end.status}"] += 1
        events = list(requests.events.after(request.key, ""))
        ends = sum(1 for _, event in events if event.type == "ended")
        found["runs without an event of their end"] += ends == 0
        found["runs with two events of their end"] += ends > 1
        ids = [event_id for event_id, _ in events]
        end = next((index for index, (_, event) in enumerate(events) if event.type == "ended"), len(ids) - 1)
        found["events"] += len(ids[: end + 1])
        if not watched.followed:
            found["runs whose events no client followed to the end in time"] += 1
            continue
        found["events that a client missed"] += len(set(ids[: end + 1]) - set(watched.events))
        found["runs with events that came twice or in another order"] += watched.events != sorted(set(watched.events))
        found["times that a client resumed"] += watched.resumed
    known = sum(1 for entry in store.list(f"index/{PREFIX}/") if entry.key.endswith(".json"))
    found["runs in the store that no client knows"] = known - len(seen.runs)
    found["entries left in the queue"] = sum(1 for _ in store.list(f"queue/{PREFIX}/"))
    return dict(found)


def jobs(journals: Sequence[Path]) -> collections.Counter[str]:
    """Count the jobs that were started, and those of a chunk that had a result."""
    lines = itertools.chain.from_iterable(path.read_text(encoding="ascii").splitlines() for path in journals)
    return collections.Counter(line.partition(" ")[0] for line in lines)


def milliseconds(values_s: Sequence[float]) -> str:
    """The median, the 95th percentile and the largest."""
    if len(values_s) < 2:
        return "none"
    cuts = statistics.quantiles(values_s, n=100)
    return f"{1000 * cuts[49]:.0f}, {1000 * cuts[94]:.0f}, {1000 * max(values_s):.0f} ms"


def memory(replicas: Sequence[Replica]) -> list[list[str]]:
    """The memory of the process of each replica that ran longest: at five times from its start to its end."""
    rows = []
    for number, replica in enumerate(replicas):
        of_process: dict[int, list[tuple[float, float]]] = {}
        for pid, at_s, size_mb in replica.memory:
            of_process.setdefault(pid, []).append((at_s, size_mb))
        longest = max(of_process.values(), key=len)
        points = [longest[round(share * (len(longest) - 1) / 5)] for share in range(6)]
        shown = ", ".join(f"{at_s - longest[0][0]:.0f} s: {size_mb:.0f}" for at_s, size_mb in points)
        rows.append([f"MB of replica {number}, its longest process", shown])
    return rows


def report(given: argparse.Namespace, store: Store, seen: Seen, replicas: Sequence[Replica], folder: Path) -> None:
    started = jobs(sorted(folder.glob("*.journal")))
    own = resource.getrusage(resource.RUSAGE_SELF)
    rows = [
        ["runs accepted", str(len(seen.runs))],
        ["GET /v1/runs/{id}: number", str(len(seen.latencies_s))],
        ["GET /v1/runs/{id}: p50, p95, largest", milliseconds(seen.latencies_s)],
        ["POST /v1/runs: p50, p95, largest", milliseconds(seen.submitted_s)],
        ["answers to try again later (429, 503)", str(dict(seen.refused) or 0)],
        ["other errors", str(dict(seen.errors) or 0)],
        ["kills; connections that broke", f"{sum(one.kills for one in replicas)}; {seen.broken}"],
        *([what, str(number)] for what, number in sorted(lost(store, seen).items())),
        ["chunk jobs started; of a chunk with a result", f"{started['chunk'] + started['again']}; {started['again']}"],
        ["CPU seconds of the clients", f"{own.ru_utime + own.ru_stime:.0f}"],
        ["CPU seconds of the replicas", f"{sum(one.cpu_s for one in replicas):.0f}"],
        *memory(replicas),
    ]
    print(f"{machine()}, {'MinIO' if given.s3 else 'a folder'}, {given.clients} clients, {given.queued} open runs")
    print(table(["what", "measured"], rows))


@contextlib.contextmanager
def opened(folder: Path, *, s3: bool) -> Iterator[str]:
    """The URL of an empty store."""
    if not s3:
        yield (folder / "store").as_uri()
        return
    with s3_server.own(folder / "minio") as server, server.bucket() as bucket:
        os.environ.update(server.environment)
        yield f"s3://{bucket}/service"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=180, help="new runs are submitted for this time")
    parser.add_argument("--kill-every", type=float, default=20, help="seconds, on average; 0: never")
    parser.add_argument("--s3", action="store_true", help="a MinIO of its own instead of a folder")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--queued", type=int, default=500, help="runs that are open at the same time")
    parser.add_argument("--parallel", type=int, default=48, help="jobs of a replica at the same time")
    parser.add_argument("--takes-ms", type=int, default=500, help="time of a simulated job")
    parser.add_argument("--chunks", type=int, default=3, help="of each run")
    parser.add_argument("--patience", type=float, default=180, help="seconds for the last runs to end")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="stenofleet-bench-") as name, contextlib.ExitStack() as closing:
        folder = Path(name)
        url = closing.enter_context(opened(folder, s3=given.s3))
        store, ports = open_store(url), [free_port() for _ in range(REPLICAS)]
        replicas = [Replica(command(given, folder, url, number, port)) for number, port in enumerate(ports)]
        for replica in replicas:
            closing.callback(replica.stop)
            replica.start()
        time.sleep(5)
        work = run_clients(
            ports,
            clients=given.clients,
            queued=given.queued,
            until_s=time.monotonic() + given.seconds,
            patience_s=given.patience,
        )
        with Disturbance(replicas, given.kill_every):
            seen = asyncio.run(work)
        time.sleep(3)
        report(given, store, seen, replicas, folder)


def command(given: argparse.Namespace, folder: Path, url: str, number: int, port: int) -> list[str]:
    # Replicas over a folder are on one machine, where a lock is free at the end of its process. Others share nothing.
    home = folder / (f"home-{number}" if given.s3 else "home")
    options = {
        "--store": url,
        "--home": home,
        "--journal": folder / f"{number}.journal",
        "--port": port,
        "--parallel": given.parallel,
        "--takes-ms": given.takes_ms,
        "--chunks": given.chunks,
    }
    return [sys.executable, "-m", "bench.service_replica", *map(str, itertools.chain.from_iterable(options.items()))]


if __name__ == "__main__":
    main()
