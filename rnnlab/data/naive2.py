"""Naive2, the benchmark that OWA is measured against: naive, after the season is taken out."""

import numpy as np


def naive2(past: np.ndarray, season: int, horizon: int) -> np.ndarray:
    """The last value, times what the season makes of it, where a test finds one.

    Seasonal indices are those of classical multiplicative decomposition: the mean over the years of
    each phase's ratio to the centred moving average, scaled to a mean of 1.

    Args:
      past: `[T]`, all of it observed.
      season: S; 1 makes it plain naive.
      horizon: H.

    Returns:
      `[H]`.

    Raises:
      ValueError: a missing value.

    References: Makridakis et al. 2020, "The M4 Competition: 100,000 time series and 61 forecasting
    methods", and the organisers' program.
    """
    if not np.isfinite(past).all():
        raise ValueError("past: expected no missing value, for Naive2 is not defined with some.")
    indices = np.ones(season)
    if season > 1 and is_seasonal(past, season) and (past > 0).all():
        indices = seasonal_indices(past, season)
    phases = (len(past) + np.arange(horizon)) % season
    return past[-1] / indices[(len(past) - 1) % season] * indices[phases]


def is_seasonal(past: np.ndarray, season: int) -> bool:
    """Whether the autocorrelation a season apart is beyond its 90 % limits.

    Args:
      past: `[T]`; one shorter than three seasons is not.
      season: S.
    """
    if len(past) < 3 * season:
        return False
    centred = past - past.mean()
    power = np.sum(centred**2)
    if power == 0:
        return False
    lags = [np.sum(centred[lag:] * centred[:-lag]) / power for lag in range(1, season + 1)]
    limit = 1.645 * np.sqrt((1 + 2 * np.sum(np.square(lags[:-1]))) / len(past))
    return bool(abs(lags[-1]) > limit)


def seasonal_indices(past: np.ndarray, season: int) -> np.ndarray:
    """Multiplicative seasonal indices of phases 0 to S - 1, where row 0 is phase 0: `[S]`."""
    weights = np.full(season, 1 / season)
    if season % 2 == 0:  # centred: half a weight at either end
        weights = np.convolve(weights, [0.5, 0.5])
    trend = np.convolve(past, weights, mode="valid")
    first = len(weights) // 2
    ratios = past[first : first + len(trend)] / trend
    phases = (first + np.arange(len(trend))) % season
    indices = np.bincount(phases, ratios, season) / np.bincount(phases, minlength=season)
    return indices / indices.mean()
