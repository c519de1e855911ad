"""Regular time axes: their frequency, what comes after them, and what a model reads of them.

A frequency is a number and a unit of numpy: "15m" (minutes), "1h", "1D", "7D", "1M" (months), "3M",
"1Y"; "" where steps have no calendar, and times are whole numbers.
"""

import re

import numpy as np

UNITS = {"s": 1, "m": 60, "h": 3600, "D": 86400}
"""Units that are always as long, and their seconds; a month "M" and a year "Y" are not."""


def parse_frequency(frequency: str) -> tuple[int, str]:
    """The number and the unit of a frequency.

    Raises:
      ValueError: a text that is none.

    Example:
        >>> parse_frequency("15m")
        (15, 'm')
    """
    match = re.fullmatch(r"([1-9]\d*)([smhDMY])", frequency)
    if not match:
        raise ValueError(
            "frequency: expected a number and one of the units s, m (minutes), h, D, M (months),"
            f" Y, such as 15m; got {frequency!r}."
        )
    return int(match[1]), match[2]


def step_seconds(frequency: str) -> float:
    """Seconds of a step; those of a month or a year on average. 0 without a calendar."""
    if not frequency:
        return 0.0
    count, unit = parse_frequency(frequency)
    return count * {**UNITS, "M": 365.2425 / 12 * 86400, "Y": 365.2425 * 86400}[unit]


def extend_times(times: np.ndarray, steps: int, frequency: str) -> np.ndarray:
    """The times with those of the steps after them.

    Args:
      times: datetime64 or whole numbers `[T]`, T of 1 or more.
      steps: how many to add.
      frequency: of the times.

    Returns:
      `[T + steps]`.

    Example:
        >>> extend_times(np.array(["2020-11-01", "2020-12-01"], "M8[s]"), 1, "1M")[-1]
        np.datetime64('2021-01-01T00:00:00')
    """
    ahead = np.arange(1, steps + 1)
    if not frequency:
        return np.concatenate([times, times[-1] + ahead])
    count, unit = parse_frequency(frequency)
    last = times[-1]
    if unit in UNITS:
        later = last + (ahead * count).astype(f"m8[{unit}]")
    else:
        start = last.astype("M8[M]")
        months = ahead * count * (12 if unit == "Y" else 1)
        later = (start + months.astype("m8[M]")).astype("M8[s]") + (last - start.astype("M8[s]"))
    return np.concatenate([times, later.astype(times.dtype)])


def infer_frequency(times: np.ndarray) -> str:
    """The frequency of sorted times, some of which may be missing.

    Args:
      times: datetime64 `[T]`, rising, T of 2 or more; or whole numbers, whose frequency is "".

    Raises:
      ValueError: times between which no step fits.

    Example:
        >>> infer_frequency(np.array(["2020-01-01", "2020-01-03", "2020-01-04"], "M8[s]"))
        '1D'
        >>> infer_frequency(np.array(["2020-01-01", "2020-02-01", "2020-07-01"], "M8[s]"))
        '1M'
    """
    if times.dtype.kind != "M":
        return ""
    if len(times) < 2:
        raise ValueError(f"times: expected two or more to see a step, got {len(times)}.")
    months = times.astype("M8[M]")
    within = times - months.astype("M8[s]")
    if (within == within[0]).all() and (months[1:] > months[:-1]).all():
        step = int(np.gcd.reduce(np.diff(months.astype(np.int64))))
        return f"{step // 12}Y" if step % 12 == 0 else f"{step}M"
    gaps = np.diff(times.astype("M8[s]").astype(np.int64))
    step = int(gaps.min())
    if step <= 0 or (gaps % step).any():
        place = int(np.argmax(gaps % step != 0)) if step > 0 else int(gaps.argmin())
        raise ValueError(
            f"times: expected rising times, whole steps of {step} s apart, got {times[place]} and"
            f" then {times[place + 1]}."
        )
    unit = next(unit for unit in reversed(UNITS) if step % UNITS[unit] == 0)
    return f"{step // UNITS[unit]}{unit}"


def steps_between(start: np.generic, times: np.ndarray, frequency: str) -> np.ndarray:
    """How many steps after `start` each of the times is: int64, of the shape of `times`."""
    if not frequency:
        return np.asarray(times - start, np.int64)
    count, unit = parse_frequency(frequency)
    if unit in UNITS:
        return (times - start) // np.timedelta64(count, unit)
    unit_start = start.astype(f"M8[{unit}]")
    return (times.astype(f"M8[{unit}]") - unit_start).astype(np.int64) // count


def write_times(times: np.ndarray, frequency: str) -> list[str]:
    """Times as ISO 8601 texts: dates alone where every time of the series is a midnight.

    Args:
      times: `[T]`, T of 1 or more.
      frequency: of the times.

    Example:
        >>> write_times(np.array(["2020-02-29"], "M8[s]"), "1D")
        ['2020-02-29']
        >>> write_times(np.array(["2020-02-29"], "M8[s]"), "1h")
        ['2020-02-29T00:00:00']
        >>> write_times(np.array([7]), "")
        ['7']
    """
    days = bool(frequency) and parse_frequency(frequency)[1] in "DMY"
    if days and times[0] == times[0].astype("M8[D]"):
        times = times.astype("M8[D]")
    return [str(time) for time in times]


def calendar_features(times: np.ndarray, frequency: str) -> np.ndarray:
    """Time of day, day of the week and time of the year, as points on circles.

    A circle that a step goes round is left out: daily values have no time of day.

    Args:
      times: `[T]`.
      frequency: of the times.

    Returns:
      float64 `[T, K]`, two columns a circle, between -1 and 1; K is 0 without a calendar.
    """
    step = step_seconds(frequency)
    circles = []
    if frequency and step < 86400:
        circles.append((times - times.astype("M8[D]")) / np.timedelta64(1, "D"))
    if frequency and step < 7 * 86400:
        days = (times - np.datetime64("1970-01-05")) / np.timedelta64(1, "D")  # a Monday
        circles.append(np.floor(days) % 7 / 7)
    if frequency and step < 360 * 86400:
        years = times.astype("M8[Y]")
        starts, ends = years.astype("M8[s]"), (years + np.timedelta64(1, "Y")).astype("M8[s]")
        circles.append((times - starts) / (ends - starts))
    if not circles:
        return np.zeros((len(times), 0))
    angles = 2 * np.pi * np.stack(circles, axis=1)
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)
