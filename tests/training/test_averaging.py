import jax.numpy as jnp
import numpy as np
import optax
import pytest

from rnnlab.training.averaging import average_of, ema, nt_asgd


def run(optimizer, scores):
    """Updates a parameter that grows by 1; the parameter and its average after each update."""
    params = jnp.zeros(())
    state, path = optimizer.init(params), []
    for evaluations, score in enumerate(scores):
        updates, state = optimizer.update(
            jnp.ones(()),
            state,
            params,
            value=jnp.zeros(()),
            score=jnp.asarray(score, jnp.float32),
            evaluations=jnp.asarray(evaluations, jnp.int32),
        )
        params = optax.apply_updates(params, updates)
        path.append((float(params), float(average_of(state))))
    return path


def test_ema_weighs_late_parameters_more_and_forgets_the_first():
    path = run(ema(optax.sgd(-1.0), decay=0.5), [0] * 6)
    expected, average = [], 0.0
    for t in range(1, 7):
        decay = min(0.5, (t - 1) / (t + 8))
        average = decay * average + (1 - decay) * t
        expected.append(average)
    assert path[0] == (1.0, 1.0)
    np.testing.assert_allclose([average for _, average in path], expected, rtol=1e-6)


def test_ema_does_not_change_the_updates():
    averaged = run(ema(optax.sgd(-1.0)), [0] * 4)
    assert [params for params, _ in averaged] == [1.0, 2.0, 3.0, 4.0]


def reference_start(scores, patience):
    """Algorithm 1 of Merity et al.: the first update after the trigger, None where it is not."""
    logs = []
    for update, score in enumerate(scores):
        if update == 0:  # nothing was evaluated yet
            continue
        if len(logs) > patience and score > min(logs[: len(logs) - patience]):
            return update
        logs.append(score)
    return None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("patience", [1, 2, 5])
def test_nt_asgd_begins_where_the_algorithm_says(seed, patience):
    scores = np.random.default_rng(seed).normal(size=30) - 0.1 * np.arange(30)
    path = run(nt_asgd(optax.sgd(-1.0), patience), [np.inf, *scores])
    start = reference_start([np.inf, *scores], patience)
    for update, (params, average) in enumerate(path):
        if start is None or update < start:
            assert average == params
        else:  # the mean from the parameters at the trigger on
            assert average == pytest.approx(np.mean(np.arange(start, params + 1)), rel=1e-6)


def test_nt_asgd_waits_while_no_new_score_comes():
    optimizer, params = nt_asgd(optax.sgd(-1.0), patience=1), jnp.zeros(())
    state = optimizer.init(params)
    for score, evaluations in ((1.0, 1), (2.0, 2), (2.0, 2), (2.0, 2), (2.0, 2)):
        _, state = optimizer.update(
            jnp.ones(()),
            state,
            params,
            value=0.0,
            score=jnp.float32(score),
            evaluations=jnp.int32(evaluations),
        )
    assert int(state.rule.averaged) == 0


def test_no_average_without_one():
    assert average_of(optax.adam(0.1).init(jnp.zeros(3))) is None
