"""Data made from a seed: real enough to learn from, and on every machine."""

from typing import NamedTuple

import numpy as np

CONTROL_CHART_CLASSES = ("normal", "cyclic", "increasing", "decreasing", "upward", "downward")
"""What a control chart may show, in the order of its label."""


class Series(NamedTuple):
    """One labelled series."""

    values: np.ndarray  # float32 [T, 1]
    label: np.ndarray  # int32 []


def control_charts(count: int, seed: int, min_length: int = 40, max_length: int = 60):
    """Control charts of a process, the classes in turn, their lengths drawn at random.

        y_t = 30 + 2 r_t                          normal, r uniform in [-3, 3]
        y_t + a sin(2 pi t / p)                   cyclic, a and p uniform in [10, 15]
        y_t + g t,  y_t - g t                     increasing and decreasing, g in [0.2, 0.5]
        y_t + x [t > t_0],  y_t - x [t > t_0]     upward and downward shift, x in [7.5, 20] and
                                                  t_0 in the middle third

    Args:
      count: how many charts.
      seed: of all of them.
      min_length: of the shortest.
      max_length: of the longest.

    Returns:
      A list of `Series`.

    Raises:
      ValueError: no chart, or lengths that are no range.

    Example:
        >>> charts = control_charts(12, seed=0)
        >>> [int(chart.label) for chart in charts]
        [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]

    References: Alcock & Manolopoulos 1999, "Time-series similarity queries employing a
    feature-based approach"; all charts are 60 long there.
    """
    if count < 1 or not 3 <= min_length <= max_length:
        raise ValueError(
            "count, min_length, max_length: expected count >= 1 and 3 <= min_length <="
            f" max_length, got {count}, {min_length} and {max_length}."
        )
    generator = np.random.default_rng(seed)
    lengths = generator.integers(min_length, max_length + 1, count)
    kinds = len(CONTROL_CHART_CLASSES)
    return [_chart(generator, number % kinds, int(n)) for number, n in enumerate(lengths)]


def _chart(generator: np.random.Generator, label: int, length: int) -> Series:
    t = np.arange(length)
    noise = 30 + 2 * generator.uniform(-3, 3, length)
    amplitude, period = generator.uniform(10, 15, 2)
    slope, shift = generator.uniform(0.2, 0.5), generator.uniform(7.5, 20)
    late = t > generator.uniform(length / 3, 2 * length / 3)
    patterns = (
        np.zeros(length),
        amplitude * np.sin(2 * np.pi * t / period),
        slope * t,
        -slope * t,
        shift * late,
        -shift * late,
    )
    values = (noise + patterns[label])[:, None].astype(np.float32)
    return Series(values, np.asarray(label, np.int32))
