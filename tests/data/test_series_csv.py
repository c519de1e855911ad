import numpy as np
import pytest

from rnnlab.data.forecasting import Bounds
from rnnlab.data.series_csv import Columns, load_csv

COLUMNS = Columns("day", ("sales",), ("holiday",), "shop")
LINES = [
    "day,shop,sales,holiday",
    *(f"2020-01-{day:02},north,{day},{int(day % 7 == 5)}" for day in range(1, 21)),
    *(f"2020-01-{day:02},south,{10 * day},0" for day in range(3, 17) if day != 6),
    "2020-01-21,north,,1",  # of the future nothing is known but the holiday
    "2020-01-22,north,NA,0",
]


@pytest.fixture
def load(tmp_path):
    def load(lines=LINES, columns=COLUMNS, **options):
        path = tmp_path / "shops.csv"
        path.write_text("\n".join(lines) + "\n")
        return load_csv(str(path), columns, **({"horizon": 3} | options))

    return load


def test_gaps_are_missing_and_lengths_may_differ(load):
    data = load()
    north, south = data.series
    assert (data.frequency, data.season, data.channels, data.covariates) == ("1D", 7, 1, 1)
    assert (north.name, len(north.values)) == ("north", 20)
    assert south.values[:5, 0].tolist()[:3] == [30, 40, 50] and np.isnan(south.values[3, 0])
    assert len(south.values) == 14 and np.isnan(south.covariates[3, 0])
    assert str(south.times[3]) == "2020-01-06T00:00:00"
    assert north.covariates[18:, 0].tolist() == [1, 0, 1, 0]
    assert data.bounds == (Bounds(13, 16, 20), Bounds(8, 11, 14))
    assert load(held_out=False).bounds[0] == Bounds(20, 20, 20)


def test_the_order_of_rows_does_not_matter(load):
    shuffled = [LINES[0], *np.random.default_rng(0).permutation(LINES[1:]).tolist()]
    by_name = {one.name: one for one in load(shuffled).series}
    for one in load().series:
        np.testing.assert_array_equal(by_name[one.name].values, one.values)
        np.testing.assert_array_equal(by_name[one.name].covariates, one.covariates)


@pytest.mark.parametrize(
    ("times", "frequency", "season"),
    [
        (["2020-01-01 00:00:00", "2020-01-01 00:30:00"], "30m", 48),
        (["2019-11", "2020-02"], "3M", 4),
        (["1999", "2000"], "1Y", 1),
        (["7", "8"], "", 1),
        (["2020-01-01T00:00:00Z", "2020-01-01T02:00:00Z"], "2h", 12),
    ],
)
def test_times_of_many_kinds(load, times, frequency, season):
    lines = ["t,y", *(f"{time},1" for time in times)]
    data = load(lines, Columns("t", ("y",)), held_out=False)
    assert (data.frequency, data.season) == (frequency, season)
    assert load(lines, Columns("t", ("y",)), held_out=False, season=5).season == 5


SINGLE = Columns("t", ("y",))


@pytest.mark.parametrize(
    ("lines", "columns", "message"),
    [
        (
            LINES,
            Columns("day", ("price",)),
            "expected one of the columns day, shop, sales, holiday",
        ),
        (LINES, Columns("day", ("sales",), ("sales",)), "expected different columns"),
        (LINES, Columns("day", ()), "expected the name of a column to forecast"),
        (LINES, Columns("day", ("sales",)), r"got two for 2020-01-03.*\(--series_column\)"),
        (LINES[:8], COLUMNS, "north: expected at least 10 rows, to train, validate and test"),
        (["t,y"], SINGLE, "expected a row below the column names"),
        (["t,y", "2020-01-01,1"], SINGLE, "expected a series of two rows or more"),
        (["t,y", "01/02/2020,1", "02/02/2020,1"], SINGLE, "record 1: expected a time such as"),
        (["t,y", "2020-01-01,1", "2020-01-02,"], SINGLE, "expected at least 10 rows"),
        (["t,y", "2020-01-01,", "2020-01-02,"], SINGLE, "expected some value of a target"),
        (["t,y", "2020-01-01,1", "2020-01-02,x"], SINGLE, "line 3, column 'y'"),
        (
            ["t,y", "2020-01-01,1", "2020-01-02,1", "2020-01-03T12:00,1"],
            SINGLE,
            "whole steps of 86400 s apart, got 2020-01-02T00:00:00 and then 2020-01-03T12",
        ),
        (
            [
                *["day,shop,sales,holiday", "2020-01-01,a,1,0", "2020-01-02,a,1,0"],
                *["2020-01-01,b,1,0", "2020-01-03T06:00,b,1,0"],
            ],
            COLUMNS,
            "b: expected times that are whole steps of 1D after 2020-01-01.*2020-01-03T06",
        ),
    ],
)
def test_what_is_wrong_is_named_with_the_file(load, lines, columns, message):
    with pytest.raises(ValueError, match=rf"(?s)shops\.csv.*{message}"):
        load(lines, columns)
