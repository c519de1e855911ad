"""The convolutional gated recurrent unit."""

import dataclasses

from rnnlab.core.convolution import ConvCell, ConvParams, convolve
from rnnlab.core.ops import reset_before_update
from rnnlab.core.types import Array


@dataclasses.dataclass(frozen=True)
class ConvGRU(ConvCell[Array]):
    """Convolutional GRU over 1 to 3 spatial axes, the reset gate before the convolution.

        r, z = sigmoid(x_t * W + h_{t-1} * U + b), gate by gate
        n = tanh(x_t * W_n + (r h_{t-1}) * U_n + b_n)
        h_t = (1 - z) n + z h_{t-1},    y_t = h_t

    with * a convolution that pads with zeros and keeps the spatial sizes. Inputs are
    `[T, *batch, *spatial_shape, F]`, outputs `[T, *batch, *spatial_shape, H]`.

    Args:
      features: H, channels of h.
      spatial_shape: sizes of the 1 to 3 spatial axes, for the carry has them.
      window: size of the convolution, one for all axes or one an axis.

    Raises:
      ValueError: a number of spatial axes or of window sizes that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.ConvGRU(4, spatial_shape=(16,), window=5)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> h, ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 16, 3)))
        >>> ys.shape
        (5, 2, 16, 4)

    References: Ballas et al. 2016, "Delving deeper into convolutional networks for learning video
    representations". Deviations: z keeps the old state, as in `GRU`, where theirs takes in the new
    one; gates have biases; recurrent kernels start orthogonal.
    """

    @property
    def _gate_bias(self) -> tuple[float, ...]:
        return 0.0, 0.0, 0.0

    def initial_carry(self, params: ConvParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return self.zeros(params, batch_shape)

    def recur(self, params: ConvParams, carry: Array, z: Array) -> Array:
        return reset_before_update(carry, z, params.recurrent_kernel, convolve)

    def readout(self, params: ConvParams, carry: Array, z: Array) -> Array:
        return carry.astype(params.kernel.dtype)
