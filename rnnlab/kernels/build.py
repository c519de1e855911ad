"""Compiles the CPU kernel for this machine, and loads it.

    python -m rnnlab.kernels.build        # or: make native

It needs a C++ compiler (`CXX`, else g++ or clang++) and writes one shared library into the user's
cache. Its name is a digest of the sources, the version of jaxlib, the flags and the processor, so a
library made of other ones is never loaded. rnnlab works without it.
"""

import concurrent.futures
import ctypes
import functools
import hashlib
import importlib.metadata
import os
import pathlib
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile

import jax

from rnnlab.cache import user_cache

SOURCES = pathlib.Path(__file__).parent / "cc"
FLAGS = ("-O3", "-march=native", "-std=c++17", "-fPIC", "-pthread", "-Wall")
LINK_FLAGS = ("-shared", "-pthread")
TARGETS = (
    "rnnlab_forward",
    "rnnlab_backward",
    "rnnlab_linear_forward",
    "rnnlab_linear_backward",
)
HOW = "Build it with python -m rnnlab.kernels.build"


def compiler() -> list[str] | None:
    """The command of the C++ compiler: `CXX`, else the first of g++ and clang++ that is there."""
    chosen = os.environ.get("CXX")
    commands = [shlex.split(chosen)] if chosen else [["g++"], ["clang++"]]
    return next((command for command in commands if shutil.which(command[0])), None)


def library_path() -> pathlib.Path:
    """Where the library of these sources for this processor lies, once it is built."""
    digest = hashlib.sha256()
    for part in (importlib.metadata.version("jaxlib"), *FLAGS, *LINK_FLAGS, _processor()):
        digest.update(part.encode() + b"\0")
    for source in sorted(SOURCES.iterdir()):
        digest.update(source.name.encode() + b"\0" + source.read_bytes() + b"\0")
    return user_cache() / "native" / f"recurrence-{digest.hexdigest()[:20]}.so"


def _processor() -> str:
    """What `-march=native` depends on."""
    info = pathlib.Path("/proc/cpuinfo")
    text = info.read_text() if info.exists() else ""
    features = re.search(r"^(flags|Features)\s*:.*$", text, re.MULTILINE)
    return f"{platform.machine()} {features[0] if features else platform.processor()}"


def build() -> pathlib.Path:
    """Compiles the library, unless it is there.

    Returns:
      Its path.

    Raises:
      RuntimeError: there is no compiler, or it fails; with what it printed.
    """
    load.cache_clear()
    path = library_path()
    if path.exists():
        return path
    command = compiler()
    if command is None:
        raise RuntimeError(
            f"kernels: expected a C++ compiler, found none of"
            f" {os.environ.get('CXX') or 'g++ and clang++'} on the PATH. Install one, or name it in"
            f" CXX; without it Deferred() runs the same cells."
        )
    try:
        _compile(command, path)
    except OSError as error:
        raise RuntimeError(
            f"kernels: expected to write {path}, got: {error}. Name another folder in"
            f" XDG_CACHE_HOME."
        ) from error
    return path


def _compile(command: list[str], path: pathlib.Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as directory:
        sources = sorted(SOURCES.glob("*.cc"))
        objects = [f"{directory}/{source.stem}.o" for source in sources]
        compile_one = [*FLAGS, "-isystem", jax.ffi.include_dir(), "-c"]
        arguments = [
            [*compile_one, str(source), "-o", made]
            for source, made in zip(sources, objects, strict=True)
        ]
        with concurrent.futures.ThreadPoolExecutor() as pool:
            list(pool.map(functools.partial(_run, command), arguments))
        made = pathlib.Path(directory) / path.name
        _run(command, [*LINK_FLAGS, *objects, "-o", str(made)])
        made.replace(path)  # whole or not at all, also if two processes build


def _run(command: list[str], arguments: list[str]) -> None:
    result = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(
            f"kernels: {' '.join(command)} failed with exit code {result.returncode}:\n"
            f"{result.stderr}"
        )


@functools.cache
def load() -> str | None:
    """Loads the library and registers its calls with jax, once.

    Returns:
      None, or why it cannot be used, as a sentence without a full stop.
    """
    try:
        path = library_path()
        if not path.exists():
            return f"its library is not built for this machine. {HOW}"
    except (OSError, RuntimeError, ImportError) as error:  # no home, no right to look, no sources
        return f"its library cannot be looked for ({error})"
    try:
        library = ctypes.cdll.LoadLibrary(str(path))
    except OSError as error:
        return f"its library does not load ({error}). Remove {path} and build it again"
    for name in TARGETS:
        jax.ffi.register_ffi_target(name, jax.ffi.pycapsule(getattr(library, name)), platform="cpu")
    return None


if __name__ == "__main__":
    try:
        print(build())
    except RuntimeError as problem:
        sys.exit(str(problem))
