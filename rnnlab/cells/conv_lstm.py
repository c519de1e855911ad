"""The convolutional LSTM."""

import dataclasses

from rnnlab.core.convolution import ConvCell, ConvParams, convolve
from rnnlab.core.ops import lstm_update
from rnnlab.core.types import Array, LSTMCarry


@dataclasses.dataclass(frozen=True)
class ConvLSTM(ConvCell[LSTMCarry]):
    """Convolutional LSTM over 1 to 3 spatial axes.

        i, f, g, o = sigmoid, sigmoid, tanh, sigmoid of (x_t * W + h_{t-1} * U + b), gate by gate
        c_t = f c_{t-1} + i g,    h_t = o tanh(c_t),    y_t = h_t

    with * a convolution that pads with zeros and keeps the spatial sizes. Inputs are
    `[T, *batch, *spatial_shape, F]`, outputs `[T, *batch, *spatial_shape, H]`.

    Args:
      features: H, channels of c and h.
      spatial_shape: sizes of the 1 to 3 spatial axes, for the carry has them.
      window: size of the convolution, one for all axes or one an axis.
      forget_bias: initial bias of the forget gate.

    Raises:
      ValueError: a number of spatial axes or of window sizes that does not fit.

    Example:
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.ConvLSTM(4, spatial_shape=(8, 8))
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> (c, h), ys = rnnlab.unroll(cell, params, jnp.ones((5, 2, 8, 8, 3)))
        >>> ys.shape
        (5, 2, 8, 8, 4)

    References: Shi et al. 2015, "Convolutional LSTM network". Deviations: no peepholes, as in Keras
    and Flax; recurrent kernels start orthogonal, the forget bias at 1.
    """

    forget_bias: float = 1.0

    @property
    def _gate_bias(self) -> tuple[float, ...]:
        return 0.0, self.forget_bias, 0.0, 0.0

    def initial_carry(self, params: ConvParams, batch_shape: tuple[int, ...] = ()) -> LSTMCarry:
        return LSTMCarry(self.zeros(params, batch_shape), self.zeros(params, batch_shape))

    def recur(self, params: ConvParams, carry: LSTMCarry, z: Array) -> LSTMCarry:
        return LSTMCarry(*lstm_update(carry.c, z + convolve(carry.h, params.recurrent_kernel)))

    def readout(self, params: ConvParams, carry: LSTMCarry, z: Array) -> Array:
        return carry.h.astype(params.kernel.dtype)
