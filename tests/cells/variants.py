"""Cells to test, small and in every configuration, and random arguments for them."""

import itertools

import jax
import numpy as np

from rnnlab.cells import (
    CELLS,
    GRU,
    JANET,
    LEM,
    LRU,
    LSTM,
    MLSTM,
    NTM,
    QRNN,
    RAN,
    RGLRU,
    RHN,
    RWKV7,
    S5,
    S6,
    SLSTM,
    SRU,
    SSD,
    AntisymmetricRNN,
    AttentionCell,
    CausalConvolution,
    ConvGRU,
    ConvLSTM,
    CoRNN,
    DeltaNet,
    Elman,
    GatedBlock,
    GatedDeltaNet,
    Highway,
    IndRNN,
    LinearAttention,
    LipschitzRNN,
    MinGRU,
    MogrifierLSTM,
    ResetBeforeGRU,
    Residual,
    Stack,
    Zoneout,
    mamba2,
)
from rnnlab.core.ops import ACTIVATIONS

IN_FEATURES = 3
FEATURES = 4

LSTM_OPTIONS = {
    "peephole": True,
    "coupled": True,
    "layer_norm": True,
    "projection": 2,
    "cell_clip": 0.4,  # small enough that it clips
}


def softsign(x):
    """An activation of the user's own, for arrays of jax and of numpy."""
    return x / (1 + abs(x))


def _lstms():
    """The LSTM with every subset of its options, by the names of those options."""
    for count in range(len(LSTM_OPTIONS) + 1):
        for names in itertools.combinations(LSTM_OPTIONS, count):
            options = {name: LSTM_OPTIONS[name] for name in names}
            yield "_".join(("lstm", *names)), LSTM(FEATURES, **options)


LSTMS = dict(_lstms())

VARIANTS = {
    **{name: make(FEATURES) for name, make in CELLS.items()},
    **{f"elman_{name}": Elman(FEATURES, activation=name) for name in ACTIVATIONS},
    "elman_function": Elman(FEATURES, activation=softsign),
    **LSTMS,
    "lstm_wide_projection": LSTM(FEATURES, projection=6),
    "ran_identity": RAN(FEATURES, activation="identity"),
    "janet_beta": JANET(FEATURES, beta=0.3),
    "ind_rnn_tanh": IndRNN(FEATURES, activation="tanh"),
    "co_rnn_constants": CoRNN(FEATURES, time_step=0.5, gamma=1.3, epsilon=0.7),
    "lem_time_step": LEM(FEATURES, time_step=0.4),
    "antisymmetric_rnn_gated": AntisymmetricRNN(FEATURES, gated=True, time_step=0.6, gamma=0.2),
    "lipschitz_rnn_constants": LipschitzRNN(
        FEATURES, beta=0.6, linear_gamma=0.3, gamma=0.1, time_step=0.5
    ),
    "slstm_heads": SLSTM(FEATURES, heads=2),
    "slstm_exp": SLSTM(FEATURES, heads=4, forget_gate="exp"),
    "sru_identity": SRU(FEATURES, activation="identity"),
    "qrnn_f": QRNN(FEATURES, pooling="f"),
    "qrnn_ifo": QRNN(FEATURES, pooling="ifo"),
    "qrnn_width_2": Stack(
        (
            CausalConvolution(2, features=3 * FEATURES),
            QRNN(FEATURES, project_input=False),
        )
    ),
    "rg_lru_exponent": RGLRU(FEATURES, exponent=2.0),
    "s5_state": S5(FEATURES, state_features=3),
    "s6_options": S6(FEATURES, state_features=2, step_rank=3),
    "ssd_heads": SSD(FEATURES, heads=2, state_features=3),
    "causal_convolution": CausalConvolution(),
    "causal_convolution_wide": CausalConvolution(2, FEATURES, "relu"),
    "causal_convolution_one": CausalConvolution(1, activation="tanh"),
    "one_size": Stack((SRU(IN_FEATURES), RGLRU(IN_FEATURES), S6(IN_FEATURES, state_features=2))),
    "gated_block": GatedBlock(MinGRU(FEATURES), FEATURES, cell_features=2),
    "mamba2_options": mamba2(FEATURES, expand=1, width=2, state_features=3, heads=2),
    "rhn_uncoupled": RHN(FEATURES, depth=3, coupled=False),
    "mogrifier_lstm_rank": MogrifierLSTM(FEATURES, rounds=2, rank=2),
    "ntm_small": NTM(FEATURES, slots=3, slot_features=2),
    "conv_lstm_1d": ConvLSTM(2, spatial_shape=(5,)),
    "conv_lstm_2d": ConvLSTM(2, spatial_shape=(4, 3), window=(3, 2)),
    "conv_gru_2d": ConvGRU(2, spatial_shape=(4, 3)),
    "conv_gru_3d": ConvGRU(2, spatial_shape=(2, 3, 2)),
    "attention_bahdanau": AttentionCell(GRU(FEATURES), 2, attention_features=3),
    "attention_luong": AttentionCell(LSTM(FEATURES), 2, attention="luong"),
    "highway": Highway(GRU(IN_FEATURES)),
    "highway_convolution": Highway(ConvGRU(IN_FEATURES, spatial_shape=(3,))),
    "zoneout": Zoneout(LSTM(FEATURES), rate=(0.5, 0.1)),
    "mlstm_heads": MLSTM(FEATURES, heads=2),
    "mlstm_exp": MLSTM(FEATURES, heads=2, forget_gate="exp"),
    "linear_attention_heads": LinearAttention(FEATURES, heads=2),
    "linear_attention_plain": LinearAttention(FEATURES, heads=4, normalised=False),
    "delta_net_heads": DeltaNet(FEATURES, heads=2),
    "gated_delta_net_heads": GatedDeltaNet(FEATURES, heads=2),
    "rwkv7_heads": RWKV7(FEATURES, heads=2),
    "lru_small_state": LRU(FEATURES, state_features=2),
    "lru_large_state": LRU(FEATURES, state_features=7),
    "stack": Stack((LSTM(FEATURES, projection=2), GRU(FEATURES), LRU(IN_FEATURES))),
    "stack_of_one": Stack((GRU(FEATURES),)),
    "residual": Residual(GRU(IN_FEATURES)),
    "residual_lru": Residual(LRU(IN_FEATURES, state_features=FEATURES)),
    "residual_of_stack": Residual(Stack((Elman(FEATURES), LSTM(IN_FEATURES)))),
    "nested": Stack(
        (
            Residual(Residual(MinGRU(IN_FEATURES))),
            Stack((ResetBeforeGRU(FEATURES), Residual(LSTM(FEATURES, peephole=True)))),
        )
    ),
}
"""Every cell of `CELLS`, its options, and wrappers around them, reading `IN_FEATURES` features."""


def random_like(tree, seed, scale=1.0):
    """Normal numbers in place of every leaf, so that no bias or norm stays at its start value."""
    rng = np.random.default_rng(seed)

    def draw(leaf):
        values = rng.normal(size=leaf.shape)
        if np.issubdtype(leaf.dtype, np.complexfloating):
            values = values + 1j * rng.normal(size=leaf.shape)
        return (scale * values).astype(leaf.dtype)

    return jax.tree.map(draw, tree)


def random_arguments(cell, length, batch=(), dtype="float64", in_features=IN_FEATURES):
    """Random params, xs and carry for `cell`, as numpy arrays of `dtype` or its complex kin."""
    params = jax.eval_shape(lambda key: cell.init(key, in_features), jax.random.key(0))
    params = jax.tree.map(lambda leaf: leaf.update(dtype=np.dtype(dtype)), params)
    carry = jax.eval_shape(lambda params: cell.initial_carry(params, batch), params)
    xs = jax.ShapeDtypeStruct((length, *batch, *cell.input_shape(in_features)), np.dtype(dtype))
    return random_like(params, 1, scale=0.5), random_like(xs, 2), random_like(carry, 3)
