"""What this machine has, fact by fact, for `rnnlab doctor`."""

import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from rnnlab.cache import user_cache
from rnnlab.cli.tables import size

CORE = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "chex", "absl-py", "numpy", "rich")
EXTRAS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "data": ("downloads, workers that read batches, MAT files", ("grain", "pooch", "scipy")),
    "text": ("sentencepiece tokenizers", ("sentencepiece",)),
    "metrics": ("BLEU and word error rate", ("jiwer", "sacrebleu")),
    "audio": ("reading sound files", ("soundfile",)),
    "plot": ("pictures", ("matplotlib",)),
    "tensorboard": ("--tensorboard", ("tensorboardX",)),
    "export": ("weights as safetensors and flatbuffers", ("flatbuffers", "safetensors")),
    "sweep": ("rnnlab sweep --method=optuna", ("optuna",)),
    "cuda12": ("NVIDIA GPUs, CUDA 12", ("jax-cuda12-plugin",)),
    "cuda13": ("NVIDIA GPUs, CUDA 13", ("jax-cuda13-plugin",)),
    "tpu": ("TPUs", ("libtpu",)),
    "k8s": ("starting jax.distributed from Kubernetes", ("kubernetes",)),
}
"""Extra -> what it is for, and the packages that tell whether it is installed."""

CLUSTERS: Mapping[str, tuple[str, ...]] = {
    "named by hand": ("JAX_COORDINATOR_ADDRESS",),
    "Slurm": (
        *("SLURM_JOB_ID", "SLURM_STEP_NODELIST"),
        *("SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"),
    ),
    "Open MPI": ("OMPI_MCA_orte_hnp_uri",),
    "Kubernetes": ("KUBERNETES_SERVICE_HOST",),
    "TPU pod": ("TPU_WORKER_HOSTNAMES",),
    "TPU pod, by addresses": ("TPU_PROCESS_ADDRESSES",),
}
"""Environment -> the variables by which `jax.distributed.initialize()` knows it, all of them."""

CLUSTER_PREFIXES = ("SLURM_", "OMPI_", "PMI_", "TPU_", "KUBERNETES_", "JAX_COORDINATOR")
TORCH_VARIABLES = ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK")
SETTINGS_PREFIXES = ("JAX_", "XLA_", "RNNLAB_")
SETTINGS = ("LIBTPU_INIT_ARGS", "CUDA_VISIBLE_DEVICES", "XDG_CACHE_HOME")

ASK_JAX = """
import json, jax
devices = [f"{d.id}: {d.device_kind}" for d in jax.local_devices()]
print(json.dumps({"backend": jax.default_backend(), "devices": devices}))
"""
CATCH_SIGTERM = """
import signal, time
came = []
signal.signal(signal.SIGTERM, lambda number, frame: came.append(number))
print("ready", flush=True)
for _ in range(500):
    time.sleep(0.01)
    if came:
        print("caught", flush=True)
        break
"""


def start_jax() -> subprocess.Popen:
    """Asks jax for its devices in a process of its own: that may take long, hang or crash."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", ASK_JAX], stdout=pipe, stderr=pipe, text=True)


def finish_jax(process: subprocess.Popen, timeout: float) -> dict[str, Any]:
    """What jax said: its backend and devices, or a problem."""
    try:
        out, err = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {
            "problem": f"jax found no devices in {timeout:g} s. Another process may hold the"
            " accelerator; JAX_PLATFORMS=cpu does without it."
        }
    if process.returncode:
        lines = [line for line in err.splitlines() if line.strip()]
        return {"problem": lines[-1] if lines else f"jax ended with {process.returncode}"}
    return json.loads(out.splitlines()[-1])


def system() -> dict[str, Any]:
    """Python, system, processors, memory."""
    return {
        "python": f"{platform.python_version()} ({sys.executable})",
        "platform": platform.platform(),
        "processors": _processors(),
        "memory": _memory(),
    }


def _processors() -> str:
    count = os.cpu_count()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else count
    quota = _first_line("/sys/fs/cgroup/cpu.max").split()  # of a container: time and period
    if len(quota) == 2 and quota[0].isdecimal():
        return f"{count}, {usable} of them usable, {int(quota[0]) / int(quota[1]):g} by quota"
    return f"{count}, {usable} of them usable"


def _memory() -> str:
    lines = (line.split() for line in _content("/proc/meminfo").splitlines())
    known = {words[0]: 1024 * int(words[1]) for words in lines if len(words) > 1}
    if "MemTotal:" not in known:
        return "unknown"
    limit = _first_line("/sys/fs/cgroup/memory.max")
    total = f"{size(known['MemTotal:'])}, {size(known['MemAvailable:'])} available"
    return f"{total}, limited to {size(int(limit))}" if limit.isdecimal() else total


def _content(path: str) -> str:
    try:
        return pathlib.Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""


def _first_line(path: str) -> str:
    return _content(path).partition("\n")[0]


def version(package: str) -> str | None:
    """The version that is installed, None where none is."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def extras() -> dict[str, str]:
    """Extra -> versions, or what it is for and how to install it."""
    found = {}
    for name, (purpose, packages) in EXTRAS.items():
        versions = {package: version(package) for package in packages}
        if all(versions.values()):
            found[name] = ", ".join(f"{package} {versions[package]}" for package in packages)
        else:
            found[name] = f"missing, for {purpose}: pip install 'rnnlab[{name}]'"
    return found


def distributed(environment: Mapping[str, str]) -> dict[str, str]:
    """Which cluster `jax.distributed` would find, and the variables that speak of one."""
    found = [name for name, needed in CLUSTERS.items() if all(n in environment for n in needed)]
    facts = {"found": ", ".join(found) or "none; one process"}
    if "MASTER_ADDR" in environment and not found:
        facts["note"] = "jax reads no MASTER_ADDR; it wants JAX_COORDINATOR_ADDRESS=HOST:PORT"
    return {**facts, **_chosen(environment, CLUSTER_PREFIXES, TORCH_VARIABLES)}


def settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables that change what jax, XLA and rnnlab do."""
    return _chosen(environment, SETTINGS_PREFIXES, SETTINGS)


def _chosen(
    environment: Mapping[str, str], prefixes: tuple[str, ...], names: tuple[str, ...]
) -> dict[str, str]:
    return {
        name: value
        for name, value in sorted(environment.items())
        if name.startswith(prefixes) or name in names
    }


def disks(data_dir: str | None) -> dict[str, str]:
    """Free space where runs, data and caches go, and the size of the cache of programs."""
    nowhere = "none: there is no home directory"
    try:
        cache = user_cache()
    except RuntimeError:
        cache = None
    data = data_dir or os.environ.get("RNNLAB_DATA") or cache
    given = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    programs = pathlib.Path(given) if given else cache and cache / "compiled"
    return {
        "working directory": _free(pathlib.Path.cwd()),
        "data": _free(pathlib.Path(data).expanduser()) if data else nowhere,
        "user cache": _free(cache) if cache else nowhere,
        "compiled programs": _used(programs) if programs else nowhere,
    }


def _free(path: pathlib.Path) -> str:
    """Free space of the disk that a path is on, or would be on."""
    wanted = path.absolute()
    existing = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    there = "" if existing == wanted else ", to be made"
    writable = "" if os.access(existing, os.W_OK) else ", read-only"
    return f"{size(shutil.disk_usage(existing).free)} free, {path}{there}{writable}"


def _used(path: pathlib.Path) -> str:
    sizes = [file.stat().st_size for file in path.rglob("*") if file.is_file()]
    return f"{size(sum(sizes))} in {len(sizes)} files, {path}"


def sigterm() -> dict[str, str]:
    """Whether SIGTERM, by which a cluster asks a run to save and stop, gets through."""
    inherited = signal.getsignal(signal.SIGTERM)
    words = {
        signal.SIG_DFL: "the default",
        signal.SIG_IGN: "ignored by the parent; a run handles it all the same",
        None: "handled outside Python",
    }
    facts = {"inherited": words.get(inherited, "handled")}
    if signal.SIGTERM in signal.pthread_sigmask(signal.SIG_BLOCK, ()):
        facts["inherited"] += ", and blocked: no run here would hear of it"
    if os.getpid() == 1:
        facts["process 1"] = "yes: only what handles SIGTERM, as a run does, ends on it"
    facts["self-test"] = "caught" if _child_catches() else "failed"
    return facts


def _child_catches() -> bool:
    """Starts a process that waits for SIGTERM, sends it, and listens."""
    command = [sys.executable, "-I", "-S", "-c", CATCH_SIGTERM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            if child.stdout is None or child.stdout.readline() != "ready\n":
                return False
            child.send_signal(signal.SIGTERM)
            return child.communicate(timeout=10)[0] == "caught\n"
        except subprocess.TimeoutExpired:
            return False
        finally:
            child.kill()
