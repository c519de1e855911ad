"""Layer 2: the cells. `CELLS` is the catalogue that flags, tests and benchmarks read."""

import math
from collections.abc import Callable

from rnnlab.cells.antisymmetric_rnn import AntisymmetricRNN as AntisymmetricRNN
from rnnlab.cells.attention_cell import AttentionCarry as AttentionCarry
from rnnlab.cells.attention_cell import AttentionCell as AttentionCell
from rnnlab.cells.causal_convolution import CausalConvolution as CausalConvolution
from rnnlab.cells.co_rnn import CoRNN as CoRNN
from rnnlab.cells.co_rnn import CoRNNCarry as CoRNNCarry
from rnnlab.cells.conv_gru import ConvGRU as ConvGRU
from rnnlab.cells.conv_lstm import ConvLSTM as ConvLSTM
from rnnlab.cells.delta_net import DeltaNet as DeltaNet
from rnnlab.cells.diagonal_gru import DiagonalGRU as DiagonalGRU
from rnnlab.cells.diagonal_lstm import DiagonalLSTM as DiagonalLSTM
from rnnlab.cells.elman import Elman as Elman
from rnnlab.cells.gated_block import GatedBlock as GatedBlock
from rnnlab.cells.gated_delta_net import GatedDeltaNet as GatedDeltaNet
from rnnlab.cells.gru import GRU as GRU
from rnnlab.cells.highway import Highway as Highway
from rnnlab.cells.ind_rnn import IndRNN as IndRNN
from rnnlab.cells.janet import JANET as JANET
from rnnlab.cells.lem import LEM as LEM
from rnnlab.cells.lem import LEMCarry as LEMCarry
from rnnlab.cells.li_gru import LiGRU as LiGRU
from rnnlab.cells.linear_attention import LinearAttention as LinearAttention
from rnnlab.cells.lipschitz_rnn import LipschitzRNN as LipschitzRNN
from rnnlab.cells.lru import LRU as LRU
from rnnlab.cells.lstm import LSTM as LSTM
from rnnlab.cells.mgu import MGU as MGU
from rnnlab.cells.min_gru import MinGRU as MinGRU
from rnnlab.cells.min_lstm import MinLSTM as MinLSTM
from rnnlab.cells.mlstm import MLSTM as MLSTM
from rnnlab.cells.mogrifier_lstm import MogrifierLSTM as MogrifierLSTM
from rnnlab.cells.ntm import NTM as NTM
from rnnlab.cells.ntm import NTMCarry as NTMCarry
from rnnlab.cells.qrnn import QRNN as QRNN
from rnnlab.cells.ran import RAN as RAN
from rnnlab.cells.recurrent_batch_norm import RecurrentBatchNorm as RecurrentBatchNorm
from rnnlab.cells.reset_before_gru import ResetBeforeGRU as ResetBeforeGRU
from rnnlab.cells.residual import Residual as Residual
from rnnlab.cells.rg_lru import RGLRU as RGLRU
from rnnlab.cells.rhn import RHN as RHN
from rnnlab.cells.rwkv7 import RWKV7 as RWKV7
from rnnlab.cells.s5 import S5 as S5
from rnnlab.cells.s6 import S6 as S6
from rnnlab.cells.sequence_batch_norm import SequenceBatchNorm as SequenceBatchNorm
from rnnlab.cells.slstm import SLSTM as SLSTM
from rnnlab.cells.slstm import SLSTMCarry as SLSTMCarry
from rnnlab.cells.sru import SRU as SRU
from rnnlab.cells.ssd import SSD as SSD
from rnnlab.cells.stack import Stack as Stack
from rnnlab.cells.ugrnn import UGRNN as UGRNN
from rnnlab.cells.zoneout import Zoneout as Zoneout
from rnnlab.core.cell import Cell
from rnnlab.core.types import LSTMCarry as LSTMCarry


def mamba(
    features: int, *, expand: int = 2, width: int = 4, state_features: int = 16
) -> GatedBlock:
    """The Mamba block: a gate around a causal convolution and the selective model `S6`.

        u_t, g_t = x_t W,    v_t = S6(silu(conv(u_t))),    y_t = (v_t * silu(g_t)) W_out

    Args:
      features: H, the size of y.
      expand: the cells inside have `expand * H` features.
      width: K, of the convolution.
      state_features: N, of `S6`.

    Example (streaming, and a whole sequence with every part a parallel scan):
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> cell = rnnlab.cells.mamba(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, y = cell.step(params, cell.initial_carry(params), jnp.ones(3))
        >>> carry, ys = rnnlab.sequences.stack(
        ...     (cell,), (params,), jnp.ones((10, 4, 3)), strategy=rnnlab.strategies.Associative())

    References: Gu & Dao 2023, "Mamba: linear-time sequence modeling with selective state spaces",
    section 3.4 and figure 3.
    """
    size = expand * features
    parts = CausalConvolution(width, activation="silu"), S6(size, state_features)
    return GatedBlock(Stack(parts), features, cell_features=size)


def mamba2(
    features: int,
    *,
    expand: int = 2,
    width: int = 4,
    state_features: int = 64,
    heads: int | None = None,
) -> GatedBlock:
    """The Mamba-2 block: all projections at the front, `SSD` inside, a norm before the last.

        [x, B, C]_t, d_t, g_t = x_t W,    v_t = SSD(silu(conv([x, B, C]_t)), d_t)
        y_t = norm(v_t * silu(g_t)) W_out

    The convolution reads x, B and C; the step d goes past it.

    Args:
      features: H, the size of y.
      expand: the model inside has `expand * H` features.
      width: K, of the convolution.
      state_features: D, of `SSD`.
      heads: of `SSD`; None takes heads of 64 features, or of the greatest common divisor.

    Example (each part with the strategy for its kind):
        >>> import jax, jax.numpy as jnp, rnnlab
        >>> from rnnlab.strategies import Associative, Chunkwise
        >>> cell = rnnlab.cells.mamba2(16)
        >>> params = cell.init(jax.random.key(0), in_features=3)
        >>> carry, ys = rnnlab.sequences.stack(
        ...     (cell,), (params,), jnp.ones((10, 4, 3)), strategy=[(Associative(), Chunkwise())])

    References: Dao & Gu 2024, "Transformers are SSMs", section 7.1 and figure 6.
    """
    size = expand * features
    heads = size // math.gcd(size, 64) if heads is None else heads
    model = SSD(size, heads, state_features, project_input=False)
    parts = CausalConvolution(width, activation="silu", passed=heads), model
    return GatedBlock(Stack(parts), features, model.projected_features, normalised=True)


CELLS: dict[str, Callable[[int], Cell]] = {
    "elman": Elman,
    "lstm": LSTM,
    "gru": GRU,
    "reset_before_gru": ResetBeforeGRU,
    "min_gru": MinGRU,
    "lru": LRU,
    "mgu": MGU,
    "li_gru": LiGRU,
    "ugrnn": UGRNN,
    "ran": RAN,
    "janet": JANET,
    "ind_rnn": IndRNN,
    "co_rnn": CoRNN,
    "lem": LEM,
    "antisymmetric_rnn": AntisymmetricRNN,
    "lipschitz_rnn": LipschitzRNN,
    "diagonal_gru": DiagonalGRU,
    "diagonal_lstm": DiagonalLSTM,
    "slstm": SLSTM,
    "mlstm": MLSTM,
    "linear_attention": LinearAttention,
    "delta_net": DeltaNet,
    "gated_delta_net": GatedDeltaNet,
    "rwkv7": RWKV7,
    "rhn": RHN,
    "mogrifier_lstm": MogrifierLSTM,
    "ntm": NTM,
    "sru": SRU,
    "qrnn": QRNN,
    "min_lstm": MinLSTM,
    "rg_lru": RGLRU,
    "s5": S5,
    "s6": S6,
    "ssd": SSD,
    "mamba": mamba,
    "mamba2": mamba2,
}
"""A cell of any size by the name that `--cell` takes."""
