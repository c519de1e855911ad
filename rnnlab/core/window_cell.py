"""Cells whose carry is a window of their last inputs."""

import abc
import dataclasses
from typing import Any, ClassVar, NamedTuple, final

import jax.numpy as jnp

from rnnlab.core.cell import AffineCell
from rnnlab.core.ops import select
from rnnlab.core.types import Array, Params


class WindowInput(NamedTuple):
    """z of a `WindowCell`."""

    entry: Array  # [..., C], what enters the window, in the wide dtype
    passed: Array  # [..., P], what goes past it to the readout


@dataclasses.dataclass(frozen=True)
class WindowCell(AffineCell[Params, Array]):
    """A cell that remembers its last K entries, the newest last: h_t = shift(h_{t-1}) + x_t.

    A is a power of the shift, and a, `[*batch]`, is that power, so the windows of all steps come
    out of a parallel scan. The newest entry is that of x_t itself, since a readout sees the carry
    after its step.
    """

    _final: ClassVar[tuple[str, ...]] = ("coefficients", "identity", "apply", "compose")

    width: int

    @abc.abstractmethod
    def project(self, params: Params, x: Any) -> WindowInput: ...

    @final
    def coefficients(self, params: Params, z: WindowInput) -> tuple[Array, Array]:
        older = jnp.zeros((*z.entry.shape[:-1], self.width - 1, z.entry.shape[-1]), z.entry.dtype)
        newest = jnp.concatenate([older, z.entry[..., None, :]], axis=-2)
        return jnp.ones(z.entry.shape[:-1], jnp.int32), newest

    @final
    def identity(self, a: Array) -> Array:
        return jnp.zeros_like(a)

    @final
    def apply(self, a: Array, carry: Array) -> Array:
        gone = jnp.zeros_like(carry)
        shifted = gone
        for steps in range(self.width):
            kept = jnp.concatenate([carry[..., steps:, :], gone[..., :steps, :]], axis=-2)
            shifted = select(a == steps, kept, shifted)
        return shifted

    @final
    def compose(self, first: Array, then: Array) -> Array:
        return jnp.minimum(first + then, self.width)  # shifted out is shifted out
