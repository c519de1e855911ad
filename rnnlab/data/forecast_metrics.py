"""Errors of forecasts, in float64, over the values that were observed.

Every metric is a mean over values: forecasts of many windows, steps and channels count alike. A
missing value is NaN in the truth, or False in `mask`, and counts nowhere.
"""

from collections.abc import Mapping

import numpy as np


def mse(truth: np.ndarray, forecast: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean squared error; arrays of one shape.

    Example:
        >>> mse(np.array([1.0, np.nan]), np.array([3.0, 7.0]))
        4.0
    """
    return _mean(np.square(_minus(forecast, truth)), truth, mask)


def mae(truth: np.ndarray, forecast: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Mean absolute error; arrays of one shape."""
    return _mean(np.abs(_minus(forecast, truth)), truth, mask)


def smape(truth: np.ndarray, forecast: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Symmetric mean absolute percentage error, from 0 to 200 as in the M4 competition.

    200 |y - f| / (|y| + |f|),    0 where both are 0
    """
    return _mean(_symmetric(truth, forecast), truth, mask)


def mase(
    truth: np.ndarray, forecast: np.ndarray, scale: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """Mean absolute error, each in units of what `seasonal_scale` found in its past.

    Args:
      truth: `[N, H, C]`.
      forecast: of the same shape.
      scale: `[N, C]`; where it is 0, for a past that never changed, a value counts nowhere.
      mask: of the shape of `truth`.

    References: Hyndman & Koehler 2006, "Another look at measures of forecast accuracy".
    """
    errors, known = _scaled(np.abs(_minus(forecast, truth)), scale)
    return _mean(errors, truth, known if mask is None else known & mask)


def seasonal_scale(past: np.ndarray, season: int) -> np.ndarray:
    """The mean absolute difference of values a season apart: what seasonal naive errs in sample.

    Args:
      past: `[T, C]`, NaN where missing.
      season: steps.

    Returns:
      `[C]`; NaN where no two such values were observed.
    """
    differences = np.abs(past[season:] - past[:-season])
    observed = np.isfinite(differences)
    count = observed.sum(axis=0)
    total = np.where(observed, differences, 0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def owa(scores: Mapping[str, float], reference: Mapping[str, float]) -> float:
    """Overall weighted average of the M4 competition: below 1 is better than the reference.

        (sMAPE / sMAPE_ref + MASE / MASE_ref) / 2

    Args:
      scores: with "smape" and "mase", each averaged over all series.
      reference: those of `rnnlab.data.naive2`.

    Example:
        >>> owa({"smape": 10.0, "mase": 2.0}, {"smape": 20.0, "mase": 2.0})
        0.75
    """
    return (scores["smape"] / reference["smape"] + scores["mase"] / reference["mase"]) / 2


def nd(truth: np.ndarray, forecast: np.ndarray, mask: np.ndarray | None = None) -> float:
    """Normalised deviation: the sum of absolute errors over that of absolute values."""
    return mae(truth, forecast, mask) / _mean(np.abs(truth), truth, mask)


def pinball(
    truth: np.ndarray, quantiles: np.ndarray, levels: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """Mean quantile loss, over levels too.

        max(q (y - f), (q - 1) (y - f))

    Args:
      truth: `[...]`.
      quantiles: `[Q, ...]`.
      levels: `[Q]`, each between 0 and 1.
      mask: of the shape of `truth`.
    """
    return _mean(_pinball(truth, quantiles, levels).mean(axis=0), truth, mask)


def crps(
    truth: np.ndarray, quantiles: np.ndarray, levels: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """Continuous ranked probability score from quantiles: twice their mean loss.

    It is exact as evenly spread levels become dense.

    Args:
      truth: `[...]`.
      quantiles: `[Q, ...]`.
      levels: `[Q]`, evenly spread between 0 and 1.
      mask: of the shape of `truth`.

    References: Gneiting & Ranjan 2011, "Comparing density forecasts using threshold- and
    quantile-weighted scoring rules".
    """
    return 2 * pinball(truth, quantiles, levels, mask)


def crps_of_samples(
    truth: np.ndarray, samples: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """Continuous ranked probability score of the empirical distribution of samples.

        E|X - y| - E|X - X'| / 2

    Args:
      truth: `[...]`.
      samples: `[S, ...]`.
      mask: of the shape of `truth`.

    References: Gneiting & Raftery 2007, "Strictly proper scoring rules, prediction, and
    estimation".
    """
    ordered = np.sort(np.asarray(samples, np.float64), axis=0)
    count = len(ordered)
    ranks = (2 * np.arange(1, count + 1) - count - 1) / count**2  # sum_ij |x_i - x_j| in one pass
    spread = np.tensordot(ranks, ordered, axes=1)
    return _mean(np.abs(ordered - truth).mean(axis=0) - spread, truth, mask)


def coverage(
    truth: np.ndarray, low: np.ndarray, high: np.ndarray, mask: np.ndarray | None = None
) -> float:
    """The share of values from `low` to `high`, both included; arrays of one shape."""
    return _mean(((truth >= low) & (truth <= high)).astype(np.float64), truth, mask)


class Scores:
    """Sums of every metric for each step of the horizon, so that windows need not be kept.

    Args:
      horizon: H.

    Example:
        >>> scores = Scores(2)
        >>> scores.add(np.array([[[1.0], [5.0]]]), np.array([[[2.0], [8.0]]]))
        >>> scores.values()["mae"], scores.by_step("mae").tolist()
        (2.0, [1.0, 3.0])
    """

    def __init__(self, horizon: int):
        self._horizon = horizon
        self._sums: dict[str, np.ndarray] = {}  # [2, H], totals and weights

    def add(
        self,
        truth: np.ndarray,
        forecast: np.ndarray,
        *,
        scale: np.ndarray | None = None,
        quantiles: np.ndarray | None = None,
        levels: np.ndarray | None = None,
    ) -> None:
        """Counts some windows.

        Args:
          truth: `[B, H, C]`, NaN where missing.
          forecast: `[B, H, C]`.
          scale: `[B, C]`, for MASE.
          quantiles: `[Q, B, H, C]`, for CRPS, and for the coverage between the outermost.
          levels: `[Q]`, of the quantiles, rising.
        """
        observed = np.isfinite(truth)
        errors = np.abs(_minus(forecast, truth))
        self._count("mse", errors**2, observed)
        self._count("mae", errors, observed)
        self._count("smape", _symmetric(truth, forecast), observed)
        self._count("size", np.abs(truth), observed)
        if scale is not None:
            scaled, known = _scaled(errors, scale)
            self._count("mase", scaled, observed & known)
        if quantiles is not None and levels is not None:
            self._count("crps", 2 * _pinball(truth, quantiles, levels).mean(axis=0), observed)
            inside = (truth >= quantiles[0]) & (truth <= quantiles[-1])
            self._count("coverage", inside.astype(np.float64), observed)

    def _count(self, name: str, values: np.ndarray, counts: np.ndarray) -> None:
        values = np.where(counts, values, 0)
        if not np.isfinite(values).all():
            raise FloatingPointError(f"{name}: a forecast of an observed value is not finite.")
        pair = np.stack([values.sum(axis=(0, 2)), counts.sum(axis=(0, 2))])
        self._sums[name] = self._sums.get(name, 0) + pair

    def values(self) -> dict[str, float]:
        """Metric -> its mean over all values, of those that were counted."""
        sums = {name: pair.sum(axis=1) for name, pair in self._sums.items()}
        means = {name: total / weight for name, (total, weight) in sums.items() if weight}
        size = means.pop("size", 0.0)
        if size:
            means["nd"] = means["mae"] / size
        return {name: float(value) for name, value in means.items()}

    def by_step(self, name: str) -> np.ndarray:
        """The mean of a metric at each step of the horizon: `[H]`, NaN where nothing counted."""
        total, weight = self._sums[name]
        return np.where(weight > 0, total / np.maximum(weight, 1), np.nan)


def _minus(forecast: np.ndarray, truth: np.ndarray) -> np.ndarray:
    forecast, truth = np.asarray(forecast, np.float64), np.asarray(truth, np.float64)
    if forecast.shape != truth.shape:
        raise ValueError(
            f"forecast: expected the shape of the truth, {truth.shape}, got {forecast.shape}."
        )
    return forecast - truth


def _symmetric(truth: np.ndarray, forecast: np.ndarray) -> np.ndarray:
    errors = 200 * np.abs(_minus(forecast, truth))
    sizes = np.abs(truth) + np.abs(np.asarray(forecast, np.float64))
    return np.where(sizes > 0, errors / np.where(sizes > 0, sizes, 1), errors)


def _scaled(errors: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Errors `[N, H, C]` over scales `[N, C]`, and where these are known and not 0."""
    scale = np.asarray(scale, np.float64)[:, None]
    known = np.broadcast_to(scale > 0, errors.shape)
    return errors / np.where(scale > 0, scale, 1), known


def _pinball(truth: np.ndarray, quantiles: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """`[Q, ...]`."""
    quantiles = np.asarray(quantiles, np.float64)
    levels = np.asarray(levels, np.float64)
    if quantiles.shape != (len(levels), *np.shape(truth)):
        raise ValueError(
            f"quantiles: expected shape {(len(levels), *np.shape(truth))}, a quantile for each"
            f" level and value, got {quantiles.shape}."
        )
    levels = levels.reshape(-1, *[1] * np.ndim(truth))
    errors = np.asarray(truth, np.float64) - quantiles
    return np.maximum(levels * errors, (levels - 1) * errors)


def _mean(values: np.ndarray, truth: np.ndarray, mask: np.ndarray | None) -> float:
    """Over observed values; a NaN where a value was observed is an answer too, and stays."""
    observed = np.isfinite(truth) if mask is None else np.isfinite(truth) & mask
    if not observed.any():
        raise ValueError("truth: expected at least one observed value, got none.")
    return float(np.mean(values[observed]))
