"""The abstraction: a recurrent cell cut into its parallel and its sequential parts.

    z_t = project(x_t)            parallel over time: leaves the loop
    h_t = recur(h_{t-1}, z_t)     the only sequential part
    y_t = readout(h_t, z_t)       parallel over time

A cell is a frozen dataclass of static configuration with pure methods; its parameters and its
carry live outside it. Every class here is abstract or final: to change a cell, wrap it.
"""

import abc
import dataclasses
import inspect
from typing import Any, ClassVar, Generic, final

import jax
import jax.numpy as jnp

from rnnlab.core.ops import kernel_product
from rnnlab.core.types import Array, Carry, Key, Params


@dataclasses.dataclass(frozen=True)
class Cell(abc.ABC, Generic[Params, Carry]):
    """A recurrent cell: static configuration, compared by value, holding no arrays.

    Every method works on `[*batch, features]` for any number of batch axes, so one definition
    serves one example, a batch and `jax.vmap`. The compute dtype is that of `params`: cast the
    tree to run in bfloat16. The carry keeps the wider of float32 and that dtype.

    Example (a leaky integrator in full):
        >>> import dataclasses, jax, jax.numpy as jnp, rnnlab
        >>> @dataclasses.dataclass(frozen=True)
        ... class Leaky(rnnlab.Cell):
        ...     features: int
        ...     def init(self, key, in_features):
        ...         return jax.random.normal(key, (in_features, self.features))
        ...     def initial_carry(self, params, batch_shape=()):
        ...         return jnp.zeros((*batch_shape, self.features))
        ...     def project(self, params, x):
        ...         return x @ params
        ...     def recur(self, params, carry, z):
        ...         return 0.9 * carry + 0.1 * z
        ...     def readout(self, params, carry, z):
        ...         return jnp.tanh(carry)
        >>> cell = Leaky(8)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.unroll(cell, params, jnp.ones((20, 4, 3)))
        >>> ys.shape
        (20, 4, 8)
    """

    _final: ClassVar[tuple[str, ...]] = ("step", "out_features")

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        owners = {name: base for base in cls.__mro__[1:] for name in vars(base).get("_final", ())}
        for name, owner in owners.items():
            if inspect.getattr_static(cls, name) is not vars(owner)[name]:
                raise TypeError(
                    f"{cls.__name__} overrides {name!r}, which {owner.__name__} derives from its"
                    f" other methods so that no strategy can disagree with it. Implement those, or"
                    f" derive from rnnlab.Cell where `recur` is free."
                )

    @property
    def feature_ndim(self) -> int:
        """Trailing axes of an input that are features: 1, or 1 + spatial axes of a convolution."""
        return 1

    def input_shape(self, in_features: int) -> tuple[int, ...]:
        """The shape of one input: its features last, after the spatial axes of a convolution."""
        return (in_features,) * self.feature_ndim

    @abc.abstractmethod
    def init(self, key: Key, in_features: int) -> Params:
        """Draws float32 parameters for inputs of `in_features` features; consumes `key`."""

    @abc.abstractmethod
    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        """The carry before the first step, every leaf led by `batch_shape`."""

    @abc.abstractmethod
    def project(self, params: Params, x: Any) -> Any:
        """z, everything that depends on the input alone; finite, with its gradient, at x = 0."""

    @abc.abstractmethod
    def recur(self, params: Params, carry: Carry, z: Any) -> Carry:
        """The next carry: the only sequential part, with no matmul that depends on z alone."""

    @abc.abstractmethod
    def readout(self, params: Params, carry: Carry, z: Any) -> Any:
        """The output y of a step from its new carry and its z, in the compute dtype."""

    @final
    def step(self, params: Params, carry: Carry, x: Any) -> tuple[Carry, Any]:
        """One step, for generation and control.

        Args:
          params: what `init` returned.
          carry: the carry before the step, `[*batch, ...]`.
          x: one input, `[*batch, F]`.

        Returns:
          The new carry and the output y.
        """
        z = self.project(params, x)
        carry = self.recur(params, carry, z)
        return carry, self.readout(params, carry, z)

    @final
    def out_features(self, params: Params, in_features: int) -> int:
        """Features of y, the size of its last axis; computes shapes only."""

        def output(params: Params) -> Any:
            x = jnp.zeros(self.input_shape(in_features), jnp.float32)
            return self.step(params, self.initial_carry(params), x)[1]

        return jax.eval_shape(output, params).shape[-1]


@dataclasses.dataclass(frozen=True)
class GatedCell(Cell[Params, Carry]):
    """A cell whose sequential part is one matmul with the carry followed by gates.

        u_t = hidden(h_{t-1}) @ recurrent_kernel(params)
        h_t = gate(params, h_{t-1}, z_t, u_t)

    Declaring the matmul lets a strategy compute the whole gradient of the recurrent kernel as one
    matmul after the reverse loop, and lets the kernel be dense `[H, K]`, block-diagonal heads
    `[N, D, K]` (u is then `[..., N, K]`), or diagonal `[K]` (u = h * w, gate by gate).
    """

    _final: ClassVar[tuple[str, ...]] = ("recur",)

    @abc.abstractmethod
    def recurrent_kernel(self, params: Params) -> Array:
        """The one matrix that multiplies the carry: `[H, K]`, `[N, D, K]` or `[K]`."""

    @abc.abstractmethod
    def hidden(self, carry: Carry) -> Array:
        """What the kernel multiplies, `[..., H]`; depends on the carry alone."""

    @abc.abstractmethod
    def gate(self, params: Params, carry: Carry, z: Any, u: Array) -> Carry:
        """The next carry from the last one, z and u; never uses the recurrent kernel."""

    @final
    def recur(self, params: Params, carry: Carry, z: Any) -> Carry:
        u = kernel_product(self.hidden(carry), self.recurrent_kernel(params))
        return self.gate(params, carry, z, u)


@dataclasses.dataclass(frozen=True)
class AffineCell(Cell[Params, Carry]):
    """A cell whose step is an affine map of its carry, out of a family that composes.

        h_t = A(a_t) h_{t-1} + b_t,        (a_t, b_t) = coefficients(params, z_t)

    A says what a stands for: `apply` is its product with a carry, `compose` the product of two,
    so such a recurrence can run as a parallel scan over time. `LinearCell` is the diagonal
    family; a window that shifts its entries (`rnnlab.core.window_cell`) is another.
    """

    _final: ClassVar[tuple[str, ...]] = ("recur",)

    @abc.abstractmethod
    def coefficients(self, params: Params, z: Any) -> tuple[Any, Carry]:
        """a, every leaf led by the batch axes, and b, of the carry's structure and types.

        An axis of a may be 1 where it is the same for all.
        """

    @abc.abstractmethod
    def identity(self, a: Any) -> Any:
        """What leaves a carry as it is, of the structure and types of `a`."""

    @abc.abstractmethod
    def apply(self, a: Any, carry: Carry) -> Carry:
        """A(a) h: linear in the carry, and zero where the carry is."""

    @abc.abstractmethod
    def compose(self, first: Any, then: Any) -> Any:
        """The a of A(then) A(first)."""

    @final
    def recur(self, params: Params, carry: Carry, z: Any) -> Carry:
        a, b = self.coefficients(params, z)
        return jax.tree.map(jnp.add, self.apply(a, carry), b)


@dataclasses.dataclass(frozen=True)
class LinearCell(AffineCell[Params, Carry]):
    """A cell that is linear in its carry, element by element and leaf by leaf.

        h_t = a_t * h_{t-1} + b_t,        (a_t, b_t) = coefficients(params, z_t)

    `a` has the structure, shapes and dtypes of the carry; axes of size 1 broadcast.
    """

    _final: ClassVar[tuple[str, ...]] = ("identity", "apply", "compose")

    @final
    def identity(self, a: Carry) -> Carry:
        return jax.tree.map(jnp.ones_like, a)

    @final
    def apply(self, a: Carry, carry: Carry) -> Carry:
        return jax.tree.map(jnp.multiply, a, carry)

    @final
    def compose(self, first: Carry, then: Carry) -> Carry:
        return jax.tree.map(jnp.multiply, then, first)
