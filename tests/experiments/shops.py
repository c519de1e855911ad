"""A CSV file such as people have: three shops of unequal length, gaps, holidays, an open future.

For the commands of the README:

    python -c "from tests.experiments import shops; shops.write_for_readme('.')"
"""

import csv
import pathlib

import numpy as np

COLUMNS = ("day", "opened", "shop", "branch", "sales", "visits", "holiday", "sunday")
FLAGS = (
    "--time_column=day --target=sales --covariates=holiday,sunday --series_column=shop --season=7"
)
LENGTHS = {"north": 90, "south": 60, "east": 75}


LONGER = {"north": 500, "south": 350, "east": 425}


def write_for_readme(folder):
    """Writes `shops.csv`, and `shops_until_today.csv` that knows ten days more of the same."""
    folder = pathlib.Path(folder)
    write_shops(folder / "shops.csv", future=14, lengths=LONGER)
    later = {shop: length + 10 for shop, length in LONGER.items()}
    write_shops(folder / "shops_until_today.csv", future=14, lengths=later)


def write_shops(path, seed=0, future=5, lengths=LENGTHS):
    """Writes sales with a week's season that double on holidays; days are missing here and there.

    Args:
      path: of the file.
      seed: of the noise.
      future: days after the last sales of which only the holidays are known.
      lengths: shop -> days until its last sales.
    """
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for number, (shop, length) in enumerate(lengths.items()):
            rng = np.random.default_rng([seed, number])
            for day in range(length + future):
                if day % 17 == 11 and day < length:
                    continue  # a gap: no row at all
                date = np.datetime64("2024-01-01") + np.timedelta64(day, "D")
                holiday = int(day % 10 == 3)
                level = (20 + 10 * number) * (1 + 0.5 * (day % 7 == 5)) * (1 + holiday)
                sales = f"{level * np.exp(rng.normal() / 20):.2f}"
                if day >= length or day % 23 == 7:
                    sales = ""  # a row without the number
                row = [
                    date,
                    date + np.timedelta64(31, "D"),
                    shop,
                    shop.upper(),
                    sales,
                    int(3 * level),
                ]
                writer.writerow([*row, holiday, int(day % 7 == 6)])
    return path
