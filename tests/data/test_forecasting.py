import numpy as np
import pytest

from rnnlab.data.forecasting import (
    FORECAST_DATASETS,
    Bounds,
    ForecastData,
    load_forecast_data,
    measure_scale,
    share_bounds,
)
from rnnlab.data.normaliser import Normaliser
from rnnlab.data.readers import numbers, read_records
from rnnlab.data.registry import DATASETS
from tests.data.forecasting import public, shared_files, small, vars_of

FACTS = {  # series, channels, frequency, season, horizon, missing values, bounds of the first
    "sunspots": (1, 1, "1M", 132, 24, 0, (1974, 2256, 2820)),
    "airline": (1, 1, "1M", 12, 12, 0, (96, 120, 144)),
    "etth1": (1, 7, "1h", 24, 96, 0, (8640, 11520, 14400)),
    "etth2": (1, 7, "1h", 24, 96, 0, (8640, 11520, 14400)),
    "ettm1": (1, 7, "15m", 96, 96, 0, (34560, 46080, 57600)),
    "exchange_rate": (1, 8, "", 1, 96, 0, (5311, 6071, 7588)),
    "m4_hourly": (414, 1, "", 24, 48, 0, (652, 700, 748)),
    "m4_weekly": (359, 1, "", 1, 13, 0, (2166, 2179, 2192)),
    "m3_yearly": (645, 1, "", 1, 6, 0, (8, 14, 20)),
    "m3_quarterly": (756, 1, "", 4, 8, 0, (28, 36, 44)),
    "m3_other": (174, 1, "", 1, 8, 0, (88, 96, 104)),
    "vic_elec": (1, 1, "30m", 48, 48, 0, (36825, 42087, 52608)),
    "beijing_pm25": (1, 1, "1h", 24, 24, 2067, (30676, 35060, 43824)),
}


QUICK = ("sunspots", "airline", "exchange_rate", "m4_hourly", "m3_yearly")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in QUICK else [pytest.mark.full]) for n in FORECAST_DATASETS],
)
def test_the_public_data_are_what_their_sources_say(name):
    data = public(name)
    missing = sum(int(np.isnan(one.values).sum()) for one in data.series)
    assert FACTS[name] == (
        *(len(data.series), data.channels, data.frequency, data.season, data.horizon, missing),
        tuple(data.bounds[0]),
    )
    assert all(one.covariates.shape[1] == (name == "vic_elec") for one in data.series)


@pytest.mark.parametrize(
    ("name", "entry"), [("sunspots", "monthly_sunspots"), ("airline", "airline_passengers")]
)
def test_the_embedded_numbers_are_those_of_the_registry(name, entry):
    dataset = DATASETS[entry]
    data_dir = shared_files(entry)
    rows = read_records(dataset, dataset.files[0].name, data_dir)
    (one,) = load_forecast_data(name).series
    month, column = rows[0]
    np.testing.assert_array_equal(one.values, numbers(rows, [column]))
    assert [str(time)[:7] for time in one.times] == [row[month] for row in rows]


@pytest.mark.full
def test_melbourne_has_its_own_time():
    data = public("vic_elec")
    by_hour = [
        np.nanmean(
            data.series[0].values[(data.series[0].times.astype("M8[h]").astype(int) % 24) == h]
        )
        for h in range(24)
    ]
    assert 2 <= int(np.argmin(by_hour)) <= 4  # the small hours


def test_scales_are_those_of_the_training_rows():
    data = small()
    for one, bounds, normaliser in zip(data.series, data.bounds, data.normalisers(), strict=True):
        assert normaliser == Normaliser.fit(one.values[: bounds.train])
    later = [one._replace(values=one.values.copy()) for one in data.series]
    for one, bounds in zip(later, data.bounds, strict=True):
        one.values[bounds.train :] = 1e9
    changed = ForecastData(**{**vars_of(data), "series": tuple(later)})
    assert changed.normalisers() == data.normalisers()
    assert changed.fingerprint() != data.fingerprint()


@pytest.mark.parametrize(
    ("values", "scale"), [([[-2.0], [4.0], [np.nan]], 3.0), ([[0.0], [0.0]], 1.0)]
)
def test_the_scale_of_the_mean_keeps_signs_and_zeros(values, scale):
    assert measure_scale("x", np.array(values), "mean") == Normaliser((0.0,), (scale,))
    assert measure_scale("x", np.array(values), "none") == Normaliser((0.0,), (1.0,))


def test_shares_are_rounded_as_in_the_literature():
    assert share_bounds(7588) == Bounds(5311, 6071, 7588)
    assert share_bounds(10) == Bounds(7, 8, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bounds": (Bounds(1, 2, 3),)}, "bounds for each, got 3 and 1"),
        ({"scaling": "log"}, "expected one of standard, mean, none, got 'log'"),
        ({"frequency": ""}, "expected times with a calendar and a frequency, or neither"),
        ({"frequency": "2D"}, "expected regular times, 2D apart, got 2020-01-06"),
        ({"bounds": (Bounds(28, 32, 41), *small().bounds[1:])}, "expected bounds that rise to 40"),
        ({"series": (small().series[0], *small(channels=2).series[1:])}, r"values \[T, 1\]"),
        ({"series": (small().series[0], *small(covariates=2).series[1:])}, r"covariates \[.., 1\]"),
    ],
)
def test_data_that_cannot_be_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ForecastData(**{**vars_of(small()), **change})


def test_infinite_and_short_series_are_refused():
    one = small().series[0]
    for bad, message in (
        (one._replace(values=np.full_like(one.values, np.inf)), "got an infinity"),
        (one._replace(times=one.times[:-1]), "expected 40 times"),
        (one._replace(covariates=one.covariates[:30]), "as many rows of covariates"),
    ):
        with pytest.raises(ValueError, match=message):
            ForecastData("bad", (bad,), 7, 4, "1D", (Bounds(28, 32, 40),))


def test_an_unknown_name_lists_those_known():
    with pytest.raises(ValueError, match="expected one of sunspots, airline, etth1"):
        load_forecast_data("etth3")
