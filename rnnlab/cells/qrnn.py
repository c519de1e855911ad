"""The quasi-recurrent network: a convolution makes the gates, pooling carries them on."""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from rnnlab.core import initializers
from rnnlab.core.cell import LinearCell
from rnnlab.core.checks import check_size
from rnnlab.core.ops import gates, linear_or_same, wide_dtype, widened
from rnnlab.core.types import Array, Key

POOLINGS = {"f": "fg", "fo": "fgo", "ifo": "ifgo"}
"""The gates of each kind of pooling, with g the new value."""


class QRNNParams(NamedTuple):
    """Parameters of `QRNN`, for its G gates in the order i, f, g, o."""

    kernel: Array | None  # [F, GH]; None where inputs come projected
    bias: Array  # [GH]


@dataclasses.dataclass(frozen=True)
class QRNN(LinearCell[QRNNParams, Array]):
    """Quasi-recurrent network: the pooling, over gates that read the input alone.

        i, f, o = sigmoid(x_t W + b),    g = tanh(x_t W_g + b_g)
        fo:   c_t = f * c_{t-1} + (1 - f) * g,    y_t = o * c_t
        ifo:  c_t = f * c_{t-1} + i * g,          y_t = o * c_t
        f:    as fo, with y_t = c_t

    The gates of the paper come from a convolution over the last K inputs. Here K = 1; for a wider
    one a `CausalConvolution` stands before a cell with `project_input=False`.

    Args:
      features: H.
      pooling: "f", "fo" or "ifo".
      project_input: False reads the G H preactivations, which what stands before has made.

    Raises:
      ValueError: an unknown pooling; at `init`, another number of inputs than
        `project_input=False` reads.

    Example (a convolution of width 2):
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> convolution = rnnlab.cells.CausalConvolution(width=2, features=3 * 16)
        >>> cells = (convolution, rnnlab.cells.QRNN(16, project_input=False))
        >>> params = rnnlab.cells.Stack(cells).init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.sequences.stack(
        ...     cells, params, jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Associative())

    References: Bradbury et al. 2016, "Quasi-recurrent neural networks", section 2. Biases are
    ours. Its zoneout, dense connections and attention are left out.
    """

    features: int
    pooling: str = "fo"
    project_input: bool = True

    def __post_init__(self):
        check_size("QRNN", features=self.features)
        if self.pooling not in POOLINGS:
            raise ValueError(
                f"QRNN: expected pooling to be one of {list(POOLINGS)}, got {self.pooling!r}."
            )

    def init(self, key: Key, in_features: int) -> QRNNParams:
        size = len(POOLINGS[self.pooling]) * self.features
        kernel = None
        if self.project_input:
            kernel = initializers.input_kernel(key, in_features, size)
        elif in_features != size:
            raise ValueError(
                f"QRNN: expected in_features={size}, {len(POOLINGS[self.pooling])} gates of"
                f" {self.features}, with project_input=False, got in_features={in_features}."
            )
        return QRNNParams(kernel, jnp.zeros(size, jnp.float32))

    def initial_carry(self, params: QRNNParams, batch_shape: tuple[int, ...] = ()) -> Array:
        return jnp.zeros((*batch_shape, self.features), wide_dtype(params.bias))

    def project(self, params: QRNNParams, x: Array) -> dict[str, Array]:
        names = POOLINGS[self.pooling]
        kinds = tuple("tanh" if name == "g" else "sigmoid" for name in names)
        z = linear_or_same(x, params.kernel, params.bias)
        parts = gates(z + widened(params.bias, z), kinds)
        return dict(zip(names, parts, strict=True))

    def coefficients(self, params: QRNNParams, z: dict[str, Array]) -> tuple[Array, Array]:
        taken = z["i"] if "i" in z else 1 - z["f"]
        return z["f"], taken * z["g"]

    def readout(self, params: QRNNParams, carry: Array, z: dict[str, Array]) -> Array:
        y = z["o"] * carry if "o" in z else carry
        return y.astype(params.bias.dtype)
