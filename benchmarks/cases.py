"""The named shapes that benchmarks measure, and what their matmuls cost at the least."""

from typing import NamedTuple


class Shape(NamedTuple):
    """A layer whose inputs have as many features as its state."""

    features: int  # H, of input and state
    batch: int  # B
    length: int  # T

    def __str__(self) -> str:
        return f"{self.features}, {self.batch}, {self.length}"


# Sizes of DeepBench, of Zaremba et al. 2014 and of AWD-LSTM (Merity et al. 2017), and small ones.
CPU_SHAPES = (
    Shape(64, 1, 100),
    Shape(128, 16, 100),
    Shape(256, 1, 128),
    Shape(256, 8, 128),
    Shape(256, 16, 150),
    Shape(256, 64, 150),
    Shape(512, 32, 25),
    Shape(650, 20, 35),
    Shape(1024, 16, 25),
)
GPU_SHAPES = (
    Shape(256, 64, 150),
    Shape(512, 32, 25),
    Shape(768, 16, 1024),
    Shape(1024, 64, 25),
    Shape(1024, 32, 1500),
    Shape(1536, 32, 187),
    Shape(2048, 32, 25),
)

GATES = {"elman": 1, "gru": 3, "lstm": 4}  # columns of the kernels, in multiples of H


def matmul_flops(gates: int, shape: Shape, backward: bool) -> int:
    """Floating-point operations of the matmuls of a layer over a sequence.

    Args:
      gates: columns of the input kernel and of the recurrent kernel, in multiples of H.
      shape: of the layer.
      backward: with the gradients of inputs, carries and both kernels.
    """
    once = 2 * 2 * gates * shape.features**2 * shape.batch * shape.length
    return 3 * once if backward else once
