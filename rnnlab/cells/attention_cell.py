"""A cell that looks at a memory at every step."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_cell_type, check_size
from rnnlab.core.ops import broadcast_to_rank, linear, wide_dtype, zero_unless
from rnnlab.core.types import Array, Key


class AttentionMemory(NamedTuple):
    """What is attended to, S slots; `AttentionCell.attend` makes it."""

    values: Array  # [*batch, S, M], or [S, M] for all examples
    keys: Array  # [*batch, S, A]
    valid: Array  # [*batch, S], 1 where there is a slot and 0 where there is padding


class BahdanauKernels(NamedTuple):
    """What turns a query into scores."""

    query: Array  # [H, A]
    score: Array  # [A]


class LuongKernels(NamedTuple):
    """What turns a context into an output."""

    output: Array  # [M + H, H]


class AttentionParams(NamedTuple):
    """Parameters of `AttentionCell`."""

    cell: Any  # of the cell inside, which reads F + M or F + H features
    key_kernel: Array  # [M, A]
    kernels: BahdanauKernels | LuongKernels
    memory: AttentionMemory


class AttentionCarry(NamedTuple):
    """Carry of `AttentionCell`."""

    inner: Any  # of the cell inside
    y: Array  # [*batch, H]: the last output of the cell inside, or luong's attentional vector
    context: Array  # [*batch, M]


@dataclasses.dataclass(frozen=True)
class AttentionCell(Cell[AttentionParams, AttentionCarry]):
    """A cell that attends to a memory, such as the outputs of an encoder.

        c_t = sum_s softmax_s(score(q_t, m_s)) m_s
        bahdanau   q_t = s_{t-1};    s_t = cell([x_t, c_t]);       y_t = [s_t, c_t]
                   score(q, m) = v . tanh(q W_q + m W_k)
        luong      q_t = s_t;        s_t = cell([x_t, y_{t-1}]);   y_t = tanh([c_t, s_t] W_o)
                   score(q, m) = q . m W_k

    The memory rides in the parameters, never in the carry: `attend` puts it there, once a
    sequence. `init` gives one slot of zeros, with which the context is zero. A reset leaves the
    memory as it is. The cell inside reads what depends on the carry, so nothing of it is hoisted.

    Args:
      cell: what to wrap; it reads vectors and puts out vectors.
      memory_features: M.
      attention: "bahdanau" or "luong".
      attention_features: A, of bahdanau; None takes the features of the cell's output.

    Raises:
      ValueError: an unknown attention; `attention_features` with luong, whose A is H.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.AttentionCell(rnnlab.cells.GRU(16), memory_features=8)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> encoded = jnp.ones((4, 7, 8))  # [*batch, S, M]
        >>> params = cell.attend(params, encoded, mask=jnp.ones((4, 7), bool))
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))
        >>> ys.shape
        (10, 4, 24)

    References: Bahdanau et al. 2015, "Neural machine translation by jointly learning to align and
    translate", appendix A; Luong et al. 2015, "Effective approaches to attention-based neural
    machine translation", global attention, the general score, input feeding. Any cell takes the
    place of their GRU and LSTM; their read-out layers are left to the model.
    """

    cell: Cell
    memory_features: int
    attention: str = "bahdanau"
    attention_features: int | None = None

    def __post_init__(self):
        check_cell_type(self.cell)
        check_size("AttentionCell", memory_features=self.memory_features)
        if self.attention not in ("bahdanau", "luong"):
            raise ValueError(f"attention: expected one of bahdanau, luong, got {self.attention!r}.")
        if self.attention_features is not None:
            if self.attention == "luong":
                raise ValueError(
                    "attention_features: expected None with luong, whose keys have the features of"
                    f" the cell's output, got {self.attention_features}."
                )
            check_size("AttentionCell", attention_features=self.attention_features)

    def init(self, key: Key, in_features: int) -> AttentionParams:
        check_size("init", in_features=in_features)
        keys = jax.random.split(key, 4)
        width, draw = self.memory_features, initializers.input_kernel
        inner = self.cell.init(keys[0], in_features + width)
        size = self.cell.out_features(inner, in_features + width)
        columns = self.attention_features or size
        kernels = BahdanauKernels(draw(keys[1], size, columns), draw(keys[2], columns, 1)[:, 0])
        if self.attention == "luong":  # the cell inside reads back the features that it puts out
            inner = self.cell.init(keys[0], in_features + size)
            kernels = LuongKernels(draw(keys[1], width + size, size))
        memory = AttentionMemory(
            jnp.zeros((1, width), jnp.float32),
            jnp.zeros((1, columns), jnp.float32),
            jnp.ones(1, jnp.float32),
        )
        return AttentionParams(inner, draw(keys[3], width, columns), kernels, memory)

    def attend(
        self, params: AttentionParams, memory: Array, mask: Array | None = None
    ) -> AttentionParams:
        """Parameters with a memory to attend to, for a call of `unroll` or of `step`.

        Args:
          params: what `init` returned, or what was trained since.
          memory: `[*batch, S, M]`, or `[S, M]` for all examples.
          mask: bool `[*batch, S]`, False where the memory is padding, whatever it holds there. Of
            no slot at all the context is zero.
        """
        lead = memory.shape[:-1]
        if mask is not None and (mask.dtype != jnp.bool_ or mask.shape != lead):
            raise ValueError(
                f"mask: expected bool {lead} = [*batch, S] of the memory, got {mask.dtype}"
                f" {mask.shape}."
            )
        dtype = params.key_kernel.dtype
        values = zero_unless(mask, memory).astype(dtype)
        keys = linear(values, params.key_kernel).astype(dtype)
        valid = jnp.ones(lead, dtype) if mask is None else mask.astype(dtype)
        return params._replace(memory=AttentionMemory(values, keys, valid))

    def initial_carry(
        self, params: AttentionParams, batch_shape: tuple[int, ...] = ()
    ) -> AttentionCarry:
        dtype, kernels = wide_dtype(params.key_kernel), params.kernels
        luong = isinstance(kernels, LuongKernels)
        size = kernels.output.shape[-1] if luong else kernels.query.shape[0]
        return AttentionCarry(
            self.cell.initial_carry(params.cell, batch_shape),
            jnp.zeros((*batch_shape, size), dtype),
            jnp.zeros((*batch_shape, self.memory_features), dtype),
        )

    def project(self, params: AttentionParams, x: Array) -> Array:
        dtype = params.key_kernel.dtype
        return x.astype(dtype).astype(wide_dtype(params.key_kernel))

    def recur(self, params: AttentionParams, carry: AttentionCarry, z: Array) -> AttentionCarry:
        if isinstance(params.kernels, LuongKernels):
            inner, y = self._inner_step(params, carry.inner, [z, carry.y])
            context = _context(params, y)
            both = jnp.concatenate([context, y], axis=-1)
            return AttentionCarry(inner, jnp.tanh(linear(both, params.kernels.output)), context)
        context = _context(params, carry.y)
        inner, y = self._inner_step(params, carry.inner, [z, context])
        return AttentionCarry(inner, y, context)

    def _inner_step(self, params: AttentionParams, carry: Any, parts: list[Array]):
        carry, y = self.cell.step(params.cell, carry, jnp.concatenate(parts, axis=-1))
        return carry, y.astype(parts[0].dtype)

    def readout(self, params: AttentionParams, carry: AttentionCarry, z: Array) -> Array:
        parts = [carry.y, carry.context] if self.attention == "bahdanau" else [carry.y]
        return jnp.concatenate(parts, axis=-1).astype(params.key_kernel.dtype)


def _context(params: AttentionParams, query: Array) -> Array:
    """The context `[*batch, M]` of a query `[*batch, H]`."""
    values, keys, valid = (a.astype(query.dtype) for a in params.memory)
    if isinstance(params.kernels, LuongKernels):
        scores = jnp.einsum("...a,...sa->...s", query, keys)
    else:
        query = linear(query, params.kernels.query)[..., None, :]
        hidden = jnp.tanh(query + broadcast_to_rank(keys, query))
        scores = hidden @ params.kernels.score.astype(query.dtype)
    valid = jnp.broadcast_to(broadcast_to_rank(valid, scores) > 0.5, scores.shape)
    # A double where: with no slot at all, softmax is that of equal numbers and the context zero.
    weights = jax.nn.softmax(jnp.where(valid, scores, -1e30), axis=-1)
    weights = jnp.where(valid, weights, jnp.zeros((), weights.dtype))
    return jnp.einsum("...s,...sm->...m", weights, values)
