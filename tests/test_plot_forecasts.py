import io

import numpy as np
import pytest

from rnnlab import plot_forecasts
from rnnlab.plot_forecasts import Panel, autocorrelation

TIMES = np.datetime64("2020-01-01", "s") + np.arange(9) * np.timedelta64(1, "D")
PAST = np.array([1.0, 2.0, np.nan, 4.0, 5.0, 6.0])


def drawn(figure):
    figure.savefig(content := io.BytesIO(), format="png")
    assert content.getvalue().startswith(b"\x89PNG")
    return figure.axes


@pytest.mark.parametrize("times", [TIMES, np.arange(9)])
def test_a_fan_chart_has_past_truth_forecast_and_bands(times):
    quantiles = np.array([-2.0, -1, 0, 1, 2])[:, None] + np.zeros(3)
    levels = (0.05, 0.25, 0.5, 0.75, 0.95)
    known = Panel("known", times, PAST, np.zeros(3), np.ones(3), quantiles, levels)
    unknown = Panel("unknown", times, PAST, np.zeros(3))
    figure = plot_forecasts.fan_chart([known, unknown])
    first, second = drawn(figure)
    (legend,) = figure.legends
    labels = [text.get_text() for text in legend.get_texts()]
    assert labels == ["90 %", "50 %", "truth", "forecast"]
    assert (len(first.collections), len(second.collections)) == (2, 0)
    np.testing.assert_array_equal(first.lines[0].get_ydata(), PAST)
    np.testing.assert_array_equal(first.lines[1].get_ydata(), [6, 1, 1, 1])  # joined to the past
    wide, narrow = (np.ravel(band.get_facecolor()) for band in first.collections)
    assert (wide[:3] > narrow[:3]).all() and wide[3] == narrow[3] == 1  # lighter, and opaque
    assert len(second.lines) == 3  # past, forecast, the origin


def test_a_value_between_two_gaps_is_a_dot():
    past = np.array([1.0, np.nan, 3.0, np.nan, 5.0, 6.0])
    truth = np.array([np.nan, 8.0, np.nan])
    (axes,) = drawn(plot_forecasts.fan_chart([Panel("gaps", TIMES, past, np.zeros(3), truth)]))
    lines = {line.get_label(): line for line in axes.lines}
    assert axes.lines[0].get_markevery() == [0, 2]
    assert lines["truth"].get_markevery() == [1]
    assert lines["forecast"].get_marker() == "None"


def test_the_error_of_each_model_is_a_curve():
    curves = {"model": np.array([1.0, 2.0]), "naive": np.array([3.0, np.nan])}
    (axes,) = drawn(plot_forecasts.error_by_step(curves, "mse"))
    assert [line.get_label() for line in axes.lines] == ["model  1.5", "naive  3"]
    assert axes.get_ylabel() == "mse"
    assert axes.get_yscale() == "linear"
    far = curves | {"drift": np.array([50.0, 90.0])}
    (axes,) = drawn(plot_forecasts.error_by_step(far, "mse"))
    assert axes.get_yscale() == "log"


def test_autocorrelation_is_the_formula_where_observed():
    values = np.random.default_rng(0).normal(size=500)
    centred = values - values.mean()
    expected = [np.mean(centred[k:] * centred[:-k]) / np.mean(centred**2) for k in (1, 2, 3)]
    np.testing.assert_allclose(autocorrelation(values, 3), expected)
    wave = np.sin(2 * np.pi * np.arange(400) / 8)
    wave[::7] = np.nan
    found = autocorrelation(wave, 8)
    assert found[7] > 0.9 and found[3] < -0.9
    assert autocorrelation(np.ones(5), 2).tolist() == [0, 0]
    axes = drawn(plot_forecasts.residual_autocorrelation([values, values[:100]], lags=5))[0]
    assert axes.get_xlabel() == "lag (steps)"
    axes = drawn(plot_forecasts.residual_autocorrelation([values], lags=5, apart=24))[0]
    assert axes.get_xlabel() == "lag (forecasts, 24 steps apart)"
