import math
import sys

import pytest

from rnnlab import plot

RECORDS = [
    {"step": 10, "split": "train", "loss": 3.0},
    {"step": 20, "split": "train", "loss": 2.5},
    {"step": 20, "split": "valid", "loss": 2.75},
]


@pytest.fixture
def figure(monkeypatch):
    """The figure that is drawn next."""
    figure = plot.new_figure()
    monkeypatch.setattr(plot, "new_figure", lambda *size: figure)
    return figure


def lines(axes):
    """Label -> (xs, values) of every curve."""
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes}


def test_loss_curve_draws_every_split(tmp_path, figure):
    plot.loss_curve(RECORDS, tmp_path / "loss.png")
    assert lines(figure.axes[0].lines) == {
        "train 2.500": ([10, 20], [3.0, 2.5]),
        "valid 2.750": ([20], [2.75]),
    }
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")


def test_losses_by_position_are_in_the_order_of_the_steps(figure):
    rows = {step: [step + 0.5, step + 0.25, step] for step in (300, 20, 100)}
    assert plot.losses_by_position(rows) is figure
    axes, colorbar = figure.axes
    assert axes.images[0].get_array().tolist() == [rows[20], rows[100], rows[300]]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["20", "100", "300"]
    assert axes.get_xlim() == (0.5, 3.5)
    assert colorbar.get_ylabel() == "loss (nats)"


def test_many_evaluations_have_few_labels(figure):
    plot.losses_by_position({step: [1.0, 2.0] for step in range(100)})
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == [str(step) for step in range(0, 100, 9)]


def test_loss_curve_leaves_out_a_split_without_a_loss(tmp_path, figure):
    plot.loss_curve([*RECORDS, {"step": 20, "split": "test", "bleu": 7.0}], tmp_path / "loss.png")
    assert len(figure.axes[0].lines) == 2


def curve(values, split="valid", **more):
    return [
        {"step": 10 * i, "split": split, "loss": value, "seconds": i / 2, **more}
        for i, value in enumerate(values, start=1)
    ]


def test_compare_labels_curves_with_their_last_and_their_best_value(tmp_path, figure):
    runs = {"a": curve([3.0, 2.0, 2.5]), "b": curve([3.0, 1.0])}
    plot.compare(runs, tmp_path / "x.png")
    assert lines(figure.axes[0].lines) == {
        "a  2.5 (best 2 at 20)": ([10, 20, 30], [3.0, 2.0, 2.5]),
        "b  1": ([10, 20], [3.0, 1.0]),
    }
    assert figure.axes[0].get_ylabel() == "valid loss"


def test_compare_draws_splits_in_one_colour_and_other_styles(tmp_path, figure):
    runs = {name: curve([3.0, 2.0]) + curve([2.0, 1.0], "train") for name in "ab"}
    plot.compare(runs, tmp_path / "x.png", splits=("valid", "train"))
    drawn = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(drawn) == ["a valid  2", "a train  1", "b valid  2", "b train  1"]
    (a, a_train, b, b_train) = drawn.values()
    assert a.get_color() == a_train.get_color() != b.get_color() == b_train.get_color()
    assert a.get_linestyle() == b.get_linestyle() != a_train.get_linestyle()


def test_compare_over_seconds_with_the_largest_best(tmp_path, figure):
    plot.compare({"a": curve([3.0, 4.0, 2.0])}, tmp_path / "x.png", x="seconds", mode="max")
    assert lines(figure.axes[0].lines) == {"a  2 (best 4 at 1)": ([0.5, 1.0, 1.5], [3.0, 4.0, 2.0])}
    assert figure.axes[0].get_xlabel() == "seconds of training"


def test_compare_on_a_logarithmic_axis_writes_plain_numbers(tmp_path, figure):
    plot.compare({"a": curve([3.0, 1.1])}, tmp_path / "x.png", log=True)
    axis = figure.axes[0].yaxis
    assert axis.get_scale() == "log"
    texts = [label.get_text() for label in axis.get_ticklabels(which="both")]
    assert any(texts)
    assert not any("10^" in text for text in texts)


@pytest.mark.parametrize("count", [2, 30])
def test_the_legend_of_compare_overlaps_nothing(tmp_path, figure, count):
    runs = {f"{i}" + "long name" * 12: curve([3.0, 2.0 + i]) for i in range(count)}
    plot.compare(runs, tmp_path / "x.png")
    figure.draw_without_rendering()
    legend, whole = figure.legends[0].get_window_extent(), figure.bbox
    assert len(figure.legends[0].get_texts()) == count
    assert legend.x0 >= figure.axes[0].get_window_extent().x1
    assert legend.y0 >= whole.y0 and legend.x1 <= whole.x1 + 1
    assert figure.axes[0].get_window_extent().width > 0.3 * whole.width


def test_each_of_many_runs_has_a_colour_of_its_own(tmp_path, figure):
    plot.compare({str(i): curve([1.0]) for i in range(25)}, tmp_path / "x.png")
    assert len({tuple(line.get_color()) for line in figure.axes[0].lines}) == 25


def test_compare_survives_values_that_are_not_finite(tmp_path, figure):
    runs = {"a": curve([2.0, math.nan]), "b": curve([math.inf])}
    plot.compare(runs, tmp_path / "x.png")
    assert list(lines(figure.axes[0].lines)) == ["a  nan (best 2 at 10)", "b  not finite"]


def test_compare_says_what_there_is_instead(tmp_path):
    with pytest.raises(ValueError, match=r"expected bleu of test .* there are train\.loss, valid"):
        plot.compare({"a": RECORDS}, tmp_path / "x.png", metric="bleu", splits=("test",))
    assert not (tmp_path / "x.png").exists()


def test_search_draws_a_panel_for_each_flag_and_rings_the_best(tmp_path, figure):
    trials = [
        ({"cell": "gru", "features": "128"}, 2.0),
        ({"cell": "lstm", "features": "64"}, 1.0),
        ({"cell": "lstm", "features": "1000"}, 3.0),
    ]
    plot.search(trials, tmp_path / "x.png", metric="valid.loss")
    cell, features = figure.axes
    assert (cell.get_xlabel(), features.get_xlabel()) == ("cell", "features")
    assert [label.get_text() for label in cell.get_xticklabels()] == ["gru", "lstm"]
    assert [label.get_text() for label in features.get_xticklabels()] == ["64", "128", "1000"]
    points, ring = features.collections
    assert points.get_offsets().tolist() == [[1, 2.0], [0, 1.0], [2, 3.0]]
    assert ring.get_offsets().tolist() == [[0, 1.0]]
    assert "valid.loss 1 with cell=lstm, features=64" in figure.get_suptitle()


def test_search_places_many_numbers_by_size(tmp_path, figure):
    values = [f"{2.0**-i:g}" for i in range(8)]
    plot.search([({"rate": v}, i) for i, v in enumerate(values)], tmp_path / "x.png", metric="m")
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert axes.collections[0].get_offsets()[:, 0].tolist() == [float(v) for v in values]


def test_search_for_the_largest(tmp_path, figure):
    trials = [({"a": "1"}, 0.25), ({"a": "2"}, 0.75)]
    plot.search(trials, tmp_path / "x.png", metric="m", mode="max")
    assert figure.axes[0].collections[1].get_offsets().tolist() == [[1, 0.75]]


def test_missing_matplotlib_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnlab\[plot\]'"):
        plot.new_figure()
