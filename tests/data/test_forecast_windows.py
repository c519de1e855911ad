import dataclasses
import itertools

import numpy as np
import pytest

from rnnlab.data.forecast_windows import Scales, WindowBatches, Windows, repeat_shorter
from tests.data.forecasting import poisoned, public, small

DATA = small()
WINDOWS = Windows(DATA, context=10, horizon=4)


def test_a_window_is_the_rows_around_its_origin():
    origins = np.array([[0, 12], [2, 30]])
    window = WINDOWS.window(origins)
    for row, (number, origin) in enumerate(origins):
        normaliser = DATA.normalisers()[number]
        values = normaliser.apply(DATA.series[number].values)
        for part, mask, rows in (
            (window.past, window.past_mask, slice(origin - 10, origin)),
            (window.future, window.future_mask, slice(origin, origin + 4)),
        ):
            np.testing.assert_array_equal(mask[row], np.isfinite(values[rows]))
            np.testing.assert_allclose(part[row], np.nan_to_num(values[rows]), rtol=1e-6)
    assert not window.past_mask[0].all() or DATA.series[0].values[2:12].all()
    np.testing.assert_array_equal(window.series, [0, 2])
    truth = WINDOWS.truth(origins[:, 0], origins[:, 1])
    np.testing.assert_array_equal(truth[1], DATA.series[2].values[30:34])
    mean, scale = WINDOWS.affine(origins[:, 0])
    np.testing.assert_allclose(window.future * scale + mean, truth, rtol=1e-6)
    assert WINDOWS.times(2, 60, past=1).astype(str).tolist()[:2] == [
        "2020-03-05T00:00:00",
        "2020-03-06T00:00:00",
    ]


def test_missing_values_are_masked_and_not_filled():
    window = WINDOWS.window(np.array([[2, 12]]))  # rows 5 and 6 of series 2 are missing
    assert np.flatnonzero(~window.past_mask[0, :, 0]).tolist() == [3, 4]
    assert (window.past[0, 3:5] == 0).all()


def test_a_short_past_is_padded_on_the_left():
    window = WINDOWS.window(np.array([[0, 3]]))
    assert window.past_mask[0, :, 0].tolist() == [False] * 7 + [True] * 3
    assert (window.past_covariates[0, :7] == 0).all()
    assert all(np.isfinite(part).all() for part in window)


def test_covariates_are_known_for_the_future_and_say_where_not():
    window = WINDOWS.window(WINDOWS.ends())
    assert window.past_covariates.shape[2] == WINDOWS.covariates == 4 + 1 + 2
    value, known = window.future_covariates[0, :, -2], window.future_covariates[0, :, -1]
    assert (known == 1).all() and len(set(value.tolist())) == 2  # a Sunday is among them
    further = Windows(DATA, context=10, horizon=6).window(WINDOWS.ends())
    assert further.future_covariates[0, :, -1].tolist() == [1, 1, 1, 1, 0, 0]
    assert further.future_covariates[0, 4:, -2].tolist() == [0, 0]
    assert not further.future_mask.any()


def test_the_age_is_left_out_on_demand():
    young = dataclasses.replace(WINDOWS, age=False)
    origins = np.array([[0, 12], [2, 30]])
    kept = [column for column in range(WINDOWS.covariates) if column != 4]  # behind the calendar
    assert young.covariates == WINDOWS.covariates - 1
    for part in ("past_covariates", "future_covariates"):
        expected = getattr(WINDOWS.window(origins), part)
        np.testing.assert_array_equal(getattr(young.window(origins), part), expected[..., kept])
        assert (np.diff(expected[..., 4]) > 0).all()


def test_splits_hold_every_origin_once_and_do_not_overlap():
    origins = {split: WINDOWS.origins(split) for split in ("train", "valid", "test")}
    for number, bounds in enumerate(DATA.bounds):
        rows = {split: set(o[o[:, 0] == number, 1].tolist()) for split, o in origins.items()}
        first = min(10, bounds.train - 4)
        assert rows["train"] == set(range(first, bounds.train - 3))
        assert rows["valid"] == {bounds.train}
        assert rows["test"] == set(range(bounds.valid, bounds.test - 3))


def test_a_stride_thins_held_out_origins_alone():
    thinner = Windows(DATA, context=10, horizon=4, stride=3)
    np.testing.assert_array_equal(thinner.origins("train"), WINDOWS.origins("train"))
    assert len(thinner.origins("test")) == 3 * 2 and len(WINDOWS.origins("test")) == 3 * 5


@pytest.mark.full
def test_ett_has_as_many_windows_as_the_literature():
    windows = Windows(public("etth1"), context=336, horizon=96)
    sizes = {split: len(windows.origins(split)) for split in ("train", "valid", "test")}
    assert sizes == {"train": 8640 - 336 - 96 + 1, "valid": 2785, "test": 2785}


def test_series_shorter_than_the_context_still_train():
    windows = Windows(small((20, 40)), context=30, horizon=4)
    assert windows.origins("train").tolist() == [[0, 4], [1, 24]]
    with pytest.raises(ValueError, match="windows of 30 steps to fit into the test rows of small"):
        Windows(DATA, context=10, horizon=30).origins("test")
    with pytest.raises(ValueError, match="expected one of train, valid, test, got 'dev'"):
        WINDOWS.origins("dev")


def test_rolling_origins_end_with_the_series_and_stay_behind_the_training_rows():
    origins = WINDOWS.rolling_origins(2)
    assert origins[:2].tolist() == [[0, 32], [0, 36]]
    assert WINDOWS.rolling_origins(9)[:3].tolist() == [[0, 28], [0, 32], [0, 36]]
    assert WINDOWS.rolling_origins(2, step=1)[:2].tolist() == [[0, 35], [0, 36]]
    with pytest.raises(ValueError, match="expected 13 steps to fit behind the training rows"):
        Windows(DATA, context=10, horizon=13).rolling_origins(1)


def test_the_future_is_nowhere_in_what_a_forecaster_may_read():
    origins = np.array([[0, 33], [1, 19], [2, 52]])
    window = WINDOWS.window(origins)
    blind = Windows(poisoned(DATA, origins), context=10, horizon=4).window(origins)
    for name in ("past", "past_mask", "past_covariates", "future_covariates", "series"):
        np.testing.assert_array_equal(getattr(blind, name), getattr(window, name))
    assert not blind.future_mask.any() and window.future_mask.all()


def test_an_epoch_drops_nothing_and_its_last_batch_is_filled_up():
    origins = WINDOWS.origins("test")  # 15
    batches = list(WindowBatches(WINDOWS, origins, 4).epoch())
    assert [batch.weights.sum() for batch in batches] == [4, 4, 4, 3]
    assert not batches[-1].window.future_mask[3].any()
    seen = [
        (series, origin)
        for batch in batches
        for series, origin, weight in zip(batch.number, batch.origin, batch.weights, strict=True)
        if weight
    ]
    assert seen == [tuple(pair) for pair in origins.tolist()]


def test_a_batch_depends_on_the_step_and_the_seed_alone():
    origins = WINDOWS.origins("train")
    batches = WindowBatches(WINDOWS, origins, 5, seed=3)
    third = next(batches.batches(3))
    for _ in range(2):
        again = next(itertools.islice(batches.batches(1), 2, None))
        for name in ("past", "future", "future_mask", "series"):
            np.testing.assert_array_equal(getattr(again.window, name), getattr(third.window, name))
    other = WindowBatches(WINDOWS, origins, 5, seed=4).batch(3)
    assert not np.array_equal(other.origin, third.origin)
    per_epoch = len(origins)
    stream = itertools.islice(WindowBatches(WINDOWS, origins, 1).batches(), per_epoch)
    seen = sorted((int(b.window.series[0]), int(b.origin[0])) for b in stream)
    assert seen == sorted(map(tuple, origins.tolist()))


def test_balanced_batches_count_series_alike():
    origins = WINDOWS.origins("train")
    repeated = repeat_shorter(origins)
    counts = np.unique(repeated[:, 0], return_counts=True)[1]
    assert len(set(counts.tolist())) == 1
    assert set(map(tuple, repeated.tolist())) == set(map(tuple, origins.tolist()))
    batches = WindowBatches(WINDOWS, origins, len(repeated), balanced=True)
    assert np.bincount(batches.batch(0).window.series).tolist() == counts.tolist()


def test_a_subset_of_the_trained_series_keeps_its_numbers_and_scales():
    one = dataclasses.replace(DATA, series=DATA.series[2:], bounds=DATA.bounds[2:])
    window = Windows(one, 10, 4, Scales.fit(DATA)).window(np.array([[0, 30]]))
    expected = WINDOWS.window(np.array([[2, 30]]))
    for name in ("past", "past_covariates", "future", "series"):
        np.testing.assert_array_equal(getattr(window, name), getattr(expected, name))


def test_scales_come_back_exactly_and_refuse_other_series():
    scales = Scales.fit(DATA)
    assert Scales.from_json(scales.to_json()) == scales
    assert Scales.from_json(Scales.fit(small(covariates=0)).to_json()).covariates is None
    other = Windows(small((30,)), 10, 4, Scales({"other": DATA.normalisers()[0]}))
    with pytest.raises(ValueError, match="expected those of the series other, got none of s0"):
        other.window(np.array([[0, 12]]))
