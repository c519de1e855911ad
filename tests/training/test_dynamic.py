import jax
import numpy as np
import optax
import pytest

from rnnlab.data import Streams
from rnnlab.training import fit
from rnnlab.training.dynamic import mean_squares, score_dynamically
from rnnlab.training.evaluation import make_evaluate
from rnnlab.training.mesh import make_mesh
from tests.training.conftest import TOKENS, init, loss

CYCLE = np.tile(np.arange(7, dtype=np.int32), 60)
OTHER_CYCLE = np.tile(np.array([0, 2, 4, 6, 1, 3, 5], np.int32), 40)


def stream(tokens, num_streams=1):
    return Streams(tokens, num_streams, seq_length=6)


@pytest.fixture
def trained(make_task, make_config):
    """A model that knows one text, and its task with another one held out."""
    task = make_task(
        optimizer=optax.adam(3e-2),
        train_batches=stream(CYCLE, 4).windows,
        eval_batches={"valid": stream(OTHER_CYCLE).epoch},
    )
    return task, fit(task, make_config(steps=30, eval_every=30)).params


def static(task, params):
    evaluate = make_evaluate(task, "float32", jax.random.key(0), make_mesh("", 1))
    return evaluate(params, "valid", 0).metrics


def test_a_learning_rate_of_0_is_ordinary_evaluation(trained):
    task, params = trained
    squares = mean_squares(task, params, stream(CYCLE).epoch())
    expected = static(task, params)
    for options in ({}, {"decay": 0.1}, {"decay": 0.1, "squares": squares}):
        batches = task.eval_batches["valid"]()
        assert score_dynamically(task, params, batches, learning_rate=0, **options) == expected


def test_it_adapts_to_a_text_that_is_not_like_the_training_text(trained):
    task, params = trained
    squares = mean_squares(task, params, stream(CYCLE).epoch())
    before = jax.tree.map(np.asarray, params)
    expected = static(task, params)["loss"]
    for rate, options in ((0.5, {}), (0.005, {"squares": squares})):
        scores = [
            score_dynamically(
                *(task, params, stream(OTHER_CYCLE).epoch()),
                **{"learning_rate": rate, "decay": decay, **options},
            )["loss"]
            for decay in (0.0, 0.01, 1.0)
        ]
        assert scores[0] < 0.8 * expected
        assert scores[0] != scores[1] < 0.9 * expected
        assert scores[1] < scores[2]  # which forgets what it learned at every step
    jax.tree.map(np.testing.assert_array_equal, params, before)


def test_updates_are_the_formula_and_come_after_the_score(make_task):
    task = make_task()
    params = init(jax.random.key(3))
    batches = list(stream(TOKENS[:19]).epoch())
    assert len(batches) == 3
    squares = mean_squares(task, params, batches[:2])
    rate, decay, epsilon, total, state = 0.1, 0.3, 1e-3, 0.0, np.zeros((1, 8), np.float32)

    def of_batch(params, state, batch):
        ratio, (state, _) = loss(params, state, batch, None)
        return ratio.value, (state, ratio)

    root = jax.tree.map(np.sqrt, squares)
    mean = np.concatenate([leaf.ravel() for leaf in root]).mean()
    now = params
    for batch in batches:
        gradient, (state, ratio) = jax.grad(of_batch, has_aux=True)(now, state, batch)
        total += float(ratio.total)
        now = jax.tree.map(
            lambda p, start, g, r: (
                p - rate * g / (r + epsilon) + np.minimum(decay * r / mean, 1) * (start - p)
            ),
            *(now, params, gradient, root),
        )
    got = score_dynamically(
        task, params, batches, learning_rate=rate, decay=decay, squares=squares, epsilon=epsilon
    )
    assert got["loss"] == pytest.approx(total / 18, rel=1e-5)


def value(params, state, batch):
    return loss(params, state, batch, None)[0].value


def test_mean_squares_are_means_of_squares(make_task):
    task, params = make_task(), init(jax.random.key(3))
    batches = list(stream(TOKENS[:13]).epoch())
    state, squares = np.zeros((1, 8), np.float32), []
    for batch in batches:
        gradient = jax.grad(value)(params, state, batch)
        state = loss(params, state, batch, None)[1][0]
        squares.append(jax.tree.map(np.square, gradient))
    expected = jax.tree.map(lambda a, b: (a + b) / 2, *squares)
    got = mean_squares(task, params, batches)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-8), got, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"learning_rate": -1.0}, "learning_rate: expected at least 0, got -1"),
        ({"learning_rate": 0.1, "decay": 1.5}, "decay: expected 0 to 1, got 1.5"),
        ({"learning_rate": 0.1, "epsilon": 0.0}, "epsilon: expected more than 0"),
        ({"learning_rate": 0.1}, "batches: expected at least one"),
    ],
)
def test_errors(make_task, options, message):
    with pytest.raises(ValueError, match=message):
        score_dynamically(make_task(), init(jax.random.key(0)), [], **options)
    with pytest.raises(ValueError, match="batches: expected at least one, got none"):
        mean_squares(make_task(), init(jax.random.key(0)), [])


def test_a_learning_rate_that_is_too_high_is_named(make_task):
    with pytest.raises(FloatingPointError, match="learning_rate: expected one that leaves"):
        score_dynamically(
            make_task(), init(jax.random.key(0)), stream(TOKENS).epoch(), learning_rate=1e30
        )
