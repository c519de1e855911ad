"""Pictures of forecasts. matplotlib is an optional extra, imported when something is drawn."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rnnlab.plot import LINE_STYLES, new_figure

BANDS = 3  # of a fan chart, at most
FLATTENED = 20  # times as large as the errors of a model: so large are drawn on a logarithmic axis


class Panel(NamedTuple):
    """One forecast, with what came before and, where it is known, what came."""

    title: str
    times: np.ndarray  # [P + H], of past and future
    past: np.ndarray  # [P], NaN where missing
    forecast: np.ndarray  # [H]
    truth: np.ndarray | None = None  # [H], NaN where missing
    quantiles: np.ndarray | None = None  # [Q, H], not falling along Q
    levels: Sequence[float] = ()  # [Q], rising, with q for each 1 - q


def fan_chart(panels: Sequence[Panel]):
    """A figure of forecasts against the truth, one below the other.

    Some pairs of quantiles become bands, the lighter the wider: 5 % and 95 % bound one that should
    hold nine of ten values.

    Args:
      panels: one or more.
    """
    figure = new_figure(8.0, 0.4 + 2.2 * len(panels))
    grid = figure.subplots(len(panels), squeeze=False)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        before, after = np.split(panel.times, [len(panel.past)])
        axes.plot(before, panel.past, color="0.35", linewidth=1, **_dots(panel.past))
        if panel.quantiles is not None:
            _draw_bands(axes, after, panel)
        if panel.truth is not None:
            # From the last value known, so that the line is whole, if there is one.
            joined = int(np.isfinite(panel.truth[0]))
            known = np.concatenate([panel.past[len(panel.past) - joined :], panel.truth])
            times = panel.times[-len(known) :]
            style = {"color": "black", "linewidth": 1, **_dots(known)}
            axes.plot(times, known, label="truth", **style)
        axes.plot(after, panel.forecast, color="C0", linewidth=1.5, label="forecast")
        axes.margins(x=0.01)
        axes.axvline(after[0], color="0.6", linewidth=0.8, linestyle=":")
        axes.set_title(panel.title, fontsize="medium")
        _style(axes)
        axes.tick_params(axis="x", labelsize="small")
        if panel.times.dtype.kind == "M":
            axes.xaxis.set_major_formatter(_short_dates(axes.xaxis.get_major_locator()))
    named = max((axes.get_legend_handles_labels() for axes in grid), key=lambda pair: len(pair[1]))
    figure.legend(*named, loc="outside upper right", ncols=len(named[1]), fontsize="small")
    return figure


def error_by_step(curves: Mapping[str, np.ndarray], metric: str):
    """A figure of how the error grows along the horizon.

    The axis is logarithmic where a linear one would flatten the first curve.

    Args:
      curves: model -> error at each step `[H]`; the first one is drawn thick.
      metric: what the error is.
    """
    figure = new_figure()
    axes = figure.subplots()
    for number, (name, errors) in enumerate(curves.items()):
        style = LINE_STYLES[number % len(LINE_STYLES)]
        steps = np.arange(1, len(errors) + 1)
        width = 2.5 if number == 0 else 1.2
        label = f"{name}  {np.nanmean(errors):.4g}"
        axes.plot(steps, errors, label=label, linestyle=style, linewidth=width)
    axes.set(xlabel="step of the horizon", ylabel=metric)
    largest = [np.nanmax(errors) for errors in curves.values()]
    if max(largest) > FLATTENED * largest[0] and min(map(np.nanmin, curves.values())) > 0:
        axes.set_yscale("log")
    _style(axes)
    figure.legend(loc="outside right upper", frameon=False)  # curves may be anywhere
    return figure


def residual_autocorrelation(series: Sequence[np.ndarray], lags: int = 40, apart: int = 1):
    """A figure of what is left in residuals: the mean over series, beside the limits of noise.

    Args:
      series: residuals of the first step of each forecast in the order of time, each `[N]` with N
        of 3 or more, NaN where missing.
      lags: how many to draw, at most.
      apart: steps from one of them to the next.
    """
    lags = min(lags, min(map(len, series)) - 2)
    means = np.mean([autocorrelation(one, lags) for one in series], axis=0)
    count = sum(int(np.isfinite(one).sum()) for one in series)
    figure = new_figure()
    axes = figure.subplots()
    axes.vlines(np.arange(1, lags + 1), 0, means, color="C0", linewidth=2)
    limit = 1.96 / np.sqrt(count)
    axes.axhspan(-limit, limit, color="0.9", label="95 % of white noise")
    axes.axhline(0, color="0.5", linewidth=0.8)
    unit = "steps" if apart == 1 else f"forecasts, {apart} steps apart"
    axes.set(xlabel=f"lag ({unit})", ylabel="autocorrelation of errors one step ahead")
    _style(axes)
    axes.legend(frameon=False)
    return figure


def autocorrelation(values: np.ndarray, lags: int) -> np.ndarray:
    """Autocorrelation at lags 1 to `lags`, over the pairs that were observed: `[lags]`.

    Example:
        >>> autocorrelation(np.array([1.0, -1.0, 1.0, -1.0]), 2).tolist()
        [-1.0, 1.0]
    """
    centred = values - np.nanmean(values)
    power = np.nanmean(centred**2)
    if power == 0:
        return np.zeros(lags)
    found = []
    for lag in range(1, lags + 1):
        products = centred[lag:] * centred[:-lag]
        found.append(np.nanmean(products) / power if np.isfinite(products).any() else 0.0)
    return np.array(found)


def _dots(values: np.ndarray) -> dict:
    """How a line shows values between two gaps, of which no piece of it would be seen."""
    seen = np.pad(np.isfinite(values), 1)
    lone = np.flatnonzero(seen[1:-1] & ~seen[:-2] & ~seen[2:])
    return {"marker": "o", "markersize": 2, "markevery": lone.tolist()}


def _draw_bands(axes, times: np.ndarray, panel: Panel) -> None:
    quantiles = panel.quantiles
    if quantiles is None:
        return
    half = len(quantiles) // 2
    chosen = np.unique(np.linspace(0, half, BANDS, endpoint=False).astype(int))
    for place, number in enumerate(chosen, 1):
        share = panel.levels[-1 - number] - panel.levels[number]
        band = quantiles[number], quantiles[-1 - number]
        # Opaque, or the legend would show each band without those it lies on.
        color = _lightened(0.6 * place / len(chosen))
        axes.fill_between(times, *band, color=color, linewidth=0, label=f"{100 * share:.0f} %")


def _lightened(strength: float) -> tuple[float, ...]:
    """The colour of forecasts, mixed with white: 1 is as it is."""
    from matplotlib.colors import to_rgb

    return tuple(1 - strength * (1 - part) for part in to_rgb("C0"))


def _short_dates(locator):
    """Ticks that say no more than what changes; the title has the whole date."""
    from matplotlib.dates import ConciseDateFormatter

    return ConciseDateFormatter(locator, show_offset=False)


def _style(axes) -> None:
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
