"""A cache of compiled programs that outlives the process, so that a restart is quick."""

import hashlib
import pathlib
import platform
import warnings

import jax

from rnnlab.cache import user_cache


def enable_compilation_cache() -> pathlib.Path | None:
    """Keeps compiled programs in the user's cache, unless jax was told of another place.

    A program compiled for one processor may not run on another, and a home directory may be shared
    by several, so each kind of processor and each version of jax has a folder of its own. It holds
    machine code: only its owner may write there. `JAX_COMPILATION_CACHE_DIR` names another place,
    `JAX_ENABLE_COMPILATION_CACHE=false` does without.

    Returns:
      The folder; None, after a warning, where there can be none.
    """
    chosen = getattr(jax.config, "jax_compilation_cache_dir")  # noqa: B009, made at run time
    if chosen:
        return pathlib.Path(chosen)
    kind = hashlib.sha256(f"{jax.__version__} {_processor()}".encode()).hexdigest()[:16]
    try:
        folder = user_cache() / "compiled" / kind
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)  # ours, or an error
    except (OSError, RuntimeError) as error:  # a read-only home; no home at all
        warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    return folder


def _processor() -> str:
    """What tells processors apart: the features that a compiler may use."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    kinds = {line for line in lines if line.startswith(("model name", "flags", "Features"))}
    return " ".join(sorted(kinds)) or f"{platform.machine()} {platform.processor()}"
