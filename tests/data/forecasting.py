"""Small series for tests of forecasting, and where the public ones lie."""

import pathlib

import numpy as np
import pytest

from rnnlab.data.forecasting import Bounds, ForecastData, Series, load_forecast_data
from rnnlab.data.registry import DATASETS, find_file

SHARED = pathlib.Path(__file__).parents[3] / "shared" / "data"


def shared_files(name):
    """The directory with the files of a data set, or a skip where they are not on this machine."""
    data_dir = str(SHARED) if SHARED.is_dir() else None
    dataset = DATASETS[name]
    if not all(find_file(dataset, file.name, data_dir) for file in dataset.files):
        pytest.skip(f"the files of {name} are not at {SHARED}: no test downloads them")
    return data_dir


def public(name):
    """A public data set, or a skip where its files are not on this machine."""
    embedded = name not in DATASETS  # it comes with the package
    return load_forecast_data(name, None if embedded else shared_files(name))


def small(lengths=(40, 25, 60), horizon=4, channels=1, covariates=1, seed=0, **options):
    """Noisy daily series with a week's season, gaps, and bounds that hold out three horizons."""
    rng = np.random.default_rng(seed)
    series, bounds = [], []
    for number, length in enumerate(lengths):
        steps = np.arange(length)[:, None] + np.zeros(channels)
        values = 10 + number + 3 * np.sin(2 * np.pi * steps / 7) + rng.normal(size=steps.shape) / 5
        values[5 : 5 + number] = np.nan
        times = np.datetime64("2020-01-06", "s") + np.arange(length) * np.timedelta64(1, "D")
        known = (np.arange(length + horizon) % 7 == 6)[:, None] + np.zeros(covariates)
        series.append(Series(f"s{number}", values, times, known))
        bounds.append(Bounds(length - 3 * horizon, length - 2 * horizon, length))
    return ForecastData("small", tuple(series), 7, horizon, "1D", tuple(bounds), **options)


def poisoned(data, origins):
    """The same data with NaN for every value from the origin `(series, row)` on."""
    rows = dict(origins)
    series = []
    for number, one in enumerate(data.series):
        values = one.values.copy()
        values[rows.get(number, len(values)) :] = np.nan
        series.append(one._replace(values=values))
    return ForecastData(**{**vars_of(data), "series": tuple(series)})


def vars_of(data):
    return {name: getattr(data, name) for name in data.__dataclass_fields__}
