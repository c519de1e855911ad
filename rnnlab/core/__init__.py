"""Layer 1: what a cell is, and the few numerical helpers that every cell shares."""

from rnnlab.core.cell import AffineCell as AffineCell
from rnnlab.core.cell import Cell as Cell
from rnnlab.core.cell import GatedCell as GatedCell
from rnnlab.core.cell import LinearCell as LinearCell
from rnnlab.core.matrix_cell import MatrixCell as MatrixCell
