"""Cells whose state is a matrix, an associative memory that maps keys to values."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, final

import jax.numpy as jnp
from jax import lax

from rnnlab.core.cell import Cell
from rnnlab.core.ops import wide_dtype
from rnnlab.core.types import Array, Params


class MatrixCarry(NamedTuple):
    """The memory S = exp(log_scale) * memory, one matrix for each of N heads."""

    memory: Array  # [*batch, N, D, V]
    log_scale: Any = None  # [*batch, N, 1]; None is 0, and stays so


class MatrixInput(NamedTuple):
    """z of a `MatrixCell`: what one step does with the memory; None for what it does not do."""

    query: Array  # [..., N, D]
    key: Array  # [..., N, D]
    value: Array  # [..., N, V]
    log_decay: Any = None  # [..., N, D] or [..., N, 1], at most 0
    probe: Any = None  # [..., N, D], what is looked up to be taken out
    erase: Any = None  # [..., N, D], where it is taken out; given if `probe` is
    log_gain: Any = None  # [..., N, 1], the log of a factor of `key`
    rest: Any = None  # for `output`


@dataclasses.dataclass(frozen=True)
class MatrixCell(Cell[Params, MatrixCarry]):
    """A cell whose state is a matrix that is decayed, corrected by rank one, written and read.

        S' = exp(log_decay_t) * S_{t-1}                                  row by row
        S_t = S' - erase_t (S'^T probe_t)^T + exp(log_gain_t) key_t value_t^T
        y_t = output(S_t^T query_t)

    All of it but S depends on the input alone and comes from `project`, so a chunk of steps can be
    done by matmuls: `rnnlab.strategies.Chunkwise`. Gains are exponential without overflow: with
    `log_gain` the carry keeps exp(-m_t) S_t, where m_t = max(log_decay_t + m_{t-1}, log_gain_t);
    log_decay is then one number a head, and of either sign.
    """

    _final: ClassVar[tuple[str, ...]] = ("recur", "readout")

    @abc.abstractmethod
    def project(self, params: Params, x: Any) -> MatrixInput: ...

    @abc.abstractmethod
    def output(self, params: Params, read: Array, log_scale: Any, z: MatrixInput) -> Any:
        """The output y, in the compute dtype, of what was read.

        Args:
          params: what `init` returned.
          read: exp(-log_scale) S_t^T query_t, `[..., N, V]`; zero before anything is written.
          log_scale: m_t, `[..., N, 1]`, or None.
          z: what `project` returned.
        """

    @final
    def recur(self, params: Params, carry: MatrixCarry, z: MatrixInput) -> MatrixCarry:
        memory, log_scale = carry
        if z.log_gain is not None:
            after = next_log_scale(log_scale, z)
            z, log_scale = rescaled(z, log_scale, after), after
        if z.log_decay is not None:
            memory = memory * jnp.exp(z.log_decay)[..., None]
        change = outer(z.key, z.value)
        if z.erase is not None:
            change = change - outer(z.erase, look_up(memory, z.probe))
        return MatrixCarry(memory + change, log_scale)

    @final
    def readout(self, params: Params, carry: MatrixCarry, z: MatrixInput) -> Any:
        return self.output(params, look_up(carry.memory, z.query), carry.log_scale, z)


def zero_memory(
    like: Array, batch_shape: tuple[int, ...], features: int, heads: int, more: int = 0
) -> MatrixCarry:
    """An empty memory `[*batch, N, D, D + more]`, D = H / N, in the wide dtype of `like`."""
    size = features // heads
    return MatrixCarry(jnp.zeros((*batch_shape, heads, size, size + more), wide_dtype(like)))


def look_up(memory: Array, key: Array) -> Array:
    """S^T k, `[..., N, V]`, of a memory `[..., N, D, V]` and a key `[..., N, D]`."""
    return jnp.einsum("...dv,...d->...v", memory, key)


def outer(key: Array, value: Array) -> Array:
    """k v^T, `[..., N, D, V]`, of `[..., N, D]` and `[..., N, V]`."""
    return key[..., :, None] * value[..., None, :]


def next_log_scale(log_scale: Array, z: MatrixInput) -> Array:
    """m_t = max(log_decay_t + m_{t-1}, log_gain_t), so that neither factor exceeds 1."""
    return jnp.maximum(z.log_decay + log_scale, z.log_gain)


def rescaled(z: MatrixInput, before: Array, after: Array) -> MatrixInput:
    """`z` as it acts on exp(-m) S, where m is `before` and then `after`: without a gain."""
    return z._replace(
        log_decay=z.log_decay + before - after,
        key=z.key * jnp.exp(z.log_gain - after),
        log_gain=None,
    )


def split_heads(a: Array, heads: int, parts: int = 1) -> list[Array]:
    """`parts` arrays `[..., N, H / N]` out of one `[..., parts * H]` that has them side by side."""
    shape = *a.shape[:-1], heads, a.shape[-1] // (parts * heads)
    return [p.reshape(shape) for p in jnp.split(a, parts, axis=-1)]


def merge_heads(a: Array) -> Array:
    """`[..., N * V]` of `[..., N, V]`."""
    return lax.collapse(a, a.ndim - 2)
