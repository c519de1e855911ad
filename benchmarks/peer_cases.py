"""What `benchmarks.peers` compares: cells by name, what they are fed and what they should compute.

A contender is a layer of some library, as functions of its own weights. Everything else is laid out
as ours, or has its first two axes swapped where the library takes the batch first.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import rnnlab
from benchmarks import timing
from benchmarks.cases import Shape, matmul_flops
from rnnlab.cells import GRU, LRU, LSTM, Elman, MinGRU, ResetBeforeGRU, Zoneout
from rnnlab.core import Cell
from rnnlab.strategies import Scan, Strategy

MODES = ("forward", "backward", "step")  # "backward" is forward and backward

LAYERS: dict[str, Callable[[int], Cell]] = {"lstm": LSTM, "gru": GRU, "elman": Elman}
"""Cells that other libraries have."""

LOOPS: dict[str, Callable[[int], Cell]] = {
    "layer_norm_lstm": functools.partial(LSTM, layer_norm=True),
    "zoneout_lstm": lambda features: Zoneout(LSTM(features), rate=(0.5, 0.05)),
    "reset_before_gru": ResetBeforeGRU,
    "min_gru": MinGRU,
    "lru": LRU,
}
"""Cells that one writes oneself there, with a loop over time."""

CELLS = LAYERS | LOOPS

TOLERANCE = 1e-5  # of float32 to float64, relative
TOLERANCES = {"lru": 1e-4}  # its phases are angles, and T of them add up


class Data(NamedTuple):
    """What all contenders are fed."""

    xs: Any  # [T, B, H]
    weights: Any  # [T, B, H], of the outputs in the loss whose gradient is taken
    carry: Any  # [B, ...], before the one step of "step"
    extra: tuple = ()  # more inputs, [T, B, ...]: what zoneout keeps


class Contender(NamedTuple):
    """A layer of some library, as pure functions."""

    cell: Cell  # of ours, which computes the same
    convert: Callable[[Any], Any]  # parameters of ours to weights of theirs
    sequence: Callable[..., Any]  # (weights, xs, *extra) -> (carry, ys)
    step: Callable[..., Any]  # (weights, carry, x) -> (carry, y)
    batch_major: bool = False
    lacks: tuple[str, ...] = ()  # parameters of ours that it has no counterpart of: zero


class Arm(NamedTuple):
    """A contender in one mode, ready to be timed."""

    call: Callable[[], Any]
    result: Any  # laid out as ours
    program: timing.Program | None  # None: not of jax


def ours(cell: Cell, strategy: Strategy) -> Contender:
    """rnnlab itself."""

    def sequence(params, xs, *extra):
        return rnnlab.unroll(cell, params, (xs, *extra) if extra else xs, strategy=strategy)

    return Contender(cell, lambda params: params, sequence, cell.step)


def draw_params(cell: Cell, features: int) -> Any:
    """Parameters in float32, the same where two cells have the same ones."""
    params = jax.jit(cell.init, static_argnums=1)(jax.random.key(0), features)

    def moved(path, leaf):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if leaf.ndim > 1 or name == "recurrent_bias":  # flax nnx has none: zero everywhere
            return leaf
        # With a scale of 1 an LSTM that normalises h U is chaotic: rounding errors grow with T.
        scale = 0.1 if name == "norms.hidden" else 1
        return scale * leaf + 0.1 * _normal(leaf.size, leaf.shape)

    params = jax.tree.map_with_path(moved, params)
    return _away_from_the_kink(params) if getattr(cell, "activation", "") == "relu" else params


def _normal(seed: int, shape: tuple[int, ...]) -> Any:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape, np.float32))


def _away_from_the_kink(params: Any) -> Any:
    """Parameters with which no unit of a ReLU network is near 0.

    There float32 and float64 may fall on different sides, and their gradients differ.
    """
    kernel = jnp.abs(params.recurrent_kernel)
    return params._replace(
        recurrent_kernel=0.5 * kernel / jnp.max(jnp.sum(kernel, axis=0)), bias=params.bias + 8
    )


def draw_data(cell: Cell, params: Any, shape: Shape) -> Data:
    """Inputs, weights of the outputs and a carry."""
    lead = (shape.length, shape.batch)
    xs, weights = (_normal(seed, (*lead, shape.features)) for seed in (1, 2))
    zeros = cell.initial_carry(params, (shape.batch,))
    carry = jax.tree.map(lambda a: _normal(3, a.shape).astype(a.dtype), zeros)
    keep = (cell.draw(jax.random.key(0), params, lead),) if isinstance(cell, Zoneout) else ()
    return Data(xs, weights, carry, keep)


def function(contender: Contender, mode: str) -> Callable[..., Any]:
    """What is compiled: a function of `arguments`."""

    def loss(weights, xs, output_weights, *extra):
        return jnp.vdot(output_weights, contender.sequence(weights, xs, *extra)[1])

    functions: dict[str, Callable[..., Any]] = {
        "forward": contender.sequence,
        "backward": jax.grad(loss, (0, 1)),
        "step": contender.step,
    }
    return functions[mode]


def arguments(weights: Any, data: Data, mode: str, batch_major: bool = False) -> tuple[Any, ...]:
    """What `function` is called with."""
    if mode == "step":
        return weights, data.carry, data.xs[0]
    arrays = (data.xs, data.weights) if mode == "backward" else (data.xs,)
    if batch_major:
        arrays = (a.swapaxes(0, 1) for a in arrays)
    return weights, *arrays, *data.extra


def reference(cell: Cell, params: Any, data: Data, mode: str) -> Any:
    """What contenders should compute: `Scan` in float64."""
    with jax.enable_x64(True):
        params, data = jax.tree.map(_widened, (params, data))
        plain = function(ours(cell, Scan()), mode)
        return jax.device_get(jax.jit(plain)(*arguments(params, data, mode)))


def _widened(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return leaf if leaf.dtype == np.bool_ else leaf.astype(np.result_type(leaf, np.float64))


def jax_arm(contender: Contender, weights: Any, params: Any, data: Data, mode: str) -> Arm:
    """Compiles a contender and runs it once.

    Args:
      contender: what to compile.
      weights: its own.
      params: the same laid out as ours.
      data: what it is fed.
      mode: one of `MODES`.
    """
    inputs = arguments(weights, data, mode, contender.batch_major)
    program = timing.compile_program(function(contender, mode), *inputs)
    first, second = program.call(*inputs)
    if mode == "backward":
        first = gradient_as_ours(contender.convert, params, first)
    if mode != "step" and contender.batch_major:
        second = second.swapaxes(0, 1)
    return Arm(functools.partial(program.call, *inputs), (first, second), program)


def gradient_as_ours(convert: Callable[[Any], Any], params: Any, gradient: Any) -> Any:
    """The gradient of our parameters from that of the weights they were converted to."""
    return jax.jit(lambda params, gradient: jax.vjp(convert, params)[1](gradient)[0])(
        params, gradient
    )


def deviation(result: Any, expected: Any, mode: str, lacks: tuple[str, ...] = ()) -> float:
    """How far a result is from the reference, but for the gradients that its library lacks."""
    if mode == "backward" and lacks:
        missing = dict.fromkeys(lacks)
        result, expected = ((a._replace(**missing), b) for a, b in (result, expected))
    return timing.largest_deviation(*(jax.tree.map(_as_real, tree) for tree in (result, expected)))


def _as_real(leaf: Any) -> np.ndarray:
    leaf = np.asarray(leaf)
    return np.stack([leaf.real, leaf.imag]) if np.iscomplexobj(leaf) else leaf


def flops(params: Any, shape: Shape, mode: str) -> int:
    """Floating-point operations of the matmuls: every matrix of parameters, at every step."""
    weights = sum(leaf.size for leaf in jax.tree.leaves(params) if leaf.ndim == 2)
    if mode == "step":
        shape = shape._replace(length=1)
    pair = matmul_flops(1, shape, mode == "backward")  # of two matrices H x H
    return pair * weights // (2 * shape.features**2)
