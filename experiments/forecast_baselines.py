"""What a forecaster has to beat: naive forecasts, and a linear map fitted by least squares."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from experiments.forecast_scoring import Predictor
from rnnlab.data.forecast_windows import WindowBatches, Windows
from rnnlab.models.forecasting import FORECASTERS, ForecasterOptions
from rnnlab.models.forecasting.linear import LinearParams

FIT_ROWS = 65_536
"""Examples for the linear map, at most: a window has one for each channel."""

RIDGES = (1e-6, 1e-4, 1e-2, 1.0)


def baselines(windows: Windows, options: ForecasterOptions, batch_size: int) -> dict[str, Callable]:
    """Name -> batch -> guess, of what a model has to beat."""
    key = jax.random.key(0)
    plain = dataclasses.replace(options, instance_norm=False)
    found = {}
    for name in ("naive", "seasonal_naive", "drift"):
        model = FORECASTERS[name](plain)
        found[name] = _bound(Predictor(model), model.init(key))
    params = fit_linear(windows, batch_size)
    if params is not None:
        predictor = Predictor(FORECASTERS["nlinear"](plain))
        found["linear"] = _bound(predictor, params)
    return found


def fit_linear(windows: Windows, batch_size: int) -> LinearParams | None:
    """NLinear by least squares: the linear baseline, with nothing to tune.

    Windows with a gap in the future are left out; of more than some tens of thousands a part is
    taken, evenly. The ridge is the one that is best on the validation rows.

    Args:
      windows: to train on.
      batch_size: of the windows that are read at once.

    Returns:
      The parameters; None where no training window has a whole future.

    References: Toner & Darlow 2024, "An analysis of linear time series forecasting models".
    """
    gram, cross = _moments(windows, "train", batch_size)
    if not gram[-1, -1]:
        return None
    valid_gram, valid_cross = _moments(windows, "valid", batch_size)
    best = None
    for ridge in RIDGES:
        penalty = ridge * np.trace(gram) / len(gram) * np.eye(len(gram))
        solution = np.linalg.solve(gram + penalty + 1e-12 * np.eye(len(gram)), cross)
        # The squared error of the validation rows, but for what no solution changes.
        loss = np.sum(solution * (valid_gram @ solution - 2 * valid_cross))
        if best is None or loss < best[0]:
            best = loss, solution
    if best is None:
        return None
    solution = jnp.asarray(best[1], jnp.float32)
    return LinearParams(kernel=solution[:-1], bias=solution[-1])


def _moments(windows: Windows, split: str, batch_size: int) -> tuple[np.ndarray, np.ndarray]:
    """X'X `[L+1, L+1]` and X'Y `[L+1, H]`, relative to the last observed value."""
    origins = windows.origins(split)
    most = max(1, FIT_ROWS // windows.data.channels)
    origins = origins[np.unique(np.linspace(0, len(origins) - 1, most).astype(int))]
    gram = np.zeros((windows.context + 1,) * 2)
    cross = np.zeros((windows.context + 1, windows.horizon))
    for batch in WindowBatches(windows, origins, batch_size).epoch():
        # [B, L, C] to [B * C, L]: every channel is an example.
        past, seen, future, known = (
            np.moveaxis(np.asarray(part), 2, 1).reshape(-1, part.shape[1])
            for part in (
                *(batch.window.past, batch.window.past_mask),
                *(batch.window.future, batch.window.future_mask),
            )
        )
        rows = known.all(axis=1) & seen.any(axis=1)
        past, seen, future = past[rows], seen[rows], future[rows].astype(np.float64)
        place = past.shape[1] - 1 - np.argmax(seen[:, ::-1], axis=1)
        last = past[np.arange(len(past)), place][:, None].astype(np.float64)
        x = np.concatenate([np.where(seen, past - last, 0), np.ones((len(past), 1))], axis=1)
        gram += x.T @ x
        cross += x.T @ (future - last)
    return gram, cross


def _bound(predictor: Predictor, params) -> Callable:
    return lambda batch: predictor(params, batch, jax.random.key(0))
