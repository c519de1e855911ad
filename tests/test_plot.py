import sys

import pytest

from rnnlab import plot

RECORDS = [
    {"step": 10, "split": "train", "loss": 3.0},
    {"step": 20, "split": "train", "loss": 2.5},
    {"step": 20, "split": "valid", "loss": 2.75},
]


def test_loss_curve_draws_every_split(tmp_path, monkeypatch):
    drawn = []
    figure = plot.new_figure()
    monkeypatch.setattr(plot, "new_figure", lambda: figure)
    plot.loss_curve(RECORDS, tmp_path / "loss.png")
    for line in figure.axes[0].lines:
        drawn.append((line.get_label(), line.get_xdata(), line.get_ydata()))
    labels, steps, losses = zip(*drawn, strict=True)
    assert labels == ("train 2.500", "valid 2.750")
    assert [list(values) for values in steps] == [[10, 20], [20]]
    assert [list(values) for values in losses] == [[3.0, 2.5], [2.75]]
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_missing_matplotlib_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnlab\[plot\]'"):
        plot.new_figure()
