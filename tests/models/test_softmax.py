import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from rnnlab.cells import LSTM
from rnnlab.models import AdaptiveSoftmax, LanguageModel, Softmax, adaptive_softmax

KEY = jax.random.key(0)
YS = jax.random.normal(jax.random.key(1), (7, 5, 16))
WORDS = jnp.asarray(np.random.default_rng(0).integers(0, 50, (7, 5)), jnp.int32)
ALL = {
    "whole": Softmax(),
    "chunks": Softmax(chunk=8),
    "one chunk": Softmax(chunk=100),
    "one tail": AdaptiveSoftmax((10,), chunk=8),
    "two tails": AdaptiveSoftmax((10, 20), chunk=8),
    "odd chunks": AdaptiveSoftmax((10, 20, 49), chunk=3, factor=2),
    "one chunk a tail": AdaptiveSoftmax((10, 20)),
}
EVERY = pytest.mark.parametrize("softmax", ALL.values(), ids=ALL)


def from_logits(softmax, params, ys, words):
    """The loss by way of the whole distribution."""
    return -jnp.take_along_axis(
        jax.nn.log_softmax(softmax.logits(params, ys)), words[..., None], axis=-1
    )[..., 0]


@EVERY
def test_losses_and_gradients_are_those_of_the_whole_distribution(softmax):
    params = softmax.init(KEY, 16, 50)
    weights = jax.random.normal(KEY, WORDS.shape)

    def total(function):
        return lambda params, ys: jnp.sum(weights * function(params, ys, WORDS))

    expected = from_logits(softmax, params, YS, WORDS)
    np.testing.assert_allclose(softmax.losses(params, YS, WORDS), expected, atol=2e-6)
    got = jax.grad(total(softmax.losses), (0, 1))(params, YS)
    by_logits = functools.partial(from_logits, softmax)
    expected = jax.grad(total(by_logits), (0, 1))(params, YS)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.parametrize("name", ["two tails", "odd chunks"])
def test_probabilities_add_up_to_1(name):
    params = ALL[name].init(KEY, 16, 50)
    log_probs = ALL[name].logits(params, YS)
    assert log_probs.shape == (7, 5, 50)
    np.testing.assert_allclose(jnp.exp(log_probs).sum(-1), 1, atol=1e-5)
    assert np.exp(log_probs).max() < 0.9


def test_adaptive_log_probs_are_the_formula():
    softmax = ALL["two tails"]
    params = jax.tree.map(np.asarray, softmax.init(KEY, 16, 50))
    y = np.asarray(YS[0, 0])
    head = np.exp(y @ params.kernel + params.bias)
    head /= head.sum()
    for word, cluster, first in ((3, None, 0), (15, 0, 10), (47, 1, 20)):
        if cluster is None:
            expected = head[word]
        else:
            tail = np.exp(y @ params.tails[cluster].projection @ params.tails[cluster].kernel)
            expected = head[10 + cluster] * tail[word - first] / tail.sum()
        got = softmax.logits(params, YS)[0, 0, word]
        np.testing.assert_allclose(got, np.log(expected), rtol=1e-5)


def test_a_cluster_without_targets_is_not_computed():
    """Its NaN would reach the gradient of what it reads, even where its values are dropped."""
    softmax = ALL["two tails"]
    params = softmax.init(KEY, 16, 50)
    tail = params.tails[1]
    poisoned = params._replace(tails=(params.tails[0], tail._replace(kernel=tail.kernel + jnp.nan)))
    words = WORDS % 20
    clean = jax.grad(lambda ys: softmax.losses(params, ys, words).sum())(YS)
    got = jax.grad(lambda ys: softmax.losses(poisoned, ys, words).sum())(YS)
    np.testing.assert_array_equal(got, clean)
    assert np.isnan(softmax.losses(poisoned, YS, WORDS)).any()


def test_only_the_chunks_that_hold_a_cluster_are_computed():
    """35 rows in chunks of 5: 11 rows of the first cluster in 3 of them, 1 of the second in 1."""
    words = jnp.zeros(35, jnp.int32).at[3:14].set(12).at[20].set(30).reshape(7, 5)
    softmax = AdaptiveSoftmax((10, 20), chunk=5)
    params = softmax.init(KEY, 16, 50)
    seen = []

    def count(ys, words):
        jax.debug.callback(lambda width: seen.append(int(width)), ys.shape[-1])
        return cross_entropy(ys, words)

    with pytest.MonkeyPatch.context() as patch:
        cross_entropy = adaptive_softmax.cross_entropy
        patch.setattr(adaptive_softmax, "cross_entropy", count)
        softmax.losses(params, YS, words).block_until_ready()
        jax.effects_barrier()
    assert sorted(seen) == [10] * 3 + [12] * 7 + [30] * 1  # words of a cluster; the head has 10 + 2


def test_chunks_keep_no_logits_for_the_gradient():
    """No array of the whole program has as many numbers as the rows have logits."""
    params = Softmax().init(KEY, 16, 5000)

    def largest(softmax):
        program = jax.make_jaxpr(jax.grad(lambda ys: softmax.losses(params, ys, WORDS).sum()))(YS)
        return max(arrays(program.jaxpr))

    assert largest(Softmax()) >= 35 * 5000
    assert largest(Softmax(chunk=4)) <= 16 * 5000


def arrays(jaxpr):
    for equation in jaxpr.eqns:
        yield from (var.aval.size for var in equation.outvars)
        for inner in jax.extend.core.jaxprs_in_params(equation.params):
            yield from arrays(inner)


@pytest.mark.parametrize("softmax", [Softmax(chunk=4), AdaptiveSoftmax((3, 6), chunk=4)])
def test_bfloat16_losses_are_float32(softmax):
    params = softmax.init(KEY, 16, 50)
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params)
    losses = softmax.losses(half, YS.astype(jnp.bfloat16), WORDS)
    assert losses.dtype == jnp.float32
    np.testing.assert_allclose(losses, softmax.losses(params, YS, WORDS), atol=0.1)


@pytest.mark.parametrize("tied", [False, True])
def test_a_model_steps_and_scores_with_it(tied):
    features = 16 if tied else 6
    model = LanguageModel(50, features, (LSTM(16),), tied=tied, softmax=ALL["two tails"])
    params = model.init(KEY)
    carry = model.initial_carry(params, 5)
    _, logits = model.apply(params, WORDS, carry)
    _, losses, nats = model.losses(params, WORDS[:-1], WORDS[1:], carry)
    np.testing.assert_array_equal(losses, nats)
    expected = jnp.take_along_axis(logits[:-1], WORDS[1:, :, None], axis=-1)[..., 0]
    np.testing.assert_allclose(losses, -expected, atol=1e-5)
    _, stepped = model.step(params, carry, WORDS[0])
    np.testing.assert_allclose(stepped, logits[0], atol=1e-5)


def test_tied_tails_are_the_embedding_in_fewer_features():
    softmax = ALL["two tails"]
    own = softmax.init_tied(KEY, 16, 50)
    embedding = jax.random.normal(KEY, (50, 16))
    tied = softmax.tie(own, embedding)
    plain = softmax.init(KEY, 16, 50)
    assert jax.tree.map(jnp.shape, tied) == jax.tree.map(jnp.shape, plain)
    kernel = np.concatenate([embedding[:10].T, own.kernel], axis=1)
    np.testing.assert_array_equal(tied.kernel, kernel)
    expected = np.asarray(own.tails[0].reduction).T @ np.asarray(embedding)[10:20].T
    np.testing.assert_allclose(tied.tails[0].kernel, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Softmax(chunk=-1), "chunk: expected at least 0, got -1"),
        (lambda: AdaptiveSoftmax(()), r"cutoffs: expected one or more rising .* got \(\)"),
        (lambda: AdaptiveSoftmax((0, 5)), r"cutoffs: .* got \(0, 5\)"),
        (lambda: AdaptiveSoftmax((5, 5)), "cutoffs"),
        (lambda: AdaptiveSoftmax((5,), chunk=0), "expected chunk >= 1, got chunk=0"),
        (lambda: AdaptiveSoftmax((50,)).init(KEY, 16, 50), "cutoffs: expected .* below 50"),
    ],
)
def test_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()
