"""Allocates the memory of the first GPU, except for some, until its standard input is closed.

    python -m bench.hold_gpu MIB_LEFT

Uses the driver's library alone. Prints ``held`` when the memory is allocated.
"""

import ctypes
import sys


def hold(left: int) -> None:
    """Allocate all but *left* bytes. Raises OSError without a driver, RuntimeError if it refuses a call."""
    driver = ctypes.CDLL("libcuda.so.1")

    def call(name: str, *arguments: object) -> None:
        code = getattr(driver, name)(*arguments)
        if code:
            raise RuntimeError(f"{name} failed with {code}")

    device, context = ctypes.c_int(), ctypes.c_void_p()
    free, total, memory = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_uint64()
    call("cuInit", 0)
    call("cuDeviceGet", ctypes.byref(device), 0)
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    call("cuMemGetInfo_v2", ctypes.byref(free), ctypes.byref(total))
    if free.value > left:
        call("cuMemAlloc_v2", ctypes.byref(memory), ctypes.c_size_t(free.value - left))
    print("held", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    hold(int(sys.argv[1]) << 20)
