"""The neural Turing machine, with one head that reads and one that writes."""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import kernel_product, linear, separate_pass, wide_dtype
from rnnlab.core.types import Array, Key


class NTMParams(NamedTuple):
    """Parameters of `NTM`; a head has A = M + 6 columns, the writing one 2M more."""

    kernel: Array  # [F, H]
    recurrent_kernel: Array  # [H + M, H], of the controller's last output and of what was read
    bias: Array  # [H]
    head_kernel: Array  # [H, 2A + 2M]: reading head, writing head, erase, add
    head_bias: Array  # [2A + 2M]
    output_kernel: Array  # [H + M, H]
    memory: Array  # [M], what every slot holds at first
    heads: Array  # [2, S], where the two heads are at first, as logits


class NTMCarry(NamedTuple):
    """Carry of `NTM`: S slots of M numbers, and where its heads are."""

    memory: Array  # [*batch, S, M]
    h: Array  # [*batch, H], output of the controller
    read: Array  # [*batch, M]
    reading: Array  # [*batch, S], logits of its weights over the slots
    writing: Array  # [*batch, S]


@dataclasses.dataclass(frozen=True)
class NTM(Cell[NTMParams, NTMCarry]):
    """Neural Turing machine: a recurrent controller with a memory that it addresses softly.

        h_t = tanh(x_t W + [h_{t-1}, r_{t-1}] U + b)
        key, beta, g, s, gamma = what a head makes of h_t, for each of the two heads
        w = shift_s(g softmax(beta cos(key, memory)) + (1 - g) w_{t-1}) ** gamma, normalised
        memory <- memory * (1 - w_write erase^T) + w_write add^T
        r_t = w_read^T memory,    y_t = [h_t, r_t] W_y

    Args:
      features: H, of the controller and of y.
      slots: S.
      slot_features: M.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.NTM(16, slots=8, slot_features=5)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((10, 4, 3)))
        >>> carry.memory.shape
        (4, 8, 5)

    References: Graves et al. 2014, "Neural Turing machines", section 3. Choices it leaves open: the
    controller is a tanh network; shifts by -1, 0, 1; the memory is written, then read; what is
    added is a tanh; y reads r_t too; every slot starts with the same learned content, the heads at
    learned places, kept as logits.
    """

    features: int
    slots: int = 16
    slot_features: int = 16

    def __post_init__(self):
        sizes = {"slots": self.slots, "slot_features": self.slot_features}
        check_size("NTM", features=self.features, **sizes)

    def init(self, key: Key, in_features: int) -> NTMParams:
        keys = jax.random.split(key, 6)
        size, width = self.features, self.slot_features
        columns = 2 * (width + 6) + 2 * width
        return NTMParams(
            initializers.input_kernel(keys[0], in_features, size),
            initializers.orthogonal_blocks(keys[1], size + width, size, 1),
            jnp.zeros(size, jnp.float32),
            initializers.input_kernel(keys[2], size, columns),
            jnp.zeros(columns, jnp.float32),
            initializers.input_kernel(keys[3], size + width, size),
            jax.random.normal(keys[4], (width,), jnp.float32),
            jax.random.normal(keys[5], (2, self.slots), jnp.float32),
        )

    def initial_carry(self, params: NTMParams, batch_shape: tuple[int, ...] = ()) -> NTMCarry:
        dtype = wide_dtype(params.kernel)

        def start(a: Array, *shape: int) -> Array:
            return jnp.array(jnp.broadcast_to(a.astype(dtype), (*batch_shape, *shape)))

        return NTMCarry(
            start(params.memory, self.slots, self.slot_features),
            jnp.zeros((*batch_shape, self.features), dtype),
            jnp.zeros((*batch_shape, self.slot_features), dtype),
            start(params.heads[0], self.slots),
            start(params.heads[1], self.slots),
        )

    def project(self, params: NTMParams, x: Array) -> Array:
        return linear(x, params.kernel, params.bias)

    def recur(self, params: NTMParams, carry: NTMCarry, z: Array) -> NTMCarry:
        before = jnp.concatenate([carry.h, carry.read], axis=-1)
        h = separate_pass(jnp.tanh(z + kernel_product(before, params.recurrent_kernel)))
        width, head = self.slot_features, self.slot_features + 6
        cuts = [head, 2 * head, 2 * head + width]
        out = linear(h, params.head_kernel, params.head_bias)
        of_reading, of_writing, erase, add = jnp.split(out, cuts, axis=-1)
        writing = _address(of_writing, carry.memory, carry.writing)
        at = jax.nn.softmax(writing, axis=-1)[..., None]
        kept = carry.memory * (1 - at * jax.nn.sigmoid(erase)[..., None, :])
        memory = kept + at * jnp.tanh(add)[..., None, :]
        reading = _address(of_reading, memory, carry.reading)
        read = jnp.einsum("...s,...sm->...m", jax.nn.softmax(reading, axis=-1), memory)
        return NTMCarry(memory, h, read, reading, writing)

    def readout(self, params: NTMParams, carry: NTMCarry, z: Array) -> Array:
        both = jnp.concatenate([carry.h, carry.read], axis=-1)
        return linear(both, params.output_kernel).astype(params.kernel.dtype)


def _address(head: Array, memory: Array, last: Array) -> Array:
    """Logits over the slots: by content, mixed with the last ones, shifted, sharpened."""
    width = memory.shape[-1]
    key, strength, mix, shift, power = jnp.split(
        head, [width, width + 1, width + 2, width + 5], axis=-1
    )
    content = jax.nn.softmax(jax.nn.softplus(strength) * _cosine(key, memory), axis=-1)
    mix, shift = jax.nn.sigmoid(mix), jax.nn.softmax(shift, axis=-1)
    mixed = mix * content + (1 - mix) * jax.nn.softmax(last, axis=-1)
    turns = (jnp.roll(mixed, turn, axis=-1) for turn in (-1, 0, 1))
    moved = sum(shift[..., i : i + 1] * turned for i, turned in enumerate(turns))
    return jax.nn.log_softmax((1 + jax.nn.softplus(power)) * jnp.log(moved + _TINY), axis=-1)


def _cosine(key: Array, memory: Array) -> Array:
    """The cosine of the angle between key `[..., M]` and every slot, `[..., S]`."""
    product = jnp.einsum("...m,...sm->...s", key, memory)
    squares = jnp.sum(key**2, axis=-1, keepdims=True) * jnp.sum(memory**2, axis=-1)
    return product * jax.lax.rsqrt(squares + _SMALL)


_SMALL = 1e-8  # a vector of zeros has no angle, and a cosine with it of 0
_TINY = 1e-30  # a weight of zero has no logarithm
