"""The contract of a cell, for other people's cells: `check_cell(cell)` raises where it is broken.

The parts are public too, and the project's own tests are made of them.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rnnlab.core.cell import Cell
from rnnlab.core.ops import zero_unless
from rnnlab.core.types import Array, Key, PyTree
from rnnlab.engine import unroll
from rnnlab.strategies import STRATEGIES, Auto, Strategy, Unrolled
from rnnlab.strategies.base import hold, restart

POISONS = (np.nan, np.inf, -np.inf, 1e30)
"""What padding may hold without changing anything."""


class Example(NamedTuple):
    """Arguments of one call of `unroll`."""

    params: PyTree
    xs: Array  # [T, *batch, *features]
    carry: PyTree
    mask: Any  # bool [T, *batch], or None
    reset: Any  # bool [T, *batch], or None


def example(
    cell: Cell,
    in_features: int = 3,
    *,
    length: int = 7,
    batch: tuple[int, ...] = (3,),
    dtype: Any = jnp.float32,
    seed: int = 0,
) -> Example:
    """Random arguments for `cell`: params near their initial values, no mask and no reset.

    Args:
      cell: any cell.
      in_features: F.
      length: T.
      batch: batch axes, none included.
      dtype: of params and inputs; the carry takes what the cell asks for.
      seed: of everything drawn.
    """
    rng = np.random.default_rng(seed)
    params = _init(cell, in_features, jax.random.key(seed))
    params = jax.tree.map(lambda a: _noisy(a, rng, 0.1, dtype), params)
    shape = (length, *batch, *cell.input_shape(in_features))
    xs = jnp.asarray(rng.normal(size=shape), dtype)
    start = cell.initial_carry(params, batch)
    carry = jax.tree.map(lambda a: _noisy(a, rng, 0.5, a.dtype), start)
    return Example(params, xs, carry, None, None)


def marks(kind: str, length: int, batch: tuple[int, ...], seed: int = 0) -> Array:
    """A mask or a reset, bool `[T, *batch]`.

    Args:
      kind: "random", "all", "none", "first" (at t = 0 only) or "lengths" (right padding, the first
        row of the batch with length 0).
      length: T.
      batch: batch axes.
      seed: of what is drawn.
    """
    rng = np.random.default_rng(seed)
    shape = (length, *batch)
    if kind == "random":
        return jnp.asarray(rng.random(shape) < 0.6)
    if kind == "lengths":
        lengths = np.asarray(rng.integers(0, length + 1, batch))
        lengths.reshape(-1)[:1] = 0
        return jnp.asarray(np.arange(length).reshape(-1, *[1] * len(batch)) < lengths)
    steps = {"all": slice(None), "none": slice(0), "first": slice(1)}[kind]
    return jnp.zeros(shape, bool).at[steps].set(True)


def marked_example(cell: Cell, in_features: int = 3, **options: Any) -> Example:
    """`example` with an interior mask and resets, both random."""
    plain = example(cell, in_features, **options)
    length, *batch = plain.xs.shape[: -cell.feature_ndim]
    lead = length, tuple(batch)
    return plain._replace(mask=marks("random", *lead), reset=marks("random", *lead, seed=1))


def fill_padding(example: Example, value: float) -> Array:
    """The inputs of `example` with `value` wherever they are masked."""
    mask = lax.expand_dims(example.mask, range(example.mask.ndim, example.xs.ndim))
    return jnp.where(mask, example.xs, jnp.asarray(value, example.xs.dtype))


class Outcome(NamedTuple):
    """All that two ways of running a cell must agree on."""

    carry: PyTree
    ys: PyTree
    grads: tuple[PyTree, PyTree, PyTree]  # of params, xs and carry, through carry and ys


def outcome(cell: Cell, example: Example, strategy: Strategy, reverse: bool = False) -> Outcome:
    """Values, and gradients through the outputs and the last carry along a fixed direction."""
    return _outcome(cell, strategy, reverse, example)


def oracle(cell: Cell, example: Example, reverse: bool = False) -> Outcome:
    """The same of a plain Python loop, one call of `step` after another, without a strategy."""

    def run(params, xs, carry):
        marked = (xs, example.mask, example.reset)
        length = jax.tree.leaves(xs)[0].shape[0]
        ys = [None] * length
        for t in reversed(range(length)) if reverse else range(length):
            now = jax.tree.map(lambda a, t=t: a[t], marked)
            carry, ys[t] = _marked_step(cell, params, carry, *now)
        return carry, jax.tree.map(lambda *y: jnp.stack(y), *ys)

    return _with_gradients(run, example)


def largest_difference(a: PyTree, b: PyTree) -> float:
    """The largest absolute difference between two trees; NaN equals NaN, and nothing else does."""
    worst = 0.0
    for left, right in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if left.shape != right.shape or left.dtype != right.dtype:
            raise AssertionError(
                f"expected equal types, got {jax.typeof(left)} and {jax.typeof(right)}"
            )
        if left.dtype == jax.dtypes.float0:  # the gradient of an integer
            continue
        kind = np.complex128 if jnp.iscomplexobj(left) else np.float64
        left, right = np.asarray(left, kind), np.asarray(right, kind)
        with np.errstate(invalid="ignore"):
            gap = np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0, left - right)
        gap = np.where(np.isnan(gap), np.inf, np.abs(gap))
        worst = max(worst, float(np.max(gap, initial=0)))
    return worst


def check_cell(cell: Cell, in_features: int = 3) -> None:
    """Checks that `cell` keeps the contract of `rnnlab.Cell`.

    It must be static and equal to its copy; keep the type of its carry in float32 and bfloat16;
    mean the same for one example, a batch and `jax.vmap`; do no work in `recur` that depends on z
    alone; give the same values and gradients under every strategy that its base class allows,
    with masks, resets and either direction; and let nothing leak out of padding.

    Args:
      cell: an instance of your cell, of a few features so that the check stays quick.
      in_features: features of the inputs to check it with.

    Raises:
      AssertionError: what was expected and what came.

    Example:
        >>> import rnnlab
        >>> rnnlab.testing.check_cell(rnnlab.cells.GRU(4))
    """
    check_static(cell)
    for dtype in (jnp.float32, jnp.bfloat16):
        check_types(cell, in_features, dtype)
    check_batching(cell, in_features)
    check_cut(cell, in_features)
    # `Unrolled` is the loop that all are compared with, and `Auto` is one of the others.
    for make in set(STRATEGIES.values()) - {Unrolled, Auto}:
        if make().refusal(cell) is None:
            check_padding(cell, make(), in_features)
            check_strategy(cell, make(), in_features)


def check_static(cell: Cell) -> None:
    """A cell is a value: hashable, equal to a copy of itself, and printable."""
    copy = dataclasses.replace(cell)
    _require(hash(copy) == hash(cell) and copy == cell, f"{cell!r} differs from its copy {copy!r}")
    _require(
        type(cell).__dataclass_params__.frozen,  # pyright: ignore[reportAttributeAccessIssue]
        f"{type(cell).__name__} is not a frozen dataclass",
    )


def check_types(cell: Cell, in_features: int, dtype: Any) -> None:
    """Outputs have the dtype of the params; the carry keeps its own, at least float32."""
    params, xs, carry, *_ = example(cell, in_features, dtype=dtype)
    after, y = jax.eval_shape(cell.step, params, carry, xs[0])
    before, after = jax.tree.map(_signature, carry), jax.tree.map(_signature, after)
    _require(
        before == after,
        f"with {dtype.__name__} params a step turns the carry {before} into {after}",
    )
    for leaf in jax.tree.leaves(carry):
        if jnp.issubdtype(leaf.dtype, jnp.inexact):
            _require(
                jnp.finfo(leaf.dtype).bits >= 32, f"a carry of {leaf.dtype} is less than float32"
            )
    for leaf in jax.tree.leaves(y):
        _require(leaf.dtype == dtype, f"with {dtype.__name__} params the output is {leaf.dtype}")
    buffers = [id(leaf) for leaf in jax.tree.leaves(cell.initial_carry(params, (2,)))]
    _require(len(set(buffers)) == len(buffers), "two leaves of initial_carry are one array")


def check_batching(cell: Cell, in_features: int) -> None:
    """One example, a batch of them, two batch axes and vmap all mean the same."""
    params, xs, carry, *_ = example(cell, in_features, batch=(2, 3))
    whole = unroll(cell, params, xs, carry)
    one = jax.tree.map(lambda a: a[1, 2], carry)
    single = unroll(cell, params, xs[:, 1, 2], one)
    expected = (
        jax.tree.map(lambda a: a[1, 2], whole[0]),
        jax.tree.map(lambda a: a[:, 1, 2], whole[1]),
    )
    _require_close(single, expected, 1e-5, "one example and the same example in a batch")
    mapped = jax.vmap(
        lambda xs, carry: unroll(cell, params, xs, carry), in_axes=(1, 0), out_axes=(0, 1)
    )(xs, carry)
    _require_close(mapped, whole, 1e-5, "vmap over a batch axis and the batch itself")


def check_cut(cell: Cell, in_features: int) -> None:
    """`recur` does no matmul that depends on z alone: that belongs in `project`."""
    params, xs, carry, *_ = example(cell, in_features)
    z = cell.project(params, xs[0])
    products = hoistable_products(lambda carry: cell.recur(params, carry, z), carry)
    _require(not products, f"recur multiplies what does not depend on the carry: {products}")


def check_padding(cell: Cell, strategy: Strategy, in_features: int) -> None:
    """What masked inputs hold changes no value and no gradient, bit for bit."""
    clean = marked_example(cell, in_features)
    expected = outcome(cell, clean, strategy)
    finite = all(bool(jnp.all(jnp.isfinite(leaf))) for leaf in jax.tree.leaves(expected))
    _require(finite, "masked inputs are zero, where `project` or its gradient is not finite")
    for poison in POISONS:
        dirty = clean._replace(xs=fill_padding(clean, poison))
        gap = largest_difference(outcome(cell, dirty, strategy), expected)
        _require(gap == 0, f"{poison} in padding changes results by {gap} under {strategy}")


def check_strategy(cell: Cell, strategy: Strategy, in_features: int) -> None:
    """`strategy` agrees with a plain loop, in values and gradients."""
    case = marked_example(cell, in_features)
    for reverse in (False, True):
        _require_close(
            outcome(cell, case, strategy, reverse),
            oracle(cell, case, reverse),
            1e-4,
            f"{strategy} and a plain loop (reverse: {reverse})",
        )


def hoistable_products(function: Any, carry: PyTree) -> list[str]:
    """The matmuls of `function(carry)` that do not depend on `carry`, as strings."""
    closed = jax.make_jaxpr(function)(carry)
    return _independent_products(closed.jaxpr, [True] * len(closed.jaxpr.invars))


def _independent_products(jaxpr: Any, depends: list[bool]) -> list[str]:
    dependent = {v for v, d in zip(jaxpr.invars, depends, strict=True) if d}
    found = []
    for eqn in jaxpr.eqns:
        inputs = [not hasattr(v, "val") and v in dependent for v in eqn.invars]
        inner = [p.jaxpr for p in eqn.params.values() if hasattr(p, "jaxpr")]
        for sub in inner:
            if len(sub.invars) == len(inputs):
                found += _independent_products(sub, inputs)
        if eqn.primitive.name in ("dot_general", "conv_general_dilated") and not any(inputs):
            found.append(str(eqn))
        if any(inputs):
            dependent.update(eqn.outvars)
    return found


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _outcome(cell: Cell, strategy: Strategy, reverse: bool, example: Example) -> Outcome:
    options = {"mask": example.mask, "reset": example.reset, "reverse": reverse}

    def run(params, xs, carry):
        return unroll(cell, params, xs, carry, strategy=strategy, **options)

    return _with_gradients(run, example)


@functools.partial(jax.jit, static_argnums=0)
def _marked_step(cell: Cell, params: PyTree, carry: PyTree, x: Any, mask: Any, reset: Any) -> Any:
    """One step by the definition of a mask and a reset."""
    x = zero_unless(mask, x)
    batch = jax.tree.leaves(x)[0].shape[: -cell.feature_ndim]
    before = restart(reset, cell.initial_carry(params, batch), carry)
    after, y = cell.step(params, before, x)
    return hold(mask, after, before), zero_unless(mask, y)


def _with_gradients(run: Any, example: Example) -> Outcome:
    (carry, ys), vjp = jax.vjp(run, example.params, example.xs, example.carry)
    return Outcome(carry, ys, vjp(_direction((carry, ys))))


def _direction(tree: PyTree) -> PyTree:
    """A fixed cotangent with no special values, of the types of `tree`."""

    def ramp(leaf: Array) -> Array:
        values = np.sin(1.0 + np.arange(leaf.size)).reshape(leaf.shape)
        return jnp.asarray(values, leaf.dtype)

    return jax.tree.map(ramp, tree)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init(cell: Cell, in_features: int, key: Key) -> PyTree:
    return cell.init(key, in_features)


def _noisy(a: Array, rng: np.random.Generator, scale: float, dtype: Any) -> Array:
    """`a` with normal noise, all of it by numpy, which compiles nothing."""
    if not jnp.issubdtype(a.dtype, jnp.inexact):
        return a
    noise = rng.normal(size=a.shape)
    if jnp.iscomplexobj(a):
        noise = (noise + 1j * rng.normal(size=a.shape)) / np.sqrt(2)
    return jnp.asarray(np.asarray(a, noise.dtype) + scale * noise, dtype)


def _signature(leaf: Any) -> str:
    return f"{leaf.dtype}{list(leaf.shape)}"


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _require_close(got: PyTree, expected: PyTree, tolerance: float, what: str) -> None:
    size = max(float(jnp.max(jnp.abs(leaf), initial=1)) for leaf in jax.tree.leaves(expected))
    gap = largest_difference(got, expected)
    _require(gap <= tolerance * size, f"{what} differ by {gap:.1e}, allowed {tolerance * size:.1e}")
