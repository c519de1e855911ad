"""Transformer, TCN and MLP over a window: what they see, and that parts are the whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.models import TCN, Transformer, WindowMLP

T, B, F, H = 11, 3, 5, 8
BODIES = {
    "mlp": WindowMLP(H, context=4, layers=2),
    "tcn": TCN(H, blocks=2, width=2),
    "transformer": Transformer(H, blocks=2, heads=2, context=4),
}
SEES = {"mlp": 4, "tcn": 7, "transformer": 1 + 2 * 3}  # inputs that an output depends on
XS = jnp.asarray(np.random.default_rng(0).normal(size=(T, B, F)), jnp.float32)
EVERY = pytest.mark.parametrize("name", BODIES)


@pytest.fixture(scope="module")
def bodies():
    """Name -> body, its parameters with nothing at zero, and its compiled `apply`."""

    def drawn(body):
        params = body.init(jax.random.key(0), F)
        keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(params))))
        return jax.tree.map(lambda a: a + 0.3 * jax.random.normal(next(keys), a.shape), params)

    return {
        name: (body, jax.jit(drawn, static_argnums=0)(body), jax.jit(body.apply))
        for name, body in BODIES.items()
    }


def close(a, b):
    np.testing.assert_allclose(a, b, atol=3e-6, rtol=1e-5)


@EVERY
def test_windows_with_a_carry_are_one_long_window(bodies, name):
    body, params, apply = bodies[name]
    last, whole = apply(params, XS)
    carry, parts = body.initial_carry(params, B), []
    for window in (XS[:1], XS[1:3], XS[3:9], XS[9:10], XS[10:]):
        carry, ys = apply(params, window, carry)
        parts.append(ys)
    close(jnp.concatenate(parts), whole)
    _, after = apply(params, XS[:2], carry)
    _, expected = apply(params, XS[:2], last)
    close(after, expected)


@EVERY
def test_steps_are_the_window(bodies, name):
    body, params, apply = bodies[name]
    _, whole = apply(params, XS)
    carry, step = body.initial_carry(params, B), jax.jit(body.step)
    for x, expected in zip(XS, whole, strict=True):
        carry, y = step(params, carry, x)
        close(y, expected)


@EVERY
def test_a_step_sees_its_context_and_nothing_after_it(bodies, name):
    body, params, apply = bodies[name]
    assert getattr(body, "context", 0) in (SEES[name], 4)
    _, before = apply(params, XS)
    _, after = apply(params, XS.at[2].add(1.0))
    changed = np.abs(np.asarray(after - before)).max(axis=(1, 2)) > 0
    assert np.flatnonzero(changed).tolist() == list(range(2, 2 + SEES[name]))


@EVERY
def test_a_reset_starts_anew_and_a_mask_leaves_steps_out(bodies, name):
    """Packed and padded rows equal texts on their own, whatever stands where there is nothing."""
    body, params, apply = bodies[name]
    rng = np.random.default_rng(1)
    mask, reset = rng.random((T, B)) < 0.6, rng.random((T, B)) < 0.3
    carry, _ = apply(params, XS[:5], None)
    dirty = jnp.where(mask[..., None], XS, jnp.nan)
    after, ys = apply(params, dirty, carry, mask=mask, reset=reset)
    fresh = body.initial_carry(params, 1)
    step = jax.jit(body.step)
    for b in range(B):
        row = jax.tree.map(lambda a, b=b: a[b : b + 1], carry)
        for t in range(T):
            if reset[t, b]:
                row = fresh
            expected = np.zeros((1, H))
            if mask[t, b]:
                row, expected = step(params, row, XS[t, b][None])
            close(ys[t, b], expected[0])
        mine = jax.tree.map(lambda a, b=b: a[b : b + 1], after)
        close(step(params, mine, XS[0, b][None])[1], step(params, row, XS[0, b][None])[1])


def test_rotary_positions_are_relative(bodies):
    """Far from the start of a stream, where an angle in float32 would be off by whole turns."""
    body, params, apply = bodies["transformer"]
    carry = body.initial_carry(params, B)
    far = carry._replace(position=carry.position + 1_500_000_000)
    close(apply(params, XS, far)[1], apply(params, XS, carry)[1])


def test_attention_is_the_formula():
    """One block, one head, against numpy, with the angles computed in float64."""
    body = Transformer(4, blocks=1, heads=1, context=3, hidden_features=5)
    params = jax.jit(body.init, static_argnums=1)(jax.random.key(0), 4)
    block = jax.tree.map(np.asarray, params.blocks[0])
    x = np.asarray(XS[:, 0, :4], np.float64)

    def norm(a):
        return (a - a.mean(-1, keepdims=True)) / np.sqrt(a.var(-1, keepdims=True) + 1e-5)

    def turn(a):
        z = (a[:, :2] + 1j * a[:, 2:]) * np.exp(1j * np.outer(np.arange(T), [1.0, 0.01]))
        return np.concatenate([z.real, z.imag], axis=1)

    q, k, v = np.split(norm(x) @ block.kernel, 3, axis=1)
    scores = np.exp(turn(q) @ turn(k).T / 2)
    ago = np.subtract.outer(np.arange(T), np.arange(T))
    scores[(ago < 0) | (ago >= 3)] = 0
    x = x + scores / scores.sum(1, keepdims=True) @ v @ block.output_kernel
    hidden = np.asarray(jax.nn.gelu(norm(x) @ block.up_kernel))
    expected = norm(x + hidden @ block.down_kernel)
    _, ys = jax.jit(body.apply)(params, XS[:, :1, :4])
    np.testing.assert_allclose(ys[:, 0], expected, atol=1e-5)


def test_without_causality_a_step_sees_both_ways(bodies):
    body = Transformer(H, blocks=1, heads=2, context=4, causal=False)
    params = jax.jit(body.init, static_argnums=1)(jax.random.key(0), F)
    apply = jax.jit(body.apply)
    mask = jnp.ones((T, B), bool).at[9:, 0].set(False)
    reset = jnp.zeros((T, B), bool).at[5, 1].set(True)
    _, before = apply(params, XS, mask=mask, reset=reset)
    _, after = apply(params, XS.at[6].add(1.0), mask=mask, reset=reset)
    changed = np.abs(np.asarray(after - before)).max(axis=2) > 0
    assert [np.flatnonzero(row).tolist() for row in changed.T] == [
        [3, 4, 5, 6, 7, 8],
        [5, 6, 7, 8, 9],
        [3, 4, 5, 6, 7, 8, 9],
    ]
    with pytest.raises(ValueError, match="expected no carry with causal=False"):
        body.apply(params, XS, body.initial_carry(params, B))


@EVERY
def test_dropout_acts_with_a_key_only(bodies, name):
    body, params, apply = bodies[name]
    drop = jax.jit(functools.partial(body.apply, dropout=0.5))
    _, plain = drop(params, XS)
    one, same, other = (drop(params, XS, key=jax.random.key(seed))[1] for seed in (1, 1, 2))
    np.testing.assert_array_equal(plain, apply(params, XS)[1])
    np.testing.assert_array_equal(one, same)
    assert not np.allclose(one, plain) and not np.allclose(one, other)


@EVERY
def test_half_precision_computes_in_it_and_remembers_in_float32(bodies, name):
    body, params, apply = bodies[name]
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    carry, ys = apply(half, XS.astype(jnp.bfloat16), body.initial_carry(half, B))
    assert ys.dtype == jnp.bfloat16
    expected = body.initial_carry(params, B).rings
    for leaf, want in zip(jax.tree.leaves(carry.rings), jax.tree.leaves(expected), strict=True):
        assert (leaf.shape, leaf.dtype) == (want.shape, jnp.float32)
    np.testing.assert_allclose(ys.astype(jnp.float32), apply(params, XS)[1], atol=0.15)


def test_sizes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="features to be a multiple of heads"):
        Transformer(6, heads=4)
    with pytest.raises(ValueError, match="an even number of features for each head"):
        Transformer(12, heads=4)
    with pytest.raises(ValueError, match="expected width >= 1"):
        TCN(4, width=0)
    with pytest.raises(ValueError, match="expected context >= 1"):
        WindowMLP(4, context=0)
