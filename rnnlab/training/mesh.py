"""Data parallelism over the local devices: batches are split, parameters are copied."""

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rnnlab.training.task import PyTree


def data_mesh(spec: str, batch_size: int) -> Mesh:
    """The mesh of a `--mesh` flag.

    Args:
      spec: "data:N" for N local devices; "" for one.
      batch_size: rows that are split at once, a multiple of N.
    """
    axis, _, count = (spec or "data:1").partition(":")
    if axis != "data" or not count.isdecimal() or int(count) < 1:
        raise ValueError(f"mesh: expected data:N with N >= 1, such as data:2, got {spec!r}.")
    devices = jax.local_devices()
    if int(count) > len(devices):
        raise ValueError(
            f"mesh: expected at most the {len(devices)} local device(s), {devices}, got {spec!r}."
        )
    if batch_size % int(count):
        raise ValueError(
            f"batch_size: expected a multiple of {count}, the devices of --mesh={spec}, got"
            f" {batch_size} (rows of one microbatch)."
        )
    return Mesh(np.array(devices[: int(count)]), ("data",))


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis of an array is split over the devices."""
    return NamedSharding(mesh, PartitionSpec("data"))


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device has the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def like(tree: PyTree, sharding: NamedSharding | None = None) -> PyTree:
    """Shapes, dtypes and shardings of a tree: where a checkpoint is restored to.

    Args:
      tree: of arrays, or of shapes where a `sharding` is given.
      sharding: of every leaf; their own where it is None.
    """

    def describe(leaf):
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding or leaf.sharding)

    return jax.tree.map(describe, tree)
