"""`rnnlab.nn.nnx`: equal to Flax where Flax is right, and a good citizen of NNX."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint as ocp
import pytest
from flax import nnx

from rnnlab.cells import GRU, LSTM, Elman, Stack
from rnnlab.nn.nnx import RNN, Bidirectional
from tests.nn import flax_oracle as oracle
from tests.nn.flax_oracle import (
    F,
    H,
    deviation,
    drawn,
    flax_settings,
    normal,
    outputs_and_gradients,
)

B, T = 3, 5
LENGTHS = (5, 1, 3)
KEY = jax.random.key(0)

CASES = {
    "plain": {},
    "lengths": {"seq_lengths": LENGTHS, "return_carry": True},
    "reverse": {"reverse": True, "return_carry": True},
    "reverse, lengths": {"reverse": True, "seq_lengths": LENGTHS, "return_carry": True},
    "reverse, keep order, lengths, time major, carry": {
        "reverse": True,
        "keep_order": True,
        "seq_lengths": LENGTHS,
        "time_major": True,
        "return_carry": True,
        "carry": True,
    },
}
PAIRS = [("SimpleCell", case) for case in CASES] + [
    ("OptimizedLSTMCell", "reverse, keep order, lengths, time major, carry"),
    ("LSTMCell", "lengths"),
    ("GRUCell", "reverse, lengths"),
]


def split(rnn, *others):
    """The parameters of a module and a call that takes them."""
    graphdef, params, *rest = nnx.split(rnn, nnx.Param, *others)

    def call(params, *args, **kwargs):
        return nnx.merge(graphdef, params, *rest, copy=True)(*args, **kwargs)

    return params, call


def set_params(rnn, params):
    jax.tree.map(lambda p, a: p.set_value(a), rnn.params, params, is_leaf=_is_param)


def _is_param(leaf):
    return isinstance(leaf, nnx.Param)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_equals_flax_nnx(name, case):
    flax_cell, cell, convert = oracle.NNX[name]
    options = dict(CASES[case])
    shape = (T, B, F) if options.get("time_major") else (B, T, F)
    inputs = drawn(jnp.zeros(shape), 1)
    carry = None
    if options.pop("carry", False):
        carry = drawn((jnp.zeros((B, H)),) * 2 if "LSTM" in name else jnp.zeros((B, H)), 2)
    with flax_settings():
        theirs = nnx.RNN(
            flax_cell(F, H, dtype=float, param_dtype=float, rngs=nnx.Rngs(0)),
            rngs=nnx.Rngs(0),
        )
        weights, call = split(theirs, ...)
        weights = drawn(weights, 3)
        want, (want_weights, *want_rest) = outputs_and_gradients(
            call, weights, inputs, carry, {}, options
        )
    ours = RNN(cell, F, rngs=nnx.Rngs(0))
    set_params(ours, convert(nnx.to_pure_dict(weights)["cell"]))
    params, call = split(ours)
    got, (got_params, *got_rest) = outputs_and_gradients(call, params, inputs, carry, {}, options)
    got_params = nnx.to_pure_dict(got_params)["params"]
    want_params = convert(nnx.to_pure_dict(want_weights)["cell"])._asdict()
    if name == "GRUCell":  # Flax has no such parameter, so no gradient of it
        del got_params["recurrent_bias"], want_params["recurrent_bias"]
    want_params = {k: v for k, v in want_params.items() if v is not None}
    assert sorted(got_params) == sorted(want_params)
    figure = deviation((got, got_params, got_rest), (want, want_params, want_rest))
    assert figure < 1e-12


@pytest.mark.usefixtures("x64")
def test_bidirectional_equals_flax():
    options = {"seq_lengths": LENGTHS, "return_carry": True}
    inputs = drawn(jnp.zeros((B, T, F)), 1)
    carry = drawn(((jnp.zeros((B, H)),) * 2,) * 2, 2)
    with flax_settings():
        rnns = [
            nnx.RNN(
                nnx.OptimizedLSTMCell(F, H, dtype=float, param_dtype=float, rngs=nnx.Rngs(0)),
                rngs=nnx.Rngs(0),
            )
            for _ in range(2)
        ]
        weights, call = split(nnx.Bidirectional(*rnns, rngs=nnx.Rngs(0)), ...)
        weights = drawn(weights, 3)
        want, (want_weights, *want_rest) = outputs_and_gradients(
            call, weights, inputs, carry, {}, options
        )
    convert = oracle.NNX["OptimizedLSTMCell"][2]
    rngs = nnx.Rngs(0)
    ours = Bidirectional(*(RNN(LSTM(H), F, rngs=rngs) for _ in range(2)))
    pure = nnx.to_pure_dict(weights)
    set_params(ours.forward_rnn, convert(pure["forward_rnn"]["cell"]))
    set_params(ours.backward_rnn, convert(pure["backward_rnn"]["cell"]))
    params, call = split(ours)
    got, (got_params, *got_rest) = outputs_and_gradients(call, params, inputs, carry, {}, options)
    for side in ("forward_rnn", "backward_rnn"):
        got_side = nnx.to_pure_dict(got_params)[side]["params"]
        want_side = convert(nnx.to_pure_dict(want_weights)[side]["cell"])
        assert deviation(got_side, {k: getattr(want_side, k) for k in got_side}) < 1e-12
    assert deviation((got, got_rest), (want, want_rest)) < 1e-12


# --- NNX ---


def test_parameters_are_plain_params_with_the_names_of_the_cell():
    def paths(cell):
        leaves = nnx.to_flat_state(nnx.state(RNN(cell, F, rngs=nnx.Rngs(0))))
        assert all(type(leaf) is nnx.Param for _, leaf in leaves)
        return [path for path, _ in leaves]

    assert paths(LSTM(H)) == [
        ("params", "bias"),
        ("params", "kernel"),
        ("params", "recurrent_kernel"),
    ]
    assert ("params", "norms", "cell_bias") in paths(LSTM(H, layer_norm=True))
    assert ("params", 1, "recurrent_bias") in paths(Stack((Elman(H), GRU(H))))


@pytest.mark.parametrize("cell", [LSTM(H, layer_norm=True), Stack((Elman(H), Elman(2)))])
def test_params_are_those_of_the_cell_and_survive_split_and_merge(cell):
    rnn = RNN(cell, F, rngs=nnx.Rngs(params=7))
    want = cell.init(nnx.Rngs(params=7).params(), F)
    for params in (rnn.cell_params, nnx.merge(*nnx.split(rnn)).cell_params):
        assert jax.tree.structure(params) == jax.tree.structure(want)
        jax.tree.map(np.testing.assert_array_equal, params, want)


def test_stepping_with_the_parameters_equals_a_call():
    rnn, x = RNN(Elman(H), F, rngs=nnx.Rngs(0)), normal(B, T, F)
    carry = rnn.cell.initial_carry(rnn.cell_params, (B,))
    for t in range(T):
        carry, y = rnn.cell.step(rnn.cell_params, carry, x[:, t])
    np.testing.assert_allclose(rnn(x)[:, -1], y, atol=1e-6)


def test_trains_under_nnx_jit_and_grad():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.rnn = RNN(LSTM(H), F, rngs=rngs)
            self.out = nnx.Linear(H, 1, rngs=rngs)

        def __call__(self, x):
            return self.out(self.rnn(x)[:, -1])

    @nnx.jit
    def step(model, optimizer, x, y):
        loss, grads = nnx.value_and_grad(lambda m: jnp.mean((m(x) - y) ** 2))(model)
        optimizer.update(model, grads)
        return loss

    with flax_settings():  # optax and nnx.Linear promote
        model = Model(nnx.Rngs(0))
        before = jax.tree.map(jnp.copy, model.rnn.cell_params)
        optimizer = nnx.Optimizer(model, optax.adam(1e-2), wrt=nnx.Param)
        x, y = normal(8, T, F), normal(8, 1)
        losses = [step(model, optimizer, x, y) for _ in range(20)]
    assert losses[-1] < 0.8 * losses[0]
    after = model.rnn.cell_params
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, after)
    assert all(jax.tree.leaves(moved))


def test_equal_cells_share_one_trace():
    traces = []

    @nnx.jit
    def call(rnn, x):
        traces.append(rnn.cell)
        return rnn(x)

    x = normal(B, T, F)
    first, second = (RNN(GRU(H), F, rngs=nnx.Rngs(seed)) for seed in range(2))
    call(first, x)
    got = call(second, x)
    assert len(traces) == 1
    np.testing.assert_allclose(got, second(x), atol=1e-6)  # its own parameters, not the first's
    call(RNN(Elman(H), F, rngs=nnx.Rngs(0)), x)
    assert len(traces) == 2


def test_vmap_over_modules_equals_each():
    @nnx.vmap
    def ensemble(rngs):
        return RNN(Elman(H), F, rngs=rngs)

    x = normal(B, T, F)
    with flax_settings():
        rnns = ensemble(nnx.Rngs(0).split(2))
    ys = nnx.vmap(lambda rnn, x: rnn(x), in_axes=(0, None))(rnns, x)
    graphdef, state = nnx.split(rnns)
    for i in range(2):
        one = nnx.merge(graphdef, jax.tree.map(lambda a, i=i: a[i], state))
        np.testing.assert_allclose(ys[i], one(x), atol=1e-6)
    assert not np.allclose(ys[0], ys[1])


def test_state_goes_through_a_checkpoint(tmp_path):
    rnn = RNN(Stack((Elman(H), Elman(2))), F, rngs=nnx.Rngs(0))
    other = RNN(Stack((Elman(H), Elman(2))), F, rngs=nnx.Rngs(1))
    with flax_settings(), ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "state", nnx.state(rnn))
        checkpointer.wait_until_finished()
        nnx.update(other, checkpointer.restore(tmp_path / "state", nnx.state(other)))
    np.testing.assert_array_equal(other(normal(B, T, F)), rnn(normal(B, T, F)))


def test_bfloat16_params_compute_in_bfloat16_with_a_float32_carry():
    rnn = RNN(Elman(H), F, rngs=nnx.Rngs(0), return_carry=True)
    want = rnn(normal(B, T, F))[1]
    nnx.update(rnn, jax.tree.map(lambda a: a.astype(jnp.bfloat16), nnx.state(rnn)))
    carry, ys = rnn(normal(B, T, F))
    assert ys.dtype == jnp.bfloat16 and carry.dtype == jnp.float32
    np.testing.assert_allclose(ys.astype(jnp.float32), want, atol=0.05)


# --- errors ---


@pytest.mark.parametrize(
    ("error", "message", "arguments"),
    [
        (TypeError, "cell: expected an rnnlab.Cell .* got .*LSTMCell", {"cell": nnx.LSTMCell}),
        (
            TypeError,
            r"expected in_features to be a whole number, got \(3,\)",
            {"in_features": (3,)},
        ),
        (ValueError, "expected in_features >= 1, got in_features=0", {"in_features": 0}),
        (TypeError, r"rngs: expected flax.nnx.Rngs.* got 0", {"rngs": 0}),
    ],
)
def test_wrong_constructions_say_what_to_do(error, message, arguments):
    arguments = {"cell": LSTM(H), "in_features": F, "rngs": nnx.Rngs(0), **arguments}
    with pytest.raises(error, match=message):
        RNN(arguments.pop("cell"), **arguments)
