"""Named places where a test or the demo may stop a process for real.

Touches: one environment variable. ``STENOFLEET_CRASH_POINT=NAME=ACTION``, with ACTION one of ``kill`` (SIGKILL to
this process), ``abort`` (a native abort, as CTranslate2 does it), or ``hold:FILE`` (write FILE and stand still, so
that a test kills the process at exactly this place; at most two minutes). Unset, a crash point costs one dictionary
look-up.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

VARIABLE = "STENOFLEET_CRASH_POINT"
_HOLD_S = 120
_POLL_S = 0.05


def reach(name: str) -> None:
    """Say that the process has come to *name*; returns unless the environment asks for a crash right here."""
    wanted, _, action = os.environ.get(VARIABLE, "").partition("=")
    if wanted != name:
        return
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "abort":
        os.abort()
    elif action == "exit":
        os._exit(0)
    elif action.startswith("hold:"):
        rendezvous = Path(action.removeprefix("hold:"))
        rendezvous.touch()
        end_s = time.monotonic() + _HOLD_S
        while rendezvous.exists() and time.monotonic() < end_s:
            time.sleep(_POLL_S)
    else:
        raise ValueError(f"{VARIABLE}: no action {action!r}: use kill, abort, exit or hold:FILE")
