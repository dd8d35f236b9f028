"""A real MinIO for tests: built once from its pinned Go module, started on loopback with its own state.

Touches: a cache folder outside the checkout, processes, loopback ports. Needs no root. With
``STENOFLEET_TEST_S3_ENDPOINT``, ``_ACCESS_KEY`` and ``_SECRET_KEY`` in the environment, :func:`given` is that server
instead, and nothing is built.

    python -m tests.testbed.s3_server        build, and print the folder with minio and mc
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.ports import free_port
from tests.testbed import go_build

if TYPE_CHECKING:
    from minio import Minio

VARIABLE = "STENOFLEET_TEST_S3_"
_START_S = 30
# Pods have up to 30 seconds to end after their namespace was deleted.
_EMPTY_S = 60


def build() -> Path:
    """The folder with ``minio`` and ``mc``; builds them unless an earlier call has (three minutes on two cores)."""
    return go_build.build("minio")


class Server:
    """A running S3 server, with a key that may do everything."""

    def __init__(self, endpoint: str, access_key: str, secret_key: str) -> None:
        self.endpoint = endpoint
        self.access_key = access_key
        self.secret_key = secret_key
        self.region = os.environ.get(f"{VARIABLE}REGION", "us-east-1")
        self.authority = os.environ.get("AWS_CA_BUNDLE")

    @property
    def environment(self) -> dict[str, str]:
        """The AWS variables for this server only."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.endpoint)
        return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)

    def client(self) -> "Minio":
        """The SDK's client, to inspect the bucket without the store. Tries once."""
        from minio import Minio
        from urllib3 import PoolManager

        return Minio(
            endpoint=urlsplit(self.endpoint).netloc,
            access_key=self.access_key,
            secret_key=self.secret_key,
            secure=self.endpoint.startswith("https"),
            region=self.region,
            http_client=PoolManager(retries=False, timeout=30, ca_certs=self.authority),
        )

    def serves(self) -> bool:
        """Whether it answers a request."""
        # Not its health page, which reports success shortly before the first request can be served.
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        with contextlib.suppress(MinioException, HTTPError):
            self.client().list_buckets()
            return True
        return False

    @contextlib.contextmanager
    def bucket(self) -> Iterator[str]:
        """A new bucket; it is deleted with everything in it."""
        name = f"stenofleet-test-{secrets.token_hex(6)}"
        client = self.client()
        client.make_bucket(bucket_name=name)
        try:
            yield name
        finally:
            delete_bucket(client, name)

    @contextlib.contextmanager
    def user(self, *statements: dict[str, Any]) -> Iterator[dict[str, str]]:
        """A user with a policy of these statements, as the AWS variables of its key."""
        name, secret = f"user{secrets.token_hex(4)}", secrets.token_hex(16)
        with tempfile.TemporaryDirectory() as folder:
            policy = Path(folder) / "policy.json"
            policy.write_text(json.dumps({"Version": "2012-10-17", "Statement": statements}))
            self.mc("admin", "user", "add", "server", name, secret)
            self.mc("admin", "policy", "create", "server", name, str(policy))
            self.mc("admin", "policy", "attach", "server", name, "--user", name)
        yield self.environment | {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret}
        self.mc("admin", "user", "rm", "server", name)
        self.mc("admin", "policy", "rm", "server", name)

    def mc(self, *arguments: str) -> str:
        """The output of MinIO's client; the server's alias is ``server``."""
        scheme, _, address = self.endpoint.partition("://")
        with tempfile.TemporaryDirectory() as home:
            done = subprocess.run(
                [build() / "mc", "--config-dir", home, "--insecure", "--quiet", *arguments],
                env={
                    "HOME": home,
                    "PATH": os.environ["PATH"],
                    "MC_HOST_server": f"{scheme}://{self.access_key}:{self.secret_key}@{address}",
                },
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
            )
        if done.returncode:
            raise RuntimeError(f"mc {' '.join(arguments[:3])}: {done.stderr or done.stdout}")
        return done.stdout


def given() -> Server | None:
    """The server that the environment names, if it does."""
    endpoint = os.environ.get(f"{VARIABLE}ENDPOINT")
    if not endpoint:
        return None
    return Server(endpoint, os.environ[f"{VARIABLE}ACCESS_KEY"], os.environ[f"{VARIABLE}SECRET_KEY"])


class OwnServer(Server):
    """A MinIO that we start; it may be killed, and started again with the same port and state.

    It ends with the thread that started it, and so with this process.
    """

    def __init__(
        self, home: Path, *, certificates: Path | None = None, variables: dict[str, str] | None = None
    ) -> None:
        """*home* takes its state, *variables* are MinIO's own; with *certificates* it speaks TLS: a folder with
        ``public.crt``, ``private.key`` and the authority's ``ca.pem``.
        """
        self._port = free_port()
        scheme = "https" if certificates else "http"
        super().__init__(f"{scheme}://127.0.0.1:{self._port}", f"root{secrets.token_hex(4)}", secrets.token_hex(16))
        self._home = home
        self._certificates = certificates
        self._variables = variables or {}
        self.region = self._variables.get("MINIO_REGION", "us-east-1")
        self.authority = str(certificates / "ca.pem") if certificates else None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it serves."""
        program = str(build() / "minio")
        self._home.mkdir(parents=True, exist_ok=True)
        with (self._home / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []),
                    *(program, "server", "--quiet", "--address", f"127.0.0.1:{self._port}"),
                    *("--console-address", f"127.0.0.1:{free_port()}"),
                    *(["--certs-dir", str(self._certificates)] if self._certificates else []),
                    str(self._home / "state"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={
                    "HOME": str(self._home),
                    "PATH": os.environ["PATH"],
                    "MINIO_ROOT_USER": self.access_key,
                    "MINIO_ROOT_PASSWORD": self.secret_key,
                    "MINIO_BROWSER": "off",
                    "MINIO_UPDATE": "off",
                    **self._variables,
                },
            )
        until_s = time.monotonic() + _START_S
        while not self.serves():
            if self._process.poll() is not None or time.monotonic() > until_s:
                log_end = (self._home / "log").read_text(errors="replace")[-2000:]
                self.kill()
                raise RuntimeError(f"minio does not start:\n{log_end}")
            time.sleep(0.02)

    def stop(self) -> None:
        """Send SIGSTOP: clients get no answer until the server is killed and started."""
        assert self._process
        self._process.send_signal(signal.SIGSTOP)

    def kill(self) -> None:
        """Send SIGKILL and wait until the process has ended."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None


def delete_bucket(client: "Minio", name: str) -> None:
    """Delete a bucket with everything in it, also while pods that are being stopped still write to it."""
    from minio.error import S3Error

    until_s = time.monotonic() + _EMPTY_S
    while True:
        for entry in client.list_objects(bucket_name=name, recursive=True):
            client.remove_object(bucket_name=name, object_name=str(entry.object_name))
        try:
            client.remove_bucket(bucket_name=name)
            return
        except S3Error as problem:
            if problem.code != "BucketNotEmpty" or time.monotonic() > until_s:
                raise
        time.sleep(0.2)


@contextlib.contextmanager
def own(
    home: Path, *, certificates: Path | None = None, variables: dict[str, str] | None = None
) -> Iterator[OwnServer]:
    """A server of our own, until the end of the block."""
    server = OwnServer(home, certificates=certificates, variables=variables)
    server.start()
    try:
        yield server
    finally:
        server.kill()


if __name__ == "__main__":
    print(build())
