import jax.numpy as jnp
import pytest

from rnnlab.training import log


def test_train_line():
    metrics = {"gnorm": 0.8012, "loss": 2.3101, "bpc": 3.3333, "learning_rate": 1e-3}
    line = log.train_line(200, 2000, metrics, rate=41234.5, unit="tok", seconds=0.0184)
    assert line == (
        "step 200/2000 10% | loss 2.31 (bpc 3.333) | lr 1.0e-3 | gnorm 0.8 | 41.2k tok/s"
        " | 18.4 ms | ETA 0:33"
    )
    assert metrics["gnorm"] == 0.8012


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.5, "0.5"),
        (999, "999"),
        (999.9, "1k"),
        (41234, "41.2k"),
        (2.5e6, "2.5M"),
        (3e12, "3e+03G"),
    ],
)
def test_short(number, text):
    assert log.short(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (93, "1:33"), (3725, "1:02:05")])
def test_clock(seconds, text):
    assert log.clock(seconds) == text


def test_summary_counts_by_module():
    params = {"cell": {"kernel": jnp.zeros((2, 3)), "bias": jnp.zeros(3)}, "scale": jnp.zeros(())}
    assert " ".join(log.summary(params).split()) == "cell 9 [3], [2, 3] scale 1 [] total 10"
    assert " ".join(log.summary(jnp.zeros(4)).split()) == "params 4 [4] total 4"


def test_plain_lines_where_there_is_no_terminal(capsys):
    with log.Console(10) as console:
        console.advance(1)
        console.say("[not markup] 1/10")
    assert capsys.readouterr().out == "[not markup] 1/10\n"


def test_a_terminal_gets_a_bar_below_the_lines(capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    with log.Console(10) as console:
        console.say("[not markup] 1/10")
        console.advance(4)
    printed = capsys.readouterr().out
    assert "[not markup] 1/10" in printed
    assert "4/10" in printed
