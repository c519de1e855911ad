"""A cell of Flax, Haiku or Equinox as an `rnnlab.Cell`, so that `unroll` runs it.

Masks, resets, lengths, either direction and the strategies for every cell then work. Nothing of
such a cell leaves the loop: the module makes a whole step at once. So its step is `recur`, and it
does not keep the rule of `rnnlab.testing.check_cell` that an input's own matmul is hoisted.

A cell is a pure function of parameters, carry and input. A module with other state, or that draws
random numbers in its step, is refused when it is wrapped.
"""

from rnnlab.interop.equinox_cells import from_equinox as from_equinox
from rnnlab.interop.foreign import Foreign as Foreign
from rnnlab.interop.foreign import ForeignCarry as ForeignCarry
from rnnlab.interop.haiku_cells import from_haiku as from_haiku
from rnnlab.interop.linen_cells import from_linen as from_linen
from rnnlab.interop.nnx_cells import from_nnx as from_nnx
