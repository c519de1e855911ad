"""Numbers on a common scale, and series cut in time order."""

import dataclasses
import itertools
import json
from typing import Any, NamedTuple

import numpy as np


class Splits(NamedTuple):
    """A series in three parts."""

    train: Any
    valid: Any
    test: Any


@dataclasses.dataclass(frozen=True)
class Normaliser:
    """Shifts and scales every feature to mean 0 and standard deviation 1.

        y = (x - mean) / scale

    Fit it on the training split alone: what is known of the others would leak into the training.

    Attributes:
      mean: of every feature.
      scale: the standard deviation of every feature; 1 where it is constant.

    Example:
        >>> normaliser = Normaliser.fit(np.array([[1.0, 5.0], [3.0, 5.0]]))
        >>> normaliser
        Normaliser(mean=(2.0, 5.0), scale=(1.0, 1.0))
        >>> normaliser.apply(np.array([[4.0, 5.0]]))
        array([[2., 0.]])
    """

    mean: tuple[float, ...]
    scale: tuple[float, ...]

    def __post_init__(self):
        if len(self.mean) != len(self.scale) or not self.mean:
            raise ValueError(
                "mean, scale: expected one number a feature in both, got"
                f" {len(self.mean)} and {len(self.scale)}."
            )
        if not np.isfinite(self.mean).all() or not all(0 < s < np.inf for s in self.scale):
            raise ValueError(
                "mean, scale: expected finite means and positive scales, got"
                f" {self.mean} and {self.scale}."
            )

    @classmethod
    def fit(cls, values: np.ndarray) -> "Normaliser":
        """Measures the features of `values` `[..., F]`, in float64; NaN counts as missing.

        Raises:
          ValueError: fewer than two axes, an infinite value, or a feature without any number.
        """
        values = np.asarray(values, np.float64)
        if values.ndim < 2:
            raise ValueError(
                f"values: expected [..., F], got shape {values.shape}. A single series is"
                " values[:, None]."
            )
        values = values.reshape(-1, values.shape[-1])
        for problem, bad in {
            "a number that is not NaN": np.isnan(values).all(axis=0),
            "no infinite value": np.isinf(values).any(axis=0),
        }.items():
            if bad.any():
                raise ValueError(f"feature {bad.argmax()}: expected {problem} in {len(values)}.")
        low, mean, std = np.nanmin(values, 0), np.nanmean(values, 0), np.nanstd(values, 0)
        constant = (low == np.nanmax(values, 0)) | (std == 0)  # rounding makes a std of 1e-17
        mean, scale = np.where(constant, low, mean), np.where(constant, 1.0, std)
        return cls(tuple(mean.tolist()), tuple(scale.tolist()))

    def apply(self, values: np.ndarray) -> np.ndarray:
        """Normalises `values` `[..., F]`; NaN stays NaN, and a floating dtype stays."""
        return self._affine(values, lambda x: (x - np.array(self.mean)) / np.array(self.scale))

    def invert(self, values: np.ndarray) -> np.ndarray:
        """Undoes `apply`."""
        return self._affine(values, lambda y: y * np.array(self.scale) + np.array(self.mean))

    def _affine(self, values, function) -> np.ndarray:
        values = np.asarray(values)
        if values.ndim == 0 or values.shape[-1] != len(self.mean):
            raise ValueError(
                f"values: expected [..., {len(self.mean)}], the features of fit, got shape"
                f" {values.shape}."
            )
        dtype = values.dtype if values.dtype.kind == "f" else np.dtype(np.float64)
        return function(values.astype(np.float64)).astype(dtype)

    def to_json(self) -> str:
        """The normaliser as a JSON object, exact to the bit, to be saved with a run."""
        return json.dumps({"mean": self.mean, "scale": self.scale}) + "\n"

    @classmethod
    def from_json(cls, content: str) -> "Normaliser":
        """Reads what `to_json` wrote."""
        fields = json.loads(content)
        return cls(*(tuple(float(x) for x in fields[name]) for name in ("mean", "scale")))


def split_series(values: Any, train: float, valid: float, test: float) -> Splits:
    """Cuts a series into consecutive parts, the oldest rows to train on.

    Args:
      values: rows in time order, `[T, ...]`.
      train: rows (three whole numbers) or a share of them (three shares that add up to 1).
      valid: the same of the validation split.
      test: the same of the test split. Rows after it are left out; shares leave none out.

    Returns:
      The three parts; views of an array, not copies.

    Raises:
      ValueError: shares that do not add up to 1, more rows than there are, a negative number.

    Example:
        >>> split_series([1, 2, 3, 4, 5], 0.6, 0.2, 0.2)
        Splits(train=[1, 2, 3], valid=[4], test=[5])
        >>> split_series([1, 2, 3, 4, 5], 2, 1, 1)
        Splits(train=[1, 2], valid=[3], test=[4])
    """
    parts, size = (train, valid, test), len(values)
    if min(parts) < 0:
        raise ValueError(f"train, valid, test: expected none below 0, got {parts}.")
    if all(isinstance(part, int | np.integer) for part in parts):
        cuts = list(itertools.accumulate(parts))
        if cuts[-1] > size:
            raise ValueError(f"train, valid, test: expected at most {size} rows, got {parts}.")
    elif not abs(sum(parts) - 1) <= 1e-9:
        raise ValueError(
            "train, valid, test: expected three numbers of rows, or shares that add up to 1, got"
            f" {parts}."
        )
    else:  # rounded down, but not below a whole number that only rounding missed
        cuts = [int(size * share + 1e-9) for share in itertools.accumulate(parts)]
        cuts[-1] = size
    starts = [0, *cuts[:-1]]
    return Splits(*(values[i:j] for i, j in zip(starts, cuts, strict=True)))
