import pytest

from rnnlab import plot
from rnnlab.cli import main
from rnnlab.cli.plot import read, short_names
from tests.cli.conftest import METRICS


@pytest.fixture
def compared(monkeypatch):
    """What `rnnlab.plot.compare` is called with."""
    calls = []
    monkeypatch.setattr(
        plot, "compare", lambda runs, path, **options: calls.append((runs, path, options))
    )
    return calls


def test_writes_a_picture(make_run, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    runs = [str(make_run("a")), str(make_run("b"))]
    out = tmp_path / "both.png"
    assert main(["plot", *runs, f"--out={out}", "--split=valid,train", "--x=seconds"]) == 0
    assert out.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == f"wrote {out}\n"


def test_passes_on_what_was_asked_for(make_run, compared):
    path = make_run("a")
    options = ["--metric=accuracy", "--mode=max", "--split=valid,train", "--log", "--out=x.pdf"]
    assert main(["plot", str(path), *options]) == 0
    ((runs, out, passed),) = compared
    assert out == "x.pdf"
    assert passed == {
        "metric": "accuracy",
        "mode": "max",
        "splits": ["valid", "train"],
        "x": "step",
        "log": True,
    }
    assert [line["loss"] for line in runs["a"]] == [line["loss"] for line in METRICS]


def test_lines_know_the_seconds_that_had_passed(make_run):
    seconds = [line["seconds"] for line in read(make_run("a"))]
    assert seconds == pytest.approx([5.0, 5.0, 9.5, 9.5])


def test_a_run_without_timing_stands_at_zero(make_run):
    assert {line["seconds"] for line in read(make_run("a", timing=[]))} == {0.0}


def test_names_are_as_short_as_they_can_be(tmp_path):
    assert short_names([tmp_path / "one"]) == ["one"]
    assert short_names([tmp_path / "x" / "a", tmp_path / "y" / "a"]) == ["x/a", "y/a"]


def test_the_same_run_twice_is_drawn_once(make_run, compared):
    path = str(make_run("a"))
    assert main(["plot", path, path]) == 0
    assert list(compared[0][0]) == ["a"]


def test_what_is_not_there_is_said(make_run, tmp_path, refused):
    pytest.importorskip("matplotlib")
    run, out = make_run("a"), f"--out={tmp_path / 'x.png'}"
    message = refused("plot", run, "--metric=bleu", out)
    assert "expected bleu of valid in the metrics of a run; there are" in message
    assert "train.loss, valid.accuracy, valid.loss" in message
    assert "expected a run directory" in refused("plot", tmp_path, out)
    assert not (tmp_path / "x.png").exists()


def test_a_picture_of_an_unknown_kind(make_run, tmp_path, refused):
    pytest.importorskip("matplotlib")
    assert "xyz" in refused("plot", make_run("a"), f"--out={tmp_path / 'a.xyz'}")


def test_missing_matplotlib_says_how_to_install_it(make_run, refused, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert "pip install 'rnnlab[plot]'" in refused("plot", make_run("a"))
