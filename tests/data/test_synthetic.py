import numpy as np
import pytest

from rnnlab.data.synthetic import CONTROL_CHART_CLASSES, control_charts


def test_a_seed_makes_the_same_charts_and_another_does_not():
    first, again, other = (control_charts(20, seed) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a.values, b.values)
    assert any(len(a.values) != len(b.values) for a, b in zip(first, other, strict=True))


def test_lengths_and_classes():
    charts = control_charts(600, 0, min_length=30, max_length=33)
    assert {len(chart.values) for chart in charts} == {30, 31, 32, 33}
    counts = np.bincount([chart.label for chart in charts])
    assert counts.tolist() == [100] * len(CONTROL_CHART_CLASSES)
    assert {chart.values.dtype.name for chart in charts} == {"float32"}
    assert {chart.values.shape[1:] for chart in charts} == {(1,)}


def test_every_class_shows_its_pattern():
    charts = control_charts(600, 0, min_length=60)
    thirds = {name: [] for name in CONTROL_CHART_CLASSES}
    spread = {name: [] for name in CONTROL_CHART_CLASSES}
    for chart in charts:
        values, name = chart.values[:, 0], CONTROL_CHART_CLASSES[chart.label]
        thirds[name].append(values[40:].mean() - values[:20].mean())
        spread[name].append(values.std())
    assert np.abs(thirds["normal"]).max() < 4
    assert np.min(thirds["increasing"]) > 4 > -4 > np.max(thirds["decreasing"])
    assert np.min(thirds["upward"]) > 4 > -4 > np.max(thirds["downward"])
    assert np.min(spread["cyclic"]) > 1.5 * np.max(spread["normal"])


@pytest.mark.parametrize("arguments", [(0, 0), (5, 0, 2), (5, 0, 50, 40)])
def test_impossible_requests(arguments):
    with pytest.raises(ValueError, match="count, min_length, max_length: expected"):
        control_charts(*arguments)
