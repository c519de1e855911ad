"""What becomes of memory that the process frees."""

import ctypes
import os
import platform

_ARENA_MAX, _MMAP_MAX, _TRIM_THRESHOLD = -8, -4, -1  # glibc's malloc.h
SETTINGS = ("GLIBC_TUNABLES", "MALLOC_")
"""How the names of the environment's settings of malloc begin."""


def keep_freed_memory() -> bool:
    """Keeps what is freed for the next update, instead of giving it back to the system.

    XLA allocates the temporaries of each update on a CPU anew. glibc hands blocks of many megabytes
    back as soon as they are freed, so that every update would wait for fresh pages. With one arena,
    without mmap and without trimming they stay; the process grows, and small calls pay for it: a
    single step of an LSTM of 64 features took 42 us instead of 15. That holds for the whole
    process, and only if it is called before jax starts its threads, which would have arenas of
    their own. Where the environment has settings of malloc, or there is another C library, all
    stays as it is.

    Returns:
      Whether it is so now.

    Example:
      >>> kept = keep_freed_memory()
    """
    if platform.libc_ver()[0] != "glibc" or any(map(_is_setting, os.environ)):
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((_ARENA_MAX, 1), (_MMAP_MAX, 0), (_TRIM_THRESHOLD, 2**31 - 1))
    return all(mallopt(name, value) for name, value in settings)


def _is_setting(name: str) -> bool:
    return name.startswith(SETTINGS)
