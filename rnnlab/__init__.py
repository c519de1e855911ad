"""rnnlab: recurrent networks in JAX. A cell is written once; every way of running it agrees."""

from rnnlab import cells as cells
from rnnlab import dropout as dropout
from rnnlab import sequences as sequences
from rnnlab import strategies as strategies
from rnnlab import testing as testing
from rnnlab.core import Cell as Cell
from rnnlab.core import GatedCell as GatedCell
from rnnlab.core import LinearCell as LinearCell
from rnnlab.engine import unroll as unroll
from rnnlab.sequences import bidirectional as bidirectional
from rnnlab.sequences import lengths_to_mask as lengths_to_mask

__version__ = "0.1.0"
