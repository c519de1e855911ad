"""One layer over a sequence: what its strategies compile, and how they are compared and timed."""

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab
from benchmarks import timing
from rnnlab.cells import CELLS
from rnnlab.strategies import STRATEGIES, Strategy


@dataclasses.dataclass(frozen=True)
class Case:
    """What one table entry is about, but for the strategy."""

    cell: str
    features: int
    batch: int
    length: int
    backward: bool

    def arguments(self) -> tuple[Any, Any, Any]:
        """Parameters, inputs, and weights of the outputs in the loss whose gradient is taken."""
        # Every program clears jax's caches: what is drawn by numpy need not be compiled again.
        draw, shape = np.random.default_rng(0), (self.length, self.batch, self.features)
        xs, weights = (jnp.asarray(draw.normal(size=shape), jnp.float32) for _ in range(2))
        init = jax.jit(CELLS[self.cell](self.features).init, static_argnums=1)
        return init(jax.random.key(0), self.features), xs, weights

    def function(self, strategy: Strategy) -> Callable[..., Any]:
        """What is compiled: a function of `arguments`."""
        cell = CELLS[self.cell](self.features)

        def forward(params, xs, weights):
            return rnnlab.unroll(cell, params, xs, strategy=strategy)

        def loss(params, xs, weights):
            return jnp.vdot(weights, forward(params, xs, weights)[1])

        return jax.grad(loss, (0, 1)) if self.backward else forward

    def matmul_flops(self) -> int:
        """Floating-point operations of its matmuls: every matrix of parameters, at every step."""
        params = jax.eval_shape(self.arguments)[0]
        weights = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
        return 2 * weights * self.length * self.batch * (3 if self.backward else 1)

    def carry_bytes(self) -> int:
        """What the carries of all steps take, which `Scan` keeps for the gradient."""
        cell = CELLS[self.cell](self.features)

        def initial():
            return cell.initial_carry(self.arguments()[0], (self.batch,))

        leaves = jax.tree.leaves(jax.eval_shape(initial))
        return self.length * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)

    def able(self, strategies: Mapping[str, Strategy]) -> dict[str, Strategy]:
        """Those that can run the cell, by name."""
        cell = CELLS[self.cell](self.features)
        return {name: s for name, s in strategies.items() if s.refusal(cell) is None}


def label(strategy: Strategy) -> str:
    """Its name, with those options that are not at their defaults: `Scan(unroll=4)`."""
    options = [
        f"{field.name}={getattr(strategy, field.name)!r}"
        for field in dataclasses.fields(strategy)
        if getattr(strategy, field.name) != field.default
    ]
    return type(strategy).__name__ + (f"({', '.join(options)})" if options else "")


def catalogue() -> dict[str, Strategy]:
    """Every strategy of the catalogue that does not choose another, at its defaults, by label."""
    return {label(make()): make() for name, make in STRATEGIES.items() if name != "auto"}


def compile_all(
    case: Case, strategies: Mapping[str, Strategy], arguments: Any
) -> dict[str, timing.Program]:
    """A program for each strategy."""
    return {
        name: timing.compile_program(case.function(strategy), *arguments)
        for name, strategy in strategies.items()
    }


def measure_programs(
    case: Case,
    programs: Mapping[str, timing.Program],
    arguments: Any,
    expected: Any,
    tolerance: float,
    blocks: int,
    block_seconds: float,
) -> dict[str, dict[str, Any]]:
    """Compares the results of programs with what is expected, then times them.

    Args:
      case: what the programs compute.
      programs: one for each strategy, `Scan` among them.
      arguments: what they are called with.
      expected: what each should return.
      tolerance: the largest deviation from it; a larger one ends the program.
      blocks: how often each is timed.
      block_seconds: about how long one timing of one program lasts.

    Returns:
      strategy -> the row of a table.
    """
    arms = {name: functools.partial(p.call, *arguments) for name, p in programs.items()}
    deviations = {n: timing.largest_deviation(arm(), expected) for n, arm in arms.items()}
    for name, deviation in deviations.items():
        timing.require_parity(f"{name} of {case}", deviation, tolerance)
    times = timing.measure(arms, blocks, block_seconds)
    shared = dataclasses.asdict(case) | {"matmul_flops": case.matmul_flops()}
    return {
        name: {
            **shared,
            "strategy": name,
            "trace_seconds": programs[name].trace_seconds,
            "compile_seconds": programs[name].compile_seconds,
            "temporary_bytes": programs[name].temporary_bytes,
            "run_seconds": times[name].median,
            "run_seconds_range": (min(times[name].blocks), max(times[name].blocks)),
            "scan_over": times["Scan"].ratio_to(times[name]),
            "deviation": deviations[name],
        }
        for name in programs
    }
