"""One command at a time puts a model at a place: a folder of this machine, or a prefix in S3. Others wait for it.

Touches: the folder above the place and a lock there; the store of the prefix and a lease in it; temporary files, the
clock. Where a command may write neither a lock nor a lease, it can put no model there either.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chunk_job.model_manifest import ModelManifest, is_url
from chunk_job.models import copying
from chunk_job.models.exclusive import alone
from chunk_job.models.verification import read_manifest
from chunk_job.store.base import Store, StoreDenied, StoreUnavailable
from controller.cli.model_places import store_of, target
from controller.cli.terminal import print_message
from controller.errors import EnvironmentProblem
from controller.leadership import store_lease
from controller.leadership.store_lease import StoreLeases
from controller.runs.transcript_files import PrivateFolder, disk_errors

_SURELY_ANOTHER = 2
"""Polls after which another command has the lease, or had it when it was killed."""


@dataclass(frozen=True, kw_only=True)
class Writer:
    """The one command that may put a model at a place."""

    place: str
    work: Path
    """For what is not finished. Created when it is needed, and removed at the end."""
    check: Callable[[], object]
    """Raises :class:`EnvironmentProblem` if another command may be putting a model there by now."""

    def put(self, folder: Path, manifest: ModelManifest) -> None:
        """Copy the model in *folder* to the place, instead of the one that is there."""
        if is_url(self.place):
            copying.put(folder, manifest, store_of(self.place), self.check)
        else:
            copying.to_folder(folder, manifest, copying.from_folder(folder), target(self.place), self.work)

    @contextmanager
    def being_made(self) -> Iterator[Path]:
        """A context with the path of a new folder for a model. What was written to it is put at the place at the end.

        Raises :class:`EnvironmentProblem` if it cannot be written.
        """
        try:
            self.work.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EnvironmentProblem(f"{self.work.parent} cannot be written: {error.strerror}") from error
        try:
            folder = self.work / "model"
            yield folder
            manifest = read_manifest(folder)
            assert manifest is not None, "whoever makes a model writes its manifest"
            if is_url(self.place):
                copying.put(folder, manifest, store_of(self.place), self.check)
            else:
                copying.replace(target(self.place), folder)
        except OSError as error:
            raise EnvironmentProblem(f"{self.place} cannot be written: {error.strerror or error}") from error


@contextmanager
def writer(place: str) -> Iterator[Writer]:
    """A context in which no other command puts a model at *place*. It begins when no other one does.

    What a killed command has left is removed. In S3 that takes a second, and 20 seconds more after a kill.
    """

    def waits() -> None:
        print_message(f"another command puts a model at {place}: waiting for it")

    if not is_url(place):
        with alone(target(place), waits) as work:
            yield Writer(place=place, work=work, check=lambda: None)
        return
    with disk_errors("a model"):
        private = PrivateFolder()
    with leased(store_of(place), waits) as check:
        yield Writer(place=place, work=private.path, check=check)


@contextmanager
def leased(store: Store, waits: Callable[[], object]) -> Iterator[Callable[[], object]]:
    """A context with a lease in the *store* of a model; its value: a check that no other command may have it by now.

    *waits* is called once if another command has it. Raises the store's failures.
    """
    # It has the form of the lease of a run, here of one that has no other objects.
    name = hashlib.sha256(store.url.encode()).hexdigest()[:16]
    process = secrets.token_hex(8)
    leases = StoreLeases(store, lambda _: process)

    def check() -> None:
        if denied:
            raise denied
        try:
            leases.check(name)
        except StoreUnavailable as error:
            raise EnvironmentProblem(
                f"{store.url}: this command was stopped or without the store for too long, and another one may put a"
                " model there by now",
                f"stenofleet model verify {store.url} says whether the model there is complete; if not, run this again",
            ) from error

    try:
        denied = _lead(leases, name, waits)
        yield check
    finally:
        leases.close()


def _lead(leases: StoreLeases, name: str, waits: Callable[[], object]) -> StoreDenied | None:
    """Wait for the lease. Returns the failure if this identity may write none: it may still verify what is there."""
    try:
        for poll in itertools.count():
            if leases.try_acquire_or_renew(name, time.time_ns() // 1_000_000) == "leading":
                break
            # Without another command it leads after one pause.
            if poll == _SURELY_ANOTHER:
                waits()
            time.sleep(store_lease.POLL_MS / 1000)
    except StoreDenied as error:
        return error
    return None
