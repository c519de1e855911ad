"""The checkpoints of a run: list them, verify that they are whole, export one as safetensors."""

import argparse
import json
import pathlib
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rnnlab.cli import files
from rnnlab.cli.tables import print_table, size, text

if TYPE_CHECKING:  # it brings jax and orbax
    from rnnlab.training.checkpoint import Checkpoints

PLACES = ("workdir", "data_dir")  # flags that say nothing about a model that has moved on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for name, action, summary in (
        ("ls", list_steps, "a table of the checkpoints"),
        ("verify", verify, "restore every one and check its digests and values"),
        ("export", export, "write the parameters of one as safetensors"),
    ):
        command = actions.add_parser(name, help=summary, description=summary, allow_abbrev=False)
        command.add_argument("run_directory", metavar="RUN", help="a run directory")
        command.set_defaults(action=action)
        if name == "export":
            command.add_argument("--out", metavar="FILE", required=True, help="NAME.safetensors")
            command.add_argument("--step", default="best", help="best (default), latest, N")
            command.add_argument("--force", action="store_true", help="write over FILE")


def run(arguments: argparse.Namespace) -> int:
    """Does one of the three, with the checkpoints open."""
    from rnnlab.training.checkpoint import Checkpoints

    path = pathlib.Path(arguments.run_directory)
    files.check_run(path)
    with Checkpoints(path / "checkpoints", read_only=True) as saved:
        if not saved.steps():
            raise FileNotFoundError(f"expected a checkpoint in {path / 'checkpoints'}, found none.")
        return arguments.action(arguments, path, saved)


def list_steps(arguments: argparse.Namespace, path: pathlib.Path, saved: "Checkpoints") -> int:
    """Prints a line for each."""
    best, latest = best_step(path, saved), saved.latest()
    rows = []
    for step in saved.steps():
        folder = path / "checkpoints" / str(step)
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(folder.stat().st_mtime))
        count = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        marks = [name for name, marked in (("best", best), ("latest", latest)) if step == marked]
        rows.append((step, ", ".join(marks), size(count), when))
    print_table(("step", "", "size", "saved"), rows)
    return 0


def verify(arguments: argparse.Namespace, path: pathlib.Path, saved: "Checkpoints") -> int:
    """Prints a line for each, and every problem of it."""
    bad = 0
    for step in saved.steps():
        problems = saved.verify(step)
        bad += bool(problems)
        print(f"step {step}: {'bad' if problems else 'good'}")
        for problem in problems:
            print(f"  {text(problem)}")
    print(f"{len(saved.steps())} checkpoints, {bad} bad")
    return 1 if bad else 0


def export(arguments: argparse.Namespace, path: pathlib.Path, saved: "Checkpoints") -> int:
    """Writes parameters, named as in `cells.0.recurrent_kernel`, and what the run is."""
    from rnnlab.training.checkpoint import named_leaves

    out = pathlib.Path(arguments.out)
    if out.exists() and not arguments.force:
        raise FileExistsError(f"expected a new file, got {out}, which exists; --force replaces it.")
    step = choose_step(arguments.step, path, saved)
    try:
        tensors = dict(named_leaves(saved.restore_raw(step)["params"]))
    except Exception as error:  # whatever is wrong with the files
        raise ValueError(f"step {step} cannot be restored ({error})") from error
    flags = {name: flag for name, flag in files.read_flags(path).items() if name not in PLACES}
    metadata = {"step": str(step), "flags": json.dumps(flags, sort_keys=True)}
    files.write(out, serialise(tensors, metadata))
    count = sum(tensor.size for tensor in tensors.values())
    print(f"wrote {out}: step {step}, {len(tensors)} arrays, {count:,} parameters")
    return 0


def serialise(tensors: Mapping[str, Any], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file."""
    try:
        from safetensors.numpy import save  # an optional extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "exporting needs safetensors: pip install 'rnnlab[export]'", name=error.name
        ) from error
    import numpy as np

    whole = {name: np.ascontiguousarray(tensor) for name, tensor in tensors.items()}
    return save(whole, metadata=dict(metadata))


def choose_step(given: str, path: pathlib.Path, saved: "Checkpoints") -> int:
    """The step that `--step` means."""
    if given == "latest":
        return saved.steps()[-1]
    if given == "best":
        return best_step(path, saved)
    if given.isdecimal() and int(given) in saved.steps():
        return int(given)
    known = ", ".join(map(str, saved.steps()))
    raise ValueError(f"--step: expected best, latest or one of {known}, got {given!r}.")


def best_step(path: pathlib.Path, saved: "Checkpoints") -> int:
    """The best step as the run knows it, or its newest where nothing was compared."""
    best = files.read_summary(path).get("best_step")  # a run that has ended
    if best not in saved.steps():
        progress = saved.meta(saved.steps()[-1]).get("progress", {})
        best = progress.get("best_step")
    return best if best in saved.steps() else saved.steps()[-1]
