"""What convolutional cells share: their sizes, their parameters, the convolution itself."""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from rnnlab.core import initializers
from rnnlab.core.cell import Cell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import check_features, wide_dtype, widened
from rnnlab.core.types import Array, Carry, Key


class ConvParams(NamedTuple):
    """Parameters of a convolutional cell with G gates."""

    kernel: Array  # [*window, F, G * H]
    recurrent_kernel: Array  # [*window, H, G * H]
    bias: Array  # [G * H]


@dataclasses.dataclass(frozen=True)
class ConvCell(Cell[ConvParams, Carry]):
    """A cell whose products are convolutions: inputs and outputs are `[*spatial_shape, features]`.

    A cell that derives from it says `_gate_bias`, the initial bias of each of its gates.
    """

    features: int
    spatial_shape: tuple[int, ...]
    window: int | tuple[int, ...] = 3

    def __post_init__(self):
        name = type(self).__name__
        check_size(name, features=self.features)
        object.__setattr__(self, "spatial_shape", tuple(self.spatial_shape))
        dims = len(self.spatial_shape)
        if not 1 <= dims <= 3:
            raise ValueError(
                f"{name}: expected 1 to 3 sizes in spatial_shape, such as (64, 64), got"
                f" {self.spatial_shape}."
            )
        window = self.window if isinstance(self.window, tuple) else (self.window,) * dims
        if len(window) != dims:
            raise ValueError(
                f"{name}: expected window to be one size or {dims}, one for each spatial axis, got"
                f" {self.window}."
            )
        for axis in range(dims):
            sizes = {"spatial_shape": self.spatial_shape[axis], "window": window[axis]}
            check_size(name, **{f"{key}[{axis}]": size for key, size in sizes.items()})
        object.__setattr__(self, "window", window)

    @property
    @abc.abstractmethod
    def _gate_bias(self) -> tuple[float, ...]:
        """The initial bias of each gate, in gate order."""

    @property
    def feature_ndim(self) -> int:
        return 1 + len(self.spatial_shape)

    def input_shape(self, in_features: int) -> tuple[int, ...]:
        return (*self.spatial_shape, in_features)

    def init(self, key: Key, in_features: int) -> ConvParams:
        check_size("init", in_features=in_features)
        key_in, key_recurrent = jax.random.split(key)
        size, gate_count = self.features, len(self._gate_bias)
        window: tuple[int, ...] = self.window  # pyright: ignore[reportAssignmentType]
        fan_in, fan_recurrent = math.prod(window) * in_features, math.prod(window) * size
        kernel = initializers.input_kernel(key_in, fan_in, gate_count * size)
        recurrent = initializers.orthogonal_blocks(key_recurrent, fan_recurrent, size, gate_count)
        return ConvParams(
            kernel.reshape(*window, in_features, gate_count * size),
            recurrent.reshape(*window, size, gate_count * size),
            initializers.gate_bias(size, self._gate_bias),
        )

    def project(self, params: ConvParams, x: Array) -> Array:
        check_features(x, params.kernel)
        if x.shape[-self.feature_ndim : -1] != self.spatial_shape:
            raise ValueError(
                f"x: expected [..., {', '.join(map(str, self.spatial_shape))}, F] as in"
                f" spatial_shape of {type(self).__name__}, got shape {x.shape}."
            )
        return convolve(x, params.kernel, params.bias)

    def zeros(self, params: ConvParams, batch_shape: tuple[int, ...]) -> Array:
        """One leaf of an initial carry, `[*batch, *spatial_shape, H]`."""
        shape = (*batch_shape, *self.spatial_shape, self.features)
        return jnp.zeros(shape, wide_dtype(params.kernel))


def convolve(x: Array, kernel: Array, bias: Array | None = None) -> Array:
    """A convolution over the spatial axes of x, padded with zeros so that they keep their sizes.

    Args:
      x: `[..., *spatial, F]`, cast to the kernel's dtype.
      kernel: `[*window, F, K]`, one window axis for each of 1 to 3 spatial axes.
      bias: `[K]`, or None.

    Returns:
      `[..., *spatial, K]` in the wide dtype.

    Raises:
      ValueError: x does not have F features, or too few axes.
      TypeError: x is no single array, or complex where the kernel is real.
    """
    check_features(x, kernel)
    spatial = kernel.ndim - 2
    if x.ndim <= spatial:
        raise ValueError(
            f"x: expected [..., *spatial, F] with {spatial} spatial axes, got shape {x.shape}."
        )
    lead, image = x.shape[: x.ndim - spatial - 1], x.shape[x.ndim - spatial - 1 :]
    letters = "DHW"[-spatial:]
    z = lax.conv_general_dilated(
        x.astype(kernel.dtype).reshape(math.prod(lead), *image),
        kernel,
        (1,) * spatial,
        "SAME",
        dimension_numbers=(f"N{letters}C", f"{letters}IO", f"N{letters}C"),
        preferred_element_type=wide_dtype(kernel),
    ).reshape(*lead, *image[:-1], kernel.shape[-1])
    return z if bias is None else z + widened(bias, z)
