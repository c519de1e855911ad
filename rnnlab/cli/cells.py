"""The cells: base class, strategies that run them, parameters, paper, and who else checks them.

Cells that `--cell` takes come first, then wrappers and cells that need more than a size. Every cell
is compared with a loop in numpy; an oracle is another library's own implementation besides.
"""

import argparse
import json
import math
import re
from typing import TYPE_CHECKING, Any

from rnnlab.cli.tables import print_table

if TYPE_CHECKING:  # it brings jax
    from rnnlab.core import Cell

ORACLES = {
    "elman": ("flax.linen", "haiku", "keras", "torch"),
    "lstm": ("equinox", "flax.linen", "haiku", "jax.experimental.rnn", "keras", "torch"),
    "gru": ("equinox", "flax.linen", "keras", "torch"),
    "reset_before_gru": ("haiku", "keras"),
    "mgu": ("flax.linen",),
    "conv_lstm": ("flax.linen", "keras"),
}
"""Cell -> libraries that the tests compare it with, values and gradients. A test compares this."""

BASES = ("GatedCell", "MatrixCell", "LinearCell", "AffineCell", "Cell")
PAPERS = {"attention_luong": "Luong et al. 2015"}
"""Where the docstring of a cell names another paper first."""
NOT_CELLS = """
Not cells, so without a row: variational dropout and weight drop (rnnlab.dropout), weight norm
(rnnlab.weight_norm), and any cell of Flax, Haiku or Equinox as one of ours (rnnlab.interop.cells).
"""
COLUMNS = ("name", "cell", "base", "strategies", "parameters", "paper", "oracle")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Its arguments."""
    for name in ("features", "in_features"):
        parser.add_argument(f"--{name}", metavar="N", type=int, default=128, help="default: 128")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(arguments: argparse.Namespace) -> int:
    """Prints a line for each cell."""
    rows = []
    for name, (cell, in_features) in examples(arguments.features, arguments.in_features).items():
        rows.append(describe(name, cell, in_features))
    if arguments.json:
        for row in rows:
            print(json.dumps(row))
        return 0
    shown = [
        [", ".join(value) if isinstance(value, list) else value for value in row.values()]
        for row in rows
    ]
    print_table(COLUMNS, shown)
    print(NOT_CELLS, end="")
    return 0


def examples(features: int, in_features: int) -> dict[str, tuple["Cell", int]]:
    """Name -> a cell of this size, and the features that it reads."""
    from rnnlab import cells

    known = {name: (make(features), in_features) for name, make in cells.CELLS.items()}
    gru, lstm = cells.GRU(features), cells.LSTM(features)
    line, image, film = (16,), (16, 16), (8, 8, 8)
    others = {
        "conv_lstm": cells.ConvLSTM(features, spatial_shape=image),
        "conv_lstm_1d": cells.ConvLSTM(features, spatial_shape=line),
        "conv_lstm_3d": cells.ConvLSTM(features, spatial_shape=film),
        "conv_gru": cells.ConvGRU(features, spatial_shape=image),
        "attention_bahdanau": cells.AttentionCell(gru, features),
        "attention_luong": cells.AttentionCell(lstm, features, attention="luong"),
        "zoneout": cells.Zoneout(lstm, rate=(0.5, 0.05)),
        "sequence_batch_norm": cells.SequenceBatchNorm(lstm),
        "recurrent_batch_norm": cells.RecurrentBatchNorm(lstm, length=100),
        "stack": cells.Stack((lstm, gru)),
    }
    same = {  # their output has the size of their input
        "residual": cells.Residual(cells.GRU(in_features)),
        "highway": cells.Highway(cells.GRU(in_features)),
    }
    return known | {name: (cell, in_features) for name, cell in {**others, **same}.items()}


def describe(name: str, cell: "Cell", in_features: int) -> dict[str, Any]:
    """A row of the table; parameters are counted from shapes, nothing is drawn."""
    import jax

    from rnnlab.cells import CELLS
    from rnnlab.strategies import STRATEGIES, Auto

    shapes = jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))
    bases = [base.__name__ for base in type(cell).__mro__]
    runs = [
        name
        for name, strategy in STRATEGIES.items()
        if strategy is not Auto and strategy().refusal(cell) is None
    ]
    kind = re.sub(r"_(\dd)$", "", name)
    return {
        "name": name,
        "cell": type(cell).__name__,
        "base": next(base for base in BASES if base in bases),
        "strategies": runs,
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes)),
        "paper": PAPERS.get(name) or paper(CELLS.get(name, type(cell))),
        "oracle": [*ORACLES.get(kind, ()), "numpy"],
    }


def paper(make: Any) -> str | None:
    """The first paper that the docstring of a cell, or of what makes it, refers to."""
    text = " ".join((make.__doc__ or "").split())
    found = re.search(r"References: (.*?\b(?:19|20)\d\d)\b", text)
    return found.group(1) if found else None
