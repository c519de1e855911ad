"""A cell around another: what stands before and after it is parallel over time."""

import abc
import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, final

from rnnlab.core.cell import Cell, GatedCell
from rnnlab.core.checks import check_cell_type
from rnnlab.core.types import Array, Carry, Key, Params, PyTree


class WrapperInput(NamedTuple):
    """z of a `Wrapper`."""

    inner: Any  # z of the cell inside
    side: Any  # what goes past it


@dataclasses.dataclass(frozen=True)
class PairReader(GatedCell[Params, Carry]):
    """A gated cell that in training reads pairs `(x, keep)`, of which `draw` gives the second."""

    @abc.abstractmethod
    def draw(self, key: Key, params: Params, lead: tuple[int, ...]) -> PyTree:
        """What stands beside x, every leaf led by `lead`, `(T, *batch)`; consumes `key`."""


@dataclasses.dataclass(frozen=True)
class Wrapper(Cell[Params, Carry]):
    """Maps before and after a cell that are parallel over time.

        u_t, s_t = enter(params, x_t),    v_t = cell(u_t),    y_t = leave(params, s_t, v_t)

    The carry is that of the cell inside. As a cell it runs under the strategies that serve every
    cell; as a layer of `rnnlab.sequences.stack` the cell inside runs under any it allows.

    Raises:
      TypeError: what is wrapped is not a cell, or is or holds a `PairReader` such as `Zoneout`,
        whose pairs `enter` and `leave` do not read.
    """

    _final: ClassVar[tuple[str, ...]] = ("initial_carry", "project", "recur", "readout")

    cell: Cell

    def __post_init__(self):
        check_cell_type(self.cell)
        for cell in _cells_of(self.cell):
            if isinstance(cell, PairReader):
                raise TypeError(
                    f"{type(self).__name__}: expected a cell that reads x alone, got {cell}, which"
                    f" could not train there, for it reads (x, keep). Unroll it by itself and"
                    f" put around its outputs what {type(self).__name__} adds."
                )

    @property
    def feature_ndim(self) -> int:
        return self.cell.feature_ndim

    def input_shape(self, in_features: int) -> tuple[int, ...]:
        return self.cell.input_shape(in_features)

    @abc.abstractmethod
    def inner_params(self, params: Params) -> Any:
        """The parameters of the cell inside."""

    @abc.abstractmethod
    def enter(self, params: Params, x: Any) -> tuple[Any, Any]:
        """u, the input of the cell inside, and what goes past it."""

    @abc.abstractmethod
    def leave(self, params: Params, side: Any, y: Array) -> Array:
        """The output, from what went past the cell inside and from the output of that cell."""

    @final
    def initial_carry(self, params: Params, batch_shape: tuple[int, ...] = ()) -> Carry:
        return self.cell.initial_carry(self.inner_params(params), batch_shape)

    @final
    def project(self, params: Params, x: Any) -> WrapperInput:
        u, side = self.enter(params, x)
        return WrapperInput(self.cell.project(self.inner_params(params), u), side)

    @final
    def recur(self, params: Params, carry: Carry, z: WrapperInput) -> Carry:
        return self.cell.recur(self.inner_params(params), carry, z.inner)

    @final
    def readout(self, params: Params, carry: Carry, z: WrapperInput) -> Array:
        y = self.cell.readout(self.inner_params(params), carry, z.inner)
        return self.leave(params, z.side, y)


def _cells_of(cell: Cell) -> Iterator[Cell]:
    """A cell and those in its fields, however deep."""
    yield cell
    for field in dataclasses.fields(cell):
        value = getattr(cell, field.name)
        for inner in value if isinstance(value, tuple) else (value,):
            if isinstance(inner, Cell):
                yield from _cells_of(inner)


def init_of_one_size(owner: str, cell: Cell, key: Key, in_features: int) -> Any:
    """Parameters of a cell that puts out as many features as it reads; refuses any other."""
    params = cell.init(key, in_features)
    out_features = cell.out_features(params, in_features)
    if out_features != in_features:
        raise ValueError(
            f"{owner}: expected {cell} to put out as many features as it reads, got"
            f" {in_features} in and {out_features} out. Give the cell {in_features} features,"
            f" or leave the first layer of a stack without {owner}."
        )
    return params
