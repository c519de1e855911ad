import numpy as np
import pytest

from rnnlab.data import forecast_metrics as metrics
from rnnlab.data.naive2 import naive2, seasonal_indices
from tests.data.forecasting import public

RNG = np.random.default_rng(0)
N, H, C, SEASON = 5, 7, 1, 3
PAST = RNG.normal(size=(N, 30, C)).cumsum(axis=1) + 5
TRUTH = RNG.normal(size=(N, H, C)) + 5
FORECAST = TRUTH + RNG.normal(size=TRUTH.shape)
LEVELS = np.array([0.05, 0.25, 0.5, 0.75, 0.95])
QUANTILES = np.sort(FORECAST + RNG.normal(size=(5, *TRUTH.shape)), axis=0)
SCALE = np.stack([metrics.seasonal_scale(past, SEASON) for past in PAST])


@pytest.fixture(scope="module")
def oracle():
    """utilsforecast's mean over series of each loss, on the same arrays."""
    reason = "utilsforecast, of the dependency group oracle, is not installed"
    losses = pytest.importorskip("utilsforecast.losses", reason=reason)
    pandas = pytest.importorskip("pandas", reason=reason)
    identities = np.repeat(np.arange(N), H)
    frame = {"unique_id": identities, "ds": np.tile(np.arange(30, 30 + H), N), "y": TRUTH.ravel()}
    frame |= {"model": FORECAST.ravel()}
    frame |= {f"q{i}": quantile.ravel() for i, quantile in enumerate(QUANTILES)}
    frame |= {"model-lo-90": QUANTILES[0].ravel(), "model-hi-90": QUANTILES[-1].ravel()}
    train = {"unique_id": np.repeat(np.arange(N), 30), "ds": np.tile(np.arange(30), N)}
    train = pandas.DataFrame(train | {"y": PAST.ravel()})
    frame = pandas.DataFrame(frame)

    def loss(name, models=("model",), **options):
        options |= {"train_df": train} if name == "mase" else {}
        models = models if isinstance(models, dict) else list(models)
        return getattr(losses, name)(frame, models, **options)["model"].to_numpy()

    return loss


def test_point_metrics_equal_those_of_utilsforecast(oracle):
    assert metrics.mse(TRUTH, FORECAST) == pytest.approx(oracle("mse").mean(), rel=1e-12)
    assert metrics.mae(TRUTH, FORECAST) == pytest.approx(oracle("mae").mean(), rel=1e-12)
    # There from 0 to 1, here from 0 to 200 as in M4.
    assert metrics.smape(TRUTH, FORECAST) == pytest.approx(200 * oracle("smape").mean(), rel=1e-12)
    expected = oracle("mase", seasonality=SEASON).mean()
    assert metrics.mase(TRUTH, FORECAST, SCALE) == pytest.approx(expected, rel=1e-12)
    ours = [metrics.nd(truth, guess) for truth, guess in zip(TRUTH, FORECAST, strict=True)]
    np.testing.assert_allclose(ours, oracle("nd"), rtol=1e-12)


def test_probabilistic_metrics_equal_those_of_utilsforecast(oracle):
    columns = {"model": [f"q{i}" for i in range(len(LEVELS))]}
    expected = oracle("mqloss", columns, quantiles=LEVELS).mean()
    assert metrics.pinball(TRUTH, QUANTILES, LEVELS) == pytest.approx(expected, rel=1e-12)
    for level, quantile in enumerate(QUANTILES):
        expected = oracle("quantile_loss", {"model": f"q{level}"}, q=LEVELS[level]).mean()
        ours = metrics.pinball(TRUTH, quantile[None], LEVELS[level : level + 1])
        assert ours == pytest.approx(expected, rel=1e-12)
    ours = [
        metrics.crps(TRUTH[i], QUANTILES[:, i], LEVELS) * H / np.abs(TRUTH[i]).sum()
        for i in range(N)
    ]
    np.testing.assert_allclose(ours, oracle("scaled_crps", columns, quantiles=LEVELS), rtol=1e-12)
    expected = oracle("coverage", level=90).mean()
    assert metrics.coverage(TRUTH, QUANTILES[0], QUANTILES[-1]) == pytest.approx(expected)


POINT = {
    "mse": lambda *pair: metrics.mse(*pair),
    "mae": lambda *pair: metrics.mae(*pair),
    "smape": lambda *pair: metrics.smape(*pair),
    "nd": lambda *pair: metrics.nd(*pair),
    "mase": lambda truth, forecast, *mask: metrics.mase(truth, forecast, SCALE, *mask),
    "pinball": lambda truth, f, *mask: metrics.pinball(truth, f[None], np.array([0.3]), *mask),
    "crps": lambda truth, f, *mask: metrics.crps(truth, f[None], np.array([0.3]), *mask),
    "samples": lambda truth, f, *mask: metrics.crps_of_samples(truth, np.stack([f, f + 1]), *mask),
    "coverage": lambda truth, f, *mask: metrics.coverage(truth, f - 1, f + 1, *mask),
}


@pytest.mark.parametrize("name", POINT)
def test_missing_values_count_nowhere_and_bad_forecasts_do(name):
    metric, observed = POINT[name], RNG.random(TRUTH.shape) < 0.6
    expected = metric(TRUTH, FORECAST, observed)
    holes = np.where(observed, TRUTH, np.nan)
    assert metric(holes, np.where(observed, FORECAST, np.nan)) == expected
    assert metric(np.where(observed, TRUTH, 1e30), FORECAST, observed) == expected
    if name != "coverage":
        assert np.isnan(metric(TRUTH, np.full_like(FORECAST, np.nan)))
    with pytest.raises(ValueError, match="expected at least one observed value"):
        metric(np.full_like(TRUTH, np.nan), FORECAST)


def test_scores_of_batches_are_those_of_all_windows():
    truth = np.where(RNG.random(TRUTH.shape) < 0.8, TRUTH, np.nan)
    scores = metrics.Scores(H)
    for rows in (slice(0, 2), slice(2, N)):
        scores.add(
            truth[rows],
            FORECAST[rows],
            scale=SCALE[rows],
            quantiles=QUANTILES[:, rows],
            levels=LEVELS,
        )
    expected = {name: getattr(metrics, name)(truth, FORECAST) for name in ("mse", "mae", "smape")}
    expected |= {
        "nd": metrics.nd(truth, FORECAST),
        "mase": metrics.mase(truth, FORECAST, SCALE),
        "crps": metrics.crps(truth, QUANTILES, LEVELS),
        "coverage": metrics.coverage(truth, QUANTILES[0], QUANTILES[-1]),
    }
    assert scores.values() == pytest.approx(expected, rel=1e-12)
    steps = [metrics.mae(truth[:, h], FORECAST[:, h]) for h in range(H)]
    np.testing.assert_allclose(scores.by_step("mae"), steps)
    with pytest.raises(FloatingPointError, match="mse: a forecast of an observed value"):
        scores.add(TRUTH, np.full_like(TRUTH, np.nan))


def test_crps_of_samples_is_the_definition_and_agrees_with_quantiles():
    samples = RNG.normal(size=(6, 3)) + 1
    truth = np.zeros(3)
    pairs = np.abs(samples[:, None] - samples[None]).mean(axis=(0, 1))
    expected = (np.abs(samples).mean(axis=0) - pairs / 2).mean()
    assert metrics.crps_of_samples(truth, samples) == pytest.approx(expected, rel=1e-12)
    many = RNG.normal(size=4000)[:, None] + np.zeros(3)
    levels = (np.arange(200) + 0.5) / 200
    quantiles = np.quantile(many, levels, axis=0)
    exact = metrics.crps_of_samples(truth, many)
    assert metrics.crps(truth, quantiles, levels) == pytest.approx(exact, rel=0.01)
    assert exact == pytest.approx((np.sqrt(2) - 1) / np.sqrt(np.pi), rel=0.05)  # of N(0, 1) at 0


def test_a_past_that_never_changed_scales_nothing():
    assert metrics.seasonal_scale(np.full((9, 1), 4.0), 2).tolist() == [0.0]
    assert np.isnan(metrics.seasonal_scale(np.array([[1.0], [np.nan]]), 1)).all()
    scale = np.where(np.arange(N) == 0, 0.0, 2.0)[:, None]
    expected = metrics.mae(TRUTH[1:], FORECAST[1:]) / 2
    assert metrics.mase(TRUTH, FORECAST, scale) == pytest.approx(expected)


def test_shapes_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match=r"expected the shape of the truth, \(5, 7, 1\)"):
        metrics.mse(TRUTH, FORECAST[:, :-1])
    with pytest.raises(ValueError, match=r"quantiles: expected shape \(5, 5, 7, 1\)"):
        metrics.pinball(TRUTH, FORECAST, LEVELS)


def test_seasonal_indices_of_a_seasonal_series_are_found():
    indices = np.array([0.5, 1.5, 1.25, 0.75])
    past = 7.0 * np.tile(indices, 6)
    np.testing.assert_allclose(seasonal_indices(past, 4), indices)
    np.testing.assert_allclose(naive2(past[:-1], 4, 5), past[3:8])
    assert naive2(np.array([1.0, 2.0, 5.0]), 4, 2).tolist() == [5, 5]
    with pytest.raises(ValueError, match="expected no missing value"):
        naive2(np.array([1.0, np.nan]), 1, 1)


@pytest.mark.parametrize(
    ("name", "smape", "mase"),
    [
        ("m4_hourly", 18.383, 2.395),
        pytest.param("m4_weekly", 9.161, 2.777, marks=pytest.mark.full),
    ],
)
def test_naive2_has_the_scores_that_m4_published(name, smape, mase):
    data = public(name)
    scores = metrics.Scores(data.horizon)
    for one, bounds in zip(data.series, data.bounds, strict=True):
        past, truth = one.values[: bounds.valid], one.values[bounds.valid :]
        forecast = naive2(past[:, 0], data.season, data.horizon)[:, None]
        scale = metrics.seasonal_scale(past, data.season)
        scores.add(truth[None], forecast[None], scale=scale[None])
    values = scores.values()
    assert (values["smape"], values["mase"]) == pytest.approx((smape, mase), abs=6e-4)
