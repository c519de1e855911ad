"""The files of a run directory, beside its checkpoints."""

import contextlib
import errno
import functools
import hashlib
import importlib.metadata
import json
import os
import pathlib
import platform
import subprocess
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import jax

from rnnlab.names import check_directory, check_file_name, check_line
from rnnlab.training.processes import is_first

FREE_FLAGS = frozenset(
    {
        *("workdir", "steps", "log_every", "eval_every", "save_every", "keep", "data_dir", "mesh"),
        *("profile", "tensorboard"),
    }
)
"""Flags that may change when a run is resumed.

None changes what a step computes, but for an optimizer that reads the score (`nt_asgd`): to that,
`eval_every` says when there is one.
"""

RUN_FILES = frozenset(
    {
        *("flags.txt", "run.json", "metrics.jsonl", "timing.jsonl", "loss.png", "lock"),
        *("checkpoints", "bad_checkpoints", "replaced_checkpoints"),
        *("eval", "profile", "tensorboard"),
    }
)
"""What `fit` itself writes into a run directory."""


class RunDirectory:
    """One run's files: `flags.txt`, `run.json`, `metrics.jsonl`, `timing.jsonl`, assets, pictures.

    `metrics.jsonl` holds deterministic values only, flushed line by line, so that two runs can be
    compared byte by byte; durations go to `timing.jsonl`. Of several processes only the first
    writes; the others' calls do nothing.
    """

    def __init__(self, path: str | os.PathLike[str]):
        check_directory("workdir", path)
        self.path = pathlib.Path(path)
        self._failed: set[str] = set()  # files that could not be written, and said so

    @property
    def checkpoints(self) -> pathlib.Path:
        return self.path / "checkpoints"

    def write(self, name: str, content: str) -> None:
        """Writes a whole file; a reader sees the old one or the new one."""
        if not is_first():
            return
        self.path.mkdir(parents=True, exist_ok=True)
        scratch = self.path / (name + ".tmp")
        try:
            scratch.write_text(content, encoding="utf-8")
            os.replace(scratch, self.path / name)
        except OSError:
            scratch.unlink(missing_ok=True)
            raise

    def read(self, name: str) -> str:
        """A whole file; a FileNotFoundError says what a run directory is."""
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{self.path}: expected the directory of a run, with {name}, and found none. Train"
                f" first, or name another with --workdir."
            ) from error

    def write_flags(self, flags: Mapping[str, Any]) -> None:
        """`flags.txt`: the run again is `--flagfile=RUN/flags.txt`."""
        for name, value in flags.items():
            check_line("flags", f"--{name}={value}")
        self.write("flags.txt", "".join(f"--{name}={flags[name]}\n" for name in sorted(flags)))

    def read_flags(self) -> dict[str, str]:
        """What `write_flags` wrote."""
        flags = {}
        for number, line in enumerate(self.read("flags.txt").splitlines(), start=1):
            name, separator, value = line.partition("=")
            if not name.startswith("--") or not separator:
                raise ValueError(
                    f"{self.path / 'flags.txt'}:{number}: expected --name=value, got {line!r}."
                )
            flags[name.removeprefix("--")] = value
        return flags

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        """`run.json`: what the run is and how it ended."""
        self.write("run.json", json.dumps(summary, indent=1, sort_keys=True) + "\n")

    def read_summary(self) -> dict[str, Any]:
        """What `write_summary` wrote."""
        try:
            summary = json.loads(self.read("run.json"))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{self.path / 'run.json'}: expected JSON ({error}).") from error
        if not isinstance(summary, dict):
            raise ValueError(f"{self.path / 'run.json'}: expected a JSON object, got {summary!r}.")
        return summary

    def append(self, name: str, record: Mapping[str, Any]) -> None:
        """Adds a line to a `.jsonl` file, whole or not at all; a failure is one warning a file."""
        if not is_first():
            return
        try:
            with open(self.path / name, "ab", buffering=0) as file:
                size = file.seek(0, os.SEEK_END)
                line = (json.dumps(record) + "\n").encode()
                if file.write(line) < len(line):  # a full disk takes a part of it
                    file.truncate(size)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            if name not in self._failed:
                warnings.warn(f"{name} is not complete: {error}", stacklevel=2)
            self._failed.add(name)

    def write_artifacts(self, step: int, split: str, artifacts: Mapping[str, Any]) -> None:
        """Writes what an evaluation made under `eval/STEP/SPLIT/`; a failure is one warning."""
        if not is_first():
            return
        check_file_name("eval_batches", split)
        folder = self.path / "eval" / str(int(step)) / split
        for name, content in artifacts.items():
            check_file_name("artifacts", name)
            attempt(f"artifact {name}", functools.partial(_write_artifact, folder / name, content))

    def metrics_size(self) -> int:
        """Bytes of `metrics.jsonl`; a checkpoint remembers them."""
        path = self.path / "metrics.jsonl"
        return path.stat().st_size if path.exists() else 0

    def truncate_metrics(self, size: int) -> None:
        """Forgets what was logged after a checkpoint, for it will be logged again."""
        if not is_first():
            return
        if self.metrics_size() < size:
            raise ValueError(
                f"{self.path / 'metrics.jsonl'}: expected the {size} bytes that the checkpoint"
                f" was saved with, got {self.metrics_size()}. Restore the file, or start again with"
                f" another --workdir."
            )
        with open(self.path / "metrics.jsonl", "ab") as file:
            file.truncate(size)

    def read_metrics(self) -> list[dict[str, Any]]:
        """Every line of `metrics.jsonl`."""
        return [json.loads(line) for line in self.read("metrics.jsonl").splitlines()]


def _write_artifact(path: pathlib.Path, content: Any) -> None:
    """Text, bytes, or a function that draws a figure."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if callable(content):
        figure: Any = content()
        figure.savefig(path, dpi=150)
    elif isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content, encoding="utf-8")


def identity(
    flags: Mapping[str, Any], data: Mapping[str, str], assets: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """What makes two runs the same run; saved with every checkpoint and compared on resume."""
    return {
        "flags": {name: str(value) for name, value in flags.items()},
        "data": dict(data),
        "assets": {
            name: hashlib.sha256(text.encode()).hexdigest() for name, text in assets.items()
        },
    }


def check_identity(run: RunDirectory, saved: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Refuses to go on with other flags, data or assets than a run was made with."""
    differences = []
    prefixes = {"flags": "--", "data": "data ", "assets": "asset "}
    for kind in given:
        for name in sorted(saved[kind].keys() | given[kind].keys()):
            before, now = saved[kind].get(name, "(unset)"), given[kind].get(name, "(unset)")
            if before != now and not (kind == "flags" and name in FREE_FLAGS):
                differences.append(f"{prefixes[kind]}{name}: {before} there, {now} here")
    if differences:
        raise ValueError(
            f"{run.path}: cannot go on with this run, for these differ: {'; '.join(differences)}."
            f" Give the flags of {run.path / 'flags.txt'}, or name another --workdir."
        )


def environment() -> dict[str, Any]:
    """Versions, commit and devices, for `run.json`."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "python": platform.python_version(),
        "packages": {name: importlib.metadata.version(name) for name in packages},
        "commit": _git_commit(),
        "device": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "platform": platform.platform(),
    }


def _git_commit() -> str | None:
    """The commit the package is run from, None outside a checkout."""
    command = ["git", "-C", str(pathlib.Path(__file__).parent), "rev-parse", "HEAD"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()
    return None


def attempt(what: str, action: Callable[[], None]) -> None:
    """Runs what a run can do without, such as a plot; a failure is one warning."""
    try:
        action()
    except Exception as error:  # whatever it is, it must not cost the run
        warnings.warn(f"{what} failed: {type(error).__name__}: {error}", stacklevel=2)
