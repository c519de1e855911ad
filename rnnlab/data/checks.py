"""Checks that the modules of this layer share."""

from typing import Any

import numpy as np


def check_count(name: str, value: Any, least: int = 1) -> None:
    """Refuses what is not a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name}: expected a whole number, got {value!r}.")
    if value < least:
        raise ValueError(f"{name}: expected at least {least}, got {value}.")


def check_seed(seed: Any) -> None:
    """Refuses what is not a whole number of 64 bits."""
    check_count("seed", seed, least=0)
    if seed >= 2**64:
        raise ValueError(f"seed: expected less than 2**64, got {seed}.")


def check_shard(shard: tuple[int, int], batch_size: int) -> None:
    """Refuses a shard (index, count) that there is not, or that does not divide the batch."""
    index, count = shard
    check_count("shard count", count)
    check_count("shard index", index, least=0)
    if index >= count:
        raise ValueError(f"shard: expected (index, count) with index < count, got {shard}.")
    if batch_size % count:
        raise ValueError(
            f"batch_size: expected a multiple of {count}, the number of shards, got {batch_size}."
        )
