"""`rnnlab.nn.linen`: equal to Flax where Flax is right, and to `rnnlab.nn.nnx` everywhere."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import errors, nnx, serialization

import rnnlab
from rnnlab.cells import GRU, LSTM, Elman, MinGRU, Stack
from rnnlab.nn import nnx as rnnlab_nnx
from rnnlab.nn.linen import RNN, Bidirectional
from rnnlab.strategies import Deferred
from tests.nn import flax_oracle as oracle
from tests.nn.flax_oracle import (
    Counted,
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
    "plain": ({}, {}),
    "lengths": ({"return_carry": True}, {"seq_lengths": LENGTHS}),
    "reverse": ({"reverse": True, "return_carry": True}, {}),
    "reverse, lengths": ({"reverse": True}, {"seq_lengths": LENGTHS, "return_carry": True}),
    "reverse, keep order, lengths, time major": (
        {"reverse": True, "keep_order": True, "time_major": True, "return_carry": True},
        {"seq_lengths": LENGTHS},
    ),
}
PAIRS = [
    ("SimpleCell", "plain"),
    ("SimpleCell", "reverse, lengths"),
    ("OptimizedLSTMCell", "lengths"),
    ("OptimizedLSTMCell", "reverse"),
    ("GRUCell", "reverse, keep order, lengths, time major"),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("name", "case"), PAIRS)
def test_equals_flax_linen(name, case):
    flax_cell, cell, convert = oracle.LINEN[name]
    fields, arguments = CASES[case]
    inputs = drawn(jnp.zeros((T, B, F) if fields.get("time_major") else (B, T, F)), 1)
    carry = None
    if name != "SimpleCell":
        carry = drawn((jnp.zeros((B, H)),) * 2 if "LSTM" in name else jnp.zeros((B, H)), 2)
    with flax_settings():
        theirs = nn.RNN(flax_cell(H, dtype=float, param_dtype=float), **fields)
        weights = drawn(jax.eval_shape(theirs.init, KEY, inputs), 3)
        want, (want_weights, *want_rest) = outputs_and_gradients(
            theirs.apply, weights, inputs, carry, fields, arguments
        )
    ours = RNN(cell, **fields)
    params = {"params": _present(convert(weights["params"]["cell"]))}
    got, (got_params, *got_rest) = outputs_and_gradients(
        ours.apply, params, inputs, carry, fields, arguments
    )
    want_params = {"params": _present(convert(want_weights["params"]["cell"]))}
    assert jax.tree.structure(got_params) == jax.tree.structure(want_params)
    figure = deviation((got, got_params, got_rest), (want, want_params, want_rest))
    assert figure < 1e-12


def _present(params):
    return {name: value for name, value in params._asdict().items() if value is not None}


@pytest.mark.parametrize(
    "options",
    [
        {"seq_lengths": np.array([5, 0, 3]), "mask": np.arange(B * T).reshape(B, T) % 4 != 1},
        {"reset": np.arange(B * T).reshape(B, T) % 3 == 0, "reverse": True},
        {"seq_lengths": np.array([2, 0, 5]), "reverse": True, "initial_carry": 0.3},
    ],
)
def test_equals_the_nnx_module_with_the_same_parameters(options):
    options = {"return_carry": True, **options}
    if "initial_carry" in options:
        options["initial_carry"] = normal(B, H) * options["initial_carry"]
    theirs = rnnlab_nnx.RNN(GRU(H), F, rngs=nnx.Rngs(0), strategy=Deferred())
    want_carry, want = theirs(normal(B, T, F), **options)
    ours = RNN(GRU(H), strategy=Deferred())
    variables = {"params": theirs.cell_params._asdict()}
    carry, ys = ours.apply(variables, normal(B, T, F), **options)
    np.testing.assert_array_equal(ys, want)
    np.testing.assert_array_equal(carry, want_carry)


def test_bidirectional_equals_the_nnx_module_with_the_same_parameters():
    rngs = nnx.Rngs(0)
    theirs = rnnlab_nnx.Bidirectional(
        *(rnnlab_nnx.RNN(GRU(H), F, rngs=rngs) for _ in range(2)), merge_fn="mean"
    )
    ours = Bidirectional(RNN(GRU(H)), RNN(GRU(H)), merge_fn="mean", return_carry=True)
    variables = {
        "params": {
            "forward_rnn": theirs.forward_rnn.cell_params._asdict(),
            "backward_rnn": theirs.backward_rnn.cell_params._asdict(),
        }
    }
    x = normal(B, T, F)
    made = ours.init(KEY, x)
    assert jax.tree.structure(made) == jax.tree.structure(variables)
    options = {"seq_lengths": jnp.array([5, 0, 3]), "initial_carry": (normal(B, H), normal(B, H))}
    carries, ys = ours.apply(variables, x, **options)
    want_carries, want = theirs(x, return_carry=True, **options)
    np.testing.assert_array_equal(ys, want)
    jax.tree.map(np.testing.assert_array_equal, carries, want_carries)


# --- Linen ---


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        (LSTM(H, peephole=True), ["bias", "kernel", "peephole", "recurrent_kernel"]),
        (
            LSTM(H, layer_norm=True),
            [
                *("bias", "kernel", "norms.cell", "norms.cell_bias", "norms.hidden"),
                *("norms.input", "recurrent_kernel"),
            ],
        ),
        (
            Stack((Elman(H), Elman(2))),
            [
                "0.bias",
                "0.kernel",
                "0.recurrent_kernel",
                "1.bias",
                "1.kernel",
                "1.recurrent_kernel",
            ],
        ),
        (Counted(H), ["array"]),
    ],
)
def test_parameters_have_the_names_of_the_cell_and_come_back_as_its_tree(cell, names):
    rnn, x = RNN(cell), normal(B, T, F)
    variables = rnn.init(KEY, x)
    assert sorted(variables["params"]) == names
    params = rnn.apply(variables, F, method="cell_params")
    shapes = jax.eval_shape(lambda: cell.init(KEY, F))
    assert jax.tree.structure(params) == jax.tree.structure(shapes)
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)
    _, want = rnnlab.unroll(cell, params, x.swapaxes(0, 1))
    np.testing.assert_allclose(rnn.apply(variables, x), want.swapaxes(0, 1), atol=1e-6)


def test_init_draws_all_parameters_as_the_cell_does():
    """One key: recurrent blocks are orthogonal, the forget bias is 1, and seeds differ."""
    params = RNN(LSTM(H)).init(KEY, normal(B, T, F))["params"]
    block = params["recurrent_kernel"][:, :H]
    np.testing.assert_allclose(block @ block.T, jnp.eye(H), atol=1e-5)
    np.testing.assert_array_equal(params["bias"], [0] * H + [1] * H + [0] * 2 * H)
    again = RNN(LSTM(H)).init(jax.random.key(1), normal(B, T, F))["params"]
    assert not np.array_equal(again["kernel"], params["kernel"])


def test_missing_parameters_are_drawn_or_refused_never_zero():
    rnn, x = RNN(GRU(H)), normal(B, T, F)
    variables = rnn.init(KEY, x)
    partial = {"params": {k: v for k, v in variables["params"].items() if k != "kernel"}}
    with pytest.raises(errors.ScopeParamNotFoundError, match="kernel"):
        rnn.apply(partial, x)
    _, filled = rnn.apply(partial, x, mutable=["params"], rngs={"params": KEY})
    assert np.all(filled["params"]["kernel"] != 0)
    with pytest.raises(errors.ScopeParamShapeError, match=r"\(4, 12\).*\(3, 12\)"):
        rnn.apply(variables, normal(B, T, 4))


def test_equal_cells_share_one_trace():
    traces = []

    @functools.partial(jax.jit, static_argnums=0)
    def call(rnn, variables, x):
        traces.append(rnn)
        return rnn.apply(variables, x)

    x = normal(B, T, F)
    variables = RNN(GRU(H)).init(KEY, x)
    call(RNN(GRU(H)), variables, x)
    call(RNN(GRU(H)), variables, x)
    assert len(traces) == 1
    call(RNN(GRU(H), reverse=True), variables, x)
    assert len(traces) == 2


def test_equal_cells_share_one_trace_outside_jit():
    x = normal(B, T + 2, F)  # a shape that no other test has traced
    variables = RNN(Counted(H)).init(KEY, x)
    Counted.traces.clear()
    RNN(Counted(H), reverse=True).apply(variables, x)
    once = len(Counted.traces)
    assert once > 0
    RNN(Counted(H), reverse=True).apply(variables, x)
    assert len(Counted.traces) == once


class Model(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(1)(RNN(Elman(H), name="rnn")(x)[:, -1])


def test_trains_inside_a_model_under_jit():
    model, x, y = Model(), normal(8, T, F), normal(8, 1)
    with flax_settings():  # nn.Dense promotes

        @jax.jit
        def step(variables):
            loss, grads = jax.value_and_grad(lambda v: jnp.mean(jnp.square(model.apply(v, x) - y)))(
                variables
            )
            return loss, jax.tree.map(lambda p, g: p - 0.1 * g, variables, grads)

        before = variables = model.init(KEY, x)
        losses = []
        for _ in range(30):
            loss, variables = step(variables)
            losses.append(float(loss))
    assert losses[-1] < 0.8 * losses[0]
    moved = jax.tree.map(lambda a, b: bool(jnp.any(a != b)), before, variables)
    assert sorted(moved["params"]) == ["Dense_0", "rnn"] and all(jax.tree.leaves(moved))


def test_lifted_vmap_draws_and_runs_each_apart():
    ensemble = nn.vmap(
        RNN, in_axes=None, axis_size=2, variable_axes={"params": 0}, split_rngs={"params": True}
    )(Elman(H))
    x = normal(B, T, F)
    with flax_settings():
        variables = ensemble.init(KEY, x)
        ys = ensemble.apply(variables, x)
    for i in range(2):
        one = jax.tree.map(lambda a, i=i: a[i], variables)
        np.testing.assert_allclose(ys[i], RNN(Elman(H)).apply(one, x), atol=1e-6)
    assert not np.allclose(ys[0], ys[1])


def test_variables_go_through_bytes():
    rnn, x = RNN(Stack((Elman(H), Elman(2)))), normal(B, T, F)
    variables, other = rnn.init(KEY, x), rnn.init(jax.random.key(1), x)
    restored = serialization.from_bytes(other, serialization.to_bytes(variables))
    np.testing.assert_array_equal(rnn.apply(restored, x), rnn.apply(variables, x))


# --- errors ---


@pytest.mark.parametrize(
    ("error", "message", "module", "arguments"),
    [
        (TypeError, "cell: expected an rnnlab.Cell", RNN(nn.LSTMCell(H)), {}),
        (ValueError, r"inputs: expected \[\*batch, time", RNN(LSTM(H)), {"inputs": np.ones(3)}),
        (ValueError, r"inputs: expected an array", RNN(LSTM(H)), {"inputs": ()}),
        (TypeError, "strategy: expected an instance", RNN(LSTM(H), strategy=Deferred), {}),
        (ValueError, "Deferred.* cannot run MinGRU", RNN(MinGRU(H), strategy=Deferred()), {}),
        (
            ValueError,
            "mask: expected keep_order=True",
            RNN(LSTM(H), reverse=True),
            {"mask": np.ones((B, T), bool)},
        ),
        (
            TypeError,
            "forward_rnn: expected an rnnlab.nn.linen.RNN, got OptimizedLSTMCell",
            Bidirectional(nn.OptimizedLSTMCell(H), RNN(LSTM(H))),
            {},
        ),
        (
            ValueError,
            "merge_fn: expected one of .*'concat'.* got 'add'",
            Bidirectional(RNN(LSTM(H)), RNN(LSTM(H)), merge_fn="add"),
            {},
        ),
    ],
)
def test_wrong_arguments_say_what_to_do(error, message, module, arguments):
    arguments = {"inputs": normal(B, T, F), **arguments}
    with pytest.raises(error, match=message):
        module.init(KEY, **arguments)
