"""Exponential smoothing with multiplicative seasons, the statistical half of ES-RNN."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnnlab.core.types import Array


class Smoothed(NamedTuple):
    """Logarithms of what exponential smoothing made of series, `[B, ...]`."""

    level: Array  # [B, T], after each step
    seasons: tuple[Array, ...]  # [B, T + S] each: what each step is divided by, S steps ahead


def smooth(
    values: Array,
    mask: Array,
    level_rate: Array,
    season_rates: tuple[Array, ...],
    starts: tuple[Array, ...],
) -> Smoothed:
    """Level and seasons, each step from those before.

        l_t = a y_t / (s_t u_t) + (1 - a) l_{t-1}
        s_{t+S} = g y_t / (l_t u_t) + (1 - g) s_t,    the same for u, with s and u exchanged

    The level starts at the first observed value, without its seasons. At a missing step nothing
    changes: the level stays, and the next season takes over the factor.

    Args:
      values: `[B, T]`, positive where observed.
      mask: bool `[B, T]`.
      level_rate: a, `[B]`, between 0 and 1.
      season_rates: g, `[B]` for each season.
      starts: logarithms of the factors of the first S steps, `[B, S]` for each season.

    Returns:
      Logarithms of level and seasons.

    References: Holt 1957, Winters 1960; Smyl 2020, "A hybrid method of exponential smoothing and
    recurrent neural networks for time series forecasting", equations 5 to 9.
    """
    values = jnp.where(mask, values, 1)
    rings = tuple(jnp.exp(start).T for start in starts)  # [S, B], step t in row t mod S

    def step(carry, xs):
        level, begun, rings = carry
        number, value, observed = xs
        factors = [
            jax.lax.dynamic_index_in_dim(ring, number % len(ring), keepdims=False) for ring in rings
        ]
        product = jnp.prod(jnp.stack([jnp.ones_like(value), *factors]), axis=0)
        plain = value / product
        new = jnp.where(begun, level_rate * plain + (1 - level_rate) * level, plain)
        level = jnp.where(observed, new, level)
        later = [
            jnp.where(
                observed, rate * value * factor / (level * product) + (1 - rate) * factor, factor
            )
            for rate, factor in zip(season_rates, factors, strict=True)
        ]
        rings = tuple(
            jax.lax.dynamic_update_index_in_dim(ring, factor, number % len(ring), 0)
            for ring, factor in zip(rings, later, strict=True)
        )
        return (level, begun | observed, rings), (level, tuple(later))

    start = jnp.ones_like(values[:, 0]), jnp.zeros_like(mask[:, 0]), rings
    xs = jnp.arange(values.shape[1]), values.T, mask.T
    _, (levels, later) = jax.lax.scan(step, start, xs)
    seasons = tuple(
        jnp.concatenate([first, jnp.log(ahead.T)], axis=1)
        for first, ahead in zip(starts, later, strict=True)
    )
    return Smoothed(jnp.log(levels.T), seasons)


def first_seasons(logs: Array, mask: Array, lengths: tuple[int, ...]) -> tuple[Array, ...]:
    """Factors of the first steps, measured on the first of the longest seasons.

    Each season takes the mean of every phase of what the shorter ones, which come first, left.

    Args:
      logs: logarithms of the values, `[B, T]`, 0 where missing.
      mask: bool `[B, T]`; the first step of a season is the first that was observed.
      lengths: S of each season, rising.

    Returns:
      Logarithms for the steps 0 to S - 1 of the window, `[B, S]` each; 0 in a phase of which
      nothing was observed.
    """
    first = jnp.argmax(mask, axis=1)[:, None]
    phase = jnp.arange(max(lengths, default=1))
    place = first + phase
    inside = place < logs.shape[1]
    place = jnp.minimum(place, logs.shape[1] - 1)
    rest, known = (jnp.take_along_axis(a, place, axis=1) for a in (logs, mask))
    known = (known & inside).astype(logs.dtype)
    count = jnp.maximum(jnp.sum(known, axis=1, keepdims=True), 1)
    rest = rest - jnp.sum(rest * known, axis=1, keepdims=True) / count
    seasons = []
    for length in lengths:
        one_hot = jax.nn.one_hot(phase % length, length, dtype=logs.dtype)
        factors = (rest * known) @ one_hot / jnp.maximum(known @ one_hot, 1)
        rest = rest - factors @ one_hot.T
        turned = (jnp.arange(length) - first) % length
        seasons.append(jnp.take_along_axis(factors, turned, axis=1))
    return tuple(seasons)
