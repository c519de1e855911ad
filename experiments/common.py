"""What every experiment shares: its flags, and what is made from them."""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from absl import flags

from rnnlab.cells import CELLS
from rnnlab.core.cell import Cell
from rnnlab.strategies import STRATEGIES
from rnnlab.training import FitConfig
from rnnlab.training.run import RunDirectory

UNRECORDED = {"help", "resume", "dry_run"}
"""Flags that say how a command behaves, not what its run is; `flags.txt` leaves them out."""


def define_shared_flags(defaults: Mapping[str, Any]) -> flags.FlagValues:
    """The shared flags with an experiment's defaults; it defines its own in the same object.

    Each experiment has flags of its own, so that several can be imported by one process.

    Args:
      defaults: values for `workdir`, `steps`, `batch_size`, `learning_rate`, `features`, and for
        any other shared flag whose default is to differ.
    """
    values = flags.FlagValues()

    def define(function: Callable, name: str, default: Any, help_text: str, *args, **options):
        default = defaults.get(name, default)
        function(name, default, help_text, *args, flag_values=values, **options)

    def enum(name: str, default: str, known: Iterable[str], help_text: str):
        default = defaults.get(name, default)
        flags.DEFINE_enum(name, default, list(known), help_text, flag_values=values)

    integer, positive = flags.DEFINE_integer, {"lower_bound": 1}
    define(flags.DEFINE_bool, "help", False, "Prints the flags and stops.")
    define(flags.DEFINE_string, "workdir", None, "Run directory.")
    define(integer, "seed", 0, "Of initialisation and of all randomness.")
    define(integer, "steps", None, "Updates.", **positive)
    define(integer, "batch_size", None, "Rows of a batch, over all devices.", **positive)
    define(flags.DEFINE_float, "learning_rate", None, "The highest of the schedule.", 0.0)
    enum("cell", "lstm", CELLS, "Recurrent cell.")
    define(integer, "features", None, "Features of a layer.", **positive)
    define(integer, "layers", 1, "Layers.", **positive)
    enum("strategy", "auto", STRATEGIES, "How a layer runs over time.")
    enum("dtype", "float32", ("float32", "bfloat16"), "Compute dtype; weights stay float32.")
    define(flags.DEFINE_string, "data_dir", None, "Where data sets lie, before $RNNLAB_DATA.")
    define(integer, "log_every", 100, "Steps between lines of the training loss.", **positive)
    define(integer, "eval_every", 500, "Steps between evaluations.", **positive)
    define(integer, "save_every", 500, "Steps between checkpoints.", **positive)
    define(integer, "keep", 2, "Newest checkpoints kept, besides the best.", **positive)
    enum("resume", "auto", ("auto", "never", "must"), "Whether to go on with the run in workdir.")
    define(flags.DEFINE_bool, "dry_run", False, "Builds all, compiles a step, writes nothing.")
    define(flags.DEFINE_string, "mesh", "", "data:N splits batches over N local devices.")
    return values


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Parses a command line; unknown flags and stray arguments end the program.

    Args:
      values: what `define_shared_flags` returned.
      arguments: `sys.argv`, the program's name included.
    """
    values.unparse_flags()  # forget an earlier command line of this process
    try:
        rest = values(list(arguments))[1:]
    except flags.Error as error:
        sys.exit(f"error: {error}. --help lists the flags.")
    if values.help:
        print(values.get_help())
        sys.exit(0)
    if rest:
        stray = " ".join(rest)
        sys.exit(f"error: expected flags only (--name=value), got {stray!r}. --help lists them.")


def parse_with_run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Parses again on top of the flags of the run in `--workdir`, for a mode that looks at it."""
    run = RunDirectory(values.workdir)
    run.read_flags()  # an error of ours where it is no run directory
    program, *given = arguments
    parse(values, [program, f"--flagfile={run.path / 'flags.txt'}", *given])


def run_flags(values: flags.FlagValues, unrecorded: Iterable[str] = ()) -> dict[str, str]:
    """Flag -> value, of the flags that define a run and have a value."""
    names = set(values) - UNRECORDED - set(unrecorded)
    return {name: _text(values[name].value) for name in names if values[name].value is not None}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build_cells(values: flags.FlagValues) -> tuple[Cell, ...]:
    """`--layers` cells of kind `--cell` with `--features`."""
    return (CELLS[values.cell](values.features),) * values.layers


def fit_config(
    values: flags.FlagValues, flags: Mapping[str, str], data: Mapping[str, str]
) -> FitConfig:
    """The flags that `fit` knows, by name, as its configuration."""
    known = {field.name for field in dataclasses.fields(FitConfig)}
    shared: dict[str, Any] = {name: getattr(values, name) for name in known & set(values)}
    return FitConfig(**shared, flags=flags, data=data)
