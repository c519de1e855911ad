import numpy as np
import pytest

from rnnlab.data import Normaliser, split_series

VALUES = np.random.default_rng(0).normal([5.0, -300.0, 1e-3], [2.0, 40.0, 1e-5], (200, 3))


def test_training_values_have_mean_0_and_deviation_1():
    normalised = Normaliser.fit(VALUES).apply(VALUES)
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-10)
    np.testing.assert_allclose(normalised.std(0), 1, atol=1e-10)


def test_apply_is_undone_and_saved_exactly():
    normaliser = Normaliser.fit(VALUES)
    np.testing.assert_allclose(normaliser.invert(normaliser.apply(VALUES)), VALUES, rtol=1e-12)
    assert Normaliser.from_json(normaliser.to_json()) == normaliser


def test_leading_axes_are_one():
    cube = VALUES.reshape(20, 10, 3)
    assert Normaliser.fit(cube) == Normaliser.fit(VALUES)
    assert Normaliser.fit(VALUES).apply(cube).shape == cube.shape
    assert Normaliser.fit(VALUES).apply(VALUES[0]).shape == (3,)


def test_the_future_is_not_known():
    splits = split_series(VALUES, 0.6, 0.2, 0.2)
    before = Normaliser.fit(splits.train)
    changed = VALUES.copy()
    changed[120:] = 1e9
    assert Normaliser.fit(split_series(changed, 0.6, 0.2, 0.2).train) == before
    changed[119] = 1e9
    assert Normaliser.fit(split_series(changed, 0.6, 0.2, 0.2).train) != before


def test_constant_features_are_shifted_only():
    values = np.full((7, 2), [0.1, 0.3])
    assert np.std(values, axis=0).max() > 0  # rounding: a naive test for 0 would miss them
    normaliser = Normaliser.fit(values)
    assert normaliser.scale == (1.0, 1.0)
    np.testing.assert_array_equal(normaliser.apply(values), np.zeros((7, 2)))
    assert Normaliser.fit(np.ones((1, 2))).scale == (1.0, 1.0)
    assert Normaliser.fit(np.array([[0.0], [1e-200]])).scale == (1.0,)


def test_missing_values_are_ignored_and_kept():
    holes = VALUES.copy()
    holes[::7, 1] = np.nan
    normaliser = Normaliser.fit(holes)
    assert normaliser.mean[1] == pytest.approx(holes[~np.isnan(holes[:, 1]), 1].mean())
    assert normaliser.mean[0] == Normaliser.fit(VALUES).mean[0]
    np.testing.assert_array_equal(np.isnan(normaliser.apply(holes)), np.isnan(holes))


def test_dtypes():
    normaliser = Normaliser.fit(VALUES)
    assert normaliser.apply(VALUES.astype(np.float32)).dtype == np.float32
    assert Normaliser.fit(np.array([[1], [3]])).apply([[2]]).dtype == np.float64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.ones(3), r"values: expected \[..., F\], got shape \(3,\).*values\[:, None\]"),
        (np.array([[1, np.nan], [2, np.nan]]), "feature 1: expected a number that is not NaN"),
        (np.array([[1, np.inf], [2, 3]]), "feature 1: expected no infinite value"),
        (np.ones((0, 2)), "feature 0: expected a number that is not NaN in 0"),
    ],
)
def test_values_that_cannot_be_fitted(values, message):
    with pytest.raises(ValueError, match=message):
        Normaliser.fit(values)


def test_errors_of_apply_and_of_the_fields():
    with pytest.raises(ValueError, match=r"expected \[..., 3\], .* got shape \(5, 2\)"):
        Normaliser.fit(VALUES).apply(np.ones((5, 2)))
    with pytest.raises(ValueError, match="got 1 and 2"):
        Normaliser((0.0,), (1.0, 1.0))
    with pytest.raises(ValueError, match="finite means and positive scales"):
        Normaliser.from_json('{"mean": [0.0], "scale": [0.0]}')


@pytest.mark.parametrize(
    ("parts", "sizes"),
    [
        ((0.7, 0.1, 0.2), (7, 1, 2)),  # 0.7 + 0.1 is a little less than 0.8
        ((1 / 3, 1 / 3, 1 / 3), (3, 3, 4)),
        ((0.8, 0.2, 0), (8, 2, 0)),
        ((6, 2, 2), (6, 2, 2)),
        ((4, 1, 1), (4, 1, 1)),
    ],
)
def test_a_series_is_cut_in_time_order(parts, sizes):
    splits = split_series(np.arange(10), *parts)
    assert tuple(map(len, splits)) == sizes
    np.testing.assert_array_equal(np.concatenate(splits), np.arange(sum(sizes)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ((0.5, 0.2, 0.2), "shares that add up to 1"),
        ((5, 0.2, 0.3), "shares that add up to 1"),
        ((np.nan, 0.2, 0.2), "shares that add up to 1"),
        ((9, 1, 1), "at most 10 rows"),
        ((12, -1, -1), "none below 0"),
    ],
)
def test_parts_that_do_not_do(parts, message):
    with pytest.raises(ValueError, match=message):
        split_series(np.arange(10), *parts)
