"""The commands of the README on forecasts leave what it says, on a file such as people have."""

import csv
import pathlib
import re
import shlex

import numpy as np
import pytest

from experiments import forecast as experiment
from tests.experiments import shops

README = (pathlib.Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.split("\n## Forecast\n")[1].split("\n## ")[0]
COMMANDS = re.findall(r"```\n(.*?)```", SECTION, re.DOTALL)[0].replace("\\\n", "").splitlines()
FEWER = ("--steps=30", "--eval_every=30", "--decay_steps=30", "--features=8")


def day_of(text):
    return int((np.datetime64(text, "D") - np.datetime64("2024-01-01")).astype(int))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readme")
    shops.write_for_readme(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, command in enumerate(COMMANDS):
            python, option, *arguments = shlex.split(command)
            assert (python, option, arguments[0]) == ("python", "-m", "experiments.forecast")
            experiment.main([*arguments, *(FEWER if number == 0 else ())])
    return folder


def rows_of(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_section_has_the_four_commands():
    modes = [re.findall(r"--mode=(\w+)", command) for command in COMMANDS]
    assert modes == [[], ["backtest"], ["predict"], ["plot"]]


def test_a_backtest_has_four_origins_of_each_series_beside_the_truth(folder):
    rows = rows_of(folder / "runs" / "shops" / "backtest.csv")
    data = {(row["shop"], row["day"]): row["sales"] for row in rows_of(folder / "shops.csv")}
    origins = {}
    for row in rows:
        origins.setdefault(row["series"], set()).add(day_of(row["origin"]))
        sales = data.get((row["series"], row["time"]), "")
        assert (row["truth"] == "") == (sales == "")
        assert not sales or float(row["truth"]) == pytest.approx(float(sales))
        assert day_of(row["time"]) == day_of(row["origin"]) + int(row["step"])
    assert len(rows) == 3 * 4 * 14
    for shop, length in shops.LONGER.items():
        assert origins[shop] == {length - 14 * fold - 1 for fold in (1, 2, 3, 4)}, shop


def test_a_prediction_is_of_the_fortnight_after_the_newer_file(folder):
    rows = rows_of(folder / "next.csv")
    assert len(rows) == 3 * 14 and not any(row["truth"] for row in rows)
    for shop, length in shops.LONGER.items():
        days = [day_of(row["time"]) for row in rows if row["series"] == shop]
        assert days == list(range(length + 10, length + 24)), shop
    assert np.isfinite([float(row["forecast"]) for row in rows]).all()


def test_all_is_drawn(folder):
    for name in ("fan_chart", "error_by_step", "residual_autocorrelation"):
        picture = folder / "runs" / "shops" / f"{name}.png"
        assert picture.read_bytes().startswith(b"\x89PNG")
