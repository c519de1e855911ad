"""Values that differ between the devices of a mesh, as `jax.shard_map` tracks them."""

import jax
from jax import lax

from rnnlab.core.types import Array, PyTree


def varying_alike(tree: PyTree, others: PyTree) -> PyTree:
    """`tree`, varying over every mesh axis that `others` vary over, as a loop under shard_map asks.

    Outside `jax.shard_map` nothing varies and nothing is done.
    """
    axes = frozenset().union(*map(_varying_axes, jax.tree.leaves(others)))

    def vary(leaf):
        missing = tuple(axes - _varying_axes(leaf))
        return lax.pcast(leaf, missing, to="varying") if missing else leaf

    return jax.tree.map(vary, tree)


def _varying_axes(leaf: Array) -> frozenset[str]:
    return jax.typeof(leaf).manual_axis_type.varying
