"""Named points in the code where a test or the demo can stop a process.

Touches: one environment variable, ``STENOFLEET_CRASH_POINT=NAME=ACTION``. ACTION is ``kill`` (SIGKILL to this process),
``abort`` (a native abort, like that of CTranslate2), ``exit`` (exit code 0), or ``hold:FILE`` (create FILE and wait up
to two minutes until it is removed, so that a test can kill the process at this point). If the variable is not set, a
crash point costs one dictionary access.
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
    """Mark the crash point *name*. Returns at once unless the environment variable requests an action here."""
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
