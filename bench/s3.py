"""The S3 store compared with MinIO's own client on the same server: wall time to upload and download one object.

    python -m bench.s3

Ours is one open store in this process: ``put_file`` from a file, then ``open`` and a read of the whole, which goes
through a temporary file. MinIO's is `mc cp`, one way and back: once as one process an object, as a shell script would,
and once without the cost of its start, which `mc --version` gives. Both meet the same server on loopback, by plain
HTTP, in turns. The bar is a ratio of 1.2.
"""

import os
import statistics
import subprocess
import tempfile
import time
from functools import partial
from pathlib import Path

from bench import common
from chunk_job.store.base import Store
from chunk_job.store.open_store import open_store
from tests.testbed import s3_server

SIZES_MB = (1, 20)
ROUNDS = 15


def ours(store: Store, file: Path) -> float:
    """Seconds for one object."""
    began_s = time.perf_counter()
    store.put_file("object", file)
    with store.open("object") as stored:
        size = len(stored.read())
    took_s = time.perf_counter() - began_s
    assert size == file.stat().st_size
    return took_s


def theirs(mc: list[str], bucket: str, file: Path) -> float:
    """Seconds for one object."""
    back = file.with_suffix(".back")
    began_s = time.perf_counter()
    subprocess.run([*mc, "cp", file, f"server/{bucket}/theirs"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run([*mc, "cp", f"server/{bucket}/theirs", back], check=True, stdout=subprocess.DEVNULL)
    took_s = time.perf_counter() - began_s
    assert back.stat().st_size == file.stat().st_size
    return took_s


def start(mc: list[str]) -> float:
    """Start-up time of mc, in seconds."""
    began_s = time.perf_counter()
    subprocess.run([*mc, "--version"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began_s


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory(prefix="stenofleet-bench-") as name:
        folder = Path(name)
        with s3_server.own(folder / "minio") as server, server.bucket() as bucket:
            os.environ.update(server.environment)
            address = server.endpoint.replace("http://", f"http://{server.access_key}:{server.secret_key}@")
            os.environ["MC_HOST_server"] = address  # noqa: SIM112 (mc reads the alias' name from it)
            mc = [str(s3_server.build() / "mc"), "--config-dir", str(folder / "mc"), "--quiet"]
            idle_s = 2 * statistics.median(start(mc) for _ in range(ROUNDS))
            store = open_store(f"s3://{bucket}/ours")
            for megabytes in SIZES_MB:
                file = folder / f"{megabytes}.bin"
                file.write_bytes(os.urandom(megabytes * 1_000_000))
                ratio = common.compare(partial(ours, store, file), partial(theirs, mc, bucket, file), rounds=ROUNDS)
                without_s = ratio.theirs - idle_s
                rows.append(
                    [
                        f"{megabytes} MB",
                        f"{1000 * ratio.ours:.0f} ms",
                        f"{1000 * ratio.theirs:.0f} ms",
                        f"{ratio.value:.2f}",
                        f"{1000 * without_s:.0f} ms",
                        f"{ratio.ours / without_s:.2f}",
                    ]
                )
    print(f"{common.machine()}; put and get of one object, median of {ROUNDS}\n")
    print(common.table(["object", "ours", "mc", "ratio", "mc without its start", "ratio"], rows))


if __name__ == "__main__":
    main()
