"""Averages of the parameters over the updates, kept by the optimizer that makes the updates."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class AveragedState(NamedTuple):
    """An optimizer's state, an average of the parameters, and what decides about the average."""

    inner: optax.OptState
    average: Any  # as the parameters, float32
    rule: Any  # the state of the averaging rule


class NtAsgdRule(NamedTuple):
    """When NT-ASGD begins to average."""

    averaged: jax.Array  # int32 [], updates in the average; 0 until it begins
    evaluations: jax.Array  # int32 [], scores seen
    recent: jax.Array  # float32 [n], the last scores, oldest first
    older: jax.Array  # float32 [], the lowest score before those


def average_of(opt_state: optax.OptState) -> Any | None:
    """The averaged parameters that an optimizer keeps, None where it keeps none."""
    return opt_state.average if isinstance(opt_state, AveragedState) else None


def ema(
    inner: optax.GradientTransformation, decay: float = 0.999
) -> optax.GradientTransformationExtraArgs:
    """An exponential moving average of the parameters, evaluated in their place.

        average_t = d_t average_{t-1} + (1 - d_t) params_t,    d_t = min(decay, (t - 1) / (t + 8))

    Args:
      inner: makes the updates, and does not see the average.
      decay: 0 to 1, 1 excluded; the average reaches back over about 1 / (1 - decay) updates. The
        first of them count for more, and the initial parameters for nothing.

    Raises:
      ValueError: a decay out of range.

    References: Polyak & Juditsky 1992, "Acceleration of stochastic approximation by averaging".
    """
    if not 0 <= decay < 1:
        raise ValueError(f"decay: expected 0 <= decay < 1, got {decay}.")

    def advance(count, average, params, **extra):
        del extra
        count = count + 1
        rate = jnp.minimum(decay, (count - 1) / (count + 8.0))
        return count, _blend(average, params, 1 - rate)

    return _averaging(inner, lambda: jnp.zeros((), jnp.int32), advance)


def nt_asgd(
    inner: optax.GradientTransformation, patience: int = 5
) -> optax.GradientTransformationExtraArgs:
    """Non-monotonically triggered averaging: a plain mean from where the score stops falling.

    The parameters themselves are kept until an evaluation is worse than the best of those more
    than `patience` evaluations back; from then on the mean of all later parameters is kept.

    Args:
      inner: makes the updates; stochastic gradient descent in the paper, anything here.
      patience: n of the paper, evaluations.

    Raises:
      ValueError: a patience below 1.

    References: Merity et al. 2018, "Regularizing and optimizing LSTM language models",
    algorithm 1. Here an evaluation comes when the trainer's schedule says so, not after an epoch.
    """
    if patience < 1:
        raise ValueError(f"patience: expected at least 1 evaluation, got {patience}.")

    def init():
        scores = jnp.full(patience + 1, jnp.inf, jnp.float32)
        zero = jnp.zeros((), jnp.int32)
        return NtAsgdRule(averaged=zero, evaluations=zero, recent=scores[1:], older=scores[0])

    def advance(rule, average, params, *, score, evaluations, **extra):
        del extra
        rule = _observe(rule, jnp.asarray(score, jnp.float32), evaluations)
        averaged = jnp.where(rule.averaged > 0, rule.averaged + 1, 0)
        return rule._replace(averaged=averaged), _blend(
            average, params, 1 / jnp.maximum(averaged, 1)
        )

    def _observe(rule, score, evaluations):
        """Takes in a score that is new, and begins where it says so."""
        new = evaluations > rule.evaluations
        begins = new & (rule.averaged == 0) & (score > rule.older)
        recent = jnp.append(rule.recent[1:], score)
        return NtAsgdRule(
            averaged=rule.averaged + begins,
            evaluations=jnp.asarray(evaluations, jnp.int32),
            recent=jnp.where(new, recent, rule.recent),
            older=jnp.where(new, jnp.minimum(rule.older, rule.recent[0]), rule.older),
        )

    return _averaging(inner, init, advance)


def _averaging(inner, init_rule, advance) -> optax.GradientTransformationExtraArgs:
    """`inner`, with an average that `advance` moves towards the parameters of each update."""
    inner = optax.with_extra_args_support(inner)

    def init(params):
        return AveragedState(inner.init(params), jax.tree.map(jnp.copy, params), init_rule())

    def update(updates, state, params: Any = None, **extra):
        updates, opt_state = inner.update(updates, state.inner, params, **extra)
        after = optax.apply_updates(params, updates)
        rule, average = advance(state.rule, state.average, after, **extra)
        return updates, AveragedState(opt_state, average, rule)

    return optax.GradientTransformationExtraArgs(init, update)


def _blend(average, params, weight):
    """`average` moved towards `params` by `weight`; exactly `params` where it is 1."""
    return jax.tree.map(
        lambda old, new: jnp.where(weight == 1, new, old + weight * (new - old)).astype(old.dtype),
        average,
        params,
    )
