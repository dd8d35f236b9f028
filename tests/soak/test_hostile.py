"""Endless damaged files for ``make soak``: for a given time, from a reported seed. Files that fail are kept."""

import os
import secrets
import time
from itertools import islice
from pathlib import Path

import pytest

from tests import hostile
from tests.examine import examine

pytestmark = pytest.mark.soak

BATCH = 50
SECONDS = float(os.environ.get("STENOFLEET_SOAK_S") or "600")
SEED = int(os.environ.get("STENOFLEET_SOAK_SEED") or secrets.randbelow(1 << 32))


@pytest.mark.timeout(SECONDS + 600)
def test_no_broken_file_gets_out_of_bounds(tmp_path: Path) -> None:
    """Every batch is examined by a separate process; a file that fails stays at the path in the message."""
    print(f"seed {SEED}, {SECONDS:.0f} s")
    files = hostile.broken(hostile.write_honest(tmp_path), SEED)
    end_s, examined, faults = time.monotonic() + SECONDS, 0, []
    while time.monotonic() < end_s:
        paths = []
        for name, data in islice(files, BATCH):
            paths.append(tmp_path / name)
            paths[-1].write_bytes(data)
        for path, finding in zip(paths, examine(paths), strict=True):
            found = list(finding.faults(path))
            faults += [f"{path}: {fault}" for fault in found]
            if not found:
                path.unlink()
        examined += len(paths)
    print(f"{examined} files, {len(faults)} faults")
    assert not faults, f"seed {SEED} (STENOFLEET_SOAK_SEED={SEED}):\n" + "\n".join(faults)
