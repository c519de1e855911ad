"""What every experiment shares: its flags, and what is made from them."""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import optax
from absl import flags

from rnnlab.cells import CELLS
from rnnlab.core.cell import Cell
from rnnlab.names import check_directory, check_line
from rnnlab.strategies import STRATEGIES
from rnnlab.training import FitConfig, keep_freed_memory
from rnnlab.training.compilation import enable_compilation_cache
from rnnlab.training.config import PREEMPTED
from rnnlab.training.optimizers import (
    AVERAGES,
    OPTIMIZERS,
    SCHEDULES,
    make_optimizer,
    make_schedule,
)
from rnnlab.training.processes import join
from rnnlab.training.run import RunDirectory
from rnnlab.training.signals import Interrupted, StopRequest

UNRECORDED = {"help", "resume", "dry_run", "distributed", "heartbeat_seconds"}
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

    integer, number, positive = flags.DEFINE_integer, flags.DEFINE_float, {"lower_bound": 1}
    define(flags.DEFINE_bool, "help", False, "Prints the flags and stops.")
    define(flags.DEFINE_string, "workdir", None, "Run directory.")
    flags.register_validator("workdir", _check_workdir, flag_values=values)
    define(integer, "seed", 0, "Of initialisation and of all randomness.", 0)
    define(integer, "steps", None, "Updates.", **positive)
    define(integer, "batch_size", None, "Rows of a batch, over all devices.", **positive)
    define(integer, "microbatches", 1, "Parts of a batch, one after another.", **positive)
    define(number, "learning_rate", None, "The highest of the schedule.", 0.0)
    enum("schedule", "cosine", SCHEDULES, "How the learning rate falls.")
    define(integer, "warmup_steps", 0, "Steps over which the learning rate rises.", 0)
    define(integer, "decay_steps", 0, "Step at which it has fallen to 1 %; 0: never.", 0)
    enum("optimizer", "adamw", OPTIMIZERS, "Of optax.")
    define(flags.DEFINE_string, "optimizer_options", "{}", 'JSON, such as {"momentum": 0.9}.')
    define(number, "clip_norm", 1.0, "Largest global norm of the gradients; 0: any.", 0.0)
    define(number, "clip_value", 0.0, "Largest size of one gradient; 0: any.", 0.0)
    define(number, "weight_decay", 0.0, "Of kernels, not of biases and norms.", 0.0)
    enum("average", "none", AVERAGES, "Which average of the weights is evaluated.")
    define(number, "average_decay", 0.999, "Of ema.", 0.0, 1.0)
    define(integer, "average_patience", 5, "Of nt_asgd: evaluations.", **positive)
    define(integer, "max_skips", 10, "Non-finite updates in a row before giving up.", **positive)
    define(integer, "patience", 0, "Evaluations without improvement; 0: never stops early.", 0)
    enum("cell", "lstm", CELLS, "Recurrent cell.")
    define(flags.DEFINE_string, "cell_options", "{}", 'JSON, such as {"heads": 4}.')
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
    define(flags.DEFINE_string, "mesh", "", "data:N shares batches, data:N,model:M also weights.")
    define(flags.DEFINE_bool, "distributed", False, "Meets the other processes of a cluster.")
    define(integer, "heartbeat_seconds", 30, "Silence after which a process is dead.", **positive)
    define(flags.DEFINE_bool, "profile", False, "Traces a few steps into WORKDIR/profile.")
    define(flags.DEFINE_bool, "tensorboard", False, "Writes WORKDIR/tensorboard as well.")
    return values


def _check_workdir(path: str) -> bool:
    try:
        check_directory("workdir", path)
    except ValueError as error:
        raise flags.ValidationError(str(error)) from error
    return True


def parse(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Parses a command line; unknown flags and stray arguments end the program.

    Where there are other processes, it meets them. What is compiled from here on is kept in the
    user's cache, for the next start.

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
    if getattr(values, "mode", None) != "generate":  # its calls are small
        keep_freed_memory()  # before jax has threads
    try:
        join(values.distributed, values.heartbeat_seconds)
    except ValueError as error:
        sys.exit(f"error: {error}")
    enable_compilation_cache()


def parse_with_run(values: flags.FlagValues, arguments: Sequence[str]) -> None:
    """Parses again on top of the flags of the run in `--workdir`, for a mode that looks at it."""
    saved = RunDirectory(values.workdir).read_flags()
    program, *given = arguments
    parse(values, [program, *(f"--{name}={value}" for name, value in saved.items()), *given])


def run_flags(values: flags.FlagValues, unrecorded: Iterable[str] = ()) -> dict[str, str]:
    """Flag -> value, of the flags that define a run and have a value."""
    names = set(values) - UNRECORDED - set(unrecorded)
    chosen = {name: _text(values[name].value) for name in names if values[name].value is not None}
    try:
        for name, value in chosen.items():
            check_line(f"--{name}", value)
    except ValueError as error:
        sys.exit(f"error: {error}")
    return chosen


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def build_cells(values: flags.FlagValues) -> tuple[Cell, ...]:
    """`--layers` cells of kind `--cell` with `--features`."""
    return (build_cell(values, values.features),) * values.layers


def build_cell(values: flags.FlagValues, features: int) -> Cell:
    """One layer of kind `--cell`."""
    options = _json_object("cell_options", values.cell_options)
    try:
        return CELLS[values.cell](features, **options)
    except (TypeError, ValueError) as error:
        if not options:
            raise
        sys.exit(f"error: --cell_options: expected what {values.cell} takes ({error}).")


def cell_options(values: flags.FlagValues) -> dict[str, Any]:
    """`--cell_options`, for a model that builds its own cells; `--cell` has to take them."""
    options = _json_object("cell_options", values.cell_options)
    if options:
        build_cell(values, values.features)
    return options


def build_optimizer(
    values: flags.FlagValues, full_weight: float = 0.0
) -> optax.GradientTransformation:
    """The optimizer, schedule, clipping and averaging of the flags.

    Args:
      values: the flags.
      full_weight: of a batch that is worth one whole update; 0: all are.
    """
    options = _json_object("optimizer_options", values.optimizer_options)
    if values.average == "nt_asgd" and 0 < values.patience < values.average_patience + 2:
        sys.exit(
            f"error: --patience: expected {values.average_patience + 2} or more beside"
            f" --average=nt_asgd, so that averaging begins before training stops early, got"
            f" {values.patience}. It begins --average_patience + 1 evaluations after the best."
        )
    if 0 < values.decay_steps < values.steps and values.schedule != "constant":
        print(f"note: the learning rate stays at 1 % from --decay_steps={values.decay_steps} on")
    schedule = make_schedule(
        values.schedule, values.learning_rate, values.warmup_steps, values.decay_steps
    )
    try:
        return make_optimizer(
            values.optimizer,
            schedule,
            clip_norm=values.clip_norm,
            clip_value=values.clip_value,
            weight_decay=values.weight_decay,
            average=values.average,
            average_decay=values.average_decay,
            average_patience=values.average_patience,
            full_weight=full_weight,
            options=options,
        )
    except ValueError as error:
        sys.exit(f"error: {error}")


def _json_object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        sys.exit(f"error: --{name}: expected a JSON object ({error}).")
    if not isinstance(value, dict):
        sys.exit(f"error: --{name}: expected a JSON object, got {text}.")
    return value


def fit_config(
    values: flags.FlagValues, flags: Mapping[str, str], data: Mapping[str, str]
) -> FitConfig:
    """The flags that `fit` knows, by name, as its configuration."""
    known = {field.name for field in dataclasses.fields(FitConfig)}
    shared: dict[str, Any] = {name: getattr(values, name) for name in known & set(values)}
    return FitConfig(**shared, flags=flags, data=data)


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """What comes after training: a SIGTERM or SIGINT ends it as it ends training."""
    with StopRequest() as stop:
        try:
            with stop.interruptible():
                yield
        except Interrupted:
            print(f"\n{stop.name}: training is saved; the same command does the rest again")
            sys.exit(PREEMPTED)
