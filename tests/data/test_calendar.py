import numpy as np
import pytest

from rnnlab.data.calendar import (
    calendar_features,
    extend_times,
    infer_frequency,
    parse_frequency,
    steps_between,
)


def times(*texts):
    return np.array(texts, "M8[s]")


@pytest.mark.parametrize(
    ("start", "frequency", "expected"),
    [
        ("2020-02-28T23:45", "15m", "2020-02-29T00:00"),
        ("2020-02-28", "1D", "2020-02-29"),
        ("2020-12-15", "1M", "2021-01-15"),
        ("2020-10-01", "3M", "2021-01-01"),
        ("2020-07-01", "1Y", "2021-07-01"),
    ],
)
def test_the_next_time_and_the_frequency_are_found_again(start, frequency, expected):
    longer = extend_times(times(start), 20, frequency)
    assert longer[1] == np.datetime64(expected)
    assert infer_frequency(longer) == frequency
    np.testing.assert_array_equal(steps_between(longer[0], longer, frequency), np.arange(21))
    holes = np.delete(longer, [3, 4, 9])
    assert infer_frequency(holes) == frequency


def test_steps_without_a_calendar():
    assert infer_frequency(np.array([4, 5, 7])) == ""
    assert extend_times(np.array([4, 5]), 2, "").tolist() == [4, 5, 6, 7]
    assert calendar_features(np.arange(3), "").shape == (3, 0)


def test_times_that_fit_no_step_are_named():
    with pytest.raises(ValueError, match="whole steps of 3600 s apart, got 2020-01-01T01"):
        infer_frequency(times("2020-01-01T00", "2020-01-01T01", "2020-01-01T02:30"))
    with pytest.raises(ValueError, match="expected rising times"):
        infer_frequency(times("2020-01-01T05", "2020-01-01T05", "2020-01-01T06"))
    with pytest.raises(ValueError, match="expected two or more"):
        infer_frequency(times("2020-01-01"))


@pytest.mark.parametrize("text", ["", "h", "0h", "1w", "1.5h", "-1D"])
def test_what_is_no_frequency_is_refused(text):
    with pytest.raises(ValueError, match="expected a number and one of the units"):
        parse_frequency(text)


def test_features_go_round_with_day_week_and_year():
    hours = extend_times(times("2019-12-30"), 24 * 7 * 60, "1h")  # a Monday
    features = calendar_features(hours, "1h")
    assert features.shape == (len(hours), 6)
    np.testing.assert_allclose(np.square(features[:, :3]) + np.square(features[:, 3:]), 1)
    day, week = features[:, [0, 3]], features[:, [1, 4]]
    np.testing.assert_allclose(day[0], [0, 1], atol=1e-12)
    np.testing.assert_allclose(day[6], [1, 0], atol=1e-12)  # six o'clock is a quarter
    np.testing.assert_allclose(day[24:], day[:-24], atol=1e-12)
    np.testing.assert_array_equal(week[:24], np.tile(week[0], (24, 1)))
    np.testing.assert_allclose(week[0], [0, 1], atol=1e-12)
    np.testing.assert_allclose(week[168:], week[:-168], atol=1e-12)
    assert not np.allclose(week[0], week[24])
    new_year = features[hours == np.datetime64("2020-01-01"), [2, 5]]
    np.testing.assert_allclose(new_year, [0, 1], atol=1e-12)


def test_daily_and_yearly_values_have_fewer_circles():
    assert calendar_features(times("2020-01-01"), "1D").shape == (1, 4)
    assert calendar_features(times("2020-01-01"), "7D").shape == (1, 2)
    assert calendar_features(times("2020-01-01"), "1M").shape == (1, 2)
    assert calendar_features(times("2020-01-01"), "1Y").shape == (1, 0)
