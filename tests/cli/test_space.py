import itertools
import operator
import statistics
import sys

import pytest

from rnnlab.cli.space import (
    METHODS,
    Budget,
    Choices,
    Range,
    grid,
    optuna_search,
    parse_space,
    random_search,
)


def chosen(method, space, score=lambda values: 0.0, trials=None, seed=0, jobs=1, mode="min"):
    """What a method asks to be tried, batch by batch."""
    batches = []

    def evaluate(batch):
        batches.append(list(batch))
        return [score(values) for values in batch]

    method(parse_space(space), Budget(trials, seed, jobs, mode), evaluate)
    return batches


def flat(batches):
    return list(itertools.chain(*batches))


def test_values_are_passed_on_as_written():
    space = parse_space(["rate=1e-3,3e-03,.01", "cell=lstm", "path=../x,a b", "x=a=b"])
    assert space["rate"] == Choices(("1e-3", "3e-03", ".01"))
    assert space["path"] == Choices(("../x", "a b"))
    assert space["x"] == Choices(("a=b",))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64..256", Range(64, 256, whole=True, log=False)),
        ("64..256:log", Range(64, 256, whole=True, log=True)),
        ("-1..1", Range(-1, 1, whole=True, log=False)),
        ("0..0.5", Range(0, 0.5, whole=False, log=False)),
        ("1e-4..1e-2:log", Range(1e-4, 1e-2, whole=False, log=True)),
        ("a..b", Choices(("a..b",))),
        ("..", Choices(("..",))),
    ],
)
def test_ranges(text, expected):
    assert parse_space([f"x={text}"]) == {"x": expected}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["rate"], "expected NAME=VALUE"),
        (["=3"], "expected NAME=VALUE"),
        (["rate="], "expected NAME=VALUE"),
        (["../x=3"], "expected NAME=VALUE"),
        (["--rate=3"], "expected NAME=VALUE"),
        (["a=1", "a=2"], "a, which is searched already"),
        (["workdir=x,y"], "workdir, which belongs to the sweep"),
        (["a=3..3"], "expected LOW < HIGH"),
        (["a=3..1"], "expected LOW < HIGH"),
        (["a=0..1:log"], "0 < LOW < HIGH for a logarithmic range"),
        (["a=1..1e999"], "expected LOW < HIGH"),
        (["a=1,2,1"], "expected distinct values"),
    ],
)
def test_mistakes(given, message):
    with pytest.raises(ValueError, match=message):
        parse_space(given)


def test_grid_is_every_combination():
    (batch,) = chosen(grid, ["a=1,2", "b=x,y,z"])
    pairs = [(values["a"], values["b"]) for values in batch]
    assert pairs == list(itertools.product("12", "xyz"))
    assert chosen(grid, ["a=1,2", "b=x,y,z"], trials=2) == [batch[:2]]


def test_grid_refuses_a_range():
    with pytest.raises(ValueError, match=r"got a range for b\. Use --method=random"):
        chosen(grid, ["a=1,2", "b=1..2"])


SPACE = ["rate=1e-4..1e-2:log", "features=8..16", "cell=lstm,gru"]


def test_random_draws_depend_on_the_seed_alone():
    (batch,) = chosen(random_search, SPACE, trials=20)
    assert chosen(random_search, SPACE, trials=20) == [batch]
    assert chosen(random_search, SPACE, trials=20, seed=1) != [batch]
    assert chosen(random_search, SPACE, trials=30)[0][:20] == batch  # more go on where fewer ended


def test_random_draws_are_the_same_in_every_python():
    """Written down, for a sweep must find its trials again after an update of Python."""
    (batch,) = chosen(random_search, SPACE, trials=2)
    assert batch == [
        {"rate": "0.00488477", "features": "14", "cell": "lstm"},
        {"rate": "0.000329483", "features": "12", "cell": "lstm"},
    ]


def test_random_draws_cover_the_space_evenly():
    (batch,) = chosen(random_search, SPACE, trials=900)
    rates = [float(values["rate"]) for values in batch]
    assert 1e-4 <= min(rates) < 1.2e-4 and 0.9e-2 < max(rates) <= 1e-2
    assert 390 < sum(rate < 1e-3 for rate in rates) < 510  # half of them below the middle, in logs
    counts = [sum(v["features"] == str(n) for v in batch) for n in range(8, 17)]
    assert sum(counts) == 900 and min(counts) > 65 and max(counts) < 140
    assert {values["cell"] for values in batch} == {"lstm", "gru"}


def test_whole_logarithmic_draws_stay_within_both_ends():
    (batch,) = chosen(random_search, ["n=1..64:log", "x=0..1.0"], trials=500)
    numbers = {int(values["n"]) for values in batch}
    assert (min(numbers), max(numbers)) == (1, 64)


def test_random_never_draws_twice_and_ends_when_there_is_nothing_new():
    (batch,) = chosen(random_search, ["a=1..3", "b=x,y"], trials=50)
    assert len(batch) == 6
    assert len({tuple(values.values()) for values in batch}) == 6


@pytest.mark.parametrize("method", [random_search, optuna_search])
def test_a_method_without_an_end_needs_a_number(method):
    if method is optuna_search:
        pytest.importorskip("optuna")
    with pytest.raises(ValueError, match="--trials: expected a number for --method="):
        chosen(method, SPACE)


def loss(values):
    return (float(values["x"]) - 3) ** 2


@pytest.mark.slow
def test_optuna_learns_from_the_scores():
    pytest.importorskip("optuna")
    for mode, better in (("min", operator.lt), ("max", operator.gt)):
        tried = flat(chosen(optuna_search, ["x=-10..10.0"], loss, trials=40, mode=mode))
        losses = [loss(values) for values in tried]
        assert better(statistics.median(losses[10:]), statistics.median(losses[:10]))


@pytest.mark.slow
def test_optuna_makes_the_same_choices_for_the_same_scores():
    pytest.importorskip("optuna")
    space = [*SPACE, "x=0..6.0"]
    first = chosen(optuna_search, space, loss, trials=15, jobs=2)
    assert [len(batch) for batch in first] == [2] * 7 + [1]
    assert chosen(optuna_search, space, loss, trials=15, jobs=2) == first


def test_optuna_goes_on_after_a_trial_that_failed():
    pytest.importorskip("optuna")
    assert len(chosen(optuna_search, SPACE, lambda values: None, trials=3)) == 3


def test_missing_optuna_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'rnnlab\[sweep\]'"):
        chosen(METHODS["optuna"], SPACE, trials=1)
