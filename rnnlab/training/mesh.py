"""Where arrays lie: batches are split over devices, parameters are copied, or split as well."""

import re
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rnnlab.models.partition import MODEL
from rnnlab.training.task import PyTree

DATA = "data"
"""The axis of a mesh over which batches are split; large parameters are, over `MODEL`."""


def make_mesh(spec: str, batch_size: int) -> Mesh:
    """The mesh of a `--mesh` flag, over the devices of all processes.

    Args:
      spec: "data:N" for N devices that share the batch; "data:N,model:M" for N groups of M devices
        that share the parameters a task wants split; "" for one device, or for all where there are
        several processes.
      batch_size: rows that are split at once, a multiple of N.

    Raises:
      ValueError: another spec, more devices than there are, or rows that do not divide.
    """
    data, model = _sizes(spec)
    processes, devices = jax.process_count(), jax.devices()
    if not spec and processes > 1:
        data = len(devices)
    if data * model > len(devices) or (data * model) % processes:
        raise ValueError(
            f"mesh: expected at most the {len(devices)} device(s) there are, as many of each of the"
            f" {processes} process(es), got {spec!r}."
        )
    if batch_size % data:
        raise ValueError(
            f"batch_size: expected a multiple of {data}, the devices that share a batch in"
            f" --mesh={spec}, got {batch_size} (rows of one microbatch)."
        )
    each = data * model // processes
    chosen = [
        device
        for process in range(processes)
        for device in [one for one in devices if one.process_index == process][:each]
    ]
    return Mesh(np.array(chosen).reshape(data, model), (DATA, MODEL))


def _sizes(spec: str) -> tuple[int, int]:
    match = re.fullmatch(r"data:([1-9]\d*)(?:,model:([1-9]\d*))?", spec or "data:1", re.ASCII)
    if not match:
        raise ValueError(
            f"mesh: expected data:N or data:N,model:M with N and M from 1 on, such as data:4,"
            f" got {spec!r}."
        )
    return int(match[1]), int(match[2] or 1)


def replicated(mesh: Mesh) -> NamedSharding:
    """Every device has the whole array."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """The first axis of an array is split over the devices that share a batch."""
    return NamedSharding(mesh, PartitionSpec(DATA))


def param_shardings(mesh: Mesh, params: PyTree, specs: PyTree | None) -> PyTree:
    """One sharding a leaf of `params`, of the `PartitionSpec`s that a task gives."""
    if specs is None:
        return jax.tree.map(lambda leaf: replicated(mesh), params)
    return jax.tree.map(lambda leaf, spec: NamedSharding(mesh, spec), params, specs)


def shardings_like(tree: PyTree, params: PyTree, shardings: PyTree, other: NamedSharding) -> PyTree:
    """Shardings for a tree that holds trees like `params`, such as the state of an optimizer.

    A leaf lies as the parameter does whose path its own path ends with and whose shape it has;
    `other` says where the rest lies.
    """
    known = [
        (path, leaf.shape, sharding)
        for (path, leaf), sharding in zip(
            jax.tree.leaves_with_path(params), jax.tree.leaves(shardings), strict=True
        )
    ]

    def choose(path: tuple, leaf: Any) -> NamedSharding:
        for end, shape, sharding in known:
            if leaf.shape == shape and path[len(path) - len(end) :] == end:
                return sharding
        return other

    return jax.tree.map_with_path(choose, tree)


def place(tree: PyTree, shardings: PyTree) -> PyTree:
    """Arrays on a mesh, of whole numpy arrays that every process has.

    Args:
      tree: of arrays.
      shardings: one a leaf, or one for all.
    """
    if isinstance(shardings, NamedSharding):
        return jax.tree.map(lambda leaf: _placed(np.asarray(leaf), shardings), tree)
    return jax.tree.map(lambda leaf, sharding: _placed(np.asarray(leaf), sharding), tree, shardings)


def _placed(array: np.ndarray, sharding: NamedSharding) -> jax.Array:
    """Hands over the part that this process's devices hold, which is a block."""
    parts = list(filter(None, sharding.addressable_devices_indices_map(array.shape).values()))
    if array.ndim == 0 or not parts:
        return jax.make_array_from_process_local_data(sharding, array, array.shape)
    block = tuple(
        slice(
            min(part[axis].start or 0 for part in parts),
            max(size if part[axis].stop is None else part[axis].stop for part in parts),
        )
        for axis, size in enumerate(array.shape)
    )
    return jax.make_array_from_process_local_data(sharding, array[block], array.shape)


def describe(mesh: Mesh) -> str:
    """Such as "8 device(s) (data 4, model 2) of 2 process(es)"."""
    axes = ", ".join(f"{name} {size}" for name, size in mesh.shape.items())
    return f"{mesh.size} device(s) ({axes}) of {jax.process_count()} process(es)"
