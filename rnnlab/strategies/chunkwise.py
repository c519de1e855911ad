"""Chunks of steps by matmuls, one after another, for cells whose state is a matrix."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.matrix_cell import MatrixCarry, MatrixCell, MatrixInput, next_log_scale, rescaled
from rnnlab.core.ops import broadcast_to_rank, select, zero_unless
from rnnlab.core.types import Array, PyTree
from rnnlab.strategies.base import Inputs, Marks, Strategy, hold, restart


@dataclasses.dataclass(frozen=True)
class Chunkwise(Strategy[MatrixCell]):
    """Does the steps of a chunk at once and carries the memory from chunk to chunk.

    With C steps a chunk, step t of it reads (query_t . decay . S) + sum_s (query_t . decay . key_s)
    value_s, sums over s <= t: matmuls of the size of the chunk, for all chunks in parallel. What is
    looked up to be taken out depends on what was taken out before, by a unit lower triangular
    system. T / C updates of the memory are what remains of the loop, and its gradient keeps T / C
    memories instead of T. Decays are sums of the logs between two steps, so no factor exceeds 1.

    A step that is not finite makes NaN of all that its head reads up to the next reset.

    Attributes:
      chunk: C. Work inside a chunk grows with C, the number of sequential updates as T / C.

    References: Yang et al. 2024, "Gated linear attention transformers with hardware-efficient
    training", and "Parallelizing linear transformers with the delta rule over sequence length".
    Here the triangular system is solved by halves, not inverted.
    """

    chunk: int = 16

    def __post_init__(self):
        check_size("Chunkwise", chunk=self.chunk)

    def refusal(self, cell: Cell) -> str | None:
        if isinstance(cell, MatrixCell):
            return None
        return (
            f"it needs the memory of an rnnlab.MatrixCell, which {type(cell).__name__} is not."
            f" Use Scan() or Remat()"
        )

    def run(self, cell: MatrixCell, inputs: Inputs, reverse: bool):
        params, carry, initial, xs, marks = inputs
        zs = cell.project(params, xs)
        steps = zs._replace(rest=None)
        if reverse:
            steps, marks = _flipped((steps, marks))
        steps = zero_unless(marks.mask, steps)
        steps, broken = _without_broken(steps)
        log_scales = None
        if steps.log_gain is not None:
            carry, steps, log_scales = _stabilised(carry, steps, initial, marks)
        last, reads, broken = _run(self.chunk, carry, initial.memory, steps, marks.reset, broken)
        # Zero at masked steps, or a NaN that waits there would reach the gradient of `output`.
        reads = zero_unless(marks.mask, _nan_where(broken[..., None], reads))
        log_scale = None
        if log_scales is not None:
            log_scale = _nan_where(broken[-1][..., None], log_scales[-1])
        if reverse:
            reads, log_scales = _flipped((reads, log_scales))
        ys = cell.output(params, reads, log_scales, zs)
        return MatrixCarry(last, log_scale), zero_unless(inputs.marks.mask, ys)


def _flipped(tree: PyTree) -> PyTree:
    return jax.tree.map(lambda a: jnp.flip(a, axis=0), tree)


def _nan_where(flag: Array, a: Array) -> Array:
    return jnp.where(flag, jnp.nan, a)


def _without_broken(steps: MatrixInput) -> tuple[MatrixInput, Array]:
    """Steps that are not finite replaced by zeros, and where they are, `[T, *batch, N]`.

    In a matmul over a chunk a NaN would reach steps before it and steps behind a reset.
    """
    logs = {name: getattr(steps, name) for name in ("log_decay", "log_gain")}
    others = steps._replace(**dict.fromkeys(logs))
    finite = jax.tree.map(jnp.isfinite, others), jax.tree.map(lambda a: a < jnp.inf, logs)
    flags = [jnp.all(a, axis=-1) for a in jax.tree.leaves(finite)]
    sound = jnp.all(jnp.stack(flags), axis=0)
    return zero_unless(sound, steps), ~sound


def _stabilised(
    carry: MatrixCarry, steps: MatrixInput, initial: MatrixCarry, marks: Marks
) -> tuple[MatrixCarry, MatrixInput, Array]:
    """Steps without a gain, as they act on exp(-m) S, and every m, `[T, *batch, N, 1]`.

    m_t = max(a + m_{t-1}, b) is a parallel scan over time; at a masked step a = 0, b = -inf, and
    where the carry is known before a step, a = -inf and b = m_t.
    """
    lost = ~(carry.log_scale < jnp.inf)  # a NaN is lost too; -inf is the log of nothing
    carry = MatrixCarry(
        _nan_where(lost[..., None], carry.memory), jnp.where(lost, 0, carry.log_scale)
    )
    never = jnp.full_like(steps.log_gain, -jnp.inf)
    steps = steps._replace(log_gain=hold(marks.mask, steps.log_gain, never))

    def before(log_scales: Array) -> Array:
        """m before every step from m after every step."""
        shifted = jnp.concatenate([carry.log_scale[None], log_scales[:-1]])
        return restart(marks.reset, initial.log_scale, shifted)

    starts = before(never)
    known = starts != -jnp.inf
    a = jnp.where(known, -jnp.inf, steps.log_decay)
    b = jnp.where(known, next_log_scale(jnp.where(known, starts, 0), steps), steps.log_gain)

    def compose(first, then):
        return first[0] + then[0], jnp.maximum(first[1] + then[0], then[1])

    log_scales = lax.associative_scan(compose, (a, b))[1]
    return carry, rescaled(steps, before(log_scales), log_scales), log_scales


class _Chunks(NamedTuple):
    """What C steps do with the memory S that they, or the last of their resets, start from.

    They read `read_kernel S + reads`, and leave `decay S - erase^T (probe S) + written`; the last
    four are of the steps since the last reset of the chunk. Leaves are led by `[T / C, *batch, N]`.
    """

    read_kernel: Array  # [C, D]
    reads: Array  # [C, V]
    decay: Array  # [D or 1, 1]
    written: Array  # [D, V]
    erase: Array | None  # [C, D]
    probe: Array | None  # [C, D]


def _run(size: int, carry: MatrixCarry, initial: Array, steps: MatrixInput, reset, broken: Array):
    """The last memory, what every step reads `[T, *batch, N, V]`, and whether that is lost."""
    length = broken.shape[0]
    size = min(size, length)
    steps = jax.tree.map(lambda a: _into_chunks(a, size), steps)
    broken = _into_chunks(broken[..., None], size)[..., 0]  # [T / C, *batch, N, C]
    segment = jnp.zeros((*(1,) * (broken.ndim - 1), size), jnp.int32)
    if reset is not None:
        segment = jnp.cumsum(_into_chunks(reset[..., None, None], size)[..., 0], axis=-1)
    # Which step s acts on which step t: an earlier one, with no reset between.
    acts = segment[..., :, None] == segment[..., None, :]
    acts = acts & broadcast_to_rank(jnp.tri(size, dtype=bool), acts)
    chunks = _summarised(steps, acts)
    broken = jnp.any(acts & broken[..., None, :], axis=-1)
    first = segment == 0  # the steps that still see the memory the chunk starts from
    whole = jnp.broadcast_to(first[..., -1], broken.shape[:-1])

    def body(memory, now):
        chunk, whole, broken = now
        lost = ~jnp.all(jnp.isfinite(memory), axis=(-1, -2))
        memory = zero_unless(~lost, memory)
        start = memory if reset is None else select(whole, memory, initial)
        after = start * chunk.decay + chunk.written
        if chunk.erase is not None:
            after = after - chunk.erase.swapaxes(-1, -2) @ (chunk.probe @ start)
        return _nan_where((broken | (whole & lost))[..., None, None], after), (memory, lost)

    last, (memory, lost) = lax.scan(body, carry.memory, (chunks, whole, broken[..., -1]))
    reads = chunks.read_kernel @ memory
    if reset is not None:
        anew = chunks.read_kernel @ jnp.broadcast_to(initial[None], memory.shape)
        reads = jnp.where(first[..., None], reads, anew)
    broken = broken | (first & lost[..., None])
    reads, broken = reads + chunks.reads, broken[..., None]
    return last, _out_of_chunks(reads, length), _out_of_chunks(broken, length)[..., 0]


def _into_chunks(a: Array, size: int) -> Array:
    """`[T, *batch, N, E]` as `[T / C, *batch, N, C, E]`; zeros, which do nothing, fill it up."""
    a = jnp.pad(a, [(0, -a.shape[0] % size)] + [(0, 0)] * (a.ndim - 1))
    return jnp.moveaxis(a.reshape(a.shape[0] // size, size, *a.shape[1:]), 1, -2)


def _out_of_chunks(a: Array, length: int) -> Array:
    return lax.collapse(jnp.moveaxis(a, -2, 1), 0, 2)[:length]


def _strictly(acts: Array) -> Array:
    """`acts` `[..., C, C]` without a step acting on itself."""
    return acts & ~broadcast_to_rank(jnp.eye(acts.shape[-1], dtype=bool), acts)


def _summarised(steps: MatrixInput, acts: Array) -> _Chunks:
    """All chunks at once."""
    between, since_start = _decays(steps, acts)
    to_end = between[..., -1, :, :]

    def pairs(on: Array, by: Array, acts: Array = acts) -> Array:
        """on_t . (decay from s to t) . by_s, `[..., C, C]`, where s acts on t."""
        if between.shape[-1] == 1:
            products = (on @ by.swapaxes(-1, -2)) * between[..., 0]
        else:
            products = jnp.einsum("...td,...sd,...tsd->...ts", on, by, between)
        return jnp.where(acts, products, 0)

    read_kernel = steps.query * since_start
    reads = pairs(steps.query, steps.key) @ steps.value
    written = (steps.key * to_end).swapaxes(-1, -2) @ steps.value
    decay = since_start[..., -1, :, None]
    if steps.erase is None:
        return _Chunks(read_kernel, reads, decay, written, None, None)

    # What is looked up, u_t = probe_t . S + sum over s < t of key_s value_s - erase_s u_s.
    found = pairs(steps.probe, steps.key, _strictly(acts)) @ steps.value
    system = pairs(steps.probe, steps.erase, _strictly(acts))
    both = jnp.concatenate([steps.probe * since_start, found], axis=-1)
    both = _solved(system, both)
    probe, found = jnp.split(both, [steps.probe.shape[-1]], axis=-1)
    erased = pairs(steps.query, steps.erase)
    erase = steps.erase * to_end
    return _Chunks(
        read_kernel - erased @ probe,
        reads - erased @ found,
        decay,
        written - erase.swapaxes(-1, -2) @ found,
        erase,
        probe,
    )


def _solved(system: Array, right: Array) -> Array:
    """X of (I + system) X = right `[..., C, K]`, system `[..., C, C]` being strictly lower.

    Forward substitution by halves, all of it matmuls for all chunks at once: the triangular solve
    of LAPACK takes one small matrix after another, and its threads contend with those of XLA.
    """
    half = right.shape[-2] // 2
    if half == 0:
        return right
    first = _solved(system[..., :half, :half], right[..., :half, :])
    rest = right[..., half:, :] - system[..., half:, :half] @ first
    return jnp.concatenate([first, _solved(system[..., half:, half:], rest)], axis=-2)


def _decays(steps: MatrixInput, acts: Array) -> tuple[Array, Array]:
    """Decays from step s to step t, `[..., C, C, E]`, and from the start or reset, `[..., C, E]`.

    Sums over the steps between, and not differences of sums from the start, which would cancel.
    """
    log_decay = steps.log_decay
    if log_decay is None:
        log_decay = jnp.zeros_like(steps.query[..., :1])
    later, acts = _strictly(acts)[..., None], acts[..., None]
    between = jnp.cumsum(jnp.where(later, log_decay[..., :, None, :], 0), axis=-3)
    between = jnp.exp(jnp.where(acts, between, -jnp.inf))
    since_start = jnp.sum(jnp.where(acts, log_decay[..., None, :, :], 0), axis=-2)
    return between, jnp.exp(since_start)
