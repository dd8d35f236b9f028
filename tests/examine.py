"""Files through the eyes of the intake, in a process of its own: what its children took is told for these alone.

python -m tests.examine FILE…    one JSON line a file
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
from controller.intake.cutter import plan_only

PEAK_MB = 768
"""More than any tool of ffmpeg takes for any of our files: 512 MB at once, and itself."""
OWN_MB = 250
"""The intake itself, with numpy and two blocks of sound."""
_NOISE = re.compile(r"0x[0-9a-f]{6,}|Traceback|\bfile:")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of one file: refused (*told* is the message), planned (*duration_ms*), or a *bug* of ours.

    *peak_mb* is the most that any tool has held in memory so far, *own_mb* the most that the intake has.
    """

    name: str
    told: str = ""
    advice: str = ""
    duration_ms: int | None = None
    bug: str = ""
    peak_mb: int
    own_mb: int

    def faults(self, path: Path) -> Iterator[str]:
        """Everything that must never be, whatever is in the file."""
        if self.bug:
            yield f"an exception of ours: {self.bug}"
        if self.peak_mb > PEAK_MB or self.own_mb > OWN_MB:
            yield f"memory: {self.peak_mb} MB in a tool, {self.own_mb} MB in the intake"
        if (self.duration_ms or 0) > 1000 * (sandbox.longest_s(path.stat().st_size) + 60):
            yield f"{self.duration_ms} ms from {path.stat().st_size} bytes"
        if self.duration_ms is None and not self.told.startswith(f"{path}: "):
            yield f"the file is not named: {self.told}"
        if self.duration_ms is None and not self.advice:
            yield f"what to do is not said: {self.told}"
        said = self.told.removeprefix(f"{path}: ")
        if _NOISE.search(said) or str(path) in said or len(said) > 600 or printable(said) != said:
            yield f"noise: {said!r}"
        if "SIGKILL" in said:
            yield f"no limit but that on CPU time has stopped it: {said}"


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
        # The finest cuts that can be asked for: every hour-long claim meets the planner.
        options = PlanOptions(threshold_ms=0, chunk_ms=20_000)
        found["duration_ms"] = plan_only(source.inspect(path), options, audio_track=None).duration_ms
    except StenofleetError as error:
        found |= {"told": error.summary, "advice": error.advice}
    except Exception:  # noqa: BLE001 - whatever it is, it is what we look for
        found["bug"] = traceback.format_exc()
    peak_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10
    return Finding(name=path.name, peak_mb=peak_mb, own_mb=_own_mb(), **found)  # type: ignore[arg-type]


def _own_mb() -> int:
    """The most that this program has held. The system's own account begins with the process that started it."""
    if not sys.platform.startswith("linux"):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 20
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    (peak_kb,) = re.findall(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
    return int(peak_kb) >> 10


if __name__ == "__main__":
    main()
