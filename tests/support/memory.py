"""Give memory of compiled programs back to the system."""

import ctypes
import gc
import os
from pathlib import Path

import jax

MOST_BYTES = 2 * 10**9
STATM = Path("/proc/self/statm")  # Linux: pages that the process has in memory, second


def release() -> None:
    """Forget compiled programs where this process holds more than `MOST_BYTES`."""
    if STATM.exists() and int(STATM.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") > MOST_BYTES:
        jax.clear_caches()
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc keeps what is freed
        if trim is not None:
            trim(0)
