"""Which compute type a model is used in: what was asked for, in the form that is fastest on the device.

Touches: nothing. The measured reasons are in docs/how-to/cluster.md.
"""

from __future__ import annotations

from collections.abc import Collection


def best_type(wanted: str, device: str, stored: str, supported: Collection[str]) -> str:
    """The compute type for *wanted* on *device* (``cuda`` or ``cpu``).

    *stored*: the type of the model's file, empty if unknown. *supported*: CTranslate2's types of this device. A type
    that is not supported is returned unchanged, so that the caller can report it.
    """
    if wanted == "auto":
        # Chunks never get here: their task names int8. A job that has the whole device takes the more exact type.
        wanted = "int8" if device == "cpu" else "float16" if "float16" in supported else "float32"
    if wanted != "int8" or device != "cuda":
        return wanted
    # CTranslate2's int8 computes everything but the products of 8-bit weights in float32, which a GPU does more slowly
    # than float16. On an H100 a file with int8_float16 is loaded in 0.8 s; one that has to be converted, in 2.5 s.
    halves = ("int8_float16", "int8_bfloat16")
    if stored in halves and stored in supported:
        return stored
    return "int8_float16" if "int8_float16" in supported else wanted
