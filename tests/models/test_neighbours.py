import numpy as np
import pytest

from rnnlab.models import nearest_neighbours


def test_neighbours_are_those_of_the_cosine_whatever_the_lengths():
    angles = np.deg2rad([0, 50, 10, 180, 90])
    lengths = np.array([1, 100, 0.01, 1, 1])
    rows = lengths[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = nearest_neighbours(rows, 0, 3)
    assert [token for token, _ in found] == [2, 1, 4]
    np.testing.assert_allclose([s for _, s in found], np.cos(np.deg2rad([10, 50, 90])), atol=1e-12)
    assert len(nearest_neighbours(rows, 0, 10)) == 4
    assert nearest_neighbours(rows, 3, 10)[-1] == (0, pytest.approx(-1))


def test_a_row_of_zeros_is_like_nothing():
    rows = np.array([[1.0, 0], [0, 0], [-1, 0]])
    assert nearest_neighbours(rows, 0, 2) == [(1, 0.0), (2, -1.0)]
    assert nearest_neighbours(rows, 1, 2) == [(0, 0.0), (2, 0.0)]


@pytest.mark.parametrize("token", [-1, 3])
def test_a_token_without_a_row_is_refused(token):
    with pytest.raises(ValueError, match=f"token: expected 0 to 2, got {token}"):
        nearest_neighbours(np.eye(3), token, 1)
