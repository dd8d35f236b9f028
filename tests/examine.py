"""Inspect files as the intake does, in a separate process, so that memory is measured for these files alone.

python -m tests.examine FILE…    one JSON line for each file
"""

import json
import os
import re
import resource
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chunk_job.text import printable
from controller.domain.plan import PlanOptions
from controller.errors import StenofleetError
from controller.intake import sandbox, source
from tests.dry_runs import plan_only

PEAK_MB = 900
"""The limit for a tool of ffmpeg: 512 MB at once, and the program itself."""
OWN_MB = 250
"""The limit for the intake itself, with numpy and two blocks of sound."""
_NOISE = re.compile(r"0x[0-9a-f]{6,}|Traceback|\bfile:")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The outcome of one file: refused (*message* is the reason), planned (*duration_ms*), or a *bug* of ours.

    *peak_mb* is the largest memory of any tool so far, *own_mb* that of the intake.
    """

    name: str
    message: str = ""
    advice: str = ""
    duration_ms: int | None = None
    bug: str = ""
    peak_mb: int
    own_mb: int

    def faults(self, path: Path) -> Iterator[str]:
        """Every violation of the limits that hold for any file."""
        if self.bug:
            yield f"an exception of ours: {self.bug}"
        if self.peak_mb > PEAK_MB or self.own_mb > OWN_MB:
            yield f"memory: {self.peak_mb} MB in a tool, {self.own_mb} MB in the intake"
        if (self.duration_ms or 0) > 1000 * (sandbox.longest_s(path.stat().st_size) + 60):
            yield f"{self.duration_ms} ms from {path.stat().st_size} bytes"
        if self.duration_ms is None and not self.message.startswith(f"{path}: "):
            yield f"the file is not named: {self.message}"
        if self.duration_ms is None and not self.advice:
            yield f"there is no advice: {self.message}"
        text = self.message.removeprefix(f"{path}: ")
        if _NOISE.search(text) or str(path) in text or len(text) > 600 or printable(text) != text:
            yield f"noise: {text!r}"
        if "SIGKILL" in text:
            yield f"only the limit on CPU time has stopped it: {text}"


def examine(paths: Sequence[Path]) -> list[Finding]:
    """Findings on *paths*, in their order."""
    command = [sys.executable, "-P", "-m", "tests.examine", *map(str, paths)]
    root = Path(__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, cwd=root, env=environment)
    return [Finding(**json.loads(line)) for line in done.stdout.splitlines()]


def main() -> None:
    """Examine the files of the command line."""
    for name in sys.argv[1:]:
        print(json.dumps(asdict(_finding(Path(name)))), flush=True)


def _finding(path: Path) -> Finding:
    found: dict[str, str | int] = {}
    try:
        # The shortest chunks that are allowed: the planner then sees every hour that a header claims.
        options = PlanOptions(threshold_ms=0, chunk_ms=20_000)
        found["duration_ms"] = plan_only(source.inspect(path), options, audio_track=None).duration_ms
    except StenofleetError as error:
        found |= {"message": error.summary, "advice": error.advice}
    except Exception:  # noqa: BLE001 - any exception here is a bug that the test must find
        found["bug"] = traceback.format_exc()
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    return Finding(name=path.name, peak_mb=peak_mb, own_mb=_own_mb(), **found)  # type: ignore[arg-type]


def _own_mb() -> int:
    """The peak memory of this process. ``getrusage`` on Linux also counts the process that started it."""
    if not sys.platform.startswith("linux"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (peak_kb,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(peak_kb) >> 10


if __name__ == "__main__":
    main()
