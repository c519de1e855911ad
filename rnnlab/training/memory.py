"""What to do where a run does not fit into memory."""

from typing import Any

import jax

from rnnlab.training.config import FitConfig
from rnnlab.training.task import PyTree

SIZES = ("batch_size", "seq_length", "features", "layers", "microbatches", "mesh")
"""Flags that say how much memory a run takes."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python's or of a device says that."""
    return isinstance(error, MemoryError) or any(
        words in str(error) for words in ("RESOURCE_EXHAUSTED", "Out of memory", "bad_alloc")
    )


def out_of_memory(error: BaseException, batch: PyTree, config: FitConfig) -> str:
    """What was asked for, and which flags to lower."""
    shapes = [f"{leaf.dtype}{list(leaf.shape)}" for leaf in jax.tree.leaves(batch)]
    known: dict[str, Any] = {"batch_size": config.batch_size, **config.flags}
    flags = " ".join(f"--{name}={known[name]}" for name in SIZES if known.get(name))
    reason = (str(error).splitlines() or [""])[0]
    return (
        f"out of memory, with batches of {', '.join(shapes)} and {flags}. Raise --microbatches,"
        f" which works a batch off in parts, or lower --batch_size or the length and features of"
        f" the model; --strategy=remat keeps less for the gradient ({reason})"
    )
