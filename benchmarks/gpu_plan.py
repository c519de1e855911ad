"""What `benchmarks.gpu` measures: cases in order of priority, the arms of each, a row for each arm.

Every row is there from the start, as "not measured"; a run that ends early says what it left.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import numpy as np

from benchmarks.cases import GPU_SHAPES, Shape
from rnnlab.cells import CELLS
from rnnlab.core.cell import Cell
from rnnlab.strategies import Associative, Deferred, Remat, Scan, Strategy, Unrolled

Row = dict[str, Any]

PASSES = ("forward", "forward+backward")
PRECISIONS = {  # what a case's numbers are stored in, and its matmuls done in
    "bfloat16": "bfloat16",
    "tf32": "float32, matmuls in TF32",
    "float32": "float32, TF32 off",
}
VARIANTS = {"one layer": 1, "two layers": 2, "both directions": 2}  # and cells in each
STRATEGIES: dict[str, Strategy] = {
    "Scan": Scan(),
    "Scan 4": Scan(unroll=4),
    "Scan 16": Scan(unroll=16),
    "Deferred": Deferred(),
    "Deferred 4": Deferred(unroll=4),
    "Deferred 16": Deferred(unroll=16),
    "Remat": Remat(),
    "Unrolled": Unrolled(),
    "Associative": Associative(),
}
CUDNN = "torch cuDNN"
CUDNN_HALF = "torch cuDNN float16"
JAX_CUDNN = "jax.experimental.rnn"


class NotMeasured(Exception):
    """Why an arm cannot run here; no fault of the arm."""


class Data(NamedTuple):
    """The same numbers for all arms of a case, float32."""

    params: tuple[Any, ...]  # of each layer or direction
    xs: np.ndarray  # [T, B, H]
    weights: np.ndarray  # cotangents of the outputs, [T, B, H] or [T, B, 2H]


@dataclasses.dataclass(frozen=True)
class Case:
    """What all arms of a table compute."""

    cell: str
    precision: str  # of PRECISIONS
    shape: Shape
    variant: str = "one layer"  # of VARIANTS

    def __str__(self) -> str:
        return f"{self.cell}, {self.variant}, {self.precision}, ({self.shape})"

    def cells(self) -> tuple[Cell, ...]:
        """One for each layer or direction."""
        return (CELLS[self.cell](self.shape.features),) * VARIANTS[self.variant]

    def data(self) -> Data:
        """Random numbers, parameters as torch draws them."""
        features, batch, length = self.shape
        rng = np.random.default_rng(0)
        bound = features**-0.5

        def uniform(leaf: jax.ShapeDtypeStruct) -> np.ndarray:
            return rng.uniform(-bound, bound, leaf.shape).astype(np.float32)

        shapes = [jax.eval_shape(_init, cell, features) for cell in self.cells()]
        outputs = features * (2 if self.variant == "both directions" else 1)
        xs = rng.standard_normal((length, batch, features), np.float32)
        weights = rng.standard_normal((length, batch, outputs), np.float32)
        return Data(tuple(jax.tree.map(uniform, s) for s in shapes), xs, weights)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _init(cell: Cell, features: int) -> Any:
    return cell.init(jax.random.key(0), features)


class Entry(NamedTuple):
    """A case and the names of its arms, `Scan` first: the others are compared with it."""

    case: Case
    arms: tuple[str, ...]

    def rows(self, number: int = 0) -> list[Row]:
        """One for each arm, with nothing measured yet; `number` is the place in the plan."""
        about: Row = {"case": dataclasses.asdict(self.case) | {"shape": self.case.shape._asdict()}}
        about |= {"section": "layers", "number": number}
        return [{**about, "arm": arm, **not_yet(*PASSES)} for arm in self.arms]


def not_yet(*keys: str) -> Row:
    """What rows hold before they are measured, for each thing that will be."""
    return {key: {"not_measured": "not reached before the end of the run"} for key in keys}


MAIN = Shape(768, 16, 1024)
SHORT = Shape(1024, 64, 25)
FEW = ("Scan", "Deferred")
UNROLLS = (*FEW, "Deferred 4", "Scan 4", "Deferred 16", "Scan 16", "Remat")
HALF = (CUDNN, CUDNN_HALF)


def plan() -> list[Entry]:
    """All entries, the most important first."""
    first = [
        Entry(Case("lstm", "bfloat16", MAIN), (*FEW, *HALF, *UNROLLS[2:])),
        Entry(Case("lstm", "tf32", MAIN), (*FEW, CUDNN, JAX_CUDNN)),
        Entry(Case("gru", "bfloat16", MAIN), (*FEW, *HALF, *UNROLLS[2:])),
        Entry(Case("lstm", "bfloat16", MAIN, "two layers"), (*FEW, *HALF)),
        Entry(Case("lstm", "bfloat16", MAIN, "both directions"), (*FEW, *HALF)),
        Entry(Case("lstm", "float32", MAIN), (*FEW, CUDNN, JAX_CUDNN)),
        Entry(Case("lstm", "bfloat16", SHORT), (*FEW, *HALF, "Deferred 4", "Unrolled")),
        Entry(Case("min_gru", "bfloat16", MAIN), ("Scan", "Associative", "Remat")),
    ]
    variants = [
        Entry(Case(cell, precision, shape, variant), (*FEW, CUDNN))
        for cell, precision, shape in (
            ("gru", "bfloat16", MAIN),
            ("lstm", "bfloat16", SHORT),
            ("gru", "bfloat16", SHORT),
            ("lstm", "tf32", MAIN),
        )
        for variant in ("two layers", "both directions")
    ]
    others = [s for s in (Shape(1024, 32, 1500), *GPU_SHAPES) if s not in (MAIN, SHORT)]
    rest = [
        Entry(Case(cell, precision, shape), (*FEW, CUDNN))
        for precision in ("bfloat16", "tf32", "float32")
        for cell in ("lstm", "gru")
        for shape in (MAIN, SHORT, *dict.fromkeys(others))
    ]
    seen = {entry.case for entry in first}
    return [*first, *variants, *(entry for entry in rest if entry.case not in seen)]


def tiny(entry: Entry) -> Entry:
    """The same at a size that any machine runs at once."""
    features, batch, length = entry.case.shape
    shape = Shape(features // 128, max(1, batch // 16), min(length, 100) // 25 + 2)
    return entry._replace(case=dataclasses.replace(entry.case, shape=shape))
